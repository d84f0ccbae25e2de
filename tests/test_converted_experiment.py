"""Converted encoders in an experiment."""

import re
from pathlib import Path

import pytest
from conftest import snakemake
from released_files import CASES, converted

from artifacts.errors import InputError
from workflow.reading import read_experiment


def write_experiment(folder: Path, encoder: str) -> Path:
    path = folder / "e.yaml"
    path.write_text(
        "experiment: e\ncorpora: {c: {layout: folder, path: c, annotations: a.csv}}\n"
        f"encoders: {{x: {encoder}}}\nquantizers: {{codes: {{kind: codebook}}}}\n"
        "evaluation: {abx: {corpora: [c]}, quality: {corpora: [c]}}\n"
    )
    return path


def test_an_experiment_knows_the_layers_of_a_converted_encoder(tmp_path: Path) -> None:
    folder = converted(tmp_path, CASES["fairseq"])
    read_experiment(write_experiment(tmp_path, f"{{family: converted, path: {folder}, layers: [0, 3]}}"))
    with pytest.raises(InputError, match=r"encoders\.x\.layers: found 4, expected 0 to 3"):
        read_experiment(write_experiment(tmp_path, f"{{family: converted, path: {folder}, layers: [3, 4]}}"))


def test_only_spin_gives_a_converted_encoder_a_codebook(tmp_path: Path) -> None:
    converted(tmp_path, CASES["spin-hubert"])
    for folder in (tmp_path / "encoder", tmp_path / "not there yet"):
        entry = f"{{family: converted, path: {folder}, layers: [3], quantizers: [codes]}}"
        assert list(read_experiment(write_experiment(tmp_path, entry)).all_systems) == ["x-L03-codes"]
    entry = f"{{family: converted, path: {tmp_path / 'encoder' / 'base'}, layers: [3], quantizers: [codes]}}"
    with pytest.raises(
        InputError, match=r"encoders\.x\.quantizers: found codes of kind codebook, .*base has no codebook"
    ):
        read_experiment(write_experiment(tmp_path, entry))


@pytest.mark.parametrize(
    ("source", "command"),
    [
        (
            "contentvec",
            "python -m units.encoders convert FILE --encoder contentvec --output FOLDER, and used with family",
        ),
        ("coml/hubert-phoneme-classification", "convert FILE --encoder hubert-phoneme --output FOLDER"),
        ("conformer-asr", "convert FILE --extra normalizer.ckpt --encoder conformer-asr --output FOLDER"),
        (
            "spidr-base",
            "python -m spidr.released import FILE --layout spidr --output FOLDER, and used with family spidr",
        ),
        ("dinosr-original", "import FILE --layout dinosr-original --output FOLDER, and used with family dinosr"),
    ],
)
def test_an_entry_that_is_a_file_says_what_makes_a_folder_of_it(tmp_path: Path, source: str, command: str) -> None:
    with pytest.raises(InputError, match=rf"encoders\.x: source: found '{source}', expected .*{re.escape(command)}"):
        read_experiment(write_experiment(tmp_path, f"{{family: hub, source: {source}, layers: [1]}}"))


def test_jobs_read_a_converted_encoder_where_it_is(tmp_path: Path) -> None:
    folder = converted(tmp_path, CASES["fairseq"])
    path = write_experiment(tmp_path, f"{{family: converted, path: {folder}, layers: [2]}}")
    (tmp_path / "c").mkdir()
    (tmp_path / "a.csv").write_text("fileid,onset,offset,label,tier,speaker\n")
    target = "results/e/features/x/L02/c"
    done = snakemake(tmp_path, "-n", "-p", target, experiment=path)
    assert done.returncode == 0, done.stderr
    assert f"--encoder {folder} --layer 2" in done.stdout
    assert "describe" not in done.stdout
