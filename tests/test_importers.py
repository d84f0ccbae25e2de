"""Annotations in every form that users have become the same intervals."""

import csv
import random
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest
from annotation_files import FILES, FRAME_RATE_HZ, PHONES, TIERS, WORDS, lay_out, manifest, rows_of

from artifacts.errors import InputError
from corpora.annotate import annotate
from corpora.annotations import COLUMNS, read_intervals
from corpora.importers.formats import Format, infer, read_annotations
from corpora.importers.jsonl import read_frames, read_words
from corpora.importers.source import Labelled, Span
from corpora.importers.timit import read_timit
from corpora.interchange import export_items, write_interval_table

__all__ = ["manifest"]  # a fixture


@pytest.mark.parametrize("form", FILES)
def test_every_form_becomes_the_same_table(tmp_path: Path, manifest: Path, form: Format) -> None:
    path = lay_out(tmp_path, FILES[form])
    assert infer(path) == form
    write_interval_table([path], manifest, tmp_path / "out.csv", frame_rate_hz=FRAME_RATE_HZ)
    assert sorted(rows_of(tmp_path / "out.csv")) == sorted(TIERS[form])
    for tier in {row[4] for row in TIERS[form]}:
        read_intervals(tmp_path / "out.csv", tier)  # type: ignore[arg-type]


def test_phones_and_words_may_come_from_two_files(tmp_path: Path, manifest: Path) -> None:
    phones = lay_out(tmp_path, FILES["frames"])
    words = lay_out(tmp_path / "words", FILES["words"])
    write_interval_table([phones, words], manifest, tmp_path / "out.csv", frame_rate_hz=FRAME_RATE_HZ)
    assert sorted(rows_of(tmp_path / "out.csv")) == sorted(PHONES + WORDS)


def test_frames_are_the_runs_of_equal_labels(tmp_path: Path) -> None:
    draw = random.Random(0)
    labels = [draw.choice("ab") for _ in range(200)]
    path = lay_out(tmp_path, {"f.jsonl": f'{{"fileid": "u", "labels": {str(labels).replace(chr(39), chr(34))}}}\n'})
    (found,) = read_frames(path, 100.0)
    spans = []
    start = 0
    for index in range(1, 201):
        if index == 200 or labels[index] != labels[start]:
            spans.append((start / 100, index / 100, labels[start]))
            start = index
    assert found == Labelled("u", "phones", [Span(*span) for span in spans], covers_s=2.0)


def test_words_of_TIMIT_that_share_a_phone_end_where_the_next_begins(tmp_path: Path) -> None:
    # From TIMIT's own description of SA1.
    path = lay_out(tmp_path, {"SA1.WRD": "7470 11362 she\n11362 16000 had\n15420 17503 your\n17503 23360 dark\n"})
    spans = [(round(s.onset * 16000), round(s.offset * 16000), s.label) for s in read_timit(path).spans]
    assert spans == [(7470, 11362, "she"), (11362, 15420, "had"), (15420, 17503, "your"), (17503, 23360, "dark")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "#file start end #phone\n", r"a.txt: found neither a known extension nor the header"),
        ("a.item", "#file start end #phone\n", r"line 1: found '#file start end #phone', expected #file onset offset"),
        ("a.item", "#file onset offset #phone\nu 0 1\n", "line 2: found 3 fields, expected 4"),
        ("a.item", "#file onset offset #phone\nu 0 nan A\n", "line 2: offset: found 'nan', expected a time in seconds"),
        ("a.phn", "0 10 h#\n10 20.5 a\n", "line 2: found '10 20.5 a', expected two numbers of samples and a label"),
        ("a.alignment.txt", '84-1-0 "A,B" "0.5"\n', "line 1: found 2 words and 1 times"),
        ("a.alignment.txt", "84-1-0 A 0.5\n", "line 1: found '84-1-0 A 0.5', expected <fileid>"),
        ("a.jsonl", "", "a.jsonl: empty, expected annotations"),
        ("a.jsonl", '{"name": "u"}\n', "line 1: found keys name, expected one of phones, labels"),
        ("a.jsonl", '{"phones": []}\n', "line 1: found keys phones, expected one of fileid, name, audio, file"),
        ("a.jsonl", '{"name": "u", "phones": [1]}\n', r"line 1: phones: found \[1\], expected a list of labels"),
        ("a.jsonl", '{"name": "u", "onset": true, "offset": 1, "word": "w"}\n', "line 1: onset: found True"),
        ("a.jsonl", '{"name": "u", "onset": 0, "word": "w"}\n', "line 1: offset: found None, expected a time"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = lay_out(tmp_path, {name: text})
    with pytest.raises(InputError, match=message):
        list(read_annotations(path, infer(path)))


def test_a_folder_holds_annotations_of_one_form(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        infer(tmp_path / "none")
    with pytest.raises(InputError, match="found no annotation in the folder"):
        infer(tmp_path)
    folder = lay_out(tmp_path, FILES["timit"] | FILES["textgrid"])
    with pytest.raises(InputError, match="found files of textgrid and timit, expected one kind, or --format"):
        infer(folder)
    assert {found.name for found in read_annotations(folder, "textgrid")} == {
        str(folder / "84/84-1-0"),
        str(folder / "61/61-2-3"),
    }
    with pytest.raises(InputError, match="found a folder, expected a file of item"):
        list(read_annotations(folder, "item"))


def test_items_of_three_phones_are_refused_with_what_they_are_for(tmp_path: Path) -> None:
    path = lay_out(tmp_path, {"triphone.item": "#file onset offset #phone prev-phone next-phone speaker\n"})
    with path.open("a") as file:
        file.write("u 0.1 0.4 AE K T s\nu 0.2 0.5 T AE S s\n")
    with pytest.raises(InputError, match=r"line 3: .* of three they go to eval.abx --item as they are"):
        list(read_annotations(path, "item"))


def test_item_files_come_back_as_they_went(tmp_path: Path, manifest: Path) -> None:
    table = tmp_path / "intervals.csv"
    speech = [row for row in PHONES if row[3] != "SIL"]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *speech])
    export_items(table, manifest, "phoneme-item", tmp_path / "out.item")
    assert (tmp_path / "out.item").read_text().splitlines()[1:] == [
        "84-1-0 0.25 0.5 K SIL AE 84",
        "84-1-0 0.5 0.75 AE K SIL 84",
        "61-2-3 0.0 0.5 IY SIL SIL 61",
    ]
    write_interval_table([tmp_path / "out.item"], manifest, tmp_path / "back.csv")
    assert rows_of(tmp_path / "back.csv") == speech


@pytest.mark.parametrize("form", ["textgrid", "timit", "item"])
def test_an_experiment_takes_them_where_it_takes_a_table(tmp_path: Path, manifest: Path, form: Format) -> None:
    table = tmp_path / "intervals.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *TIERS[form]])
    annotate(table, manifest, tmp_path / "expected")
    annotate(lay_out(tmp_path, FILES[form]), manifest, tmp_path / "found")
    for name in ("intervals.csv", "phoneme.item", "triphone.item", "words.csv"):
        assert (tmp_path / "found" / name).read_text() == (tmp_path / "expected" / name).read_text()


def test_the_commands_import_and_export(tmp_path: Path, manifest: Path) -> None:
    def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "corpora.interchange", *map(str, arguments)]
        return subprocess.run(words, capture_output=True, text=True)

    grids, table = lay_out(tmp_path, FILES["textgrid"]), tmp_path / "out.csv"
    done = command("import", grids, "--manifest", manifest, "--output", table)
    assert done.returncode == 0, done.stderr
    assert f"{grids}: read as textgrid" in done.stdout
    assert f"{table}: 7 intervals of tier phones and words" in done.stdout
    done = command(
        "export", "--intervals", table, "--manifest", manifest, "--to", "textgrid", "--output", tmp_path / "t"
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "t").iterdir()} == {"84-1-0.TextGrid", "61-2-3.TextGrid"}
    done = command("import", tmp_path / "t", "--manifest", manifest, "--frame-rate", "0", "--output", table)
    assert done.returncode == 2
    assert done.stderr == "error: --frame-rate: found 0, expected a positive number of frames a second\n"


def test_words_of_an_utterance_stand_together(tmp_path: Path) -> None:
    draw = random.Random(1)
    names = [draw.choice("ab") for _ in range(30)]
    lines = [f'{{"file": "{name}", "onset": {i}, "offset": {i + 1}, "word": "w{i}"}}' for i, name in enumerate(names)]
    path = lay_out(tmp_path, {"w.jsonl": "\n".join(lines) + "\n"})
    expected = [(name, len(list(run))) for name, run in groupby(names)]
    assert [(found.name, len(found.spans)) for found in read_words(path)] == expected
