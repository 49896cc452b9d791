import numpy as np

NO_CHANNEL = 0


class ChannelGraph:
    """The graph of channels that paths run through.

    Nodes are channels, numbered in topological order; edges go from every channel that feeds
    another. A layer that mixes k inputs into n outputs would have k * n edges; one node in between
    makes it k + n and changes neither kind of average. Number 0 stands for "no channel": that of a
    constant, which carries no path.

    An edge whose weights are all zero is left out, but the channel that it would feed is there: one
    that no path reaches is not drawn by walks.

    Some channels are masks, made by comparing ids: they choose among values and are no operands
    beside them. What only masks feed is a mask, unless weights are in between.

    Average path lengths are linear in the units' nonlinearity: each unit counts by the share of
    walks, or of paths, that run through its channel. So the graph is walked once, and a path length
    is a scalar product after that.
    """

    def __init__(self):
        self.size = 1
        self._masks: set[int] = set()
        self._sources = []
        self._blocks = []
        self._visits = []

    def add_sources(self, count):
        """Adds `count` channels that start paths. Returns their numbers."""
        self._sources.append(self._allocate(count))
        return self._sources[-1]

    def is_mask(self, channels):
        """Whether all of an array of channels are masks, apart from `NO_CHANNEL`."""
        return self._masks.issuperset(np.unique(channels[channels != NO_CHANNEL]).tolist())

    def as_masks(self, channels):
        """Adds a mask for each element of a flat array, fed by that element."""
        masks = self.fan_out(channels)
        self._masks.update(masks[masks != NO_CHANNEL].tolist())
        return masks

    def merge(self, operands, nonzero=True):
        """Adds channels that are each fed by one channel of every operand.

        Args:
            operands: Integer array of shape (operands, channels). `NO_CHANNEL` feeds nothing.
            nonzero: Bool array that broadcasts with `operands`: whether there is an edge.

        Returns:
            Integer array of shape (channels,), `NO_CHANNEL` where nothing would feed.
        """
        present = operands != NO_CHANNEL
        numbers = np.full(operands.shape[1], NO_CHANNEL)
        numbers[present.any(axis=0)] = self._allocate(present.any(axis=0).sum())
        feeding = present & nonzero
        fed = feeding.any(axis=0)
        if fed.any():
            # Column by column: the feeding channels of one node stand side by side.
            sources = operands[:, fed].T[feeding[:, fed].T]
            counts = feeding[:, fed].sum(axis=0)
            self._blocks.append((numbers[fed], sources, np.cumsum(counts) - counts))
        if self._masks and present.any():
            choosing = ~present | np.isin(operands, list(self._masks))
            self._masks.update(numbers[present.any(axis=0) & choosing.all(axis=0)].tolist())
        return numbers

    def mix(self, channels):
        """Adds one channel fed by each distinct channel of an array. Returns its number."""
        distinct = np.unique(channels)
        return (
            self.merge(distinct[distinct != NO_CHANNEL, None])[0] if distinct.any() else NO_CHANNEL
        )

    def fan_out(self, channels, nonzero=True):
        """Adds a channel for each element of a flat array, fed by that element where `nonzero`."""
        return self.merge(channels[None], nonzero)

    def connect(self, rows, size, nonzero=None):
        """Adds channels that are fed through weights by the channels of some rows of an array.

        Args:
            rows: Integer array of shape (groups, k, any).
            size: Number of new channels of each group.
            nonzero: Bool array of shape (groups, k, size): which rows of a group feed which of its
                new channels; a single row stands for k equal ones. `None` if all do.

        Returns:
            Integer array of shape (groups, size).
        """
        if nonzero is None:
            hubs = np.array([self.mix(each) for each in rows])
            fed = self.fan_out(hubs.repeat(size)).reshape(-1, size)
        else:
            fed = np.array([self._connect(*group) for group in zip(rows, nonzero)])
        self._masks.difference_update(fed.ravel().tolist())
        return fed

    def _connect(self, rows, nonzero):
        rows = np.broadcast_to(rows, (len(nonzero), rows.shape[1]))
        index = np.broadcast_to(np.arange(len(rows))[:, None], rows.shape)
        pairs = np.unique(np.stack([rows.ravel(), index.ravel()]), axis=1)
        distinct, starts = np.unique(pairs[0], return_index=True)
        # A channel in several rows feeds what any of them does.
        feeds = np.logical_or.reduceat(nonzero[pairs[1]], starts)
        # What is fed alike shares one node in between: all, where no weight is zero.
        columns, alike = np.unique(np.packbits(feeds, axis=0), axis=1, return_inverse=True)
        columns = np.unpackbits(columns, axis=0, count=len(distinct)).astype(bool)
        hubs = self.merge(np.broadcast_to(distinct[:, None], columns.shape), columns)
        return self.fan_out(hubs[alike.ravel()])  # In NumPy 2.0 `alike` has two axes.

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
            by. It is divided last, so that the usual path lengths come out without rounding. It is
            0 if no path reaches an output.
        """
        # What a walk may draw counts once, a channel with its paths as often as there are.
        counts = self.reached() if normalized else self.path_counts()
        mass = np.zeros(self.size)
        ends = outputs[counts[outputs] > 0]
        most = max(counts[ends], default=1)
        np.add.at(mass, ends, [count / most for count in counts[ends]])
        total = mass.sum()
        for numbers, sources, starts in reversed(self._blocks):
            lengths = np.diff(starts, append=len(sources))
            fed = counts[sources]
            # Divisions of Python integers: right however large the counts are.
            shares = fed / np.repeat(np.maximum(np.add.reduceat(fed, starts), 1), lengths)
            np.add.at(mass, sources, np.repeat(mass[numbers], lengths) * shares.astype(float))
        weights = [np.zeros(size) for size in sizes]
        for channels, activation, units, shares in self._visits:
            np.add.at(weights[activation], units, mass[channels] * shares)
        return weights, total

    def path_counts(self):
        """Counts the paths from a source to each channel, in exact integers of any size."""
        return self._from_sources(np.add, object)

    def reached(self):
        """1 for each channel that a path leads to, and else 0."""
        return self._from_sources(np.maximum, int)

    def is_behind_units(self, channels):
        """Whether a path leads from a unit of an activation to any of an array of channels."""
        behind = np.zeros(self.size, bool)
        for visited, *_ in self._visits:
            behind[visited] = True
        for numbers, sources, starts in self._blocks:
            behind[numbers] |= np.logical_or.reduceat(behind[sources], starts)
        return bool(behind[channels].any())

    def _from_sources(self, combine, dtype):
        """1 for each source, and for each other channel what those that feed it combine to."""
        values = np.zeros(self.size, dtype)
        values[np.concatenate(self._sources)] = 1
        for numbers, sources, starts in self._blocks:
            values[numbers] = combine.reduceat(values[sources], starts)
        return values

    def _allocate(self, count):
        start, self.size = self.size, self.size + int(count)
        return np.arange(start, self.size)
