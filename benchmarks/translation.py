"""What several runs of `recipes/translation.py` come to: BLEU against average path length.

    python recipes/translation.py --dataset FOLDER --epochs 10 --start-epoch 10 --run-dir runs/base
    for target in 0.3 0.1; do
        python recipes/translation.py --trained runs/base --epochs 13 \
            --target-nonlinear-units $target --run-dir runs/late-$target
    done
    python recipes/translation.py --dataset FOLDER --epochs 13 --start-epoch 0 --run-dir runs/early
    python benchmarks/translation.py bleu.png runs/late-0.3 runs/late-0.1 runs/early

Prints the networks as they were before their linearization started, and at the end, and draws BLEU
of the test set, a line for each start.
"""

import json
import sys
from pathlib import Path

from matplotlib.figure import Figure

picture, *paths = sys.argv[1:]
runs = [
    {**json.loads((Path(path) / "config.json").read_text(encoding="utf-8")), **summary}
    for path in paths
    for summary in [json.loads((Path(path) / "summary.json").read_text(encoding="utf-8"))]
]
kinds = {(run["dataset"], run["source"], run["target"], run["backend"]) for run in runs}
if len(kinds) != 1:
    sys.exit("The runs must be of one data set, in the same direction, on one backend.")
versions = ", ".join(map(" ".join, runs[0]["versions"].items()))
print(f"{runs[0]['source']}-{runs[0]['target']}, {versions}; {runs[0]['signature']}\n")

COLUMNS = {
    "start_epoch": "{}",
    "epochs": "{}",
    "seed": "{}",
    "nonlinear_units": "{:.1%}",
    "path_length": "{:.2f}",
    "bleu_after": "{:.2f}",
    "chrf_after": "{:.1f}",
    "parameters_collapsed": "{:,}",
}
print("| " + " | ".join(name.replace("_", " ") for name in COLUMNS) + " |")
print("| --- " * len(COLUMNS) + "|")
figure = Figure(figsize=(7, 4.5), dpi=120, layout="constrained")
axes = figure.subplots()
for start in sorted({run["start_epoch"] for run in runs}, reverse=True):
    rows = [run for run in runs if run["start_epoch"] == start]
    if start:  # What has not been trained does not translate.
        before = {
            "epochs": start,
            "nonlinear_units": 1.0,
            "path_length": rows[0]["path_length_before"],
            "bleu_after": rows[0]["bleu_before"],
            "chrf_after": rows[0]["chrf_before"],
            "parameters_collapsed": rows[0]["parameters"],
        }
        rows.append({**rows[0], **before})
    rows.sort(key=lambda row: -row["path_length"])
    for row in rows:
        cells = [form.format(row[name]) for name, form in COLUMNS.items()]
        print("| " + " | ".join(cells) + " |")
    axes.plot(
        [row["path_length"] for row in rows],
        [row["bleu_after"] for row in rows],
        "o-",
        label=f"linearized from epoch {start + 1} on",
    )
axes.invert_xaxis()
axes.set_xlabel("average path length")
axes.set_ylabel("BLEU of the test set")
axes.grid(alpha=0.3)
axes.legend(frameon=False)
figure.savefig(picture)
