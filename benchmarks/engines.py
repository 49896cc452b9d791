"""How much faster `collapse` makes networks in the engines that they are shipped in.

    KERAS_BACKEND=tensorflow python benchmarks/engines.py --engines litert --networks vit mixer

For each network, engine, size of batches and share of its units, which are drawn at random and
linear, the network is collapsed for that engine, and runs in it by turns with the original until
the median of the ratio within a turn is known to 2 %, or for `--seconds`. Each row is added to
`--rows`, a file of JSON lines, as soon as it is there; rows that the file has are not measured
again, so that one can stop and go on, with another backend too. At the end a Markdown table of all
rows in the file is printed; `--table` does nothing else.

With one thread, bind the process to one core (`taskset -c 0`): Keras' backends take their number of
threads when they start.
"""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import keras
import numpy as np
import tyro

import keras_nladv
import measuring
import subjects

sys.path.append(str(Path(__file__).parents[1] / "recipes"))

from results.costs import macs

NETWORKS: dict[str, Callable[[], keras.Model]] = {
    **{
        f"inverted{channels}-{function}": (
            lambda c=channels, f=function: subjects.inverted_residual(c, 28, f)
        )
        for channels in (24, 48, 96)
        for function in ("relu", "relu6")
    },
    **{
        f"ffn{narrow}-{wide}-{function}": (
            lambda n=narrow, w=wide, f=function: subjects.feed_forward(n, w, f)
        )
        for narrow, wide in ((256, 1024), (512, 2048))
        for function in ("relu", "gelu")
    },
    "vit": subjects.vision_transformer,
    "mixer": subjects.mixer,
    "resnet20": lambda: subjects.resnet(20),
    **{
        name: (lambda name=name: subjects.application(name))
        for name in ("MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "ResNet50", "VGG16")
    },
}
# What makes a row: one that has the same is not measured again.
KEYS = ("network", "engine", "backend", "batch_size", "threads", "share", "for_int8")
# What is said of its weights.
IN = {None: "", False: ", in float32", True: ", for int8"}


@dataclasses.dataclass
class Options:
    """What to measure, in this order: the later loops are inside."""

    # The file of rows.
    rows: Path = Path("engines.jsonl")
    # Sizes of batches.
    batch_sizes: list[int] = dataclasses.field(default_factory=lambda: [1, 8])
    # Networks.
    networks: list[Literal[tuple(NETWORKS)]] = dataclasses.field(
        default_factory=lambda: list(NETWORKS)
    )
    # Engines.
    engines: list[str] = dataclasses.field(
        default_factory=lambda: ["litert", "onnxruntime", "openvino", "keras"]
    )
    # Shares of units that are linear, in percent.
    shares: list[float] = dataclasses.field(default_factory=lambda: [0, 50, 75, 90, 100])
    # Threads of the engine.
    threads: int = 1
    # Whether weights will be in int8 or float16; by default what is usual in the engine.
    for_int8: bool | None = None
    # Seconds for a row, at most, without planning.
    seconds: float = 10.0
    # Only print the table.
    table: bool = False


def read_rows(path):
    """The rows of a file by their keys. The last line may be cut off: a run was killed."""
    rows = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        if not line:
            continue
        try:
            # Rows were written without it.
            row = {"for_int8": None} | json.loads(line)
            rows[tuple(row[key] for key in KEYS)] = row
        except (ValueError, KeyError):
            print(f"left out, a line that is no row: {line:.60}")
    return rows


def measured(build, row, seconds):
    """Adds to a row what comes out."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    model = build()
    sparse = subjects.linearized(model, row["share"] / 100, np.random.default_rng(0))
    where = {key: row[key] for key in ("engine", "batch_size", "threads")}
    began = time.perf_counter()
    plan = keras_nladv.collapse_plan(sparse, **where, for_int8=row["for_int8"], verbose=False)
    row["planning_seconds"] = time.perf_counter() - began
    collapsed = keras_nladv.collapse(sparse, plan)
    row["merged"] = sum(map(len, plan.taken))
    row["multiplications"] = macs(model, attended=True) / macs(collapsed, attended=True)
    timings = keras_nladv.milliseconds([model, collapsed], **where, seconds=seconds)
    first, second = timings.rows
    row |= {"ms_original": first["ms"], "ms": second["ms"], "rounds": len(timings.rounds)}
    row |= {key: value for key, value in second.items() if key.startswith("times_as_fast")}
    row |= {key: timings.setting[key] for key in ("version", "processor")}


def table(rows):
    """A Markdown table: a line for a network in an engine, a column for a share."""
    shares = sorted({row["share"] for row in rows})
    lines = [
        "| network | engine | batch | " + " | ".join(f"{x:g} %" for x in shares) + " | planned in |"
    ]
    lines.append("| --- " * (len(shares) + 4) + "|")
    groups: dict[tuple, dict] = {}
    for row in rows:
        engine = f"{row['engine']} from {row['backend']}{IN[row['for_int8']]}"
        groups.setdefault((row["network"], engine, row["batch_size"]), {})[row["share"]] = row
    for (network, engine, batch_size), mine in groups.items():
        cells = [_cell(mine.get(share)) for share in shares]
        longest = max(row.get("planning_seconds", 0.0) for row in mine.values())
        cells = [network, engine, str(batch_size), *cells, f"{longest:.0f} s"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row):
    if row is None or "error" in row:
        return "-" if row is None else "failed"
    low, high = row["times_as_fast_low"], row["times_as_fast_high"]
    return f"{row['times_as_fast']:.2f} ({low:.2f}-{high:.2f}), mult. {row['multiplications']:.2f}"


def main(options):
    rows = read_rows(options.rows)
    wanted = [
        (
            network,
            engine,
            keras.backend.backend(),
            batch_size,
            options.threads,
            share,
            options.for_int8,
        )
        for batch_size in options.batch_sizes
        for network in options.networks
        for engine in options.engines
        for share in options.shares
    ]
    # What has failed is tried again.
    wanted = [key for key in wanted if "error" in rows.get(key, {"error": "not measured"})]
    began = time.perf_counter()
    for number, key in enumerate([] if options.table else wanted, start=1):
        row = dict(zip(KEYS, key))
        try:
            measured(NETWORKS[row["network"]], row, options.seconds)
        except Exception as error:
            # The others do not depend on it.
            row["error"] = f"{type(error).__name__}: {error}"[:500]
        with options.rows.open("a", encoding="utf-8") as file:
            # What was killed while it wrote has left a line without an end.
            print(f"\n{json.dumps(row)}", end="", file=file)
        print(
            f"{number}/{len(wanted)}, {time.perf_counter() - began:.0f} s: "
            f"{row['network']} in {row['engine']}, batches of {row['batch_size']}, "
            f"{row['share']:g} %: {row.get('error') or _cell(row)}, "
            f"planned in {row.get('planning_seconds', 0):.0f} s",
            flush=True,
        )
    # Another process may have added to it.
    rows = read_rows(options.rows)
    if rows:
        print(f"\n{measuring.setting()}\n\n{table(list(rows.values()))}")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main(tyro.cli(Options, description=__doc__))
