"""An independent reference: channel graphs whose paths are enumerated one by one."""

import itertools

import networkx as nx

SOURCE, SINK = "source", "sink"


class Reference:
    """Builds the channel graph of a model by the definition, an edge for every connection.

    A tensor is a list of nodes, one a channel. Every edge has the probability with which a walk
    back from its head takes it.
    """

    def __init__(self):
        self.graph = nx.DiGraph()
        self._names = itertools.count()

    def channel(self, operands, nonlinear=0.0):
        """Adds a channel fed by operands, each a list of nodes one of which a walk draws."""
        node = next(self._names)
        self.graph.add_node(node, nonlinear=nonlinear)
        for nodes in operands:
            for fed in nodes:
                # A node on each edge keeps apart the edges between the same two channels.
                edge = next(self._names)
                self.graph.add_node(edge, nonlinear=0.0)
                self.graph.add_edge(fed, edge, probability=1.0)
                self.graph.add_edge(edge, node, probability=1 / len(operands) / len(nodes))
        return node

    def inputs(self, count):
        nodes = [self.channel([]) for _ in range(count)]
        for node in nodes:
            self.graph.add_edge(SOURCE, node, probability=1.0)
        return nodes

    def mixing(self, nodes, size, groups=1):
        parts = [nodes[i * len(nodes) // groups :][: len(nodes) // groups] for i in range(groups)]
        return [self.channel([parts[i * groups // size]]) for i in range(size)]

    def merge(self, *tensors):
        return [self.channel([[node] for node in nodes]) for nodes in zip(*tensors)]

    def activation(self, nodes, nonlinear):
        return [self.channel([[node]], float(flag)) for node, flag in zip(nodes, nonlinear)]

    def path_lengths(self, *outputs):
        """Enumerates all paths. Returns the normalized and the unnormalized average length."""
        graph = self.graph
        outputs = [node for nodes in outputs for node in nodes]
        for node in outputs:
            graph.add_edge(node, SINK, probability=1 / len(outputs))
        graph.nodes[SOURCE]["nonlinear"] = graph.nodes[SINK]["nonlinear"] = 0.0
        walked = total = paths = 0
        for path in nx.all_simple_paths(graph, SOURCE, SINK):
            length = sum(graph.nodes[node]["nonlinear"] for node in path)
            probability = 1.0
            for edge in itertools.pairwise(path):
                probability *= graph.edges[edge]["probability"]
            walked += probability * length
            total += length
            paths += 1
        return walked, total / paths
