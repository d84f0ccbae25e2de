"""Archives and manifests of strangers: what they name stays where it is."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from strangers import EVIL, in_one_line, nothing_is_stolen

from artifacts.errors import InputError
from corpora.archives import members
from corpora.audio import read_waveform
from corpora.manifest import read_manifest
from corpora.prepare import prepare
from corpora.settings import FolderSettings

__all__ = ["nothing_is_stolen"]  # a fixture


def wav(num_samples: int = 1600) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(num_samples), 16000, format="WAV", subtype="PCM_16")
    return file.getvalue()


def test_an_archives_entries_stay_in_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside.wav"
    outside.write_bytes(wav(800))
    speech = tmp_path / "speech"
    speech.mkdir()
    with tarfile.open(speech / "a.tar", "w") as tar:
        for name in (
            "../../escaped.wav",
            "/absolute.wav",
            "s1/../../escaped-too.wav",
            f"s1/{EVIL.replace(' ', '_')}.wav",
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(wav())
            tar.addfile(entry, io.BytesIO(wav()))
        for kind, target in (
            (tarfile.SYMTYPE, str(outside)),
            (tarfile.LNKTYPE, "../outside.wav"),
            (tarfile.CHRTYPE, ""),
            (tarfile.FIFOTYPE, ""),
        ):
            entry = tarfile.TarInfo(f"s1/link{kind.decode()}.wav")
            entry.type, entry.linkname = kind, target
            tar.addfile(entry)
    before = {path for path in tmp_path.rglob("*") if "out" not in path.parts}
    names = [name for name, _ in members(speech / "a.tar")]
    assert not [name for name in names if "link" in name]
    settings = FolderSettings(layout="folder", path=str(speech), speaker_pattern="(?P<speaker>[a-z])")
    prepare(settings, None, tmp_path / "out")
    found = read_manifest(tmp_path / "out" / "manifest.csv")
    assert len(found) == len(names)
    assert {len(read_waveform(utterance)) for utterance in found} == {1600}  # the archive's own bytes
    assert {path for path in tmp_path.rglob("*") if "out" not in path.parts} == before
    assert not Path("/absolute.wav").exists()


@pytest.mark.parametrize("size", [2**60, -512])
def test_a_lying_archive_is_one_line(tmp_path: Path, size: int) -> None:
    entry = tarfile.TarInfo("s1/a.wav")
    entry.size = size
    (tmp_path / "a.tar").write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))
    in_one_line(r"a\.tar", lambda: [soundfile.read(io.BytesIO(b"")) for _ in read_all(tmp_path / "a.tar")])


def read_all(archive: Path) -> Iterator[np.ndarray]:
    from corpora.audio import read_num_samples

    for name, member in members(archive):
        read_num_samples(archive / name, member)
        yield np.zeros(0)
    raise InputError(f"{archive}: read to its end")


@pytest.mark.parametrize("path", ["../../../../../../../../etc/passwd", "/etc/passwd"])
def test_a_manifest_that_names_another_file_reads_it_as_audio_or_not_at_all(tmp_path: Path, path: str) -> None:
    """A manifest may name any audio, as the user's own do; of another file nothing is told but that it is none."""
    (tmp_path / "manifest.csv").write_text(f"fileid,path,num_samples,speaker\na,{path},1600,s1\n")
    (utterance,) = read_manifest(tmp_path / "manifest.csv")
    in_one_line("^/etc/passwd: not readable as audio .*, expected WAV or FLAC$", lambda: read_waveform(utterance))


def test_a_file_whose_name_is_a_command_is_speech_like_any_other(tmp_path: Path) -> None:
    name = EVIL.replace(" ", "${IFS}").replace("/", "")
    (tmp_path / "speech" / "s1").mkdir(parents=True)
    (tmp_path / "speech" / "s1" / f"{name}.wav").write_bytes(wav())
    prepare(FolderSettings(layout="folder", path=str(tmp_path / "speech")), None, tmp_path / "out")
    (utterance,) = read_manifest(tmp_path / "out" / "manifest.csv")
    assert utterance.fileid == name
    assert len(read_waveform(utterance)) == 1600
