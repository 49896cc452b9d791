"""How a script runs: its directory, which can be gone on with, its files, and its errors."""
