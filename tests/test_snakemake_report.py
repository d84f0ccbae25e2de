"""Snakemake's own report of a finished run: the scores, tables, figures and the page, each with its caption."""

import base64
import re
from pathlib import Path

from conftest import snakemake


def test_snakemake_s_report_has_the_results_with_captions_and_needs_no_network(tiny: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = snakemake(tiny, "--report", str(page))
    assert done.returncode == 0, done.stderr[-2000:]
    text = page.read_text()
    for name in ("scores.csv", "table_1.csv", "table_2.csv", "figure_07.png", "figure_11.png", "alignment.png"):
        assert name in text, name
    assert "language models are trained on the units" in re.sub(r"\s+", " ", text)
    for caption in ("The figure of this number of the SpidR paper", "Every score of the experiment, one a row"):
        assert caption in text, caption
    scores = base64.b64encode((tiny / "results/tiny/scores.csv").read_bytes()).decode("ascii")
    assert scores[:2000] in text
    assert not re.search(r"""<(?:script|link|img)[^>]+(?:src|href)=["']https?:""", text)
