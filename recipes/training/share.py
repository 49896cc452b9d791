import keras


class Share(keras.utils.PyDataset):
    """What one of several processes sees of batches: each so many-th example.

    Args:
        batches: A `PyDataset` of arrays.
        rank: The number of the process.
        processes: Number of processes.
    """

    def __init__(self, batches, rank, processes):
        super().__init__()
        self.batches = batches
        self.part = slice(rank, None, processes)

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return keras.tree.map_structure(lambda array: array[self.part], self.batches[index])
