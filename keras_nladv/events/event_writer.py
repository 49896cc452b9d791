import errno
import io
import os
import socket
import time
import weakref
from typing import Any, ClassVar

import numpy as np

try:
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING
    from tensorboard.plugins.hparams import metadata, summary_v2
    from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
    from tensorboard.summary.writer.record_writer import RecordWriter
except ImportError as error:
    raise ImportError(
        "Writing TensorBoard events (`log_dir`) needs the package tensorboard. Install it with "
        "`pip install 'keras-nladv[tensorboard]'`."
    ) from error

from keras_nladv._common.arguments import directory

BUCKETS = 20


class EventWriter:
    """Writes an event file of TensorBoard, without TensorFlow.

    Callbacks of one training that write to the same directory share a file: for a reader, the start
    of a second one would mean that the first one's training was interrupted.

    TensorBoard's own `EventFileWriter` imports TensorFlow where that is installed, and a thread of
    its own meets the errors of the disk. Here the caller does.

    Args:
        log_dir: Path of the directory. It is made if need be.
        step: Integer. What earlier files of the directory hold for this step and later ones is
            superseded: it belongs to a run that was interrupted.

    Raises:
        OSError: Like every method, if the file cannot be written, or is not there any more.
        ValueError: If `log_dir` is no path, or an address as `gs://bucket/run`.
    """

    # Those that have been started since one was last written to.
    _started: ClassVar[weakref.WeakValueDictionary[Any, Any]] = weakref.WeakValueDictionary()

    @classmethod
    def of(cls, log_dir, step):
        """The one that another callback has just started there, or a new one."""
        key = os.path.realpath(log_dir), step
        writer = cls._started.get(key) or cls(log_dir, step)
        cls._started[key] = writer
        writer._users += 1
        return writer

    def __init__(self, log_dir, step):
        os.makedirs(directory("log_dir", log_dir), exist_ok=True)
        self._users, self._step, self._tags = 0, step, set()
        # TensorBoard reads the files of a directory in the order of their names.
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._path = os.path.join(os.path.abspath(log_dir), name)
        # There is no `with`, as the check wants it: the file stays open as long as this object.
        self._file = open(self._path, "xb")  # noqa: SIM115
        self._records = RecordWriter(self._file)
        self._write(file_version="brain.Event:2")
        self._write(step=step, session_log=SessionLog(status=SessionLog.START))

    def write(self, step, scalars, histograms, images, texts=None):
        """Writes what belongs to one step.

        Args:
            step: Integer.
            scalars: Dict from tags to numbers. What the step has already is left out.
            histograms: Dict from tags to arrays of finite numbers. Empty ones are left out.
            images: Dict from tags to images, each a `PIL.Image.Image`.
            texts: Dict from tags to strings of Markdown.
        """
        # TensorBoard knows two forms of each kind. All readers know the older ones: for
        # `EventAccumulator`, say, the newer ones are no scalars, histograms and images but tensors.
        summary = Summary()
        self._started.clear()
        if step != self._step:
            self._step, self._tags = step, set()
        for tag, value in scalars.items():
            if tag not in self._tags:
                summary.value.add(tag=tag, simple_value=float(value))
        self._tags.update(scalars)
        for tag, values in histograms.items():
            if values.size:
                summary.value.add(tag=tag, histo=_histogram(values))
        for tag, image in images.items():
            png = io.BytesIO()
            image.save(png, "PNG", compress_level=3)  # Much faster, and hardly larger.
            encoded = Summary.Image(
                width=image.width, height=image.height, encoded_image_string=png.getvalue()
            )
            summary.value.add(tag=tag, image=encoded)
        for tag, text in (texts or {}).items():
            # The only form that there is.
            tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()])
            metadata = SummaryMetadata(plugin_data={"plugin_name": "text"})
            summary.value.add(tag=tag, tensor=tensor, metadata=metadata)
        self._write(step=step, summary=summary)

    def write_hparams(self, hparams):
        """Makes the directory a finished run of the HParams tab, which compares runs.

        Args:
            hparams: Dict from names to booleans, numbers and strings. The numbers that the tab sets
                beside them are the last of each scalar in the directory.
        """
        self._write(summary=summary_v2.hparams_pb(hparams))
        end = HParamsPluginData(session_end_info=SessionEndInfo(status=STATUS_SUCCESS))
        summary = Summary()
        summary.value.add(
            tag=metadata.SESSION_END_INFO_TAG,
            metadata=metadata.create_summary_metadata(end),
            tensor=metadata.NULL_TENSOR,
        )
        self._write(summary=summary)

    def close(self):
        self._users -= 1
        if self._users <= 0:
            self._started.clear()
            self._file.close()

    def _write(self, **fields):
        # What is written to a file that was removed is lost without an error.
        if not os.path.exists(self._path):
            raise FileNotFoundError(errno.ENOENT, "The file was removed", self._path)
        self._records.write(Event(wall_time=time.time(), **fields).SerializeToString())
        # Nothing is lost with a killed process, and errors come at once.
        self._file.flush()


def _histogram(values):
    # In single precision, slopes may lie too near to each other for buckets between them.
    values = values.astype("float64")
    low, high = values.min(), values.max()
    if low == high:
        # TensorBoard does not draw buckets without a width.
        margin = max(1.0, abs(low)) / (2 * BUCKETS)
        low, high = low - margin, high + margin
    counts, edges = np.histogram(values, BUCKETS, (low, high))
    return HistogramProto(
        min=low,
        max=high,
        num=values.size,
        sum=values.sum(),
        sum_squares=np.square(values).sum(),
        bucket_limit=edges[1:],
        bucket=counts,
    )
