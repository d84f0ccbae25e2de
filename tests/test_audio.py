from pathlib import Path

import numpy as np
import pytest
import soundfile

from artifacts.errors import InputError
from corpora.audio import read_crop, read_num_samples, read_waveform
from corpora.manifest import Utterance


def utterance(path: Path, num_samples: int = 1000) -> Utterance:
    return Utterance(path.stem, path, num_samples, "s1")


def write(path: Path, num_samples: int = 1000, rate: int = 16000, channels: int = 1) -> Utterance:
    noise = np.random.default_rng(0).uniform(-1, 1, (num_samples, channels))
    soundfile.write(path, noise, rate, subtype="PCM_16")
    return utterance(path)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_crop_is_that_part_of_the_waveform(tmp_path: Path, suffix: str) -> None:
    made = write(tmp_path / f"a.{suffix}")
    waveform = read_waveform(made)
    assert waveform.shape == (1000,)
    assert waveform.dtype == np.float32
    np.testing.assert_array_equal(read_crop(made, 300, 500), waveform[300:800])
    assert read_num_samples(made.path) == 1000


def test_a_crop_outside_the_utterance_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="crop 600:1100"):
        read_crop(write(tmp_path / "a.wav"), 600, 500)


def test_every_fault_of_a_file_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no speech")
    soundfile.write(tmp_path / "nan.wav", np.full(1000, np.nan), 16000, subtype="FLOAT")
    faults = {
        "no such file": utterance(tmp_path / "absent.wav"),
        "not readable as audio": utterance(tmp_path / "text.wav"),
        "found 8000 Hz, expected 16000 Hz": write(tmp_path / "slow.wav", rate=8000),
        "found 2 channels, expected mono": write(tmp_path / "stereo.wav", channels=2),
        "empty": write(tmp_path / "empty.wav", num_samples=0),
        "found 999 samples, the manifest says 1,000": write(tmp_path / "short.wav", num_samples=999),
        "not finite": utterance(tmp_path / "nan.wav"),
    }
    for message, faulty in faults.items():
        with pytest.raises(InputError, match=message) as error:
            read_waveform(faulty)
        assert str(faulty.path) in str(error.value)


def test_a_truncated_flac_is_an_input_error(tmp_path: Path) -> None:
    made = write(tmp_path / "a.flac", num_samples=50_000)
    made.path.write_bytes(made.path.read_bytes()[:40_000])
    with pytest.raises(InputError, match=r"a\.flac"):
        read_waveform(Utterance("a", made.path, 50_000, "s1"))
