"""Tables of pretraining: 4 (compute footprint) and 5 (hyperparameters). They have no scores, only labels."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from artifacts.errors import InputError
from artifacts.files import read_csv, read_json_object
from eval.footprint import Footprint
from eval.rendering import Row, Table

type Settings = Mapping[str, Any]
type Hyperparameters = dict[tuple[str, str], str]
"""Section and parameter -> value as printed."""


def table_4(footprints: Mapping[str, Sequence[Footprint]]) -> Table:
    """What pretraining cost.

    Args:
        footprints: Source -> its trainings.
    """
    rows = []
    for source, trainings in footprints.items():
        for one in trainings:
            gpus = f"{one.gpu} × {one.num_gpus}"
            times = _hours(one.pretraining_time_h), _hours(one.gpu_hours)
            rows.append(Row((one.model, gpus, _steps(one.steps), *times), (), source=source))
    return Table(
        name="Table 4",
        caption="Compute footprint of pretraining: devices, steps, wall-clock time in hours, and hours times devices.",
        labels=("Model", "GPUs", "Steps", "Pretraining time (h)", "GPU hours"),
        columns=(),
        rows=tuple(rows),
    )


def _steps(steps: int) -> str:
    return f"{steps // 1000}k" if steps and steps % 1000 == 0 else str(steps)


def _hours(hours: float) -> str:
    return f"{hours:.0f}" if hours >= 10 else f"{hours:.2g}"


def table_5(encoders: Mapping[str, Hyperparameters]) -> Table:
    """Hyperparameters of pretraining, a column for each encoder.

    Args:
        encoders: Name -> its hyperparameters; one that an encoder does not have is blank.
    """
    parameters = dict.fromkeys(key for of_encoder in encoders.values() for key in of_encoder)
    sections = list(dict.fromkeys(section for section, _ in parameters))
    rows = [
        Row((parameter, *(of_encoder.get((section, parameter), "") for of_encoder in encoders.values())), (), section)
        for section, parameter in sorted(parameters, key=lambda key: sections.index(key[0]))
    ]
    return Table(
        name="Table 5",
        caption="Pretraining hyperparameters.",
        labels=("Parameter", *encoders),
        columns=(),
        rows=tuple(rows),
    )


def read_hyperparameters(path: Path) -> Hyperparameters:
    """Hyperparameters of an encoder folder's ``config.json``, or of a table ``section,parameter,value``.

    Raises:
        InputError: The file is absent, malformed, or does not tell how the encoder was trained.
    """
    if path.suffix == ".csv":
        return {
            (r["section"], r["parameter"]): r["value"] for _, r in read_csv(path, ("section", "parameter", "value"))
        }
    config = read_json_object(path)
    recipe = config.get("provenance", {}).get("settings", {})
    wanted = ("model", "teacher", "masking", "optimizer", "batches")
    if missing := [part for part in wanted if not isinstance(recipe.get(part), dict)]:
        raise InputError(f"{path}: found no provenance.settings.{missing[0]}, expected an encoder trained by a recipe")
    try:
        return {
            (section, parameter): _text(value(recipe))
            for section, parameters in PARAMETERS.items()
            for parameter, value in parameters.items()
        }
    except KeyError as key:
        raise InputError(f"{path}: found no {key} in provenance.settings, expected a whole recipe") from None


def _text(value: object) -> str:
    """A value as table 5 prints it: 0.0005 is 5e-4."""
    if isinstance(value, float):
        if value.is_integer():
            return str(int(value))
        if abs(value) < 1e-3:
            mantissa, exponent = f"{value:e}".split("e")
            return f"{float(mantissa):g}e{int(exponent)}"
        return f"{value:g}"
    if isinstance(value, list):
        return f"({', '.join(map(_text, value))})"
    return "" if value is None else str(value)


def _convolutions(layers: Sequence[Sequence[int]]) -> str:
    """Kernel and stride of each convolution, those alike counted: ``(10, 5), 4 x (3, 2)``."""
    runs: list[tuple[int, tuple[int, ...]]] = []
    for _, *shape in layers:
        alike = runs and runs[-1][1] == tuple(shape)
        runs[-1:] = [(runs[-1][0] + 1, tuple(shape))] if alike else [*runs[-1:], (1, tuple(shape))]
    return ", ".join(f"{number} x {shape}" if number > 1 else str(shape) for number, shape in runs)


def _widths(layers: Sequence[Sequence[int]]) -> str:
    return ", ".join(str(width) for width in dict.fromkeys(width for width, *_ in layers))


def _decay(teacher: Settings) -> str:
    """The schedule of the teacher's decay (section 4.1)."""
    if teacher["schedule"] == "exponential":
        return "1 - (1 - beta_0) exp(-t/T)"
    frozen = "" if teacher["freeze_step"] is None else f", 1 from {teacher['freeze_step']}"
    return f"linear to {_text(teacher['final_decay'])} at {teacher['warmup_steps']}{frozen}"


PARAMETERS: dict[str, dict[str, Callable[[Any], object]]] = {
    "Model": {
        "Conv1d dimension": lambda recipe: _widths(recipe["model"]["extractor"]),
        "Conv1d (kernel size, stride)": lambda recipe: _convolutions(recipe["model"]["extractor"]),
        "Conv1d bias": lambda recipe: False,
        "Conv1d normalization": lambda recipe: "LayerNorm",
        "Projection dropout": lambda recipe: recipe["model"]["projection_dropout"],
        "Positional encoding layers": lambda recipe: recipe["model"]["position_layers"],
        "Positional encoding total kernel size": lambda recipe: recipe["model"]["position_kernel"],
        "Positional encoding groups": lambda recipe: recipe["model"]["position_groups"],
        "Hidden dimension d": lambda recipe: recipe["model"]["hidden_size"],
        "Number of Transformer layers L": lambda recipe: recipe["model"]["num_layers"],
        "Number of attention heads": lambda recipe: recipe["model"]["num_heads"],
        "Transformer dropout": lambda recipe: recipe["model"]["dropout"],
        "Attention dropout": lambda recipe: recipe["model"]["attention_dropout"],
        "Feed-forward dimension": lambda recipe: recipe["model"]["ffn_size"],
        "Feed-forward dropout": lambda recipe: recipe["model"]["ffn_dropout"],
        "Layer drop probability": lambda recipe: recipe["model"]["layer_drop"],
        "LayerNorm mode": lambda recipe: "After",
        "Q, K, V projection biases": lambda recipe: recipe["model"]["qkv_bias"],
        "Number of codebooks K": lambda recipe: recipe["model"]["num_codebooks"],
        "Codebook decay tau": lambda recipe: recipe["model"]["codebook_decay"],
        "Codebook size V": lambda recipe: recipe["model"]["codebook_size"],
        "Initial decay of teacher beta_0": lambda recipe: recipe["teacher"]["initial_decay"],
        "Decay timescale T": lambda recipe: recipe["teacher"].get("timescale"),
        "Decay of teacher at step t": lambda recipe: _decay(recipe["teacher"]),
    },
    "Optimizer": {
        "Name": lambda recipe: "AdamW",
        "Peak learning rate": lambda recipe: recipe["optimizer"]["learning_rate"],
        "Betas": lambda recipe: recipe["optimizer"]["betas"],
        "Weight decay": lambda recipe: recipe["optimizer"]["weight_decay"],
        "Epsilon": lambda recipe: recipe["optimizer"]["epsilon"],
        "Warmup steps": lambda recipe: recipe["optimizer"]["warmup_steps"],
        "Hold steps": lambda recipe: recipe["optimizer"]["hold_steps"],
        "Decay steps": lambda recipe: recipe["optimizer"]["decay_steps"],
        "Conv. freeze step": lambda recipe: recipe["optimizer"]["freeze_extractor_step"],
    },
    "Data": {
        "Min. sequence length": lambda recipe: recipe["batches"]["min_samples"],
        "Max. sequence length": lambda recipe: recipe["batches"]["max_samples"],
        "Max. samples in batch": lambda recipe: recipe["batches"]["max_batch_samples"],
        "Number of buckets": lambda recipe: recipe["batches"]["num_buckets"],
        "Padding": lambda recipe: False,
        "Random crop": lambda recipe: True,
    },
    "Masking": {
        "Start probability": lambda recipe: recipe["masking"]["start_probability"],
        "Span length": lambda recipe: recipe["masking"]["span_length"],
        "With overlap": lambda recipe: True,
    },
}
"""The rows of table 5, and what a recipe says of each. What no recipe can change is constant: the convolutions have a
LayerNorm and no bias, LayerNorm comes after, the optimiser is AdamW, nothing is padded, spans may overlap."""
