"""Feature sets made elsewhere become ours frame for frame, and a bad file is named."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from artifacts.errors import InputError
from corpora.manifest import Utterance, write_manifest
from units.feature_import import import_features, read_frames
from units.features import FeatureReader

CONFIG = {"encoder": "theirs", "layer": 9, "tap": "block", "frame_rate_hz": 50.0}
SECONDS = {"dev/84/84-1": 1.0, "85-1": 2.0, "86-1": 0.5}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "corpus" / "manifest.csv"
    write_manifest(path, [Utterance(name, Path(f"{name}.wav"), int(16000 * s), "s") for name, s in SECONDS.items()])
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """49, 99 and 24 frames, as convolutional encoders make of such utterances, with more or fewer folders."""
    theirs = tmp_path / "theirs"
    (theirs / "a" / "b").mkdir(parents=True)
    torch.save(torch.from_numpy(frames(49)).half(), theirs / "84-1.pt")
    np.save(theirs / "a" / "85-1.npy", frames(99).astype(np.float64))
    torch.save(torch.from_numpy(frames(24)), theirs / "a" / "b" / "86-1.pt")
    (theirs / "README.txt").write_text("not features")
    return theirs


def frames(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, 6)).astype(np.float32)


def test_every_utterance_comes_back_frame_for_frame(folder: Path, manifest: Path, tmp_path: Path) -> None:
    import_features(folder, manifest, tmp_path / "features", CONFIG, "float32")
    reader = FeatureReader(tmp_path / "features")
    assert reader.fileids == list(SECONDS)
    assert {key: reader.config[key] for key in CONFIG} == CONFIG
    assert (reader.dim, reader.config["dtype"], reader.total_frames) == (6, "float32", 172)
    np.testing.assert_array_equal(reader.frames("dev/84/84-1"), frames(49).astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(reader.frames("85-1"), frames(99))
    np.testing.assert_array_equal(reader.frames("86-1"), frames(24))


def command(folder: Path, manifest: Path, output: Path) -> subprocess.CompletedProcess[str]:
    options = ["--encoder", "theirs", "--layer", "9", "--frame-rate", "50", "--manifest", manifest, "--output", output]
    words = [sys.executable, "-m", "units.feature_import", folder, *options]
    return subprocess.run([str(word) for word in words], capture_output=True, text=True)


def test_the_command_stores_float16_and_reads_pickles_without_executing_them(
    folder: Path, manifest: Path, tmp_path: Path
) -> None:
    done = command(folder, manifest, tmp_path / "features")
    assert done.returncode == 0, done.stderr
    reader = FeatureReader(tmp_path / "features")
    assert (reader.config["dtype"], reader.config["tap"], reader.frame_rate_hz) == ("float16", "block", 50.0)
    np.testing.assert_array_equal(reader.frames("85-1"), frames(99).astype(np.float16).astype(np.float32))

    torch.save(Malicious(tmp_path / "executed"), folder / "84-1.pt")
    done = command(folder, manifest, tmp_path / "again")
    assert done.returncode == 2
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error"))
    assert "84-1.pt: cannot be read (UnpicklingError" in line
    assert not (tmp_path / "again").exists()
    assert not (tmp_path / "executed").exists()
    torch.load(folder / "84-1.pt", weights_only=False)
    assert (tmp_path / "executed").exists()  # the trap does work


class Malicious:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (frames(40), r"85-1\.npy: found 40 frames, 0\.80 s at 50 Hz, expected the 2\.00 s of 85-1 .*, to 0\.10 s"),
        (frames(94), "found 94 frames"),
        (frames(106), "found 106 frames"),
        (frames(99)[:, :5], r"85-1\.npy: found dimension 5, expected 6: that of .*84-1\.pt"),
        (frames(99)[None], r"85-1\.npy: found shape \(1, 99, 6\), expected \(frames, dim\)"),
        (frames(99)[:, 0], r"found shape \(99,\)"),
        (frames(0), r"found shape \(0, 6\)"),
        (np.where(np.arange(99)[:, None] == 7, np.nan, frames(99)), r"a value that is not finite in frame 7,"),
        (np.full((99, 6), 7e4), r"85-1\.npy: .*found a feature of size 70000, expected at most 65504"),
        (np.zeros((99, 6), dtype=np.int64), r"85-1\.npy: found values of type int64, expected float16, float32"),
        (np.full((99, 6), None), r"85-1\.npy: cannot be read"),
    ],
)
def test_a_bad_file_is_named(folder: Path, manifest: Path, tmp_path: Path, found: Any, message: str) -> None:
    np.save(folder / "a" / "85-1.npy", found)
    with pytest.raises(InputError, match=message):
        import_features(folder, manifest, tmp_path / "features", CONFIG, "float16")
    assert not (tmp_path / "features").exists()


def test_frames_up_to_a_tenth_of_a_second_more_or_fewer_are_taken(folder: Path, manifest: Path, tmp_path: Path) -> None:
    for count in (95, 105):
        np.save(folder / "a" / "85-1.npy", frames(count))
        import_features(folder, manifest, tmp_path / "features", CONFIG)
        assert FeatureReader(tmp_path / "features").num_frames("85-1") == count


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"features": torch.zeros(99, 6)}, r"85-1\.pt: found a dict, expected a tensor"),
        (torch.zeros(99, 6, dtype=torch.bfloat16), r"85-1\.pt: found values of type torch\.bfloat16, expected float16"),
    ],
)
def test_a_pt_file_without_a_tensor_of_floats_is_named(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "85-1.pt")
    with pytest.raises(InputError, match=message):
        read_frames(tmp_path / "85-1.pt")


def test_a_truncated_file_is_named(folder: Path) -> None:
    for file in (folder / "84-1.pt", folder / "a" / "85-1.npy"):
        file.write_bytes(file.read_bytes()[:-100])
        with pytest.raises(InputError, match=rf"{file.name}: cannot be read"):
            read_frames(file)


def test_files_and_utterances_belong_together_one_by_one(folder: Path, manifest: Path, tmp_path: Path) -> None:
    def message() -> str:
        with pytest.raises(InputError) as caught:
            import_features(folder, manifest, tmp_path / "features", CONFIG)
        return str(caught.value)

    np.save(folder / "87-1.npy", frames(9))
    assert message() == f"{folder}/87-1.npy: expected an utterance of {manifest} (1 files are none)"
    (folder / "87-1.npy").rename(folder / "85-1.npy")
    assert message() == f"{folder}: found {folder}/85-1.npy and {folder}/a/85-1.npy for 85-1, expected one of them"
    (folder / "85-1.npy").unlink()
    (folder / "a" / "85-1.npy").unlink()
    assert message() == (
        f"{folder}: found no file for 85-1, expected one for each of the 3 utterances of {manifest} (1 have none)"
    )
    names = ["dev/84-1", "train/84-1"]
    write_manifest(manifest, [Utterance(name, Path("a.wav"), 16000, "s") for name in names])
    expected = f"{folder}/84-1.pt: found to be dev/84-1 or train/84-1 of {manifest}, expected one of them"
    assert message() == expected
    write_manifest(manifest, [Utterance("other/85-1", Path("a.wav"), 16000, "s")])
    np.save(folder / "a" / "85-1.npy", frames(99))
    assert "found no file for other/85-1" in message()


MEMORY = """
import sys
from pathlib import Path
from units.feature_import import import_features

def peak():
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

folder, manifest, few, output = map(Path, sys.argv[1:])
config = {"encoder": "theirs", "layer": 9, "tap": "block", "frame_rate_hz": 50.0}
import_features(folder, few, output, config)
before = peak()
import_features(folder.parent / "many", manifest, output, config)
print(peak() - before)
"""


def test_one_utterance_is_in_memory_at_a_time(tmp_path: Path) -> None:
    """60 utterances of 2 MB: their import takes no more than that of one."""
    num_frames, dim = 1000, 512
    for name, count in (("few", 1), ("many", 60)):
        (tmp_path / name).mkdir()
        for index in range(count):
            np.save(tmp_path / name / f"u{index}.npy", np.full((num_frames, dim), 0.5, np.float32))
        utterances = [Utterance(f"u{index}", Path("a.wav"), 320 * num_frames, "s") for index in range(count)]
        write_manifest(tmp_path / f"{name}.csv", utterances)
    paths = [tmp_path / "few", tmp_path / "many.csv", tmp_path / "few.csv", tmp_path / "output"]
    words = [sys.executable, "-c", MEMORY, *map(str, paths)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 3 * num_frames * dim * 4
