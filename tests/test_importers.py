"""Annotations in every form that users have become the same intervals; what is wrong with them is told at once."""

import csv
import random
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest

from artifacts.errors import InputError
from corpora.agreement import Agreement
from corpora.annotate import annotate
from corpora.annotations import COLUMNS, read_intervals
from corpora.importers.formats import Format, infer, read_annotations
from corpora.importers.jsonl import read_frames, read_words
from corpora.importers.source import Labelled, Span
from corpora.importers.timit import read_timit
from corpora.interchange import export_items, write_interval_table
from corpora.manifest import Utterance, write_manifest

Rows = list[tuple[str, float, float, str, str, str]]

PHONES: Rows = [
    ("84-1-0", 0.0, 0.25, "SIL", "phones", "84"),
    ("84-1-0", 0.25, 0.5, "K", "phones", "84"),
    ("84-1-0", 0.5, 0.75, "AE", "phones", "84"),
    ("84-1-0", 0.75, 1.0, "SIL", "phones", "84"),
    ("61-2-3", 0.0, 0.5, "IY", "phones", "61"),
]
WORDS: Rows = [("84-1-0", 0.25, 0.75, "cat", "words", "84"), ("61-2-3", 0.0, 0.5, "e", "words", "61")]

MFA = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1.0
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1.0
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = ""
        intervals [2]:
            xmin = 0.25
            xmax = 0.75
            text = "cat"
        intervals [3]:
            xmin = 0.75
            xmax = 1.0
            text = ""
    item [2]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 1.0
        intervals: size = 4
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = ""
        intervals [2]:
            xmin = 0.25
            xmax = 0.5
            text = "K"
        intervals [3]:
            xmin = 0.5
            xmax = 0.75
            text = "AE1"
        intervals [4]:
            xmin = 0.75
            xmax = 1.0
            text = "spn"
"""
SHORT_FORM = """File type = "ooTextFile"
Object class = "TextGrid"

0
0.5
<exists>
2
"IntervalTier"
"61 - phones"
0
0.5
1
0
0.5
"IY0"
"IntervalTier"
"61 - words"
0
0.5
1
0
0.5
"e"
"""
FILES: dict[Format, dict[str, str]] = {
    "textgrid": {"g/84/84-1-0.TextGrid": MFA, "g/61/61-2-3.TextGrid": SHORT_FORM},
    "timit": {
        "g/84/84-1-0.PHN": "0 4000 h#\n4000 8000 K\n8000 12000 AE\n12000 16000 pau\n",
        "g/84/84-1-0.WRD": "4000 12000 cat\n",
        "g/61/61-2-3.phn": "0 8000 IY\n",
        "g/61/61-2-3.wrd": "0 8000 e\n",
    },
    "item": {
        "g.item": "#file onset offset #phone prev-phone next-phone talker\n84-1-0 0.0 0.25 sil SIL K 84\n"
        "84-1-0 0.25 0.5 K SIL AE 84\n84-1-0 0.5 0.75 AE K SIL 84\n84-1-0 0.75 1 SIL AE SIL 84\n"
        "61-2-3 0 0.5 IY SIL SIL 61\n"
    },
    "frames": {
        "g.jsonl": '{"audio": "61/61-2-3.flac", "phones": ["IY", "IY"]}\n'
        '{"name": "84-1-0", "phones": ["sil", "K", "AE1", "SIL"]}\n'
    },
    "words": {
        "g.jsonl": '{"fileid": "84-1-0", "speaker": "84", "onset": 0.25, "offset": "0.75", "transcription": "cat"}\n'
        '{"fileid": "61-2-3", "speaker": "61", "onset": 0, "offset": 0.5, "transcription": "e"}\n'
    },
    "librispeech": {
        "g/84/84-1.alignment.txt": '84-1-0 ",cat," "0.25,0.75,1.0"\n',
        "g/61/61-2.alignment.txt": '61-2-3 "e" "0.5"\n',
    },
}
"""The same annotation in every form, as far as it holds it: of .item and frames no words, of the last two no phones."""
TIERS = {
    **dict.fromkeys(("textgrid", "timit"), PHONES + WORDS),
    **dict.fromkeys(("item", "frames"), PHONES),
    **dict.fromkeys(("words", "librispeech"), WORDS),
}
FRAME_RATE_HZ = 4


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "manifest.csv"
    audio = tmp_path / "audio"
    write_manifest(
        path,
        [
            Utterance("84-1-0", audio / "84" / "84-1-0.flac", 16000, "84"),
            Utterance("61-2-3", audio / "61" / "61-2-3.flac", 8100, "61"),
        ],
    )
    return path


def lay_out(folder: Path, files: dict[str, str]) -> Path:
    """Write files; gives what all of them lie in, or the only one."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder / next(iter(files)).partition("/")[0]


def rows_of(path: Path) -> Rows:
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == COLUMNS
    return [(r[0], float(r[1]), float(r[2]), r[3], r[4], r[5]) for r in rows]


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


def test_a_name_is_a_fileid_or_the_path_that_only_one_utterance_ends_like(tmp_path: Path) -> None:
    def utterance(fileid: str, place: str) -> Utterance:
        return Utterance(fileid, tmp_path / place, 16000, "s")

    agreement = Agreement(
        [
            utterance("FCJF0-SA1", "dr1/FCJF0/SA1.WAV"),
            utterance("MDAB0-SA1", "dr1/MDAB0/SA1.WAV"),
            utterance("dev/84/x", "any/thing.flac"),
            utterance("v1.0", "v1.0.wav"),
        ]
    )

    def fileid(name: str) -> str | None:
        intervals = agreement.take(Labelled(name, "phones", [Span(0, 1, "A")]))
        agreement._tiers["phones"].clear()
        return intervals[0].fileid if intervals else None

    found = {
        "FCJF0-SA1": "FCJF0-SA1",
        "timit/FCJF0/SA1": "FCJF0-SA1",
        "MDAB0/SA1.wav": "MDAB0-SA1",
        "SA1": None,
        "timit/FDAW0/SA1": None,
        "84/x": "dev/84/x",
        "x.flac": "dev/84/x",
        "/corpus/dev/84/x": "dev/84/x",
        "85/x": None,
        "v1.0": "v1.0",
        "grids/v1.0": "v1.0",
        "v1": None,
    }
    assert {name: fileid(name) for name in found} == found
    assert agreement.problems([]) == {"annotated, but not in the manifest": {"SA1", "timit/FDAW0/SA1", "85/x", "v1"}}


def test_a_name_that_two_utterances_may_have_is_neithers(tmp_path: Path) -> None:
    agreement = Agreement([Utterance(f"{a}/x", tmp_path / a / "y.wav", 16000, "s") for a in "ab"])
    assert agreement.take(Labelled("x", "words", [Span(0, 1, "w")])) == []
    assert list(agreement.problems([])) == ["names that several utterances of the manifest may have"]


def test_everything_that_is_wrong_is_told_in_one_line(tmp_path: Path, manifest: Path) -> None:
    lines = [
        "#file onset offset #phone speaker",
        "84-1-0 -0.1 0.1 A 84",
        "84-1-0 0.2 0.2 A 84",
        "84-1-0 0.4 0.3 A 84",
        "84-1-0 0.5 0.7 A-B 84",
        "84-1-0 0.6 1.03 A 84",
        "99-9-9 0 1 A 99",
        "84-1-0 1 2 A 85",
    ]
    path = lay_out(tmp_path, {"bad.item": "\n".join(lines)})
    with pytest.raises(InputError) as error:
        write_interval_table([path], manifest, tmp_path / "out.csv")
    for part in (
        "empty, end before they begin or begin before 0 s: 3 (84-1-0: phones -0.1 to 0.1 s, 84-1-0: phones 0.2 to",
        "intervals that begin before the one before them ends: 1 (84-1-0: phones 0.6 to 1.03 s)",
        "past the end of their audio by more than a frame: 1 (84-1-0)",
        "phone labels with a space or a hyphen: 1 ('A-B')",
        "annotated, but not in the manifest: 1 (99-9-9)",
        "utterances with a tier given twice, or in pieces that do not stand together: 1 (84-1-0: phones)",
        "utterances without phones: 1 (61-2-3)",
    ):
        assert part in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out.csv").exists()


def test_an_end_within_a_frame_of_the_audios_is_no_problem_and_another_speaker_is(tmp_path: Path) -> None:
    utterance = Utterance("a", tmp_path / "a.wav", 16000, "s1")
    for offset, speaker, problems in ((1.02, "s1", 0), (1.0201, "s1", 1), (1.0, "s2", 1), (1.1, "s2", 2)):
        agreement = Agreement([utterance])
        agreement.take(Labelled("a", "words", [Span(0, offset, "w")], speaker))
        assert len(agreement.problems(["words"])) == problems


def test_rows_of_an_utterance_are_put_in_order_and_its_talker_is_its_speaker(tmp_path: Path, manifest: Path) -> None:
    path = lay_out(tmp_path, {"a.item": "#file onset offset #phone talker\n61-2-3 0.3 0.5 B 61\n61-2-3 0.1 0.3 A 61\n"})
    write_interval_table([path], manifest, tmp_path / "out.csv", partial=True)
    assert [row[3] for row in rows_of(tmp_path / "out.csv")] == ["A", "B"]
    path.write_text(path.read_text().replace(" 61\n", " 62\n"))
    with pytest.raises(InputError, match=r"another speaker than the manifest: 1 \(61-2-3: 62 for 61\)"):
        write_interval_table([path], manifest, tmp_path / "out.csv", partial=True)


def test_an_utterance_may_have_no_word_and_not_no_phone(tmp_path: Path) -> None:
    agreement = Agreement([Utterance("a", tmp_path / "a.wav", 16000, "s")])
    assert agreement.take(Labelled("a", "words", [Span(0, 1, "<eps>")])) == []
    assert agreement.take(Labelled("a", "phones", [])) == []
    assert agreement.problems(["phones", "words"]) == {"utterances without phones": {"a"}}


def test_frames_of_another_rate_are_told_by_the_length_of_the_audio(tmp_path: Path, manifest: Path) -> None:
    path = lay_out(tmp_path, FILES["frames"])
    with pytest.raises(InputError, match=r"is the frame rate right\?\): 2 \(61-2-3: 0.25 of 0.51 s, 84-1-0: 0.50 of"):
        write_interval_table([path], manifest, tmp_path / "out.csv", frame_rate_hz=8)
    with pytest.raises(InputError, match=r"past the end of their audio by more than a frame: 2"):
        write_interval_table([path], manifest, tmp_path / "out.csv", frame_rate_hz=2)


def test_what_only_one_side_has_is_left_out_on_demand(
    tmp_path: Path, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lay_out(tmp_path, {"a.alignment.txt": '84-1-0 "cat" "0.75"\n84-9-9 "dog" "0.5"\n'})
    with pytest.raises(InputError, match=r"manifest: 1 \(84-9-9\); utterances without words: 1 \(61-2-3\)"):
        write_interval_table([path], manifest, tmp_path / "out.csv")
    write_interval_table([path], manifest, tmp_path / "out.csv", partial=True)
    assert rows_of(tmp_path / "out.csv") == [("84-1-0", 0.0, 0.75, "cat", "words", "84")]
    printed = capsys.readouterr().out
    assert "left out: annotated, but not in the manifest: 1 (84-9-9)" in printed
    assert "left out: utterances without words: 1 (61-2-3)" in printed
    (tmp_path / "a.alignment.txt").write_text('84-9-9 "dog" "0.5"\n')
    with pytest.raises(InputError, match="utterances without words: 2"):
        write_interval_table([path], manifest, tmp_path / "out.csv", partial=True)


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


def test_an_experiment_needs_phones_of_all_utterances_and_no_more(
    tmp_path: Path, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lay_out(tmp_path, FILES["item"])
    path.write_text(path.read_text() + "1-1-1 0 1 A SIL SIL 1\n")
    annotate(path, manifest, tmp_path / "out")
    assert "left out 1 (1-1-1) annotated utterances that the manifest lacks" in capsys.readouterr().out
    path = lay_out(tmp_path, FILES["librispeech"])
    with pytest.raises(InputError, match=r"g: utterances without phones: 2 \(61-2-3, 84-1-0\)"):
        annotate(path, manifest, tmp_path / "out")


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
