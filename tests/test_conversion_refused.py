"""What is wrong with a released file is named in one line, and no folder is left."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from released_files import CASES, Case, spin_tensors, to_torchaudio, write
from torch import Tensor

from artifacts.errors import InputError, run
from units.conversion import convert, to_transformers
from units.encoders import main
from units.layouts import LAYOUTS


def refuse(path: Path, case: Case, message: str, output: str = "encoder", **changes: Any) -> None:
    with pytest.raises(InputError, match=message) as error:
        convert(path, case.released()._replace(**changes), path.parent / output)
    assert "\n" not in str(error.value)
    assert not [found.name for found in path.parent.iterdir() if "encoder" in found.name]


@pytest.mark.parametrize("name", ["fairseq", "fairseq-large", "wavlm", "ctc", "torchaudio"])
def test_each_tensor_is_needed_whole(name: str) -> None:
    case = CASES[name]
    rename = to_torchaudio if name == "torchaudio" else lambda name: name
    prefix = "w2v_encoder.w2v_model." if name == "ctc" else ""
    written = {prefix + rename(key): tensor for key, tensor in case.tensors().items() if key != "mask_emb"}
    layout = LAYOUTS[case.released().model_type]
    where = Path("file.pt")

    def attempt(tensors: dict[str, Tensor]) -> str:
        try:
            to_transformers({"model": tensors} if layout.containers else tensors, layout, 64, where)
        except InputError as error:
            return str(error)
        return ""

    assert attempt(written) == ""
    for key in written:
        told = attempt({k: v for k, v in written.items() if k != key})
        assert re.match(r"file\.pt: found no tensor (.+), expected one of", told), (key, told)
        assert key in told.split(", expected")[0].removeprefix("file.pt: found no tensor ").split(" or ")
    told = attempt({**written, "decoder.weight": torch.zeros(3)})
    assert told == "file.pt: found a tensor decoder.weight, expected none of this name"
    key = next(key for key in written if "layers.1.final_layer_norm.bias" in key)
    told = attempt({**written, key: torch.zeros(3)})
    assert told == f"file.pt: {key}: found float32 of shape (3,), expected shape (128,)"
    told = attempt({**written, key: torch.zeros(128, dtype=torch.int64)})
    assert told == f"file.pt: {key}: found int64 of shape (128,), expected a tensor of floats"


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    case = CASES["s3prl"]
    path = write(tmp_path, case)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"no checkpoint", b""):
        path.write_bytes(content)
        refuse(path, case, r"released\.pt: found .*expected a checkpoint that torch.save wrote")
    path.unlink()
    refuse(path, case, r"released\.pt: no such file")
    case = CASES["torchaudio"]
    path = write(tmp_path, case)
    path.write_bytes(path.read_bytes()[:-5])
    refuse(path, case, r"released\.safetensors: cannot be read .*expected a whole safetensors file")


@pytest.mark.parametrize(
    ("written", "asked", "message"),
    [
        ("fairseq", "wavlm", r"found no tensor encoder\.layers\.0\.self_attn\.relative_attention_bias\.weight"),
        ("wavlm", "fairseq", r"found a tensor encoder\.layers\.0\.self_attn\.grep_a, expected none of this name"),
        (
            "fairseq",
            "spin-hubert",
            r"found the keys args, cfg, model, .*expected a dictionary with tensors in state_di",
        ),
        ("spin-hubert", "fairseq", "expected a dictionary with tensors in model or model_weight"),
        ("torchaudio", "s3prl", "expected a dictionary with tensors in model or model_weight"),
        ("fairseq", "torchaudio", r"found .*expected a tensor"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, written: str, asked: str, message: str) -> None:
    refuse(write(tmp_path, CASES[written]), CASES[asked], message)


def test_a_file_of_another_size_is_refused(tmp_path: Path) -> None:
    case = CASES["fairseq"]
    path = write(tmp_path, case)
    message = "found 3 layers of width 128, expected 12 of 768: hubert-base has those"
    refuse(path, case, message, num_layers=12, dim=768)
    refuse(path, case, "found width 128, expected a multiple of 80", head_size=80)


def test_a_head_or_codebook_of_another_size_is_refused(tmp_path: Path) -> None:
    case = CASES["spin-hubert"]
    encoder = {f"encoder.model.{name}": tensor for name, tensor in case.tensors().items()}
    for name, shape in {key: tuple(tensor.shape) for key, tensor in spin_tensors().items()}.items():
        found = spin_tensors()
        path = tmp_path / "released.ckpt"
        torch.save({"state_dict": encoder | found | {name: torch.zeros(*shape, 2)}}, path)
        refuse(path, case, re.escape(name) + ": found ")
        del found[name]
        torch.save({"state_dict": encoder | found}, path)
        refuse(path, case, f"found no tensor {re.escape(name)}")
    path = write(tmp_path, case)
    message = r"loss_module\.codebook\.weight: found shape \(128, 6\), expected \(256, 6\)"
    refuse(path, case, message, codebook_size=256)


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path, CASES["fairseq"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    refuse(path, CASES["fairseq"], "mine: found something there, expected a new folder", output="mine")
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--encoder", "nothing"], "--encoder: found 'nothing', expected a name of python -m units.encoders list"),
        (["--encoder", "spidr-base"], "python -m spidr.released import FILE --layout spidr --output FOLDER"),
        (["--encoder", "data2vec-base"], "facebook/data2vec-audio-base is used by its name"),
        (["--encoder", "conformer-asr"], "--extra: found nothing with conformer-asr, expected normalizer.ckpt"),
        (["--encoder", "contentvec", "--extra", "x"], "--extra: found x with contentvec, expected none"),
        (["--encoder", "contentvec"], "file.pt: no such file"),
    ],
)
def test_the_command_ends_with_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    file, output = str(tmp_path / "file.pt"), str(tmp_path / "encoder")
    monkeypatch.setattr(sys, "argv", ["encoders", "convert", file, "--output", output, *arguments])
    with pytest.raises(SystemExit) as ended:
        run(main)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert list(tmp_path.iterdir()) == []
