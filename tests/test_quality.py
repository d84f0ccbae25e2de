"""Metrics of units against dictionaries and loops, and cases with a known answer."""

import csv
import json
import math
import subprocess
import sys
from collections import defaultdict
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import mutual_info_score

from artifacts.errors import InputError
from artifacts.files import write_csv
from corpora.annotations import COLUMNS as INTERVAL_COLUMNS
from corpora.annotations import Interval
from corpora.manifest import Utterance
from eval.counts import count_units
from eval.labelled import AnnotatedUnits, LabelledUnits, read_labelled
from eval.quality import information_measures, pnmi, score_quality
from eval.scores import Subject
from units.records import UnitSequence, Vocabulary, run_length, write_units
from workflow.targets import QUALITY_METRICS

SUBJECT = Subject(model="SpidR", encoder="spidr", layer=6, quantizer="kmeans4", num_units=4)


class Corpus:
    """Utterances of random phones with units that follow them now and then."""

    def __init__(self, folder: Path, seed: int = 0, *, rate: int = 50, num_units: int = 4, prefix: str = "f") -> None:
        rng = np.random.default_rng(seed)
        folder.mkdir(exist_ok=True)
        self.rate, self.num_units = rate, num_units
        self.intervals: dict[str, list[Interval]] = {}
        self.units: dict[str, list[int]] = {}
        self.utterances = []
        for file in range(5):
            fileid, speaker = f"{prefix}{file}", f"{prefix}-s{file % 2}"
            num_samples = int(rng.integers(8_000, 16_000))
            onset, phones = 0.1, []
            while onset + 0.3 < num_samples / 16_000:
                offset = round(onset + float(rng.integers(3, 20)) / 100 + 0.0025, 4)
                phones.append(Interval(fileid, onset, offset, "ABC"[rng.integers(3)], "phones", speaker))
                onset = round(offset + 0.02 * int(rng.integers(2)), 4)
            self.intervals[fileid] = phones
            num_frames = (num_samples - 400) // (16_000 // rate) + 1
            followed = [ord(self.phone_at(fileid, (i + 0.5) / rate)[0]) % num_units for i in range(num_frames)]
            noise = rng.integers(num_units, size=num_frames)
            self.units[fileid] = np.where(rng.random(num_frames) < 0.6, followed, noise).tolist()
            self.utterances.append(Utterance(fileid, folder / f"{fileid}.wav", num_samples, speaker))
        self.files = AnnotatedUnits(folder / "units.jsonl", folder / "manifest.csv", folder / "intervals.csv")
        self.write()

    def write(self) -> None:
        write_units(self.files.units, (UnitSequence(f, *run_length(np.array(u))) for f, u in self.units.items()))
        write_csv(self.files.manifest, [f.name for f in fields(Utterance)], map(asdict, self.utterances))
        intervals = (asdict(interval) for found in self.intervals.values() for interval in found)
        write_csv(self.files.intervals, INTERVAL_COLUMNS, intervals)

    def phone_at(self, fileid: str, time_s: float) -> str:
        for interval in self.intervals[fileid]:
            if interval.onset <= time_s < interval.offset:
                return interval.label
        return "SIL"

    def joint(self) -> dict[tuple[str, int], int]:
        """Labels by (phone, unit), label by label."""
        joint: dict[tuple[str, int], int] = defaultdict(int)
        for utterance in self.utterances:
            num_labels = utterance.num_samples // 160
            for i in range(num_labels):
                frame = i * self.rate // 100
                if frame < len(self.units[utterance.fileid]):
                    phone = self.phone_at(utterance.fileid, (i + 0.5) / 100)
                    joint[phone, self.units[utterance.fileid][frame]] += 1
        return joint

    def labelled(self) -> LabelledUnits:
        return read_labelled([self.files], Vocabulary(self.num_units, self.rate))

    def values(self) -> dict[str, float]:
        return {name: measure.value for name, measure in information_measures(count_units(self.labelled())).items()}


def quality_by_loops(corpus: Corpus) -> dict[str, float]:
    joint = corpus.joint()
    total = sum(joint.values())
    phones, units = sorted({p for p, _ in joint}), sorted({u for _, u in joint})
    of_phone = {p: sum(joint.get((p, u), 0) for u in units) / total for p in phones}
    of_unit = {u: sum(joint.get((p, u), 0) for p in phones) / total for u in units}
    information = 0.0
    for (p, u), count in joint.items():
        information += count / total * math.log2(count / total / of_phone[p] / of_unit[u])
    runs: dict[int, int] = defaultdict(int)
    for sequence in corpus.units.values():
        for i, unit in enumerate(sequence):
            if i == 0 or sequence[i - 1] != unit:
                runs[unit] += 1
    seconds = sum(utterance.num_samples / 16_000 for utterance in corpus.utterances)
    num_runs = sum(runs.values())
    return {
        "pnmi": information / -sum(p * math.log2(p) for p in of_phone.values()),
        "phone_purity": sum(max(joint.get((p, u), 0) for p in phones) for u in units) / total,
        "cluster_purity": sum(max(joint.get((p, u), 0) for u in units) for p in phones) / total,
        "codebook_perplexity": 2 ** -sum(p * math.log2(p) for p in of_unit.values()),
        "units_per_second": num_runs / seconds,
        "bitrate": math.log2(corpus.num_units) * num_runs / seconds,
        "entropy_bitrate": -sum(n / num_runs * math.log2(n / num_runs) for n in runs.values()) * num_runs / seconds,
    }


@given(arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 30)))
def test_pnmi_is_scikit_learns_mutual_information_over_the_entropy_of_the_phones(joint: np.ndarray) -> None:
    found = pnmi(joint)
    phones = joint.sum(1) / max(1, joint.sum())
    entropy = -sum(p * math.log(p) for p in phones if p)
    if np.count_nonzero(phones) < 2:
        assert found is None
    else:
        assert found == pytest.approx(mutual_info_score(None, None, contingency=joint) / entropy, abs=1e-9)


@pytest.mark.parametrize("rate", [25, 50, 100])
@pytest.mark.parametrize("seed", range(3))
def test_every_metric_is_that_of_the_loops(tmp_path: Path, seed: int, rate: int) -> None:
    corpus = Corpus(tmp_path, seed, rate=rate)
    assert corpus.values() == pytest.approx(quality_by_loops(corpus))


def test_units_that_are_the_phones_have_a_pnmi_of_exactly_one(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, rate=100, num_units=7)
    for utterance in corpus.utterances:
        labels = [corpus.phone_at(utterance.fileid, (i + 0.5) / 100) for i in range(utterance.num_samples // 160)]
        corpus.units[utterance.fileid] = [["SIL", "A", "B", "C"].index(label) for label in labels]
    corpus.write()
    values = corpus.values()
    assert (values["pnmi"], values["phone_purity"], values["cluster_purity"]) == (1.0, 1.0, 1.0)


def test_one_unit_everywhere_knows_nothing(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.units = {fileid: [2] * len(units) for fileid, units in corpus.units.items()}
    corpus.write()
    values = corpus.values()
    assert values["pnmi"] == pytest.approx(0.0)
    assert values["codebook_perplexity"] == 1.0
    assert values["entropy_bitrate"] == 0.0


def test_sets_are_pooled_not_averaged(tmp_path: Path) -> None:
    first, second = Corpus(tmp_path / "a", 1), Corpus(tmp_path / "b", 2, prefix="g")
    pooled = count_units(read_labelled([first.files, second.files], Vocabulary(4, 50)))
    joint = {
        (phone, unit): int(pooled.joint.sum(0)[row, unit])
        for row, phone in enumerate(pooled.phones)
        for unit in range(4)
        if pooled.joint.sum(0)[row, unit]
    }
    a, b = first.joint(), second.joint()
    assert joint == {key: a.get(key, 0) + b.get(key, 0) for key in a.keys() | b.keys()}
    with pytest.raises(InputError, match=r"5 utterance\(s\) \(f0, f1, f2, \.\.\.\) counted already"):
        read_labelled([first.files, first.files], Vocabulary(4, 50))


def write_scores(corpus: Corpus, folder: Path) -> dict[str, dict[str, Any]]:
    made = {"settings": {"frame_rate_hz": corpus.rate}}
    score_quality(corpus.labelled(), dataset="dev", subject=SUBJECT, seed=0, output=folder, made=made)
    return {
        path.name.split(".")[0]: json.loads(path.read_text())
        | {"items": list(csv.DictReader(path.with_suffix(".csv").open()))}
        for path in folder.glob("*.json")
    }


def test_every_score_lies_in_its_interval_and_is_the_mean_of_its_table(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    scores = write_scores(corpus, tmp_path / "scores")
    assert len(scores) == 14
    assert scores["active_units"]["value"] == len({unit for units in corpus.units.values() for unit in units})
    for metric in scores.keys() - {"active_units"}:
        score = scores[metric]
        assert score["low"] <= score["value"] <= score["high"]
        rows = score["items"]
        weights = np.array([float(row["weight"]) for row in rows])
        mean = np.average([float(row["score"]) for row in rows], weights=weights)
        assert score["value"] == pytest.approx(2**mean if metric == "codebook_perplexity" else mean)


def test_the_joint_counts_stand_beside_the_scores(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    score = write_scores(corpus, tmp_path / "scores")["pnmi"]
    with (tmp_path / "scores" / "joint_counts.dev.csv").open() as file:
        counts = {(row["phone"], int(row["unit"])): int(row["count"]) for row in csv.DictReader(file)}
    assert counts == corpus.joint()
    assert score["n"] == sum(corpus.joint().values())
    assert score["conditions"]["silence"] == "counted, as the phone SIL"


def test_the_phones_given_a_unit_stand_beside_the_scores(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, num_units=7)  # of which some do not occur
    write_scores(corpus, tmp_path / "scores")
    joint = corpus.joint()
    with (tmp_path / "scores" / "phone_given_unit.dev.csv").open() as file:
        found = {int(row.pop("unit")): {phone: float(p) for phone, p in row.items()} for row in csv.DictReader(file)}
    assert set(found) == {unit for _, unit in joint}
    for unit, shares in found.items():
        total = sum(joint.get((phone, unit), 0) for phone in shares)
        assert shares == pytest.approx({phone: joint.get((phone, unit), 0) / total for phone in shares})


@pytest.mark.parametrize("late", [-2, 0, 1])
def test_the_shift_sweep_finds_by_how_much_units_come_late(tmp_path: Path, late: int) -> None:
    corpus = Corpus(tmp_path, num_units=7)
    for fileid, units in corpus.units.items():
        exact = [["SIL", "A", "B", "C"].index(corpus.phone_at(fileid, (i + 0.5) / 50)) for i in range(len(units))]
        corpus.units[fileid] = [exact[min(max(0, i - late), len(units) - 1)] for i in range(len(units))]
    corpus.write()
    score = write_scores(corpus, tmp_path / "scores")["pnmi"]
    with (tmp_path / "scores" / "shift_sweep.dev.csv").open() as file:
        sweep = {int(row["shift_frames"]): row for row in csv.DictReader(file)}
    assert list(sweep) == [-3, -2, -1, 0, 1, 2, 3]
    assert float(sweep[0]["pnmi"]) == pytest.approx(score["value"])
    assert int(sweep[0]["n"]) == score["n"]
    assert max(sweep, key=lambda shift: float(sweep[shift]["pnmi"])) == -late  # moved back by as much
    assert float(sweep[3]["shift_ms"]) == 60
    for shift, row in sweep.items():
        moved: dict[tuple[str, int], int] = defaultdict(int)
        for utterance in corpus.utterances:
            units = [unit for unit in corpus.units[utterance.fileid] for _ in range(2)]
            num_labels = min(len(units), utterance.num_samples // 160)
            for i in range(num_labels):
                if 0 <= i - 2 * shift < num_labels:
                    moved[corpus.phone_at(utterance.fileid, (i + 0.5) / 100), units[i - 2 * shift]] += 1
        assert float(row["pnmi"]) == pytest.approx(pnmi_by_loops(moved))
        assert int(row["n"]) == sum(moved.values())


def pnmi_by_loops(joint: dict[tuple[str, int], int]) -> float:
    total = sum(joint.values())
    of_phone: dict[str, float] = defaultdict(float)
    of_unit: dict[int, float] = defaultdict(float)
    for (phone, unit), count in joint.items():
        of_phone[phone] += count / total
        of_unit[unit] += count / total
    shared = sum(n / total * math.log2(n / total / of_phone[p] / of_unit[u]) for (p, u), n in joint.items())
    return shared / -sum(p * math.log2(p) for p in of_phone.values())


def test_the_interval_does_not_move_with_the_bias_of_entropies(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, num_units=60)
    score = write_scores(corpus, tmp_path / "scores")["pnmi"]
    middle = (score["low"] + score["high"]) / 2
    assert abs(middle - score["value"]) < (score["high"] - score["low"]) / 2


def wrong_length(corpus: Corpus) -> None:
    corpus.units["f1"] += [0, 0, 0, 0]


def unknown_unit(corpus: Corpus) -> None:
    corpus.units["f1"][3] = 4


def without_units(corpus: Corpus) -> None:
    del corpus.units["f1"]


def without_phones(corpus: Corpus) -> None:
    del corpus.intervals["f1"]


def without_row(corpus: Corpus) -> None:
    del corpus.utterances[1]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (wrong_length, r"units\.jsonl: f1 has units for \d+ labels of 10 ms, expected \d+ give or take 4"),
        (unknown_unit, r"units\.jsonl: f1 has unit 4, expected below 4"),
        (without_units, r"units\.jsonl: nothing for 1 utterance\(s\) \(f1\) of .*manifest\.csv"),
        (without_phones, r"intervals\.csv: nothing for 1 utterance\(s\) \(f1\) of .*manifest\.csv"),
        (without_row, r"intervals\.csv: 1 utterance\(s\) \(f1\) not in .*manifest\.csv"),
    ],
)
def test_units_that_do_not_fit_the_annotation_are_an_error_naming_the_file(
    tmp_path: Path, spoil: Any, message: str
) -> None:
    corpus = Corpus(tmp_path)
    spoil(corpus)
    corpus.write()
    with pytest.raises(InputError, match=message):
        corpus.values()


def test_a_frame_rate_that_does_not_divide_100_hz_is_refused(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    with pytest.raises(InputError, match="units at 40 Hz, expected 100 Hz or a whole part of it"):
        read_labelled([corpus.files], Vocabulary(4, 40))


def test_the_entry_point_writes_every_score(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    command = [sys.executable, "-m", "eval.quality", "--units", corpus.files.units]
    (tmp_path / "config.json").write_text('{"num_units": 4, "frame_rate_hz": 50.0}')
    command += [
        "--vocabulary",
        tmp_path / "config.json",
        "--intervals",
        corpus.files.intervals,
        "--manifest",
        corpus.files.manifest,
    ]
    command += ["--dataset", "dev", "--subject", SUBJECT.model_dump_json(), "--output", tmp_path / "scores"]
    subprocess.run(command, check=True)
    expected = corpus.values()
    found = {path.name.split(".")[0]: json.loads(path.read_text()) for path in (tmp_path / "scores").glob("*.json")}
    assert {metric: found[metric]["value"] for metric in expected} == expected
    assert set(found) == set(QUALITY_METRICS)
