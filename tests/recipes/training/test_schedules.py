import types

import numpy as np
import pytest

from training.schedules import phases

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("schedule", "start_epoch", "progress"),
    [
        ("two", 2, [0, 1 / 2, 0, 1 / 4, 1 / 2, 3 / 4]),
        ("two", 0, np.arange(6) / 6),
        ("one", 2, np.arange(6) / 6),
    ],
)
def test_the_learning_rate_falls_in_each_phase(schedule, start_epoch, progress):
    config = types.SimpleNamespace(
        schedule=schedule, start_epoch=start_epoch, epochs=6, learning_rate=0.1
    )
    rates = [phases(config)(epoch, None) for epoch in range(6)]
    assert rates == pytest.approx(0.05 * (1 + np.cos(np.pi * np.asarray(progress))))
