from contextlib import contextmanager


@contextmanager
def temporarily(objects, **attributes):
    """Lets objects, modules or classes have other values of attributes while it lasts.

    Args:
        objects: List of them; each has these attributes.
        attributes: The values.
    """
    before = [(each, name, getattr(each, name)) for each in objects for name in attributes]
    for each, name, _ in before:
        setattr(each, name, attributes[name])
    try:
        yield
    finally:
        for each, name, value in before:
            setattr(each, name, value)
