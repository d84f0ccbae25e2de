"""Models of the hub by strangers: their code and their pickles are not run."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from conftest import REPOSITORY
from strangers import in_one_line, nothing_is_stolen

from units.encoders import load

__all__ = ["nothing_is_stolen"]  # a fixture

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
