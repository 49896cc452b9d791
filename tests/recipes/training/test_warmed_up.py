import keras
import numpy as np
import pytest

from training.warmed_up import WarmedUp

pytestmark = pytest.mark.once


@pytest.mark.parametrize("start", [0, 6, 20])
def test_cosine(start):
    schedule = WarmedUp(0.5, 4, start, 20, "cosine")
    for step in range(21):
        phase = (step - start, 20 - start) if step >= start else (step, start)
        fallen = 0.5 * (1 + np.cos(np.pi * phase[0] / max(phase[1], 1)))
        expected = 0.5 * min(1, (step + 1) / 4) * fallen
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("warm_up", [0, 4])
def test_inverse_square_root(warm_up):
    schedule = WarmedUp(0.5, warm_up, 6, 20, "inverse-sqrt")
    for step in range(21):
        expected = 0.5 * min(1, (step + 1) / max(warm_up, 1), (step / max(warm_up, 1) or 1) ** -0.5)
        if step < warm_up:
            expected = 0.5 * min(1, (step + 1) / warm_up)
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-5)


def test_configuration():
    schedule = WarmedUp(0.5, 4, 6, 20, "cosine")
    again = WarmedUp.from_config(schedule.get_config())
    optimizer = keras.optimizers.Adam(again)
    assert float(optimizer.learning_rate) == float(schedule(0))
