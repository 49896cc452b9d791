import keras


class LocalEngine:
    """Runs cells in this process, one after the other.

    Args:
        directory: The directory of the study.
    """

    def __init__(self, directory):
        self.directory = directory
        self.cell = None

    @property
    def free(self):
        return self.cell is None

    def submit(self, cell):
        self.cell = cell

    def next(self):
        cell, self.cell = self.cell, None
        # What Keras remembers of a cell must not be seen by the next: names of layers, first of
        # all. Seeds and policies each recipe sets for itself.
        keras.utils.clear_session()
        cell.run(self.directory)
        return cell.id
