"""The tutorials do what they say: each file is written, each command run, each output compared, in their order.

A line ``Save as `name`:`` before a block makes it that file. A block of ``sh`` is run; the block of ``text`` that
follows it is what is seen: its lines stand in the output in this order, ``...`` for anything, numbers with a point to
within a tenth. Where one of them begins with ``error:`` the command ends with the exit code of bad input, else with 0.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import REPOSITORY

TUTORIALS = sorted((REPOSITORY / "docs" / "tutorials").glob("*.md"))
ROOMS = ("artifacts", "corpora", "spidr", "units", "slm", "eval", "workflow")
BAD_INPUT = 2
NUMBER = re.compile(r"\d+\.\d+")
SAVED = re.compile(r"Save (?:it |this )?as `(?P<name>[^`]+)`:")


class Block(NamedTuple):
    """A fenced block: where it begins, its language, the file it is, its lines."""

    line: int
    language: str
    file: str | None
    lines: list[str]

    @property
    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)


def blocks(markdown: str) -> Iterator[Block]:
    """The fenced blocks of a page."""
    opened: Block | None = None
    said = ""
    for number, line in enumerate(markdown.splitlines(), start=1):
        if opened is None and line.startswith("```"):
            match = SAVED.search(said)
            opened = Block(number, line.removeprefix("```"), match["name"] if match else None, [])
        elif opened is not None and line == "```":
            yield opened
            opened, said = None, ""
        elif opened is not None:
            opened.lines.append(line)
        elif line.strip():
            said = line
    assert opened is None, "a block without end"


def shows(claim: str, line: str) -> bool:
    """Whether a line of output is what a page claims it to be."""
    claim, line = " ".join(claim.split()), " ".join(line.split())
    pattern = re.escape(NUMBER.sub("\0", claim)).replace("\0", f"({NUMBER.pattern})").replace(r"\.\.\.", ".*")
    match = re.fullmatch(pattern, line)
    pairs = zip(NUMBER.findall(claim), match.groups(), strict=True) if match else ()
    return match is not None and all(float(b) == pytest.approx(float(a), rel=0.1, abs=0.02) for a, b in pairs)


def missing_claim(claims: list[str], output: str) -> str | None:
    """The first claimed line that the output does not have, after those before it."""
    lines = iter(output.splitlines())
    for claim in filter(str.strip, claims):
        if not any(shows(claim, line) for line in lines):
            return claim
    return None


@pytest.fixture
def workplace(tiny: Path, tmp_path: Path) -> Path:
    """A folder like the repository after a run of config/tiny.yaml; its files are linked, but those one changes."""
    for name in ("Snakefile", "profiles", *ROOMS):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    shutil.copytree(tiny / ".snakemake", tmp_path / ".snakemake")
    # Commands replace files and do not write into them, but for logs.
    logs = shutil.ignore_patterns("logs", "benchmarks")
    shutil.copytree(tiny / "results", tmp_path / "results", copy_function=os.link, ignore=logs)
    return tmp_path


def follow(page: Path, folder: Path) -> None:
    """Do what a tutorial says, in a folder."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "120"}
    found = list(blocks(page.read_text(encoding="utf-8")))
    for block, after in zip(found, [*found[1:], None], strict=True):
        where = f"{page.name}, line {block.line}"
        if block.file is not None:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "sh":
            done = subprocess.run(
                ["bash", "-eu", "-c", block.text],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            claims = after.lines if after is not None and after.language == "text" else []
            refused = any(line.startswith("error:") for line in claims)
            assert done.returncode == (BAD_INPUT if refused else 0), f"{where}: {done.stdout[-3000:]}"
            claim = missing_claim(claims, done.stdout)
            assert claim is None, f"{where}: expected the line\n{claim}\nin\n{done.stdout[-3000:]}"


@pytest.mark.parametrize("page", TUTORIALS, ids=[page.stem for page in TUTORIALS])
def test_a_tutorial_does_what_it_says(page: Path, workplace: Path) -> None:
    follow(page, workplace)


def test_a_claim_is_compared_by_words_and_numbers() -> None:
    assert shows("error 54.4% of 100", "error  54.9% of 100")
    assert not shows("error 54.4% of 100", "error 70.0% of 100")
    assert not shows("error 54.4% of 100", "error 54.4% of 101")
    assert not shows("error +1.0", "error -1.0")
    assert shows("| a | ... |", "| a | anything |")
    assert not shows("error", "error 2")
    assert missing_claim(["one", "two"], "zero\none\ntwo\n") is None
    assert missing_claim(["two", "one"], "zero\none\ntwo\n") == "one"


def test_a_page_that_claims_too_much_fails(tmp_path: Path) -> None:
    def page(text: str) -> Path:
        (tmp_path / "page.md").write_text(text)
        return tmp_path / "page.md"

    follow(page("Save as `a.txt`:\n\n```text\none\n```\n\n```sh\ncat a.txt\n```\n\n```text\none\n```\n"), tmp_path)
    with pytest.raises(AssertionError, match=r"expected the line\s+two"):
        follow(page("```sh\necho one\n```\n\n```text\ntwo\n```\n"), tmp_path)
    with pytest.raises(AssertionError, match=r"page\.md, line 1"):
        follow(page("```sh\nfalse; true\n```\n"), tmp_path)
    with pytest.raises(AssertionError, match=r"page\.md, line 1"):
        follow(page("```sh\necho error: here\n```\n\n```text\nerror: here\n```\n"), tmp_path)
