"""Times by turns, and what they say."""

import random
import time

import numpy as np

WARM_UP = 2


def rounds_by_turns(calls, rounds):
    """Calls functions by turns, so that what else the machine does hits all of them.

    Args:
        calls: List of functions of no arguments.
        rounds: Number of times that each is called, after a few that do not count.

    Returns:
        Array of seconds of shape (rounds, calls).
    """
    seconds = np.empty((rounds, len(calls)))
    order = list(range(len(calls)))
    rng = random.Random(0)
    for call in calls:
        for _ in range(WARM_UP):
            call()
    for row in seconds:
        for index in order:
            began = time.perf_counter()
            calls[index]()
            row[index] = time.perf_counter() - began
        # What ran just before makes a difference, to caches and allocated memory. Of more than two,
        # reversed orders would have the first and the last, and no others, run behind themselves.
        if len(calls) > 2:
            rng.shuffle(order)
        else:
            order.reverse()
    return seconds


def median_interval(values, deviations=1.96):
    """Two of the values between which the median lies, with a confidence of about 95 %.

    Args:
        values: Array.
        deviations: The same in standard deviations, 3.3 for 99.9 %.
    """
    number = len(values)
    rank = max(int(number / 2 - deviations / 2 * number**0.5), 0)
    ordered = np.sort(values)
    return ordered[rank], ordered[number - 1 - rank]
