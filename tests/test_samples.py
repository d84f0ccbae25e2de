"""Pairs to listen to: the right audio, units and log-likelihoods, and which pairs are taken."""

import base64
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from artifacts.errors import InputError
from artifacts.files import write_csv
from eval.samples import LONGEST_S, NUM_PAIRS, collect_samples

NUM_ITEMS = 9


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A set of `NUM_ITEMS` pairs of short sounds, their units and their log-likelihoods."""
    rng = np.random.default_rng(0)
    items, utterances, units, likelihoods = [], [], [], []
    for i in range(NUM_ITEMS):
        for correct in (1, 0):
            fileid = f"{i}-{correct}"
            sound = np.round(rng.uniform(-0.5, 0.5, 800 + 10 * i) * 2**15) / 2**15
            soundfile.write(tmp_path / f"{fileid}.wav", sound, 16_000, subtype="PCM_16")
            utterances.append({"fileid": fileid, "path": f"{fileid}.wav", "num_samples": len(sound), "speaker": "s"})
            items.append({"fileid": fileid, "id": i, "voice": "v", "word": f"w{fileid}", "correct": correct})
            units.append({"fileid": fileid, "units": [10 + i, correct]})
            likelihoods.append({"fileid": fileid, "log_likelihood": -3.0 - correct * (i % 3), "num_tokens": 3})
    write_csv(tmp_path / "items.csv", list(items[0]), items)
    write_csv(tmp_path / "manifest.csv", list(utterances[0]), utterances)
    write_csv(tmp_path / "likelihoods.csv", list(likelihoods[0]), likelihoods)
    (tmp_path / "units.jsonl").write_text("".join(json.dumps(line) + "\n" for line in units))
    return tmp_path


def samples(folder: Path) -> list[dict]:
    files = folder / "units.jsonl", folder / "likelihoods.csv"
    systems = {"a": (*files, "tokens"), "whole": (*files, "none")}
    return collect_samples(folder / "items.csv", folder / "manifest.csv", systems)


def test_pairs_are_spread_over_the_set_and_hold_their_own_audio_units_and_likelihoods(folder: Path) -> None:
    pairs = samples(folder)
    assert [pair["about"]["id"] for pair in pairs] == ["1", "4", "7"]
    assert len(pairs) == NUM_PAIRS
    for pair in pairs:
        i = int(pair["about"]["id"])
        for side, correct in zip(pair["stimuli"], (1, 0), strict=True):
            assert side["text"] == f"w{i}-{correct}"
            sound, rate = soundfile.read(io.BytesIO(base64.b64decode(side["flac"])))
            assert rate == 16_000
            assert (sound == soundfile.read(folder / f"{i}-{correct}.wav")[0]).all()
        system, whole = pair["systems"]
        assert (system["normalization"], whole["normalization"]) == ("tokens", "none")
        assert whole["log_likelihood"] == pytest.approx([-3 - i % 3, -3])
        assert system["units"] == [[10 + i, 1], [10 + i, 0]]
        assert system["log_likelihood"] == pytest.approx([-1 - (i % 3) / 3, -1])
        assert system["score"] == (0.5 if i % 3 == 0 else 0.0)


def test_a_stimulus_too_long_for_the_page_is_passed_over(folder: Path) -> None:
    text = (folder / "manifest.csv").read_text()
    too_long = int(LONGEST_S * 16_000) + 1
    (folder / "manifest.csv").write_text(text.replace("4-0.wav,840", f"4-0.wav,{too_long}"))
    assert "4" not in [pair["about"]["id"] for pair in samples(folder)]


def test_units_and_files_that_are_not_there_are_named(folder: Path) -> None:
    manifest = (folder / "manifest.csv").read_text()
    (folder / "manifest.csv").write_text(manifest.replace("5-1,", "x,"))
    with pytest.raises(InputError, match=r"manifest\.csv: found no 5-1, expected every file"):
        samples(folder)
    (folder / "manifest.csv").write_text(manifest)
    lines = (folder / "units.jsonl").read_text().splitlines(keepends=True)
    (folder / "units.jsonl").write_text("".join(lines[:-3]))
    with pytest.raises(InputError, match=r"units\.jsonl: found no units of 7-0"):
        samples(folder)


def test_the_entry_point_wants_as_many_files_as_systems(folder: Path) -> None:
    command = [sys.executable, "-m", "eval.samples", "--metric", "swuggy", "--dataset", "set", "--systems", "a", "b"]
    command += ["--items", folder / "items.csv", "--manifest", folder / "manifest.csv", "--output", folder / "x.json"]
    command += ["--units", folder / "units.jsonl", "--likelihoods", folder / "likelihoods.csv"]
    command += ["--normalization", "tokens"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 2
    options = "--systems, --units, --likelihoods, --normalization"
    assert done.stderr == f"error: {options}: found 2, 1, 1, 1, expected as many of each\n"
    assert not (folder / "x.json").exists()
