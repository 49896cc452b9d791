"""The class of a model, which may train or evaluate in a way of its own."""

import functools
import inspect
import warnings

import keras

from keras_nladv._copying.attributes import is_plain, unshared

# What a class may do otherwise than Keras when a model is trained, evaluated or asked.
TRAINING = (
    *("compile", "fit", "evaluate", "predict", "losses", "metrics"),
    *("train_on_batch", "test_on_batch", "predict_on_batch"),
    *("train_step", "test_step", "predict_step"),
    *("make_train_function", "make_test_function", "make_predict_function"),
    *("compute_loss", "compute_metrics", "reset_metrics", "get_metrics_result"),
)
PREDICTION = ("predict", "predict_on_batch", "predict_step", "make_predict_function")


def of_class(original, plain, *arguments, name):
    """Makes a model of the class of another, as far as that class can be called.

    Args:
        original: The other model.
        plain: `keras.Model` or `keras.Sequential`, the class to fall back to.
        *arguments: The inputs and outputs, or the list of layers.
        name: Its name.

    Returns:
        A model. What the original was given as attributes beside, numbers for example, it has too.
    """
    kind = type(original)
    names = ("inputs", "outputs") if plain is keras.Model else ("layers",)
    if issubclass(kind, plain) and _takes(kind, names):
        try:
            model = kind(**dict(zip(names, arguments)), name=name)
        except TypeError:
            pass
        else:
            if plain is keras.Sequential or _has(model, arguments[1]):
                _copy_attributes(original, model)
                return model
    return plain(*arguments, name=name)


def warn_of_lost_methods(original, copy, names=TRAINING):
    """Warns if a copy is not trained or evaluated in the way that the original is.

    Args:
        original: A model.
        copy: What the user gets.
        names: Which methods and properties matter.
    """
    kinds = [kind for kind in type(original).__mro__ if not kind.__module__.startswith("keras.src")]
    own = [vars(kind) for kind in kinds if not isinstance(copy, kind)] + [vars(original)]
    lost = [name for name in names if any(name in each for each in own)]
    if lost:
        warnings.warn(
            f"Model '{original.name}' of class {type(original).__name__} has its own "
            f"{', '.join(f'`{name}`' for name in lost)}. The copy, of class "
            f"{type(copy).__name__}, does not: it could not be made by "
            f"`{type(original).__name__}(inputs, outputs)`. Make it yourself of the copy's "
            "`inputs` and `outputs` if it is to work in that way.",
            stacklevel=3,
        )


def _takes(kind, names):
    parameters = inspect.signature(kind.__init__).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    if {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD} <= kinds:
        return True
    return all(name in parameters for name in names)


def _has(model, outputs):
    pairs = zip(model.outputs, keras.tree.flatten(outputs))
    return all(one is other for one, other in pairs)


def _copy_attributes(original, model):
    for key, value in vars(original).items():
        if (
            key not in _attributes_of_keras()
            and key not in TRAINING
            and is_plain(value)
            # Keras has containers of its own.
            and not (isinstance(value, (list, dict)) and key.startswith("_"))
        ):
            setattr(model, key, unshared(value))


@functools.cache
def _attributes_of_keras():
    # With names, lest the names that Keras gives depend on it.
    x = keras.Input((1,), name="x")
    outputs = keras.layers.Identity(name="same")(x)  # Older versions take no inputs for outputs.
    models = keras.Model(x, outputs, name="functional"), keras.Sequential(name="sequential")
    return {key for model in models for key in vars(model)}
