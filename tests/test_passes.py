"""What earlier passes made stays theirs; what is new is made together."""

import json
from pathlib import Path

from workflow.passes import layer_pass, layers_of, unit_passes

WANTED = {
    "train": ["hubert-L01-km", "hubert-L02-km"],
    "dev": ["hubert-L01-km", "hubert-L02-km", "hubert-L03-km"],
    "words": ["hubert-L01-km", "hubert-L02-km"],
    "sentences": ["hubert-L01-km", "hubert-L02-km"],
}


def finish(folder: Path, name: str, systems: list[str], corpora: list[str], shards: int = 1) -> None:
    """What a pass leaves behind."""
    for shard in range(shards):
        (folder / name / f"{shard}-of-{shards}").mkdir(parents=True)
        record = folder / name / f"{shard}-of-{shards}" / "pass.json"
        record.write_text(json.dumps({"systems": systems, "corpora": corpora}))


def test_layers_of_earlier_passes_stay_theirs_and_new_ones_are_made_together(tmp_path: Path) -> None:
    assert layer_pass(tmp_path, [1, 2, 12], 2) == "01+02+12"
    assert layers_of("01+02+12") == [1, 2, 12]
    for name in ("01+02", "12"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pass.json").touch()
    (tmp_path / "03+04").mkdir()  # begun, not ended
    assert layer_pass(tmp_path, [1, 2, 3, 5, 12], 2) == "01+02"
    assert layer_pass(tmp_path, [1, 2, 3, 5, 12], 12) == "12"
    assert layer_pass(tmp_path, [1, 2, 3, 5, 12], 5) == "03+05"


def test_corpora_that_the_same_systems_are_wanted_of_share_a_pass_but_training_and_evaluation_do_not(
    tmp_path: Path,
) -> None:
    passes = unit_passes(tmp_path, WANTED, ["train"], 2)
    assert [(p.corpora, p.systems, p.shards) for p in passes] == [
        (["train"], ["hubert-L01-km", "hubert-L02-km"], 2),
        (["dev"], ["hubert-L01-km", "hubert-L02-km", "hubert-L03-km"], 2),
        (["words", "sentences"], ["hubert-L01-km", "hubert-L02-km"], 2),
    ]
    assert len({p.name for p in passes}) == 3
    assert passes == unit_passes(tmp_path, WANTED, ["train"], 2)
    first = passes[0]
    assert first.records("passes") == [f"passes/{first.name}/{n}-of-2/pass.json" for n in (0, 1)]
    assert first.quantizers("hubert") == ["hubert/L01/km", "hubert/L02/km"]


def test_a_new_system_or_corpus_is_a_pass_of_its_own(tmp_path: Path) -> None:
    finish(tmp_path, "a", ["hubert-L01-km", "hubert-L09-old"], ["train"], shards=3)
    finish(tmp_path, "b", ["hubert-L01-km", "hubert-L02-km"], ["words", "gone"])
    found = {p.name: p for p in unit_passes(tmp_path, WANTED, ["train"], 1)}
    assert found["a"].systems == ["hubert-L01-km", "hubert-L09-old"], "left as it was made"
    assert found["a"].shards == 3
    assert found["b"].corpora == ["words", "gone"]
    new = [(p.corpora, p.systems) for name, p in found.items() if name not in "ab"]
    assert new == [(["train"], ["hubert-L02-km"]), (["dev"], WANTED["dev"]), (["sentences"], WANTED["sentences"])]


def test_a_pass_of_which_nothing_is_wanted_any_more_is_none(tmp_path: Path) -> None:
    finish(tmp_path, "a", ["hubert-L07-km"], ["train"])
    assert "a" not in {p.name for p in unit_passes(tmp_path, WANTED, ["train"], 1)}
