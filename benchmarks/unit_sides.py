"""The two ways from speech to units, each in a process of its own that answers a request in a file with another."""

import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import joblib  # type: ignore[import-untyped]
import torch

from artifacts.device import computing_in
from benchmarks.sides import Answer, Request
from corpora.audio import read_waveform
from corpora.manifest import read_manifest
from spidr.encoder import load_encoder
from units.batches import read_speech
from units.quantizers import Assigner, load_quantizer
from units.records import unit_writer
from units.tokenize import load_for, tokenize

Work = Callable[[], None]


def one_pass(request: Request) -> tuple[Work, Work]:
    """Ours: what `units.tokenize` does, for all layers and quantizers at once."""
    quantizers = [load_quantizer(Path(folder)) for folder in request["quantizers"]]
    assigners = [Assigner(quantizer, request["device"]) for quantizer in quantizers]
    encoder = load_for(Path(request["encoder"]), quantizers, request["device"])
    utterances = read_speech(Path(request["manifest"]), encoder)

    def warm_up() -> None:
        for _ in tokenize(encoder, assigners, utterances[:1]):
            pass

    def work() -> None:
        with ExitStack() as stack:
            writers = [stack.enter_context(unit_writer(Path(output))) for output in request["outputs"]]
            for sequences in tokenize(encoder, assigners, utterances):
                for write, sequence in zip(writers, sequences, strict=True):
                    write(sequence)

    return warm_up, work


def pass_per_layer(request: Request) -> tuple[Work, Work]:
    """The authors' way: a whole forward pass for each layer and utterance, features to disk, scikit-learn from there.

    After paper/extract_features.py of facebookresearch/spidr, which computes all layers and saves the one it was asked
    for, one utterance at a time, with torch.save.
    """
    torch.backends.cudnn.allow_tf32 = False  # as ours, so that units are the same
    device = torch.device(request["device"])
    model = load_encoder(Path(request["encoder"]), device)
    all_layers = list(range(1, model.num_layers + 1))
    utterances = read_manifest(Path(request["manifest"]))
    estimators = [joblib.load(file) for file in request["estimators"]]
    folder = Path(request["features"])

    def extract(layer: int, count: int | None) -> None:
        target = folder / f"L{layer:02d}"
        target.mkdir(parents=True, exist_ok=True)
        for utterance in utterances[:count]:
            waveform = torch.from_numpy(read_waveform(utterance)).to(device)
            features = model.features(waveform[None], all_layers)[layer]
            torch.save(features.squeeze(0).cpu(), target / f"{utterance.fileid}.pt")

    def work() -> None:
        for layer in dict.fromkeys(request["layers"]):
            extract(layer, None)
        for layer, estimator, output in zip(request["layers"], estimators, request["outputs"], strict=True):
            with Path(output).open("w") as file:
                for utterance in utterances:
                    features = torch.load(folder / f"L{layer:02d}" / f"{utterance.fileid}.pt", weights_only=True)
                    units = estimator.predict(features.numpy()).tolist()
                    file.write(json.dumps({"name": utterance.fileid, "units": units}) + "\n")

    return lambda: extract(request["layers"][0], 1), work


def measure(request: Request) -> Answer:
    """Do the work once, after the first utterance for warming up."""
    torch.set_num_threads(request["threads"])
    warm_up, work = (one_pass if request["side"] == "ours" else pass_per_layer)(request)
    with computing_in(request["precision"], request["device"]):
        warm_up()
        started, used = time.perf_counter(), time.process_time()
        work()
    answer = {"wall_s": time.perf_counter() - started, "processor_s": time.process_time() - used}
    memory = torch.cuda.max_memory_allocated() if request["device"] == "cuda" else _peak_bytes()
    return {**answer, "memory_bytes": memory}


def _peak_bytes() -> int:
    """Most memory this process ever held; ru_maxrss would begin with what the process that started it held."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    torch.save(measure(torch.load(sys.argv[1], weights_only=True)), sys.argv[2])
