"""The sides of the comparison of language model training, each in a process of its own (`benchmarks.sides.ask`)."""

import sys
import tempfile
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from artifacts.workers import ALONE
from benchmarks.sides import Answer, Request
from slm.batches import as_tensors, prefetch
from slm.loss import summed_loss
from slm.model import build_model
from slm.packing import IGNORED, PackedCorpus
from slm.settings import SlmRecipe
from slm.step import Stepper, choose_way, compile_blocks
from slm.store import PAD

COMPARED = 16
"""Utterances whose loss under the untrained model both sides tell."""


class Utterances:
    """Documents in memory that are read like a token store."""

    def __init__(self, documents: list[Tensor], vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.offsets = np.cumsum([0, *map(len, documents)])
        self.tokens = torch.cat(documents).numpy()


def clock(device: torch.device) -> float:
    """The wall's seconds once a GPU is done, or those of the processor without one."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def ours(request: Request) -> Answer:
    """Packed contexts, as `slm.train` trains on them."""
    recipe, device = SlmRecipe.model_validate(request["recipe"]), torch.device(request["device"])
    documents, vocab_size = request["documents"], request["vocab_size"]
    together = recipe.training.documents == "together"
    context, batch_size = recipe.model.context, recipe.training.batch_size
    corpus = PackedCorpus([Utterances(documents, vocab_size)], context, 0, together=together)  # type: ignore[list-item]
    model = build_model(recipe.model, vocab_size, 0).to(device)
    few = PackedCorpus([Utterances(documents[:COMPARED], vocab_size)], context, 0)  # type: ignore[list-item]
    with torch.no_grad():
        batch = as_tensors(few.batch(0, few.num_contexts), "rows").to(device)
        loss = summed_loss(model.eval(), batch).item() / batch.num_predicted
    stepper = Stepper(model, recipe, 0, ALONE)
    way = choose_way(model, recipe)
    if way == "blocks":
        compile_blocks(model)
    accumulation, counted = recipe.training.accumulation, 0
    spans = ((number * batch_size, batch_size) for number in range(request["steps"] * accumulation))
    stream = prefetch(corpus, spans, way, device)
    for step in range(request["steps"]):
        if step == request["warm_up"]:
            began = clock(device)
        batches = [next(stream) for _ in range(accumulation)]
        stepper.step(batches, step)
        counted += sum(batch.num_predicted for batch in batches) if step >= request["warm_up"] else 0
    return answer(clock(device) - began, counted, loss, device)


def theirs(request: Request) -> Answer:
    """Padded utterances, as transformers' Trainer trains on them for SlamKit."""
    from transformers import Trainer, TrainerCallback, TrainingArguments, logging

    logging.set_verbosity_error()
    recipe, device = SlmRecipe.model_validate(request["recipe"]), torch.device(request["device"])
    context, warm_up = recipe.model.context, request["warm_up"]
    chunks = [chunk for document in request["documents"] for chunk in document.split(context)]
    utterances = [{"input_ids": chunk.long(), "length": len(chunk)} for chunk in chunks]
    model = build_model(recipe.model, request["vocab_size"], 0).to(device)
    model.set_attn_implementation("sdpa")  # transformers' own choice
    optimizer, counts, times = recipe.optimizer, [], {}

    def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        tokens = [row["input_ids"] for row in rows]
        padded = pad_sequence(tokens, batch_first=True, padding_value=PAD)
        labels = pad_sequence(tokens, batch_first=True, padding_value=IGNORED)
        return {"input_ids": padded, "attention_mask": (padded != PAD).long(), "labels": labels}

    class Counting(Trainer):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, *others: Any) -> Any:
            if self.state.global_step >= warm_up:
                counts.append((inputs["labels"][:, 1:] != IGNORED).sum())
            return super().training_step(model, inputs, *others)

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            if state.global_step in (warm_up, request["steps"]):
                times[state.global_step] = clock(device)

    with torch.no_grad():
        few = {name: tensor.to(device) for name, tensor in collate(utterances[:COMPARED]).items()}
        loss = model.eval()(**few).loss.item()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=request["steps"],
            per_device_train_batch_size=request["utterances"],
            gradient_accumulation_steps=recipe.training.accumulation,
            train_sampling_strategy=request["sampling"],
            bf16=recipe.training.precision == "bfloat16",
            learning_rate=optimizer.learning_rate,
            lr_scheduler_type="cosine_with_min_lr",
            lr_scheduler_kwargs={"min_lr": optimizer.final_learning_rate},
            warmup_steps=optimizer.warmup_steps,
            max_grad_norm=optimizer.clip_norm,
            optim="adamw_torch_fused",
            use_cpu=device.type == "cpu",
            dataloader_num_workers=4 if device.type == "cuda" else 0,
            remove_unused_columns=False,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        Counting(model, arguments, collate, utterances, callbacks=[Clock()]).train()
    took = times[request["steps"]] - times[warm_up]
    return answer(took, int(sum(int(count) for count in counts)), loss, device)


def answer(seconds: float, tokens: int, loss: float, device: torch.device) -> Answer:
    """What a side tells."""
    memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    return {"tokens_per_s": tokens / seconds, "loss": loss, "memory_bytes": memory}


def main() -> None:
    """Answer the request in a file with another."""
    request = torch.load(sys.argv[1], weights_only=True)
    torch.set_num_threads(request["threads"])
    torch.save({"ours": ours, "theirs": theirs}[request["side"]](request), sys.argv[2])
