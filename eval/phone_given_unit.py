"""Figure 10: P(phone | unit) of the units of one layer (appendix B.2), from counts of phones and units.

python -m eval.phone_given_unit --scores results/demo/scores/spidr-L04-codebook/pnmi.dev.json
    results/demo/scores/spidr-L04-kmeans50/pnmi.dev.json --output results/demo/figures/figure_10

Beside each PNMI score lie the counts it is computed from, ``joint_counts.<dataset>.csv``.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from artifacts.errors import InputError, run
from artifacts.files import read_csv, read_json_object, require_keys
from artifacts.settings import Settings, parse_settings
from corpora.annotations import SILENCE
from eval.ipa import ipa
from eval.results import unit_label
from eval.scores import add_names_argument, parse_names, read_scores, score_stem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

CAPTION = (
    "P(phone | unit) of the units of one layer: of the labels of 10 ms that a unit covers, the share that is of each "
    "phone. Phones are sorted by their frequency in the annotation; units by their most likely phone, then by how "
    "likely it is. Units that do not occur are left out. Had every unit one phone, there would be one black staircase."
)
COLUMNS = ("phone", "unit", "count")
ABREAST = 2
PHONE_IN, OTHER_IN = 0.105, 0.95  # height of a phone, and of what is around the phones


class Count(Settings):
    """Labels of one phone that one unit covers."""

    phone: str = Field(min_length=1)
    unit: int = Field(ge=0)
    count: int = Field(ge=1)


@dataclass(frozen=True, slots=True)
class UnitPhones:
    """What the units of one system are of.

    Attributes:
        phones: In the order of the rows.
        joint: Labels by phone and unit that occurs, (phones, units), neither empty.
    """

    model: str
    layer: int | None
    units: str
    pnmi: float
    phones: Sequence[str]
    joint: npt.NDArray[np.int64]

    def given_unit(self) -> npt.NDArray[np.float64]:
        """P(phone | unit), (phones, units), units sorted by their most likely phone, then by how likely that is."""
        probability: npt.NDArray[np.float64] = self.joint / self.joint.sum(0)
        return probability[:, np.lexsort((-probability.max(0), probability.argmax(0)))]


def read_unit_phones(score: Path, names: Mapping[str, str] | None = None) -> UnitPhones:
    """What a system's units are of, from its PNMI score and the counts beside it.

    Args:
        names: What models are called, by encoder.

    Raises:
        InputError: It is another score, or the counts are absent or malformed.
    """
    (found,) = read_scores([score], names)
    if found["metric"] != "pnmi" or found["quantizer"] is None:
        raise InputError(f"{score}: found {found['metric']} of {found['quantizer']}, expected pnmi of a system's units")
    path = score.with_name(f"{score_stem('joint_counts', found['dataset'])}.csv")
    cells: dict[tuple[str, int], int] = {}
    for line, row in read_csv(path, COLUMNS):
        cell = parse_settings(Count, {column: row[column] for column in COLUMNS}, f"{path}, line {line}")
        if (cell.phone, cell.unit) in cells:
            raise InputError(f"{path}, line {line}: phone {cell.phone} with unit {cell.unit} again, expected each once")
        cells[cell.phone, cell.unit] = cell.count
    if not cells:
        raise InputError(f"{path}: found no counts, expected some")
    units = sorted({unit for _, unit in cells})
    frequency: dict[str, int] = {}
    for (phone, _), count in cells.items():
        frequency[phone] = frequency.get(phone, 0) + count
    phones = sorted(frequency, key=lambda phone: (-frequency[phone], phone))  # appendix B.3
    joint = np.zeros((len(phones), len(units)), np.int64)
    for (phone, unit), count in cells.items():
        joint[phones.index(phone), units.index(unit)] = count
    label = unit_label(found["quantizer"], found["num_units"])
    return UnitPhones(found["model"], found["layer"], label, found["value"], phones, joint)


def of_selected_layer(systems: Sequence[UnitPhones], selection: Path | None) -> list[UnitPhones]:
    """The systems of the layer that an encoder's selection names; all where there is none.

    Raises:
        InputError: No system is of that layer.
    """
    if selection is None:
        return list(systems)
    chosen = read_json_object(selection)
    require_keys(chosen, {"layer": int}, selection)
    found = [system for system in systems if system.layer == chosen["layer"]]
    if not found:
        raise InputError(f"--scores: found none of layer {chosen['layer']}, which {selection} selects")
    return found


def draw_phone_given_unit(systems: Sequence[UnitPhones]) -> "Figure":
    """One panel a system, two abreast, codebooks first."""
    from eval.results import CODEBOOK
    from eval.style import new_figure

    ordered = sorted(systems, key=lambda system: system.units != CODEBOOK)
    columns = min(ABREAST, len(ordered))
    rows = -(-len(ordered) // columns)
    most = max(len(system.phones) for system in ordered)
    figure, panels = new_figure(rows, columns, rows * (most * PHONE_IN + OTHER_IN))
    everywhere = [axes for row in panels for axes in row]
    image = None
    for axes, system in zip(everywhere, ordered, strict=False):
        image = _draw_panel(axes, system)
    for axes in everywhere[len(ordered) :]:
        axes.set_visible(False)
    assert image is not None
    bar = figure.colorbar(image, ax=everywhere, location="right", aspect=40, pad=0.02, shrink=0.6)
    bar.set_label("P(phone | unit)")
    bar.outline.set_visible(False)
    return figure


def _draw_panel(axes: "Axes", system: UnitPhones) -> "AxesImage":
    probability = system.given_unit()
    shape: dict[str, Any] = {"aspect": "auto", "interpolation": "nearest", "cmap": "Greys"}
    image = axes.imshow(probability, vmin=0, vmax=1, **shape)
    letters = [ipa(phone) or ("sil" if phone == SILENCE else phone) for phone in system.phones]
    axes.set_yticks(range(len(letters)), letters, fontsize=7)
    axes.tick_params(left=False, pad=1)
    axes.set_xlabel(f"{probability.shape[1]} active units")
    axes.set_xticks([])
    layer = "" if system.layer is None else f", layer {system.layer}"
    axes.set_title(f"{system.model}{layer}, {system.units}: PNMI {system.pnmi:.3f}", loc="left", fontsize=9)
    axes.grid(visible=False)
    return image


def main() -> None:
    """Entry point: PNMI scores with their counts in, one figure out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scores", type=Path, nargs="+", required=True, help="PNMI score of each system, JSON")
    parser.add_argument("--selection", type=Path, help="JSON of eval.best_layer: only systems of that layer")
    add_names_argument(parser)
    parser.add_argument("--output", type=Path, required=True, help="figure without extension")
    given = parser.parse_args()
    names = parse_names(given.names)
    systems = of_selected_layer([read_unit_phones(score, names) for score in given.scores], given.selection)
    from eval.style import save_figure

    save_figure(draw_phone_given_unit(systems), given.output)


if __name__ == "__main__":
    run(main)
