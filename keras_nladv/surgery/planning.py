from keras_nladv.surgery.candidates import Candidate
from keras_nladv.surgery.collapse_plan import CollapsePlan
from keras_nladv.surgery.costs import Stopwatch, macs

# What is merged has to be faster by this factor, so that noise does not decide.
WORTHWHILE = 0.97


def make_plan(surgeon, cost, batch_size, size):
    """Decides what to merge, round by round, and merges it.

    Args:
        surgeon: A `Surgeon`. It is left with everything merged.
        cost: `"time"` or `"macs"`.
        batch_size: Number of samples in a batch.
        size: What unknown sizes are taken for.

    Returns:
        A `CollapsePlan`.
    """
    fingerprint, rows, number = surgeon.fingerprint(), [], 0
    stopwatch = Stopwatch()
    while True:
        number += 1
        gains, rated = {}, []
        for candidate in surgeon.candidates():
            row = {
                "round": number,
                "name": candidate.name,
                **dict.fromkeys(("macs_before", "macs_after", "ms_before", "ms_after")),
                "outcome": "refused",
                "reason": candidate.reason,
            }
            if not candidate.reason:
                shape = surgeon.shapes[candidate.entry]
                shape = (batch_size, *(size if n is None else n for n in shape[1:]))
                for key, steps in {"before": candidate.before, "after": candidate.after}.items():
                    row[f"macs_{key}"] = macs(steps, shape)
                if cost == "time":
                    row["ms_before"], row["ms_after"] = stopwatch.milliseconds(
                        candidate.before, candidate.after, shape
                    )
                unit = "ms" if cost == "time" else "macs"
                before, after = row[f"{unit}_before"], row[f"{unit}_after"]
                if after < WORTHWHILE * before:
                    gains[candidate] = before - after
                row["reason"] = "it does not pay" if candidate not in gains else "others pay more"
            rated.append((candidate, row))
        chosen = choose(gains)
        for candidate, row in rated:
            if candidate in chosen:
                row["outcome"], row["reason"] = "taken", ""
        # Reasons do not change from round to round.
        if number == 1 or chosen:
            rows += [row for _, row in rated if number == 1 or row["outcome"] == "taken"]
        if not chosen:
            return CollapsePlan(rows, fingerprint, cost)
        surgeon.carry_out(chosen)


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
