import dataclasses

import numpy as np
import pandas as pd

from studies.claims.finding import COLORS, Finding, draw_curves, number, panels, verdict
from studies.statistics.comparison import NEAR, curves, ladders, points
from studies.statistics.significance import signs
from studies.statistics.spread import Spread


@dataclasses.dataclass
class Shallow:
    """Pressed networks against plain ones of the same depth.

    Args:
        experiments: Dict from the experiment with pressed networks to that with plain ones, which
            has a variant for each network.
        variant: The variant of the pressed networks.
        wide: How the names of variants end that have as many parameters as the pressed network.
    """

    experiments: dict[str, str]
    variant: str = "late"
    wide: str = ", wide"

    title = "Shallow results against plain networks"
    claim = (
        "A network pressed to a path length is better than a plain network of that depth that was "
        "trained in the same way, also if that is widened to as many parameters."
    )

    def find(self, results):
        finding = Finding(self.title, self.claim)
        table, judged, sentences, drawn = [], [], [], []
        for pressed, plain in self.experiments.items():
            runs, networks = results.rows(pressed, self.variant), results.rows(plain)
            # At targets that are the depths of plain networks nothing lies between.
            rungs, found = ladders(runs), curves(runs) or points(runs)
            if not found or networks.empty:
                continue

            def pressed_at(seed, length, rungs=rungs, found=found):
                for target, (_, score) in rungs.get(seed, {}).items():
                    if abs(target - length) <= NEAR:
                        return score
                x, y = found.get(seed, ([np.inf], [0.0]))
                if len(x) > 2 and x[0] - NEAR <= length <= x[-1] + NEAR:
                    return float(np.interp(length, x, y))
                return None

            drawn.append((pressed, found, networks))
            kinds = {"plain": [], "widened": []}
            for name, rows in networks.groupby("variant", sort=False):
                differences = [
                    other - score
                    for seed, length, score in zip(rows["seed"], rows["path_length"], rows["score"])
                    if (other := pressed_at(seed, length)) is not None
                ]
                if not differences:
                    continue
                gap = Spread(tuple(differences))
                kinds["widened" if name.endswith(self.wide) else "plain"].append((rows, gap))
                table.append(
                    {
                        "experiment": pressed,
                        "plain network": name,
                        "parameters": f"{rows['parameters'].iloc[0]:,.0f}",
                        "path length": f"{rows['path_length'].mean():.2f}",
                        "its score": str(Spread(tuple(rows["score"]))),
                        "pressed - plain": str(gap),
                        "95 % interval": gap.ends,
                    }
                )
            for kind, gaps in kinds.items():
                if not gaps:
                    continue
                judged += [gap for _, gap in gaps]
                said = ", ".join(
                    f"{gap} points at {rows['path_length'].mean():.2f}"
                    for rows, gap in sorted(gaps, key=lambda each: each[0]["path_length"].mean())
                )
                found_signs = signs([gap for _, gap in gaps])
                above, below = found_signs.count(1), found_signs.count(-1)
                sentences.append(
                    f"{pressed}: at equal path length, pressed minus {kind} is {said}. That is "
                    f"told from 0, after Holm, above it for {above} of these {len(gaps)} and below "
                    f"it for {below}."
                )
        if not judged:
            return finding
        finding.verdict, finding.sentences = verdict(judged), sentences
        finding.number = number(judged[0])
        finding.table = pd.DataFrame(table)
        finding.figure, axes = panels(len(drawn), "average path length, or depth")
        for each, (pressed, found, networks) in zip(axes, drawn):
            each.set_title(pressed)
            each.set_ylabel(f"test {results.score_name(pressed)}")
            draw_curves(each, found, COLORS[0], "pressed")
            widened = networks["variant"].str.endswith(self.wide)
            for rows, marker, color, label in (
                (networks[~widened], "s", COLORS[1], "plain"),
                (networks[widened], "D", COLORS[2], "plain, widened"),
            ):
                each.plot(rows["path_length"], rows["score"], marker, color=color, alpha=0.35, ms=4)
                means = rows.groupby("path_length")["score"].mean()
                each.plot(means.index, means, marker, color=color, ms=8, label=label)
            each.set_xlim(left=0)
            each.legend(loc="lower right")
        return finding
