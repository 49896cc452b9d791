"""What `recipes/compress.py` comes to over several seeds.

    for seed in 0 1 2; do
        python recipes/compress.py --backend jax --methods all --seed $seed --run-dir runs/$seed
    done
    python benchmarks/compress.py runs/0 runs/1 runs/2

Prints means over the runs, with the least and the greatest of them.
"""

import json
import sys
from pathlib import Path

import numpy as np

COLUMNS = {
    "reached": "{:.1%}",
    "accuracy": "{:.2%}",
    "path_length": "{:.2f}",
    "nonlinear_operations": "{:,.0f}",
    "macs": "{:,.0f}",
    "times_as_fast": "{:.2f}",
}

runs = [json.loads((Path(path) / "summary.json").read_text()) for path in sys.argv[1:]]
settings = {(run["dataset"], run["backend"], run["model"], run["budget_kind"]) for run in runs}
if len(settings) != 1 or len({run["seed"] for run in runs}) < len(runs):
    sys.exit("The runs must differ in their seeds and in nothing else.")
seeds = ", ".join(str(run["seed"]) for run in runs)
print(f"{', '.join(map(str, *settings))}; seeds {seeds}\n")
print("| method | budget | " + " | ".join(name.replace("_", " ") for name in COLUMNS) + " |")
print("| --- " * (len(COLUMNS) + 2) + "|")
for rows in zip(*(run["rows"] for run in runs), strict=True):
    budget = rows[0]["budget"]
    cells = [
        "collapsed" if budget == 1.0 else rows[0]["method"],
        "-" if budget in (None, 1.0) else f"{budget:.0%}",
    ]
    for name, form in COLUMNS.items():
        values = [row[name] for row in rows]
        cell = form.format(np.mean(values))
        if min(values) < max(values):
            cell += f" ({form.format(min(values))} to {form.format(max(values))})"
        cells.append(cell)
    print("| " + " | ".join(cells) + " |")
