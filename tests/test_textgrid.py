"""TextGrids are read as Praat reads them, and Praat reads ours."""

import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from artifacts.errors import InputError
from corpora.annotations import Interval, interval_writer
from corpora.importers.source import Span
from corpora.importers.textgrid import parse_textgrid, read_textgrid, write_textgrid
from corpora.manifest import Utterance, write_manifest
from units.records import UnitSequence, write_units
from units.textgrid import write_textgrids

LABELS = ["", "AH0", 'say "no"', "ʃ", "a!b", "3", "<exists>", "two words", '"', "xmin = 4"]
TIERS = {
    "phones": [Span(0.0, 0.25, "SIL"), Span(0.25, 0.4, "K"), Span(0.5, 0.75, "ʃ")],
    'a "b"': [Span(0.1, 1.0, '"')],
    "none": [],
}


def drawn_tier(draw: random.Random, end_s: float) -> list[Span]:
    edges = sorted({0.0, end_s, *(round(draw.uniform(0, end_s), 3) for _ in range(8))})
    return [Span(a, b, draw.choice(LABELS)) for a, b in pairwise(edges)]


@pytest.mark.parametrize("form", ["text", "short text", "binary"])
@pytest.mark.parametrize("seed", range(3))
def test_what_praat_saves_is_read_as_praat_has_it(tmp_path: Path, form: str, seed: int) -> None:
    parselmouth = pytest.importorskip("parselmouth")
    draw = random.Random(seed)
    tiers = {name: drawn_tier(draw, 2.5) for name in ("phones", "words")}
    grid = parselmouth.praat.call("Create TextGrid", 0, 2.5, "phones words points", "points")
    for number, spans in enumerate(tiers.values(), start=1):
        for span in spans[:-1]:
            parselmouth.praat.call(grid, "Insert boundary", number, span.offset)
        for index, span in enumerate(spans, start=1):
            parselmouth.praat.call(grid, "Set interval text", number, index, span.label)
    parselmouth.praat.call(grid, "Insert point", 3, 1.25, 'a "point"')
    path = tmp_path / "made.TextGrid"
    parselmouth.praat.call(grid, f"Save as {form} file", str(path))
    if form == "binary":
        with pytest.raises(InputError, match=r"found a binary file, expected one that Praat saved as text"):
            parse_textgrid(path)
        return
    assert parse_textgrid(path) == tiers
    assert [(found.tier, found.spans) for found in read_textgrid(path)] == list(tiers.items())


def test_praat_reads_what_is_written(tmp_path: Path) -> None:
    parselmouth = pytest.importorskip("parselmouth")
    path = tmp_path / "made.TextGrid"
    write_textgrid(path, 1.0, TIERS)
    grid = parselmouth.read(str(path))
    found = {}
    for tier in range(1, parselmouth.praat.call(grid, "Get number of tiers") + 1):
        found[parselmouth.praat.call(grid, "Get tier name", tier)] = [
            Span(
                parselmouth.praat.call(grid, "Get start time of interval", tier, index),
                parselmouth.praat.call(grid, "Get end time of interval", tier, index),
                parselmouth.praat.call(grid, "Get label of interval", tier, index),
            )
            for index in range(1, parselmouth.praat.call(grid, "Get number of intervals", tier) + 1)
        ]
    assert found == {
        "phones": [*TIERS["phones"][:2], Span(0.4, 0.5, ""), TIERS["phones"][2], Span(0.75, 1.0, "")],
        'a "b"': [Span(0.0, 0.1, ""), *TIERS['a "b"']],
        "none": [Span(0.0, 1.0, "")],
    }


def test_tiers_come_back_as_they_were_written_but_for_gaps(tmp_path: Path) -> None:
    path = tmp_path / "made.TextGrid"
    write_textgrid(path, 0.5, TIERS)
    kept = {name: [span for span in spans if span.label] for name, spans in parse_textgrid(path).items()}
    assert kept == TIERS
    assert parse_textgrid(path)["none"] == [Span(0.0, 1.0, "")]  # an interval ends after the audio


HEAD = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n'
TIER = '"IntervalTier" "phones" 0 1 1 0 1 "A" '


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "found its end, expected a text: is it whole?"),
        ('"ooTextFile" "PitchTier" 0 1', "found another kind of file, expected a TextGrid"),
        (HEAD + "0 1 <exists> 1 " + TIER[:-6], "found its end, expected a number"),
        (HEAD + "0 1 <exists> 1\n" + TIER.replace("1 0", 'one\n"0" 0'), 'line 6: found "0", expected a number'),
        (HEAD + "2 3 <exists> 0", "begins at 2.0 s, expected the beginning of its audio, 0 s"),
        (HEAD + "0 1 <exists> 2 " + 2 * TIER, "found two tiers 'phones', expected a name of its own each"),
        (HEAD + "0 1 <exists> 1 " + TIER.replace("Interval", "Other"), "a tier of class 'OtherTier', expected"),
        (HEAD + "0 1 <absent>", r"found the interval tiers \(none\), expected phones or words"),
        (HEAD + "0 1 <exists> 1 " + TIER.replace("phones", "tones"), "found the interval tiers tones, expected phones"),
    ],
)
def test_what_is_no_textgrid_of_phones_or_words_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.TextGrid"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        list(read_textgrid(path))


def test_comments_are_no_values(tmp_path: Path) -> None:
    path = tmp_path / "made.TextGrid"
    path.write_text(HEAD + "0 ! 7 start\n1 <exists> 1 ! one tier\n" + TIER)
    assert parse_textgrid(path) == {"phones": [Span(0.0, 1.0, "A")]}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two utterances, one of them annotated, and units of both and of one more."""
    folder = tmp_path / "dev"
    write_manifest(folder / "manifest.csv", [Utterance(f"s/{n}", folder / f"{n}.wav", 16000, "s") for n in "ab"])
    with interval_writer(folder / "intervals.csv") as write:
        write([Interval("s/a", 0.25, 0.5, "AH", "phones", "s"), Interval("s/a", 0.25, 0.5, "uh", "words", "s")])
    write_units(
        folder / "dev.jsonl",
        [UnitSequence("s/a", [4, 0], [2, 2]), UnitSequence("s/b", [1], [3]), UnitSequence("c", [1], [3])],
    )
    (folder / "config.json").write_text('{"num_units": 5, "frame_rate_hz": 4}')
    return folder


def test_units_stand_under_phones_and_words(corpus: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "units.textgrid", "--manifest", corpus / "manifest.csv", "--systems", "one", "two"]
    command += ["--units", corpus / "dev.jsonl", corpus / "dev.jsonl", "--vocabularies", corpus / "config.json"]
    command += [corpus / "config.json", "--intervals", corpus / "intervals.csv", "--output", tmp_path / "out"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")) == [
        "s/a.TextGrid",
        "s/b.TextGrid",
    ]
    units = [Span(0.0, 0.5, "4"), Span(0.5, 1.0, "0")]
    assert parse_textgrid(tmp_path / "out/s/a.TextGrid") == {
        "phones": [Span(0.0, 0.25, ""), Span(0.25, 0.5, "AH"), Span(0.5, 1.0, "")],
        "words": [Span(0.0, 0.25, ""), Span(0.25, 0.5, "uh"), Span(0.5, 1.0, "")],
        "one": units,
        "two": units,
    }
    units = [Span(0.0, 0.75, "1"), Span(0.75, 1.0, "")]
    assert parse_textgrid(tmp_path / "out/s/b.TextGrid") == {"one": units, "two": units}


@pytest.mark.parametrize(
    ("systems", "config", "units", "message"),
    [
        (
            ["phones"],
            '{"num_units": 5, "frame_rate_hz": 4}',
            "s/b",
            "--systems: found phones, expected a name of its own",
        ),
        (["one"], '{"num_units": 4, "frame_rate_hz": 4}', "s/b", "s/a: found unit 4, expected units below 4"),
        (["one"], '{"num_units": 5, "frame_rate_hz": 4}', "d", r"found no 1 \(s/b\) of 2 utterances"),
    ],
)
def test_units_that_do_not_fit_are_told(
    corpus: Path, tmp_path: Path, systems: list[str], config: str, units: str, message: str
) -> None:
    (corpus / "config.json").write_text(config)
    (corpus / "dev.jsonl").write_text((corpus / "dev.jsonl").read_text().replace("s/b", units))
    with pytest.raises(InputError, match=message):
        write_textgrids(
            corpus / "manifest.csv", systems, [corpus / "dev.jsonl"], [corpus / "config.json"], tmp_path / "out"
        )


def test_a_fileid_that_leads_out_of_the_folder_is_refused(corpus: Path, tmp_path: Path) -> None:
    write_manifest(corpus / "manifest.csv", [Utterance("../c", corpus / "c.wav", 16000, "s")])
    (corpus / "dev.jsonl").write_text('{"fileid": "../c", "units": [1], "durations": [3]}\n')
    with pytest.raises(InputError, match=r"found fileid ../c, expected one that names a file below"):
        write_textgrids(
            corpus / "manifest.csv", ["x"], [corpus / "dev.jsonl"], [corpus / "config.json"], tmp_path / "o"
        )
