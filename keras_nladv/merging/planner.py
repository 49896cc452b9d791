from typing import Any

from keras_nladv.merging.candidates import Candidate
from keras_nladv.merging.collapse_plan import CollapsePlan
from keras_nladv.merging.costs import Stopwatch, compared, macs
from keras_nladv.merging.verification import runs

# What is merged has to be faster by this factor, so that noise does not decide.
WORTHWHILE = 0.97
# What is only written as another layer has to be faster by this one, and to take so many
# multiplications for a batch that it can be told.
REWRITTEN, TELLING = 0.9, 1e6
# What takes more times the multiplications than this is not timed.
HOPELESS = 8


class Planner:
    """Decides what to merge in a model, round by round, and has it merged.

    Args:
        model: The model.
        surgeon: A `Surgeon` of the model.
        cost: `"time"` or `"macs"`.
        batch_size: Number of samples in a batch.
        size: What unknown sizes are taken for.
        example_inputs: A batch for the model, or `None`.
    """

    def __init__(self, model, surgeon, cost, batch_size, size, example_inputs=None):
        self._model = model
        self._surgeon = surgeon
        self._cost = cost
        self._batch_size = batch_size
        self._size = size
        self._example_inputs = example_inputs
        self._stopwatch = Stopwatch()
        self._rows: list[dict[str, Any]] = []
        self._round = 0
        self._are_refusals_listed = False
        # The network as it stands, to be timed, and inputs for it.
        self._whole: Any = None
        self._inputs: Any = None
        # Names of what pays by itself, but not in the network.
        self._barred: set[str] = set()

    def plan(self):
        """Has the surgeon merge what pays. Returns a `CollapsePlan`."""
        fingerprint = self._surgeon.fingerprint()
        # What is merged is compared with layers that are written as is fastest.
        while (self._cost == "time" and self._does(rewrites=True)) or self._does(rewrites=False):
            pass
        return CollapsePlan(self._rows, fingerprint, self._cost)

    def _does(self, rewrites):
        """Has that done which pays now. Returns whether to look for more."""
        self._round += 1
        candidates = [each for each in self._surgeon.candidates() if each.rewrites == rewrites]
        rated = {candidate: self._rated(candidate) for candidate in candidates}
        chosen = choose({each: gain for each, (_, gain) in rated.items() if gain is not None})
        pays = bool(chosen) and self._carries_out(chosen)
        for candidate, (row, _) in rated.items():
            if candidate in chosen and pays:
                row |= {"outcome": "taken", "reason": ""}
            elif candidate in chosen:
                row["reason"] = "the whole network is not faster with it"
                self._barred.add(candidate.name)
            # What is refused stays so, for the same reason.
            elif rewrites or self._are_refusals_listed:
                continue
            self._rows.append(row)
        self._are_refusals_listed |= not rewrites
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
        shape = self._surgeon.shapes[candidate.entry]
        shape = (self._batch_size, *(self._size if n is None else n for n in shape[1:]))
        both = candidate.before, candidate.after
        before, after = row["macs_before"], row["macs_after"] = [macs(x, shape) for x in both]
        threshold = REWRITTEN if candidate.rewrites else WORTHWHILE
        if self._cost == "time":
            if after > HOPELESS * before:
                row["reason"] = "it takes too many multiplications"
                return row, None
            if candidate.rewrites and before * self._batch_size < TELLING:
                return row, None
            before, after = self._stopwatch.milliseconds(*both, shape, threshold)
            row["ms_before"], row["ms_after"] = before, after
        pays = after < threshold * before
        row["reason"] = "others pay more" if pays else "it does not pay"
        return row, before - after if pays else None

    def _carries_out(self, chosen):
        """Has candidates merged, unless they make the whole network slower. Returns which."""
        steps = self._surgeon.steps
        if self._cost == "time" and self._whole is None:
            self._whole = self._surgeon.write_to_time()
            self._inputs, _ = next(
                runs(
                    self._model,
                    self._whole.predict_on_batch,
                    *(self._size, self._batch_size, self._example_inputs),
                )
            )
        self._surgeon.carry_out(chosen)
        if self._cost == "time":
            whole = self._surgeon.write_to_time()
            before, after = compared([self._whole, whole], self._inputs, threshold=1.0)
            if after > before:
                self._surgeon.steps = steps
                return False
            self._whole = whole
        return True


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
