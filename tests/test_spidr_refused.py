"""Files that are no released checkpoint of SpidR or DinoSR are refused, and nothing in them is executed."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from spidr_releases import call, released, small_model, weights_of, write_released

from artifacts.errors import InputError
from spidr.encoder import write_encoder
from spidr.layouts import LAYOUTS
from spidr.learner import build_learner
from spidr.released import export_released, import_released
from spidr.settings import Convolution


def test_strides_that_are_not_those_of_table_5_are_asked_for(tmp_path: Path) -> None:
    extractor = [Convolution(4, 10, 5), Convolution(4, 8, 8), Convolution(4, 8, 8)]
    settings = small_model(extractor=extractor, hidden_size=64, num_heads=4)
    write_encoder(tmp_path, build_learner(settings, 0), {})
    export_released(tmp_path, LAYOUTS["spidr"], tmp_path / "ours.pt")
    with pytest.raises(InputError, match=r"an extractor with kernels \[10, 8, 8\], whose strides .* --settings"):
        import_released(tmp_path / "ours.pt", LAYOUTS["spidr"])
    learner, _ = import_released(tmp_path / "ours.pt", LAYOUTS["spidr"], settings)
    assert learner.settings == settings


def test_a_model_the_layout_does_not_stand_for_is_refused(tmp_path: Path) -> None:
    write_encoder(tmp_path, build_learner(small_model(), 0), {})
    with pytest.raises(InputError, match=r"config\.json: model\.predict_from: found same_layer, expected last_layer"):
        export_released(tmp_path, LAYOUTS["dinosr"], tmp_path / "no.pt")
    write_encoder(tmp_path, build_learner(small_model(predict_from="last_layer"), 0), {})
    with pytest.raises(InputError, match=r"config\.json: model\.qkv_bias: found false, expected true"):
        export_released(tmp_path, LAYOUTS["dinosr-original"], tmp_path / "no.pt")
    source = write_released(tmp_path / "released.pt", "spidr")
    with pytest.raises(InputError, match=r"--settings: model\.predict_from: found last_layer"):
        import_released(source, LAYOUTS["spidr"], small_model(predict_from="last_layer"))
    with pytest.raises(InputError, match=r"released\.pt: found no tensor student\.layers\.3\."):
        import_released(source, LAYOUTS["spidr"], small_model(num_layers=4))


def test_an_import_does_not_replace_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "training").mkdir()
    source = write_released(tmp_path / "released.pt", "spidr")
    with pytest.raises(InputError, match="found an encoder trained here, expected a folder of its own"):
        call(monkeypatch, "import", source, "--layout", "spidr", "--output", tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"surplus": torch.ones(2)}, r"found a tensor 'surplus', expected none of this name"),
        (
            {"mask_embedding": torch.ones(7)},
            r"mask_embedding: found float32 of shape \(7,\), expected floats of shape \(128,\)",
        ),
        ({"mask_embedding": torch.ones(128).int()}, r"mask_embedding: found int32 .*, expected floats"),
        ({"mask_embedding": [1.0]}, r"'mask_embedding': found list, expected a tensor"),
        (
            {"heads.1.0.weight": torch.ones(5)},
            r"heads\.1\.0\.weight: found float32 of shape \(5,\), expected floats of",
        ),
        ({"heads.0.0.weight": torch.ones(5)}, r"heads\.0\.0\.weight: found float32 .*, expected 2 dimensions"),
        ({"current_step": torch.ones(1)}, r"current_step: found float32 of shape \(1,\), expected a tensor of int64"),
        ({"current_step": None}, r"current_step: found nothing, expected"),
        ({"student.layers.0.attention.qkv.bias": torch.ones(384)}, r"found no tensor student\.layers\.1.*qkv\.bias"),
    ],
)
def test_a_file_of_another_model_is_refused_in_one_line(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    refuse(write_released(tmp_path / "released.pt", "spidr", **changed), message)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("mask_embedding", r"found no tensor mask_embedding, expected one of shape \(128,\)"),
        ("teacher.layers.2.layer_norm.bias", r"found no tensor teacher\.layers\.2\.layer_norm\.bias"),
        ("feature_extractor.conv_layers.0.conv.weight", r"found no tensor feature_extractor\.conv_layers\.0\.conv"),
        ("current_step", r"current_step: found nothing"),
    ],
)
def test_a_missing_tensor_is_named(tmp_path: Path, missing: str, message: str) -> None:
    model = released("spidr", weights_of("spidr"))
    del model[missing]
    torch.save({"model": model}, tmp_path / "released.pt")
    refuse(tmp_path / "released.pt", message)


def test_the_file_of_another_layout_is_refused(tmp_path: Path) -> None:
    refuse(write_released(tmp_path / "a.pt", "dinosr-original"), "current_step: found nothing")
    first = r"feature_extractor\.conv_layers\.0\.0\.weight"
    refuse(write_released(tmp_path / "b.pt", "spidr"), f"found no tensor {first}, which the layout", "dinosr-original")
    torch.save(weights_of("spidr"), tmp_path / "c.pt")
    refuse(
        tmp_path / "c.pt", "found the keys .'mask_embedding', .*, expected a dictionary whose model is one of tensors"
    )
    torch.save([1], tmp_path / "d.pt")
    refuse(tmp_path / "d.pt", "found list, expected a dictionary")


def refuse(path: Path, message: str, layout: str = "spidr") -> None:
    with pytest.raises(InputError, match=message) as error:
        import_released(path, LAYOUTS[layout])
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = write_released(tmp_path / "released.pt", "spidr")
    path.write_bytes(path.read_bytes()[:-1000])
    refuse(path, "found a damaged or truncated archive .*, expected a checkpoint that torch.save wrote")


class Call:
    """A pickle of it is a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


def test_a_malicious_file_executes_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    attack = Call(eval, f"open({str(trace)!r}, 'w').close()")
    learner, _ = import_released(write_released(tmp_path / "a.pt", "spidr", cfg=attack), LAYOUTS["spidr"])
    assert torch.equal(learner.mask_embedding.detach(), weights_of("spidr")["mask_embedding"])
    refuse(write_released(tmp_path / "b.pt", "spidr", mask_embedding=attack), "'mask_embedding': found Inert, expected")
    refuse(write_released(tmp_path / "c.pt", "spidr", cfg=Call(os.system, f"touch {trace}")), r"GLOBAL posix\.system")
    assert not trace.exists()
    pickle.loads(pickle.dumps(attack))  # whoever reads it so is attacked
    assert trace.exists()
