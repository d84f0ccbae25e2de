"""What is said in a corpus: tables of texts, annotations, gold.csv and Libriheavy's cuts, whole and damaged."""

import csv
import gzip
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from artifacts.errors import InputError
from artifacts.settings import parse_settings
from corpora.libriheavy import prepare_libriheavy
from corpora.prepare import prepare
from corpora.settings import LibriheavySettings, LibriLightSettings, load_corpus
from corpora.texts import Text, prepare_texts, read_texts, write_texts

compressed = partial(gzip.compress, mtime=0)  # without the time of day, of which the names of tests would be


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def cut(name: str, texts: list[str], duration_s: float = 7.36, speaker: str = "100") -> dict[str, Any]:
    """A line of Libriheavy's cuts, as its README shows one."""
    recording = f"small/{speaker}/sea_fairies_0812_librivox_64kb_mp3/01_baum_sea_fairies_64kb"
    return {
        "id": f"{recording}_{name}",
        "start": 243.919,
        "duration": duration_s,
        "channel": 0,
        "supervisions": [
            {
                "id": f"{recording}_{name}",
                "recording_id": recording,
                "start": 0,
                "duration": duration_s,
                "channel": 0,
                "language": "English",
                "speaker": speaker,
                "custom": {"texts": texts, "pre_texts": ["...before", "...BEFORE"], "begin_byte": 1, "end_byte": 9},
            }
        ],
        "recording": {"id": recording, "sampling_rate": 16000, "num_samples": 9567080, "duration": 597.942},
        "custom": {"text_path": "download/librilight_text/output_text_small_cleaned/Sea Fairies/text.txt"},
        "type": "MonoCut",
    }


def write_cuts(folder: Path, part: str, cuts: list[dict[str, Any]]) -> Path:
    path = folder / f"libriheavy_cuts_{part}.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(one) + "\n" for one in cuts)
    return path


@pytest.fixture
def libriheavy(tmp_path: Path) -> Path:
    write_cuts(
        tmp_path, "small", [cut("0", ['"But why\n do folks\tdive?" she asked.', "BUT WHY DO FOLKS DIVE SHE ASKED"])]
    )
    write_cuts(tmp_path, "medium", [cut("1", ["“Yes.”", "YES"], 1.5, "7"), cut("2", ["No!", "NO"], 3600.0, "8")])
    return tmp_path


def of_libriheavy(folder: Path, **keys: str) -> LibriheavySettings:
    return parse_settings(LibriheavySettings, {"layout": "libriheavy", "path": str(folder)} | keys, "test")


def test_a_subset_of_libriheavy_has_the_texts_of_its_parts(libriheavy: Path) -> None:
    prepare_libriheavy(of_libriheavy(libriheavy, subset="medium"), libriheavy / "out")
    found = rows(libriheavy / "out/texts.csv")
    assert [row["text"] for row in found] == ['"But why do folks dive?" she asked.', "“Yes.”", "No!"]
    assert [(float(row["duration_s"]), row["speaker"]) for row in found] == [(7.36, "100"), (1.5, "7"), (3600.0, "8")]
    assert found[0]["fileid"].endswith("01_baum_sea_fairies_64kb_0")
    assert [row["speaker"] for row in rows(libriheavy / "out/speakers.csv")] == ["100", "7", "8"]


def test_a_part_is_that_file_alone_and_recognized_its_other_text(libriheavy: Path) -> None:
    prepare_libriheavy(of_libriheavy(libriheavy, part="medium", transcript="recognized"), libriheavy / "out")
    assert [row["text"] for row in rows(libriheavy / "out/texts.csv")] == ["YES", "NO"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (compressed(b'{"id": 1}\n')[:-12], r"small.jsonl.gz, (after line 0|line 1): "),
        (b"no gzip", r"small.jsonl.gz, after line 0: damaged"),
        (
            compressed(b'{"id": "a"}\n{"id\n'),
            "small.jsonl.gz, line 1: found .*id.*, expected a cut with id, duration",
        ),
        (compressed(json.dumps(cut("0", ["a", "A"])).encode() + b"\n{"), r"small.jsonl.gz, line 2: not JSON"),
        (compressed(json.dumps(cut("0", ["a"], 0.0)).encode()), r"line 1: duration: found 0.0, expected a positive"),
        (compressed(json.dumps(cut("0", [" "])).encode()), r"line 1: custom.texts\[0\]: found ' ', expected some"),
        (compressed(json.dumps(cut("0", [])).encode()), r"line 1: found .*, expected a cut"),
        (compressed(b"[]\n"), r"line 1: found \[\], expected a cut"),
        (compressed(b"\xff\xfe\n"), r"after line 0: not UTF-8 text"),
    ],
)
def test_damaged_cuts_are_named_by_line_and_nothing_is_left(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "libriheavy_cuts_small.jsonl.gz").write_bytes(content)
    with pytest.raises(InputError, match=message):
        prepare_libriheavy(of_libriheavy(tmp_path, subset="small"), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_part_that_is_not_there_is_named(libriheavy: Path) -> None:
    with pytest.raises(InputError, match=r"libriheavy_cuts_large.jsonl.gz: no such file, expected Libriheavy's cuts"):
        prepare_libriheavy(of_libriheavy(libriheavy, subset="large"), libriheavy / "out")


@pytest.mark.parametrize("keys", [{}, {"subset": "small", "part": "small"}])
@pytest.mark.parametrize("layout", [LibriLightSettings, LibriheavySettings])
def test_a_subset_and_a_part_are_one_of_both(layout: type, keys: dict[str, str]) -> None:
    name = "librilight" if layout is LibriLightSettings else "libriheavy"
    with pytest.raises(InputError, match=r"found (neither|both) subset (nor|and) part, expected one of them"):
        parse_settings(layout, {"layout": name, "path": "there"} | keys, "test")


def test_parts_of_librilight_are_its_subset_without_tokenizing_twice(tmp_path: Path) -> None:
    for part, speaker in (("small", "100"), ("medium", "200")):
        folder = tmp_path / part / speaker / "book"
        folder.mkdir(parents=True)
        soundfile.write(folder / "a.flac", np.zeros(800), 16000, subtype="PCM_16")

    def fileids(**keys: str) -> list[str]:
        settings = load_corpus(json.dumps({"layout": "librilight", "path": str(tmp_path)} | keys))
        prepare(settings, None, tmp_path / "out")
        return [row["fileid"] for row in rows(tmp_path / "out/manifest.csv")]

    assert fileids(part="small") == ["100/book/a"]
    assert fileids(part="medium") == ["200/book/a"]
    assert fileids(subset="medium") == fileids(part="small") + fileids(part="medium")


def test_a_table_of_texts_is_csv_or_jsonl(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('speaker,fileid,text,duration_s\ns1,a,"Ha, ha\n ha",1.5\n,b,no,\n')
    (tmp_path / "a.jsonl").write_text(
        '{"fileid": "a", "text": "Ha, ha ha ", "duration_s": 1.5, "speaker": "s1"}\n{"fileid": "b", "text": "no"}\n'
    )
    expected = [Text("a", "Ha, ha ha", 1.5, "s1"), Text("b", "no", None, None)]
    for name in ("a.csv", "a.jsonl"):
        assert list(read_texts(tmp_path / name)) == expected
    write_texts(tmp_path / "again.csv", expected)
    assert list(read_texts(tmp_path / "again.csv")) == expected


def test_a_chapter_is_a_text(tmp_path: Path) -> None:
    long = "word " * 100_000
    write_texts(tmp_path / "texts.csv", [Text("a", long)])
    assert next(read_texts(tmp_path / "texts.csv")).text == long.strip()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("fileid,text\na,one\nb, \n", "line 3: text: found ' ', expected some text"),
        ("fileid,text\na,one\nb,two\na,three\n", "line 4: fileid a again, first on line 2"),
        ("fileid,words\na,one\n", "line 1: found columns fileid, words, expected also text"),
        ("fileid,text,duration_s\na,one,long\n", "line 2: duration_s: found 'long', expected a positive number"),
        ("fileid,text,duration_s\na,one,-1\n", "line 2: duration_s: found '-1', expected a positive number"),
    ],
)
def test_a_malformed_table_is_named_by_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "texts.csv").write_text(content)
    with pytest.raises(InputError, match=f"texts.csv, {message}"):
        list(read_texts(tmp_path / "texts.csv"))


@pytest.fixture
def spoken(tmp_path: Path) -> Path:
    """A folder of two utterances, its manifest and its annotations."""
    for name in ("a", "b"):
        (tmp_path / "audio/s1").mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / f"audio/s1/{name}.wav", np.zeros(16000), 16000, subtype="PCM_16")
    prepare(load_corpus(json.dumps({"layout": "folder", "path": str(tmp_path / "audio")})), None, tmp_path)
    lines = ["fileid,onset,offset,label,tier,speaker"]
    for name in ("a", "b"):
        phones = [
            ("SIL", 0, 0.1),
            ("DH", 0.1, 0.2),
            ("AH", 0.2, 0.3),
            ("K", 0.3, 0.5),
            ("IY", 0.5, 0.9),
            ("SIL", 0.9, 1),
        ]
        lines += [f"{name},{onset},{offset},{label},phones,s1" for label, onset, offset in phones]
        lines += [f"{name},0.1,0.3,the,words,s1", f"{name},0.3,0.9,key,words,s1"]
    (tmp_path / "intervals.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def texts_of(folder: Path, texts: str | None, **more: Any) -> list[Text]:
    settings = load_corpus(
        json.dumps(
            {"layout": "folder", "path": str(folder / "audio"), "annotations": "x"}
            | ({"texts": texts} if texts else {})
        )
    )
    prepare_texts(settings, None, folder / "manifest.csv", folder / "intervals.csv", None, folder / "texts.csv")
    return list(read_texts(folder / "texts.csv"))


@pytest.mark.parametrize(("tier", "text"), [("words", "the key"), ("phones", "DHAH KIY")])
def test_annotations_tell_words_or_their_phones(spoken: Path, tier: str, text: str) -> None:
    assert texts_of(spoken, tier) == [Text("a", text, 1.0, "s1"), Text("b", text, 1.0, "s1")]


def test_a_table_tells_the_utterances_of_the_manifest_and_no_others(
    spoken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (spoken / "mine.csv").write_text("fileid,text\nb,Bee.\nc,Sea.\na,A.\n")
    assert texts_of(spoken, str(spoken / "mine.csv")) == [Text("b", "Bee.", 1.0, "s1"), Text("a", "A.", 1.0, "s1")]
    assert "left out 1 (c) texts of utterances that the manifest lacks" in capsys.readouterr().out
    (spoken / "texts.csv").unlink()
    (spoken / "mine.csv").write_text("fileid,text\nb,Bee.\n")
    with pytest.raises(InputError, match=r"mine.csv: found no text of 1 \(a\) of 2 utterances, expected all"):
        texts_of(spoken, str(spoken / "mine.csv"))
    assert not (spoken / "texts.csv").exists()


def test_a_corpus_without_texts_is_an_error(spoken: Path) -> None:
    with pytest.raises(InputError, match="texts: missing, expected a table of texts, words or phones"):
        texts_of(spoken, None)
    with pytest.raises(InputError, match=r"texts: found .mine.txt., expected words, phones, or the path of a .csv or"):
        texts_of(spoken, "mine.txt")


def lexical(folder: Path, nonword: str) -> Path:
    (folder / "lexical/dev").mkdir(parents=True)
    gold = ["id,filename,voice,frequency,word,phones,length,correct"]
    for name, word, correct in (("aX", "brick", 1), ("bX", nonword, 0)):
        soundfile.write(folder / f"lexical/dev/{name}.wav", np.zeros(800), 16000, subtype="PCM_16")
        gold.append(f"1,{name},A,3,{word},B R IH K,4,{correct}")
    (folder / "lexical/dev/gold.csv").write_text("\n".join(gold) + "\n")
    return folder


def run_texts(folder: Path) -> subprocess.CompletedProcess[str]:
    settings = json.dumps({"layout": "zerospeech2021", "path": str(folder), "task": "lexical"})
    prepare(load_corpus(settings), None, folder)
    command = [
        sys.executable,
        "-m",
        "corpora.texts",
        "--settings",
        settings,
        "--manifest",
        str(folder / "manifest.csv"),
    ]
    command += ["--items", str(folder / "items.csv"), "--output", str(folder / "texts.csv")]
    return subprocess.run(command, capture_output=True, text=True)


def test_slm21_has_its_texts_in_gold(tmp_path: Path) -> None:
    assert run_texts(lexical(tmp_path, "blick")).returncode == 0
    assert list(read_texts(tmp_path / "texts.csv")) == [Text("aX", "brick", 0.05, "A"), Text("bX", "blick", 0.05, "A")]


def test_a_nonword_without_a_spelling_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    done = run_texts(lexical(tmp_path, ""))
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {tmp_path}/items.csv: word: found nothing for 1 (bX) of 2 files, expected what is said; "
        "a table of texts under the corpus's key texts can tell it\n"
    )
    assert not (tmp_path / "texts.csv").exists()
