"""How nonlinear a network is, for the reports of runs."""

from keras_nladv import nonlinearity_report, path_length


class Nonlinearity:
    """What a network's nonlinearity was when this was made.

    Args:
        model: A model with `SparsePReLU` layers.

    Attributes:
        report: What `nonlinearity_report` says.
        path_length: Float.
        path_length_unnormalized: Float.
    """

    def __init__(self, model):
        self.report = nonlinearity_report(model)
        self.path_length = path_length(model)
        self.path_length_unnormalized = path_length(model, normalized=False)

    def __str__(self):
        return f"{self.report.units:,} nonlinear units, average path length {self.path_length:.2f}"

    def summary(self, before):
        """The entries of summary.json."""
        return {
            "path_length_before": before.path_length,
            "path_length": self.path_length,
            "path_length_unnormalized": self.path_length_unnormalized,
            "units": self.report.units,
            "nonlinear_units": self.report.nonlinear_units,
            "nonlinear_operations_before": before.report.operations,
            "nonlinear_operations": self.report.operations,
            "per_layer": self.report.rows,
        }

    def rows(self, before):
        """Rows for `table`."""
        now = self.figures()
        return [(name, shown, now[name]) for name, shown in before.figures().items()]

    def figures(self):
        """What is shown, by name."""
        report = self.report
        # Where sizes are free, operations are not known.
        operations = "-" if report.operations is None else f"{report.operations:,}"
        return {
            "average path length": f"{self.path_length:.2f}",
            "  every path counted once": f"{self.path_length_unnormalized:.2f}",
            "nonlinear units": f"{report.nonlinear:,}",
            "  of all units": f"{report.nonlinear_units:.1%}",
            "nonlinear operations": operations,
        }

    def note(self, config):
        """What to say if no target of the configuration was reached."""
        targets = (
            (config.target_path_length, self.path_length),
            (config.target_nonlinear_units, self.report.nonlinear_units),
        )
        if any(target is not None and value <= target for target, value in targets):
            return ""
        return "No target was reached: more --epochs or --strength may help.\n\n"


def row(name, form, before, after):
    """A row for `table`; of what there was not before, `before` is `None`."""
    return name, "-" if before is None else form.format(before), form.format(after)


def table(rows):
    """Text of rows of three: a name, and what was before and after."""
    rows = [("", "before", "after"), *rows]
    return "\n".join(f"{name:26}{old:>14}{new:>14}" for name, old, new in rows)
