from keras import ops

from keras_nladv.tangent import differentiation


def gradient(function, primals):
    """The gradient of a function of a list of tensors that returns a scalar.

    Returns:
        Tuple of the scalar and a list of tensors, of the shapes of the primals.
    """

    def twice(primals):
        scalar = function(primals)
        return scalar, scalar

    scalar, gradients = differentiation.vjps(twice, primals, lambda each: ops.ones_like(each)[None])
    return scalar, [each[0] for each in gradients]
