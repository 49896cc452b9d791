from contextlib import contextmanager

import keras

from keras_nladv._keras import private


class Names:
    """Names of layers that are unique in the model at hand."""

    def __init__(self):
        self._taken: list[set[str]] = [set()]

    @contextmanager
    def of_model(self):
        """While it lasts, another model is at hand. Yields whether that is in no other."""
        self._taken.append(set())
        try:
            yield len(self._taken) == 2
        finally:
            self._taken.pop()

    def take(self, name):
        """Notes that a layer of the model at hand has a name."""
        self._taken[-1].add(name)

    def unique(self, name):
        """Returns the name, with a number where a layer of the model at hand has it already."""
        number, unique = 0, name
        while unique in self._taken[-1]:
            number += 1
            unique = f"{name}_{number}"
        self.take(unique)
        return unique

    def tell_apart(self, inputs, outputs):
        """Gives operations another name where a layer, or another operation, has theirs.

        Keras numbers the names of operations in a session, and so gives those that are new to a
        model which was loaded from a file names that are in it already.

        Args:
            inputs: List of the inputs of a model under construction.
            outputs: List of its outputs.
        """
        operations = _operations(inputs, outputs)
        for operation in operations:
            self.take(operation.name)
        met = set()
        # Layers, whose names are those of weights, come first and keep theirs.
        for operation in sorted(operations, key=lambda x: not isinstance(x, keras.Layer)):
            if operation.name in met:
                operation.name = self.unique(operation.name)
            met.add(operation.name)

    def name_outputs(self, names, inputs, outputs):
        """Gives outputs the names by which losses, metrics and targets of a model are given.

        These are the names of the operations that put them out. Another that has such a name gets
        one like it.

        Args:
            names: List of names, one an output.
            inputs: List of the inputs of a model under construction.
            outputs: List of its outputs.
        """
        named = {operation.name: operation for operation in _operations(inputs, outputs)}
        kept = set()
        for name, tensor in zip(names, outputs, strict=True):
            operation, other = private.producer(tensor), named.get(name)
            if id(operation) in kept or id(other) in kept:
                continue
            kept.add(id(operation))
            if other is operation:
                continue
            if other is not None:
                # A layer without its activation, which is now a layer behind it.
                other.name = self.unique(f"{name}_linear")
                named[other.name] = other
            del named[operation.name]
            operation.name = name
            named[name] = operation


def _operations(inputs, outputs):
    """All operations of a model under construction, each once."""
    operations = [private.producer(tensor) for tensor in inputs]
    operations += [node.operation for node in private.nodes_between(inputs, outputs)]
    return list({id(operation): operation for operation in operations}.values())
