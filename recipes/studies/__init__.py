"""What recipes/study.py is made of; the studies that come with it are in definitions/."""
