"""What recipes/study.py is made of, and the studies that come with it, *.toml."""
