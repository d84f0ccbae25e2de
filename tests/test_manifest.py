from pathlib import Path

import pytest

from artifacts.errors import InputError
from corpora.manifest import Utterance, read_manifest, write_manifest


def test_a_manifest_reads_back_as_it_was_written(tmp_path: Path) -> None:
    utterances = [
        Utterance("a", tmp_path / "a.wav", 16000, "s1"),
        Utterance("b", tmp_path / "deep" / "b, c.flac", 1, "s2"),
    ]
    write_manifest(tmp_path / "manifest.csv", utterances)
    assert read_manifest(tmp_path / "manifest.csv") == utterances


def test_a_relative_path_is_written_relative_to_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("results/corpora/train/manifest.csv")
    write_manifest(path, [Utterance("a", Path("speech/a.wav"), 5, "s1")])
    assert "../../../speech/a.wav" in path.read_text()
    assert read_manifest(path)[0].path == tmp_path / "speech" / "a.wav"


def test_a_manifest_behind_a_symbolic_link_finds_its_audio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scratch" / "a" / "b").mkdir(parents=True)
    (tmp_path / "results").symlink_to(tmp_path / "scratch" / "a" / "b")
    write_manifest(Path("results/manifest.csv"), [Utterance("a", Path("a.wav"), 5, "s1")])
    assert read_manifest(Path("results/manifest.csv"))[0].path == tmp_path / "a.wav"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,a.wav,16000,s1", "line 3: fileid a again, first on line 2"),
        ("b,b.wav,0,s1", "line 3: num_samples: found '0'"),
        ("b,b.wav,1e4,s1", "line 3: num_samples: found '1e4'"),
        ("b,,16000,s1", "line 3: path"),
        ("b c,b.wav,16000,s1", "line 3: fileid: found 'b c'"),
        ("b,b.wav,16000,", "line 3: speaker"),
        ("b,b.wav,16000", "line 3: found 3 fields, expected 4"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "manifest.csv"
    path.write_text(f"fileid,path,num_samples,speaker\na,a.wav,16000,s1\n{row}\n")
    with pytest.raises(InputError, match=message) as error:
        read_manifest(path)
    assert str(path) in str(error.value)
