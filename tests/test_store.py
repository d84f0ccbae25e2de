"""The token store holds every utterance as BOS, units + 2, EOS."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import slm.store
from artifacts.errors import InputError
from slm.store import TokenStore, open_stores, require_held_out, write_store
from units.records import TextUnits, UnitSequence, UntimedUnits, write_units


def write(
    folder: Path, utterances: list[list[int]], num_units: int = 10, name: str = "train", prefix: str = "utt"
) -> Path:
    sequences = [UnitSequence(f"{prefix}{i}", units, [2] * len(units)) for i, units in enumerate(utterances)]
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
    store = TokenStore(write(tmp_path, [[0, 9, 0], [5]]))
    assert store.hours == pytest.approx(8 / 50 / 3600)
    assert store.seconds is not None
    assert store.seconds.tolist() == [6 / 50, 2 / 50]


@pytest.mark.parametrize(("num_units", "dtype"), [(65534, "uint16"), (65535, "uint32"), (250_000, "uint32")])
def test_tokens_are_16_bits_wide_up_to_65536_of_them_and_then_32(tmp_path: Path, num_units: int, dtype: str) -> None:
    folder = write(tmp_path, [[num_units - 1, 0]], num_units=num_units)
    assert json.loads((folder / "config.json").read_text())["dtype"] == dtype
    store = TokenStore(folder)
    assert store.tokens.dtype == np.dtype(dtype)
    assert store.document(0).tolist() == [1, num_units + 1, 2, 1]


def test_more_units_than_32_bits_have_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="num_units: found 4294967295, expected 1 to 4,294,967,294"):
        write(tmp_path, [[0]], num_units=2**32 - 1)


def test_units_without_durations_make_a_store_of_unknown_hours(tmp_path: Path) -> None:
    write_units(tmp_path / "units.jsonl", [UntimedUnits("a", [3, 1]), UnitSequence("b", [2], [5])])
    write_store(tmp_path / "units.jsonl", 10, 50.0, "theirs", tmp_path / "store")
    store = TokenStore(tmp_path / "store")
    assert (store.hours, store.seconds) == (None, None)
    assert [store.document(index).tolist() for index in range(2)] == [[1, 5, 3, 1], [1, 4, 1]]
    assert list(store.fileids()) == ["a", "b"]


def test_the_tokens_of_a_text_may_follow_themselves(tmp_path: Path) -> None:
    write_units(tmp_path / "units.jsonl", [TextUnits("a", [7, 7, 7], "ha ha ha")])
    write_store(tmp_path / "units.jsonl", 10, 50.0, "text", tmp_path / "store")
    assert TokenStore(tmp_path / "store").document(0).tolist() == [1, 9, 9, 9, 1]
    write_units(tmp_path / "speech.jsonl", [UntimedUnits("a", [7, 7, 7])])
    with pytest.raises(InputError, match="line 1: found a unit twice in a row, expected run-length encoded units"):
        write_store(tmp_path / "speech.jsonl", 10, 50.0, "speech", tmp_path / "other")


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


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 no archive",
        b"\x93NUMPY\x01\x00v\x00{'descr': '<i8', 'fortran_order': False, 'shape': (",
        b"\x80\x04K\x01.",
    ],
)
def test_offsets_that_are_none_are_named_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    folder = write(tmp_path, [[1, 2, 3]])
    (folder / "offsets.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"train: not a token store .*: remove it and start again"):
        TokenStore(folder)


def test_offsets_of_another_shape_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path, [[1, 2, 3]])
    np.save(folder / "offsets.npy", np.zeros((2, 2), np.int64))
    with pytest.raises(InputError, match=r"train: found offsets\.npy of shape \(2, 2\), expected \(documents \+ 1,\)"):
        TokenStore(folder)


@pytest.mark.parametrize("name", ["config.json", "offsets.npy", "tokens.bin", "seconds.npy"])
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


def test_a_store_of_another_kind_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path, [[1, 2]])
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "float64"}))
    with pytest.raises(InputError, match="dtype: found 'float64', expected uint16 or uint32"):
        TokenStore(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "fileids.txt").write_text("utt0\nutt1\n")
    with pytest.raises(InputError, match="found 2 names, expected 1"):
        list(TokenStore(folder).fileids())


def test_a_validation_set_with_an_utterance_that_is_trained_on_is_named(tmp_path: Path) -> None:
    train = TokenStore(write(tmp_path, [[1, 2], [3, 4]], name="train"))
    # A name alone is no overlap: numbered files of two folders share theirs.
    require_held_out([train], TokenStore(write(tmp_path, [[5], [3, 4, 5]], name="fine")))
    with pytest.raises(InputError, match=r"some: found utterance utt1, which .*train has too"):
        require_held_out([train], TokenStore(write(tmp_path, [[5], [3, 4], [6]], name="some")))


def test_a_validation_set_that_is_trained_on_under_other_names_is_named(tmp_path: Path) -> None:
    stores = [TokenStore(write(tmp_path, units, name=name)) for name, units in (("a", [[1, 2, 1]]), ("b", [[1], [2]]))]
    same = TokenStore(write(tmp_path, [[1], [2]], name="same", prefix="other"))
    with pytest.raises(InputError, match=r"same: found the same tokens as .*b, expected a validation set"):
        require_held_out(stores, same)


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
