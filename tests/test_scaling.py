"""Figure 3: what is averaged over seeds, what is told apart, and where a dot stands."""

from typing import Any

import pytest

from artifacts.errors import InputError
from eval.figures import draw
from eval.results import Result
from eval.scaling import by_hours, scaling_curves

METRICS = ("swuggy_all", "sblimp", "tsc")


def score(hours: float, value: float, **fields: Any) -> Result:
    defaults: dict[str, Any] = {"source": "ours", "model": "SpidR", "encoder": "spidr", "layer": 6, "seed": 0}
    units = {"quantizer": "kmeans256", "num_units": 256, "slm": "opt", "corpus": f"c{hours:.0f}", "hours": hours}
    given = defaults | units | {"metric": "tsc", "dataset": "tsc", "value": value} | fields
    return Result(**given)


def test_a_curve_runs_over_the_hours_with_the_mean_of_the_seeds_in_percent() -> None:
    results = [score(600, 0.6), score(600, 0.7, seed=1), score(6000, 0.8), score(60000, 0.9, slm="opt-long")]
    [_, _, tsc] = draw(3, results).axes
    [curve] = [line for line in tsc.lines if len(line.get_xdata()) == 3 and line.get_marker() == "o"]
    assert list(curve.get_xdata()) == [600, 6000, 60000]
    assert list(curve.get_ydata()) == pytest.approx([65, 80, 90])
    [seeds] = [line for line in tsc.lines if line.get_marker() == "_"]
    assert sorted(seeds.get_ydata()) == pytest.approx([60, 70])
    assert tsc.get_xscale() == "log"
    assert [text.get_text() for text in tsc.get_xticklabels()] == ["600", "6,000", "60,000"]


def test_a_band_has_the_ends_of_the_intervals() -> None:
    results = [score(hours, 0.6, low=0.5 + i / 100, high=0.7) for i, hours in enumerate((600, 6000, 60000))]
    [_, _, tsc] = draw(3, results).axes
    [band] = tsc.collections
    corners = {(round(float(x)), round(float(y), 6)) for x, y in band.get_paths()[0].vertices}
    assert {(600, 50.0), (6000, 51.0), (60000, 52.0), (600, 70.0)} <= corners


def test_layers_sizes_and_models_are_told_apart_only_where_they_differ() -> None:
    alone = scaling_curves([score(600, 0.6), score(6000, 0.7)])
    assert [series.label for series in alone] == ["SpidR, K-means"]
    layers = scaling_curves([score(600, 0.6), score(600, 0.7, layer=7)])
    assert [series.label for series in layers] == ["SpidR, K-means, layer 6", "SpidR, K-means, layer 7"]
    sizes = scaling_curves([score(600, 0.6), score(600, 0.7, quantizer="kmeans50", num_units=50)])
    assert {series.variant for series in sizes} == {"$V$ = 50", "$V$ = 256"}


def test_two_language_models_of_the_same_hours_are_never_averaged() -> None:
    curves = scaling_curves([score(600, 0.6), score(600, 0.8, slm="llama"), score(6000, 0.7)])
    values = {series.variant: [r.value for r in scores] for series, scores in curves.items()}
    assert values == {"llama": [0.8], "opt": [0.6, 0.7]}
    longer = scaling_curves([score(600, 0.6), score(6000, 0.7, slm="opt-long")])
    assert [len(scores) for scores in longer.values()] == [2]


def test_text_is_a_curve_of_its_own() -> None:
    text = score(600, 0.9, model="Text", encoder="text", layer=None, quantizer=None, num_units=50000)
    assert {series.label for series in scaling_curves([score(600, 0.6), text])} == {"SpidR, K-means", "Text"}


def test_hours_counted_in_other_frames_are_the_same_size() -> None:
    assert {
        h: len(scores) for h, scores in by_hours([score(100.2, 0.5), score(100.0, 0.6), score(103.0, 0.7)]).items()
    } == {
        100.0: 2,
        103.0: 1,
    }


def test_without_hours_there_is_nothing_to_draw() -> None:
    with pytest.raises(InputError, match="figure 3: found no score with hours, expected those of language models"):
        draw(3, [score(600, 0.6).model_copy(update={"hours": None})])
