"""The report in a real browser: a click sorts a table, and the page is as wide as its window."""

import html
import json
import re
import shutil
import subprocess
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import pytest

from artifacts.files import write_csv
from eval.report import render_report
from eval.scores import FIELDS
from eval.tables import add_table_arguments, make_tables

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.slow

PUBLISHED = Path(__file__).parent.parent / "results" / "published"
ERRORS = {"mfcc": 0.1, "a": 0.0462, "b": 0.2, "c": None, "d": 0.0461}
"""The ABX of five encoders, one without, each with an interval under it."""


@pytest.fixture
def page(tmp_path: Path) -> str:
    if BROWSER is None:
        pytest.fail("Chromium: found none on the PATH, expected it")
    empty = dict.fromkeys(FIELDS) | {"source": "ours", "dataset": "dev", "layer": 1}
    rows = []
    for encoder, error in ERRORS.items():
        system = empty | {"model": encoder, "encoder": encoder}
        rows.append(system | {"metric": "abx_continuous", "condition": "across", "value": 0.5})
        if error is not None:
            interval = {"low": error - 0.01, "high": error + 0.03}
            rows.append(system | {"metric": "map_words", "condition": "strict", "value": error} | interval)
    write_csv(tmp_path / "scores.csv", FIELDS, rows)
    scores = [tmp_path / "scores.csv", *(PUBLISHED / f"table_{number}.csv" for number in (1, 2, 3))]
    parser = ArgumentParser()
    add_table_arguments(parser)
    wanted = ["--table", "1", "2", "3", "4", "--footprint", f"published={PUBLISHED / 'table_4.csv'}"]
    given = parser.parse_args([*wanted, "--select", '{"table_1": {"source": ["ours"]}}'])
    given.scores = scores
    tables = list(make_tables(given).values())
    return render_report("tiny", scores, tables=tables, figures=tmp_path, health=[], config=None)


def in_browser(page: str, script: str, folder: Path, width: int = 1200) -> Any:
    """What a script leaves in ``found`` at the end of the page, through JSON."""
    whole = page.replace(
        "</body>", f"<pre id='found'></pre><script>{script}; document.title = JSON.stringify(found);</script></body>"
    )
    (folder / "page.html").write_text(whole, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command = [str(BROWSER), *flags, f"--window-size={width},900", "--dump-dom", (folder / "page.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title is not None, done.stderr[-500:]
    return json.loads(html.unescape(title.group(1)))


def test_a_click_sorts_numbers_not_their_intervals_and_leaves_blanks_last(page: str, tmp_path: Path) -> None:
    script = """
      const table = document.querySelector("table.sortable"), heading = table.tHead.rows[1].cells[3];
      const models = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
      const found = [models()];
      for (let i = 0; i < 2; i++) { heading.click(); found.push(models()); }
    """
    before, rising, falling = in_browser(page, script, tmp_path)
    assert before == list(ERRORS)
    assert rising == ["d", "a", "mfcc", "b", "c"]
    assert falling == ["b", "mfcc", "a", "d", "c"]


def test_a_click_sorts_within_blocks(page: str, tmp_path: Path) -> None:
    script = """
      const table = document.querySelectorAll("table.sortable")[2];
      const rows = () => [...table.tBodies[0].rows].map((row) => row.textContent.trim().replace(/\\s+/g, " "));
      const heading = [...table.tHead.rows[1].cells].find((cell) => cell.textContent.startsWith("tSC"));
      const before = rows(); heading.click();
      const found = [before, rows()];
    """
    before, after = in_browser(page, script, tmp_path)
    blocks = [row for row in before if row.endswith(" units")]
    assert len(blocks) >= 4
    assert blocks == [row for row in after if row.endswith(" units")]
    assert before != after
    assert sorted(before) == sorted(after)


@pytest.mark.parametrize("width", [500, 1200])  # Chromium has no narrower window
def test_only_tables_scroll_sideways(page: str, tmp_path: Path, width: int) -> None:
    script = """
      document.querySelectorAll("details").forEach((each) => { each.open = true; });
      const root = document.documentElement;
      const captions = [...document.querySelectorAll("caption span")].map((each) => each.offsetWidth);
      const found = [root.scrollWidth, root.clientWidth, Math.max(...captions)];
    """
    needed, there, caption = in_browser(page, script, tmp_path, width)
    assert needed <= there
    assert caption <= there
