import functools
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_nladv._common.arguments import integer, number
from keras_nladv._keras import private
from keras_nladv.events.event_log import EventLog
from keras_nladv.pruning.kernel import prunable
from keras_nladv.pruning.largest import largest, require_density
from keras_nladv.pruning.masking import constrain, copied, warn_if_cut
from keras_nladv.tangent.batches import count, dense, part
from keras_nladv.tangent.mask_updates import MaskUpdates
from keras_nladv.tangent.stateless import Stateless
from keras_nladv.tangent.streamed_batches import StreamedBatches, is_stream
from keras_nladv.tangent.transfer_distances import transfer_distances
from keras_nladv.tangent.unlabelled_batches import UnlabelledBatches

ESTIMATORS = ("exact", "stochastic")
# Normalization is calibrated on so many batches at most.
CALIBRATION = 64


@keras.saving.register_keras_serializable(package="keras_nladv")
class NeuralTangentTransfer(keras.Model):
    r"""Finds a sparse model without labels, one that will train like a dense one.

    The teacher is the given model, untrained and dense. The student has the weights
    $\theta \odot m$, which start as those of the teacher under masks $m$ that keep a share of each
    kernel, the largest magnitudes. Training moves $\theta$ to minimize, on batches of unlabelled
    inputs,

    $$\mathrm{mean}\,(f_S - f_T)^2 + \lambda_\mathrm{ker}\,\mathrm{mean}\,(K_S - K_T)^2 + P$$

    with $P = \lambda_{L2}\,\lVert \theta \odot m \rVert^2 / \mathrm{density}$, of kernels only. $f$
    are the outputs, and $K$ the tangent kernel between the first and the second half of the batch,
    with all pairs of outputs. Every `mask_every` iterations the masks are made anew of the
    magnitudes of all of $\theta$, so a weight that was pruned can come back. Biases and the weights
    of normalization layers are trained but never masked.

    It is a Keras model that `fit` trains on inputs alone. Then `student` is an ordinary model
    with zeros that last, to be trained on labels like any other. The model given is left as it is.

    **The stochastic estimator** of the kernels' difference needs no kernel: with $v$ of random
    signs, $\lVert (K_S - K_T)\,v \rVert^2$ has the mean $\lVert K_S - K_T \rVert^2$, and its
    gradient has the gradient of that as its mean. The standard deviation is at most
    $\sqrt{2 / p}$ of the mean with $p$ probes, whatever the kernels. A product of a kernel with
    $v$ takes about as much memory as a step of ordinary training, where the exact term holds
    derivatives of every output of every example: networks beyond LeNet become possible.

    **It runs as in `predict`**: dropout is off, and normalization uses moving statistics. Those of
    an untrained model say nothing, so `fit` sets them once to those of its inputs, for teacher and
    student alike; they do not change after that. Regularizers of the model play no part.

    **On several devices**, with a `keras.distribution` or in a scope of `tf.distribute`, it comes
    out as on one. Each device gets whole batches, as a kernel needs them: they take as long.

    In the logs, and thereby in `History`, are the `loss`, the mean squared difference of outputs,
    `output_distance`, that of kernels, `kernel_distance` (or its estimate), and `squared_norm`, the
    last term without its factor.

    Args:
        model: A built Functional or Sequential model with one output, usually untrained.
        density: Float in (0, 1], the share of the weights that is kept.
        scope: `"layer"`, where each kernel keeps its share, or `"global"`, where all are pooled.
        ntk_strength: Float, at least 0, $\lambda_\mathrm{ker}$. The published value is the default.
        l2: Float, at least 0, $\lambda_{L2}$. Published: 1e-5 for convolutional and 1e-4 for
            fully-connected networks.
        mask_every: Integer, the number of iterations between new masks.
        estimator: `"exact"` or `"stochastic"`.
        probes: Integer, the number of random vectors of the stochastic estimator for a batch.
        select: Which layers to prune, see `keras_nladv.pruning.prunable`. Default: all.
        seed: Integer, that of the order of the inputs and of the random vectors.
        name: String, the name of the model.

    Raises:
        ValueError: If an argument is out of range, or if the model has no graph, nothing to prune
            or no derivatives.

    Example:

    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(32, "relu", name="hidden"),
    ...                           keras.layers.Dense(2, name="head")])
    >>> transfer = tangent.NeuralTangentTransfer(model, density=0.25)
    >>> history = transfer.fit(np.random.normal(size=(64, 8)), batch_size=16, verbose=0)
    >>> {name: int(mask.sum()) for name, mask in transfer.masks.items()}
    {'hidden/kernel': 64, 'head/kernel': 16}

    Source: T. Liu, F. Zenke, *Finding trainable sparse networks through Neural Tangent Transfer*,
    arXiv 2006.08228, and the authors' notebooks. The estimator is ours.
    """

    def __init__(
        self,
        model: keras.Model,
        density: float = 0.03,
        scope: str = "layer",
        *,
        ntk_strength: float = 1e-3,
        l2: float = 1e-5,
        mask_every: int = 100,
        estimator: str = "exact",
        probes: int = 1,
        select: str | Sequence[str] | Callable[[str, keras.Layer], bool] | None = None,
        seed: int = 0,
        name: str | None = None,
    ):
        strengths = [
            number(key, value, "a finite number, at least 0", lambda given: given >= 0)
            for key, value in {"ntk_strength": ntk_strength, "l2": l2}.items()
        ]
        if estimator not in ESTIMATORS:
            raise ValueError(f"`estimator` must be one of {ESTIMATORS}. Received: {estimator!r}")
        super().__init__(name=name)
        self.density = require_density(density)
        self.scope = scope
        self.ntk_strength, self.l2 = strengths
        self.mask_every = integer("mask_every", mask_every, least=1)
        self.estimator = estimator
        self.probes = integer("probes", probes, least=1)
        self.select = select
        self.seed = integer("seed", seed, least=0)
        # Its weights are those of the student before they are masked.
        self.network = copied(model)
        self._stateless = Stateless.of(self.network)
        self._kernels = prunable(self.network, select)
        self._teacher = [self._constant("teacher", x) for x in self._stateless.variables]
        self._masks = [self._constant("mask", kernel.variable) for kernel in self._kernels]
        self._distances = [
            keras.metrics.Mean(key)
            for key in ("output_distance", "kernel_distance", "squared_norm")
        ]
        self.built = True
        for teacher, variable in zip(self._teacher, self._stateless.variables):
            # A copy: JAX trains in the memory of the arrays that it is given.
            teacher.assign(ops.copy(variable.value))
        self.update_masks()
        self.compile(keras.optimizers.Adam(5e-4, epsilon=1e-8))

    def _constant(self, name, variable):
        return self.add_weight(
            name=f"{name}_{variable.path.replace('/', '_')}",
            shape=variable.shape,
            dtype=variable.dtype,
            initializer="zeros",
            trainable=False,
        )

    def update_masks(self):
        """Makes the masks anew, of the magnitudes of all weights as they are now."""
        magnitudes = {x.name: np.abs(ops.convert_to_numpy(x.variable)) for x in self._kernels}
        for name, each in magnitudes.items():
            if not np.isfinite(each).all():
                raise ValueError(
                    f"The weights of '{name}' are not finite any more: training has diverged. "
                    "Compile with a smaller learning rate, or choose a smaller `ntk_strength`."
                )
        masks = largest(magnitudes, self.density, self.scope)
        for variable, mask in zip(self._masks, masks.values(), strict=True):
            variable.assign(ops.cast(mask, variable.dtype))

    @property
    def masks(self) -> dict[str, np.ndarray]:
        """Dict from names of kernels to bool arrays, True where a weight is kept."""
        masks = map(ops.convert_to_numpy, self._masks)
        return {kernel.name: mask != 0 for kernel, mask in zip(self._kernels, masks, strict=True)}

    @functools.cached_property
    def student(self) -> keras.Model:
        """The sparse model, with the weights of now. It is made anew only after another `fit`."""
        student = copied(self.network)
        masks = self.masks
        for kernel in prunable(student):
            if kernel.name in masks:
                constrain(kernel, masks[kernel.name])
        warn_if_cut(student)
        return student

    def distances(self, x: Any) -> dict[str, float]:
        """Measures how far the student is from the teacher now, without estimates.

        Args:
            x: Inputs, as `fit` takes them. The kernels are those between two halves of them.

        Returns:
            Dict of `output_distance` and `kernel_distance`, as in the logs.
        """
        x = self._checked(x, "x")
        measured = self._stateless.compiled(transfer_distances)(
            *self._weights(),
            self._stateless.state,
            keras.tree.map_structure(ops.convert_to_tensor, x),
        )
        return {
            metric.name: float(ops.convert_to_numpy(value))
            for metric, value in zip(self._distances, measured)
        }

    def call(self, inputs, training=None):
        x, *signs = keras.tree.map_structure(lambda each: each[0], inputs)
        student, teacher = self._weights()
        masked = {id(kernel.variable) for kernel in self._kernels}
        squares = sum(
            ops.sum(ops.square(value))
            for variable, value in zip(self._stateless.variables, student, strict=True)
            if id(variable) in masked
        )
        state = self._stateless.state
        return *transfer_distances(self._stateless, student, teacher, state, x, *signs), squares

    def _weights(self):
        """The weights of the student and those of the teacher, as tensors."""
        masks = {id(kernel.variable): mask for kernel, mask in zip(self._kernels, self._masks)}
        student = [
            ops.multiply(variable, masks[id(variable)])
            if id(variable) in masks
            else ops.convert_to_tensor(variable)
            for variable in self._stateless.variables
        ]
        return student, [ops.convert_to_tensor(variable) for variable in self._teacher]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        output_distance, kernel_distance, squares = y_pred
        penalty = self.l2 / self.density * squares
        loss = output_distance + self.ntk_strength * kernel_distance + penalty
        # Their gradients are summed.
        return loss / self._replicas

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        for metric, value in zip(self._distances, y_pred, strict=True):
            metric.update_state(value)
        return self.get_metrics_result()

    def fit(
        self,
        x: Any,
        y: None = None,
        *,
        epochs: int = 1,
        batch_size: int = 64,
        validation_data: Any = None,
        validation_freq: int = 1,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        verbose: Any = "auto",
        callbacks: Sequence[keras.callbacks.Callback] = (),
        log_dir: str | os.PathLike[str] | None = None,
    ) -> keras.callbacks.History:
        """Trains the student to be like the teacher.

        To go on after an interruption, give `keras.callbacks.BackupAndRestore`, or load weights
        that were saved after an epoch and say with `initial_epoch` how many there were: masks, the
        state of the optimizer and the teacher are among them, and batches are as they would have
        been.

        Args:
            x: Inputs, an array or a structure of arrays, as the model takes them, without labels.
                Or what makes batches of these: a `tf.data.Dataset`, `keras.utils.PyDataset`,
                `torch.utils.data.DataLoader` or generator. Batches smaller than the first are left
                out then.
            y: Left out.
            epochs: Integer, the number of epochs at the end.
            batch_size: Integer, at least 2. Examples that are left when all batches are full wait
                for another epoch. Not used where `x` makes batches.
            validation_data: Other inputs, on which the distances are measured after epochs.
            validation_freq: Integer, the number of epochs between these.
            initial_epoch: Integer, the number of epochs that there were before.
            steps_per_epoch: Integer, the number of batches in an epoch. Default: all. Generators
                need it.
            validation_steps: Integer, the number of batches of `validation_data` that are used, if
                it makes batches. Default: all.
            verbose: As in `keras.Model.fit`.
            callbacks: List of callbacks.
            log_dir: `None`, or the path of a directory for TensorBoard.

        Returns:
            A `History`.

        Raises:
            ValueError: If there are labels, or if inputs are not numbers, do not fit the model or
                are fewer than a batch.
        """
        if y is not None:
            raise ValueError(
                "Neural tangent transfer takes inputs without labels. Received: x and y"
            )
        if steps_per_epoch is not None:
            steps_per_epoch = integer("steps_per_epoch", steps_per_epoch, least=1)
        batch_size = integer("batch_size", batch_size, least=2)
        steps = {}
        if is_stream(x):
            batches = StreamedBatches(
                x, self._batch, self.seed, self._signs, steps_per_epoch, initial_epoch, self._copies
            )
            # The iterator goes on from epoch to epoch.
            given, prepare, steps = iter(batches), [], {"steps_per_epoch": batches.steps}
        else:
            x = self._checked(x, "x")
            if batch_size > count(x):
                raise ValueError(
                    f"`batch_size` must be at most {count(x)}, the number of examples. Received: "
                    f"batch_size={batch_size}"
                )
            given = batches = self._batches(x, batch_size, steps_per_epoch)
            prepare = [batches.epochs()]
        held_out = None
        if validation_data is not None:
            if is_stream(validation_data):
                stream = StreamedBatches(validation_data, self._batch, 0, self._signs, 1, 0)
                validation_data = stream.gathered(validation_steps)
            held_out = self._checked(validation_data, "validation_data")
            held_out = self._batches(held_out, batch_size)
        if ops.convert_to_numpy(self.optimizer.iterations) == 0:
            self._calibrate(batches)
        # Keras would track an attribute that is set.
        self.__dict__.pop("student", None)
        return super().fit(
            given,
            **steps,
            epochs=epochs,
            initial_epoch=initial_epoch,
            shuffle=False,  # The batches are shuffled.
            validation_data=held_out,
            validation_freq=validation_freq,
            verbose=verbose,
            callbacks=[*prepare, MaskUpdates(), *callbacks, EventLog(log_dir)],
        )

    def _batches(self, x, batch_size, steps=None):
        size = min(batch_size, count(x))
        return UnlabelledBatches(x, size, self.seed, self._signs(size), steps, self._copies)

    @property
    def _copies(self):
        """On how many devices a batch comes: a kernel between two parts of it needs all of it."""
        distribution = keras.distribution.distribution()
        if distribution is not None:
            mesh = distribution.device_mesh
            return mesh.shape[mesh.axis_names.index(distribution.batch_dim_name)]
        return self._replicas

    @property
    def _replicas(self):
        """How often TensorFlow holds the model. Keras has the strategy there alone."""
        strategy = getattr(self, "distribute_strategy", None)
        return 1 if strategy is None else strategy.num_replicas_in_sync

    def _signs(self, size):
        """The shape of the random signs for a batch, `None` if there are none."""
        if self.estimator == "exact":
            return None
        return self.probes, size - size // 2, math.prod(self.network.output_shape[1:])

    def _batch(self, x):
        """The inputs in what a dataset gives."""
        x = tuple(x) if isinstance(x, list) else x  # Data loaders of torch make lists.
        return self._checked(x[0] if isinstance(x, tuple) and len(x) == 1 else x, "x")

    def _checked(self, x, name):
        """`x` as NumPy arrays, if they are inputs."""
        if isinstance(x, tuple) and len(x) > len(self.network.inputs):
            raise ValueError(
                "Neural tangent transfer takes inputs without labels. Received: a tuple of "
                "more than the inputs of the model"
            )
        leaves = keras.tree.flatten(x)
        if not all(len(getattr(each, "shape", ())) for each in leaves):
            raise ValueError(
                f"`{name}` must be an array of inputs, or a structure of arrays. Received: {x!r}"
            )
        x = keras.tree.map_structure(_array, x)
        for each in keras.tree.flatten(x):
            if each.dtype.kind not in "biuf" or not np.isfinite(each).all():
                raise ValueError(
                    f"`{name}` must hold numbers, none of them NaN or infinite. Received: an array "
                    f"of dtype {each.dtype}"
                )
        self._stateless.inputs(part(x, 0, 2), name)
        if count(x) < 2:
            raise ValueError(f"`{name}` must hold at least two examples. Received: {count(x)}")
        return x

    def _calibrate(self, batches):
        """Sets the statistics of normalization to their means over batches of inputs."""
        normalization = [
            layer
            for layer in private.sublayers(self.network)
            if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
        ]
        if not normalization:
            return
        momenta = [layer.momentum for layer in normalization]
        for step, x in enumerate(batches.first(CALIBRATION)):
            for layer in normalization:
                layer.momentum = step / (step + 1)
            self.network(x, training=True)
        for layer, momentum in zip(normalization, momenta):
            layer.momentum = momentum

    def get_config(self):
        return {
            "model": keras.saving.serialize_keras_object(self.network),
            "density": self.density,
            "scope": self.scope,
            "ntk_strength": self.ntk_strength,
            "l2": self.l2,
            "mask_every": self.mask_every,
            "estimator": self.estimator,
            "probes": self.probes,
            "select": [kernel.name.rpartition("/")[0] for kernel in self._kernels],
            "seed": self.seed,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        model = keras.saving.deserialize_keras_object(config["model"], custom_objects)
        return cls(**{**config, "model": model})


def _array(x):
    """An input as a NumPy array, not sparse."""
    is_text = isinstance(x, np.ndarray) and x.dtype.kind in "SUO"
    return x if is_text else ops.convert_to_numpy(dense(x))
