import dataclasses

from studies.claims.comparison_of_curves import ComparisonOfCurves


@dataclasses.dataclass
class Baselines(ComparisonOfCurves):
    """Pressed units against units that are chosen in other ways, with `compress.py`.

    Args:
        experiments: Names of experiments.
        reasons: See `ComparisonOfCurves`.
        pressed: Names of the methods that press.
        others: Names of the other methods.
    """

    pressed: list[str] = dataclasses.field(default_factory=lambda: ["ours"])
    others: list[str] = dataclasses.field(default_factory=lambda: ["random", "entropy"])

    title = "Pressed units against random channels and layers of low entropy"
    claim = (
        "At an equal budget, units that pressure has made linear cost less than channels drawn at "
        "random, and than the layers whose units switch least."
    )

    def kinds(self, results, experiment):
        rows = results.rows(experiment)
        methods = rows.get("method", default=rows["variant"])
        return {method: rows[methods == method] for method in (*self.pressed, *self.others)}

    def pairs(self):
        return [(one, other) for one in self.pressed for other in self.others]
