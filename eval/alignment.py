"""What units are: the spectrogram of one utterance, and under it its phones, its words and the units of some systems.

python -m eval.alignment --manifest results/demo/corpora/dev/manifest.csv
    --intervals results/demo/corpora/dev/intervals.csv --systems "SpidR 1, K-means"
    --units results/demo/units/spidr-L01-kmeans100/dev.jsonl
    --vocabularies results/demo/quantizers/spidr/L01/kmeans100/config.json --output results/demo/figures/alignment

The utterance is the first, by fileid, of those between 2 and 4 seconds that have phones; where there is none, that
nearest to 3 seconds. Beside the figure, ``alignment.json`` says which it is and how many units each system gives it.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from artifacts.errors import InputError, run
from artifacts.files import write_json
from corpora.annotations import SILENCE, Interval, read_intervals
from corpora.audio import SAMPLE_RATE_HZ, read_waveform
from corpora.manifest import Utterance, read_manifest
from eval.ipa import ipa
from units.records import UnitSequence, read_units, read_vocabulary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

SHORTEST_S, LONGEST_S, IDEAL_S = 2.0, 4.0, 3.0

WINDOW_S = 0.010  # short enough for bursts, wide enough in frequency for formants
HOP_S = 0.002
FFT_SAMPLES = 512
PRE_EMPHASIS = 0.97  # speech falls with frequency: without it fricatives are hardly seen
DYNAMIC_RANGE_DB = 50.0

HUES = ("#77AADD", "#EE8866", "#44BB99", "#EEDD88", "#FFAABB", "#99DDFF", "#BBCC33", "#DDDDDD")
"""The light scheme of Paul Tol: apart for the colour-blind, and black text can be read on each."""
TINT = 0.45  # how far towards white the second shade of each hue is
SPECTROGRAM_IN, LANE_IN, OTHER_IN = 1.5, 0.27, 0.5
TEXT_PT = {"phones": 8.0, "words": 8.5, "units": 5.5}


@dataclass(frozen=True, slots=True)
class Box:
    """A stretch of the utterance with a label, in seconds."""

    onset_s: float
    offset_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Lane:
    """One row of boxes."""

    name: str
    kind: str
    boxes: list[Box]


def choose_utterance(utterances: Iterable[Utterance]) -> Utterance:
    """The first by fileid of 2 to 4 seconds; where there is none, that nearest to 3 seconds."""

    def rank(utterance: Utterance) -> tuple[float, str]:
        duration_s = utterance.num_samples / SAMPLE_RATE_HZ
        off_s = 0.0 if SHORTEST_S <= duration_s <= LONGEST_S else abs(duration_s - IDEAL_S)
        return off_s, utterance.fileid

    return min(utterances, key=rank)


def spectrogram(waveform: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], tuple[float, float, float, float]]:
    """Power of a pre-emphasised waveform in dB, 0 at its loudest.

    Returns:
        The powers, (frequencies, times), and the edges of the first and last cell: seconds, then Hz.
    """
    from scipy.signal import ShortTimeFFT
    from scipy.signal.windows import hann

    emphasised = np.append(waveform[:1], waveform[1:] - PRE_EMPHASIS * waveform[:-1])
    window = hann(round(WINDOW_S * SAMPLE_RATE_HZ), sym=False)
    transform = ShortTimeFFT(window, round(HOP_S * SAMPLE_RATE_HZ), SAMPLE_RATE_HZ, mfft=FFT_SAMPLES)
    power = transform.spectrogram(emphasised)
    loudest = max(float(power.max()), np.finfo(np.float64).tiny)
    quietest = loudest * 10 ** (-DYNAMIC_RANGE_DB / 10)
    first_s, last_s, low_hz, high_hz = transform.extent(len(waveform), center_bins=True)
    return 10 * np.log10(np.maximum(power, quietest) / loudest), (first_s, last_s, low_hz, high_hz)


def unit_boxes(sequence: UnitSequence, frame_rate_hz: float) -> list[Box]:
    """One box a unit."""
    return [Box(onset_s, offset_s, str(unit)) for onset_s, offset_s, unit in sequence.timed(frame_rate_hz)]


def interval_boxes(intervals: Iterable[Interval]) -> list[Box]:
    """Phones in IPA, words as they are; silence is left out."""
    return [
        Box(i.onset, i.offset, ipa(i.label) if i.tier == "phones" else i.label) for i in intervals if i.label != SILENCE
    ]


def unit_colours(units: Sequence[int]) -> dict[int, str]:
    """A colour for each unit of an utterance: the same wherever it occurs, of another hue than its neighbours'.

    A unit's number decides; where a neighbour has that hue already, the next free one is taken.
    """
    neighbours: dict[int, set[int]] = {unit: set() for unit in units}
    for before, after in pairwise(units):
        neighbours[before].add(after)
        neighbours[after].add(before)
    hue: dict[int, int] = {}
    for unit in sorted(neighbours):
        taken = {hue[other] for other in neighbours[unit] - {unit} if other in hue}
        turns = [(unit + turn) % len(HUES) for turn in range(len(HUES))]
        hue[unit] = next((turn for turn in turns if turn not in taken), turns[0])
    return {unit: _shade(HUES[hue[unit]], TINT * (unit // len(HUES) % 2)) for unit in hue}


def _shade(colour: str, towards_white: float) -> str:
    from matplotlib.colors import to_hex, to_rgb

    red, green, blue = (channel + (1 - channel) * towards_white for channel in to_rgb(colour))
    return to_hex((red, green, blue))


def draw_alignment(waveform: npt.NDArray[np.float32], lanes: Sequence[Lane]) -> "Figure":
    """The spectrogram above the lanes, all on one axis of seconds; thin lines are the edges of the first lane."""
    from eval.style import FAINT, MODEL_COLOURS, new_figure

    heights = [SPECTROGRAM_IN, *[LANE_IN] * len(lanes)]
    figure, rows = new_figure(len(heights), 1, sum(heights) + OTHER_IN, height_ratios=heights, sharex=True)
    top, *rest = [row[0] for row in rows]
    figure.set_layout_engine("constrained", h_pad=0.012, hspace=0)
    powers, extent = spectrogram(waveform)
    top.imshow(powers, origin="lower", aspect="auto", extent=extent, cmap="Greys", vmin=-DYNAMIC_RANGE_DB, vmax=0)
    top.set(ylabel="kHz", yticks=[0, 2000, 4000, 6000, 8000], yticklabels=["0", "2", "4", "6", "8"], ylim=(0, 8000))
    top.tick_params(bottom=False)
    edges_s = sorted({edge for box in lanes[0].boxes for edge in (box.onset_s, box.offset_s)}) if lanes else []
    numbers = [number for axes, lane in zip(rest, lanes, strict=True) for number in _draw_lane(axes, lane)]
    for axes in [top, *(axes for axes, lane in zip(rest, lanes, strict=True) if lane.kind == "units")]:
        for edge_s in edges_s:
            axes.axvline(edge_s, color=MODEL_COLOURS["SpidR"], linewidth=0.5, alpha=0.45, zorder=4)
    for axes in (top, *rest):
        axes.grid(visible=False)
    last = rest[-1] if rest else top
    last.set_xlabel("Time (s)")
    last.tick_params(bottom=True, labelbottom=True)
    last.spines["bottom"].set_visible(True)
    last.spines["bottom"].set_color(FAINT)
    top.set_xlim(0, len(waveform) / SAMPLE_RATE_HZ)
    _drop_what_does_not_fit(figure, numbers)
    return figure


def _draw_lane(axes: "Axes", lane: Lane) -> list[tuple["Text", float]]:
    """Draw the boxes of a lane; returns the numbers of units with the widths of their boxes in seconds."""
    from matplotlib.patches import Rectangle

    from eval.style import INK

    is_units = lane.kind == "units"
    colours = unit_colours([int(box.text) for box in lane.boxes]) if is_units else {}
    numbers = []
    for box in lane.boxes:
        width_s = box.offset_s - box.onset_s
        face = colours[int(box.text)] if is_units else "white"
        line: dict[str, Any] = {"edgecolor": "white" if is_units else INK, "linewidth": 0.4}
        axes.add_patch(Rectangle((box.onset_s, 0), width_s, 1, facecolor=face, **line))
        middle_s = box.onset_s + width_s / 2
        place: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 5, "clip_on": True}
        # Descenders and ascenders of a proportional font: the centre of its capitals is a little higher.
        text = axes.text(middle_s, 0.47, box.text, fontsize=TEXT_PT[lane.kind], **place)
        if is_units:
            numbers.append((text, width_s))
    axes.set(ylim=(0, 1), yticks=[0.5], yticklabels=[lane.name])
    axes.tick_params(left=False, bottom=False, labelbottom=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return numbers


def _drop_what_does_not_fit(figure: "Figure", numbers: Iterable[tuple["Text", float]]) -> None:
    """Take away the numbers that are wider than their boxes, once the layout has settled."""
    figure.draw_without_rendering()
    for text, width_s in numbers:
        assert text.axes is not None
        (left, _), (right, _) = text.axes.transData.transform([(0, 0), (width_s, 0)])
        if text.get_window_extent().width > right - left:
            text.remove()


def read_system(path: Path, fileid: str) -> UnitSequence:
    """The units of one utterance.

    Raises:
        InputError: The file has none of it.
    """
    for sequence in read_units(path):
        if sequence.fileid == fileid:
            return sequence
    raise InputError(f"{path}: found no units of {fileid}, expected those of every utterance of the corpus")


def describe(
    utterance: Utterance, corpus: str, tiers: Mapping[str, Sequence[Interval]], systems: Mapping[str, UnitSequence]
) -> dict[str, Any]:
    """What the figure shows, for its caption: no silence is counted among the phones."""
    return {
        "corpus": corpus,
        "fileid": utterance.fileid,
        "speaker": utterance.speaker,
        "duration_s": utterance.num_samples / SAMPLE_RATE_HZ,
        "words": [interval.label for interval in tiers["words"]],
        "num_phones": sum(interval.label != SILENCE for interval in tiers["phones"]),
        "systems": [{"name": name, "num_units": len(units.units)} for name, units in systems.items()],
    }


def main() -> None:
    """Entry point: a corpus and the units of some systems in, one figure out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=Path, required=True, help="utterances of an annotated corpus")
    parser.add_argument("--intervals", type=Path, required=True, help="its phones and words")
    parser.add_argument("--systems", nargs="+", default=[], help="what to call each system")
    parser.add_argument("--units", type=Path, nargs="+", default=[], help="units of the corpus by each system, JSONL")
    parser.add_argument("--vocabularies", type=Path, nargs="+", default=[], help="config.json of each one's units")
    parser.add_argument("--output", type=Path, required=True, help="figure without extension; a JSON stands beside it")
    given = parser.parse_args()
    if not len(given.systems) == len(given.units) == len(given.vocabularies):
        found = f"{len(given.systems)}, {len(given.units)} and {len(given.vocabularies)}"
        raise InputError(f"--systems, --units, --vocabularies: found {found}, expected as many of each")
    tiers = {"phones": read_intervals(given.intervals, "phones"), "words": read_intervals(given.intervals, "words")}
    annotated = [utterance for utterance in read_manifest(given.manifest) if utterance.fileid in tiers["phones"]]
    if not annotated:
        raise InputError(f"{given.intervals}: found no phones of an utterance of {given.manifest}, expected some")
    utterance = choose_utterance(annotated)
    own = {tier: intervals.get(utterance.fileid, []) for tier, intervals in tiers.items()}
    lanes = [Lane(tier, tier, interval_boxes(intervals)) for tier, intervals in own.items() if intervals]
    systems: dict[str, UnitSequence] = {}
    for name, units, vocabulary in zip(given.systems, given.units, given.vocabularies, strict=True):
        systems[name] = read_system(units, utterance.fileid)
        lanes.append(Lane(name, "units", unit_boxes(systems[name], read_vocabulary(vocabulary).frame_rate_hz)))
    from eval.style import save_figure

    figure = draw_alignment(read_waveform(utterance), lanes)
    save_figure(figure, given.output)
    about = describe(utterance, given.manifest.resolve().parent.name, own, systems)
    write_json(given.output.with_suffix(".json"), about)


if __name__ == "__main__":
    run(main)
