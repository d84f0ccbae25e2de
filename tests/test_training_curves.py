"""Figure 2: what a log says is what is drawn, of a finished training and of one that runs."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import InputError
from eval.naming import named_path
from eval.style import save_figure
from eval.training_curves import CAPTION, MOST_ABREAST, Training, draw_training_curves, read_training

V = 16
STEPS = (10, 20, 30)


def measured(step: int, layers: Sequence[int] = (1, 2), split: str = "validation") -> dict[str, Any]:
    """A line of a log: the codebook of a layer rises, its predictions fall."""
    perplexities = {
        "codebook_perplexity": {str(layer): layer + step / 10 for layer in layers},
        "prediction_perplexity": {str(layer): V - layer - step / 10 for layer in layers},
        "active_codewords": {str(layer): 2.0 * layer for layer in layers},
    }
    return {"split": split, "step": step, "loss": 2.5, **perplexities}


def write_log(folder: Path, lines: Sequence[dict[str, Any]], end: str = "", codebook_size: int = V) -> Path:
    """The log of a training, with the settings beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.json").write_text(json.dumps({"recipe": {"model": {"codebook_size": codebook_size}}}))
    path = folder / "log.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + end)
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The log of a training of two layers: validations among lines of the training itself."""
    lines = [line for step in STEPS for line in (measured(step, split="train"), measured(step))]
    return write_log(tmp_path / "training", lines)


def curves(trainings: Sequence[Training]) -> list[list[list[tuple[float, float]]]]:
    """The points of the curves of each panel, without the level of V."""
    panels = [axes for axes in draw_training_curves(trainings).axes if axes.get_visible()]
    return [[list(zip(*line.get_data(), strict=True)) for line in axes.lines[:-1]] for axes in panels]


def test_the_curves_are_the_validations_of_each_layer(log: Path) -> None:
    codebooks, predictions = curves([read_training("SpidR", log)])
    assert codebooks == [[(step, layer + step / 10) for step in STEPS] for layer in (1, 2)]
    assert predictions == [[(step, V - layer - step / 10) for step in STEPS] for layer in (1, 2)]


def test_trainings_stand_beside_each_other_and_share_their_axes(log: Path, tmp_path: Path) -> None:
    other = write_log(tmp_path / "other", [measured(50)], codebook_size=64)
    figure = draw_training_curves([read_training("SpidR", log), read_training("DinoSR", other)])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["SpidR", "DinoSR", "", ""]
    assert [axes.get_ylabel() for axes in figure.axes] == ["Codebook perplexity", "", "Prediction perplexity", ""]
    for axes in figure.axes:
        assert axes.get_ylim()[0] == 1
        assert list(axes.get_yticks()) == [1, 16, 32, 48, 64]
        assert axes.get_xlim()[0] == 0
        assert axes.get_xlim()[1] >= 50
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["$V$ = 16", "$V$ = 64"] * 2
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["Layer", "1", "2"]


def test_a_layer_has_one_colour_in_every_panel(log: Path, tmp_path: Path) -> None:
    deeper = read_training("B", write_log(tmp_path / "deeper", [measured(10, layers=(2, 3))]))
    figure = draw_training_curves([read_training("A", log), deeper])
    one, two, *_ = [[line.get_color() for line in axes.lines[:-1]] for axes in figure.axes]
    assert one[1] == two[0]
    assert len({*one, *two}) == 3


def test_more_trainings_than_stand_abreast_go_below(log: Path) -> None:
    trainings = [read_training(f"{n}", log) for n in range(MOST_ABREAST + 2)]
    figure = draw_training_curves(trainings)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 2 * len(trainings)
    assert [axes.get_title(loc="left") for axes in shown if axes.get_title(loc="left")] == [t.name for t in trainings]
    steps = [axes for axes in shown if axes.get_xlabel() == "Training steps"]
    assert len(steps) == len(trainings)
    figure.draw_without_rendering()
    assert all(axes.xaxis.get_tick_params()["labelbottom"] for axes in steps)


def test_one_validation_is_a_dot(tmp_path: Path) -> None:
    figure = draw_training_curves([read_training("SpidR", write_log(tmp_path, [measured(10)]))])
    assert figure.axes[0].lines[0].get_marker() == "o"


def test_of_a_running_training_the_whole_lines_are_drawn(log: Path) -> None:
    torn = json.dumps(measured(40))[:70]
    write_log(log.parent, [measured(step) for step in STEPS], end=torn)
    assert [validation.step for validation in read_training("SpidR", log).validations] == list(STEPS)


def test_the_same_logs_are_the_same_bytes(log: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        save_figure(draw_training_curves([read_training("SpidR", log)]), tmp_path / folder / "figure_02")
    for extension in ("pdf", "png"):
        one, two = (tmp_path / folder / f"figure_02.{extension}" for folder in ("a", "b"))
        assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize(
    ("lines", "end", "message"),
    [
        ([], "", "log.jsonl: found no validation, expected one at least"),
        ([measured(10, split="train")], "", "log.jsonl: found no validation"),
        ([], json.dumps(measured(10))[:50], "log.jsonl: found no validation"),
        ([measured(10)], "{torn\n" + json.dumps(measured(20)) + "\n", "log.jsonl, line 2: not JSON"),
        ([measured(10)], "[]\n", "log.jsonl, line 2: found '..', expected a JSON object"),
        (
            [{"split": "validation", "step": 10}],
            "",
            "line 1: codebook_perplexity: missing, expected a value; prediction",
        ),
        ([measured(10) | {"codebook_perplexity": [3.0]}], "", r"line 1: codebook_perplexity: found \[3.0\], expected"),
        ([measured(10) | {"codebook_perplexity": {}}], "", "line 1: codebook_perplexity: found {}, expected"),
        ([measured(10) | {"prediction_perplexity": {"1": None}}], "", "prediction_perplexity.1: found null, expected"),
    ],
)
def test_a_log_that_cannot_be_drawn_is_one_line(
    tmp_path: Path, lines: list[dict[str, Any]], end: str, message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_training("SpidR", write_log(tmp_path, lines, end))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("settings", ["{}", '{"recipe": 3}', '{"recipe": {"model": {"codebook_size": "16"}}}'])
def test_settings_without_a_codebook_size_are_named(log: Path, settings: str) -> None:
    log.with_name("settings.json").write_text(settings)
    with pytest.raises(InputError, match=r"settings.json: recipe.model.codebook_size: found .*, expected a number of"):
        read_training("SpidR", log)


def test_a_name_may_hold_an_equals_sign() -> None:
    assert named_path("tau=0.9=a/log.jsonl", "--log") == ("tau=0.9", Path("a/log.jsonl"))
    for wrong in ("a/log.jsonl", "=a/log.jsonl", "SpidR="):
        with pytest.raises(InputError, match=r"--log: found '.*', expected name=path"):
            named_path(wrong, "--log")


def test_the_caption_says_what_a_collapse_looks_like() -> None:
    assert "A collapse looks like" in CAPTION


def test_the_entry_point_draws_or_ends_with_one_line(log: Path, tmp_path: Path) -> None:
    def draw(path: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "eval.training_curves", "--log", f"SpidR (8 layers)={path}"]
        return subprocess.run([*command, "--output", str(tmp_path / "x" / "figure_02")], capture_output=True, text=True)

    done = draw(log)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "x" / "figure_02.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "x" / "figure_02.png").read_bytes().startswith(b"\x89PNG")
    absent = draw(tmp_path / "absent.jsonl")
    assert (absent.returncode, absent.stderr) == (2, f"error: {tmp_path}/absent.jsonl: no such file\n")
