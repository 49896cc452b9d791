import hashlib
from dataclasses import replace

import keras

from keras_nladv.engines.registry import likes_of
from keras_nladv.layers.sparse_prelu import SparsePReLU
from keras_nladv.merging import own
from keras_nladv.merging.candidates import Finder, written
from keras_nladv.merging.flattener import Flattener
from keras_nladv.merging.forms import by_liking
from keras_nladv.merging.reader import read_steps
from keras_nladv.merging.rescaling import ROUNDING, factorable, in_next_form, rescaled
from keras_nladv.merging.steps import ActivationStep, MapStep
from keras_nladv.merging.writer import Writer


class Surgeon:
    """Holds a model as steps while it is merged.

    What costs nothing is done at once: activations that are all linear are dropped, normalization
    and padding go into the maps beside them.

    Args:
        model: A model with a graph.
        is_nonlinear: Whether all its slopes are taken for 0.

    Attributes:
        steps: List of steps in order.
        shapes: Dict from keys to shapes.
        liked: Tuple of the forms of partly linear activations, in the order of `prefer_for`.
    """

    def __init__(self, model, is_nonlinear=False):
        flattener = Flattener()
        self._flat = flattener.copied(model)
        flattener.copies.transfer_weights()
        self._originals = {id(copy): id(original) for original, copy in flattener.copies}
        self._multiple = 1
        self.liked: tuple[str, ...] = ()
        if is_nonlinear:
            for layer in self._flat.layers:
                if isinstance(layer, (SparsePReLU, keras.layers.PReLU)):
                    for slopes in (layer.alpha, getattr(layer, "side", layer.alpha)):
                        slopes.assign(keras.ops.zeros(slopes.shape))
        self.steps, self.shapes, self._ends = read_steps(self._flat)
        self._given = self.steps
        self._fold()

    def fingerprint(self):
        """A hash of what a plan depends on: the steps and which channels are linear."""
        digest = hashlib.sha256()
        for step in self.steps:
            parts = [type(step).__name__, step.name]
            if isinstance(step, MapStep):
                parts += [step.map.shape, step.map.strides, step.map.pads]
            if isinstance(step, ActivationStep):
                parts.append(step.linear.tolist())
            digest.update(repr(parts).encode())
        return digest.hexdigest()

    def prefer_for(self, engine, for_int8=None):
        """Has things written in the way that an engine runs fastest, as a rule.

        Partly linear activations in one of their forms: that is what others are compared with. Not
        all are, in large networks for want of time, and in small ones because it could not be told.
        And convolutions with as many channels as it likes.

        Args:
            engine: Name of the engine, or `None`.
            for_int8: Whether there have to be no kernels that int8 cannot hold; `None` for what is
                usual in the engine.
        """
        likes = likes_of(engine)
        self._multiple = likes.multiple
        self.liked = (for_int8 is False and likes.forms_in_float32) or likes.forms
        if not for_int8:
            self.steps = factorable(self.steps, self._ends, self.liked)
        # Keras' own order is that of the forms.
        if engine not in (None, "keras") or self.liked is not likes.forms:
            self.steps, self._given = (
                [self._in_liked_form(step, likes) for step in steps]
                for steps in (self.steps, self._given)
            )

    def rounds_less(self):
        """Has those forms left out that round most. Returns whether there were any."""
        rounding = [step for step in self.steps if getattr(step, "form", "") == ROUNDING]
        for step in rounding:
            self._replace([step], [in_next_form(step, self.liked)])
        return bool(rounding)

    def undo(self):
        """Takes the steps back to what the model was read as, with nothing folded or merged."""
        self.steps = self._given

    def original(self, step):
        """The `id` of the model's layer or operation that a step was read from, or `None`."""
        return step.node and self._originals.get(id(step.node.operation))

    def finder(self):
        """The `Finder` of the steps as they are now."""
        return Finder(self.steps, self._ends, self._multiple)

    def candidates(self):
        """Lists what could be merged now, or written as another layer."""
        return list(self.finder().candidates())

    def forms(self):
        """Lists other ways in which partly linear activations could be written now."""
        return list(self.finder().forms())

    def carry_out(self, candidates):
        """Replaces the steps of candidates that have no step in common."""
        for candidate in candidates:
            self._replace(candidate.before, candidate.after)
        self._fold()

    def write(self):
        """Writes the steps as a plain Keras model."""
        writer = Writer()
        model = self._written_by(writer)
        writer.set_weights()
        own.require_none(model)
        return model

    def write_to_time(self):
        """Writes the steps as a model with other weights, which need not be composed."""
        return self._written_by(Writer())

    def _written_by(self, writer):
        steps = rescaled(self.steps, self._ends, self.liked)
        return writer.model(self._flat, steps, self._ends)

    def _in_liked_form(self, step, likes):
        if not isinstance(step, ActivationStep) or not step.slopes.any():
            return step
        shape = self.shapes[step.inputs[0]]
        others = {0} if step.axis is None else {0, step.axis % len(shape)}
        positions = {size for axis, size in enumerate(shape) if axis not in others}
        forms = likes.forms_at_one_position if positions <= {1} else ()
        return replace(step, form=by_liking(step, forms or self.liked)[0])

    def _fold(self):
        while (pair := self.finder().foldable()) is not None:
            first, second = pair
            self._replace([*pair], written([*pair], second, first.map.then(second.map), []))

    def _replace(self, before, after):
        place = max(map(self.steps.index, before))
        gone = set(map(id, before))
        tail = self.steps[place + 1 :]
        head = [step for step in self.steps[: place + 1] if id(step) not in gone]
        self.steps = [*head, *after, *tail]
        for step in after:
            self.shapes[step.outputs[0]] = step.shape(self.shapes[step.inputs[0]])
