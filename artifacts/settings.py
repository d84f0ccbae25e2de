"""Typed settings: one source for validation, its messages and the documentation of every key."""

import json
import math
import re
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from artifacts.errors import InputError
from artifacts.files import NOT_JSON, why_not_json

LARGEST = 100_000
"""Parts of a file of settings: keys, values and lists."""


class Settings(BaseModel):
    """Base of all settings: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def parse_settings[S: Settings](kind: type[S], value: Any, where: str) -> S:
    """Validate `value` as settings of `kind`.

    Args:
        where: What the value is, for messages: a file name or ``--settings``.

    Raises:
        InputError: One line that names every wrong key, what was found and what was expected.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        problems = dict.fromkeys(_explain(kind, detail) for detail in error.errors())
        raise InputError(f"{where}: " + "; ".join(problems)) from None


def _explain(kind: type[Settings], detail: ErrorDetails) -> str:
    keys, siblings = _place(kind, detail["loc"])
    key = ".".join(keys) or "(the whole)"
    found = detail["input"]
    if detail["type"] == "extra_forbidden":
        return f"{key}: unknown key (found {_short(found)}), expected {siblings}"
    if detail["type"] == "missing":
        return f"{key}: missing, expected a value"
    expected = re.sub(r"^(Value error, |\w+ should (be )?)", "", detail["msg"])
    if detail["type"] == "value_error":
        return f"{key}: {expected}" if keys else expected
    return f"{key}: found {_short(found)}, expected {expected}"


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _refuse_bomb(node: yaml.Node, path: Path) -> None:
    """Refuse YAML whose aliases stand for more than anybody writes: ten lines can stand for a billion.

    Raises:
        InputError: It would have more than `LARGEST` parts, or a part that holds itself.
    """
    sizes: dict[int, float] = {}

    def size(node: yaml.Node) -> float:
        if id(node) not in sizes:
            sizes[id(node)] = math.inf  # while its parts are counted: one of them may be itself
            parts = chain.from_iterable(node.value) if isinstance(node, yaml.MappingNode) else node.value
            sizes[id(node)] = 1 + (0 if isinstance(node, yaml.ScalarNode) else sum(map(size, parts)))
        return sizes[id(node)]

    if (found := size(node)) > LARGEST:
        raise InputError(f"{path}: found aliases that stand for {found:,.0f} parts, expected at most {LARGEST:,}")


def _refuse_doubles(node: yaml.Node, path: Path) -> None:
    """Refuse a key that stands twice in one mapping: YAML's reader takes the last and drops the others without a word.

    Raises:
        InputError: The first such key, with its line.
    """
    seen: set[int] = set()
    nodes = [node]
    while nodes:
        node = nodes.pop()
        if id(node) in seen or isinstance(node, yaml.ScalarNode):
            continue  # what an alias stands for is read where it is written
        seen.add(id(node))
        if not isinstance(node, yaml.MappingNode):
            nodes += reversed(node.value)
            continue
        keys: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in keys:
                    line = key.start_mark.line + 1
                    raise InputError(f"{path}, line {line}: {key.value}: found a second time, expected each key once")
                keys.add((key.tag, key.value))
        nodes += [value for _, value in reversed(node.value)]


def _place(kind: type[Settings], location: tuple[int | str, ...]) -> tuple[list[str], str]:
    """The keys that lead to a location as the file has them, and those known beside the last, as far as models tell."""
    schema = kind.model_json_schema()
    node: Any = schema
    keys: list[str] = []
    siblings = "no such key"
    for part in location:
        node = _resolve(schema, node)
        tagged = node.get("discriminator", {}).get("mapping", {})
        if part in tagged:  # pydantic names the chosen kind, the file does not
            node = {"$ref": tagged[part]}
            continue
        keys.append(str(part))
        if node.get("properties"):
            siblings = "one of " + ", ".join(node["properties"])
        if part in node.get("properties", {}):
            node = node["properties"][part]
        elif isinstance(part, int) and "items" in node:
            node = node["items"]
        elif "patternProperties" in node:  # a dictionary whose keys are names
            (node,) = node["patternProperties"].values()
        elif isinstance(node.get("additionalProperties"), dict):
            node = node["additionalProperties"]
        else:
            node = {}
    return keys, siblings


def _resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return node


def read_yaml(path: Path) -> Any:
    """Read a YAML (or JSON) file; an absent or malformed one is an `InputError` naming file and line.

    Malformed is also what has a key twice, or aliases that stand for more than anybody writes.
    """
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_bomb(node, path)
        _refuse_doubles(node, path)
        return loader.construct_document(node)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a folder, expected a file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{place}: not YAML ({getattr(error, 'problem', error)})") from None
    except RecursionError:
        raise InputError(f"{path}: not YAML (nested too deeply)") from None


def load_settings[S: Settings](kind: type[S], text: str, option: str = "--settings") -> S:
    """Settings from the command line: a YAML or JSON file's path, or the JSON object itself.

    Args:
        option: What the text was given for, for messages.

    Raises:
        InputError: No such file, neither YAML nor JSON, or one line that names every wrong key.
    """
    if text.lstrip().startswith("{"):
        try:
            return parse_settings(kind, json.loads(text), option)
        except NOT_JSON as error:
            raise InputError(f"{option}: not JSON ({why_not_json(error)})") from None
    return parse_settings(kind, read_yaml(Path(text)), text)
