"""LibriSpeech and Libri-Light as they lie on a disk: subsets, speakers, names, folders or archives."""

import csv
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from artifacts.errors import InputError
from artifacts.settings import parse_settings
from corpora.layouts import recordings
from corpora.manifest import Utterance, read_manifest
from corpora.prepare import prepare
from corpora.settings import FolderSettings, LibriLightSettings, LibriSpeechSettings, load_corpus

SPEAKERS = (
    "; ID | SEX | SUBSET\n19 | F | train-clean-100 | 25 | A\n84 | M | dev-clean | 8 | B\n26 | M | test-other | 8 |\n"
)


def write_audio(path: Path, num_samples: int = 1600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(num_samples), 16000, subtype="PCM_16")
    return path


def genders(folder: Path) -> dict[str, str]:
    with (folder / "speakers.csv").open(newline="") as file:
        return {row["speaker"]: row["gender"] for row in csv.DictReader(file)}


def librispeech(path: Path, *subsets: str) -> LibriSpeechSettings:
    value = {"layout": "librispeech", "path": str(path), "subsets": list(subsets)}
    return parse_settings(LibriSpeechSettings, value, "--settings")


@pytest.fixture
def libri(tmp_path: Path) -> Path:
    root = tmp_path / "LibriSpeech"
    write_audio(root / "train-clean-100/19/198/19-198-0001.flac", 1700)
    write_audio(root / "train-clean-100/19/198/19-198-0000.flac", 1800)
    write_audio(root / "dev-clean/84/121550/84-121550-0000.flac", 1900)
    write_audio(root / "test-other/26/1/26-1-0000.flac")
    (root / "train-clean-100/19/198/19-198.trans.txt").write_text("19-198-0000 NORTHANGER ABBEY\n")
    (root / "SPEAKERS.TXT").write_text(SPEAKERS)
    return root


def test_librispeech_s_subsets_are_taken_in_their_order(libri: Path, tmp_path: Path) -> None:
    assert prepare(librispeech(libri, "dev-clean", "train-clean-100"), None, tmp_path / "out") == 3
    assert read_manifest(tmp_path / "out/manifest.csv") == [
        Utterance("84-121550-0000", libri / "dev-clean/84/121550/84-121550-0000.flac", 1900, "84"),
        Utterance("19-198-0000", libri / "train-clean-100/19/198/19-198-0000.flac", 1800, "19"),
        Utterance("19-198-0001", libri / "train-clean-100/19/198/19-198-0001.flac", 1700, "19"),
    ]
    assert genders(tmp_path / "out") == {"19": "f", "84": "m"}
    assert not (tmp_path / "out/.headers.jsonl").exists()


def test_what_librispeech_lacks_is_told(libri: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"LibriSpeech: found neither dev-other/ nor dev-other.tar"):
        prepare(librispeech(libri, "dev-clean", "dev-other"), None, tmp_path / "out")
    (libri / "dev-other").mkdir()
    with pytest.raises(InputError, match=r"dev-other: found no .wav or .flac file"):
        prepare(librispeech(libri, "dev-other"), None, tmp_path / "out")
    (libri / "SPEAKERS.TXT").write_text(SPEAKERS.replace("84", "85"))
    with pytest.raises(InputError, match=r"SPEAKERS.TXT: found no 1 \(84\) of 1 speakers, expected all"):
        prepare(librispeech(libri, "dev-clean"), None, tmp_path / "out")
    (libri / "SPEAKERS.TXT").unlink()
    with pytest.raises(InputError, match=r"SPEAKERS.TXT: no such file"):
        prepare(librispeech(libri, "dev-clean"), None, tmp_path / "out")


@pytest.mark.parametrize("name", ["84/121550/85-121550-0000.flac", "84/84-121550-0000.flac", "84/1/2/84-1-0000.flac"])
def test_a_file_of_another_name_is_not_librispeech_s(libri: Path, tmp_path: Path, name: str) -> None:
    write_audio(libri / "dev-clean" / name)
    with pytest.raises(InputError, match=rf"{name}: expected dev-clean/<speaker>/<chapter>/"):
        prepare(librispeech(libri, "dev-clean"), None, tmp_path / "out")


@pytest.mark.parametrize(
    ("subsets", "message"),
    [
        (["dev-clean", "dev-clean"], "subsets: found .* expected each once"),
        (["dev"], "subsets.0: found \"dev\", expected 'train-clean-100'"),
        ([], "subsets: found"),
    ],
)
def test_a_subset_that_there_is_not_is_told(tmp_path: Path, subsets: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        librispeech(tmp_path, *subsets)


@pytest.fixture
def librilight(tmp_path: Path) -> Path:
    root = tmp_path / "librilight"
    for place in ("small/100/sea/01_sea", "small/100/air/01_sea", "medium/7/sea/02_sea", "large/100/fire/1/0001"):
        write_audio(root / f"{place}.flac").with_suffix(".json").write_text('{"speaker": "100"}')
    write_audio(root / "duplicate/100/sea/01_sea.flac")
    return root


@pytest.mark.parametrize(
    ("subset", "fileids"),
    [
        ("small", ["100/air/01_sea", "100/sea/01_sea"]),
        ("medium", ["100/air/01_sea", "100/sea/01_sea", "7/sea/02_sea"]),
        ("large", ["100/air/01_sea", "100/sea/01_sea", "7/sea/02_sea", "100/fire/1/0001"]),
    ],
)
def test_librilight_s_subsets_contain_one_another(
    librilight: Path, tmp_path: Path, subset: str, fileids: list[str]
) -> None:
    settings = load_corpus(f'{{"layout": "librilight", "path": "{librilight}", "subset": "{subset}"}}')
    assert isinstance(settings, LibriLightSettings)
    assert prepare(settings, None, tmp_path / "out") == len(fileids)
    found = read_manifest(tmp_path / "out/manifest.csv")
    assert [u.fileid for u in found] == fileids
    assert [u.speaker for u in found] == [fileid.split("/")[0] for fileid in fileids]
    assert all(u.path.is_file() and u.path.as_posix().endswith(f"{u.fileid}.flac") for u in found)
    assert set(genders(tmp_path / "out").values()) == {""}


def test_an_archive_stands_for_the_folder_it_holds(librilight: Path, tmp_path: Path) -> None:
    settings = LibriLightSettings(layout="librilight", path=str(librilight), subset="medium")
    prepare(settings, None, tmp_path / "out")
    loose = read_manifest(tmp_path / "out/manifest.csv")
    with tarfile.open(librilight / "small.tar", "w") as tar:
        tar.add(librilight / "small", "LibriLight/small")
    (librilight / "small").rename(librilight / "unpacked")
    prepare(settings, None, tmp_path / "out")
    packed = {u.fileid: u for u in read_manifest(tmp_path / "out/manifest.csv")}
    assert {(u.fileid, u.num_samples, u.speaker) for u in loose} == {
        (u.fileid, u.num_samples, u.speaker) for u in packed.values()
    }
    assert packed["100/sea/01_sea"].path == librilight / "small.tar/LibriLight/small/100/sea/01_sea.flac"
    assert packed["7/sea/02_sea"].member is None
    (librilight / "small.tar").rename(librilight / "large.tar")
    (librilight / "unpacked").rename(librilight / "small")
    (librilight / "large").rename(librilight / "unpacked")
    with pytest.raises(InputError, match=r"large.tar: found LibriLight/small/.*, expected all files to be in a folder"):
        prepare(settings.model_copy(update={"subset": "large"}), None, tmp_path / "out")


def test_a_file_outside_a_book_is_not_librilight_s(librilight: Path, tmp_path: Path) -> None:
    write_audio(librilight / "small/100/stray.flac")
    settings = LibriLightSettings(layout="librilight", path=str(librilight), subset="small")
    with pytest.raises(InputError, match=r"stray.flac: expected small/<speaker>/<book>/<file>.flac"):
        prepare(settings, None, tmp_path / "out")


PART = st.text("a-.0~", min_size=1, max_size=3).filter(lambda part: set(part) != {"."})
PATH = st.lists(PART, max_size=2).map(lambda folders: "/".join([*(f"{folder}_" for folder in folders), "x.wav"]))


@given(st.sets(st.tuples(PATH, PART).map(lambda pair: f"{pair[0][:-5]}{pair[1]}.WAV"), max_size=12))
def test_files_come_in_the_order_of_their_whole_paths(
    tmp_path_factory: pytest.TempPathFactory, names: set[str]
) -> None:
    folder = tmp_path_factory.mktemp("speech")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert [recording.name for recording in recordings(folder)] == sorted(names)


def test_speakers_of_any_tree_are_named_by_a_pattern(tmp_path: Path) -> None:
    for name in ("wav/session1/f03-001.wav", "wav/session2/m11-001.flac"):
        write_audio(tmp_path / "mine" / name)
    settings = FolderSettings(layout="folder", path=str(tmp_path / "mine"), speaker_pattern=r"/(?P<speaker>[fm]\d+)-")
    prepare(settings, None, tmp_path / "out")
    assert list(genders(tmp_path / "out")) == ["f03", "m11"]
