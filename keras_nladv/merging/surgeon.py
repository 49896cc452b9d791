import hashlib

from keras_nladv.merging import own
from keras_nladv.merging.candidates import Finder, written
from keras_nladv.merging.flattener import Flattener
from keras_nladv.merging.reader import read_steps
from keras_nladv.merging.steps import ActivationStep, MapStep
from keras_nladv.merging.writer import Writer


class Surgeon:
    """Holds a model as steps while it is merged.

    What costs nothing is done at once: activations that are all linear are dropped, normalization
    and padding go into the maps beside them.

    Args:
        model: A model with a graph.

    Attributes:
        steps: List of steps in order.
        shapes: Dict from keys to shapes.
    """

    def __init__(self, model):
        flattener = Flattener()
        self._flat = flattener.copy(model)
        flattener.transfer_weights()
        self.steps, self.shapes, self._ends = read_steps(self._flat)
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

    def candidates(self):
        """Lists what could be merged now, or written as another layer."""
        return list(Finder(self.steps, self._ends).candidates())

    def forms(self):
        """Lists other ways in which partly linear activations could be written now."""
        return list(Finder(self.steps, self._ends).forms())

    def carry_out(self, candidates):
        """Replaces the steps of candidates that have no step in common."""
        for candidate in candidates:
            self._replace(candidate.before, candidate.after)
        self._fold()

    def write(self):
        """Writes the steps as a plain Keras model."""
        writer = Writer()
        model = writer.model(self._flat, self.steps, self._ends)
        writer.set_weights()
        own.require_none(model)
        return model

    def write_to_time(self):
        """Writes the steps as a model with other weights, which need not be composed."""
        return Writer().model(self._flat, self.steps, self._ends)

    def _fold(self):
        while (pair := Finder(self.steps, self._ends).foldable()) is not None:
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
