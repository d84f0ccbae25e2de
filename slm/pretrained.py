"""Language models in transformers' folders, or on its hub: read whole or refused, and written.

Nothing that lies beside weights is executed, and of pickles tensors alone are read.
"""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.models.auto.configuration_auto import AutoConfig
from transformers.models.auto.modeling_auto import AutoModelForCausalLM
from transformers.utils import logging
from transformers.utils.hub import cached_file, extract_commit_hash

from artifacts.errors import InputError
from artifacts.files import atomic_folder, read_json_object, sha256

logging.disable_progress_bar()  # a bar for one small file

BROKEN = (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, RuntimeError, StrictDataclassError)
"""What transformers raises at a configuration that it cannot make a model of."""


def read_configuration(folder: Path) -> PreTrainedConfig:
    """The configuration of a language model to be scored.

    Raises:
        InputError: The folder has none that transformers knows.
    """
    read_json_object(folder / "config.json")  # the library would look for an absent folder among the names of its hub
    config: PreTrainedConfig = _read(AutoConfig, str(folder), str(folder), local_files_only=True)
    return config


def load_model(folder: Path) -> PreTrainedModel:
    """A trained language model in float32: ours, or any that transformers knows and that speaks our tokens.

    Raises:
        InputError: The folder does not hold one, whole.
    """
    read_json_object(folder / "config.json")
    return _read_model(str(folder), str(folder), local_files_only=True).eval()


def read_text_configuration(init: str) -> PreTrainedConfig:
    """The configuration of a text's model to start from (`slm.settings.ModelSettings.init`).

    Raises:
        InputError: There is none.
    """
    if (init.startswith((".", "/", "~")) or init.count("/") > 1) and not Path(init).is_dir():
        raise InputError(f"model.init: {init}: no such folder")
    config: PreTrainedConfig = _read(AutoConfig, init, f"model.init: {init}")
    return config


def read_text_model(init: str) -> PreTrainedModel:
    """A text's model to start from, in float32.

    Raises:
        InputError: There is none, or not a whole one.
    """
    return _read_model(init, f"model.init: {init}")


def fingerprint(init: str) -> dict[str, str | None]:
    """What tells a text's model from others: checksums of the files of a folder, or a revision of the hub.

    Raises:
        InputError: There is no such model.
    """
    read_text_configuration(init)
    folder = Path(init)
    if not folder.is_dir():
        return {"revision": extract_commit_hash(cached_file(init, "config.json"), None)}
    weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    return {file.name: sha256(file) for file in (folder / "config.json", *weights)}


def save_model(model: PreTrainedModel, folder: Path) -> None:
    """Write a folder that `AutoModelForCausalLM.from_pretrained` reads."""
    with atomic_folder(folder) as temporary:
        model.save_pretrained(temporary)


def _read_model(source: str, where: str, **options: Any) -> PreTrainedModel:
    model, report = _read(
        AutoModelForCausalLM,
        source,
        where,
        dtype=torch.float32,
        weights_only=True,
        output_loading_info=True,
        **options,
    )
    if report["missing_keys"]:
        raise InputError(f"{where}: found no weights {min(report['missing_keys'])}, expected all of the model's")
    for name, weights in model.named_parameters():
        if not weights.isfinite().all():
            raise InputError(f"{where}: {name}: found a weight that is not finite, expected finite numbers")
    return model


def _read(kind: Any, source: str, where: str, **options: Any) -> Any:
    """What `kind` reads from a folder, or from the hub."""
    try:
        return kind.from_pretrained(source, trust_remote_code=False, **options)
    except (OSError, UnpicklingError, SafetensorError, *BROKEN) as error:
        raise InputError(f"{where}: not a language model ({one_line(error)})") from None


def one_line(error: Exception) -> str:
    """What an error of transformers says, in one line of at most 200 characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:197] + "..."
