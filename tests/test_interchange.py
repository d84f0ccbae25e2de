"""Units go from every format to every other and back."""

import json
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit_files import FORMS, PUBLISHED, SEQUENCES, manifest, manifest_of

import units.interchange
from artifacts.errors import InputError
from slm.store import TokenStore, write_store
from units.interchange import Format, Roster, convert, read_sequences
from units.records import UnitSequence, UntimedUnits, read_units, read_untimed_units, run_length, write_units

__all__ = ["manifest"]  # a fixture

FRAMEWISE: tuple[Format, ...] = ("spidr", "fastabx", "km")


@pytest.mark.parametrize("form", FORMS)
def test_lines_of_every_format_are_read_as_they_are_published(tmp_path: Path, form: Format, manifest: Path) -> None:
    path = tmp_path / "theirs"
    path.write_text(PUBLISHED[form])
    assert [sequence for _, sequence in read_sequences(path, form, Roster(manifest))] == SEQUENCES
    if form != "km":
        assert [sequence for _, sequence in read_sequences(path, form)] == SEQUENCES


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("units", PUBLISHED["units"]),
        ("slamkit", PUBLISHED["slamkit"].replace("../data/audio/", "").replace(".flac", "")),
        ("spidr", PUBLISHED["spidr"]),
        (
            "fastabx",
            '{"audio": "84-121123-0000", "units": [5, 5, 17, 5, 5, 5, 5]}\n'
            '{"audio": "84-121123-0001", "units": [0, 0, 0]}\n',
        ),
        ("km", PUBLISHED["km"]),
    ],
)
def test_lines_of_every_format_are_exactly_these(tmp_path: Path, form: Format, expected: str, manifest: Path) -> None:
    write_units(tmp_path / "ours.jsonl", SEQUENCES)
    convert(tmp_path / "ours.jsonl", "units", tmp_path / "theirs", form, manifest if form == "km" else None)
    assert (tmp_path / "theirs").read_text() == expected


def test_slamkit_is_given_the_paths_of_the_manifest(tmp_path: Path, manifest: Path) -> None:
    write_units(tmp_path / "ours.jsonl", SEQUENCES[:1])
    convert(tmp_path / "ours.jsonl", "units", tmp_path / "theirs.jsonl", "slamkit", manifest)
    record = json.loads((tmp_path / "theirs.jsonl").read_text())
    assert record["file_name"] == str(tmp_path / "audio" / "84" / "84-121123-0000.flac")


FRAMES = st.lists(st.integers(0, 3) | st.integers(0, 2**63 - 1), max_size=12)
FILEIDS = st.text("abé-_0", min_size=1, max_size=4)
CORPORA = st.dictionaries(FILEIDS, FRAMES, max_size=5)


@pytest.mark.parametrize(
    ("there", "back", "with_manifest"),
    [(*pair, given) for *pair, given in product(FORMS, FORMS, (False, True)) if given or "km" not in pair],
)
@settings(max_examples=15, deadline=None)
@given(corpus=CORPORA)
def test_units_come_through_every_pair_of_formats_as_they_were(
    tmp_path_factory: pytest.TempPathFactory,
    there: Format,
    back: Format,
    with_manifest: bool,
    corpus: dict[str, list[int]],
) -> None:
    folder = tmp_path_factory.mktemp("units")
    lengths = {fileid: len(frames) for fileid, frames in corpus.items()}
    manifest = manifest_of(folder, lengths) if with_manifest else None
    sequences = [UnitSequence(f, *run_length(np.array(frames, dtype=np.int64))) for f, frames in corpus.items()]
    write_units(folder / "0", sequences)
    for number, (one, other) in enumerate([("units", there), (there, back), (back, there), (there, "units")]):
        convert(folder / str(number), one, folder / str(number + 1), other, manifest)  # type: ignore[arg-type]
    assert list(read_units(folder / "4")) == sequences
    assert (folder / "3").read_bytes() == (folder / "1").read_bytes()


def test_a_km_file_stands_in_the_order_of_the_manifest_whatever_the_order_of_the_units(
    tmp_path: Path, manifest: Path
) -> None:
    write_units(tmp_path / "ours.jsonl", reversed(SEQUENCES))
    convert(tmp_path / "ours.jsonl", "units", tmp_path / "theirs.km", "km", manifest)
    assert (tmp_path / "theirs.km").read_text() == PUBLISHED["km"]
    assert {path.name for path in tmp_path.iterdir()} == {"manifest.csv", "ours.jsonl", "theirs.km"}


def test_slamkit_lines_that_keep_repetitions_are_frames(tmp_path: Path) -> None:
    path = tmp_path / "features.jsonl"
    path.write_text('{"units": [4, 4, 2], "duration": [1, 1, 1], "file_name": "a.wav"}\n')
    assert [sequence for _, sequence in read_sequences(path, "slamkit")] == [UnitSequence("a", [4, 2], [2, 1])]


def test_fastabx_finds_the_units_by_the_fileids_of_an_item_file(tmp_path: Path) -> None:
    from fastabx import Dataset

    write_units(tmp_path / "ours.jsonl", SEQUENCES)
    convert(tmp_path / "ours.jsonl", "units", tmp_path / "theirs.jsonl", "fastabx")
    item = tmp_path / "triphone.item"
    item.write_text(
        "#file onset offset #phone prev-phone next-phone speaker\n"
        "84-121123-0001 0.0 0.04 IH L NG 84\n84-121123-0000 0.02 0.08 IH L NG 84\n"
    )
    data = Dataset.from_item_and_units(item, tmp_path / "theirs.jsonl", 50, device="cpu", progress=False)
    assert [frames.flatten().tolist() for frames in data.accessor] == [[0, 0], [5, 17, 5]]


class TestUntimedUnits:
    """SlamKit's units without durations serve language models and nothing else."""

    @pytest.fixture
    def theirs(self, tmp_path: Path) -> Path:
        path = tmp_path / "features.jsonl"
        path.write_text('{"units": [5, 17, 5], "file_name": "dev/a.flac"}\n')
        return path

    def test_they_become_a_token_store_of_unknown_hours(self, tmp_path: Path, theirs: Path) -> None:
        convert(theirs, "slamkit", tmp_path / "ours.jsonl", "units")
        assert (tmp_path / "ours.jsonl").read_text() == '{"fileid": "a", "units": [5, 17, 5]}\n'
        write_store(tmp_path / "ours.jsonl", 18, 50.0, "dev", tmp_path / "store")
        store = TokenStore(tmp_path / "store")
        assert store.document(0).tolist() == [1, 7, 19, 7, 1]
        assert store.hours is None

    def test_they_go_back_as_they_came(self, tmp_path: Path, theirs: Path) -> None:
        convert(theirs, "slamkit", tmp_path / "ours.jsonl", "units")
        convert(tmp_path / "ours.jsonl", "units", tmp_path / "back.jsonl", "slamkit")
        assert (tmp_path / "back.jsonl").read_text() == '{"units": [5, 17, 5], "file_name": "a"}\n'

    @pytest.mark.parametrize("form", FRAMEWISE)
    def test_they_have_no_frames(self, tmp_path: Path, theirs: Path, form: Format) -> None:
        manifest = manifest_of(tmp_path, {"a": 9})
        message = f"features.jsonl, line 1: a: found no durations, expected them: {form} has one unit a frame"
        with pytest.raises(InputError, match=message):
            convert(theirs, "slamkit", tmp_path / "out", form, manifest)
        assert {path.name for path in tmp_path.iterdir()} == {"features.jsonl", "manifest.csv"}

    def test_metrics_of_frames_refuse_them(self, tmp_path: Path) -> None:
        write_units(tmp_path / "ours.jsonl", [UntimedUnits("a", [1])])
        assert list(read_untimed_units(tmp_path / "ours.jsonl")) == [UntimedUnits("a", [1])]
        with pytest.raises(InputError, match=r"line 1: found keys fileid, units, expected also durations"):
            list(read_units(tmp_path / "ours.jsonl"))


def test_utterances_are_read_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "theirs.jsonl"
    path.write_text(PUBLISHED["spidr"] + "not JSON\n")
    sequences: Iterator[object] = (sequence for _, sequence in read_sequences(path, "spidr"))
    assert [next(sequences), next(sequences)] == SEQUENCES


def test_the_entry_point_converts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manifest: Path) -> None:
    (tmp_path / "theirs.km").write_text(PUBLISHED["km"])
    arguments = ["--from", "km", "--to", "units", "--input", tmp_path / "theirs.km", "--manifest", manifest]
    monkeypatch.setattr(sys, "argv", ["x", *map(str, arguments), "--output", str(tmp_path / "new" / "ours.jsonl")])
    units.interchange.main()
    assert (tmp_path / "new" / "ours.jsonl").read_text() == PUBLISHED["units"]
