"""Figure 4: where a training stands, what is joined, and what is refused."""

from pathlib import Path

import pytest

from artifacts.errors import InputError
from eval.footprint import FIELDS, Footprint
from eval.hardware import draw_hardware, read_trainings
from eval.style import save_figure

PUBLISHED = Path(__file__).parent.parent / "results" / "published" / "table_4.csv"


def training(model: str, gpu: str, num_gpus: int, hours: float) -> Footprint:
    return Footprint(
        model=model, gpu=gpu, num_gpus=num_gpus, steps=1, pretraining_time_h=hours, gpu_hours=hours * num_gpus
    )


def curves(figure: object) -> set[tuple[tuple[float, float], ...]]:
    """The places of the marked lines, the trainings; lines of equal cost have no marker."""
    [axes] = figure.axes  # type: ignore[attr-defined]
    marked = [line for line in axes.lines if line.get_marker() not in ("None", "")]
    return {tuple(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in marked}


def test_trainings_of_one_model_on_one_kind_of_device_are_joined_and_no_others() -> None:
    trainings = [
        training("SpidR", "A100", 16, 23),
        training("SpidR", "A100", 4, 90),
        training("SpidR", "H100", 4, 50),
        training("HuBERT", "A100", 32, 62),
    ]
    assert curves(draw_hardware(trainings)) == {((4, 90), (16, 23)), ((4, 50),), ((32, 62),)}


def test_a_line_of_equal_cost_has_that_cost_everywhere() -> None:
    [axes] = draw_hardware([training("A", "GPU", 1, 5), training("B", "GPU", 8, 100)]).axes
    lines = [line for line in axes.lines if line.get_marker() in ("None", "")]
    costs = [[x * y for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)] for line in lines]
    assert [round(cost[0]) for cost in costs] == [10, 100, 1000]
    assert all(cost[0] == pytest.approx(cost[1]) for cost in costs)


def test_the_published_trainings_are_drawn_each_with_its_name(tmp_path: Path) -> None:
    figure = draw_hardware(read_trainings([PUBLISHED]))
    assert len(curves(figure)) == 7
    assert {"HuBERT", "MelHuBERT"} <= {text.get_text() for text in figure.axes[0].texts}
    save_figure(figure, tmp_path / "figure_04")
    assert (tmp_path / "figure_04.pdf").read_bytes().startswith(b"%PDF")


def test_a_time_of_nothing_and_a_table_of_nothing_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "footprint.csv"
    path.write_text(f"{','.join(FIELDS)}\n")
    with pytest.raises(InputError, match=r"footprint.csv: found no training, expected one at least"):
        read_trainings([path])
    path.write_text(f"{','.join(FIELDS)}\nSpidR,A100,1,10,0,0\n")
    with pytest.raises(InputError, match="SpidR: found 0 h on 1 devices, expected numbers above 0"):
        read_trainings([path])
