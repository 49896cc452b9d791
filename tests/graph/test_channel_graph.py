"""Graphs of a few channels, of which all paths can be listed."""

import numpy as np
import pytest

from keras_nladv.graph.channel_graph import NO_CHANNEL, ChannelGraph

pytestmark = pytest.mark.once


def random_graph(rng):
    """A graph of merges, with what feeds each channel, and the channels that are units."""
    graph = ChannelGraph()
    channels = [NO_CHANNEL, *graph.add_sources(3)]
    fed_by = {number: [] for number in channels}
    units = []
    for activation in range(4):
        operands = rng.choice(channels, (int(rng.integers(1, 4)), 3))
        nonzero = rng.random(operands.shape) < 0.8
        numbers = graph.merge(operands, nonzero)
        for number, column, feeds in zip(numbers, operands.T, nonzero.T):
            if number != NO_CHANNEL:
                fed_by[number] = [int(x) for x in column[feeds] if x != NO_CHANNEL]
        chosen = numbers[(numbers != NO_CHANNEL) & (rng.random(3) < 0.5)]
        graph.visit(chosen, activation, np.arange(len(chosen)), np.ones(len(chosen)))
        units.append(chosen)
        channels += list(numbers[numbers != NO_CHANNEL])
    return graph, fed_by, units, channels


def paths_to(channel, fed_by):
    """All paths to a channel, with the probabilities that walks back from it take them."""
    if 1 <= channel <= 3:
        return [([channel], 1.0)]
    feeding = [(x, paths) for x in fed_by[channel] if (paths := paths_to(x, fed_by))]
    return [
        ([*path, channel], share / len(feeding)) for _, paths in feeding for path, share in paths
    ]


@pytest.mark.parametrize("seed", range(20))
def test_all_paths_are_listed(seed):
    graph, fed_by, units, channels = random_graph(np.random.default_rng(seed))
    known = np.array(sorted(set(channels) - {NO_CHANNEL}))
    paths = {channel: paths_to(channel, fed_by) for channel in known}
    assert graph.path_counts()[known].tolist() == [len(paths[x]) for x in known]
    assert graph.reached()[known].tolist() == [bool(paths[x]) for x in known]
    visited = set(np.concatenate(units).tolist())

    def is_behind(channel):
        return channel in visited or any(map(is_behind, fed_by[channel]))

    assert [graph.is_behind_units(known[[i]]) for i in range(len(known))] == [
        is_behind(channel) for channel in known
    ]
    ends = known[-3:]
    for normalized in (True, False):
        weights, total = graph.unit_weights(ends, [len(each) for each in units], normalized)
        shares = [
            (path, share if normalized else 1.0) for end in ends for path, share in paths[end]
        ]
        right = [
            [sum(share for path, share in shares if unit in path) for unit in each]
            for each in units
        ]
        scale = sum(share for _, share in shares) / total if total else 1.0
        for one, other in zip(weights, right, strict=True):
            np.testing.assert_allclose(one * scale, other, rtol=1e-12)
