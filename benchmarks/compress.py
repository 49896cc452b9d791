"""What `recipes/compress.py` comes to over several seeds.

    for seed in 0 1 2; do
        python recipes/compress.py --backend jax --methods all --seed $seed --run-dir runs/$seed
    done
    python benchmarks/compress.py pareto.png runs/0 runs/1 runs/2

Prints means over the runs, with the least and the greatest of them, and draws accuracy against
speed and against nonlinear operations.
"""

import json
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

COLUMNS = {
    "reached": "{:.1%}",
    "accuracy": "{:.2%}",
    "path_length": "{:.2f}",
    "nonlinear_operations": "{:,.0f}",
    "macs": "{:,.0f}",
    "times_as_fast": "{:.2f}",
}

picture, *paths = sys.argv[1:]
runs = [json.loads((Path(path) / "summary.json").read_text(encoding="utf-8")) for path in paths]
kinds = ("dataset", "backend", "model", "budget_kind", "engine")
settings = {tuple(run[key] for key in kinds) for run in runs}
if len(settings) != 1 or len({run["seed"] for run in runs}) < len(runs):
    sys.exit("The runs must differ in their seeds and in nothing else.")
[(dataset, backend, model, kind, engine)] = settings
seeds = ", ".join(str(run["seed"]) for run in runs)
title = f"{model} on {dataset}, {backend}, in {engine}; seeds {seeds}"
title += f"; budgets of {kind.replace('_', ' ')}"
print(f"{title}\n")
print("| method | budget | " + " | ".join(name.replace("_", " ") for name in COLUMNS) + " |")
print("| --- " * (len(COLUMNS) + 2) + "|")
lines = {}
for rows in zip(*(run["rows"] for run in runs), strict=True):
    budget = rows[0]["budget"]
    method = "collapsed" if budget == 1.0 else rows[0]["method"]
    cells = [method, "-" if budget in (None, 1.0) else f"{budget:.0%}"]
    values = {name: np.array([row[name] for row in rows]) for name in COLUMNS}
    lines.setdefault(method, []).append(values)
    for name, form in COLUMNS.items():
        least, mean, most = (form.format(f(values[name])) for f in (np.min, np.mean, np.max))
        cells.append(mean if least == most else f"{mean} ({least} to {most})")
    print("| " + " | ".join(cells) + " |")

figure = Figure(figsize=(10, 4.5), dpi=120, layout="constrained")
figure.suptitle(title)
for axes, name in zip(
    figure.subplots(1, 2, sharey=True), ("times_as_fast", "nonlinear_operations")
):
    for method, points in lines.items():
        across, accuracy = (
            np.array([point[key] for point in points]) for key in (name, "accuracy")
        )
        axes.errorbar(
            across.mean(axis=1),
            100 * accuracy.mean(axis=1),
            # From the least to the greatest.
            yerr=100
            * np.abs([f(accuracy, axis=1) - accuracy.mean(axis=1) for f in (np.min, np.max)]),
            fmt="*-" if method == "original" else "o-",
            capsize=3,
            label=method,
        )
    axes.set_xlabel(name.replace("_", " "))
    axes.grid(alpha=0.3)
figure.axes[0].set_ylabel("test accuracy in percent")
figure.axes[0].legend(frameon=False)
figure.savefig(picture)
