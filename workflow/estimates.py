"""What a job costs by estimate: hours of a GPU, and room on a disk.

None of these figures was measured on the machine at hand: each says where it is from. `workflow.plan` corrects them by
jobs that have been measured.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from artifacts.files import read_csv, read_json_object, require_keys
from corpora.settings import LibriLightSettings, LibriSpeechSettings
from slm.settings import SlmRecipe
from spidr.settings import SAMPLE_RATE_HZ, ModelSettings, Recipe
from units.registry import find
from units.settings import HubEncoder, KmeansQuantizer, SpidrEncoder, SpinEncoder
from units.spin.settings import SpinRecipe
from workflow.passes import UnitPass, layers_of
from workflow.reading import read_recipe
from workflow.targets import Targets

HOURS = {
    **{"train-clean-100": 100.6, "train-clean-360": 363.6, "train-other-500": 496.7, "dev-clean": 5.4},
    **{"dev-other": 5.3, "test-clean": 5.4, "test-other": 5.1},
    **{"small": 577, "medium": 5193, "large": 51936},
}
"""Speech of the subsets of LibriSpeech (Panayotov et al. 2015, table 1), and of the parts of Libri-Light (Kahn et al.
2020, table 1, less the parts before). Of other corpora the manifest tells."""

BASE_PARAMETERS = 93e6
"""SpidR Base without heads and teacher (units/registry.py): what the next two figures are for."""
BASE_STEP_FLOP_S = 12.77e12 / 229.5
"""Products of a pretraining step, for a second of audio (python -m benchmarks.flops)."""
BASE_FORWARD_FLOP_S = 3.5e12 / 229.5
"""Those of one pass of a waveform through extractor and Transformer, likewise."""
BFLOAT16_FLOPS = 63.3e12
"""Of an A100 in bfloat16: with it, 400,000 steps of 63 minutes of SpidR Base take 369 hours (the paper's table 4)."""
FLOAT32_FLOPS = 9.75e12
"""Of an A100 in float32 without TF32: half of its data sheet's 19.5 TFLOP/s. An assumption."""
SPIN_STEP_HOURS = 0.75 / 5000
"""45 minutes of one GPU for 5,000 steps of 256 s (Chang et al. 2023, section 3.1)."""
START_HOURS = 1 / 60
"""A minute for every job, to start and to load a model. An assumption."""
FRAME_RATE_HZ = 50
UNITS_HZ = 35
UNIT_BYTES = 8
"""Units a second of 50 Hz, and their JSONL with durations: the demo's units are 33 to 35 a second, 252 to 266 bytes."""
TOKEN_BYTES = 2

GPU_STAGES = {
    "pretrain": "pretraining",
    "finetune_spin": "Spin",
    "extract": "features",
    "predict": "features",
    "sample": "features",
    "tokenize": "units",
    "train_slm": "language models",
    "score_slm": "log-likelihoods",
    "score_text": "log-likelihoods",
}
"""Rules that use a GPU, and the stage they are told under."""
TRAININGS = ("pretrain", "finetune_spin", "train_slm")


class Cost(NamedTuple):
    """Of one job. None where it cannot be told: `Estimates.unknown` says why."""

    gpu_hours: float | None = 0.0
    disk: tuple[tuple[str, float | None], ...] = ()
    """Kind of file, bytes."""


class Estimates:
    """Costs of an experiment's jobs, by rule and wildcards.

    Args:
        experiment_file: Its recipes lie beside it.
    """

    def __init__(self, targets: Targets, experiment_file: Path) -> None:
        self.targets, self.file = targets, experiment_file
        self.experiment = targets.experiment
        self.unknown: dict[str, str] = {}
        """What is not counted, and why."""
        self._hours: dict[str, float | None] = {}
        self._by_rule: dict[str, Callable[[Mapping[str, str]], Cost]] = {
            "pretrain": self._pretrain,
            "finetune_spin": self._finetune_spin,
            "extract": self._extract,
            "predict": self._predict,
            "sample": self._sample,
            "tokenize": self._tokenize,
            "take_units": self._take_units,
            "store_tokens": self._store_tokens,
            "train_slm": self._train_slm,
            "score_slm": self._score_slm,
            "score_text": self._score_slm,
        }

    def cost(self, rule: str, wildcards: Mapping[str, str]) -> Cost:
        """Cost of a job; nothing for rules that use no GPU and write little."""
        estimate = self._by_rule.get(rule)
        return estimate(wildcards) if estimate else Cost()

    def taken(self, rule: str, wildcards: Mapping[str, str]) -> float | None:
        """GPU hours that one of the `TRAININGS` took, of all its attempts and devices; None while it has not ended.

        Raises:
            InputError: Its summary is damaged.
        """
        if rule == "train_slm":
            path = self.targets.summary_of_slm(wildcards["system"], wildcards["slm"], wildcards["seed"])
        else:
            path = self.targets.summary_of_encoder(wildcards["encoder"])
        summary = Path(path)
        if not summary.is_file():
            return None
        found = read_json_object(summary)
        require_keys(found, {"seconds": float, "num_devices": int}, summary)
        return float(found["seconds"]) / 3600 * int(found["num_devices"])

    def hours(self, corpus: str) -> float | None:
        """Hours of a corpus: its manifest's, or else those it is known to have."""
        if corpus not in self._hours:
            self._hours[corpus] = self._find_hours(corpus)
        return self._hours[corpus]

    def _find_hours(self, corpus: str) -> float | None:
        manifest = Path(self.targets.root, "corpora", corpus, "manifest.csv")
        if manifest.is_file():
            samples = sum(int(row["num_samples"]) for _, row in read_csv(manifest, ("num_samples",)))
            return samples / SAMPLE_RATE_HZ / 3600
        settings = self.experiment.corpora[corpus]
        if isinstance(settings, LibriSpeechSettings):
            return sum(HOURS[subset] for subset in settings.subsets)
        if isinstance(settings, LibriLightSettings):
            return sum(HOURS[part] for part in settings.parts)
        self.unknown[f"speech of {corpus}"] = "known once its manifest is made"
        return None

    def _shape(self, encoder: str) -> tuple[float, int, int] | None:
        """Parameters, layers and width of an encoder."""
        found = self.experiment.encoders[encoder]
        if isinstance(found, SpinEncoder):
            return self._shape(found.base)
        if isinstance(found, SpidrEncoder) and found.recipe:
            model = read_recipe(Recipe, self.file, found.recipe).model
            return encoder_parameters(model), model.num_layers, model.hidden_size
        place = found.source if isinstance(found, HubEncoder) else Path(getattr(found, "path", "")).name
        if released := find(place) or find(encoder):
            return released.num_parameters, released.num_layers, released.dim
        if found.family == "mfcc":
            return 0, 1, 39
        self.unknown[f"encoder {encoder}"] = "not a released one"
        return None

    def _pass_hours(self, encoder: str, corpus: str, highest: int) -> float | None:
        """Hours of one pass up to a layer."""
        shape, hours = self._shape(encoder), self.hours(corpus)
        if shape is None or hours is None:
            return None
        parameters, layers, _ = shape
        flops = FLOAT32_FLOPS if self.experiment.precision == "float32" else BFLOAT16_FLOPS
        return hours * 3600 * BASE_FORWARD_FLOP_S * parameters / BASE_PARAMETERS * highest / layers / flops / 3600

    def _pretrain(self, wildcards: Mapping[str, str]) -> Cost:
        encoder = self.experiment.encoders[wildcards["encoder"]]
        assert isinstance(encoder, SpidrEncoder)
        assert encoder.recipe
        recipe = read_recipe(Recipe, self.file, encoder.recipe)
        batches, parameters = recipe.batches, encoder_parameters(recipe.model)
        steps = 0 if encoder.untrained else recipe.num_steps
        seconds = steps * batches.batches_per_step * batches.max_batch_samples / SAMPLE_RATE_HZ
        hours = seconds * BASE_STEP_FLOP_S * parameters / BASE_PARAMETERS / BFLOAT16_FLOPS / 3600
        # Student, teacher and two moments, float32; the model itself has student and teacher.
        checkpoints = 4 * 4 * parameters * (recipe.training.keep_checkpoints + 1)
        return Cost(hours + START_HOURS, (("checkpoints", checkpoints), ("models", 2 * 4 * parameters)))

    def _finetune_spin(self, wildcards: Mapping[str, str]) -> Cost:
        encoder = self.experiment.encoders[wildcards["encoder"]]
        assert isinstance(encoder, SpinEncoder)
        recipe = read_recipe(SpinRecipe, self.file, encoder.recipe)
        shape = self._shape(encoder.base)
        if shape is None:
            return Cost(None, (("checkpoints", None), ("models", None)))
        size = shape[0] / BASE_PARAMETERS * recipe.batches.max_batch_samples / (256 * SAMPLE_RATE_HZ)
        checkpoints = 3 * 4 * shape[0] * (recipe.training.keep_checkpoints + 1)
        hours = recipe.num_steps * SPIN_STEP_HOURS * size + START_HOURS
        return Cost(hours, (("checkpoints", checkpoints), ("models", 4 * shape[0])))

    def _extract(self, wildcards: Mapping[str, str]) -> Cost:
        shape = self._shape(wildcards["encoder"])
        return self._frames(wildcards, shape and shape[2] * 2)  # float16

    def _predict(self, wildcards: Mapping[str, str]) -> Cost:
        size = self._codebook_size(wildcards["encoder"])
        return self._frames(wildcards, size and size * 4)  # float32

    def _frames(self, wildcards: Mapping[str, str], frame_bytes: int | None) -> Cost:
        layers = layers_of(wildcards["layers"])
        hours = self._pass_hours(wildcards["encoder"], wildcards["corpus"], max(layers))
        speech = self.hours(wildcards["corpus"])
        written = None
        if speech is not None and frame_bytes is not None:
            written = speech * 3600 * FRAME_RATE_HZ * frame_bytes * len(layers)
        return Cost(None if hours is None else hours + START_HOURS, (("features", written),))

    def _sample(self, wildcards: Mapping[str, str]) -> Cost:
        cost = self._extract(wildcards)
        shape, layers = self._shape(wildcards["encoder"]), layers_of(wildcards["layers"])
        most = None if shape is None else int(wildcards["frames"]) * shape[2] * 2 * len(layers)
        whole = cost.disk[0][1]
        written = most if whole is None or most is None else min(most, whole)
        return cost._replace(disk=(("features", written),))

    def _tokenize(self, wildcards: Mapping[str, str]) -> Cost:
        made = next(p for p in self._passes[wildcards["encoder"]] if p.name == wildcards["name"])
        systems = [self.experiment.all_systems[system] for system in made.systems]
        highest = max(system.layer or 1 for system in systems)
        hours = [self._pass_hours(wildcards["encoder"], corpus, highest) for corpus in made.corpora]
        written = [self._unit_bytes(corpus) for corpus in made.corpora]
        known = [h for h in hours if h is not None]
        sizes = [size for size in written if size is not None]
        return Cost(
            sum(known) / made.shards + START_HOURS if known else None,
            (("units", sum(sizes) * len(systems) / made.shards if sizes else None),),
        )

    def _take_units(self, wildcards: Mapping[str, str]) -> Cost:
        # Of one piece it is a link, of several a copy.
        return Cost(disk=(("units", self._unit_bytes(wildcards["corpus"])),) if self.experiment.shards > 1 else ())

    def _store_tokens(self, wildcards: Mapping[str, str]) -> Cost:
        hours = self.hours(wildcards["corpus"])
        return Cost(disk=(("token stores", None if hours is None else hours * 3600 * UNITS_HZ * TOKEN_BYTES),))

    def _train_slm(self, wildcards: Mapping[str, str]) -> Cost:
        recipe = read_recipe(SlmRecipe, self.file, self.experiment.slms[wildcards["slm"]].recipe)
        if recipe.model.architecture is not None or recipe.model.init is not None:
            self.unknown[f"language model {wildcards['slm']}"] = "its size is known to transformers alone"
            return Cost(None, (("checkpoints", None), ("models", None)))
        parameters, flop = slm_size(recipe, self._vocabulary(wildcards["system"]))
        training = recipe.training
        tokens = training.steps * training.batch_size * training.accumulation * recipe.model.context
        flops = BFLOAT16_FLOPS if training.precision == "bfloat16" else FLOAT32_FLOPS
        checkpoints = 3 * 4 * parameters * (training.keep_checkpoints + 1)
        hours = tokens * flop / flops / 3600 + START_HOURS
        return Cost(hours, (("checkpoints", checkpoints), ("models", 4 * parameters)))

    def _score_slm(self, _: Mapping[str, str]) -> Cost:
        return Cost(START_HOURS * (1 + len(self.targets.evaluation_sets)))

    def _unit_bytes(self, corpus: str) -> float | None:
        hours = self.hours(corpus)
        return None if hours is None else hours * 3600 * UNITS_HZ * UNIT_BYTES

    def _vocabulary(self, system: str) -> int:
        quantizer = self.experiment.all_systems[system].quantizer
        if quantizer is None:
            return 50_265 if system == "text" else 50  # OPT's tokenizer; about as many phones as ARPAbet has
        found = self.experiment.quantizers[quantizer]
        if isinstance(found, KmeansQuantizer):
            return found.num_units
        return self._codebook_size(self.experiment.all_systems[system].encoder) or 256

    def _codebook_size(self, encoder: str) -> int | None:
        found = self.experiment.encoders[encoder]
        if isinstance(found, SpidrEncoder) and found.recipe:
            return read_recipe(Recipe, self.file, found.recipe).model.codebook_size
        if isinstance(found, SpinEncoder):
            return read_recipe(SpinRecipe, self.file, found.recipe).model.codebook_size
        config = Path(getattr(found, "path", ""), "config.json")
        if config.is_file():
            return read_json_object(config).get("codebook_size")
        released = find(config.parent.name) or find(encoder)
        if released and released.codebook_size:
            return released.codebook_size
        if isinstance(found, SpidrEncoder):
            return ModelSettings().codebook_size
        self.unknown[f"codebook of {encoder}"] = "not a released one"
        return None

    @cached_property
    def _passes(self) -> dict[str, list[UnitPass]]:
        return {encoder: self.targets.unit_passes(encoder) for encoder in self.experiment.encoders}


def encoder_parameters(model: ModelSettings) -> float:
    """Parameters of a SpidR or DinoSR without heads and teacher: weights of its convolutions and linear maps."""
    channels, extractor = 1, 0
    for convolution in model.extractor:
        extractor += channels * convolution.kernel * convolution.channels
        channels = convolution.channels
    width, kernel = model.hidden_size, model.position_kernel // model.position_layers
    positions = model.position_layers * kernel * width * (width // model.position_groups)
    layers = model.num_layers * (4 * width**2 + 2 * width * model.ffn_size)
    return extractor + channels * width + positions + layers


def slm_size(recipe: SlmRecipe, num_units: int) -> tuple[float, float]:
    """Parameters of an OPT, and FLOP of its training for a token: 6 a weight that multiplies, and attention's products.

    Attention over c positions has 2 c h products in a layer, forward, on average (it is causal), and three times that
    with the backward pass (Kaplan et al. 2020, table 1; PaLM, appendix B).
    """
    model = recipe.model
    layers = model.num_layers * (4 * model.hidden_size**2 + 2 * model.hidden_size * model.ffn_size)
    head = num_units * model.hidden_size
    attention = 6 * model.num_layers * model.context * model.hidden_size
    return layers + head + model.context * model.hidden_size, 6 * (layers + head) + attention
