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
