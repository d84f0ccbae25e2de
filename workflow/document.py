"""Schema and documentation of the experiment file, both made from its typed models.

    python -m workflow.document

Writes ``workflow/schemas/experiment.schema.json`` (editors complete and check YAML with it) and
``docs/configuration.md``.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from artifacts.errors import run
from artifacts.files import atomic_file
from slm.settings import SlmRecipe
from spidr.settings import Recipe
from units.spin.settings import SpinRecipe
from workflow.experiment import Experiment

REPOSITORY = Path(__file__).parent.parent
SCHEMA = REPOSITORY / "workflow" / "schemas" / "experiment.schema.json"
PAGE = REPOSITORY / "docs" / "configuration.md"

INTRODUCTION = """# Every key of an experiment

Made by `python -m workflow.document` from the typed models that check the file: do not edit.
A key without a default must be given. Recipes (settings of a long training) are files of their own,
named relative to the experiment file.
"""


def schema_text() -> str:
    """The JSON schema of an experiment file."""
    return json.dumps(Experiment.model_json_schema(), indent=2) + "\n"


def page_text() -> str:
    """The page that documents every key."""
    parts = [INTRODUCTION]
    for title, schema in (
        ("The experiment file", Experiment.model_json_schema()),
        ("A SpidR or DinoSR recipe", Recipe.model_json_schema()),
        ("A Spin recipe", SpinRecipe.model_json_schema()),
        ("A language model recipe", SlmRecipe.model_json_schema()),
    ):
        parts.append(f"## {title}\n\n{_table(schema)}")
        for name, definition in sorted(schema.get("$defs", {}).items()):
            shown = _table(definition) if "properties" in definition else _row(definition)
            parts.append(f"### {name}\n\n{definition.get('description', '').strip()}\n\n{shown}")
    return "\n\n".join(parts) + "\n"


def _table(definition: dict[str, Any]) -> str:
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, value in definition["properties"].items():
        default = "" if key in definition.get("required", []) else f"`{json.dumps(value.get('default'))}`"
        meaning = " ".join(value.get("description", "").split()).replace("|", "\\|")
        rows.append(f"| `{key}` | {_type(value)} | {default} | {meaning} |")
    return "\n".join(rows)


def _row(definition: dict[str, Any]) -> str:
    """A tuple with names as it is written, ``[channels, kernel, stride]``."""
    return f"`[{', '.join(item['title'].lower() for item in definition['prefixItems'])}]`"


def _type(value: dict[str, Any]) -> str:
    """A schema's type in words."""
    if "$ref" in value:
        name = value["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return " \\| ".join(f"`{choice}`" for choice in value["enum"])
    for key in ("anyOf", "oneOf"):
        if key in value:
            return " \\| ".join(_type(choice) for choice in value[key])
    if value.get("type") == "array":
        if "prefixItems" in value:
            return "(" + ", ".join(_type(item) for item in value["prefixItems"]) + ")"
        return f"list of {_type(value.get('items', {}))}"
    if value.get("type") == "object":
        (held,) = value.get("patternProperties", {"": value.get("additionalProperties") or {}}).values()
        return f"name -> {_type({} if held is True else held)}"
    kind = str(value.get("type", "any"))
    return "none" if kind == "null" else kind


def main() -> None:
    """Entry point."""
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    for path, text in ((SCHEMA, schema_text()), (PAGE, page_text())):
        with atomic_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(path.relative_to(REPOSITORY))


if __name__ == "__main__":
    run(main)
