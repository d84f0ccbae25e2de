"""Whom a story is about: an encoder at its selected layer, or its best units, with their scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from eval.materials import Encoder
from eval.results import CODEBOOK, Result, group, selected_layers, standard, unit_label


@dataclass(frozen=True, slots=True)
class Voice:
    """One whom the story is about, with its scores: an encoder at its selected layer, or units.

    Attributes:
        name: Of its model: ``SpidR``.
        label: Which it is exactly: ``SpidR layer 1, K-means 100``.
        units: Which units they are: ``K-means 100``; empty for features.
        system: Name of the units in paths.
    """

    name: str
    label: str
    scores: list[Result]
    units: str = ""
    system: str = ""
    layer: int | None = None


def features_of(results: Sequence[Result], encoder: Encoder) -> Voice | None:
    """An encoder's features at the layer selected by ABX; None where there is no such layer."""
    layers = {name: layer for (_, name), layer in selected_layers(results).items()}
    scores = [r for r in results if r.encoder == encoder.name and r.layer == layers.get(encoder.name)]
    scores = [r for r in scores if r.quantizer is None]
    if encoder.name not in layers or not scores:
        return None
    return Voice(scores[0].model, _label(scores[0], encoder), scores)


def _label(score: Result, encoder: Encoder) -> str:
    layer = "" if encoder.family == "mfcc" else f" layer {score.layer}"
    units = f", {_units_label(score)}" if score.quantizer else ""
    return f"{score.model}{layer}{units}"


def _units_label(score: Result) -> str:
    kind = unit_label(score.quantizer, score.num_units)
    return f"{kind.lower() if kind == CODEBOOK else kind} {score.num_units or ''}".strip()


def units_of(results: Sequence[Result], encoder: Encoder, *, spoken: bool = False) -> list[Voice]:
    """An encoder's units, the best first: those with the lowest unit ABX, or without any the highest PNMI.

    Args:
        spoken: Only those that a language model was trained on.
    """
    own = [r for r in results if r.encoder == encoder.name and r.quantizer]
    systems = group(own, lambda r: (r.layer, r.quantizer))
    voices = [
        Voice(
            name=scores[0].model,
            label=_label(scores[0], encoder),
            scores=scores,
            units=_units_label(scores[0]),
            system=f"{encoder.name}-L{layer or 0:02d}-{quantizer}",
            layer=layer,
        )
        for (layer, quantizer), scores in systems.items()
        if not spoken or any(r.slm for r in scores)
    ]

    def errors(voice: Voice) -> tuple[float, float]:
        abx, pnmi = ([r.value for r in standard(voice.scores) if r.metric == name] for name in ("abx_units", "pnmi"))
        return fmean(abx) if abx else 1.0, -fmean(pnmi) if pnmi else 0.0

    return sorted(voices, key=errors)
