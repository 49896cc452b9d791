"""The models of the zoo, by name."""

ZOO = {}


def specimen(make):
    """Puts a function that makes a model into the zoo."""
    ZOO[make.__name__] = make
    return make
