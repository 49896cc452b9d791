"""Cases of parametrized tests that run on one backend: see the marker `once`."""

import pytest


def once(*values):
    """A case that the backends compute with the same operations as those that run on each."""
    return pytest.param(*values, marks=pytest.mark.once)


def once_but(cases, everywhere):
    """Cases, of which those in `everywhere` run on each backend."""
    return [case if case in everywhere else once(case) for case in cases]
