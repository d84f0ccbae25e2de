"""Scores as tables read them, and tables as CSV reads them."""

import csv
import io
from pathlib import Path
from typing import Any

from eval.results import Result


def result(metric: str, value: float, **fields: Any) -> Result:
    defaults = {"source": "ours", "model": "SpidR", "encoder": "spidr", "layer": 6, "dataset": "dev"}
    return Result(**(defaults | {"metric": metric, "value": value} | fields))


def abx(value: float, *, across: float | None = None, **fields: Any) -> list[Result]:
    return [
        result("abx_continuous", value, condition="within", **fields),
        result("abx_continuous", value if across is None else across, condition="across", **fields),
    ]


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def written(path: Path, *rows: str, header: str = "source,model,encoder,metric,value") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path
