import dataclasses
import json
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from common.errors import RecipeError

FILE = "study.json"
# That of the file.
FORMAT = 1


@dataclasses.dataclass
class Record:
    """What the directory of a study says of itself."""

    # The tables of its file, with what was changed.
    study: dict[str, Any]
    backend: str
    command: str
    # What it was run on.
    machines: list[str] = dataclasses.field(default_factory=list)
    format: int = FORMAT

    @classmethod
    def read(cls, directory: Path) -> "Record | None":
        """Reads the record of a directory, `None` if it is free for a study.

        Raises:
            RecipeError: If it is neither, or was written by another version.
        """
        file = directory / FILE
        if not file.exists():
            if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
                raise RecipeError(
                    f"{directory} is neither empty nor the directory of a study. Choose another."
                )
            return None
        try:
            values = json.loads(file.read_text())
        except ValueError as error:
            raise RecipeError(f"`{file}` is damaged: {error}") from error
        if values.get("format") != FORMAT:
            raise RecipeError(
                f"`{file}` has the format {values.get('format')} of another version; this one "
                f"writes {FORMAT}. Choose another directory."
            )
        return cls(**values)

    def write(self, directory: Path) -> None:
        """Writes it, and what this machine is."""
        self.machines = list(dict.fromkeys([*self.machines, _machine()]))
        directory.mkdir(parents=True, exist_ok=True)
        partial = directory / f"partial-{FILE}"
        partial.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")
        os.replace(partial, directory / FILE)


def _machine():
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
    text = f"{os.cpu_count()} cores of {processor}, {platform.system()}"
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        found = subprocess.run(query, capture_output=True, text=True, check=False)
        text += "".join(f", {name}" for name in found.stdout.splitlines())
    return text
