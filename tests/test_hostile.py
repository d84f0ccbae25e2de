"""Files of strangers: nothing in them is executed, nothing leaves its folder, no name reaches a shell as anything else.

Pickles in checkpoints have their own tests (test_unpickling, test_checkpoints, test_kmeans_import,
test_feature_import, test_spidr_released), and archives that are damaged (test_archives).
"""

import bz2
import gzip
import io
import json
import lzma
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from conftest import REPOSITORY, snakemake
from pydantic import TypeAdapter, ValidationError
from safetensors.numpy import save_file

from artifacts.errors import InputError
from artifacts.files import read_json, read_jsonl
from artifacts.settings import load_settings, read_yaml
from artifacts.unpickling import load_untrusted
from corpora.archives import members
from corpora.audio import read_waveform
from corpora.manifest import read_manifest
from corpora.prepare import prepare
from corpora.settings import FolderSettings
from spidr.encoder import load_encoder
from units import kmeans_import
from units.encoders import load
from units.features import FeatureReader
from units.kmeans_import import read_centroids
from units.quantizers import load_quantizer
from units.settings import MfccEncoder
from workflow.evaluation import Name
from workflow.reading import read_experiment

EVIL = """$(touch stolen) `touch stolen` "; touch stolen; '; touch stolen # & | > stolen *"""
"""As a name of a file or a folder."""


@pytest.fixture(autouse=True)
def nothing_is_stolen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever is executed leaves the file `stolen` in the working directory."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.rglob("stolen"))


def in_one_line(message: str, function: Callable[[], object]) -> None:
    with pytest.raises(InputError, match=message) as error:
        function()
    assert "\n" not in str(error.value)


# YAML and JSON


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch stolen']",
        "experiment: !!python/name:os.system",
        "? !!python/object/new:os.system ['touch stolen']",
        "{experiment: a, seed: !!python/object/apply:subprocess.getoutput ['touch stolen']}",
    ],
)
def test_a_tag_of_python_is_no_yaml(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    in_one_line("mine.yaml, line 1: not YAML .could not determine a constructor", lambda: read_experiment(path))


BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}]\n"
    for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB + "experiment: *j", "found aliases that stand for [0-9,]+ parts, expected at most 100,000"),
        (BOMB.replace("[x, x]", "{x: y}").replace("[", "{<<: [").replace("]", "]}"), "found aliases that stand for"),
        ("experiment: &a [*a]", "found aliases that stand for inf parts"),
        ("experiment: " + "[" * 100_000, r"not YAML \(nested too deeply\)"),
    ],
    ids=["laughs", "merges", "itself", "depth"],
)
def test_ten_lines_of_yaml_never_become_a_billion(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    began = time.monotonic()
    in_one_line(f"mine.yaml: {message}", lambda: read_experiment(path))
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 0\ndevice: cpu\nseed: 5\n", "mine.yaml, line 3: seed: found a second time, expected each key once"),
        ("corpora:\n  dev: {}\n  train: {path: a, path: b}\n", "mine.yaml, line 3: path: found a second time"),
        ("a:\n- x: 1\n- &b\n  y: 1\n  'y': 2\nc: *b\n", "mine.yaml, line 5: y: found a second time"),
        ('{"seed": 0, "seed": 5}', "mine.yaml, line 1: seed: found a second time"),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    in_one_line(message, lambda: read_yaml(path))


def test_aliases_as_people_use_them_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("layers: &layers [1, 2]\na: {layers: *layers}\nb: {<<: {x: 1, layers: 3}, layers: *layers}\n")
    assert read_yaml(path) == yaml.safe_load(path.read_text())
    path.write_text("")
    assert read_yaml(path) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [("[" * 200_000, "nested too deeply"), ('{"a":' * 200_000, "nested too deeply"), ("9" * 5000, "too many digits")],
)
def test_json_without_end_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "score.json"
    path.write_text(text)
    in_one_line(f"score.json: not JSON .*{message}", lambda: read_json(path))
    in_one_line(f"score.json, line 1: not JSON .*{message}", lambda: list(read_jsonl(path)))
    if text.startswith("{"):
        in_one_line(f"--settings: not JSON .*{message}", lambda: load_settings(MfccEncoder, text))


# Tensors and arrays


def lying(header: dict[str, Any] | bytes, content: bytes = bytes(16), length: int | None = None) -> bytes:
    """A safetensors file with a header of one's own."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + content


def tensor(dtype: str, shape: list[int], *offsets: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


LIES = {
    "a header of exabytes": lying({}, length=2**62),
    "a header longer than the file": lying({}, length=99_000_000),
    "a header without end": lying(b'{"a":' + b"[" * 100_000),
    "more data than there is": lying({"t": tensor("F32", [10, 4], 0, 160)}),
    "a tensor of exabytes": lying({"t": tensor("F32", [2**40, 2**40], 0, 16)}),
    "a negative size": lying({"t": tensor("F32", [-1, 4], 0, 16)}),
    "tensors over each other": lying({"t": tensor("F32", [4], 0, 16), "u": tensor("F32", [4], 0, 16)}),
    "an unknown type": lying({"t": tensor("XX", [4], 0, 16)}),
    "types that numpy has not": lying({"t": tensor("BF16", [2, 4], 0, 16)}),
    "a pickle": b"\x80\x04cposix\nsystem\n\x8c\x0ctouch stolen\x85R.",
    "nothing": b"",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_header_is_one_line_in_every_room(tmp_path: Path, lie: str) -> None:
    def features() -> Path:
        config = {"frame_rate_hz": 50, "dim": 4, "num_frames": 2}
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "index.csv").write_text("fileid,shard,start,num_frames\na,shard,0,2\n")
        (tmp_path / "shard").write_bytes(LIES[lie].replace(b'"t"', b'"features"'))
        return tmp_path

    def quantizer() -> Path:
        config = {"kind": "kmeans", "num_units": 2, "encoder": "e", "layer": 1, "frame_rate_hz": 50}
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "quantizer.safetensors").write_bytes(LIES[lie].replace(b'"t"', b'"centroids"'))
        return tmp_path

    def encoder() -> Path:
        shutil.copytree(REPOSITORY / "config" / "spidr", tmp_path / "recipes", dirs_exist_ok=True)
        recipe = yaml.safe_load((tmp_path / "recipes" / "tiny.yaml").read_text())
        (tmp_path / "config.json").write_text(
            json.dumps({"family": "spidr", "num_layers": 4, "model": recipe["model"]})
        )
        (tmp_path / "model.safetensors").write_bytes(LIES[lie])
        return tmp_path

    in_one_line("shard: (not a whole|found BF16)", lambda: FeatureReader(features()).frames("a"))
    in_one_line("quantizer.safetensors: not a whole", lambda: load_quantizer(quantizer()))
    in_one_line("model.safetensors: (not a whole|does not fit)", lambda: load_encoder(encoder(), torch.device("cpu")))


def test_centroids_are_floats(tmp_path: Path) -> None:
    config = {"kind": "kmeans", "num_units": 2, "encoder": "e", "layer": 1, "frame_rate_hz": 50}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"centroids": np.zeros((2, 4), dtype=np.int64)}, tmp_path / "quantizer.safetensors")
    in_one_line("centroids: found int64, expected floats", lambda: load_quantizer(tmp_path))


def test_a_compressed_file_is_not_let_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans_import, "LARGEST_BYTES", 10**6)
    much = bytes(10**8)
    for number, compress in enumerate((zlib.compress, gzip.compress, bz2.compress, lzma.compress)):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(compress(much))
        in_one_line("found more than 1,000,000 bytes once decompressed", lambda path=path: read_centroids(path))  # type: ignore[misc]


def test_a_checkpoint_is_not_compressed(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data/0", bytes(10**8))
    began = time.monotonic()
    in_one_line(r"bomb.pt: found a damaged .*data.pkl is compressed", lambda: load_untrusted(path))
    assert time.monotonic() - began < 0.1


def test_an_array_that_says_it_is_petabytes_is_one_line(tmp_path: Path) -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999, 9), }".ljust(117) + b"\n"
    path = tmp_path / "centroids.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(80))
    in_one_line("centroids.npy: cannot be read", lambda: read_centroids(path))


# Models of the hub

SMALL = {
    **{"model_type": "hubert", "num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2},
    **{"intermediate_size": 8, "conv_dim": [4], "conv_kernel": [10], "conv_stride": [5], "num_feat_extract_layers": 1},
}


def remote_code(folder: Path, **config: Any) -> Path:
    """A folder as the hub has them, whose configuration asks for code of its own."""
    folder.mkdir()
    (folder / "evil.py").write_text("open('stolen', 'w').close()\nclass Evil: pass\n")
    auto = dict.fromkeys(("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoTokenizer"), "evil.Evil")
    (folder / "config.json").write_text(json.dumps({"auto_map": auto} | config))
    return folder


def test_code_in_an_encoders_folder_is_not_run(tmp_path: Path) -> None:
    described = {"family": "hub", "num_layers": 1, "frame_rate_hz": 50, "standardize": False}
    for kind in ("hubert", "evil"):
        source = remote_code(tmp_path / kind, **SMALL | {"model_type": kind})
        ours = tmp_path / f"ours-{kind}"
        ours.mkdir()
        (ours / "config.json").write_text(json.dumps({**described, "source": str(source)}))
        in_one_line("source: cannot load", lambda ours=ours: load(ours, "cpu", [1]))  # type: ignore[misc]
        settings = json.dumps({"family": "hub", "source": str(source), "standardize": False, "layers": [1]})
        command = [sys.executable, "-m", "units.encoders", "describe", "--settings", settings, "--output", "described"]
        done = subprocess.run(command, capture_output=True, text=True, env=with_code(), stdin=subprocess.DEVNULL)
        assert (done.returncode, done.stderr.count("\n")) == ((0, 0) if kind == "hubert" else (2, 1)), done.stderr


def test_a_pickle_in_an_encoders_folder_is_not_run(tmp_path: Path) -> None:
    class Call:
        def __reduce__(self) -> Any:
            return os.system, ("touch stolen",)

    source = tmp_path / "hubert"
    source.mkdir()
    (source / "config.json").write_text(json.dumps(SMALL))
    torch.save({"weight": Call()}, source / "pytorch_model.bin")
    described = {"family": "hub", "num_layers": 1, "frame_rate_hz": 50, "standardize": False, "source": str(source)}
    (tmp_path / "config.json").write_text(json.dumps(described))
    in_one_line("source: cannot load", lambda: load(tmp_path, "cpu", [1]))


def test_code_in_a_language_models_folder_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "units.jsonl").write_text('{"fileid": "a", "units": [1], "durations": [1]}\n')
    folder = remote_code(tmp_path / "model", model_type="evil", vocab_size=5)
    command = [sys.executable, "-m", "slm.score", "--model", str(folder), "--units", "units.jsonl", "--output", "o.csv"]
    done = subprocess.run(command, capture_output=True, text=True, env=with_code(), input="y\ny\n")
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(r"error: .*not a language model.*\n", done.stderr)


def with_code() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


# Archives and paths


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


# Names in the workflow


@pytest.mark.parametrize(
    "name", ["../../etc", "/etc", "a b", "$(touch stolen)", "a;b", "a\nb", "a\n", ".", "", "a'b", "*"]
)
def test_a_name_is_letters_digits_underscores_and_single_dashes(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(name)


HARMLESS = {
    *("seed", "device", "precision", "segments", "context", "conditions", "resample", "numbers", "layers", "kind"),
    *("dataset", "experiment", "metric", "untrained", "source", "alignment", "intervals", "items_table", "data"),
    *("slurm", "follow"),
}
"""Parameters that are numbers, options and words of ours, or made of names as above."""


def test_every_rule_quotes_what_may_be_a_files_name() -> None:
    found = 0
    for path in sorted((REPOSITORY / "workflow" / "rules").glob("*.smk")):
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if not line.lstrip().startswith('"'):
                continue
            for field in re.findall(r"\{((?:input|output|log|params)[^}]*)\}", line):
                found += 1
                bare = re.fullmatch(r"params\.(\w+)", field)
                assert field.endswith(":q") or (bare and bare[1] in HARMLESS), (
                    f"{path.name}, line {number}: {{{field}}}"
                )
    assert found > 100


STUB = """#!{python}
import json, sys
with open({record!r}, "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
"""


def test_names_of_files_and_models_reach_jobs_as_they_are(tmp_path: Path) -> None:
    """Every command that the workflow would run, run by a shell, with a Python that only notes what it was given."""
    evil = tmp_path / EVIL
    for folder in ("encoder/training", "converted", "kmeans", "speech/s1"):
        (evil / folder).mkdir(parents=True)
    for file in (
        *("encoder/model.safetensors", "encoder/training/log.jsonl", "kmeans/config.json"),
        *("kmeans/quantizer.safetensors", "speech/s1/a.wav", "intervals.csv"),
    ):
        (evil / file).touch()
    for folder in ("encoder", "converted"):
        (evil / folder / "config.json").write_text('{"num_layers": 4}')
    name = f"Sp'i\"dR {EVIL}"
    tiny = yaml.safe_load((REPOSITORY / "config" / "tiny.yaml").read_text())
    for corpus in ("train", "valid", "dev"):
        tiny["corpora"][corpus] |= {"path": str(evil / "speech"), "annotations": str(evil / "intervals.csv")}
        del tiny["corpora"][corpus]["source"], tiny["corpora"][corpus]["speakers"]
    tiny["quantizers"]["given"] = {"kind": "kmeans", "num_units": 4, "path": str(evil / "kmeans")}
    shared = {"name": name, "layers": [4], "quantizers": ["kmeans50", "given"]}
    tiny["encoders"]["spidr"] |= {"name": name, "recipe": "spidr.yaml"}
    tiny["encoders"]["dinosr"] = {"family": "spidr", "path": str(evil / "encoder"), **shared}
    tiny["encoders"]["spidr-untrained"] = {"family": "converted", "path": str(evil / "converted"), **shared}
    tiny["encoders"]["spun"] = {"family": "spin", "base": "dinosr", "recipe": "spin.yaml", "train": ["train"], **shared}
    tiny["slms"]["opt-tiny"]["recipe"] = "slm.yaml"
    experiment = evil / f"{EVIL}.yaml"
    experiment.write_text(yaml.safe_dump(tiny))
    for recipe, source in (("spidr", "spidr/tiny"), ("spin", "spin/tiny"), ("slm", "slm/tiny")):
        shutil.copy(REPOSITORY / "config" / f"{source}.yaml", evil / f"{recipe}.yaml")

    done = snakemake(tmp_path / EVIL, "-n", "-p", "all", experiment=experiment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    commands = re.findall(r"^ *Shell command: (python .*)$", done.stdout + done.stderr, re.M)
    bin_folder, record = tmp_path / "bin", tmp_path / "record.jsonl"
    bin_folder.mkdir()
    (bin_folder / "python").write_text(STUB.format(python=sys.executable, record=str(record)))
    (bin_folder / "python").chmod(0o755)
    for command in commands:
        for log in re.findall(r"results/\S+\.log", command):
            Path(log).parent.mkdir(parents=True, exist_ok=True)
        path = f"{bin_folder}:{os.environ['PATH']}"
        ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=os.environ | {"PATH": path})
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", ""), command
    given = [json.loads(line) for line in record.read_text().splitlines()]
    assert len(given) == len(commands) > 80
    words = {str(word) for argv in given for word in argv}
    folders = {str(evil / folder) for folder in ("encoder", "converted")}
    assert {*folders, str(experiment)} <= words
    assert {f"{name}={evil / 'encoder' / 'training' / 'log.jsonl'}", f"dinosr={name}"} <= words
    parsed = [json.loads(word) for word in words if word.startswith("{")]
    for path in ("speech", "kmeans"):
        assert str(evil / path) in [value.get("path") for value in parsed]
