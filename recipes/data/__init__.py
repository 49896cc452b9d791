"""What networks are trained on: read, checked, and made into batches. It knows no networks."""
