"""An independent reference: channel graphs whose paths are enumerated one by one."""

import itertools

import networkx as nx

SOURCE, SINK = "source", "sink"


class Reference:
    """Builds the channel graph of a model by the definition, an edge for every connection.

    A tensor is a list of nodes, one a channel. What feeds a channel are operands, each a list of
    nodes: a walk back draws an operand, and one of its nodes, among those that a path reaches.
    """

    def __init__(self):
        self.graph = nx.DiGraph()
        self._names = itertools.count()

    def channel(self, operands, nonlinear=0.0):
        """Adds a channel fed by operands."""
        node = next(self._names)
        self.graph.add_node(node, nonlinear=nonlinear, operands=[])
        for nodes in operands:
            # A node on each edge keeps apart the edges between the same two channels.
            edges = list(itertools.islice(self._names, len(nodes)))
            self.graph.add_nodes_from(edges, nonlinear=0.0, operands=[])
            self.graph.add_edges_from(zip(nodes, edges))
            self.graph.add_edges_from((edge, node) for edge in edges)
            self.graph.nodes[node]["operands"].append(edges)
        return node

    def inputs(self, count):
        nodes = [self.channel([]) for _ in range(count)]
        for node in nodes:
            self.graph.add_edge(SOURCE, node)
        return nodes

    def mixing(self, nodes, size, groups=1, nonzero=None):
        """A layer that mixes: `nonzero[i][j]` tells whether input i of a group feeds output j."""
        count = len(nodes) // groups
        nonzero = [[True] * size] * count if nonzero is None else nonzero
        parts = [nodes[i * count :][:count] for i in range(groups)]
        return [
            self.channel([[x for x, row in zip(parts[j * groups // size], nonzero) if row[j]]])
            for j in range(size)
        ]

    def scaling(self, nodes, nonzero):
        return [self.channel([[node] * bool(flag)]) for node, flag in zip(nodes, nonzero)]

    def merge(self, *tensors):
        return [self.channel([[node] for node in nodes]) for nodes in zip(*tensors)]

    def activation(self, nodes, nonlinear):
        return [self.channel([[node]], float(flag)) for node, flag in zip(nodes, nonlinear)]

    def path_lengths(self, *outputs):
        """Enumerates all paths.

        Returns:
            The normalized and the unnormalized average length, and the number of paths.
        """
        graph = self.graph
        outputs = [node for nodes in outputs for node in nodes]
        graph.add_edges_from((node, SINK) for node in outputs)
        reached = nx.descendants(graph, SOURCE)
        graph.add_node(SOURCE, nonlinear=0.0, operands=[])
        graph.add_node(SINK, nonlinear=0.0, operands=[outputs])
        for _, data in graph.nodes(data=True):
            drawn = [[node for node in nodes if node in reached] for nodes in data["operands"]]
            drawn = [nodes for nodes in drawn if nodes]
            data["drawn"] = {node: 1 / len(drawn) / len(nodes) for nodes in drawn for node in nodes}
        walked = total = paths = 0
        for path in nx.all_simple_paths(graph, SOURCE, SINK):
            length = sum(graph.nodes[node]["nonlinear"] for node in path)
            probability = 1.0
            for tail, head in itertools.pairwise(path):
                probability *= graph.nodes[head]["drawn"].get(tail, 1.0)
            walked += probability * length
            total += length
            paths += 1
        return walked, total / max(paths, 1), paths
