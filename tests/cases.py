"""Which tests run where: on one backend (see the marker `once`), with which Keras and engines."""

import keras
import pytest
from packaging.version import Version


def since(version, what):
    """A mark of tests of what older versions of Keras do not have, or have in another way."""
    old = Version(keras.__version__) < Version(version)
    return pytest.mark.skipif(old, reason=f"{what} is like this since Keras {version}.")


def once(*values):
    """A case that the backends compute with the same operations as those that run on each."""
    return pytest.param(*values, marks=pytest.mark.once)


def once_but(cases, everywhere):
    """Cases, of which those in `everywhere` run on each backend."""
    return [case if case in everywhere else once(case) for case in cases]


def since_but(cases, versions):
    """Cases, of which those in `versions`, a dict, need a version of Keras."""
    values = [case.values[0] if hasattr(case, "values") else case for case in cases]
    return [
        pytest.param(value, marks=[*getattr(case, "marks", ()), since(versions[value], value)])
        if value in versions
        else case
        for value, case in zip(values, cases)
    ]


def usable(engine):
    """The engine; the test is skipped where it lacks its package or a way from the backend."""
    try:
        engine.require()
    except (ImportError, ValueError) as error:
        pytest.skip(str(error))
    return engine
