"""What Keras has no public name for, does not do, or does not say."""
