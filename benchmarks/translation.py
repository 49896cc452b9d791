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
    {**json.loads((Path(path) / "config.json").read_text()), **summary}
    for path in paths
    for summary in [json.loads((Path(path) / "summary.json").read_text())]
]
kinds = {(run["dataset"], run["source"], run["target"], run["backend"]) for run in runs}
if len(kinds) != 1:
    sys.exit("The runs must be of one data set, in the same direction, on one backend.")
versions = ", ".join(map(" ".join, runs[0]["versions"].items()))
print(f"{runs[0]['source']}-{runs[0]['target']}, {versions}; {runs[0]['signature']}\n")

COLUMNS = ["start", "epochs", "seed", "nonlinear", "path length", "BLEU", "chrF", "parameters"]
print("| " + " | ".join(COLUMNS) + " |\n" + "| --- " * len(COLUMNS) + "|")


def show(run, epochs, nonlinear, suffix, parameters):
    length = run["path_length" + ("_before" if suffix == "before" else "")]
    cells = [run["start_epoch"], epochs, run["seed"], f"{nonlinear:.1%}", f"{length:.2f}"]
    cells += [f"{run[f'bleu_{suffix}']:.2f}", f"{run[f'chrf_{suffix}']:.1f}", f"{parameters:,}"]
    print("| " + " | ".join(map(str, cells)) + " |")


figure = Figure(figsize=(7, 4.5), dpi=120, layout="constrained")
axes = figure.subplots()
for start in sorted({run["start_epoch"] for run in runs}, reverse=True):
    mine = sorted(
        (run for run in runs if run["start_epoch"] == start), key=lambda run: -run["path_length"]
    )
    points = [(run["path_length"], run["bleu_after"]) for run in mine]
    if start:  # What has not been trained does not translate.
        first = mine[0]
        show(first, start, 1.0, "before", first["parameters"])
        points.insert(0, (first["path_length_before"], first["bleu_before"]))
    for run in mine:
        show(run, run["epochs"], run["nonlinear_units"], "after", run["parameters_collapsed"])
    axes.plot(*zip(*points), "o-", label=f"linearized from epoch {start + 1} on")
axes.invert_xaxis()
axes.set_xlabel("average path length")
axes.set_ylabel("BLEU of the test set")
axes.grid(alpha=0.3)
axes.legend(frameon=False)
figure.savefig(picture)
