import importlib.metadata
import importlib.util
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np

from keras_nladv._common.arguments import flag, integer
from keras_nladv._common.random_inputs import random_inputs
from keras_nladv._common.temporarily import temporarily
from keras_nladv._keras import private
from keras_nladv.graph.require_graph import require_graph
from keras_nladv.tangent.differentiation import full_precision

# The largest difference between Keras and an engine that is taken for rounding, relative to the
# largest output: where all layers compute in float32 or more, and where one computes in less.
TOLERANCE, IN_HALF = 1e-3, 5e-2


class Engine:
    """A network as an engine runs it, made from a Keras model.

    A subclass says what it needs, and how a model is converted, run and written; see
    `keras_nladv.register_engine`. When one is made, its outputs on random inputs are compared with
    those of the Keras model, so that no file is left that computes something else.

    Args:
        model: A Functional or Sequential model.
        batch_size: Number of samples in a batch; any by default.
        size: What unknown sizes are taken for; they stay free by default.
        threads: Number of threads that it may use.
        verify: Whether to compare it with the model.

    Attributes:
        name: Name of the engine, for errors and plans.
        packages: Dict from the backends from which a model can be converted to the packages that
            this needs, the engine's own first.
        extra: The extra of this library that installs them, if there is one; or a dict from
            backends to extras.
        suffix: How the names of its files end.
        others: How the names of files end that are written beside one.
        tolerance: The largest difference from Keras that is taken for rounding, relative to the
            largest output; by default that of what the layers compute in.
        multiple: What `collapse` makes the numbers of channels of narrower convolutions multiples
            of, by channels of zeros.
        forms: The forms of partly linear activations, in the order in which it runs them fastest,
            as a rule. It is the first that others are compared with.
        forms_at_one_position: The same where there is one position, as behind a global pooling or
            in a `Dense` layer for a sample, so that it is the number of operations that counts.
            Empty if they are the same.
        forms_in_float32: The same where weights are known to stay in float32 or bfloat16, as
            `collapse(for_int8=False)` says. Empty if they are the same.

    Raises:
        ImportError: If a package is not installed.
        ValueError: If the backend is none of those, if the model has no graph or inputs that no
            engine takes, if it cannot be converted, or if what comes out computes something else.
    """

    name: ClassVar[str] = ""
    packages: ClassVar[dict[str, tuple[str, ...]]] = {}
    extra: ClassVar[str | dict[str, str]] = ""
    suffix: ClassVar[str] = ""
    others: ClassVar[tuple[str, ...]] = ()
    multiple: ClassVar[int] = 1
    forms: ClassVar[tuple[str, ...]] = (
        *("maximum", "clip", "prelu", "gate", "apart", "sum", "where", "shifted", "hard_shifted"),
    )
    forms_at_one_position: ClassVar[tuple[str, ...]] = ()
    forms_in_float32: ClassVar[tuple[str, ...]] = ()
    tolerance: float | None = None

    def __init__(
        self,
        model: keras.Model,
        *,
        batch_size: int | None = None,
        size: int | None = None,
        threads: int = 1,
        verify: bool = True,
    ) -> None:
        self.require()
        require_graph(model)
        for argument, value in {"batch_size": batch_size, "size": size}.items():
            if value is not None:
                integer(argument, value, least=1)
        self.threads = integer("threads", threads, least=1)
        verify = flag("verify", verify)
        self.batch_size, self.size = batch_size, size
        structure, outputs = private.structures(model)
        self._outputs = keras.tree.map_structure(lambda tensor: None, outputs)
        self.inputs = _specs(model, batch_size, size)
        for spec in self.inputs:
            if spec.dtype == "string":
                raise ValueError(
                    f"Engine '{self.name}' takes no strings. Received: model '{model.name}' with "
                    f"input '{spec.name}' of dtype string. Look the strings up before the model, "
                    "and make it start from their indices."
                )
        try:
            with _without_activity_regularizers(model):
                self.convert(model)
        except Exception as error:
            raise ValueError(
                f"Model '{model.name}' cannot be converted to {self.name} from the backend "
                f"{keras.backend.backend()}.{self._advice(model)} The converter said "
                f"{type(error).__name__}: {error}"
            ) from error
        if verify:
            with full_precision():
                self._verify(model, structure)

    @classmethod
    def require(cls) -> None:
        """Raises an error if the engine cannot be used here."""
        backend = keras.backend.backend()
        if backend not in cls.packages:
            raise ValueError(
                f"Engine '{cls.name}' takes models from the backend "
                f"{' or '.join(cls.packages)}. Received: a model on {backend}. Save it as a .keras "
                f"file, and load it where `KERAS_BACKEND` is {' or '.join(cls.packages)}."
            )
        missing = [name for name in cls.packages[backend] if not importlib.util.find_spec(name)]
        if missing:
            missing = [name.replace("_", "-") for name in missing]
            extra = cls.extra[backend] if isinstance(cls.extra, dict) else cls.extra
            how = f"'keras-nladv[{extra}]'" if extra else " ".join(missing)
            raise ImportError(
                f"Engine '{cls.name}' needs {' and '.join(missing)} with the backend {backend}: "
                f"`pip install {how}`."
            )

    @classmethod
    def version(cls) -> str:
        """The version of the engine's package."""
        return importlib.metadata.version(
            cls.packages[keras.backend.backend()][0].replace("_", "-")
        )

    def convert(self, model: keras.Model) -> None:
        """Converts the model, for inputs as in `inputs`, and loads it for `threads` threads."""
        raise NotImplementedError  # Each engine has its own.

    def run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Runs the network on a batch, inputs and outputs in the order of the model's."""
        raise NotImplementedError  # Each engine has its own.

    def write(self, path: Path) -> None:
        """Writes the network to a file whose name ends in `suffix`."""
        raise NotImplementedError  # Each engine has its own.

    def __call__(self, inputs: Any) -> Any:
        """Runs the network on a batch.

        Args:
            inputs: NumPy arrays in the structure of the model's inputs.

        Returns:
            NumPy arrays in the structure of the model's outputs.
        """
        arrays = keras.tree.flatten(inputs)
        if len(arrays) != len(self.inputs):
            raise ValueError(
                f"`inputs` must be {len(self.inputs)} arrays. Received: {len(arrays)} arrays"
            )
        ready = []
        for array, spec in zip(arrays, self.inputs):
            array = np.ascontiguousarray(array, dtype=spec.dtype)
            fits = len(array.shape) == len(spec.shape) and all(
                wanted in (None, given) for wanted, given in zip(spec.shape, array.shape)
            )
            if not fits:
                raise ValueError(
                    f"Input '{spec.name}' must be of shape {spec.shape}. Received: shape "
                    f"{array.shape}"
                )
            ready.append(array)
        outputs = self.run(ready)
        return keras.tree.pack_sequence_as(self._outputs, outputs)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the network to a file, whole or not at all.

        Args:
            path: Name of the file, which has to end in `suffix`.

        Raises:
            ValueError: If the name ends otherwise.
            OSError: If the file cannot be written.
        """
        path = Path(path)
        if not self.suffix:
            raise ValueError(f"Engine '{self.name}' has no files of its own.")
        if path.suffix != self.suffix:
            raise ValueError(
                f"`path` must end in '{self.suffix}' for engine '{self.name}'. Received: "
                f"path={str(path)!r}"
            )
        if path.is_dir() or not path.parent.is_dir():
            what = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
            raise OSError(f"`path` cannot be written: {what}. Received: path={str(path)!r}")
        # Beside it, so that what is written whole has only to be renamed.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            self.write(Path(folder, path.name))
            for suffix in (*self.others, self.suffix):
                name = path.with_suffix(suffix).name
                shutil.move(Path(folder, name), path.with_suffix(suffix))

    def _verify(self, model, structure):
        tolerance = self.tolerance or (IN_HALF if _computes_in_half(model) else TOLERANCE)
        rng = np.random.default_rng(0)
        free = self.size is None and any(None in spec.shape[1:] for spec in self.inputs)
        sizes = (32, 40, 17) if free else (self.size,)
        failure, done = None, 0
        for size in sizes:
            # As many as one and as two, because converters may take the number for a constant.
            for samples in (2, 3) if self.batch_size is None else (self.batch_size,):
                inputs = random_inputs(structure, size, samples, rng)
                try:
                    expected = model(inputs, training=False)
                except Exception as error:
                    # Not any size is right for any model.
                    failure = error
                    continue
                done += 1
                self._compare(model, expected, inputs, tolerance)
        if not done:
            raise ValueError(
                f"Model '{model.name}' could not be run on random inputs to compare engine "
                f"'{self.name}' with it; give a `size` that it accepts. It failed with "
                f"{type(failure).__name__}: {failure}"
            ) from failure

    def _compare(self, model, expected, inputs, tolerance):
        try:
            received = self(inputs)
        except Exception as error:
            raise ValueError(
                f"Model '{model.name}' was converted to {self.name}, but does not run there."
                f"{self._advice(model)} It said {type(error).__name__}: {error}"
            ) from error
        for right, other in zip(*map(keras.tree.flatten, (expected, received)), strict=True):
            right = keras.ops.convert_to_numpy(right).astype("float64")
            other = np.asarray(other, "float64")
            largest = np.abs(right[np.isfinite(right)]).max(initial=0.0) or 1.0
            same = right.shape == other.shape and np.allclose(
                right, other, rtol=0, atol=tolerance * largest, equal_nan=True
            )
            if not same:
                difference = (
                    f"by {np.abs(right - other).max() / largest:.2g} of the largest"
                    if right.shape == other.shape
                    else f"in shape, {other.shape} for {right.shape}"
                )
                raise ValueError(
                    f"Model '{model.name}' computes something else in {self.name} than on "
                    f"{keras.backend.backend()}: outputs differ {difference}. Nothing is kept."
                    f"{self._advice(model)}"
                )

    def _advice(self, model):
        """What may help, behind a message that says what has failed."""
        if _computes_in_half(model):
            return " Some of its layers compute in half precision; it may need float32 in all."
        if any(None in spec.shape[1:] for spec in self.inputs):
            shapes = ", ".join(str(spec.shape) for spec in self.inputs)
            return (
                f" Its inputs, of shape {shapes}, have sizes that are free: this may need them "
                "fixed, with `size=...`."
            )
        if self.batch_size is None:
            return " It may need the number of samples fixed, with `batch_size=...`."
        return ""


def _without_activity_regularizers(model):
    """Their losses are no outputs, and by these Torch takes the number of samples for fixed."""
    layers = private.sublayers(model)
    found = [layer for layer in layers if layer.activity_regularizer is not None]
    return temporarily(found, activity_regularizer=None)


def _computes_in_half(model):
    layers = [each for each in private.sublayers(model) if not private.is_functional(each)]
    return any(layer.compute_dtype in ("float16", "bfloat16") for layer in layers)


def _specs(model, batch_size, size):
    """What the inputs of a model are, with the names that they have in files."""
    names: list[str] = []
    specs = []
    for tensor in model.inputs:
        name = re.sub(r"\W", "_", tensor.name)
        while name in names:
            name += "_"
        names.append(name)
        sizes = (size if n is None else n for n in tensor.shape[1:])
        batch = batch_size if tensor.shape[0] is None else tensor.shape[0]
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        specs.append(keras.KerasTensor((batch, *sizes), dtype=dtype, name=name))
    return specs
