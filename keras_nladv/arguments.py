import math
import numbers


def integer(name, value, least):
    """`value` as an int.

    Raises:
        ValueError: If it is no integer, or less than `least`.
    """
    valid = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not valid or int(value) < least:
        raise ValueError(
            f"`{name}` must be an integer of at least {least}. Received: {name}={value!r}"
        )
    return int(value)


def number(name, value, wanted, within):
    """`value` as a float.

    Args:
        name: The name of the argument.
        value: What was given.
        wanted: What it must be, in words.
        within: Function that tells whether a finite number is in the range.

    Raises:
        ValueError: If it is no finite number, or out of range.
    """
    valid = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not valid or not (math.isfinite(value) and within(value)):
        raise ValueError(f"`{name}` must be {wanted}. Received: {name}={value!r}")
    return float(value)
