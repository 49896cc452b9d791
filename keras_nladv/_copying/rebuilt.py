import inspect
import warnings

import keras

from keras_nladv._keras import private

# What a function of one's own is called while a layer is made that applies it.
ITS_NAME = "activation of the layer"


def rebuilt(layer, name, changes=None):
    """Makes a layer or operation like another.

    Args:
        layer: The layer or operation.
        name: Its name.
        changes: Dict of what is to be changed in its configuration.

    Returns:
        A layer or operation of the same class, without the weights.

    Raises:
        ValueError: If `from_config` fails.
    """
    changes = changes or {}
    try:
        with warnings.catch_warnings():
            # Of a lambda that is serialized.
            warnings.simplefilter("ignore")
            config = {**layer.get_config(), **changes, "name": name}
        activation = None if "activation" in changes else getattr(layer, "activation", None)
        own = {}
        if isinstance(config.get("activation"), dict) and _has_no_name(activation):
            own[ITS_NAME] = activation
            named = {"config": ITS_NAME, "registered_name": ITS_NAME}
            config["activation"] = {"module": "builtins", "class_name": "function", **named}
        if type(layer) is keras.layers.Lambda:
            # Read from a configuration, a lambda would not know the names around it.
            return keras.layers.Lambda(**{**config, **private.lambda_arguments(layer)})
        with keras.saving.custom_object_scope(own):
            copy = _from_config(layer, config, changes)
    except Exception as error:
        kind = type(layer).__name__
        raise ValueError(
            f"Layer '{layer.name}' of class {kind} cannot be copied: "
            f"`{kind}.from_config(layer.get_config())` failed with {type(error).__name__}: {error}"
            "\nIt has to work as it does when the model is saved and loaded: `get_config` returns "
            "all arguments of `__init__`, and classes of one's own that are among these are "
            "registered with `@keras.saving.register_keras_serializable()`."
        ) from error
    if activation is keras.ops.gelu:
        # By its name Keras knows another function, which does not approximate.
        copy.activation = activation
    return copy


def _has_no_name(activation):
    """Whether an activation is a function that Keras does not find by its name."""
    return (
        inspect.isfunction(activation)
        and not private.is_keras_function(activation)
        and keras.saving.get_registered_name(activation) == activation.__name__
    )


def _from_config(layer, config, changes):
    parameters = set(inspect.signature(type(layer).__init__).parameters)
    if not isinstance(layer, keras.Layer) and parameters.isdisjoint({"name", "kwargs"}):
        # Operations of Keras before 3.12 have names and take none.
        name = config.pop("name")
        copy = type(layer).from_config(config)
        copy.name = name
        return copy
    # Of copies: some classes take out of a configuration what they have read.
    # The model of a `TFSMLayer` was loaded already.
    takes = inspect.signature(type(layer).from_config).parameters
    unsafe = {} if takes.keys().isdisjoint({"safe_mode"}) else {"safe_mode": False}
    try:
        return type(layer).from_config({**config}, **unsafe)
    except TypeError as error:
        # Some layers of keras-hub list what their `__init__` does not take. The copy must not, or
        # the model could be saved but not loaded.
        known = parameters | {"name", "trainable", "dtype"}
        fitting = {key: config[key] for key in config.keys() & known}
        if not changes.keys() <= known:
            raise
        try:
            copy = type(layer).from_config({**fitting})
        except Exception:
            raise error from None  # What was wrong with the whole configuration.
    copy.get_config = lambda: fitting
    return copy
