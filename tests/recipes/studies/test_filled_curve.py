import itertools
import math

import hypothesis
import hypothesis.strategies as st
import pytest

from studies.directory.cell import Cell
from studies.planning.definition import Fill
from studies.planning.filled_curve import FilledCurve

pytestmark = pytest.mark.once

CELL = Cell("digits", "late", "cifar", "jax", {"seed": 0})


def filled(length, **changes):
    """Fills a curve whose path length is `length(strength)`, and returns its points."""
    options = {"option": "strength", "low": 0.001, "high": 1.0, "gap": 0.15, "cells": 12}
    fill = Fill(**options | changes)
    curve, points = FilledCurve(CELL, fill), []
    while (cell := curve.next()) is not None:
        strength = cell.options["strength"]
        found = length(strength)
        points.append((strength, found))
        curve.tell(None if found is None else {"path_length": found, "path_length_before": 8.0})
    assert len({strength for strength, _ in points}) == len(points)
    return points


@hypothesis.given(st.floats(0.003, 0.3), st.floats(0.7, 3.0))
def test_no_gap_is_left(middle, steepness):
    points = sorted(filled(lambda s: 8 / (1 + (s / middle) ** steepness), cells=30))
    lengths = [length for _, length in points]
    assert (points[0][0], points[-1][0]) == (0.001, 1.0)
    assert all(abs(a - b) <= 0.15 * 8 for a, b in itertools.pairwise(lengths))


def test_the_widest_gap_is_halved():
    strengths = [s for s, _ in filled(lambda s: 8.0 if s < 0.02 else 0.0, cells=5)]
    # The jump is at 0.02: one half after the other contains it.
    assert strengths == [0.001, 1.0, 0.0316, 0.00562, 0.0133]


def test_an_end_at_a_jump():
    points = sorted(filled(lambda s: 8.0 if s < 0.02 else 0.0, cells=100))
    below = max(s for s, length in points if length == 8.0)
    above = min(s for s, length in points if length == 0.0)
    assert below < 0.02 <= above < 1.06 * below
    assert len(points) < 15


def test_nothing_to_fill():
    assert [s for s, _ in filled(lambda s: 8.0)] == [0.001, 1.0]


@pytest.mark.parametrize("fails", [lambda s: s > 0.1, lambda s: s < 0.01, lambda s: True])
def test_failed_cells(fails):
    points = sorted(filled(lambda s: None if fails(s) else 4 - 4 * math.log(s, 1000) - 4, cells=9))
    assert len(points) in (2, 9)
    # Between what works and what fails there is no wide gap.
    if len(points) == 9:
        tried = [fails(s) for s, _ in points]
        at = tried.index(not tried[0])
        assert points[at][0] / points[at - 1][0] < 3


def test_what_is_found_again_is_chosen_again():
    def length(strength):
        return 8 / (1 + strength / 0.05)

    assert filled(length) == filled(length)
