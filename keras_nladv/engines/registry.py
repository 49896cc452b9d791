from keras_nladv.engines.engine import Engine
from keras_nladv.engines.keras_engine import Keras
from keras_nladv.engines.litert_engine import LiteRT
from keras_nladv.engines.onnxruntime_engine import ONNXRuntime
from keras_nladv.engines.openvino_engine import OpenVINO

_ENGINES: dict[str, type[Engine]] = {
    engine.name: engine for engine in (Keras, ONNXRuntime, LiteRT, OpenVINO)
}


def register_engine(name: str, engine: type[Engine]) -> None:
    """Makes another place where networks run known by a name.

    Then `milliseconds`, `collapse` and `collapse_plan` take it as `engine=name`. One that is known
    by the name already is replaced.

    Args:
        name: The name.
        engine: A subclass of `keras_nladv.engines.Engine`. It needs `packages`, `convert` and
            `run`, and for files `suffix` and `write`.

    Raises:
        ValueError: If `name` is no string, or `engine` no such class.

    Example:

    >>> from keras_nladv.engines import Keras
    >>> class Twice(Keras):
    ...     "Keras, calling each network twice."
    ...     def __call__(self, inputs):
    ...         super().__call__(inputs)
    ...         return super().__call__(inputs)
    >>> register_engine("twice", Twice)
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"`name` must be a string that is not empty. Received: name={name!r}")
    if not isinstance(engine, type) or not issubclass(engine, Engine):
        raise ValueError(
            "`engine` must be a subclass of `keras_nladv.engines.Engine`. Received: "
            f"engine={engine!r}"
        )
    _ENGINES[name] = engine


def find_engine(name: str) -> type[Engine]:
    """Returns the engine that goes by a name, if it can be used here.

    Args:
        name: `"keras"`, `"onnxruntime"`, `"litert"`, `"openvino"`, or one that was made known with
            `register_engine`.

    Returns:
        A subclass of `keras_nladv.engines.Engine`.

    Raises:
        ValueError: If there is none, or if it takes no models from this backend.
        ImportError: If a package that it needs is not installed.

    Example:

    >>> from keras_nladv.engines import find_engine
    >>> find_engine("keras").name
    'keras'
    """
    if name not in _ENGINES:
        raise ValueError(
            f"`engine` must be one of {', '.join(map(repr, _ENGINES))}, or one that was made known "
            f"with `register_engine`. Received: engine={name!r}"
        )
    _ENGINES[name].require()
    return _ENGINES[name]


def likes_of(name: str | None) -> type[Engine]:
    """The engine that goes by a name, to see what it likes: that of engines in general if it is
    not known here."""
    return Engine if name is None else _ENGINES.get(name, Engine)
