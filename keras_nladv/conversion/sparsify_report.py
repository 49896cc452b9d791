from collections import Counter
from typing import Any

from keras_nladv._common.table import format_table


class SparsifyReport:
    """What `sparsify` converted, what it left and why.

    Attributes:
        rows: List of dicts, one an activation in the order of the graph, as `pandas.DataFrame`
            takes them. Keys: `name`, `function`, `outcome` (`"converted"` or `"left"`), `reason`.
    """

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    @property
    def converted(self) -> list[str]:
        """Names of what was converted."""
        return [row["name"] for row in self.rows if row["outcome"] == "converted"]

    @property
    def left(self) -> list[str]:
        """Names of what was left."""
        return [row["name"] for row in self.rows if row["outcome"] == "left"]

    def __str__(self) -> str:
        columns = {"name": "activation", "function": "function", "outcome": "", "reason": "why"}
        counts = Counter(row["outcome"] for row in self.rows)
        total = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        return f"{format_table(columns, self.rows, tuple(columns))}\n{total or 'no activation'}"

    __repr__ = __str__
