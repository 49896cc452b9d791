import dataclasses

import pandas as pd

# What is near a share of the path length.
NEAR = 0.2


@dataclasses.dataclass
class Results:
    """What claims are judged by.

    Args:
        table: The table of all results.
        epochs: The logs of all epochs of all cells.

    Attributes:
        used: Cells whose epochs some claim was judged by.
    """

    table: pd.DataFrame
    epochs: pd.DataFrame
    used: set[str] = dataclasses.field(default_factory=set, init=False)

    def rows(self, experiment, variant=None):
        """The results of an experiment, or of one of its variants."""
        return _chosen(self.table[self.table["status"] == "finished"], experiment, variant)

    def history(self, cell):
        """The epochs of a cell, a table."""
        self.used.add(cell)
        mine = self.epochs[self.epochs["cell"] == cell]
        return mine.dropna(axis=1, how="all").reset_index(drop=True)

    def by_layer(self, cell, what):
        """What the logs of a cell say of each activation: a table, a row for each epoch."""
        found = self.history(cell).filter(regex=f"^{what}/")
        return found.rename(columns=lambda name: name.removeprefix(f"{what}/"))

    def score_name(self, experiment):
        return self.rows(experiment)["score_name"].iloc[0]

    def at_share(self, experiment, variant, share):
        """For each seed the cell whose path length, as a share of all, ends nearest to this.

        Seeds of which none ends near it are left out, and cells whose epochs are not here: of those
        that were run elsewhere a few numbers are known.
        """
        rows = self.rows(experiment, variant)
        rows = rows[rows["cell"].isin(self.epochs["cell"])]
        distance = (rows["path_length"] / rows["path_length_before"] - share).abs()
        rows, distance = rows[distance <= NEAR], distance[distance <= NEAR]
        return rows.loc[distance.groupby(rows["seed"]).idxmin()]


def _chosen(frame, experiment, variant):
    frame = frame[frame["experiment"] == experiment]
    return frame if variant is None else frame[frame["variant"] == variant]
