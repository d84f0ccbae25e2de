"""The log of a training: one JSON object a line, appended as it goes."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from artifacts.files import write_jsonl


class Log:
    """Append lines to a JSONL file; every line has a `step`.

    A training that goes on from step `start` first cuts the lines of later steps, and a line that a
    crash tore: the log ends up as that of a training that was never interrupted.
    """

    def __init__(self, path: Path, start: int) -> None:
        write_jsonl(path, _lines_until(path, start) if path.exists() else [])
        self._file = path.open("a", encoding="utf-8")

    def write(self, line: dict[str, Any]) -> None:
        """Append one line, at once."""
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()

    def __enter__(self) -> "Log":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _lines_until(path: Path, step: int) -> list[dict[str, Any]]:
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if line["step"] <= step:
            lines.append(line)
    return lines
