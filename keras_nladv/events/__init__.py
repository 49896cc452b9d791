"""What callbacks write for TensorBoard, without TensorFlow."""

from typing import TYPE_CHECKING

from keras_nladv.events.event_callback import EventCallback as EventCallback
from keras_nladv.events.event_log import EventLog as EventLog

if TYPE_CHECKING:
    from keras_nladv.events.event_writer import EventWriter as EventWriter

__all__ = ["EventCallback", "EventLog", "EventWriter"]


def __getattr__(name: str) -> object:
    # What it needs is not installed with every keras_nladv.
    if name == "EventWriter":
        from keras_nladv.events.event_writer import EventWriter

        return EventWriter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
