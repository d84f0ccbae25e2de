"""Damage done to a finished run: started again it ends with the same values, or with one line that says what to do."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import snakemake
from fault_harness import made
from test_workflow import copy_of

pytestmark = pytest.mark.slow

ROOT = Path("results", "tiny")
KMEANS = "spidr-L04-kmeans50"
SLM = "slm/phones/opt-tiny/seed0"
MAP = "scores/spidr/L04/map_words.dev.strict.json"


@pytest.fixture
def run(tiny: Path, tmp_path: Path) -> Path:
    """A finished run that may be damaged."""
    return copy_of(tiny, tmp_path)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def garble(path: Path) -> None:
    """Other bytes in the middle, as many."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(byte ^ 255 for byte in content[middle : middle + 64])
    path.write_bytes(content)


def garble_all(folder: Path) -> None:
    for path in folder.iterdir():
        garble(path)


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def another_length(manifest: Path) -> None:
    lines = manifest.read_text().splitlines()
    name, path, length, *rest = lines[1].split(",")
    lines[1] = ",".join((name, path, str(int(length) + 160), *rest))
    manifest.write_text("\n".join(lines) + "\n")


class Damage(NamedTuple):
    """What is damaged, what is made anew from it, the line that tells, and what is removed upon it."""

    path: str
    """May be a pattern: then of the files found the last."""
    inflict: Callable[[Path], None]
    wanted: str
    """The target of the run, absent then."""
    line: str
    """Regular expression of what comes after ``error: <folder of the experiment>/``."""
    removed: str
    """What the line, or the page on reliability, says to remove."""
    absent: tuple[str, ...] = ()
    """What else has been lost, so that the damaged file is read."""


AUDIO = "corpora/synthetic/dev/*/*.wav"
DAMAGES = {
    "a truncated features shard": Damage(
        "features/spidr/L04/dev/shard-00000.safetensors",
        truncate,
        MAP,
        r"features/\S+/shard-00000.safetensors: not a whole .*: remove \S+/features/spidr/L04/dev and start again",
        "features/spidr/L04/dev",
    ),
    "a truncated shard of a pass": Damage(
        "passes/spidr/features/dev/04/L04/shard-00000.safetensors",
        truncate,
        MAP,
        r"passes/\S+/shard-00000.safetensors: not a whole .*: remove \S+/passes/spidr/features/dev/04 and start again",
        "passes/spidr/features/dev/04",
        ("features/spidr/L04/dev",),
    ),
    "truncated units of a pass": Damage(
        f"passes/spidr/units/*/0-of-1/{KMEANS}/dev.jsonl",
        truncate,
        f"scores/{KMEANS}/pnmi.dev.json",
        r"passes/\S+/dev.jsonl(, line \d+: not JSON|: ends before).*: remove \S+/passes/\S+/0-of-1 and start again",
        "passes/spidr/units/*/0-of-1",
        (f"units/{KMEANS}/dev.jsonl",),
    ),
    "a truncated record of a pass": Damage(
        "passes/spidr/units/*/0-of-1/pass.json",
        truncate,
        f"scores/{KMEANS}/pnmi.dev.json",
        r"passes/\S+/pass.json, line \d+: not JSON .*remove it and start again",
        "passes/spidr/units/*/0-of-1/pass.json",
        (f"units/{KMEANS}/dev.jsonl",),
    ),
    "a truncated encoder": Damage(
        "encoders/spidr/model.safetensors",
        truncate,
        MAP,
        r"encoders/spidr/model.safetensors: not a whole safetensors file .*: remove it and start again",
        "encoders/spidr/model.safetensors",
        ("features/spidr/L04/dev", "passes/spidr/features/dev/04"),
    ),
    "a truncated quantizer": Damage(
        "quantizers/spidr/L04/kmeans50/quantizer.safetensors",
        truncate,
        f"scores/{KMEANS}/pnmi.dev.json",
        r"quantizers/spidr/L04/kmeans50/quantizer.safetensors: not a whole .*: remove it and start again",
        "quantizers/spidr/L04/kmeans50/quantizer.safetensors",
        (f"units/{KMEANS}/dev.jsonl", "passes/spidr/units"),
    ),
    "a manifest changed under a run": Damage(
        "corpora/dev/manifest.csv",
        another_length,
        MAP,
        r"corpora/\S+\.wav: found [\d,]+ samples, the manifest says [\d,]+",
        "corpora/dev/manifest.csv",
        ("features/spidr/L04/dev", "passes/spidr/features/dev/04"),
    ),
    "a truncated token store": Damage(
        "tokens/phones/train/tokens.bin",
        truncate,
        f"{SLM}/summary.json",
        r"tokens/phones/train: (found [\d,]+ tokens|not a token store)",
        "tokens/phones/train",
        (f"{SLM}/model", f"{SLM}/checkpoints"),
    ),
    "half the log-likelihoods": Damage(
        "likelihoods/phones/opt-tiny/seed0/syntactic.csv",
        truncate,
        "scores/phones/opt-tiny/seed0/sblimp.syntactic.json",
        r"likelihoods/\S+/syntactic.csv(, line \d+: found|: no log-likelihood for)",
        "likelihoods/phones/opt-tiny/seed0/syntactic.csv",
    ),
    "a broken score": Damage(
        "scores/phones/pnmi.dev.json",
        truncate,
        "scores.csv",
        r"scores/phones/pnmi.dev.json, line \d+: not JSON .*; if it is a result, remove it and start again",
        "scores/phones/pnmi.dev.json",
    ),
    "damaged checkpoints, all of them": Damage(
        f"{SLM}/checkpoints",
        garble_all,
        f"{SLM}/summary.json",
        rf"{SLM}/checkpoints: found \d damaged checkpoints, expected one that can be read; remove them to start afresh",
        f"{SLM}/checkpoints",
        (f"{SLM}/model",),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_named_and_once_removed_made_anew(run: Path, tiny: Path, damage: str) -> None:
    path, inflict, wanted, line, removed, absent = DAMAGES[damage]
    for name in (*absent, wanted):
        remove(run / ROOT / name)
    inflict(sorted((run / ROOT).glob(path))[-1])
    failed = snakemake(run, str(ROOT / wanted))
    assert failed.returncode != 0
    told = re.findall(r"^error: .*$", in_logs(failed), re.M)
    assert told, failed.stderr[-3000:]
    assert all(re.search(f"^error: \\S*{ROOT}/{line}", found) for found in told), told
    assert "Traceback" not in in_logs(failed)
    assert not (run / ROOT / wanted).exists()
    for found in sorted((run / ROOT).glob(removed)):
        remove(found)
    ends_like(run, tiny, wanted)


def in_logs(failed: subprocess.CompletedProcess[str]) -> str:
    """The logs of failed jobs, which snakemake shows."""
    return failed.stdout + failed.stderr


def ends_like(run: Path, tiny: Path, wanted: str) -> None:
    done = snakemake(run, str(ROOT / wanted))
    assert done.returncode == 0, done.stderr[-3000:]
    found, expected = made(run), made(tiny)
    assert (run / ROOT / wanted).exists()
    assert [path for path in found if found[path] != expected[path]] == []


def test_an_audio_file_of_other_bytes_is_named(run: Path, tiny: Path) -> None:
    audio = sorted((run / ROOT).glob(AUDIO))[-1]
    before = audio.read_bytes()
    for name in (MAP, "features/spidr/L04/dev", "passes/spidr/features/dev/04"):
        remove(run / ROOT / name)
    audio.write_bytes(os.urandom(len(before)))
    failed = snakemake(run, str(ROOT / MAP))
    assert re.search(
        rf"^error: \S*{audio.name}: not readable as audio .*, expected WAV or FLAC$", in_logs(failed), re.M
    )
    audio.write_bytes(before)
    ends_like(run, tiny, MAP)


def test_a_deleted_units_file_is_made_anew(run: Path, tiny: Path) -> None:
    for name in (f"units/{KMEANS}/dev.jsonl", f"units/{KMEANS}/health.json"):
        remove(run / ROOT / name)
    ends_like(run, tiny, f"units/{KMEANS}/health.json")


def test_a_damaged_newest_checkpoint_is_passed_over(run: Path, tiny: Path) -> None:
    for name in (f"{SLM}/model", f"{SLM}/summary.json"):
        remove(run / ROOT / name)
    garble(max((run / ROOT / SLM / "checkpoints").iterdir()))
    ends_like(run, tiny, f"{SLM}/summary.json")
    assert "damaged, passed over" in (run / ROOT / "logs/train_slm/phones/opt-tiny/seed0.log").read_text()


def test_a_manifest_that_is_only_touched_trains_nothing_anew(run: Path, tiny: Path) -> None:
    (run / ROOT / "corpora/train/manifest.csv").touch()
    began = (run / ROOT / "encoders/spidr/training/log.jsonl").read_text()
    ends_like(run, tiny, "encoders/spidr/config.json")
    assert (run / ROOT / "encoders/spidr/training/log.jsonl").read_text() == began
    assert not list((run / ROOT / "encoders/spidr/training").glob("earlier-*"))


# Disks


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.fail("found an ordinary user, expected root: this test mounts a disk of its own")
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *options, str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


@pytest.mark.parametrize("kib", [10_000, 50_000, 92_000])
def test_a_full_disk_is_named_and_with_more_room_the_run_goes_on(tiny: Path, tmp_path: Path, kib: int) -> None:
    """Full while speech is synthesised, while encoders are trained, and later."""
    run = tmp_path / "run"
    with mounted(run, "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs"):
        failed = snakemake(run, "all")
        assert failed.returncode != 0
        assert "No space left on device" in in_logs(failed)
        assert "Traceback" not in "".join(log.read_text() for log in (run / ROOT / "logs").rglob("*.log"))
        remount(run, "size=1g")
        ends_like(run, tiny, "scores.csv")
        assert [path for path in (run / ROOT).rglob(".*") if re.search(r"\.\w{8}$", path.name)] == []  # half-written


def test_a_read_only_disk_is_named_and_once_writable_the_run_goes_on(run: Path, tiny: Path) -> None:
    remove(run / ROOT / MAP)
    results = run / "results"
    with mounted(results, "--bind", str(results)):
        remount(results, "bind,ro")
        failed = snakemake(run, str(ROOT / MAP))
        assert failed.returncode != 0
        assert "Read-only file system" in in_logs(failed)
        remount(results, "bind,rw")
        ends_like(run, tiny, MAP)
