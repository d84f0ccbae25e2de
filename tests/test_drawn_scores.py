"""Curves and dots from published scores: means that stand for their parts, other formulas, layers nobody tells."""

from pathlib import Path
from typing import Any

import pytest

from eval.correlations import correlate, proxy_points
from eval.figures import draw
from eval.results import Result, averaged, drawn_scores, read_results, selected_layers
from eval.scaling import scaling_curves
from eval.style import Series, in_legend, looks, model_colours, series_namer

PUBLISHED = Path(__file__).parent.parent / "results" / "published"
OF_SCORES = (1, 2, 3, 6, 7, 8)


def score(metric: str, value: float, **fields: Any) -> Result:
    defaults: dict[str, Any] = {"source": "theirs", "model": "X", "encoder": "x", "layer": 1, "dataset": "dev"}
    return Result(**(defaults | {"metric": metric, "value": value} | fields))


@pytest.fixture(scope="module")
def published() -> list[Result]:
    return read_results(PUBLISHED / f"table_{number}.csv" for number in OF_SCORES)


def test_a_mean_from_elsewhere_stands_where_its_parts_are_not_told() -> None:
    mean = score("abx_units", 0.2, dataset="a_b", condition="mean")
    parts = [score("abx_units", value, dataset="a", condition=c) for c, value in (("within", 0.1), ("across", 0.3))]
    other = score("abx_units", 0.4, dataset="a_b", condition="mean", layer=2)
    assert averaged([mean]) == [mean]
    assert averaged([mean, *parts, other]) == [*parts, other]
    assert averaged([score("abx_units", 0.2, condition="within_any"), score("pnmi", 0.5, condition="mean")]) == []


def test_scores_by_one_other_formula_are_drawn_under_its_name_and_never_beside_the_usual_one() -> None:
    theirs = [score("map_words", 0.4, condition="speech-map"), score("map_words", 0.5, condition="speech-map", layer=2)]
    assert drawn_scores(theirs, "map_words") == (theirs, "speech-map")
    ours = score("map_words", 0.3, condition="strict", source="ours")
    assert drawn_scores([*theirs, ours], "map_words") == ([ours], "")
    assert drawn_scores([*theirs, score("map_words", 0.3, condition="another")], "map_words") == ([], "")
    assert draw(7, theirs).axes[1].get_title(loc="left").startswith("MAP words (speech-map, %)")


def test_a_layer_is_selected_by_means_too_and_one_that_lacks_a_part_is_not() -> None:
    means = [score("abx_continuous", v, dataset="a_b", condition="mean", layer=k) for k, v in ((1, 0.3), (2, 0.2))]
    incomplete = score("abx_continuous", 0.1, dataset="a", condition="within", layer=3)
    assert selected_layers([*means, incomplete]) == {("theirs", "x"): 2}


def test_figure_11_of_the_published_numbers_has_the_abx_and_the_pnmi_that_table_2_prints(
    published: list[Result],
) -> None:
    abx, pnmi = draw(11, published).axes
    shown = {round(float(y), 2) for line in abx.lines for y in line.get_ydata()}
    assert {7.32, 7.89, 10.81, 7.70, 10.61, 6.32, 7.10} <= shown
    shown = {round(float(y), 3) for line in pnmi.lines for y in line.get_ydata()}
    assert {0.636, 0.620, 0.588, 0.614, 0.589, 0.602, 0.633} <= shown


def test_figure_14_of_the_published_numbers_has_a_dot_for_each_row_of_table_2(published: list[Result]) -> None:
    points = proxy_points(published, "abx_units", "tsc")
    found = {(round(100 * x, 2), round(100 * y, 2)) for layers in points.values() for x, y in layers.values()}
    assert {(7.32, 67.66), (7.89, 68.04), (10.81, 64.72), (7.70, 65.95), (6.32, 69.37), (7.10, 70.55)} <= found
    assert len(found) == 7


def test_what_is_of_a_layer_that_nobody_tells_is_on_no_layer(published: list[Result]) -> None:
    assert any(r.layer is None and r.metric == "tsc" for r in published)
    for axes in draw(12, published).axes:
        assert {round(float(x)) for line in axes.lines for x in line.get_xdata() if len(line.get_xdata()) == 1} == {
            *(5, 6, 11)
        }
    assert not any("None" in series.label for series in scaling_curves(published))


def test_all_that_the_paper_scores_can_be_told_apart(published: list[Result]) -> None:
    for number in (3, 7, 12):
        [legend] = draw(number, published).legends
        seen = [(h.get_color(), h.get_marker(), h.get_markerfacecolor()) for h in legend.legend_handles]
        assert len(set(seen)) == len(seen) > 10, number


def test_dots_of_many_encoders_stay_near_their_layer(published: list[Result]) -> None:
    [abx, _] = draw(7, published).axes
    dots = [float(line.get_xdata()[0]) for line in abx.lines if len(line.get_xdata()) == 1]
    assert len(dots) > 20
    assert max(abs(x - round(x)) for x in dots) <= 0.25
    low, high = abx.get_xlim()
    assert low < min(dots) - 0.3
    assert high > max(dots) + 0.3


def test_a_legend_sorts_sizes_by_number() -> None:
    results = [score("pnmi", 0.5, quantizer=f"kmeans{size}", num_units=size) for size in (500, 50, 100)]
    name = series_namer(results)
    assert [series.variant for series in in_legend(map(name, results))] == ["$V$ = 50", "$V$ = 100", "$V$ = 500"]


def test_two_kinds_of_units_that_have_no_marker_of_their_own_have_two() -> None:
    kinds = [Series("ours", "x", "X", units) for units in ("Spin", "DC-Spin")]
    look = looks(kinds, model_colours([score("pnmi", 0.5)]))
    assert look[kinds[0]].marker != look[kinds[1]].marker


@pytest.mark.parametrize("units", ["", "K-means", "Codebook"])
def test_what_is_published_looks_unlike_what_is_ours(units: str) -> None:
    ours, theirs = (Series(source, "spidr", "SpidR", units) for source in ("ours", "published"))
    look = looks([ours, theirs], model_colours([score("pnmi", 0.5, model="SpidR")]))
    assert (look[ours].filled, look[theirs].filled) == (True, False)
    assert look[ours].line != look[theirs].line


def test_language_models_trained_elsewhere_lend_no_correlation() -> None:
    results = [
        score(metric, value, source=source, layer=layer, quantizer="kmeans50", num_units=50)
        for source, level in (("ours", 0.5), ("published", 0.8))
        for layer in (1, 2, 3, 4)
        for metric, value in (("pnmi", level + layer / 100), ("tsc", level - layer / 100))
    ]
    found = dict(correlate(proxy_points(results, "pnmi", "tsc")))
    assert found["ours"].r == pytest.approx(-1)
    assert found["published"].r == pytest.approx(-1)  # over both together it would be 0.99
    assert len(found) == 4  # and the layers of each
