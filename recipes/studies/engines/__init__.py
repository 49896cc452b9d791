"""Where cells run: in this process, or with Ray."""
