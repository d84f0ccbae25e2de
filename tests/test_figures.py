"""Figures: what is drawn, what is said where there is nothing, and the same bytes twice."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import InputError
from eval.correlations import proxy_points
from eval.figures import CAPTIONS, FIGURES, draw
from eval.results import Result
from eval.style import MODEL_COLOURS, Look, Series, looks, model_colours, save_figure, series_namer

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def result(metric: str, value: float, **fields: Any) -> Result:
    defaults = {"source": "ours", "model": "SpidR", "encoder": "spidr", "layer": 1, "dataset": "dev"}
    interval = {"low": value - 0.02, "high": value + 0.02}
    return Result(**(defaults | interval | {"metric": metric, "value": value} | fields))


def experiment(layers: int, **fields: Any) -> list[Result]:
    """Every metric that the figures show, for one encoder and two quantizers."""
    results = []
    for k in range(1, layers + 1):
        error = 0.1 + 0.02 * abs(k - 3)
        speakers = ("within", "across")
        results += [result("abx_continuous", error, layer=k, condition=condition, **fields) for condition in speakers]
        results.append(result("map_words", 0.9 - error, layer=k, condition="strict", **fields))
        for quantizer, num_units in (("kmeans100", 100), ("codebook", 128)):
            units = {"layer": k, "quantizer": quantizer, "num_units": num_units} | fields
            results.append(result("abx_units", error + 0.05, condition="within", **units))
            results.append(result("pnmi", 0.7 - error, **units))
            if quantizer == "codebook":
                results.append(result("abx_codebook", error + 0.01, condition="within", **units))
            slm = units | {"slm": "opt", "corpus": "train", "hours": 1.0, "seed": 0} | fields
            results += [
                result(metric, 0.7 - error / 2, **slm) for metric in ("swuggy_all", "swuggy_in_vocab", "sblimp", "tsc")
            ]
    return results


REFERENCES = [
    result("abx_continuous", 0.3, model="MFCC", encoder="mfcc", condition="within"),
    result("abx_units", 0.0, model="Phones", encoder="phones", layer=None, condition="within"),
    result("pnmi", 1.0, model="Phones", encoder="phones", layer=None),
    result("tsc", 0.9, model="Phones", encoder="phones", layer=None, slm="opt", corpus="train", hours=1.0, seed=0),
]


@pytest.mark.parametrize("number", FIGURES)
def test_every_figure_is_drawn_as_pdf_and_png(number: int, tmp_path: Path) -> None:
    save_figure(draw(number, experiment(4) + REFERENCES), tmp_path / f"figure_{number:02d}")
    assert (tmp_path / f"figure_{number:02d}.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / f"figure_{number:02d}.png").read_bytes().startswith(PNG_SIGNATURE)


@pytest.mark.parametrize("number", [11, 13])
def test_a_figure_is_the_same_bytes_twice(number: int, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        save_figure(draw(number, experiment(3)), tmp_path / folder / f"figure_{number}")
    for extension in ("pdf", "png"):
        one, two = (tmp_path / folder / f"figure_{number}.{extension}" for folder in ("a", "b"))
        assert one.read_bytes() == two.read_bytes()


def texts(number: int, results: list[Result]) -> list[list[str]]:
    """What is written in each panel."""
    figure = draw(number, results)
    return [[text.get_text() for text in axes.texts] for axes in figure.axes]


def test_one_layer_is_a_dot() -> None:
    [abx, _] = draw(7, experiment(1)).axes
    assert [list(line.get_xdata()) for line in abx.lines if len(line.get_xdata()) == 1] == [[1]]


def test_the_curve_is_the_mean_of_datasets_and_conditions_in_percent() -> None:
    results = [
        result("abx_continuous", value, dataset=dataset, condition=condition)
        for value, dataset, condition in [(0.1, "a", "within"), (0.2, "a", "across"), (0.3, "b", "within")]
    ]
    [abx, _] = draw(7, results).axes
    assert abx.lines[0].get_ydata()[0] == pytest.approx(20.0)


def test_an_encoder_without_layers_is_a_level_with_its_name() -> None:
    abx, _ = texts(7, experiment(3) + REFERENCES)
    assert "MFCC" in abx


def test_a_level_far_from_the_data_is_named_rather_than_drawn() -> None:
    _, pnmi = draw(11, experiment(3) + REFERENCES).axes
    assert pnmi.get_title(loc="right") == "Phones: 1"
    assert pnmi.get_ylim()[1] < 0.9


def test_a_panel_without_scores_says_so() -> None:
    only_abx = [r for r in experiment(3) if r.metric == "abx_continuous"]
    assert texts(7, only_abx)[1] == ["no scores"]


def test_a_figure_without_any_score_is_refused() -> None:
    with pytest.raises(InputError, match="figure 12: found no score, expected one of swuggy_all, sblimp, tsc"):
        draw(12, [r for r in experiment(2) if r.slm is None])


def looks_of(results: list[Result]) -> dict[Series, Look]:
    return looks(map(series_namer(results), results), model_colours(results))


def test_a_model_has_one_colour_whatever_else_is_there() -> None:
    alone, among = experiment(1), experiment(1) + experiment(1, model="A model", encoder="a")
    for results in (alone, among):
        look = looks_of(results)
        assert {look[series].colour for series in look if series.model == "SpidR"} == {MODEL_COLOURS["SpidR"]}


def test_series_of_two_models_or_two_quantizers_look_different() -> None:
    look = looks_of(experiment(1) + experiment(1, model="A model", encoder="a") + experiment(1, source="a paper"))
    named = [series for series in look if series.units]
    assert len({(look[s].colour, look[s].marker, look[s].filled) for s in named if s.source == "ours"}) == 4


def test_two_trainings_on_the_same_units_are_two_series() -> None:
    results = experiment(1) + [r for r in experiment(1, hours=100.0) if r.slm]
    names = {series_namer(results)(r).label for r in results if r.slm and r.quantizer == "codebook"}
    assert names == {"SpidR, Codebook, opt (train, 1 h)", "SpidR, Codebook, opt (train, 100 h)"}


def test_abx_of_codebook_units_is_that_of_the_predictions() -> None:
    points = proxy_points(experiment(3), "abx_continuous", "tsc")
    by_units = {series.units: layers[3][0] for series, layers in points.items()}
    assert by_units == {"K-means": pytest.approx(0.10), "Codebook": pytest.approx(0.11)}


def test_units_of_a_codebook_are_known_by_their_predictions_whatever_they_are_called() -> None:
    renamed = [r.model_copy(update={"quantizer": "heads"}) if r.quantizer == "codebook" else r for r in experiment(3)]
    points = proxy_points(renamed, "abx_continuous", "tsc")
    by_units = {series.units: layers[3][0] for series, layers in points.items()}
    assert by_units == {"K-means": pytest.approx(0.10), "heads": pytest.approx(0.11)}


def test_the_topline_is_no_dot() -> None:
    points = proxy_points(experiment(3) + REFERENCES, "pnmi", "tsc")
    assert {series.model for series in points} == {"SpidR"}


def test_r_is_that_of_the_definition_and_needs_three_points() -> None:
    results = [r for r in experiment(5) if r.quantizer != "codebook"]
    for k, r in enumerate(r for r in results if r.metric == "tsc"):
        results[results.index(r)] = r.model_copy(update={"value": (0.5, 0.61, 0.58, 0.7, 0.52)[k]})
    [points] = proxy_points(results, "pnmi", "tsc").values()
    x, y = zip(*points.values(), strict=True)
    mean_x, mean_y = sum(x) / 5, sum(y) / 5
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    r = covariance / math.sqrt(sum((a - mean_x) ** 2 for a in x) * sum((b - mean_y) ** 2 for b in y))
    panels = texts(14, results)
    assert any(f"$r$ = {r:.2f} [" in text and "$n$ = 5" in text for text in panels[5])
    few = texts(14, [r for r in results if r.layer is not None and r.layer <= 2])
    assert not any("$r$" in text for panel in few for text in panel)


def test_what_is_selected_is_drawn_and_keeps_its_colour() -> None:
    results = experiment(3) + experiment(3, model="A", encoder="a") + experiment(3, model="B", encoder="b")
    everything, selected = (
        [line.get_color() for line in draw(7, results, wanted).axes[0].lines if len(line.get_xdata()) == 3]
        for wanted in (None, {"model": ["B"]})
    )
    assert len(set(everything)) == 3
    assert selected == everything[1:2]  # a, b, spidr


def test_units_of_two_sizes_are_two_curves_and_never_averaged() -> None:
    results = [
        result("pnmi", value, layer=layer, quantizer=f"kmeans{size}", num_units=size)
        for layer in (1, 2, 3)
        for size, value in ((50, 0.3), (256, 0.6))
    ]
    [_, pnmi] = draw(11, results).axes
    assert sorted(line.get_ydata()[0] for line in pnmi.lines) == [0.3, 0.6]
    assert len({line.get_marker() for line in pnmi.lines}) == 2
    namer = series_namer(results)
    assert {namer(r).label for r in results} == {"SpidR, K-means, $V$ = 50", "SpidR, K-means, $V$ = 256"}


def test_the_training_of_another_source_is_not_part_of_a_name() -> None:
    results = experiment(1) + experiment(1, source="a paper", corpus="librilight", hours=5770.0)
    assert {series.variant for series in looks_of(results)} == {""}


@pytest.mark.parametrize("number", [7, 12, 14])
def test_a_legend_never_leaves_the_figure(number: int) -> None:
    results = [r for name in "ABCDEFGH" for r in experiment(3, model=f"A model called {name}", encoder=name.lower())]
    figure = draw(number, results)
    figure.draw_without_rendering()
    [legend] = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    panels = [axes.get_window_extent() for axes in figure.axes]
    assert all(panel.y1 <= box.y0 and panel.height > 50 for panel in panels)


def test_every_figure_of_the_paper_has_a_caption() -> None:
    assert list(CAPTIONS) == list(range(2, 15))


def test_scores_from_elsewhere_alone_are_drawn_as_they_are_selected(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.csv"
    rows = [f"theirs,X,x,{layer},{metric},0.{layer}" for layer in (1, 2, 3) for metric in ("tsc", "swuggy_all")]
    theirs.write_text("source,model,encoder,layer,metric,value\n" + "\n".join(rows) + "\n")
    command = [
        sys.executable,
        "-m",
        "eval.figures",
        "--figure",
        "12",
        "--scores",
        str(theirs),
        "--output",
        str(tmp_path),
    ]
    done = subprocess.run([*command, "--select", '{"figure_12": {"layer": [1, 3]}}'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "figure_12.png").read_bytes().startswith(PNG_SIGNATURE)
    wrong = subprocess.run([*command, "--select", '{"figure_12": {"depth": [1]}}'], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: --select: figure_12.depth: no field of a score, expected one of model")
