"""Feature sets come back as they were written, and a broken one says where."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from artifacts.errors import InputError
from units import features
from units.features import FeatureReader, FeatureWriter

CONFIG = {"encoder": "toy", "layer": 6, "tap": "ffn", "frame_rate_hz": 50.0, "provenance": {}}


def write(folder: Path, utterances: dict[str, np.ndarray], dtype: features.Dtype = "float32") -> FeatureReader:
    with FeatureWriter(folder, CONFIG, dtype) as writer:
        for fileid, frames in utterances.items():
            writer.write(fileid, frames)
    return FeatureReader(folder)


@pytest.fixture
def utterances() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {f"u{i}": draw.normal(size=(length, 3)).astype(np.float32) for i, length in enumerate([4, 1, 7, 0, 5])}


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "SHARD_BYTES", 5 * 3 * 4)


@pytest.mark.usefixtures("small_shards")
def test_every_utterance_comes_back_from_its_shard(tmp_path: Path, utterances: dict[str, np.ndarray]) -> None:
    reader = write(tmp_path / "set", utterances)
    assert reader.fileids == list(utterances)
    assert (reader.total_frames, reader.dim, reader.frame_rate_hz) == (17, 3, 50.0)
    for fileid, frames in utterances.items():
        assert reader.num_frames(fileid) == len(frames)
        np.testing.assert_array_equal(reader.frames(fileid), frames)
    assert len(list((tmp_path / "set").glob("shard-*"))) == 3


@pytest.mark.usefixtures("small_shards")
def test_an_utterance_that_is_written_in_parts_is_the_same_as_at_once(
    tmp_path: Path, utterances: dict[str, np.ndarray]
) -> None:
    """Its second part begins where its shard is full already."""
    write(tmp_path / "whole", utterances)
    with FeatureWriter(tmp_path / "parts", CONFIG, "float32") as writer:
        for fileid, frames in utterances.items():
            for part in (frames[:5], frames[5:6], frames[6:]):
                writer.write(fileid, part)
    files = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == files
    for name in files:
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@given(st.data())
def test_any_slice_of_an_utterance_is_that_slice(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, 9))
    start = data.draw(st.integers(0, length))
    stop = data.draw(st.integers(start, length))
    frames = np.arange(length * 2, dtype=np.float32).reshape(length, 2)
    reader = write(tmp_path_factory.mktemp("set"), {"before": frames[:1], "u": frames, "after": frames})
    np.testing.assert_array_equal(reader.frames("u", start, stop), frames[start:stop])


def test_float16_is_stored_by_default_and_read_as_float32(tmp_path: Path) -> None:
    with FeatureWriter(tmp_path / "set", CONFIG) as writer:
        writer.write("u", np.array([[0.1, 1.0]]))
    reader = FeatureReader(tmp_path / "set")
    assert reader.config["dtype"] == "float16"
    assert reader.frames("u").dtype == np.float32
    np.testing.assert_array_equal(reader.frames("u"), np.float16([[0.1, 1.0]]).astype(np.float32))


def test_a_feature_too_large_for_float16_is_refused_and_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="u: found a feature of size 70000, expected at most 65504"):
        write(tmp_path / "set", {"u": np.array([[70000.0]])}, "float16")
    assert not list(tmp_path.iterdir())


def test_an_empty_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no utterance"):
        write(tmp_path / "set", {})
    assert not list(tmp_path.iterdir())


def test_a_slice_outside_the_utterance_is_refused(tmp_path: Path) -> None:
    reader = write(tmp_path / "set", {"u": np.zeros((3, 1))})
    with pytest.raises(ValueError, match="frames 1:4 of u, which has 3"):
        reader.frames("u", 1, 4)


def test_a_missing_index_or_configuration_is_named(tmp_path: Path, utterances: dict[str, np.ndarray]) -> None:
    write(tmp_path / "set", utterances)
    for name in ("index.csv", "config.json"):
        (tmp_path / "set" / name).unlink()
        with pytest.raises(InputError, match=f"{name}: no such file"):
            FeatureReader(tmp_path / "set")


@pytest.mark.usefixtures("small_shards")
def test_a_truncated_index_is_noticed(tmp_path: Path, utterances: dict[str, np.ndarray]) -> None:
    write(tmp_path / "set", utterances)
    index = tmp_path / "set" / "index.csv"
    index.write_text("".join(index.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match=r"index\.csv: found 12 frames, expected the 17"):
        FeatureReader(tmp_path / "set")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("u0,shard-00000.safetensors,0,1", "line 7: fileid u0 again"),
        ("u9,shard-00000.safetensors,-1,1", "line 7: start: found '-1', expected a whole number"),
        ("u9,shard-00000.safetensors,0,1.5", "line 7: num_frames: found '1.5'"),
    ],
)
def test_a_bad_line_of_the_index_is_named(
    tmp_path: Path, utterances: dict[str, np.ndarray], line: str, message: str
) -> None:
    write(tmp_path / "set", utterances)
    with (tmp_path / "set" / "index.csv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=message):
        FeatureReader(tmp_path / "set")


def test_an_index_that_goes_beyond_its_shard_is_named(tmp_path: Path, utterances: dict[str, np.ndarray]) -> None:
    write(tmp_path / "set", utterances)
    index = tmp_path / "set" / "index.csv"
    index.write_text(index.read_text().replace("00000.safetensors,12,5", "00000.safetensors,13,5"))
    with pytest.raises(InputError, match=r"shard-00000\.safetensors: found 17 frames, expected those of u4 up to 18"):
        FeatureReader(tmp_path / "set").frames("u4")


def test_a_missing_or_truncated_shard_is_named(tmp_path: Path, utterances: dict[str, np.ndarray]) -> None:
    reader = write(tmp_path / "set", utterances)
    shard = tmp_path / "set" / "shard-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"shard-00000\.safetensors: not a whole safetensors file"):
        reader.frames("u0")
    shard.unlink()
    with pytest.raises(InputError, match=r"shard-00000\.safetensors: no such file"):
        reader.frames("u0")


def test_an_utterance_that_is_not_there_is_named(tmp_path: Path, utterances: dict[str, np.ndarray]) -> None:
    with pytest.raises(InputError, match=r"index\.csv: found no utterance u9"):
        write(tmp_path / "set", utterances).frames("u9")


MEMORY = """
import sys
from pathlib import Path
import numpy as np
from units.features import FeatureReader, FeatureWriter

def kilobytes(key):
    (line,) = (line for line in open("/proc/self/status") if line.startswith(key + ":"))
    return int(line.split()[1])

folder, dtype = Path(sys.argv[1]), sys.argv[2]
config = {"encoder": "toy", "layer": 6, "tap": "ffn", "frame_rate_hz": 50.0, "provenance": {}}
before = kilobytes("VmHWM")
with FeatureWriter(folder, config, dtype) as writer:
    for number in range(64):
        writer.write(f"u{number}", np.full((1000, 512), number, dtype=np.float32))
written = kilobytes("VmHWM") - before

reader = FeatureReader(folder)
before = kilobytes("RssAnon"), kilobytes("RssFile")
reader.frames("u3", 5, 6)
mapped = kilobytes("RssFile") - before[1]
most = 0
for fileid in reader.fileids:
    frames = reader.frames(fileid)
    assert (frames == int(fileid[1:])).all()
    most = max(most, kilobytes("RssAnon") - before[0])
print(written, mapped, most)
"""


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_neither_writing_nor_reading_holds_more_than_an_utterance(tmp_path: Path, dtype: str) -> None:
    """64 utterances of 2 MB as float32, all in one shard of 64 or 128 MB, as the system counts the process's memory.

    Reading one frame brings in what surrounds it of the file, not the shard.
    """
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "set"), dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    written, mapped, most = map(int, done.stdout.split())
    utterance = 1000 * 512 * 4 / 1024
    assert len(list((tmp_path / "set").glob("shard-*"))) == 1
    assert written < 6 * utterance
    assert mapped < 4 * utterance
    assert most < 4 * utterance


def test_a_shard_is_a_file_that_safetensors_itself_reads(tmp_path: Path, utterances: dict[str, np.ndarray]) -> None:
    for dtype in ("float16", "float32"):
        write(tmp_path / "set", utterances, dtype)
        found = load_file(tmp_path / "set" / "shard-00000.safetensors")
        assert list(found) == ["features"]
        np.testing.assert_array_equal(found["features"], np.concatenate(list(utterances.values())).astype(dtype))
