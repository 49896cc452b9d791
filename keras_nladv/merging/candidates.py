"""Finds what can be merged exactly in a list of steps."""

import functools
import itertools
import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from keras_nladv.merging.forms import available
from keras_nladv.merging.linear_map import LinearMap
from keras_nladv.merging.steps import ActivationStep, AddStep, MapStep, Step, new_key, same_dtype


@dataclass(eq=False)
class Candidate:
    """Steps that could be replaced by others with the same function.

    Attributes:
        name: What is merged, for people and plans.
        place: Number of the chain of maps that it is part of, and the places of its first and last
            map in there.
        before: List of steps.
        after: List of steps from the same input to the same output.
        reason: Why it cannot be taken; empty if it can.
        rewrites: Whether nothing is merged: it is the same map, written as another layer.
    """

    name: str
    place: tuple[int, int, int]
    before: list[Step]
    after: list[Step] = field(default_factory=list)
    reason: str = ""
    rewrites: bool = False

    @property
    def entry(self):
        """Key of the input."""
        return self.before[0].inputs[0]


class Finder:
    """Finds candidates among steps.

    Args:
        steps: List of steps in order.
        ends: List of the keys that are outputs of the model.
        multiple: What the numbers of channels of narrower convolutions are to be multiples of.
    """

    def __init__(self, steps, ends, multiple=1):
        self._multiple = multiple
        self._steps = steps
        self._ends = ends
        self._consumers = defaultdict(list)
        self._makers: dict[int, Step] = {}
        for step in steps:
            for key in step.inputs:
                self._consumers[key].append(step)
            self._makers.update((key, step) for key in step.outputs)

    def foldable(self):
        """The first two maps that can be made one without more work, or `None`.

        Normalization goes into the map before it; padding, and normalization where it can, into the
        map after it.
        """
        for step in self._steps:
            if not isinstance(step, MapStep):
                continue
            activation, after = self._following(step)
            if after is None or activation is not None or step.map.joins(after.map):
                continue
            needs_one = after.map.is_padded and step.map.is_biased
            if after.map.is_scale or (step.kind == "any" and not needs_one):
                return step, after
        return None

    def candidates(self):
        """Yields all candidates; those with a reason cannot be taken."""
        covered: set[int] = set()
        for number, chain in enumerate(self._chains()):
            for place, step in enumerate(chain[::2]):
                rank = step.map.rank
                if step.kind != "any" and step.axis == -1 and step.map.is_matrix and rank > 0:
                    kind = "dense" if step.kind == "conv" else "conv"
                    layer = "Dense" if kind == "dense" else f"Conv{rank}D"
                    yield Candidate(
                        f"{step.name} as {layer}",
                        (number, place, place),
                        [step],
                        [replace(step, kind=kind, node=None)],
                        rewrites=True,
                    )
        for number, run, between, ends in self.runs():
            for candidate in self.merged(run, between, (number, *ends)):
                covered.update(map(id, between))
                yield candidate
        for step in self._steps:
            if isinstance(step, ActivationStep) and step.linear.any() and id(step) not in covered:
                yield Candidate(step.name, (-1, 0, 0), [step], reason=self.barrier(step))

    def forms(self):
        """Yields other ways to write activations of which some units are linear, and borders.

        These are all right and differ in time only, by where the network runs: the form of the
        activation, with the map before it, which may be computed together with it; and the layers
        around it divided in two of fewer channels, of which one has no activation. So are constant
        channels.
        """
        names = Counter(step.name for step in self._steps)
        for number, step in enumerate(self._steps):
            if isinstance(step, ActivationStep) and step.slopes.any():
                maker = self._makers.get(step.inputs[0])
                fused = isinstance(maker, MapStep) and self._only_consumer(maker) is step
                before: list[Any] = [maker, step] if fused else [step]
                # One that is shared stands in several places.
                named = before if names[step.name] > 1 else [step]
                name = " + ".join(x.name for x in named)
                now, *_ = [step.form] if step.form else available(step)
                for form in available(step):
                    if form != now:
                        rewritten = replace(step, form=form, node=None)
                        # As if it were a chain of its own: its forms exclude each other.
                        yield Candidate(
                            f"{name} as {form}",
                            (-2 - number, 0, 0),
                            before,
                            [*before[:-1], rewritten],
                            rewrites=True,
                        )
            if isinstance(step, MapStep) and step.map.takes_one and step.border == "computed":
                yield Candidate(
                    f"{step.name} with a constant border",
                    (-2 - number, 0, 0),
                    [step],
                    [replace(step, border="constant", node=None)],
                    rewrites=True,
                )
        for number, run, between, (first, last) in self.runs():
            if len(run) > 1 and not all(each is None or each.linear.all() for each in between):
                straight = _straight(run, between)
                if straight is not None and not isinstance(straight, str):
                    linear, rest = (
                        _branch(run, between, channels, self._multiple, is_linear)
                        for channels, is_linear in ((straight, True), (~straight, False))
                    )
                    yield Candidate(
                        f"{' + '.join(step.name for step in run)} in two",
                        (number, first, last),
                        _in_order(run, between),
                        _side_by_side(run[0].inputs[0], linear, rest, run[-1]),
                        rewrites=True,
                    )

    def runs(self):
        """Yields all runs of maps in chains: the number of the chain, the maps, what is between
        them, and the places of the first and last."""
        for number, chain in enumerate(self._chains()):
            maps, activations = chain[::2], chain[1::2]
            for ends in itertools.combinations_with_replacement(range(len(maps)), 2):
                first, last = ends
                yield number, maps[first : last + 1], activations[first:last], ends

    def merged(self, run, between, place):
        """Yields what a run of maps, with activations between them, could be merged to."""
        before = _in_order(run, between)
        name = " + ".join(step.name for step in run)
        merged = merge(run, between, self._multiple)
        if isinstance(merged, str):
            if len(run) == 2:
                yield Candidate(name, place, before, reason=merged)
            return
        direct, rest = merged
        if direct is None:
            return
        if len(run) > 1:
            yield Candidate(name, place, before, written(run, run[-1], direct, rest))
        closed = self._closed(run, direct)
        if closed is not None:
            shortcuts, add, total = closed
            yield Candidate(
                f"{name} + {add.name}",
                place,
                [*before, *shortcuts, add],
                written(run, add, total, rest, shortcuts),
            )

    def _chains(self):
        """Lists chains: by turns a map and the activation after it, `None` if there is none."""
        chains = []
        for step in self._steps:
            if isinstance(step, MapStep) and not self._is_inside(step):
                chain = [step]
                while True:
                    activation, after = self._following(chain[-1])
                    if after is None:
                        break
                    chain += [activation, after]
                chains.append(chain)
        return chains

    def _only_consumer(self, step):
        (key,) = step.outputs
        consumers = self._consumers[key]
        return consumers[0] if len(consumers) == 1 and key not in self._ends else None

    def _following(self, step):
        """The activation and the map behind a map, `None` for what there is not."""
        after, activation = self._only_consumer(step), None
        if isinstance(after, ActivationStep) and _joins(step, after):
            activation, after = after, self._only_consumer(after)
        if not isinstance(after, MapStep) or not _joins(step, after):
            return activation, None
        return activation, after

    def _is_inside(self, step):
        """Whether a map stands behind another one."""
        maker = self._makers.get(step.inputs[0])
        if isinstance(maker, ActivationStep):
            maker = self._makers.get(maker.inputs[0])
        return isinstance(maker, MapStep) and self._following(maker)[1] is step

    def _closed(self, run, direct):
        """The sum behind a run of maps, where its other operands are maps of the run's input, too.

        Returns:
            The steps of those maps, the `AddStep`, and one map for all; or `None`.
        """
        add, entry = self._only_consumer(run[-1]), run[0].inputs[0]
        if not isinstance(add, AddStep) or not same_dtype(run[-1], add):
            return None
        total, shortcuts = direct, []
        operands = list(add.inputs)
        operands.remove(run[-1].outputs[0])
        for key in operands:
            maker = self._makers.get(key)
            if key == entry:
                identity = LinearMap.diagonal(
                    np.ones(direct.outputs), np.zeros(direct.outputs), direct.rank
                )
                shortcut = identity
            elif (
                isinstance(maker, MapStep)
                and maker.inputs[0] == entry
                and self._only_consumer(maker) is add
                and _joins(run[0], maker)
            ):
                shortcuts.append(maker)
                shortcut = maker.map
            else:
                return None
            if shortcut.strides != total.strides:
                return None
            total = total.plus(shortcut)
        return shortcuts, add, total

    def barrier(self, activation):
        """Why the linear channels of an activation are not between two maps."""
        maker = self._makers.get(activation.inputs[0])
        if maker is None:
            return "it acts on the model's input"
        if not isinstance(maker, MapStep):
            return f"before it: {_kind(maker)}"
        if maker.axis != activation.axis:
            return f"its units lie along another axis than the channels of {maker.name}"
        (key,) = activation.outputs
        if len(self._consumers[maker.outputs[0]]) > 1 or maker.outputs[0] in self._ends:
            return "what it acts on is used elsewhere, too"
        if key in self._ends:
            return "it is an output of the model"
        if len(self._consumers[key]) > 1:
            names = ", ".join(sorted(step.name for step in self._consumers[key]))
            return f"several consumers: {names}"
        (after,) = self._consumers[key]
        typed = [maker, activation, *([after] if isinstance(after, MapStep) else [])]
        if not same_dtype(*typed):
            return "dtypes differ: " + ", ".join(
                f"{step.name} in {step.policy.compute_dtype}" for step in typed
            )
        if isinstance(after, MapStep) and after.axis == activation.axis:
            depthwise = " and ".join(x.name for x in (maker, after) if _splits_by_inputs(x.map))
            return f"its units are not linear on the other side of {depthwise}, too"
        return f"after it: {_kind(after)}"


def _joins(step, other):
    """Whether another step has its channels along the same axis, and numbers of the same type."""
    return step.axis == other.axis and same_dtype(step, other)


def _in_order(run, between):
    """A run of maps with the activations between them."""
    return [step for pair in zip(run, [*between, None]) for step in pair if step]


def merge(run, activations, multiple=1):
    """What the linear channels of a run of maps merge to.

    Args:
        run: List of `MapStep`s.
        activations: List of what is between them, `None` for nothing.
        multiple: See `Finder`.

    Returns:
        The `LinearMap` of the channels that are linear throughout, `None` if there are none, and
        the steps of the other channels, without keys. Or the reason why the run cannot be merged.
    """
    if all(each is None or each.linear.all() for each in activations):
        direct = _composed([step.map for step in run])
        return direct if isinstance(direct, str) else (direct, [])
    straight = _straight(run, activations)
    if straight is None:
        return None, []
    if isinstance(straight, str):
        return straight
    direct = _composed(_parts([step.map for step in run], straight))
    if isinstance(direct, str):
        return direct
    return direct, _branch(run, activations, ~straight, multiple)


def _straight(run, activations):
    """The channels of a run of maps that are linear throughout, and can be told from the others.

    Returns:
        Bool array by output channel of the first map, `None` if there are none. Or the reason why
        they cannot be told apart.
    """
    first, *middle, last = (step.map for step in run)
    through = all(each.is_depthwise for each in middle)
    if any(each is not None and each.weights for each in activations):
        return None  # They are those of all channels.
    if _splits_by_inputs(first) or _splits_by_inputs(last) or not through:
        return None
    # A depthwise convolution may make several of each channel; those of one channel go together.
    channels = first.outputs
    straight = np.ones(channels, bool)
    for each in activations:
        if each is not None:
            straight &= each.linear.reshape(channels, -1).all(axis=1)
    if not straight.any():
        return None
    groups = math.lcm(first.groups, last.groups)
    if channels % groups == 0:
        straight = _evenly(straight, groups)
    if channels % groups or not straight.any():
        return "groups: each needs as many linear units as the others, and some have none"
    return straight


def _branch(run, activations, channels, multiple, is_linear=False):
    """The steps of some channels of a run of maps, without keys.

    Args:
        run: List of `MapStep`s.
        activations: List of what is between them, `None` for nothing.
        channels: Bool array by output channel of the first map.
        multiple: What their number is to be a multiple of: channels of zeros come in addition.
        is_linear: Whether they are linear throughout. The bias of the last map goes with these.
    """
    parts = _parts([step.map for step in run], channels)
    if not is_linear:
        parts[-1] = parts[-1].without_bias()
    zeros = int(-channels.sum() % multiple) if _takes_zeros(run) else 0
    if channels.sum() + zeros >= len(channels):
        zeros = 0
    steps = []
    for number, (step, part, activation) in enumerate(zip(run, parts, [*activations, None])):
        if number == 0:
            part = part.with_zeros(outputs=zeros)
        elif number < len(run) - 1:
            part = part.with_zeros(groups=zeros)
            # A depthwise convolution may make several of each channel.
            zeros *= part.shape[-1]
        else:
            part = part.with_zeros(inputs=zeros)
        name = f"{step.name}_linear" if is_linear else step.name
        steps.append(replace(step, name=name, map=part, node=None))
        if activation is not None and not is_linear:
            others = np.repeat(channels, len(activation.slopes) // len(channels))
            rest = activation.restricted(others)
            steps.append(replace(rest, slopes=np.append(rest.slopes, np.zeros(zeros))))
    return steps


def _takes_zeros(run):
    """Whether a run of maps is of convolutions that channels of zeros can be added to."""
    ends = run[0].map, run[-1].map
    return (
        any(step.kind == "conv" for step in run)
        and all(each.groups == 1 for each in ends)
        and not any(step.map.takes_one for step in run)
    )


def _splits_by_inputs(linear):
    """Whether the channels of a map can only be told apart together with those that feed them.

    What has one input channel is depthwise, too, but any of its outputs can be had alone.
    """
    return linear.is_depthwise and linear.groups > 1


def _evenly(channels, groups):
    """As many of some channels in each of the groups as there are in the one with the fewest."""
    parts = channels.reshape(groups, -1)
    fewest = parts.sum(axis=1).min()
    return (parts & (parts.cumsum(axis=1) <= fewest)).ravel()


def _parts(maps, channels):
    """The maps of a run, between the first and last restricted to some channels of the first."""
    first, *middle, last = maps
    parts = [first.restricted(outputs=channels)]
    for each in middle:
        inputs = np.repeat(channels, each.inputs // len(channels))
        parts.append(each.restricted(inputs=inputs))
    return [*parts, last.restricted(inputs=np.repeat(channels, last.inputs // len(channels)))]


def _composed(maps):
    """One map for several, or why not."""
    if all(each.is_matrix for each in maps) and maps[0].inputs > maps[-1].outputs:
        # From the narrow end it takes fewer operations.
        return functools.reduce(lambda after, first: first.then(after), reversed(maps))
    result, *following = maps
    for after in following:
        reason = result.joins(after)
        if reason:
            return reason
        result = result.then(after)
    return result


def written(run, last, direct, rest, shortcuts=()):
    """Steps from the input of a run of maps to the output of a step.

    Args:
        run: List of `MapStep`s that are replaced.
        last: The last step that is replaced.
        direct: The `LinearMap` of the linear channels.
        rest: List of steps that stand in a row beside it.
        shortcuts: List of `MapStep`s beside the run that are replaced, too.
    """
    first = run[0]
    (entry,), (exit_key,) = first.inputs, last.outputs
    kinds = {step.kind for step in run} - {"any"}
    kind = kinds.pop() if len(kinds) == 1 else "conv" if kinds else "any"
    # What is folded into a layer does not give it its name.
    name = next((step.name for step in reversed(run) if step.kind != "any"), last.name)
    name += "_direct" if rest else ""
    trainable = any(step.trainable for step in (*run, *shortcuts))
    common = {"axis": first.axis, "kind": kind, "policy": first.policy, "trainable": trainable}
    if not rest:
        return [MapStep(name, [entry], [exit_key], map=direct, **common)]
    straight = MapStep(name, [], [], map=direct, **common)
    return _side_by_side(entry, [straight], rest, last)


def _side_by_side(entry, linear, rest, last):
    """Two rows of steps from one tensor to the output of a step, where they are added.

    Args:
        entry: Key of the tensor.
        linear: List of steps in a row, without keys.
        rest: Likewise.
        last: The step.
    """
    steps: list[Step] = []
    ends = []
    for row in (rest, linear):
        key = entry
        for step in row:
            key, before = new_key(), key
            steps.append(replace(step, inputs=[before], outputs=[key]))
        ends.append(key)
    name = last.name if isinstance(last, AddStep) else f"{last.name}_sum"
    return [*steps, AddStep(name, ends, last.outputs, policy=linear[0].policy)]


def _kind(step):
    return f"{step.name} ({step.reason})" if step.reason else step.name
