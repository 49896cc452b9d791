import dataclasses
import json
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import JsonValue

from running import files
from running.errors import RecipeError
from running.run_directory import LOCK
from running.values import EXACT, read_json

FILE = "study.json"
# That of the file.
FORMAT = 1


@dataclasses.dataclass
class Record:
    """What the directory of a study says of itself."""

    # The tables of its file, with what was changed.
    study: dict[str, JsonValue]
    backend: Literal["tensorflow", "jax", "torch"]
    command: str
    # What it was run on.
    machines: list[str] = dataclasses.field(default_factory=list)
    format: int = FORMAT

    __pydantic_config__: ClassVar = EXACT

    @classmethod
    def read(cls, directory: Path) -> "Record | None":
        """Reads the record of a directory, `None` if it is free for a study.

        Raises:
            RecipeError: If it is neither, or was written by another version.
        """
        file = directory / FILE
        if not file.exists():
            # A study that was killed early may have left parts of files.
            if directory.exists() and not (
                directory.is_dir()
                and all(path.name.startswith((LOCK, files.PARTIAL)) for path in directory.iterdir())
            ):
                raise RecipeError(
                    f"{directory} is neither empty nor the directory of a study. Choose another."
                )
            return None
        remedy = "Choose another directory."
        values = read_json(dict[str, JsonValue], file, remedy)
        if values.get("format") != FORMAT:
            raise RecipeError(
                f"`{file}` has the format {values.get('format')} of another version; this one "
                f"writes {FORMAT}. {remedy}"
            )
        return read_json(cls, file, remedy)

    def write(self, directory: Path) -> None:
        """Writes it, and what this machine is."""
        self.machines = list(dict.fromkeys([*self.machines, _machine()]))
        directory.mkdir(parents=True, exist_ok=True)
        files.write(directory / FILE, json.dumps(dataclasses.asdict(self), indent=2) + "\n")


def _machine():
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
    text = f"{os.cpu_count()} cores of {processor}, {platform.system()}"
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        found = subprocess.run(query, capture_output=True, text=True, check=False)
        text += "".join(f", {name}" for name in found.stdout.splitlines())
    return text
