"""Runs studies: experiments with the other recipes that anyone can repeat, and what came out.

    python recipes/study.py run quick
    python recipes/study.py report runs/study-quick

A study is a TOML file, one of recipes/studies/definitions/ or your own. It says which recipes are
run with which options: a grid of cells, or strengths that are chosen one after the other so that
the curve over path lengths has no gap. A cell is a run of a recipe, in a run directory of its own.
The same command goes on after what is finished, in whatever way it was stopped; a cell that fails
is reported, and the rest goes on.

The directory of the study holds study.json, cells/, logs/, errors/, results.csv, results.parquet,
cells.csv, epochs.csv, report.html, report.md, figures/, and events for the HParams tab of
TensorBoard in tensorboard/.
"""

import dataclasses
import json
import math
import os
import shlex
import sys
from pathlib import Path

import tyro
from tqdm import tqdm

from options.backends import choose_backend, not_installed
from options.study import Report, Run
from running.errors import RecipeError, show_errors_plainly
from running.run_directory import claim
from running.values import parsed
from studies.directory.record import FILE, Record
from studies.engines.ray_address import require_cluster
from studies.planning.definition import find, override, parse, read_file

# ---- What to do. Nothing is written before all of it is known to be right.

show_errors_plainly()
config = tyro.cli(Run | Report)
if missing := not_installed("jinja2", "optuna", "pandas", "pyarrow"):
    raise RecipeError(
        f"A study needs {', '.join(missing)}. Install what it needs with `pip install '.[study]'`."
    )
if isinstance(config, Report):
    directory = config.study_dir
    record = Record.read(directory)
    if record is None:
        raise RecipeError(f"{directory} is not the directory of a study: it has no study.json.")
    study, backend = parse(record.study, f"`{directory / FILE}`: "), record.backend
    choose_backend(None)
else:
    config = parsed(Run, json.dumps(vars(config)), options=True)
    if config.engine == "ray":
        if not_installed("ray"):
            raise RecipeError("--engine ray needs Ray. Install it with `pip install ray`.")
        if config.ray_address is not None:
            require_cluster(config.ray_address)
    file = find(config.study)
    tables = read_file(file)
    study = parse(tables, f"`{file}`: ")
    if config.set:
        override(tables, config.set)
        study = parse(tables, f"`{file}` with --set: ")
    directory = Path(config.study_dir or f"runs/study-{study.name}")
    record = Record.read(directory)
    name = record and record.study.get("name")
    if record and name != study.name:
        raise RecipeError(
            f"{directory} is the directory of the study {name!r}. Choose another --study-dir for "
            f"{study.name!r}."
        )
    backend = choose_backend(config.backend or (record and record.backend))
    if record and record.backend != backend:
        raise RecipeError(
            f"{directory} is that of a study with the backend {record.backend}. Choose another "
            f"--study-dir for {backend}."
        )
    experiments = {experiment.name: experiment for experiment in study.experiments}
    unknown = sorted(set(config.only) - experiments.keys())
    if unknown:
        raise RecipeError(
            f"--only: there is no experiment {', '.join(unknown)}, but {', '.join(experiments)}."
        )
    chosen = [experiments[name] for name in config.only or experiments]
    most = 0
    for experiment in chosen:
        for cell in experiment.cells(backend):
            fill = experiment.fill
            ends = [{fill.option: end} for end in (fill.low, fill.high)] if fill else [{}]
            for end in ends:
                dataclasses.replace(cell, options={**cell.options, **end}).check()
        most += experiment.most
    if not config.dry_run:
        claim(directory, "--study-dir")
    # Cells that share a network need not compile it again.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str((directory / "compiled").resolve()))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

from studies.directory import results
from studies.pages.hparams import write_hparams
from studies.pages.pages import Pages
from studies.planning.reachable import require_reachable
from studies.planning.schedule import Clock, carry_out

pages = Pages(study, directory)
known = {}
if isinstance(config, Run):
    require_reachable(chosen)
    for file in config.known:
        known |= results.known(file)
    # Results that are not to be used here are told before anything is run.
    list(carry_out(chosen, backend, directory, None))

# ---- The cells.

failed = False
if isinstance(config, Run):
    if config.dry_run:
        for cell in carry_out(chosen, backend, directory, None):
            status = cell.status(directory)
            print(f"{'known' if status != 'finished' and cell.id in known else status:9} {cell}")
        print(f"{study.name}: {most} cells at most, in {directory}")
        sys.exit()
    if config.engine == "ray":
        from studies.engines.ray_engine import RayEngine

        engine = RayEngine(
            directory, config.ray_address, config.cpus_per_cell, config.gpus_per_cell
        )
    else:
        from studies.engines.local_engine import LocalEngine

        engine = LocalEngine(directory)
    command = ["python", "recipes/study.py", "run", config.study]
    command += ["--set", *config.set] if config.set else []
    machines = record.machines if record else []
    record = Record(tables, backend, shlex.join(command), machines)
    record.write(directory)
    print(
        f"study    {study.title}: {most} cells at most\nbackend  {backend}\noutput   {directory}\n"
    )
    clock = Clock(directory, config.stop_after or study.stop_after or math.inf)
    left_out = 0
    try:
        with tqdm(total=most, unit="cell", dynamic_ncols=True, disable=None) as bar:
            for cell in carry_out(chosen, backend, directory, engine, known, clock.may_begin):
                clock.tell(cell)
                if cell.status(directory) in ("not run", "stopped"):
                    left_out += 1
                    continue
                tqdm.write(f"{cell.status(directory):9} {cell}")
                error = cell.error(directory)
                if error is not None:
                    failed = True
                    tqdm.write(f"          {error}; see {cell.log(directory)}")
                bar.update()
    except KeyboardInterrupt:
        sys.exit("Interrupted. The same command goes on after what is finished.")
    if left_out:
        print(
            f"\nStopped by the clock: {left_out} cells at least were not begun. The same command "
            "goes on after what is finished."
        )

# ---- The results.

order = [experiment.name for experiment in study.experiments]
cells = sorted(
    carry_out(study.experiments, backend, directory, None),
    key=lambda cell: order.index(cell.experiment),
)
frame, text = pages.write(cells, record)
write_hparams(cells, frame, directory)
print(f"\n{text}\n\nEverything is in {directory}; open {directory / 'report.html'}")
sys.exit(int(failed))
