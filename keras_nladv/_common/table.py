def format_table(columns, rows, text, total=None):
    """Formats rows as text.

    Args:
        columns: Dict from keys of the rows to headings.
        rows: List of dicts. Missing keys make empty cells; `None` stands for what is not known.
        text: Keys of the columns that are flush left; numbers are flush right.
        total: Optional dict, a last row below a rule.

    Returns:
        String.
    """
    shown = [*rows, *([total] if total else [])]
    table = [list(columns.values())]
    table += [
        ["?" if row.get(key, "") is None else str(row.get(key, "")) for key in columns]
        for row in shown
    ]
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = [
        "  ".join(
            cell.ljust(width) if key in text else cell.rjust(width)
            for key, cell, width in zip(columns, line, widths)
        ).rstrip()
        for line in table
    ]
    rule = "-" * max(map(len, lines))
    last = [rule, lines.pop()] if total else []
    return "\n".join([lines[0], rule, *lines[1:], *last])
