"""A wrong experiment file is one line and exit code 2, before anything runs."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import TINY, snakemake, snakemake_command

from artifacts.errors import InputError
from artifacts.settings import parse_settings
from workflow.document import PAGE, SCHEMA, page_text, schema_text
from workflow.experiment import Experiment
from workflow.reading import read_experiment
from workflow.targets import Targets


def changed(tmp_path: Path, path: str, value: Any) -> Path:
    """A copy of the tiny experiment with one key (dots part its levels) set to `value`."""
    experiment = yaml.safe_load(TINY.read_text())
    node = experiment
    *parents, last = path.split(".")
    for parent in parents:
        node = node[parent]
    node[last] = value
    for encoder in experiment["encoders"].values():
        if "recipe" in encoder:
            encoder["recipe"] = str(TINY.parent / encoder["recipe"])
    for slm in experiment["slms"].values():
        slm["recipe"] = str(TINY.parent / slm["recipe"])
    copy = tmp_path / "changed.yaml"
    copy.write_text(yaml.safe_dump(experiment, sort_keys=False))
    return copy


WRONG = [
    ("encoder", 1, r"encoder: unknown key \(found 1\), expected one of experiment, seed"),
    ("encoders.spidr.layer", [3], r"encoders.spidr.spidr.layer: unknown key|encoders.spidr.layer: unknown key"),
    ("seed", "zero", 'seed: found "zero", expected a valid integer'),
    ("encoders.spidr.layers", [4, 14], r"encoders.spidr.layers: found 14, expected 0 to 4"),
    ("encoders.spidr.layers", [0, 4], "encoders.spidr.layers: found 0 with quantizer codebook, expected 1 to 4"),
    (
        "systems",
        ["spidr-L07-kmeans50"],
        "systems: found 'spidr-L07-kmeans50', expected one of the encoders' combinations: spidr-L04",
    ),
    ("encoders.mfcc.quantizers", ["codebook"], "mfcc.quantizers: found codebook of kind codebook, expected kmeans"),
    (
        "quantizers.kmeans50.fit",
        "vaild",
        "quantizers.kmeans50.fit: found 'vaild', expected one of the corpora of layout folder or librispeech",
    ),
    ("evaluation.abx.corpora", ["synthetic"], "abx.corpora: found 'synthetic', expected one of the annotated corpora"),
    (
        "corpora.dev.source",
        "train",
        "corpora.dev.source: found 'train', expected one of the synthetic corpora: synthetic",
    ),
    ("figures", [15], "figures: found 15, expected one of the paper's: 2, 3"),
    ("figures", [7, 7], r"figures: found \[7, 7\], expected each once"),
    ("systems", [], "figures: found 12, expected systems with a language model"),
    (
        "evaluation.swuggy.set",
        "dev",
        "evaluation.swuggy.set: found 'dev', expected one of the corpora of layout zerosp",
    ),
    (
        "evaluation.swuggy.set",
        "syntactic",
        "evaluation.swuggy.set: found 'syntactic', expected one of the sets of task lexical: lexical",
    ),
    (
        "evaluation.sblimp.set",
        "lexical",
        "evaluation.sblimp.set: found 'lexical', expected one of the sets of task syntactic: syntactic",
    ),
    ("slms.opt-tiny.validation", "train", "slms.opt-tiny.validation: found 'train', expected a corpus not trained on"),
    ("encoders.mfcc.family", "phones", "encoders.mfcc: found family phones|encoders.mfcc.quantizers"),
    ("evaluation.abx.conditions", [], "evaluation.abx.conditions: found .., expected"),
    ("experiment", "a--b", 'experiment: found "a--b", expected'),
    ("corpora.train.layout", "wav", "layout"),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG, ids=[f"{path}={value}" for path, value, _ in WRONG])
def test_a_wrong_key_type_or_name_is_one_line(tmp_path: Path, path: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_experiment(changed(tmp_path, path, value))
    assert "\n" not in str(error.value)


def test_figure_2_wants_an_encoder_whose_training_has_a_log() -> None:
    experiment = yaml.safe_load(TINY.read_text())
    experiment.update(quantizers={}, slms={}, systems=[], figures=[2])
    of_tiny = experiment["encoders"]
    elsewhere = {"family": "spidr", "path": "absent", "layers": [4]}
    experiment["encoders"] = {"spidr-untrained": of_tiny["spidr-untrained"], "elsewhere": elsewhere}
    with pytest.raises(InputError, match="figures: found 2, expected an encoder with a recipe that is trained, or one"):
        parse_settings(Experiment, experiment, "tiny")
    experiment["encoders"]["spidr"] = of_tiny["spidr"] | {"quantizers": []}
    assert parse_settings(Experiment, experiment, "tiny").logged_encoders == ["spidr"]


def test_what_tables_print_beside_ours_is_a_source_of_the_others(tmp_path: Path) -> None:
    file = changed(tmp_path, "beside", "nonsense")
    mine = tmp_path / "mine.csv"

    def read(others: list[str]) -> Experiment:
        file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"others": others}))
        return read_experiment(file)

    with pytest.raises(InputError, match=r"found .nonsense., expected one of the sources of others: published$"):
        read(["published"])
    assert read(["published", str(mine)]).beside == "nonsense"  # what is not there yet may have it
    mine.write_text("source,model,encoder,metric,value\nours too,SpidR,spidr,pnmi,0.5\n")
    with pytest.raises(InputError, match=r"expected one of the sources of others: published, ours too$"):
        read(["published", str(mine)])
    mine.write_text("source,model,encoder,metric,value\nnonsense,SpidR,spidr,pnmi,0.5\n")
    assert read(["published", str(mine)]).beside == "nonsense"


def test_snakemake_ends_with_that_line_and_exit_code_2_before_anything_runs(tmp_path: Path) -> None:
    done = snakemake(tmp_path, "all", experiment=changed(tmp_path, "encoders.spidr.layers", [4, 14]))
    assert done.returncode == 2
    # Before it reads the workflow, snakemake itself says which profile it uses.
    assert [line for line in done.stderr.splitlines() if line and not line.startswith("Using workflow specific")] == [
        f"error: {tmp_path / 'changed.yaml'}: encoders.spidr.layers: found 14, "
        "expected 0 to 4: the encoder has 4 layers"
    ]
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("further", "message"),
    [
        (["config/demo.yaml"], f"--configfile: found {TINY}, {TINY.with_name('demo.yaml')}, expected one experiment"),
        (["--config", "seed=7"], "(an experiment's keys stand in its file): seed: unknown key (found 7)"),
        (["--config", "traning_gpus=8"], "traning_gpus: unknown key (found 8), expected one of job_minutes"),
    ],
    ids=["two files", "an experiment's key", "a misspelt key"],
)
def test_no_configuration_is_dropped_without_a_word(tmp_path: Path, further: list[str], message: str) -> None:
    command = [*snakemake_command(tmp_path, "-n", "all"), *further]
    done = subprocess.run(command, capture_output=True, text=True, cwd=TINY.parent.parent)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr


def test_every_experiment_in_config_is_valid() -> None:
    for path in sorted(TINY.parent.glob("*.yaml")):
        assert Targets(read_experiment(path)).scores(), path


def test_the_committed_schema_and_documentation_are_those_of_the_models() -> None:
    assert SCHEMA.read_text() == schema_text()
    assert PAGE.read_text() == page_text()
