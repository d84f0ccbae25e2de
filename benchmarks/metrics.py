"""Time and memory of each metric at the size of dev-clean, beside the naive way and peers.

``python -m benchmarks.metrics``: a synthetic corpus of 2,703 utterances with features of 768 dimensions on disk, and
evaluation sets as large as those of sLM21. Each metric of ours is its command, from files to scores, in a process of
its own; the naive ways are plain loops over a part, and their time is what the whole would take. Ways to rank words
for MAP are compared apart, all on the same vectors. speech-map takes part where it can be imported; it holds all
similarities, 10 GiB.
"""

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from artifacts.files import read_json_object
from artifacts.provenance import git_commit
from benchmarks.metric_inputs import SMALL, Size, make_corpus, make_pairs

SUBJECT = json.dumps({"model": "Synthetic", "encoder": "synthetic", "layer": 1})
SAMPLED_EVERY_S = 0.02
CLOCKS = ("wall_s", "processor_s")
RANKINGS = {
    "product": "all similarities, and nothing else",
    "ours, strict": "ours, strict",
    "faiss": "faiss, queries by R, strict",
    "naive map": "one query at a time, strict",
    "ours, speech-map": "ours, speech-map",
    "speech_map": "speech-map",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """What a process took.

    Attributes:
        memory_bytes: Peak of what is resident, mapped files included.
        own_bytes: Peak of that without mapped files, sampled.
    """

    wall_s: float
    processor_s: float
    memory_bytes: int
    own_bytes: int


def measure(command: Sequence[str], threads: int) -> Measured:
    """Run a command to its end.

    Raises:
        SystemExit: It failed.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=sys.stderr)
    ended, peak = threading.Event(), {"VmHWM": 0, "RssAnon": 0}

    def watch() -> None:
        while not ended.wait(SAMPLED_EVERY_S):
            for key, found in _memory(process.pid, peak).items():
                peak[key] = max(peak[key], found)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - started
    ended.set()
    watcher.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if status != 0:
        raise SystemExit(f"{' '.join(command)}: failed")
    return Measured(wall_s, usage.ru_utime + usage.ru_stime, peak["VmHWM"], peak["RssAnon"])


def _memory(pid: int, keys: Collection[str]) -> dict[str, int]:
    """Of a process, in bytes: VmHWM, the most it ever held, RssAnon, what it holds beside files; nothing once it ended.

    The system's own account of an ended process (ru_maxrss) begins with what the process that started it held.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return {key: int(fields[key].split()[0]) * 1024 for key in keys if key in fields}


class Sides:
    """Runs the sides on one folder of inputs, and says on stderr how long each took."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.folder, self.threads = folder, threads

    def run(self, side: str) -> tuple[Measured, dict[str, Any]]:
        """A side of benchmarks/metric_sides.py, and its answer."""
        answer = self.folder / "answer.json"
        command = [sys.executable, "-m", "benchmarks.metric_sides", side, str(self.folder), str(answer)]
        measured = measure(command, self.threads)
        print(f"{side}: {measured.wall_s:.1f} s", file=sys.stderr, flush=True)
        return measured, read_json_object(answer)

    def command(self, module: str, dataset: str, **given: Path | str | Sequence[str]) -> Measured:
        """One of our entry points; its scores go to the folder ``scores``."""
        words = [sys.executable, "-m", module, "--dataset", dataset, "--subject", SUBJECT]
        words += ["--output", str(self.folder / "scores")]
        for name, value in given.items():
            words += [f"--{name}", *([str(value)] if isinstance(value, str | Path) else value)]
        measured = measure(words, self.threads)
        print(f"{module}: {measured.wall_s:.1f} s", file=sys.stderr, flush=True)
        return measured

    def score(self, stem: str) -> dict[str, Any]:
        """A score that a command wrote."""
        return read_json_object(self.folder / "scores" / f"{stem}.json")


def metric_rows(sides: Sides, naive_map: dict[str, Any]) -> list[str]:
    """Each metric as its command, and the naive way to it; of MAP that is the ranking alone."""
    folder, rows = sides.folder, []

    def compare(name: str, ours: Measured, seconds: float, measured: str) -> None:
        mine = (
            f"| {name} | ours | {_seconds(ours.wall_s)} | {_seconds(ours.processor_s)} | {_ratio(seconds, ours.wall_s)}"
        )
        rows.append(f"{mine} | {_gib(ours.memory_bytes)} | {_gib(ours.own_bytes)} |")
        rows.append(f"| | loops, from {measured} | {_seconds(seconds)} | | 1 | | |")

    features = folder / "features"
    for variant in ("strict", "speech-map"):
        ours = sides.command("eval.map", "dev", features=features, words=folder / "words.csv", variant=variant)
        compare(f"MAP, {variant}", ours, naive_map["wall_s"], f"{naive_map['measured']}, strict, ranking alone")
    ours = sides.command(
        "eval.abx",
        "dev",
        features=features,
        item=folder / "triphone.item",
        speaker=("within", "across"),
        distance="angular",
        metric="abx_continuous",
    )
    scores = [sides.score(f"abx_continuous.dev.{speaker}") for speaker in ("within", "across")]
    num_triples = sum(score["conditions"]["num_triples"] for score in scores)
    _, answer = sides.run("naive abx")
    name = f"ABX within and across speakers, {num_triples:,} triples"
    compare(name, ours, answer["seconds_a_triple"] * num_triples, answer["measured"])
    inputs = {name: folder / file for name, file in (("units", "units.jsonl"), ("vocabulary", "vocabulary.json"))}
    tables = {name: folder / f"{name}.csv" for name in ("intervals", "manifest")}
    ours = sides.command("eval.quality", "dev", **inputs, **tables)
    _, answer = sides.run("naive pnmi")
    compare("PNMI and all else of units", ours, answer["wall_s"], answer["measured"])
    for metric, name in (("swuggy", "lexical"), ("sblimp", "syntactic")):
        likelihoods = folder / name / "likelihoods.csv"
        ours = sides.command(f"eval.{metric}", name, items=folder / name / "items.csv", likelihoods=likelihoods)
        _, answer = sides.run(f"naive {metric}")
        value = sides.score(f"{'swuggy_all' if metric == 'swuggy' else metric}.{name}")["value"]
        if not np.isclose(answer["value"], value):
            raise SystemExit(f"{metric}: found {value} and, by loops, {answer['value']}; expected the same")
        compare({"swuggy": "sWUGGY", "sblimp": "sBLIMP"}[metric], ours, answer["wall_s"], answer["measured"])
    return rows


def rank(sides: Sides) -> dict[str, dict[str, Any]]:
    """Answers of the ways to rank for MAP on the same vectors; the clock starts when they are read."""
    sides.run("vectors")
    answers = {}
    for side in RANKINGS:
        if side != "speech_map" or importlib.util.find_spec(side) is not None:
            measured, answer = sides.run(side)
            answers[side] = answer | {"memory_bytes": measured.memory_bytes}
    for one, other in (("ours, strict", "faiss"), ("ours, speech-map", "speech_map")):
        if other in answers and not np.isclose(answers[one]["value"], answers[other]["value"], rtol=1e-4):
            values = [answers[side]["value"] for side in (one, other)]
            raise SystemExit(f"{one}: found {values[0]}, and {values[1]} of {other}; expected the same")
    return answers


def ranking_rows(answers: dict[str, dict[str, Any]]) -> list[str]:
    """Each way to rank, by both clocks beside the product alone."""
    rows = []
    for side, answer in answers.items():
        name = RANKINGS[side] + (f", from {answer['measured']}" if "measured" in answer else "")
        value = f"{answer['value']:.5f}" if "value" in answer else ""
        times = [f"{_seconds(answer[clock])} | {answer[clock] / answers['product'][clock]:.2f}" for clock in CLOCKS]
        memory = "" if "measured" in answer else _gib(answer["memory_bytes"])
        rows.append(f"| {name} | {' | '.join(times)} | {memory} | {value} |")
    return rows


def _seconds(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds >= 100 else f"{seconds:.1f} s"


def _ratio(other: float, mine: float) -> str:
    return f"{other / mine:,.0f}" if other >= 10 * mine else f"{other / mine:.1f}"


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


def main() -> None:
    """Make the inputs, run every side and print the two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes: does it run")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    arguments = parser.parse_args()
    size = SMALL if arguments.small else Size()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        num_frames = make_corpus(folder, size)
        make_pairs(folder, size)
        print(f"inputs: {time.perf_counter() - started:.1f} s", file=sys.stderr, flush=True)
        sides = Sides(folder, arguments.threads)
        answers = rank(sides)
        metrics = metric_rows(sides, answers["naive map"])
    print(
        f"\n{size.utterances:,} utterances, {num_frames:,} frames of {size.dim}, {size.tokens:,} words of "
        f"{size.types:,} types; ABX on {size.triphones:,} triphones; {size.lexical:,} and {size.syntactic:,} pairs "
        "in 4 voices"
    )
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "faiss-cpu", "fastabx", "torch"))
    print(
        f"CPU ({platform.machine()}), {arguments.threads} threads, {packages}, Python {platform.python_version()}, ",
        end="",
    )
    print(f"commit {git_commit()}, {time.perf_counter() - started:.0f} s in all\n")
    print(
        "| | | time | processor | times as fast | peak memory | without mapped files |\n|---|---|---|---|---|---|---|"
    )
    print("\n".join(metrics))
    print("\n| ranking for MAP | time | to the product | processor | to the product | peak memory | value |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(ranking_rows(answers)))


if __name__ == "__main__":
    main()
