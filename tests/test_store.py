"""The token store holds every utterance as BOS, units + 2, EOS."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import slm.store
from artifacts.errors import InputError
from slm.store import TokenStore, open_stores, write_store
from units.records import UnitSequence, write_units


def write(folder: Path, utterances: list[list[int]], num_units: int = 10, name: str = "train") -> Path:
    sequences = [UnitSequence(f"utt{i}", units, [2] * len(units)) for i, units in enumerate(utterances)]
    write_units(folder / f"{name}.jsonl", sequences)
    write_store(folder / f"{name}.jsonl", num_units, 50.0, name, folder / name)
    return folder / name


def test_a_document_is_bos_units_eos(tmp_path: Path) -> None:
    store = TokenStore(write(tmp_path, [[0, 9, 0], [5]]))
    assert store.document(0).tolist() == [1, 2, 11, 2, 1]
    assert store.document(1).tolist() == [1, 7, 1]
    assert store.tokens.dtype == np.uint16
    assert (store.num_documents, store.num_tokens, store.vocab_size, store.corpus) == (2, 8, 12, "train")


def test_hours_are_those_of_the_frames(tmp_path: Path) -> None:
    assert TokenStore(write(tmp_path, [[0, 9, 0], [5]])).hours == pytest.approx(8 / 50 / 3600)


def test_the_largest_vocabulary_of_16_bits_is_kept(tmp_path: Path) -> None:
    assert TokenStore(write(tmp_path, [[65533]], num_units=65534)).document(0).tolist() == [1, 65535, 1]
    with pytest.raises(InputError, match="num_units: found 65535, expected 1 to 65534"):
        write(tmp_path, [[0]], num_units=65535)


@pytest.mark.parametrize(
    ("utterances", "message"),
    [
        ([[1], [3, 10]], r"train.jsonl: utt1: found unit 10, expected 0 to 9"),
        ([[1], []], r"train.jsonl: utt1: found no units, expected at least one"),
        ([], r"train.jsonl: found no utterance, expected at least one"),
    ],
)
def test_bad_units_are_named_and_nothing_is_left(tmp_path: Path, utterances: list[list[int]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        write(tmp_path, utterances)
    assert [path.name for path in tmp_path.iterdir()] == ["train.jsonl"]


def test_a_truncated_store_is_an_error(tmp_path: Path) -> None:
    folder = write(tmp_path, [[1, 2], [3]])
    (folder / "tokens.bin").write_bytes((folder / "tokens.bin").read_bytes()[:-2])
    with pytest.raises(InputError, match=r"found 6 tokens in tokens.bin and 7 in offsets.npy, expected 7"):
        TokenStore(folder)


@pytest.mark.parametrize("name", ["config.json", "offsets.npy", "tokens.bin"])
def test_a_store_without_one_of_its_files_is_an_error(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path, [[1, 2]])
    (folder / name).unlink()
    with pytest.raises(InputError, match=str(folder)):
        TokenStore(folder)


def test_stores_of_different_vocabularies_do_not_mix(tmp_path: Path) -> None:
    folders = [write(tmp_path, [[1]], 10, "a"), write(tmp_path, [[1]], 11, "b")]
    with pytest.raises(InputError, match="b: found a vocabulary of 13, expected 12 as in"):
        open_stores(folders)


def test_stores_of_different_frame_rates_do_not_mix(tmp_path: Path) -> None:
    write_units(tmp_path / "units.jsonl", [UnitSequence("utt", [1], [1])])
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, rate in zip(folders, (50.0, 100.0), strict=True):
        write_store(tmp_path / "units.jsonl", 10, rate, folder.name, folder)
    with pytest.raises(InputError, match=r"b: found frames a second of 100.0, expected 50.0 as in"):
        open_stores(folders)


def test_the_entry_point_writes_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_units(tmp_path / "units.jsonl", [UnitSequence("utt", [3, 1], [4, 2])])
    (tmp_path / "config.json").write_text(json.dumps({"num_units": 10, "frame_rate_hz": 50.0}))
    arguments = ["--units", tmp_path / "units.jsonl", "--vocabulary", tmp_path / "config.json", "--corpus", "train"]
    monkeypatch.setattr(sys, "argv", ["slm.store", *map(str, arguments), "--output", str(tmp_path / "store")])
    slm.store.main()
    assert TokenStore(tmp_path / "store").document(0).tolist() == [1, 5, 3, 1]
    assert (tmp_path / "store" / "tokens.bin").read_bytes() == b"\x01\x00\x05\x00\x03\x00\x01\x00"


def test_the_token_store_needs_no_torch() -> None:
    code = "import sys, slm.store, slm.packing, slm.settings; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
