import dataclasses

import pandas as pd

from studies.claims.finding import COLORS, Finding, number, panels, verdict
from studies.statistics.spread import Spread

KINDS = {"linear": "linear", "dead": "never on", "always_on": "always on"}


@dataclasses.dataclass
class Units:
    """Units that pressure has made linear, beside those that are so on the data anyway.

    Args:
        experiments: Names of experiments, with images to watch.
        variant: The variant that is looked at.
        share: Of the path length: the pressed run of a seed is that which ends nearest to it. The
            other is that which ends nearest to all of it.
    """

    experiments: list[str]
    variant: str = "late"
    share: float = 0.3

    title = "Dead and always-on units beside linear ones"
    claim = (
        "Units that are never on or always on, and so linear on the data, do not account for those "
        "that pressure makes linear."
    )

    def find(self, results):
        finding = Finding(self.title, self.claim)
        table, sentences, judged, drawn = [], [], [], []
        for experiment in self.experiments:
            runs = {
                "pressed": self._shares(results, experiment, self.share),
                "hardly pressed": self._shares(results, experiment, 1.0),
            }
            if not all(runs.values()):
                continue
            drawn.append((experiment, runs))
            last = {}
            for name, shares in runs.items():
                ends = pd.DataFrame([each.iloc[-1] for each in shares])
                last[name] = {kind: Spread(tuple(100 * ends[kind])) for kind in KINDS}
                table.append(
                    {
                        "experiment": experiment,
                        "run": name,
                        **{f"{said}, %": str(last[name][kind]) for kind, said in KINDS.items()},
                    }
                )
            excess = Spread(
                tuple(
                    100 * (one["linear"].iloc[-1] - other[["dead", "always_on"]].iloc[-1].sum())
                    for one, other in zip(*runs.values())
                )
            )
            judged.append(excess)
            pressed, free = last.values()
            sentences.append(
                f"{experiment}: at the end {pressed['linear']} % of the units are linear, while in "
                f"runs with hardly any pressure {free['dead']} % are never on and "
                f"{free['always_on']} % always on: {excess} % of the units more. Beside the linear "
                f"ones, {pressed['dead']} % have inputs that are never positive and "
                f"{pressed['always_on']} % inputs that always are."
            )
        if not drawn:
            return finding
        finding.verdict, finding.sentences = verdict(judged), sentences
        finding.number = number(judged[0], "% of the units more")
        finding.table = pd.DataFrame(table)
        finding.figure, axes = panels(len(drawn), "epoch")
        for each, (experiment, runs) in zip(axes, drawn):
            each.set_title(experiment)
            each.set_ylabel("% of units")
            for (name, shares), style in zip(runs.items(), ("-", ":")):
                mean = sum(shares[1:], shares[0]) / len(shares)
                for (kind, said), color in zip(KINDS.items(), COLORS):
                    epochs = range(1, len(mean) + 1)
                    label = f"{said}, {name}"
                    each.plot(epochs, 100 * mean[kind], style, color=color, label=label)
            each.legend(fontsize=7)
        return finding

    def _shares(self, results, experiment, share):
        """For each seed the shares of units in each epoch."""
        found = []
        for _, cell in results.at_share(experiment, self.variant, share).iterrows():
            name = cell["cell"]
            units = results.by_layer(name, "units")
            counts = results.by_layer(name, "nonlinear")
            shares = {"linear": 1 - counts.sum(axis=1) / units.sum(axis=1)}
            for kind in ("dead", "always_on"):
                each = results.by_layer(name, kind)
                if each.empty:
                    return []
                weights = units[each.columns]
                shares[kind] = (each * weights).sum(axis=1) / weights.sum(axis=1)
            found.append(pd.DataFrame(shares))
        return found
