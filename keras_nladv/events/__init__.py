"""What callbacks write for TensorBoard, without TensorFlow."""

from keras_nladv.events.event_callback import EventCallback as EventCallback
from keras_nladv.events.event_log import EventLog as EventLog
