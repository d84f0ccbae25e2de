"""The report: whole by itself, with everything in it."""

import json
import re
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import InputError
from artifacts.files import write_csv, write_json
from eval.evidence import score_files
from eval.figures import FIGURES
from eval.materials import Materials, read_encoder, read_language_model
from eval.report import named_folder, read_health, render_report
from eval.scores import FIELDS, Subject, write_score
from eval.tables import add_table_arguments, make_tables

FIGURES_OF_UNITS = {
    **{"utterances": 3, "frames": 100, "units": 50, "active_units": 40, "entropy_bits": 5.0, "perplexity": 32.0},
    **{"deduplication_rate": 0.5, "units_per_second": 25.0, "longest_run_frames": 9, "largest_share": 0.1},
}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The folder of a small finished experiment."""
    empty = dict.fromkeys(FIELDS)
    system = empty | {"source": "ours", "model": "SpidR <1>", "encoder": "spidr", "layer": 6, "dataset": "dev"}
    rows = [
        system | {"metric": "abx_continuous", "condition": "within", "value": 0.0332, "low": 0.03, "high": 0.04},
        system | {"metric": "pnmi", "quantizer": "kmeans50", "num_units": 50, "value": 0.6, "n": 100},
    ]
    write_csv(tmp_path / "scores.csv", FIELDS, rows)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "figure_07.png").write_bytes(b"a picture")
    health = {"frame_rate_hz": 50.0, "num_units": 50, "corpora": {"dev": FIGURES_OF_UNITS}}
    write_json(tmp_path / "units" / "spidr-L06-kmeans50" / "health.json", health)
    (tmp_path / "tiny.yaml").write_text("experiment: tiny\nseed: 7\n")
    return tmp_path


def page(results: Path, table: Sequence[str] = ("1", "2"), **more: Any) -> str:
    parser = ArgumentParser()
    add_table_arguments(parser)
    wanted = parser.parse_args(["--table", *table])
    wanted.scores = [results / "scores.csv"]
    return render_report(
        "tiny",
        [results / "scores.csv"],
        tables=list(make_tables(wanted).values()),
        figures=results / "figures",
        health=sorted(results.glob("units/*/health.json")),
        config=results / "tiny.yaml",
        **more,
    )


class Balance(HTMLParser):
    """Follows open elements; those without an end are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_every_element_is_closed(results: Path) -> None:
    parser = Balance()
    parser.feed(page(results))
    assert parser.open == []


def test_the_page_needs_no_other_file_and_no_network(results: Path) -> None:
    text = page(results)
    assert 'src="data:image/png;base64,YSBwaWN0dXJl"' in text
    assert not re.search(r"https?://|<script[^>]*src|<link|@import|url\(|fetch\(|XMLHttpRequest|import\(", text)
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', text))


def test_tables_figures_units_and_provenance_are_in_it(results: Path) -> None:
    text = page(results)
    assert "SpidR &lt;1&gt;" in text
    assert "3.32" in text
    assert "3.00–4.00" in text
    assert FIGURES[7].caption.split("'")[0] in text
    assert "Figure 11" not in text
    assert "spidr-L06-kmeans50" in text
    assert "<dt>seed</dt><dd>7</dd>" in text
    assert "experiment: tiny" in text


def test_the_figure_of_the_trainings_comes_first_and_says_what_a_collapse_looks_like(results: Path) -> None:
    (results / "figures" / "figure_02.png").write_bytes(b"a third picture")
    text = page(results)
    assert 0 < text.index("YSB0aGlyZCBwaWN0dXJl") < text.index("A collapse looks like") < text.index("Figure 7")


def test_the_same_results_make_the_same_page(results: Path) -> None:
    assert page(results) == page(results)


def test_health_without_a_figure_is_named(tmp_path: Path) -> None:
    path = tmp_path / "health.json"
    write_json(path, {"num_units": 50, "corpora": {"dev": {"frames": 1}}})
    with pytest.raises(InputError, match=r"health.json: dev: found no units, active_units"):
        read_health(path)


def test_the_entry_point_names_an_absent_file_and_exits_with_2(results: Path) -> None:
    arguments = ["--experiment", "x", "--scores", "absent.csv", "--figures", results]
    command = [sys.executable, "-m", "eval.report", *map(str, arguments), "--output", str(results / "report.html")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: absent.csv: no such file\n"


def materials(results: Path) -> Materials:
    write_json(results / "encoders" / "spidr" / "config.json", {"family": "spidr"})
    return Materials(encoders=[read_encoder("spidr", results / "encoders" / "spidr")])


def test_the_story_comes_before_the_tables_and_what_it_rests_on_after_the_figures(results: Path) -> None:
    text = page(results, materials=materials(results))
    parts = ["In short", "The speech, the encoders", 'id="learned"', 'id="tables"', 'id="figures"', 'id="certainty"']
    places = [text.index(part) for part in [*parts, 'id="units"', 'id="scores"', 'id="provenance"']]
    assert places == sorted(places)
    assert "SpidR &lt;1&gt; tells phones apart." in text


def test_without_encoders_there_is_no_story_and_without_a_figure_no_chapter_for_it(results: Path) -> None:
    text = page(results)
    assert "What was learned" not in text
    assert "What units are" not in text


def aligned(results: Path, **changed: Any) -> Path:
    (results / "figures" / "alignment.png").write_bytes(b"another picture")
    shown = {"corpus": "dev", "fileid": "s1-7", "speaker": "s1", "duration_s": 2.5, "words": ["a"], "num_phones": 12}
    systems = [{"name": name, "num_units": number} for name, number in (("A", 40), ("B", 50), ("C", 60))]
    write_json(results / "figures" / "alignment.json", shown | {"systems": systems} | changed)
    return results / "figures" / "alignment.png"


def test_the_alignment_figure_has_a_caption_that_counts(results: Path) -> None:
    text = " ".join(page(results, alignment=aligned(results)).split())
    assert "YW5vdGhlciBwaWN0dXJl" in text
    assert "(s1-7 of dev)" in text
    assert "its 12 phones and 1 words" not in text
    assert "The 12 phones become 40 units of A, 50 units of B and 60 units of C." in text
    parser = Balance()
    parser.feed(text)
    assert parser.open == []


def test_an_alignment_that_says_too_little_is_named(results: Path) -> None:
    with pytest.raises(InputError, match=r"alignment.json: fileid: found 7, expected str"):
        page(results, alignment=aligned(results, fileid=7))
    with pytest.raises(InputError, match=r"absent.json: no such file"):
        page(results, alignment=results / "absent.png")


def scored_systems(results: Path) -> Path:
    """Scores of two systems with the tables of their items: one wins every pair, the other half of them."""
    folder = results / "scores"
    for layer, right in ((6, lambda i: 1.0), (7, lambda i: float(i % 2))):
        subject = {"model": "SpidR <1>", "encoder": "spidr", "layer": layer, "quantizer": "kmeans50", "num_units": 50}
        write_score(
            folder / str(layer),
            Subject(**subject, slm="opt", corpus="train", hours=2.0, seed=0),
            metric="sblimp",
            dataset="syntactic",
            value=sum(map(right, range(40))) / 40,
            n=40,
            conditions={"normalization": "tokens"},
            items=(
                ("type", "subtype", "id", "score"),
                [{"type": "t", "subtype": "s", "id": i, "score": right(i)} for i in range(40)],
            ),
            provenance={
                "git_commit": "abcdef",
                "inputs": {"items": {"path": "set/items.csv", "sha256": "0123456789abcdef"}},
            },
        )
    scores = [json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))]
    write_csv(results / "scores.csv", FIELDS, ({field: score[field] for field in FIELDS} for score in scores))
    return folder


def test_each_system_has_a_page_and_any_two_are_compared_on_the_same_items(results: Path) -> None:
    text = page(results, ("2",), files=score_files(scored_systems(results)))
    for layer in (6, 7):
        assert f'<details class="system" id="system-spidr-L{layer:02d}-kmeans50">' in text
    assert '<a href="#system-spidr-L06-kmeans50">' in text
    assert "abcdef" in text
    assert '<td>set/items.csv</td><td class="name">0123456789ab</td>' in text
    assert "<b>spidr-L06-kmeans50</b> is better on sBLIMP (syntactic, opt)" in text
    assert re.search(r'<option value="pair-1">spidr-L06-kmeans50 against spidr-L07-kmeans50</option></select>', text)
    parser = Balance()
    parser.feed(text)
    assert parser.open == []


def test_a_language_model_shows_how_its_validation_loss_fell(results: Path) -> None:
    folder = results / "slm" / "spidr-L06-kmeans50" / "opt" / "seed0"
    about = {"slm": "opt", "corpus": "train", "seed": 0, "steps": 20, "seconds": 3.0, "device": "cpu"}
    write_json(folder / "summary.json", about | {"num_parameters": 1000})
    lines = [{"split": "train", "step": 1, "loss": 9.0}]
    lines += [{"split": "validation", "step": step, "loss": loss} for step, loss in ((10, 4.0), (20, 3.25))]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    model = read_language_model(folder / "summary.json")
    assert model.validation == ((10, 4.0), (20, 3.25))
    text = page(
        results, ("2",), files=score_files(scored_systems(results)), materials=Materials(language_models=[model])
    )
    assert "lowest validation loss 3.250 nats a token" in text
    assert text.count('alt="Validation loss of the language models on spidr-L06-kmeans50"') == 1


def test_pairs_can_be_listened_to(results: Path) -> None:
    stimuli = [{"fileid": f, "text": f"<{f}>", "duration_s": 0.5, "flac": "QUJD"} for f in ("right", "wrong")]
    reading = {
        "name": "spidr",
        "units": [[1, 2], [3]],
        "log_likelihood": [-1.0, -2.5],
        "score": 1.0,
        "normalization": "none",
    }
    pairs = [{"about": {"id": "1"}, "stimuli": stimuli, "systems": [reading]}]
    shown = {"metric": "sblimp", "dataset": "syntactic", "pairs": pairs}
    write_json(results / "samples" / "sblimp.json", shown)
    text = page(results, samples=[results / "samples" / "sblimp.json"])
    assert text.count('src="data:audio/flac;base64,QUJD"') == 2
    assert "Correct: &lt;right&gt;" in text
    assert '<td class="sequence">1 2</td><td class="sequence">3</td>' in text
    assert "\N{MINUS SIGN}1.000, \N{MINUS SIGN}2.500 a stimulus</td>" in text
    parser = Balance()
    parser.feed(text)
    assert parser.open == []


def test_an_encoder_without_a_folder_is_wrong(results: Path) -> None:
    assert named_folder("spidr=a/b=c") == ("spidr", Path("a/b=c"))
    with pytest.raises(InputError, match="--encoders: found 'spidr', expected name=folder"):
        named_folder("spidr")
