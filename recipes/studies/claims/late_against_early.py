import dataclasses

from studies.claims.comparison_of_curves import ComparisonOfCurves


@dataclasses.dataclass
class LateAgainstEarly(ComparisonOfCurves):
    """Runs that are linearized late against those that are from the beginning.

    Args:
        experiments: Names of experiments.
        reasons: See `ComparisonOfCurves`.
        early: The variant that is linearized from the beginning.
        late: That which is linearized later, with the same number of epochs in all.
        longer: That which is linearized later, for as many epochs as `early`.
        starts: Other variants with the same number of epochs in all, linearized from other epochs.
    """

    early: str = "early"
    late: str = "late"
    longer: str = "late, longer"
    starts: list[str] = dataclasses.field(default_factory=list)

    title = "Late against early"
    claim = (
        "A network that is linearized late is better than one of equal path length that was "
        "linearized from the beginning: with the same number of epochs in all, and with the same "
        "number of epochs after the start."
    )

    def kinds(self, results, experiment):
        variants = (self.early, self.late, self.longer, *self.starts)
        return {variant: results.rows(experiment, variant) for variant in variants}

    def pairs(self):
        return [(variant, self.early) for variant in (self.late, self.longer, *self.starts)]
