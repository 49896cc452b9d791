import time
import warnings
from typing import Any

import keras

from keras_nladv.engines.registry import find_engine, likes_of
from keras_nladv.engines.setting import setting
from keras_nladv.merging.candidates import Candidate
from keras_nladv.merging.collapse_plan import CollapsePlan
from keras_nladv.merging.costs import Stopwatch, compared, macs
from keras_nladv.merging.forms import by_liking
from keras_nladv.merging.rescaling import FORMS, FREE
from keras_nladv.merging.steps import MapStep
from keras_nladv.merging.surgeon import Surgeon
from keras_nladv.merging.verification import runs

# What is merged has to be faster by this factor, so that noise does not decide; or for certain, if
# it takes no more multiplications.
WORTHWHILE = 0.97
# What is only written in another way has to be faster by these: as another layer, and in another
# form. It has to take so many multiplications for a batch that it can be told.
REWRITTEN, REFORMED = 0.9, 0.95
TELLING = {REWRITTEN: 1e6, REFORMED: 1e5}
# Seconds of planning after which no more is timed, but what saves much is still merged.
PATIENCE = 150.0
# What a merged kernel may lose in int8, as a multiple of what those lose that it is made of.
LOST = 1.5
# The name of what undoes everything, in a plan.
AS_GIVEN = "all of it, as given"
# So many forms of an activation are compared, of those that the engine runs fastest, as a rule.
WORTH_TIMING = 2
# What takes more times the multiplications than this is not timed.
HOPELESS = 8
# What is slower than this, relative to the network with plain activations, is warned of.
SLOW = 0.97
# What takes less of the multiplications than this is refused only if it is slower for certain:
# that is hardly ever true, and on busy cores often measured.
MUCH = 0.5


class Planner:
    """Decides what to merge in a model, round by round, and has it merged.

    Args:
        model: The model.
        surgeon: A `Surgeon` of the model.
        cost: `"time"` or `"macs"`.
        engine: Name of the engine in which time is measured.
        batch_size: Number of samples in a batch.
        threads: Number of threads.
        size: What unknown sizes are taken for.
        example_inputs: A batch for the model, or `None`.
        for_int8: Whether merges are refused whose kernels lose too much in int8; `None` for what
            is usual in the engine.
    """

    def __init__(
        self,
        model,
        surgeon,
        cost,
        engine,
        batch_size,
        threads,
        size,
        example_inputs,
        for_int8,
    ):
        self._model = model
        self._surgeon = surgeon
        self._cost = cost
        self._batch_size = batch_size
        self._size = size
        self._setting: dict[str, Any] = {}
        if cost == "time":
            self._setting = setting(engine, threads, batch_size) | {"for_int8": for_int8}
        self._stopwatch = Stopwatch(find_engine(engine), threads)
        self._example_inputs = example_inputs
        self._for_int8 = for_int8
        self._rows: list[dict[str, Any]] = []
        self._round = 0
        self._began = time.perf_counter()
        self._are_refusals_listed = False
        # The network as it stands, to be timed, and inputs for it.
        self._whole: Any = None
        self._inputs: Any = None
        # Names of what pays by itself, but not in the network.
        self._barred: set[str] = set()

    def plan(self):
        """Has the surgeon merge what pays. Returns a `CollapsePlan`."""
        fingerprint = self._surgeon.fingerprint()
        self._surgeon.prefer_for(self._setting.get("engine"), self._for_int8)
        # What is merged is compared with layers that are written as is fastest.
        while (self._cost == "time" and self._does(merges=False)) or self._does(merges=True):
            pass
        speed = None
        if self._cost == "time":
            self._undoes()
            speed = self._speed(fingerprint)
        # Of some rounds there is nothing to say.
        numbers = dict.fromkeys(row["round"] for row in self._rows)
        numbers = dict(zip(numbers, range(1, len(numbers) + 1)))
        for row in self._rows:
            row["round"] = numbers[row["round"]]
        return CollapsePlan(self._rows, fingerprint, self._cost, self._setting, speed)

    def _undoes(self):
        """Has everything undone if that is faster for certain: what is folded at once into
        the layers beside it, too."""
        steps, whole = self._surgeon.steps, self._timed()
        self._surgeon.undo()
        try:
            given = self._network(self._inputs)
        except Exception:
            # An engine need not take what was given: then there is nothing to go back to.
            self._surgeon.steps = steps
            return
        found = compared([whole, given], self._inputs, WORTHWHILE)
        if found.high < WORTHWHILE:
            row = {
                "round": self._round + 1,
                "name": AS_GIVEN,
                **dict.fromkeys(("macs_before", "macs_after")),
                "ms_before": found.before,
                "ms_after": found.after,
                "outcome": "taken",
                "reason": "",
            }
            self._rows.append(row)
            self._whole = given
        else:
            self._surgeon.steps = steps

    def _speed(self, fingerprint):
        """How many times as fast the network is as with all its units nonlinear, in their plain
        form, which engines compute together with the layers before; `None` if none is linear.

        What is slower for certain is warned of: there is nothing to go back to, since that network
        is another function.
        """
        plain = Surgeon(self._model, is_nonlinear=True)
        if plain.fingerprint() == fingerprint:
            return None
        engine = self._setting["engine"]
        plain.prefer_for(engine)
        whole = self._timed()
        try:
            reference = self._network(self._inputs, plain)
        except Exception:
            # An engine need not take it.
            return None
        found = compared([reference, whole], self._inputs, 1 / SLOW, patient=True)
        speed = found.before / found.after
        if found.low > 1 / SLOW:
            warnings.warn(
                f"Model '{self._model.name}', collapsed, is {speed:.2f} times as fast in engine "
                f"'{engine}' as it would be with all units nonlinear: its linear units cost time "
                "there, and save less. Have more of them linear, or whole layers "
                '(`granularity="layer"`), or press where it pays: `pressure_weights(model, '
                f"engine='{engine}')`.{self._advice(engine)}",
                stacklevel=4,
            )
        return speed

    def _advice(self, engine):
        """What else may help a network that is slow: to say that it stays in float32."""
        if self._for_int8 is not None or not likes_of(engine).forms_in_float32:
            return ""
        other = Surgeon(self._model)
        other.prefer_for(engine, for_int8=False)
        can = any(getattr(step, "form", "") in FORMS for step in other.steps)
        return " If its weights stay in float32, say `for_int8=False`." if can else ""

    def _timed(self):
        """The network as it was when it was last taken, in the engine."""
        if self._whole is None:
            self._inputs, self._whole = next(
                runs(
                    self._model,
                    self._network,
                    *(self._size, self._batch_size, self._example_inputs),
                )
            )
        return self._whole

    def _does(self, merges):
        """Has that done which pays now. Returns whether to look for more.

        Args:
            merges: Whether layers are merged, or divided in two, or single ones rewritten.
        """
        self._round += 1
        candidates = [each for each in self._surgeon.candidates() if each.rewrites != merges]
        if self._cost == "time":
            forms = self._surgeon.forms()
            divided = [form for form in forms if form.place[0] >= 0]
            candidates += divided if merges else _worth_timing(forms, self._surgeon.liked)
        rated = {candidate: self._rated(candidate) for candidate in candidates}
        gains = {each: gain for each, (_, gain) in rated.items() if gain is not None}
        chosen = choose(gains)
        rows = {each: rated[each][0] for each in chosen}
        pays, why = self._carries_out(rows) if chosen else (False, "")
        blamed = set() if pays else self._blamed(rows, gains)
        for candidate, (row, _) in rated.items():
            if candidate in chosen and pays:
                row |= {"outcome": "taken", "reason": ""}
            elif candidate in blamed:
                row["reason"] = why
                self._barred.add(candidate.name)
            # What is refused stays so, for the same reason.
            elif candidate in chosen or candidate.rewrites or self._are_refusals_listed:
                continue
            self._rows.append(row)
        self._are_refusals_listed |= merges
        return bool(chosen)

    def _rated(self, candidate):
        """The row of the plan for a candidate, refused so far, and what it saves if it pays."""
        row = {
            "round": self._round,
            "name": candidate.name,
            **dict.fromkeys(("macs_before", "macs_after", "ms_before", "ms_after")),
            "outcome": "refused",
            "reason": candidate.reason,
        }
        if candidate.reason or candidate.name in self._barred:
            return row, None
        if self._for_int8 and not candidate.rewrites:
            before, after = (
                [step.map.lost_in_int8 for step in steps if isinstance(step, MapStep)]
                for steps in (candidate.before, candidate.after)
            )
            # Of kernels in a row, what they lose adds up like noise.
            together = sum(each**2 for each in before) ** 0.5
            if max(after, default=0.0) > LOST * together:
                row["reason"] = (
                    f"in int8 a kernel loses {max(after):.1%}, those before {together:.1%} together"
                )
                return row, None
        shape = self._surgeon.shapes[candidate.entry]
        shape = (self._batch_size, *(self._size if n is None else n for n in shape[1:]))
        both = candidate.before, candidate.after
        before, after = row["macs_before"], row["macs_after"] = [macs(x, shape) for x in both]
        if self._cost == "macs":
            gain = before - after if after < WORTHWHILE * before else None
        elif after > HOPELESS * before:
            row["reason"] = "it takes too many multiplications"
            return row, None
        else:
            saves_much = _saves_much([row])
            threshold = 1.0 if saves_much else WORTHWHILE
            if candidate.rewrites and candidate.place[0] < 0:
                threshold = REFORMED
            elif candidate.rewrites and len(candidate.before) == 1:
                threshold = REWRITTEN
            if before * self._batch_size < TELLING.get(threshold, 0):
                return row, None
            if time.perf_counter() - self._began > PATIENCE:
                row["reason"] = "the time for planning was over"
                return row, (before - after) * 1e-9 if saves_much else None
            try:
                found = self._stopwatch.compared(*both, shape, threshold, patient=saves_much)
            except Exception as error:
                # Converters and engines have errors of their own. What is right in Keras need not
                # be something that they can run.
                row["reason"] = f"the engine cannot run it: {_first_line(error)}"
                self._barred.add(candidate.name)
                return row, None
            row["ms_before"], row["ms_after"] = found.before, found.after
            gain = found.before - found.after
            pays = found.after < threshold * found.before
            if candidate.rewrites:
                pays &= found.high < 1
            elif saves_much:
                pays = found.low <= 1
                # Of equals, it is still what is taken.
                gain = max(gain, 1e-3 * found.before)
            elif after <= before:
                # Noise does not decide where it is certain.
                pays |= found.high < 1
            gain = gain if pays else None
        row["reason"] = "it does not pay" if gain is None else "others pay more"
        return row, gain

    def _carries_out(self, rows):
        """Has candidates merged, unless they make the whole network slower.

        Args:
            rows: Dict from candidates to their rows of the plan.

        Returns:
            Whether they are, and why not.
        """
        steps = self._surgeon.steps
        if self._cost == "time":
            self._timed()
        self._surgeon.carry_out(list(rows))
        if self._cost == "time":
            try:
                whole = self._network(self._inputs)
            except Exception as error:
                self._surgeon.steps = steps
                return False, f"the engine cannot run the network with it: {_first_line(error)}"
            saves_much = _saves_much(rows.values())
            found = compared([self._whole, whole], self._inputs, 1.0, patient=saves_much)
            if all(candidate.rewrites for candidate in rows):
                # Nothing is lost where it is not done.
                pays = found.high < 1
            else:
                pays = found.after <= found.before or (saves_much and found.low <= 1)
            if not pays:
                self._surgeon.steps = steps
                return False, "the whole network is not faster with it"
            self._whole = whole
        return True, ""

    def _network(self, inputs, surgeon=None):
        """The network as it stands, or as another surgeon has it, in the engine, after a run on
        these inputs."""
        whole = (surgeon or self._surgeon).write_to_time()
        arrays = keras.tree.flatten(inputs)
        pairs = zip(whole.inputs, arrays)
        sizes = {n for x, y in pairs for m, n in zip(x.shape[1:], y.shape[1:]) if m is None}
        size = sizes.pop() if len(sizes) == 1 else None
        network = self._stopwatch.network(whole, len(arrays[0]), size)
        network(inputs)
        return network

    def _blamed(self, rows, gains):
        """Which candidates are not tried again, of those that do not pay together."""
        much = [each for each, row in rows.items() if _saves_much([row])]
        if 0 < len(much) < len(rows):
            return rows.keys() - much
        # The half that gains least by itself, down to one.
        ranked = sorted(rows, key=lambda each: gains[each] / (rows[each]["ms_before"] or 1))
        return set(ranked[: (len(ranked) + 1) // 2])


def _first_line(error):
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"[:200]


def _worth_timing(forms, liked):
    """Of the ways in which single activations and borders can be written, those to compare.

    Args:
        forms: List of candidates.
        liked: Names of forms, in the order in which the engine runs them fastest, as a rule.
    """
    return [
        form
        for form in forms
        if form.place[0] < 0
        and (
            isinstance(form.after[-1], MapStep)
            or form.after[-1].form in by_liking(form.after[-1], liked)[:WORTH_TIMING]
        )
        # Nothing is faster than what costs nothing.
        and getattr(form.before[-1], "form", "") not in FREE
    ]


def _saves_much(rows):
    """Whether more than half of the multiplications of candidates, by their rows, are saved."""
    before, after = (sum(row[key] for row in rows) for key in ("macs_before", "macs_after"))
    return after < MUCH * before


def choose(gains):
    """Chooses candidates that have no step in common, for the greatest gain.

    Along each chain of maps this is done by dynamic programming over the place where the last
    candidate ends; chains that meet in a sum are then served in the order of gain.

    Args:
        gains: Dict from candidates to what each saves.

    Returns:
        List of candidates.
    """
    chosen = []
    for chain in {candidate.place[0] for candidate in gains}:
        mine = [candidate for candidate in gains if candidate.place[0] == chain]
        # By place: the best total up to it, and the candidates that make it.
        best: list[tuple[tuple[float, int], list[Candidate]]] = [((0.0, 0), [])]
        for place in range(max(candidate.place[2] for candidate in mine) + 1):
            options = [best[-1]]
            for candidate in mine:
                if candidate.place[2] == place:
                    (total, steps), others = best[candidate.place[1]]
                    # Of equal gains, the one that leaves fewer steps.
                    score = total + gains[candidate], steps + len(candidate.before)
                    options.append((score, [*others, candidate]))
            best.append(max(options, key=lambda option: option[0]))
        chosen += best[-1][1]
    used: set[int] = set()
    kept = []
    for candidate in sorted(chosen, key=gains.get, reverse=True):
        steps = set(map(id, candidate.before))
        if used.isdisjoint(steps):
            used |= steps
            kept.append(candidate)
    return kept
