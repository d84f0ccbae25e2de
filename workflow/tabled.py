"""What an experiment must have for its tables, and what their selections may name."""

from typing import TYPE_CHECKING

from artifacts.errors import InputError
from eval.selection import check
from eval.tables import FURTHER_TABLES, table_stem
from units.settings import SpidrEncoder

if TYPE_CHECKING:
    from workflow.experiment import Experiment

TABLES = (1, 2, 3, 4, 5, 6, 7, 8)
OF_TRAININGS = (4, 5)
"""Made from the trainings of encoders; the others are from scores."""
OF_SELECTED_LAYERS = (1, 2, 6, 7, 8)
OF_LANGUAGE_MODELS = (3,)
OF_CODEBOOKS = (6,)
PAPER_METRICS = ("swuggy", "sblimp", "tsc")
FURTHER_METRICS = ("ssc", "prosaudit", "salmon", "pairs")
"""Zero-shot metrics that are in none of the paper's tables, but in one of their own."""
PUBLISHED = "published"
"""The source of the paper's numbers, and the name that they have among others."""


def pretrained_here(experiment: "Experiment") -> list[str]:
    """The encoders that are pretrained by a recipe: tables 4 and 5 are of them."""
    encoders = experiment.encoders.items()
    return [name for name, e in encoders if isinstance(e, SpidrEncoder) and e.recipe and not e.untrained]


def further_tables(experiment: "Experiment") -> list[str]:
    """Tables that come with the paper's where what they show is measured."""
    if not experiment.tables:
        return []
    evaluation = experiment.evaluation
    is_measured = {
        "units": bool(evaluation.quality and experiment.all_systems),
        "zeroshot": experiment.has_language_models and not evaluation.zeroshot.keys().isdisjoint(FURTHER_METRICS),
    }
    return [name for name in FURTHER_TABLES if is_measured[name]]


def check_tables(experiment: "Experiment") -> None:
    """Refuse tables that the experiment will have nothing for, and selections that nothing will be shown by.

    Raises:
        ValueError: One line that names the key, what was found and what was expected.
    """
    evaluation = experiment.evaluation
    selects_layers = evaluation.abx is not None and "" in evaluation.abx.variants
    has_codebooks = any(
        s.quantizer and experiment.quantizers[s.quantizer].kind == "codebook" for s in experiment.all_systems.values()
    )
    has_words = experiment.has_language_models and not evaluation.zeroshot.keys().isdisjoint(PAPER_METRICS)
    needs = (
        (OF_SELECTED_LAYERS, selects_layers, "evaluation.abx of triphones within context: it selects the layer"),
        (OF_LANGUAGE_MODELS, has_words, f"systems with a language model, scored by one of {', '.join(PAPER_METRICS)}"),
        (OF_CODEBOOKS, has_codebooks, "an encoder with a quantizer of kind codebook"),
        (OF_TRAININGS, bool(pretrained_here(experiment)), "a spidr or dinosr encoder that is trained by a recipe"),
    )
    for tables, is_met, expected in needs:
        if not is_met and (unmet := [table for table in experiment.tables if table in tables]):
            raise ValueError(f"tables: found {unmet[0]}, expected {expected}")
    if experiment.beside is not None and not experiment.others:
        raise ValueError(f"beside: found {experiment.beside!r} without others, expected the files of its scores there")
    drawn = [*map(table_stem, experiment.tables), *map(table_stem, further_tables(experiment))]
    drawn += [f"figure_{number:02d}" for number in experiment.figures]
    for name, wanted in experiment.select.items():
        if name not in drawn:
            raise ValueError(f"select: found {name!r}, expected one of those drawn: {', '.join(drawn) or 'none'}")
        try:
            check(wanted)
        except InputError as error:
            raise ValueError(f"select.{name}.{error}") from None
