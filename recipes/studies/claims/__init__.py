"""What the papers say, and how it is judged. A study names claims by these keys."""

from typing import Any

from pydantic import with_config

from running.values import EXACT
from studies.claims.baselines import Baselines
from studies.claims.core import Core
from studies.claims.decay import Decay
from studies.claims.difficulty import Difficulty
from studies.claims.granularity import Granularity
from studies.claims.late_against_early import LateAgainstEarly
from studies.claims.shallow import Shallow
from studies.claims.units import Units
from studies.claims.velocity import Velocity

CLAIMS: dict[str, Any] = {
    "late_against_early": LateAgainstEarly,
    "difficulty": Difficulty,
    "decay": Decay,
    "shallow": Shallow,
    "core": Core,
    "granularity": Granularity,
    "baselines": Baselines,
    "units": Units,
    "velocity": Velocity,
}
for claim in CLAIMS.values():
    with_config(EXACT)(claim)
