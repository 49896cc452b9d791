"""All that is to be measured on a GPU, in one command of at most nine minutes.

    KERAS_BACKEND=jax python benchmarks/gpu.py --minutes 9

The parts come in the order of what they are worth. Each is a process of its own, which is killed at
its limit, so that one that hangs or breaks costs the others nothing; time that a part leaves is for
those after it, and in the end for the study. Each row is printed and added to results.jsonl in the
directory of `--output` as soon as it is there; table.md, at the end, holds all of them, and log.txt
what else was said. Where there is no network, `gpu.sh` installs what is missing. `--tiny` tries all
of it on a CPU.
"""

import contextlib
import dataclasses
import json
import os
import signal
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tyro

import figures

RECIPES = Path(__file__).parents[1] / "recipes"


@dataclasses.dataclass
class Sizes:
    """How large things are."""

    batch_sizes: tuple[int, ...] = (128, 1024)
    rounds: int = 30
    depth: int = 20
    # Inputs of each half of a kernel: of LeNet-5 and of the ResNet.
    kernel: tuple[int, int] = (64, 32)
    # Images and epochs of the recipe, and more of its options.
    images: int = 25_600
    epochs: int = 8
    recipe: dict[str, Any] = dataclasses.field(default_factory=dict)
    # Of collapsed networks: percent of linear units, sizes of batches, and seconds of timing.
    shares: tuple[int, ...] = (90, 50)
    collapsed: tuple[int, ...] = (1, 128)
    seconds: float = 3.0
    # The study, and its options.
    study: str = "gpu-quarter-hour"
    set: tuple[str, ...] = ()


TINY = Sizes(
    batch_sizes=(2, 4),
    rounds=1,
    depth=8,
    kernel=(2, 2),
    images=64,
    epochs=5,
    recipe={"model": "plain4", "width": 0.25, "batch_size": 16},
    shares=(100,),
    collapsed=(1,),
    seconds=0.01,
    study="quick",
    set=("epochs=6", "train_images=100", "model=plain4"),
)


@dataclasses.dataclass
class Options:
    """What to measure."""

    # All of it takes so many minutes at most.
    minutes: float = 9.0
    # Directory for everything that is written; rows are added to those that it has.
    output: Path = Path("runs/gpu")
    # Parts, in this order. Default: all.
    parts: list[str] = dataclasses.field(default_factory=lambda: [*PARTS])
    # More options of the study, as its own --set: cifar10.dataset=PATH.npz where nothing can be
    # downloaded.
    set: list[str] = dataclasses.field(default_factory=list)
    # Everything as small as can be, to try it.
    tiny: bool = False
    # This part alone, in this process and without a limit.
    part: str | None = None

    @property
    def sizes(self) -> Sizes:
        return TINY if self.tiny else Sizes()


# ---- The parts: what yields rows, dicts with `what` was measured and numbers. Keras is imported in
# their own processes only.


def training_step(options, precision):
    import keras

    import training_step

    sizes = options.sizes
    keras.config.set_dtype_policy(precision)
    for batch_size in sizes.batch_sizes:
        for row in training_step.rows(batch_size, sizes.rounds, sizes.depth):
            yield {**row, "what": f"{precision}, {row['what']}"}


def recipe(options):
    """Images a second of the recipe, all that an epoch has to do included.

    Every second epoch takes one batch again and again, which costs nothing to make: what it is
    quicker by is what the others wait for data.
    """
    import numpy as np

    sizes, directory = options.sizes, options.output / "recipe"
    directory.mkdir(parents=True, exist_ok=True)

    # First: networks are something else here.
    sys.path.insert(0, str(RECIPES))
    # The backend comes before Keras, as in the recipe.
    from options.backends import choose_backend

    backend = choose_backend(None)
    from data.batches import Batches
    from studies.directory.cell import Cell

    begun, made, make = [], {}, Batches.__getitem__

    def start(batches, epoch):
        begun.append(time.perf_counter())
        super(Batches, batches).start(epoch)

    def batch(batches, index):
        if batches.epoch % 2:
            return made.setdefault("batch", make(batches, 0))
        return make(batches, index)

    Batches.start, Batches.__getitem__ = start, batch

    rng = np.random.default_rng(0)
    data = {}
    for part, number in {"train": sizes.images, "test": sizes.images // 5}.items():
        data[f"x_{part}"] = rng.integers(0, 256, (number, 32, 32, 3)).astype("uint8")
        data[f"y_{part}"] = rng.permutation(np.arange(number) % 10)
    np.savez(directory / "images.npz", **data)
    for precision in ("float32", "mixed_bfloat16"):
        begun.clear()
        made.clear()
        given = {
            "dataset": str(directory / "images.npz"),
            "precision": precision,
            "epochs": sizes.epochs,
            "start_epoch": 1,
            "ramp_epochs": 0,
            "strength": 1e-3,
            **sizes.recipe,
        }
        cell = Cell("gpu", "", "cifar", backend, given)
        cell.run(directory)
        if cell.error(directory):
            raise RuntimeError(cell.error(directory))
        # Once when the batches are made, then before each epoch. The first two epochs compile; the
        # last one has no end.
        epochs = np.diff(begun[1:])
        real, ready = statistics.median(epochs[2::2]), statistics.median(epochs[3::2])
        yield {
            "what": f"recipes/cifar.py, {precision}",
            "images a second": float(sizes.images / real),
            "waiting for data": f"{max(1 - ready / real, 0):.0%}",
        }


def linearized_step(options):
    import linearized_step
    import subjects

    sizes = options.sizes
    for title, build in {
        f"ResNet-{sizes.depth}": lambda: subjects.resnet(sizes.depth),
        "CNN": linearized_step.convnet,
    }.items():
        names = ("ordinary", "linearized")
        yield from linearized_step.rows(title, build, sizes.batch_sizes[0], sizes.rounds, names)


def kernel(options):
    import kernel
    import subjects

    sizes = options.sizes
    builders = {
        "LeNet-5-Caffe": subjects.lenet,
        f"ResNet-{sizes.depth}": lambda: subjects.resnet(sizes.depth),
    }
    for (title, build), inputs in zip(builders.items(), sizes.kernel):
        yield from kernel.rows(title, build, inputs, sizes.rounds)


def transfer(options):
    import neural_tangent_transfer
    import subjects

    sizes = options.sizes
    for title, case in {
        "LeNet-5-Caffe": (subjects.lenet, ("exact", "stochastic")),
        f"ResNet-{sizes.depth}": (lambda: subjects.resnet(sizes.depth), ("stochastic",)),
    }.items():
        # The exact kernel grows with the square of the batch.
        batch_size = min(sizes.batch_sizes[0], 64)
        yield from neural_tangent_transfer.rows(title, *case, batch_size, sizes.rounds)


def collapsed(options, network):
    import engines

    sizes = options.sizes
    for share in sizes.shares:
        for batch_size in sizes.collapsed:
            row = {"engine": "keras", "batch_size": batch_size, "threads": 1, "share": share}
            engines.measured(engines.NETWORKS[network], row, sizes.seconds)
            times = [row[f"times_as_fast{end}"] for end in ("_low", "", "_high")]
            yield {
                "what": f"{network}, {share} % linear, batches of {batch_size}",
                "ms": row["ms"],
                "ms of the original": row["ms_original"],
                "times as fast": times,
                "planned in s": row["planning_seconds"],
            }


def study(options):
    """As much of the study as there is time for."""
    sizes, directory = options.sizes, options.output / "study"
    command = [sys.executable, RECIPES / "study.py", "run", sizes.study, "--study-dir", directory]
    # What runs when the clock stops is finished, and the report takes time, too.
    command += ["--stop-after", str(0.7 * options.minutes)]
    command += ["--set", *sizes.set, *options.set] if sizes.set or options.set else []
    finished = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    print(finished.stderr, file=sys.stderr)
    cells = len(list(directory.glob("cells/*/summary.json")))
    if not cells:
        # Without the box that is drawn around it.
        message = finished.stderr.translate(str.maketrans("╭╮╰╯│─", " " * 6))
        raise RuntimeError(" ".join(message.split())[-1000:])
    yield {"what": f"the study {sizes.study}", "cells, see study/report.md": cells}


@dataclasses.dataclass(frozen=True)
class Part:
    """A part.

    Args:
        rows: Function of `Options` and `arguments` that yields rows.
        weight: Its limit, relative to those of the others.
        arguments: More arguments.
    """

    rows: Callable[..., Iterator[dict[str, Any]]]
    weight: int
    arguments: tuple[str, ...] = ()


PARTS = {
    "step-float32": Part(training_step, 16, ("float32",)),
    "step-bfloat16": Part(training_step, 16, ("mixed_bfloat16",)),
    "recipe": Part(recipe, 17),
    "linearized": Part(linearized_step, 9),
    "kernel": Part(kernel, 10),
    "transfer": Part(transfer, 10),
    "inverted": Part(collapsed, 8, ("inverted48-relu6",)),
    "feed-forward": Part(collapsed, 6, ("ffn512-2048-gelu",)),
    "vit": Part(collapsed, 9, ("vit",)),
    "study": Part(study, 10),
}


def measure(options):
    """Carries out a part, and writes what comes of it, be it an error."""
    part, setting = PARTS[options.part], None
    try:
        for row in part.rows(options, *part.arguments):
            # The backend is chosen by now.
            import measuring

            setting = setting or measuring.setting()
            write(options.output, {"part": options.part, "setting": setting, **row})
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        write(options.output, {"part": options.part, "error": message})
        traceback.print_exc()


# ---- All of them, one after the other.


def run_all(options):
    """Runs the parts, and writes the table."""
    options.output.mkdir(parents=True, exist_ok=True)
    # What one process has compiled the next one need not.
    compiled = options.output.absolute() / "compiled"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(compiled))
    end = time.monotonic() + 60 * options.minutes
    with (options.output / "log.txt").open("a", encoding="utf-8") as log:
        for index, name in enumerate(options.parts):
            weights = [PARTS[each].weight for each in options.parts[index:]]
            seconds = (end - time.monotonic()) * weights[0] / sum(weights)
            command = [sys.executable, __file__, "--part", name, "--output", options.output]
            command += ["--minutes", str(seconds / 60), *(["--tiny"] if options.tiny else [])]
            command += ["--set", *options.set] if options.set else []
            error = run(command, seconds, log)
            if error is not None:
                write(options.output, {"part": name, "error": error})
    text = table(read(options.output))
    (options.output / "table.md").write_text(text, encoding="utf-8")
    print(f"\n{text}\nEverything is in {options.output}")


def run(command, seconds, log):
    """Runs a command; ends it, and what it has started, at its limit.

    Args:
        command: List of its words.
        seconds: The limit.
        log: A file, for its standard error.

    Returns:
        What went wrong, or `None`.
    """
    process = subprocess.Popen(command, stderr=log, start_new_session=True)
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        return f"stopped at its limit of {seconds:.0f} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return f"ended with status {status}, see log.txt" if status else None


# ---- The results.


def write(output, row):
    """Adds a row to the results, and prints it."""
    with (output / "results.jsonl").open("a", encoding="utf-8") as file:
        # What was killed while it wrote has left a line without an end.
        print(f"\n{json.dumps(row)}", end="", file=file)
    print(line(row), flush=True)


def read(output):
    """The rows of the results, but for lines that were cut off."""
    rows = []
    for text in (output / "results.jsonl").read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):
            rows.append(json.loads(text))
    return rows


def table(rows):
    """A Markdown table of the rows, after what they were measured on."""
    settings = dict.fromkeys(row["setting"] for row in rows if "setting" in row)
    lines = [*settings, "", "| part | what | |", "| --- | --- | --- |", *map(line, rows), ""]
    return "\n".join(lines)


def line(row):
    """A row as a line of the table. Of an error, the first words."""
    numbers = {key: row[key] for key in row if key not in ("part", "setting")}
    text = figures.told(numbers)
    if "error" in row:
        text = "failed: " + " ".join(row["error"].replace("|", " ").split())[:200]
    return f"| {row['part']} | {row.get('what', '')} | {text} |"


if __name__ == "__main__":
    options = tyro.cli(Options, description=__doc__)
    unknown = {*options.parts, options.part or "study"} - PARTS.keys()
    if unknown or not options.minutes > 0:
        sys.exit(
            f"--part and --parts must be of {', '.join(PARTS)}, and --minutes greater than "
            f"0. Received: {' '.join(options.parts)}; {options.minutes}"
        )
    # Parts end with this process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if options.part is None:
        run_all(options)
    else:
        measure(options)
