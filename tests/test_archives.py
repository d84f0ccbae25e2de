"""Speech in tar archives: the same samples as unpacked, and what is wrong with an archive is told."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from artifacts.errors import InputError
from corpora.archives import MemberFile, members
from corpora.audio import read_crop, read_num_samples, read_waveform
from corpora.manifest import Member, Utterance, read_manifest, write_manifest
from corpora.prepare import prepare
from corpora.settings import FolderSettings

DEEP = "a/" * 60 + "deep.flac"
"""A name too long for a tar header: it has one of its own."""


def noise(num_samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, num_samples)


def sound(num_samples: int, form: str, seed: int = 0) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, noise(num_samples, seed), 16000, format=form, subtype="PCM_16")
    return file.getvalue()


@pytest.fixture
def contents() -> dict[str, bytes]:
    return {
        "s2/b.wav": sound(700, "WAV", 1),
        "./s1/a.flac": sound(30_000, "FLAC", 2),
        "s1/a.json": b"{}",
        f"s1/{DEEP}": sound(1600, "FLAC", 3),
    }


def pack(archive: Path, contents: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(archive, mode) as tar:
        tar.addfile(directory := tarfile.TarInfo("s1"))
        directory.type = tarfile.DIRTYPE
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return archive


def test_members_are_the_bytes_between_the_headers(tmp_path: Path, contents: dict[str, bytes]) -> None:
    archive = pack(tmp_path / "a.tar", contents)
    whole = archive.read_bytes()
    found = {name: whole[m.byte_offset : m.byte_offset + m.byte_size] for name, m in members(archive) if m.byte_size}
    assert found == {name.removeprefix("./"): content for name, content in contents.items()}


def test_a_member_reads_as_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"before0123456789after")
    with MemberFile(Member(tmp_path / "a", 6, 10)) as file:
        assert file.read() == b"0123456789"
        assert (file.seek(-4, 2), file.tell(), file.read(99)) == (6, 6, b"6789")
        assert (file.seek(2), file.seek(3, 1), file.read(2)) == (2, 5, b"56")
        assert (file.seek(12), file.read(1)) == (12, b"")


def test_speech_in_an_archive_is_the_speech_unpacked(tmp_path: Path, contents: dict[str, bytes]) -> None:
    (tmp_path / "speech").mkdir()
    pack(tmp_path / "speech" / "train.tar", contents)
    (tmp_path / "speech" / "c.wav").write_bytes(sound(900, "WAV", 4))
    settings = FolderSettings(layout="folder", path=str(tmp_path / "speech"), speaker_pattern=r"(?P<speaker>\w+)/|c\.w")
    with pytest.raises(InputError, match=r"c.wav names no speaker"):
        prepare(settings, None, tmp_path / "out")
    pattern = r"(train\.tar/)?(?P<speaker>\w+)"
    settings = FolderSettings(layout="folder", path=str(tmp_path / "speech"), speaker_pattern=pattern)
    assert prepare(settings, None, tmp_path / "out") == 4
    found = read_manifest(tmp_path / "out" / "manifest.csv")
    assert [(u.fileid, u.num_samples, u.speaker, u.member is None) for u in found] == [
        ("c", 900, "c", True),
        ("b", 700, "s2", False),
        ("a", 30_000, "s1", False),
        ("deep", 1600, "s1", False),
    ]
    assert found[1].path == tmp_path / "speech" / "train.tar" / "s2" / "b.wav"
    for utterance, content in zip(found[1:], [contents["s2/b.wav"], *list(contents.values())[1::2]], strict=True):
        expected, _ = soundfile.read(io.BytesIO(content), dtype="float32")
        np.testing.assert_array_equal(read_waveform(utterance), expected)
        np.testing.assert_array_equal(read_crop(utterance, 300, 200), expected[300:500])


def test_the_manifest_names_the_archive_relative_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    packed = Utterance("a", Path("speech/x.tar/s1/a.wav"), 5, "s1", Member(Path("speech/x.tar"), 512, 54))
    write_manifest(Path("out/manifest.csv"), [packed, Utterance("b", Path("b.wav"), 6, "s2")], archives=True)
    assert Path("out/manifest.csv").read_text() == (
        "fileid,path,num_samples,speaker,archive,byte_offset,byte_size\n"
        "a,s1/a.wav,5,s1,../speech/x.tar,512,54\n"
        "b,../b.wav,6,s2,,,\n"
    )
    archive = tmp_path / "speech" / "x.tar"
    assert read_manifest(Path("out/manifest.csv")) == [
        Utterance("a", archive / "s1" / "a.wav", 5, "s1", Member(archive, 512, 54)),
        Utterance("b", tmp_path / "b.wav", 6, "s2"),
    ]
    with pytest.raises(ValueError, match="archive"):
        write_manifest(Path("out/other.csv"), [packed])


@pytest.mark.parametrize(
    ("columns", "row", "message"),
    [
        ("archive,byte_offset,byte_size", "x.tar,-1,5", "byte_offset: found '-1', expected a number of bytes"),
        ("archive,byte_offset,byte_size", "x.tar,1,", "byte_size: found '', expected a number of bytes"),
        ("archive,byte_offset", "x.tar,1", "byte_size: found ''"),
        ("archive,byte_offset,byte_size", ",1,5", "archive: found '', expected an archive"),
    ],
)
def test_half_a_place_in_an_archive_is_named_by_line(tmp_path: Path, columns: str, row: str, message: str) -> None:
    path = tmp_path / "manifest.csv"
    path.write_text(f"fileid,path,num_samples,speaker,{columns}\na,a.wav,16000,s1,{row}\n")
    with pytest.raises(InputError, match=f"line 2: {message}"):
        read_manifest(path)


def test_an_archive_that_is_none_is_told(tmp_path: Path, contents: dict[str, bytes]) -> None:
    compressed = pack(tmp_path / "compressed.tar", contents, "w:gz")
    with pytest.raises(InputError, match=r"compressed.tar: no uncompressed tar archive"):
        list(members(compressed))
    archive = pack(tmp_path / "cut.tar", contents)
    place = dict(members(archive))["s1/a.flac"]
    archive.write_bytes(archive.read_bytes()[: place.byte_offset + 1000])
    with pytest.raises(InputError, match=r"cut.tar: no uncompressed tar archive, or not a whole one"):
        list(members(archive))
    with pytest.raises(InputError, match=r"cut.tar: found [\d,]+ bytes, the manifest says a file ends at"):
        read_num_samples(archive / "s1/a.flac", place)
    with pytest.raises(InputError, match=r"gone.tar: no such file"):
        read_num_samples(tmp_path / "gone.tar/a.flac", Member(tmp_path / "gone.tar", 0, 1))


def test_bytes_that_are_no_audio_are_named_by_archive_and_name(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.tar", {"s1/a.wav": b"RIFF nothing" * 9})
    ((name, member),) = [(name, member) for name, member in members(archive) if member.byte_size]
    with pytest.raises(InputError, match=r"a.tar/s1/a.wav: not readable as audio"):
        read_num_samples(archive / name, member)
