"""Which cells a study has, and in what order they come."""
