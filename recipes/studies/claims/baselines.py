import dataclasses

from studies.claims.comparison_of_curves import ComparisonOfCurves
from studies.comparison import curves


@dataclasses.dataclass
class Baselines(ComparisonOfCurves):
    """Pressed units against units that are chosen in other ways, with `compress.py`.

    Args:
        experiments: Names of experiments.
        others: Names of the other methods.
    """

    others: list[str] = dataclasses.field(default_factory=lambda: ["random", "entropy"])

    title = "Pressed units against random channels and layers of low entropy"
    claim = (
        "At equal path length, units that pressure has made linear cost less than channels drawn "
        "at random, and than the layers whose units switch least."
    )

    def curves(self, results, experiment):
        rows = results.rows(experiment)
        methods = rows.get("method", default=rows["variant"])
        return {method: curves(rows[methods == method]) for method in ("ours", *self.others)}

    def pairs(self):
        return [("ours", other) for other in self.others]
