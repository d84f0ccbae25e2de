"""ABX from the command line: of units, and of several layers together."""

import csv
import json
import subprocess
import sys
from pathlib import Path

from abx_oracle import SUBJECT, Corpus, score

from units.features import FeatureWriter


def test_the_entry_point_scores_units_and_wants_their_vocabulary(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, seed=0)
    command = [sys.executable, "-m", "eval.abx", "--units", corpus.units_path, "--item", corpus.item]
    command += ["--distance", "identical", "--metric", "abx_units", "--dataset", "dev", "--device", "cpu"]
    command += ["--subject", SUBJECT.model_dump_json(), "--output", tmp_path / "scores"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "error: --vocabulary: expected with --units, and only there\n")
    vocabulary = tmp_path / "config.json"
    vocabulary.write_text('{"num_units": 5}')
    done = subprocess.run([*command, "--vocabulary", vocabulary], capture_output=True, text=True)
    assert done.returncode == 2
    assert "config.json: frame_rate_hz: found None, expected a positive number" in done.stderr
    vocabulary.write_text('{"num_units": 5, "frame_rate_hz": 50.0}')
    subprocess.run([*command, "--vocabulary", vocabulary], check=True)
    expected = score(corpus, tmp_path / "direct", "identical")
    for condition in ("within", "across"):
        stem = tmp_path / "scores" / f"abx_units.dev.{condition}"
        assert json.loads(stem.with_suffix(f".{condition}.json").read_text())["value"] == expected[condition]["value"]
        table = tmp_path / "direct" / f"abx_units.dev.{condition}.csv"
        assert stem.with_suffix(f".{condition}.csv").read_bytes() == table.read_bytes()


def test_layers_scored_together_get_the_scores_they_get_alone(tmp_path: Path) -> None:
    corpora = []
    for layer in (1, 2, 3):
        (tmp_path / str(layer)).mkdir()
        corpora.append(Corpus(tmp_path / str(layer), seed=layer))
        corpora[-1].item = corpora[0].item
    with FeatureWriter(corpora[2].features, {"frame_rate_hz": 100.0}, "float32") as writer:  # other frames, other rate
        for fileid, frames in corpora[2].frames.items():
            writer.write(fileid, frames.repeat(2, axis=0))
    command = [sys.executable, "-m", "eval.abx", "--item", corpora[0].item, "--distance", "angular", "--device", "cpu"]
    command += ["--metric", "abx_continuous", "--dataset", "dev", "--context", "within", "any"]
    command += ["--segments", "phoneme", "--features", *[corpus.features for corpus in corpora]]
    subjects = [SUBJECT.model_copy(update={"layer": layer}).model_dump_json() for layer in (1, 2, 3)]
    outputs = [tmp_path / "scores" / f"L{layer}" for layer in (1, 2, 3)]
    done = subprocess.run([*command, "--subject", *subjects, "--output", *outputs[:2]], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: --output: found 2, expected 3: one for each of --features or --units\n"
    done = subprocess.run(
        [*command, "--subject", *subjects, "--output", *outputs[:2], outputs[0]], capture_output=True, text=True
    )
    assert done.stderr == "error: --output: found a folder twice, expected one for each of --features or --units\n"
    subprocess.run([*command, "--subject", *subjects, "--output", *outputs], check=True)
    values = set()
    for layer, (corpus, output) in enumerate(zip(corpora, outputs, strict=True), start=1):
        assert len(list(output.glob("*.json"))) == 4
        for context in ("within", "any"):
            alone = score(corpus, tmp_path / f"alone{layer}{context}", "angular", context)
            for name, expected in alone.items():
                path = output / f"abx_continuous.dev.{name}_phoneme.json"
                together = json.loads(path.read_text())
                assert (together["value"], together["layer"]) == (expected["value"], layer)
                assert together["conditions"]["segments"] == "phoneme"
                assert list(csv.DictReader(path.with_suffix(".csv").open())) == expected["items"]
                values.add(together["value"])
    assert len(values) == 12
