"""How rows of figures are shown."""


def told(row):
    """A row as one line of text, but for its `what`: each number with its name."""
    return ", ".join(f"{_number(value)} {name}" for name, value in row.items() if name != "what")


def _number(value):
    if isinstance(value, list):
        low, median, high = value
        return f"{median:.2f} ({low:.2f}-{high:.2f})"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def show(rows):
    """Prints rows, each as soon as it is there."""
    for row in rows:
        print(f"{row['what']:45} {told(row)}", flush=True)
