"""Which way imports run, and that what passes between the rooms is what docs/house.md says."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY

PAGE = REPOSITORY / "docs" / "house.md"
ROOMS = ("artifacts", "corpora", "spidr", "units", "slm", "eval", "workflow")
OURS: dict[str, tuple[str, ...]] = {
    "artifacts": (),
    "corpora": ("artifacts",),
    "spidr": ("artifacts", "corpora"),
    "units": ("artifacts", "corpora", "spidr"),
    "slm": ("artifacts", "units.records", "corpora.speakers", "corpora.texts"),
    "eval": ("artifacts", "corpora", "units.records", "units.features", "units.health"),
    "workflow": ROOMS,
}
"""What each room may import, as rooms or as modules."""
NEVER = {
    "corpora": ("torch", "transformers"),
    "spidr": ("transformers",),
    "slm": ("soundfile",),
    "eval": ("transformers",),
}
"""Packages that a room has no business with."""


def imported(source: str) -> Iterator[str]:
    """Modules that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""
            # `from units import records` imports a module too
            yield from (f"{node.module}.{name.name}" for name in node.names if node.module in ROOMS)


def trespasses(room: str, module: str, source: str) -> list[str]:
    """Imports of a module that its room may not have."""
    found = []
    for name in imported(source):
        top = name.partition(".")[0]
        of_others = top in ROOMS and top != room
        is_allowed = any(name == allowed or name.startswith(f"{allowed}.") for allowed in OURS[room])
        if (of_others and not is_allowed) or top in NEVER.get(room, ()):
            found.append(f"{module} imports {name}")
    return found


def modules(room: str) -> list[Path]:
    return sorted((REPOSITORY / room).rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_one_way(room: str) -> None:
    assert len(modules(room)) > 3
    wrong = [t for path in modules(room) for t in trespasses(room, str(path), path.read_text(encoding="utf-8"))]
    assert wrong == []


def test_a_trespass_is_seen() -> None:
    assert trespasses("eval", "eval.x", "def f():\n    from slm.model import load\n") == ["eval.x imports slm.model"]
    assert trespasses("eval", "eval.x", "import units.kmeans\n") == ["eval.x imports units.kmeans"]
    assert trespasses("slm", "slm.x", "from units import records\n")
    assert trespasses("corpora", "corpora.x", "import torch.nn\n") == ["corpora.x imports torch.nn"]
    assert trespasses("eval", "eval.x", "from units.records import read_units\nimport torch\n") == []


def rows(heading: str) -> list[list[str]]:
    """Cells of the table below a heading of the page, without its head."""
    text = PAGE.read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    found = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert len(found) > 2, heading
    return found[2:]


def test_the_page_has_the_table_of_imports() -> None:
    page = {re.sub("`", "", row[0]): row for row in rows("Which way imports run")}
    assert set(page) == set(ROOMS)
    for room, allowed in OURS.items():
        named = re.findall(r"`([\w.]+)`", page[room][1])
        assert set(named) == set(allowed) or (room == "workflow" and page[room][1] == "all")
        assert all(package in page[room][-1] for package in NEVER.get(room, ()))


def test_what_passes_between_the_rooms_is_where_the_page_says(tiny: Path) -> None:
    """Of a finished run, but for texts: it has none."""
    for what, where, _, module in rows("What passes between the rooms"):
        room, _, name = module.strip("` |").partition(".")
        assert (REPOSITORY / room / f"{name}.py").is_file(), module
        if what == "texts":
            continue
        first, *others = re.findall(r"`([^`]+)`", where)
        patterns = [first, *(str(Path(first).parent / other) for other in others)]
        for pattern in patterns:
            glob = re.sub(r"<[^>]*>", "*", re.sub(r"\[[^]]*\]", "", pattern)).replace("L06", "L*").replace("...", "**")
            assert next((tiny / "results" / "tiny").glob(glob.rstrip("/")), None), pattern


NAMED = sorted(set(re.findall(r"`([a-z]+(?:[./]\w+)+)`", PAGE.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("name", [name for name in NAMED if name.partition(".")[0] in ROOMS])
def test_a_module_or_name_that_the_page_gives_is_there(name: str) -> None:
    parts = name.split(".")
    depth = max(n for n in range(1, len(parts) + 1) if REPOSITORY.joinpath(*parts[:n]).with_suffix(".py").is_file())
    source = REPOSITORY.joinpath(*parts[:depth]).with_suffix(".py").read_text(encoding="utf-8")
    assert all(re.search(rf"^(def |class |){part}\b", source, re.MULTILINE) for part in parts[depth:]), name


@pytest.mark.parametrize("name", [name for name in NAMED if name.partition("/")[0] in (*ROOMS, "tests")])
def test_a_file_that_the_page_gives_is_there(name: str) -> None:
    assert (REPOSITORY / name).is_file()
