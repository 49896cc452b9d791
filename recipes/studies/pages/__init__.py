"""What a study is shown by: pages, and TensorBoard's HParams."""
