import numpy as np

NO_CHANNEL = 0


class ChannelGraph:
    """The graph of channels that paths run through.

    Nodes are channels, numbered in topological order; edges go from every channel that feeds
    another. A layer that mixes k inputs into n outputs would have k * n edges; one node in between
    makes it k + n and changes neither kind of average. Number 0 stands for "no channel": that of a
    constant, which carries no path.

    Average path lengths are linear in the units' nonlinearity: each unit counts by the share of
    walks, or of paths, that run through its channel. So the graph is walked once, and a path length
    is a scalar product after that.
    """

    def __init__(self):
        self.size = 1
        self._blocks = []
        self._visits = []

    def add_sources(self, count):
        """Adds `count` channels that start paths. Returns their numbers."""
        return self._allocate(count)

    def merge(self, operands):
        """Adds channels that are each fed by one channel of every operand.

        Args:
            operands: Integer array of shape (operands, channels). `NO_CHANNEL` feeds nothing.

        Returns:
            Integer array of shape (channels,), `NO_CHANNEL` where nothing feeds.
        """
        present = operands != NO_CHANNEL
        fed = present.any(axis=0)
        numbers = np.full(operands.shape[1], NO_CHANNEL)
        numbers[fed] = self._allocate(fed.sum())
        if fed.any():
            # Column by column: the feeding channels of one node stand side by side.
            sources = operands[:, fed].T[present[:, fed].T]
            starts = np.concatenate([[0], np.cumsum(present[:, fed].sum(axis=0))])
            self._blocks.append((numbers[fed], sources, starts))
        return numbers

    def mix(self, channels):
        """Adds one channel fed by each distinct channel of an array. Returns its number."""
        distinct = np.unique(channels)
        return (
            self.merge(distinct[distinct != NO_CHANNEL, None])[0] if distinct.any() else NO_CHANNEL
        )

    def fan_out(self, channels):
        """Adds a channel for each element of a flat array, fed by that element."""
        return self.merge(channels[None])

    def visit(self, channels, activation, units, shares):
        """Notes that `channels` run through `units` of an activation.

        A channel may meet several units, at different positions: `shares`, which sum to 1 for a
        channel, say how much each counts.
        """
        self._visits.append((channels, activation, units, shares))

    def unit_weights(self, outputs, sizes, normalized):
        """Computes how much each unit counts in the average path length.

        Args:
            outputs: Integer array, the channels at which paths end.
            sizes: List of the numbers of units of the activations.
            normalized: Whether to weigh walks (each choice uniform) or paths (each counts once).

        Returns:
            List of float64 arrays, one an activation, of the given sizes; and what to divide them
            by. It is divided last, so that the usual path lengths come out without rounding.
        """
        counts = None if normalized else self.path_counts()
        mass = np.zeros(self.size)
        starts = outputs[outputs != NO_CHANNEL]
        if counts is None:
            np.add.at(mass, starts, 1.0)
        else:
            most = max(counts[starts])
            np.add.at(mass, starts, [count / most for count in counts[starts]])
        total = mass.sum()
        for numbers, sources, offsets in reversed(self._blocks):
            lengths = np.diff(offsets)
            if counts is None:
                shares = 1 / np.repeat(lengths, lengths)
            else:
                # Divisions of Python integers: right however large the counts are.
                shares = (counts[sources] / np.repeat(counts[numbers], lengths)).astype(float)
            np.add.at(mass, sources, np.repeat(mass[numbers], lengths) * shares)
        weights = [np.zeros(size) for size in sizes]
        for channels, activation, units, shares in self._visits:
            np.add.at(weights[activation], units, mass[channels] * shares)
        return weights, total

    def path_counts(self):
        """Counts the paths from a source to each channel, in exact integers of any size."""
        counts = np.empty(self.size, dtype=object)
        counts[:] = 1
        for numbers, sources, offsets in self._blocks:
            counts[numbers] = np.add.reduceat(counts[sources], offsets[:-1])
        return counts

    def _allocate(self, count):
        start, self.size = self.size, self.size + int(count)
        return np.arange(start, self.size)
