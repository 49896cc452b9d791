"""What the directory of a study holds: its record, its cells, and the table of them."""
