"""The language model: OPT (Zhang et al., 2022), and its loss on packed documents.

transformers' modules are imported by their full names, which is faster than through its front door.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional
from transformers.modeling_utils import PreTrainedModel
from transformers.models.auto.modeling_auto import AutoModelForCausalLM
from transformers.models.opt.configuration_opt import OPTConfig
from transformers.models.opt.modeling_opt import OPTForCausalLM
from transformers.utils import logging

from artifacts.errors import InputError
from artifacts.files import atomic_folder, read_json
from artifacts.seeds import seed_for
from slm import attention
from slm.attention import lay_out
from slm.packing import IGNORED, Batch
from slm.settings import ModelSettings
from slm.store import BOS, EOS, PAD

logging.disable_progress_bar()  # a bar for one small file


def build_model(settings: ModelSettings, vocab_size: int, seed: int) -> OPTForCausalLM:
    """An OPT for packed batches, with random weights drawn from the seed."""
    config = OPTConfig(
        vocab_size=vocab_size,
        hidden_size=settings.hidden_size,
        word_embed_proj_dim=settings.hidden_size,
        num_hidden_layers=settings.num_layers,
        num_attention_heads=settings.num_heads,
        ffn_dim=settings.ffn_size,
        max_position_embeddings=settings.context,
        dropout=settings.dropout,
        attention_dropout=settings.attention_dropout,
        init_std=settings.init_std,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    torch.manual_seed(seed_for(seed, "weights"))
    model = OPTForCausalLM(config)
    model.set_attn_implementation(attention.NAME)
    return model


def save_model(model: OPTForCausalLM, folder: Path) -> None:
    """Write a folder that `AutoModelForCausalLM.from_pretrained` reads."""
    with atomic_folder(folder) as temporary:
        model.save_pretrained(temporary)


def load_model(folder: Path) -> PreTrainedModel:
    """A trained language model in float32: ours, or any that transformers knows and that speaks our tokens.

    Raises:
        InputError: The folder does not hold one, whole.
    """
    read_json(folder / "config.json")  # the library would look for an absent folder among the names of its hub
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{folder}: not a language model ({reason})") from None
    if report["missing_keys"]:
        raise InputError(f"{folder}: found no weights {min(report['missing_keys'])}, expected all of the model's")
    return model.eval()


def packed_logits(model: OPTForCausalLM, batch: Batch) -> Tensor:
    """Logits of packed documents, each as if it were alone; (contexts, time, vocabulary).

    Args:
        model: As `build_model` made it: its attention knows the pieces.
    """
    rows, places = lay_out(batch.pieces, batch.positions)
    logits: Tensor = model(
        on_device(batch.inputs, model.device),
        position_ids=on_device(batch.positions, model.device),
        rows=[on_device(row, model.device) for row in rows],
        places=on_device(places, model.device),
        use_cache=False,
    ).logits
    return logits


def summed_loss(model: OPTForCausalLM, batch: Batch) -> Tensor:
    """Negative log-likelihood of a batch's targets, in nats, summed over `batch.num_predicted` of them."""
    logits = packed_logits(model, batch).float().flatten(0, 1)
    targets = on_device(batch.targets, model.device).flatten()
    return functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")


def on_device(array: np.ndarray, device: torch.device) -> Tensor:
    """An array as a tensor on the device, without waiting for the copy."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
