import dataclasses
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro
from pydantic import Field

from options.kinds import Amount, Backend, Directory, Text
from running.values import EXACT


@dataclasses.dataclass
class Run:
    """Run the cells of a study that are not finished, and report what was found."""

    # quick, laptop, evening, gpu-quarter-hour, or the path of a .toml file.
    study: tyro.conf.Positional[str]
    # Directory for everything that is written. Default: runs/study- and the name of the study.
    study_dir: Annotated[Directory | None, tyro.conf.arg(metavar="STR", help_behavior_hint="")] = (
        None
    )
    # Backend of Keras. Default: that of the directory, else KERAS_BACKEND, or the first that is
    # installed.
    backend: Backend = None
    # local: in this process, one cell after the other; ray: with Ray, many at once, on this machine
    # or a cluster.
    engine: Literal["local", "ray"] = "local"
    # HOST:PORT of a Ray cluster, or auto for one that was started on this machine. Default: none.
    ray_address: Text = None
    # Number of cores of a cell, for Ray.
    cpus_per_cell: Amount = 1.0
    # Number of GPUs of a cell, for Ray; 0.5 puts two cells on one.
    gpus_per_cell: Amount = 0.0
    # Changes of options: epochs=3, or digits.epochs=3 for the experiment digits.
    set: Annotated[list[str], tyro.conf.arg(metavar="[EXPERIMENT.]OPTION=VALUE...")] = (
        dataclasses.field(default_factory=list)
    )
    # Experiments to run; the others wait.
    only: Annotated[list[str], tyro.conf.arg(metavar="EXPERIMENT...")] = dataclasses.field(
        default_factory=list
    )
    # The cells.csv of another directory, beside its epochs.csv: what is finished there is not run
    # again.
    known: Annotated[list[str], tyro.conf.arg(metavar="TABLE.csv...")] = dataclasses.field(
        default_factory=list
    )
    # No cell is begun that will not be through in so many minutes. Default: what the study says.
    stop_after: Annotated[
        float | None, Field(gt=0), tyro.conf.arg(metavar="MINUTES", help_behavior_hint="")
    ] = None
    # Show what would be run, and do nothing.
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False

    __pydantic_config__: ClassVar = EXACT


@dataclasses.dataclass
class Report:
    """Make the tables, the figures and the pages of a study again, from its results alone."""

    # Directory of a study.
    study_dir: tyro.conf.Positional[Path]
