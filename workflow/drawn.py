"""What an experiment must have for its figures, and whose layer figures 8 to 10 show."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from units.settings import Topline, layers_by_quantizer
from workflow.tabled import PUBLISHED, pretrained_here

if TYPE_CHECKING:
    from workflow.experiment import Experiment

FIGURES = tuple(range(2, 15))
OF_SCORES = (3, 7, 11, 12, 13, 14)
OF_LANGUAGE_MODELS = (3, 12, 13, 14)
OF_RECIPES = (5, 6)
"""Of recipes of trainings; 2 is of their logs, 4 of the time and the devices they took."""
OF_EMBEDDINGS = (8, 9)
OF_COUNTS = 10
TRAINING_LOG = "training/log.jsonl"
"""Where an encoder's folder has the log of its training, for figure 2."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The encoder that a figure of one layer shows.

    Attributes:
        layers: The layer; of several, the figure shows that with the lowest ABX error.
        quantizers: Those of its units; of figure 10 only.
    """

    encoder: str
    layers: Sequence[int]
    quantizers: Sequence[str] = ()

    @property
    def choice(self) -> str:
        """The layer as paths have it: ``L06``, or ``best``."""
        return f"L{self.layers[0]:02d}" if len(self.layers) == 1 else "best"


def shown(experiment: "Experiment", number: int) -> Shown:
    """What figure 8, 9 or 10 shows: by default the first encoder that is trained here, else the first that can be.

    ``select: {figure_08: {encoder: [hubert], layer: [9]}}`` chooses, and for figure 10 its quantizers too.

    Raises:
        ValueError: The experiment has no such encoder, layer or quantizer.
    """
    key = f"figure_{number:02d}"
    wanted = experiment.select.get(key, {})
    fields = ("encoder", "layer", *(("quantizer",) if number == OF_COUNTS else ()))
    if unknown := [field for field in wanted if field not in fields]:
        raise ValueError(f"select.{key}: found {unknown[0]}, expected {' and '.join(fields)}: it shows one layer")
    encoders = {name: e for name, e in experiment.encoders.items() if not isinstance(e, Topline)}
    if number == OF_COUNTS:
        encoders = {name: encoder for name, encoder in encoders.items() if encoder.quantizers}
    in_order = sorted(encoders, key=lambda name: name not in pretrained_here(experiment))
    if not in_order:
        expected = "an encoder with units" if number == OF_COUNTS else "an encoder that is no topline"
        raise ValueError(f"figures: found {number}, expected {expected} to draw it from")
    name = str(_one(key, "encoder", wanted.get("encoder", in_order[:1]), in_order))
    of_units = layers_by_quantizer(encoders[name])
    quantizers = [str(q) for q in wanted.get("quantizer", list(of_units))]
    if unknown := [quantizer for quantizer in quantizers if quantizer not in of_units]:
        raise ValueError(f"select.{key}.quantizer: found {unknown[0]!r}, expected one of {', '.join(of_units)}")
    layers = list(encoders[name].layers)
    if number == OF_COUNTS:
        layers = sorted({layer for quantizer in quantizers for layer in of_units[quantizer]})
    if "layer" in wanted:
        layers = [int(_one(key, "layer", wanted["layer"], layers))]
    abx = experiment.evaluation.abx
    if len(layers) > 1 and not (abx and "" in abx.variants):
        raise ValueError(
            f"figures: found {number} of an encoder of {len(layers)} layers, expected evaluation.abx of triphones "
            f"within context, which selects one, or select.{key}.layer"
        )
    return Shown(name, layers, quantizers if number == OF_COUNTS else ())


def _one[T](key: str, field: str, found: Sequence[T], known: Sequence[T]) -> T:
    if len(found) != 1 or found[0] not in known:
        raise ValueError(f"select.{key}.{field}: found {found}, expected one of {', '.join(map(str, known))}")
    return found[0]


def check_figures(experiment: "Experiment") -> None:
    """Refuse figures that the experiment will have nothing for.

    Raises:
        ValueError: One line that names the key, what was found and what was expected.
    """
    evaluation = experiment.evaluation
    has_log = f"an encoder with a recipe that is trained, or one made elsewhere with its {TRAINING_LOG}"
    trained = pretrained_here(experiment)
    has_units = any(system.quantizer for system in experiment.all_systems.values())
    is_framed = bool(evaluation.abx or evaluation.map)
    needs = (
        ((2,), bool(experiment.logged_encoders), has_log),
        (OF_LANGUAGE_MODELS, experiment.has_language_models, "systems with a language model"),
        ((4,), bool(trained or PUBLISHED in experiment.others), "an encoder that is trained by a recipe, or others"),
        (OF_RECIPES, bool(trained), "a spidr or dinosr encoder that is trained by a recipe"),
        ((7,), is_framed, "evaluation.abx or evaluation.map"),
        (OF_EMBEDDINGS, is_framed, "evaluation.abx or evaluation.map, whose first corpus it shows,"),
        ((OF_COUNTS,), evaluation.quality is not None, "evaluation.quality"),
        ((11,), has_units, "an encoder with quantizers"),
    )
    for figures, is_met, expected in needs:
        if not is_met and (unmet := [figure for figure in experiment.figures if figure in figures]):
            raise ValueError(f"figures: found {unmet[0]}, expected {expected} to draw it from")
    for number in experiment.figures:
        if number in (*OF_EMBEDDINGS, OF_COUNTS):
            shown(experiment, number)
