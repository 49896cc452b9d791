import dataclasses

from studies.claims.comparison_of_curves import ComparisonOfCurves
from studies.comparison import curves


@dataclasses.dataclass
class LateAgainstEarly(ComparisonOfCurves):
    """Runs that are linearized late against those that are from the beginning.

    Args:
        experiments: Names of experiments.
        early: The variant that is linearized from the beginning.
        late: That which is linearized later, with the same number of epochs in all.
        longer: That which is linearized later, for as many epochs as `early`.
    """

    early: str = "early"
    late: str = "late"
    longer: str = "late, longer"

    title = "Late against early"
    claim = (
        "A network that is linearized late is better than one of equal path length that was "
        "linearized from the beginning: with the same number of epochs in all, and with the same "
        "number of epochs after the start."
    )

    def curves(self, results, experiment):
        return {
            variant: curves(results.rows(experiment, variant))
            for variant in (self.early, self.late, self.longer)
        }

    def pairs(self):
        return [(self.late, self.early), (self.longer, self.early)]
