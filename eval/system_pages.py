"""A page for each system: what it is, what it scored, how its language models learned, where all of it came from."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from artifacts.files import read_json_object
from eval.evidence import Files, score_file
from eval.materials import LanguageModel, Materials
from eval.results import Result, unit_label
from eval.style import new_figure

CURVE_HEIGHT_IN = 2.2
CURVE_DOTS_PER_INCH = 110
DIGITS_OF_CHECKSUM = 12


@dataclass(frozen=True, slots=True)
class SystemPage:
    """Everything the report tells of one system.

    Attributes:
        name: As in the paths: ``spidr-L06-kmeans256``.
        scores: Of its features, its units and its language models.
        health: What its units look like, by corpus; empty where nobody looked.
        curve: PNG of the validation losses of its language models; None where there is none.
        made: How it was made: commits, versions, seeds.
        inputs: Every file that a score was computed from, and its checksum.
    """

    name: str
    model: str
    layer: int | None
    units: str
    num_units: int | None
    scores: Sequence[Result]
    health: Mapping[str, Mapping[str, Any]]
    trainings: Sequence[LanguageModel]
    curve: bytes | None
    made: Mapping[str, str]
    inputs: Mapping[str, str]


def system_pages(
    results: Sequence[Result], health: Sequence[Mapping[str, Any]], materials: Materials, files: Files
) -> list[SystemPage]:
    """The pages, in the order in which the scores name the systems.

    Args:
        health: Unit health of the systems, each with its ``name`` and its ``corpora``.
        files: Score files.
    """
    of_units = {system_name(r): r for r in reversed(results) if r.source == "ours" and is_system(r)}
    looks: dict[str, Mapping[str, Any]] = {report["name"]: report["corpora"] for report in health}
    pages = []
    for name, one in reversed(of_units.items()):
        scores = [
            r
            for r in results
            if r.source == one.source
            and (r.encoder, r.layer) == (one.encoder, one.layer)
            and r.quantizer in (None, one.quantizer)
        ]
        trainings = [training for training in materials.language_models if training.system == name]
        made, inputs = _provenance([path for score in scores if (path := score_file(score, files))])
        pages.append(
            SystemPage(
                name,
                one.model,
                one.layer,
                unit_label(one.quantizer, one.num_units),
                one.num_units,
                scores,
                looks.get(name, {}),
                trainings,
                draw_losses(trainings) if any(training.validation for training in trainings) else None,
                made,
                inputs,
            )
        )
    return pages


def is_system(result: Result) -> bool:
    """Whether a score is of units or of a language model on them, not of a layer's features."""
    return result.quantizer is not None or result.layer is None


def system_name(result: Result) -> str:
    """The name of the system that a score is of, as the paths have it."""
    if result.layer is None or result.quantizer is None:
        return result.encoder
    return f"{result.encoder}-L{result.layer:02d}-{result.quantizer}"


def _provenance(paths: Sequence[Any]) -> tuple[dict[str, str], dict[str, str]]:
    """How some scores were made, in a few lines, and the files they were computed from with their checksums."""
    made: dict[str, dict[str, None]] = {"commit": {}, "Python": {}, "packages": {}, "seed": {}, "computed on": {}}
    inputs: dict[str, str] = {}
    for path in paths:
        found = read_json_object(path).get("provenance", {})
        packages = found.get("packages", {})
        for what, value in (
            ("commit", found.get("git_commit")),
            ("Python", found.get("python")),
            ("packages", ", ".join(f"{name} {version}" for name, version in packages.items())),
            ("seed", found.get("seed")),
            ("computed on", found.get("platform")),
        ):
            if value not in (None, ""):
                made[what][str(value)] = None
        for described in found.get("inputs", {}).values():
            inputs[described["path"]] = described.get("sha256", "")[:DIGITS_OF_CHECKSUM]
    return {what: "; ".join(values) for what, values in made.items() if values}, dict(sorted(inputs.items()))


def draw_losses(trainings: Sequence[LanguageModel]) -> bytes:
    """The validation losses of some trainings over their steps, as PNG."""
    figure, [[axes]] = new_figure(1, 1, CURVE_HEIGHT_IN)
    for training in trainings:
        if training.validation:
            steps, losses = zip(*training.validation, strict=True)
            label = f"{training.slm}, seed {training.seed}"
            axes.plot(steps, losses, marker="o", markersize=2.5, linewidth=1.2, label=label)
    axes.set(xlabel="Steps", ylabel="Validation loss, nats a token")
    axes.legend()
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=CURVE_DOTS_PER_INCH, metadata={"Software": None})
    return file.getvalue()
