"""What networks that were compressed come to, for the report of `compress.py`."""

HEADINGS = (
    "method     budget  reached  accuracy  path length  nonlinear op.  parameters        MACs      "
    "ms  times as fast"
)


def note_pareto(rows):
    """Notes in rows whether nothing else is both faster and better."""
    for row in rows:
        row["pareto"] = not any(
            other["ms"] <= row["ms"]
            and other["accuracy"] >= row["accuracy"]
            and (other["ms"], other["accuracy"]) != (row["ms"], row["accuracy"])
            for other in rows
        )


def table(rows):
    """A line of text for each network."""
    lines = [HEADINGS]
    for row in rows:
        # With a budget of 1 nothing was made linear.
        label = "collapsed" if row["budget"] == 1.0 else row["method"]
        budget = "-" if row["budget"] in (None, 1.0) else f"{row['budget']:.0%}"
        lines.append(
            f"{label:9}  {budget:>6}  {row['reached']:>7.1%}  {row['accuracy']:>8.2%}  "
            f"{row['path_length']:>11.2f}  {row['nonlinear_operations']:>13,}  "
            f"{row['parameters']:>10,}  {row['macs']:>10,}  {row['ms']:>6.3f}  "
            f"{row['times_as_fast']:>13.2f}{' *' if row['pareto'] else ''}"
        )
    return "\n".join(lines)


def budgets(rows, of_time):
    """Which budgets were not met; and what came out if they are shares of the time."""
    said = ""
    for row in rows:
        if row["budget"] is not None and row["reached"] > row["budget"]:
            said += (
                f"{row['method']} did not reach {row['budget']:.0%}: more --strength or "
                "--press-epochs may help.\n"
            )
        if of_time and row["budget"] not in (None, 1.0):
            said += (
                f"{row['method']} at {row['budget']:.0%} of the time: {row['reached']:.1%} "
                f"predicted, {1 / row['times_as_fast']:.1%} measured.\n"
            )
    return said
