from keras_nladv.callbacks.core_image import core_image as core_image
from keras_nladv.callbacks.linearization_schedule import (
    LinearizationSchedule as LinearizationSchedule,
)
from keras_nladv.callbacks.path_length_callback import PathLengthCallback as PathLengthCallback
