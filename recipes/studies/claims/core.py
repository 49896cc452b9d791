import dataclasses

import numpy as np
import pandas as pd

from studies.claims.finding import CONFIRMED, NO_RESULTS, NOT_CONFIRMED, Finding, panels
from studies.statistics.spread import Spread

# By how much depth and width may change, of what they were.
NEAR = 0.2


@dataclasses.dataclass
class Core:
    """What stays nonlinear, over training and over the depth of the network.

    Of each seed it is the run that ends nearest to a share of the path length. Its depth is the
    average path length; its width is the mean number of nonlinear units of the activations that
    have any.

    Args:
        experiments: Names of experiments.
        variant: The variant that is looked at.
        share: Of the path length.
    """

    experiments: list[str]
    variant: str = "late"
    share: float = 0.3

    title = "The core"
    claim = (
        "What stays nonlinear is a core of near-constant depth and width, which depend on the "
        "difficulty of the task."
    )

    def find(self, results):
        finding = Finding(self.title, self.claim)
        table, sentences, steady, drawn = [], [], [], []
        for experiment in self.experiments:
            cells = results.at_share(experiment, self.variant, self.share)
            if cells.empty:
                continue
            shapes, pictures = [], []
            for _, cell in cells.iterrows():
                history = results.history(cell["cell"])
                counts = results.by_layer(cell["cell"], "nonlinear")
                units = results.by_layer(cell["cell"], "units").iloc[0]
                pictures.append((counts / units).to_numpy().T)
                start, end = int(cell["start_epoch"]), len(counts)
                for when, row in (("halfway", (start + end) // 2 - 1), ("at the end", end - 1)):
                    mine = counts.iloc[row]
                    shapes.append(
                        {
                            "when": when,
                            "path length": history["path_length"].iloc[row],
                            "width": mine[mine > 0].mean() if mine.any() else 0.0,
                            **{
                                stage: f"{int((those > 0).sum())} of {len(those)}, "
                                f"{those.sum() / units[those.index].sum():.0%}"
                                for stage, those in mine.groupby(mine.index.str.split("_").str[0])
                            },
                        }
                    )
            drawn.append((experiment, np.mean(pictures, axis=0), list(units.index), start))
            shapes = pd.DataFrame(shapes)
            found = {}
            for when, rows in shapes.groupby("when", sort=False):
                found[when] = [Spread(tuple(rows[key])) for key in ("path length", "width")]
                stages = [name for name in shapes.columns if name == "stem" or "stage" in name]
                table.append(
                    {
                        "experiment": experiment,
                        "": when,
                        "path length": str(found[when][0]),
                        "width": str(found[when][1]),
                        # Of the first seed: counts of activations have no mean worth reading.
                        **{name: rows[name].iloc[0] for name in stages},
                    }
                )
            (depth, width), (last_depth, last_width) = found.values()
            changes = [
                abs(after.mean - before.mean) / max(before.mean, 1e-9)
                for before, after in ((depth, last_depth), (width, last_width))
            ]
            if not steady:
                front = f"{changes[0]:.0%} change of depth and {changes[1]:.0%} of width"
            steady.append(max(changes) <= NEAR)
            sentences.append(
                f"{experiment}: from halfway through linearization to its end the path length goes "
                f"from {depth} to {last_depth} and the width of the core from {width} to "
                f"{last_width} units, changes of {changes[0]:.0%} and {changes[1]:.0%}."
            )
        if not drawn:
            return finding
        finding.sentences = [
            *sentences,
            f"Near-constant is taken as a change of at most {NEAR:.0%} over the second half of "
            "linearization, in depth and in width.",
        ]
        finding.number = front
        finding.verdict = (CONFIRMED if all(steady) else NOT_CONFIRMED) if steady else NO_RESULTS
        finding.table = pd.DataFrame(table).fillna("-")
        finding.figure, axes = panels(len(drawn), "epoch", height=4.2)
        for each, (experiment, picture, names, start) in zip(axes, drawn):
            each.set_title(experiment)
            image = each.imshow(
                picture,
                aspect="auto",
                vmin=0,
                vmax=1,
                cmap="magma",
                extent=(0.5, picture.shape[1] + 0.5, len(names) - 0.5, -0.5),
            )
            each.set_yticks(range(len(names)), names, fontsize=7)
            each.axvline(start + 0.5, color="white", linestyle="--", linewidth=1)
            each.grid(False)
        finding.figure.colorbar(image, ax=axes, label="share of nonlinear units")
        return finding
