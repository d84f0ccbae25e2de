import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from artifacts.errors import InputError
from artifacts.settings import parse_settings
from corpora.annotate import annotate
from corpora.manifest import Utterance, read_manifest, write_manifest
from corpora.prepare import prepare
from corpora.settings import (
    FolderSettings,
    StoryClozeSettings,
    SyntheticSettings,
    ZeroSpeechSettings,
    load_corpus,
    locate,
)


def write_audio(path: Path, num_samples: int = 1600) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(num_samples), 16000, subtype="PCM_16")


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def folder_settings(path: Path, **more: Any) -> FolderSettings:
    return FolderSettings(layout="folder", path=str(path), **more)


def test_a_folder_is_read_at_any_depth_and_its_speakers_are_folders(tmp_path: Path) -> None:
    write_audio(tmp_path / "speech/61/70968/61-70968-0001.flac", 1700)
    write_audio(tmp_path / "speech/121/b.wav")
    (tmp_path / "speech/121/b.txt").write_text("HELLO")
    assert prepare(folder_settings(tmp_path / "speech"), None, tmp_path / "out") == 2
    assert read_manifest(tmp_path / "out/manifest.csv") == [
        Utterance("b", tmp_path / "speech/121/b.wav", 1600, "121"),
        Utterance("61-70968-0001", tmp_path / "speech/61/70968/61-70968-0001.flac", 1700, "61"),
    ]
    assert [row["speaker"] for row in read_rows(tmp_path / "out/speakers.csv")] == ["121", "61"]


def test_part_of_a_folder_is_taken_by_its_paths(tmp_path: Path) -> None:
    for place in ("s1/a.wav", "s2/b.wav", "s3/c.wav"):
        write_audio(tmp_path / place)
    prepare(folder_settings(tmp_path, files="^s[13]"), None, tmp_path / "out")
    assert [u.fileid for u in read_manifest(tmp_path / "out/manifest.csv")] == ["a", "c"]
    with pytest.raises(InputError, match=r"found no .wav or .flac file with '\^s4' in its path"):
        prepare(folder_settings(tmp_path, files="^s4"), None, tmp_path / "out")


def test_genders_come_from_the_speaker_table(tmp_path: Path) -> None:
    write_audio(tmp_path / "s1/a.wav")
    (tmp_path / "speakers.csv").write_text("speaker,gender,age\ns1,f,30\ns2,m,20\n")
    settings = FolderSettings(layout="folder", path=".", source="made", speakers="speakers.csv")
    prepare(settings, tmp_path, tmp_path / "out")
    assert read_rows(tmp_path / "out/speakers.csv") == [{"speaker": "s1", "gender": "f"}]
    (tmp_path / "speakers.csv").write_text("speaker,gender\ns2,m\n")
    with pytest.raises(InputError, match=r"speakers.csv: found no 1 \(s1\) of 1 speakers"):
        prepare(settings, tmp_path, tmp_path / "out")


def test_two_files_of_one_name_are_both_named(tmp_path: Path) -> None:
    write_audio(tmp_path / "s1/a.wav")
    write_audio(tmp_path / "s2/a.flac")
    with pytest.raises(InputError, match=r"s1/a.wav and s2/a.flac have one name"):
        prepare(folder_settings(tmp_path), None, tmp_path / "out")


def test_a_path_that_names_no_speaker_is_an_error(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav")
    with pytest.raises(InputError, match=r"a.wav names no speaker"):
        prepare(folder_settings(tmp_path), None, tmp_path / "out")
    prepare(folder_settings(tmp_path, speaker_pattern=r"(?P<speaker>\w+)\.wav$"), None, tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"speaker_pattern": "^([^/]+)/"},
            r"speaker_pattern: found '\^\(\[\^/\]\+\)/', expected a group named speaker",
        ),
        ({"speaker_pattern": "("}, "speaker_pattern: .*expected a regular expression"),
        ({"suffix": ".mp3"}, "suffix: unknown key"),
    ],
)
def test_a_wrong_key_is_named(settings: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_settings(FolderSettings, {"layout": "folder", "path": "x"} | settings, "--settings")


def test_the_layout_decides_which_settings_are_read() -> None:
    assert isinstance(load_corpus('{"layout": "twist", "path": "tSC"}'), StoryClozeSettings)
    with pytest.raises(
        InputError, match="layout: found \"audiobooks\", expected 'folder', 'librispeech', 'librilight'"
    ):
        load_corpus('{"layout": "audiobooks", "path": "x"}')


def test_an_undefined_environment_variable_is_named_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECH", "/data")
    assert locate("${SPEECH}/dev", "path", None) == Path("/data/dev")
    monkeypatch.delenv("SPEECH")
    with pytest.raises(InputError, match=r"path: found \$\{SPEECH\}/dev, expected the environment variable SPEECH"):
        locate("${SPEECH}/dev", "path", None)


def test_a_source_is_given_where_the_settings_name_one_and_nowhere_else(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--source: missing"):
        prepare(folder_settings(tmp_path, source="made"), None, tmp_path / "out")
    with pytest.raises(InputError, match="--source: found"):
        prepare(folder_settings(tmp_path), tmp_path, tmp_path / "out")


GOLD = """id,filename,voice,frequency,word,phones,length,correct
1,abc,A,7,hunter,HH AH N T ER,5,1
1,abd,A,0,,HH AH N T IY,5,0
"""


def lexical(path: Path) -> ZeroSpeechSettings:
    return ZeroSpeechSettings(layout="zerospeech2021", path=str(path), task="lexical")


def test_sLM21_items_are_the_rows_of_gold(tmp_path: Path) -> None:
    for name in ("abc", "abd", "extra"):
        write_audio(tmp_path / f"lexical/dev/{name}.wav")
    (tmp_path / "lexical/dev/gold.csv").write_text(GOLD)
    prepare(lexical(tmp_path), None, tmp_path / "out")
    items = read_rows(tmp_path / "out/items.csv")
    assert list(items[0]) == ["fileid", "id", "voice", "frequency", "word", "phones", "length", "correct"]
    assert [(item["fileid"], item["word"], item["correct"]) for item in items] == [
        ("abc", "hunter", "1"),
        ("abd", "", "0"),
    ]
    assert [(u.fileid, u.speaker) for u in read_manifest(tmp_path / "out/manifest.csv")] == [("abc", "A"), ("abd", "A")]


def test_files_that_gold_names_and_the_folder_lacks_are_counted(tmp_path: Path) -> None:
    write_audio(tmp_path / "lexical/dev/abc.wav")
    (tmp_path / "lexical/dev/gold.csv").write_text(GOLD)
    with pytest.raises(InputError, match=r"found no 1 \(abd.wav\) of 2 files, expected all"):
        prepare(lexical(tmp_path), None, tmp_path / "out")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("abd", "abc", "line 3: filename abc again"),
        ("5,0", "5,no", "line 3: correct: found 'no'"),
        ("frequency,", "", "expected also frequency"),
    ],
)
def test_a_bad_gold_is_named_by_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    (tmp_path / "lexical/dev").mkdir(parents=True)
    (tmp_path / "lexical/dev/gold.csv").write_text(GOLD.replace(old, new))
    with pytest.raises(InputError, match=message):
        prepare(lexical(tmp_path), None, tmp_path / "out")


def test_stories_are_paired_by_their_names(tmp_path: Path) -> None:
    for name in ("10_x_y_correct", "11_x_y_incorrect", "2_z_correct", "3_z_incorrect"):
        write_audio(tmp_path / f"{name}.wav")
    settings = StoryClozeSettings(layout="twist", path=str(tmp_path))
    prepare(settings, None, tmp_path / "out")
    assert [tuple(row.values()) for row in read_rows(tmp_path / "out/items.csv")] == [
        ("2_z_correct", "z", "1"),
        ("3_z_incorrect", "z", "0"),
        ("10_x_y_correct", "x_y", "1"),
        ("11_x_y_incorrect", "x_y", "0"),
    ]
    (tmp_path / "3_z_incorrect.wav").rename(tmp_path / "5_z_incorrect.wav")
    with pytest.raises(InputError, match=r"found no 2 \(3_z_incorrect.wav, 4_z_correct.wav\) of 6 files, expected all"):
        prepare(settings, None, tmp_path / "out")


def test_a_corpus_of_twenty_speakers_is_the_smallest() -> None:
    value = {"layout": "synthetic", "speakers": 19, "training_minutes": 1, "valid_minutes": 1, "dev_utterances": 1}
    value |= {"word_pairs": 2, "sentence_pairs": 2, "story_pairs": 2}
    with pytest.raises(InputError, match="speakers: found 19, expected greater than or equal to 20"):
        parse_settings(SyntheticSettings, value, "--settings")


INTERVALS = """fileid,onset,offset,label,tier,speaker
a,0.0,0.1,SIL,phones,s1
a,0.1,0.2,K,phones,s1
a,0.2,0.3,AE,phones,s1
a,0.3,0.4,T,phones,s1
a,0.4,0.5,SIL,phones,s1
a,0.1,0.4,cat,words,s1
z,0.0,0.1,SIL,phones,s1
"""


def annotated(folder: Path, text: str = INTERVALS, num_samples: int = 8000) -> Path:
    (folder / "table.csv").write_text(text)
    write_manifest(folder / "manifest.csv", [Utterance("a", folder / "a.wav", num_samples, "s1")])
    annotate(folder / "table.csv", folder / "manifest.csv", folder / "out")
    return folder / "out"


def test_annotations_give_items_and_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = annotated(tmp_path)
    assert (out / "intervals.csv").read_text() == INTERVALS.replace("z,0.0,0.1,SIL,phones,s1\n", "")
    header = "#file onset offset #phone prev-phone next-phone speaker\n"
    assert (out / "triphone.item").read_text() == header + "a 0.1 0.4 AE K T s1\n"
    assert (
        out / "phoneme.item"
    ).read_text() == header + "a 0.1 0.2 K SIL AE s1\na 0.2 0.3 AE K T s1\na 0.3 0.4 T AE SIL s1\n"
    assert (out / "words.csv").read_text() == "fileid,onset,offset,label,speaker\na,0.1,0.4,cat,s1\n"
    assert "left out 1 (z) annotated utterances" in capsys.readouterr().out


def test_items_past_the_last_frame_are_left_out(tmp_path: Path) -> None:
    # 6,319 samples have 19 frames; the frame centred at 0.39 s would be the twentieth.
    out = annotated(tmp_path, INTERVALS.replace("a,0.4,0.5,SIL,phones,s1\n", ""), num_samples=6319)
    assert (out / "phoneme.item").read_text().count("\n") == 3
    assert (out / "triphone.item").read_text().count("\n") == 1
    assert (out / "words.csv").read_text().count("\n") == 1


def test_all_that_is_wrong_with_annotations_is_told_at_once(tmp_path: Path) -> None:
    text = INTERVALS.replace("K,phones,s1", "K-G,phones,s2")
    with pytest.raises(InputError) as error:
        annotated(tmp_path, text, num_samples=7000)
    for part in ("past the end", "a: s2 for s1", "'K-G'"):
        assert part in str(error.value)
    with pytest.raises(InputError, match=r"utterances without phones: 1 \(a\)"):
        annotated(tmp_path, INTERVALS.replace("a,", "b,"))


@pytest.mark.slow
def test_triphones_of_the_recorded_corpus_are_those_it_comes_with(recorded: Path, tmp_path: Path) -> None:
    settings = folder_settings(recorded / "audio", speakers=str(recorded / "speakers.csv"))
    assert prepare(settings, None, tmp_path) == 457
    annotate(recorded / "intervals.csv", tmp_path / "manifest.csv", tmp_path)
    assert (tmp_path / "triphone.item").read_text() == (recorded / "triphone.item").read_text()
    assert len(read_rows(tmp_path / "speakers.csv")) == 60
