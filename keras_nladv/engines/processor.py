import functools
import platform
from pathlib import Path


@functools.cache
def processor():
    """The name of the processor."""
    try:
        # Linux tells Python the architecture only.
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
