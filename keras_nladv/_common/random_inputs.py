import keras


def random_inputs(structure, size, samples, rng):
    """Random inputs for tensors whose unknown sizes are `size`.

    Args:
        structure: Structure of tensors with `shape` and `dtype`.
        size: What unknown sizes are.
        samples: Number of samples in the batch, unless the tensors have a batch size.
        rng: NumPy generator.

    Returns:
        The structure with NumPy arrays.
    """
    known = (tensor.shape[0] for tensor in keras.tree.flatten(structure))
    samples = next((number for number in known if number is not None), samples)

    def draw(tensor):
        shape = (samples, *(size if n is None else n for n in tensor.shape[1:]))
        if "float" in tensor.dtype:
            # NumPy has no bfloat16.
            dtype = "float32" if tensor.dtype == "bfloat16" else tensor.dtype
            return rng.normal(size=shape).astype(dtype)
        # Small numbers are in the vocabulary of any embedding, and as words they are any.
        numbers = rng.integers(0, 2, size=shape)
        return numbers.astype(str if tensor.dtype == "string" else tensor.dtype)

    return keras.tree.map_structure(draw, structure)
