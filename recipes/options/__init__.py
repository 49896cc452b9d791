"""What a recipe is told on its command line, read and checked before Keras is imported."""
