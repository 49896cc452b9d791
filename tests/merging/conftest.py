import types

import pytest


@pytest.fixture
def clock(monkeypatch):
    """The time by which engines are timed: it stands until one that a test makes moves it."""
    clock = types.SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr("keras_nladv.engines.timing.time", clock)
    return clock
