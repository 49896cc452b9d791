import keras


class Taps:
    """Watches calls of layers: what they multiply their variables with, and what results.

    It is a context. Calls in it are noted, and tensors are added to their results.

    Args:
        structures: List of `Structure`s, of layers.
        shifts: Optional list of the tensors to be added, one for each call.

    Attributes:
        calls: List of tuples of the structure, the operand and the result of each call.
        strays: Set of the ids of variables of the layers that were read outside of their calls,
            in a `scope` of this object.
    """

    def __init__(self, structures, shifts=None):
        self.calls = []
        self.strays = set()
        self._structures = structures
        self._shifts = shifts
        self._running = []
        self._originals = []

    def __enter__(self):
        for structure in self._structures:
            patches = structure.patches(self._noting(structure))
            patches["call"] = self._running_in(structure, patches["call"])
            attributes = structure.layer.__dict__
            self._originals.append((attributes, patches, dict(attributes)))
            # Not by assignment: a layer looks for layers and variables in what it is assigned.
            attributes.update(patches)
        return self

    def __exit__(self, *_):
        for attributes, patches, originals in self._originals:
            for name in patches:
                # What was no attribute of the layer itself is one of its class.
                del attributes[name]
                if name in originals:
                    attributes[name] = originals[name]

    def scope(self, pairs):
        """A `keras.StatelessScope` that notes strays."""
        owners = {id(each): own for own in self._structures for each in own.variables.values()}
        taps = self

        class Scope(keras.StatelessScope):
            def get_current_value(self, variable):
                owner = owners.get(id(variable))
                if owner is not None and taps._running[-1:] != [owner]:
                    taps.strays.add(id(variable))
                return super().get_current_value(variable)

        return Scope(pairs)

    def _noting(self, structure):
        def note(operand, result):
            if self._shifts is not None:
                result = result + self._shifts[len(self.calls)]
            self.calls.append((structure, operand, result))
            return result

        return note

    def _running_in(self, structure, call):
        def running_call(*args, **kwargs):
            self._running.append(structure)
            try:
                return call(*args, **kwargs)
            finally:
                self._running.pop()

        return running_call
