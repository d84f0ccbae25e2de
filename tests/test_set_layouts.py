"""Evaluation sets on small trees in the layout of each, whole and with files missing."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from artifacts.errors import InputError
from corpora.manifest import read_manifest
from corpora.prepare import prepare
from corpora.settings import SALMON_TASKS, CorpusAt, load_corpus


def write_audio(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, np.zeros(800), 16000, subtype="PCM_16")


def corpus(path: Path, layout: str, **more: Any) -> CorpusAt:
    more |= {"layout": layout, "path": str(path)}
    return load_corpus(str(more).replace("'", '"'))


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "items.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def table(folder: Path, settings: CorpusAt) -> list[tuple[str, ...]]:
    """The items as tuples, after a check that the manifest has each file once, where it lies."""
    assert prepare(settings, None, folder / "out") == len(read_manifest(folder / "out/manifest.csv"))
    items = rows(folder / "out")
    utterances = {u.fileid: u.path for u in read_manifest(folder / "out/manifest.csv")}
    assert set(utterances) == {item["fileid"] for item in items}
    assert all(path.is_file() for path in utterances.values())
    return [tuple(item.values()) for item in items]


SYNTACTIC = """\
id,filename,voice,type,subtype,transcription,correct
7,aX,A,agreement,noun,dogs bark,1
7,bX,A,agreement,noun,dogs barks,0
7,cX,B,agreement,noun,dogs bark,1
7,dX,B,agreement,noun,dogs barks,0
"""


@pytest.mark.parametrize("split", ["dev", "test"])
def test_both_splits_of_slm21_are_read_from_their_own_gold(tmp_path: Path, split: str) -> None:
    folder = tmp_path / "syntactic" / split
    write_audio(folder, "aX.wav", "bX.wav", "cX.wav", "dX.wav")
    (folder / "gold.csv").write_text(SYNTACTIC)
    settings = corpus(tmp_path, "zerospeech2021", task="syntactic", split=split)
    assert table(tmp_path, settings)[1] == ("bX", "7", "A", "agreement", "noun", "dogs barks", "0")
    assert [u.speaker for u in read_manifest(tmp_path / "out/manifest.csv")] == ["A", "A", "B", "B"]
    (folder / "cX.wav").unlink()
    (folder / "aX.wav").unlink()
    with pytest.raises(InputError, match=rf"syntactic/{split}: found no 2 \(aX.wav, cX.wav\) of 4 files, expected all"):
        prepare(settings, None, tmp_path / "out")


def test_a_gold_without_rows_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "syntactic/dev").mkdir(parents=True)
    (tmp_path / "syntactic/dev/gold.csv").write_text(SYNTACTIC.splitlines()[0] + "\n")
    with pytest.raises(InputError, match=r"gold.csv: no rows, expected items"):
        prepare(corpus(tmp_path, "zerospeech2021", task="syntactic"), None, tmp_path / "out")


PROSODIC = """\
id,filename,voice,type,subtype,correct
1,p1,A,protosyntax,short,1
1,p2,A,protosyntax,short,0
1,l1,A,lexical,short,1
1,l2,A,lexical,short,0
"""


@pytest.mark.parametrize("split", ["dev", "test"])
def test_prosaudit_lies_below_its_language(tmp_path: Path, split: str) -> None:
    folder = tmp_path / "english" / split
    write_audio(folder, "p1.wav", "p2.wav", "l1.wav", "l2.wav")
    (folder / "gold.csv").write_text(PROSODIC)
    settings = corpus(tmp_path, "prosaudit", split=split)
    assert table(tmp_path, settings)[3] == ("l2", "1", "A", "lexical", "short", "0")
    (folder / "p2.wav").unlink()
    with pytest.raises(InputError, match=rf"english/{split}: found no 1 \(p2.wav\) of 4 files, expected all"):
        prepare(settings, None, tmp_path / "out")


def test_every_story_without_its_other_half_is_missed_at_once(tmp_path: Path) -> None:
    write_audio(tmp_path, *(f"{2 * k}_s{k}_correct.wav" for k in range(6)), "1_s0_incorrect.wav")
    names = r"11_s5_incorrect.wav, 3_s1_incorrect.wav, 5_s2_incorrect.wav, \.\.\."
    with pytest.raises(InputError, match=rf"found no 5 \({names}\) of 12 files, expected all"):
        prepare(corpus(tmp_path, "twist"), None, tmp_path / "out")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("1_a_correct.wav", "2_a_incorrect.wav"), "found 1_a_correct.wav, expected files <2k>_<id>_correct.wav"),
        (
            ("0_a_correct.wav", "1_a_incorrect.wav", "2_a_correct.wav", "3_a_incorrect.wav"),
            r"found 1 \(a\) ids of several correct stories, expected one each",
        ),
        (("notes.wav",), "found no story, expected files <2k>_<id>_correct.wav, <2k\\+1>_<id>_incorrect.wav"),
    ],
)
def test_stories_of_other_names_are_refused(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    write_audio(tmp_path, *names)
    with pytest.raises(InputError, match=message):
        prepare(corpus(tmp_path, "twist"), None, tmp_path / "out")


def test_slamkit_pairs_even_with_odd_numbers_in_one_folder(tmp_path: Path) -> None:
    write_audio(tmp_path, "10+b_good.wav", "11+b_bad.wav", "2+a_good.wav", "3+a_bad.wav", "readme.wav")
    assert table(tmp_path, corpus(tmp_path, "slamkit")) == [
        ("2+a_good", "1", tmp_path.name, "1"),
        ("3+a_bad", "1", tmp_path.name, "0"),
        ("10+b_good", "5", tmp_path.name, "1"),
        ("11+b_bad", "5", tmp_path.name, "0"),
    ]


def test_slamkit_groups_are_subfolders(tmp_path: Path) -> None:
    write_audio(tmp_path, "en-A/0_x.wav", "en-A/1_x.wav", "en-B/0_x.wav", "en-B/1_x.wav")
    (tmp_path / "empty").mkdir()
    assert table(tmp_path, corpus(tmp_path, "slamkit")) == [
        ("en-A-0_x", "en-A-0", "en-A", "1"),
        ("en-A-1_x", "en-A-0", "en-A", "0"),
        ("en-B-0_x", "en-B-0", "en-B", "1"),
        ("en-B-1_x", "en-B-0", "en-B", "0"),
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("0_a.wav", "2_b.wav", "3_b.wav"), r"found 1 \(0_a.wav without 1\), expected one file each of numbers 2k"),
        (("0_a.wav", "1_a.wav", "1_b.wav"), r"found 1 \(1_a.wav and 1_b.wav\), expected one file each"),
        (("0_a.wav", "1_a.wav", "g/0_a.wav", "g/1_a.wav"), "found both in it and in its subfolders, expected files"),
        (("a.wav",), "found none, expected files that start with a number"),
    ],
)
def test_slamkit_files_that_make_no_pairs_are_refused(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    write_audio(tmp_path, *names)
    with pytest.raises(InputError, match=message):
        prepare(corpus(tmp_path, "slamkit"), None, tmp_path / "out")


def write_salmon(folder: Path, count: int = 2) -> None:
    for task in SALMON_TASKS:
        write_audio(folder / task, *(f"sample_{i}_{option}.wav" for i in range(count) for option in (0, 1)))


def test_salmon_has_eight_tasks_and_the_first_sample_is_the_right_one(tmp_path: Path) -> None:
    write_salmon(tmp_path / "salmon", 11)
    (tmp_path / "salmon/bg_alignment/metadata.json").write_text("[]")
    items = table(tmp_path, corpus(tmp_path / "salmon", "salmon"))
    assert len(items) == 8 * 11 * 2
    assert [item for item in items if item[1:3] == ("bg_alignment", "10")] == [
        ("bg_alignment-sample_10_0", "bg_alignment", "10", "1"),
        ("bg_alignment-sample_10_1", "bg_alignment", "10", "0"),
    ]


def test_what_salmon_lacks_is_told_at_once(tmp_path: Path) -> None:
    write_salmon(tmp_path)
    (tmp_path / "bg_alignment/sample_1_0.wav").unlink()
    (tmp_path / "rir_consistency/sample_0_1.wav").unlink()
    settings = corpus(tmp_path, "salmon")
    names = "bg_alignment/sample_1_0.wav, rir_consistency/sample_0_1.wav"
    with pytest.raises(InputError, match=rf"found no 2 \({names}\) of 32 files, expected all"):
        prepare(settings, None, tmp_path / "out")
    write_audio(tmp_path, "rir_consistency/sample_0_1.wav", "rir_consistency/sample_0_2.wav")
    with pytest.raises(InputError, match=r"rir_consistency: found 1 \(sample_0\) of more than two files"):
        prepare(settings, None, tmp_path / "out")
    for task in ("rir_consistency", "speaker_consistency"):
        (tmp_path / task).rename(tmp_path / f"no_{task}")
    with pytest.raises(InputError, match=r"found no 2 \(rir_consistency, speaker_consistency\) of 8 tasks"):
        prepare(settings, None, tmp_path / "out")


PAIRS = """\
id,positive,negative,voice,kind
1,a/yes.wav,a/no.wav,A,tone
1,b/yes,b/no,B,tone
2,a/yes.wav,deep/er/no.flac,A,rhythm
"""


def pairs(folder: Path, text: str = PAIRS) -> CorpusAt:
    write_audio(folder / "audio", "a/yes.wav", "a/no.wav", "b/yes.flac", "b/no.wav", "deep/er/no.flac")
    (folder / "pairs.csv").write_text(text)
    return corpus(folder / "audio", "pairs", table=str(folder / "pairs.csv"))


def test_pairs_of_a_table_share_files_and_keep_their_groups(tmp_path: Path) -> None:
    settings = pairs(tmp_path)
    assert table(tmp_path, settings) == [
        ("a-yes", "1", "A", "tone", "1"),
        ("a-no", "1", "A", "tone", "0"),
        ("b-yes", "1", "B", "tone", "1"),
        ("b-no", "1", "B", "tone", "0"),
        ("a-yes", "2", "A", "rhythm", "1"),
        ("deep-er-no", "2", "A", "rhythm", "0"),
    ]
    assert list(rows(tmp_path / "out")[0]) == ["fileid", "id", "voice", "kind", "correct"]
    assert {u.fileid: u.speaker for u in read_manifest(tmp_path / "out/manifest.csv")}["b-no"] == "B"
    for name in ("a/yes.wav", "b/yes.flac"):
        (tmp_path / "audio" / name).unlink()
    with pytest.raises(InputError, match=r"audio: found no 2 \(a/yes.wav, b/yes.wav\) of 5 files, expected all"):
        prepare(settings, None, tmp_path / "out")


def test_a_table_needs_no_more_than_three_columns(tmp_path: Path) -> None:
    settings = pairs(tmp_path, "id,positive,negative\n1,a/yes,a/no\n")
    assert table(tmp_path, settings) == [("a-yes", "1", "1"), ("a-no", "1", "0")]
    assert [u.speaker for u in read_manifest(tmp_path / "out/manifest.csv")] == ["unknown", "unknown"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1,b/yes", "1,,", "line 3: found 6 fields, expected 5"),
        ("b/yes,b/no,B", ",b/no,B", "line 3: positive: found nothing, expected a path or a fileid"),
        ("b/yes,b/no,B", "b/yes,b/no,A", "line 3: id 1 and voice A again, first on 2"),
        ("b/yes,b/no", "b/yes,b/yes", "line 3: found b/yes as positive and negative, expected two files"),
        ("b/yes,b/no", "b/yes,a-no", "line 3: .*a/no.wav and .*a-no.wav would both be a-no, expected"),
        ("kind", "correct", "line 2: found a column correct, expected other names"),
        ("negative", "wrong", "expected also negative"),
        (PAIRS[PAIRS.index("1,a") :], "", "no rows, expected pairs"),
    ],
)
def test_a_table_that_is_no_table_of_pairs_is_named_by_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(pairs(tmp_path, PAIRS.replace(old, new)), None, tmp_path / "out")


def test_a_set_that_is_not_there_is_named(tmp_path: Path) -> None:
    for layout, more in (("zerospeech2021", {"task": "lexical"}), ("twist", {}), ("slamkit", {}), ("salmon", {})):
        with pytest.raises(InputError, match=r"absent.*: no such folder"):
            prepare(corpus(tmp_path / "absent", layout, **more), None, tmp_path / "out")
