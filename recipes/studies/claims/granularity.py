import dataclasses

from studies.claims.comparison_of_curves import ComparisonOfCurves


@dataclasses.dataclass
class Granularity(ComparisonOfCurves):
    """Slopes of channels against slopes of whole layers.

    Args:
        experiments: Names of experiments.
        reasons: See `ComparisonOfCurves`.
        channels: The variant with a slope for each channel.
        layers: The variant with a slope for each layer.
    """

    channels: str = "late"
    layers: str = "layers"

    title = "Slopes of channels against slopes of layers"
    claim = "At equal path length, slopes of channels cost less than slopes of whole layers."

    def kinds(self, results, experiment):
        return {
            "channels": results.rows(experiment, self.channels),
            "layers": results.rows(experiment, self.layers),
        }

    def pairs(self):
        return [("channels", "layers")]
