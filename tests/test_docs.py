"""The documentation builds without warnings; what it links to, and every entry point that it names, is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

ROOMS = ("artifacts", "corpora", "spidr", "units", "slm", "eval", "workflow", "benchmarks")
PAGES = [
    *(REPOSITORY / room / "README.md" for room in (".", "benchmarks", "results/published")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def build(folder: Path, output: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(output)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def anchors(page: str) -> set[str]:
    """What a page's headings are called in links, on GitHub."""
    titles = (match["title"] for match in HEADING.finditer(FENCED.sub("", page)))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page: Path) -> list[str]:
    """Links of a page to files or headings that are not there; those to other sites are not followed."""
    broken = []
    for match in LINK.finditer(FENCED.sub("", page.read_text(encoding="utf-8"))):
        path, _, anchor = match["target"].partition("#")
        if "://" in path:
            continue
        target = (page.parent / path) if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(match["target"])
    return broken


def test_the_documentation_builds_without_warnings(tmp_path: Path) -> None:
    done = build(REPOSITORY, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    for page in (REPOSITORY / "docs").rglob("*.md"):
        assert (tmp_path / "site" / page.relative_to(REPOSITORY / "docs")).with_suffix(".html").is_file()


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("[x](absent.md)", "absent.md"),
        ("[x](other.md#absent)", "#absent"),
        ("[x](../README.md)", "README.md"),
    ],
)
def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path, text: str, warning: str) -> None:
    settings = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[0]
    (tmp_path / "mkdocs.yml").write_text(settings)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "other.md").write_text("# Other\n")
    (tmp_path / "docs" / "index.md").write_text("# Start\n\n[other](other.md#other)\n")
    assert build(tmp_path, tmp_path / "site").returncode == 0
    (tmp_path / "docs" / "index.md").write_text(f"# Start\n\n{text}\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert warning in done.stderr


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(REPOSITORY)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One *thing*\n\n[a](#one-thing) [b](#two) [c](page.md) [d](absent.md) [e](https://x.org/y)\n")
    assert broken_links(page) == ["#two", "absent.md"]


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(REPOSITORY)) for page in PAGES])
def test_the_entry_points_that_a_page_names_are_there(page: Path) -> None:
    for name in re.findall(r"-m ((?:\w+\.)+\w+)", page.read_text(encoding="utf-8")):
        path = REPOSITORY / (name.replace(".", "/") + ".py")
        if name.partition(".")[0] in ROOMS:
            assert path.is_file(), name
            assert "__main__" in path.read_text(encoding="utf-8"), name


def test_commands_that_are_no_entry_points_are_not_taken_for_one() -> None:
    assert re.findall(r"-m ((?:\w+\.)+\w+)", "pytest -m slow; python -m eval.abx") == ["eval.abx"]
