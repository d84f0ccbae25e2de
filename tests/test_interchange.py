"""Units go from every format to every other and back; what a format cannot hold is named by file and line."""

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import units.interchange
from artifacts.errors import InputError
from corpora.manifest import Utterance, write_manifest
from slm.store import TokenStore, write_store
from units.interchange import Format, FrameLength, Roster, convert, read_sequences, stem
from units.records import UnitSequence, UntimedUnits, read_units, read_untimed_units, run_length, write_units

FORMS: tuple[Format, ...] = get_args(Format)
FRAMEWISE: tuple[Format, ...] = ("spidr", "fastabx", "km")

PUBLISHED: dict[Format, str] = {
    "units": '{"fileid": "84-121123-0000", "units": [5, 17, 5], "durations": [2, 1, 4]}\n'
    '{"fileid": "84-121123-0001", "units": [0], "durations": [3]}\n',
    # slamkit, example_data/features.jsonl
    "slamkit": '{"units": [5, 17, 5], "duration": [2, 1, 4], "file_name": "../data/audio/84-121123-0000.flac"}\n'
    '{"units": [0], "duration": [3], "file_name": "../data/audio/84-121123-0001.flac"}\n',
    # spidr, paper/results/units-kmeans-spidr-l6-dev-clean-and-other.jsonl.gz
    "spidr": '{"name":"84-121123-0000","units":[5,5,17,5,5,5,5]}\n{"name":"84-121123-0001","units":[0,0,0]}\n',
    # fastabx, tests/test_input_contracts.py: {"audio":"f.wav","units":[16777217,16777218]}
    "fastabx": '{"audio":"dir1/84-121123-0000.wav","units":[5,5,17,5,5,5,5]}\n'
    '{"audio":"dir2/84-121123-0001.wav","units":[0,0,0]}\n',
    # fairseq, what dump_km_label.py writes
    "km": "5 5 17 5 5 5 5\n0 0 0\n",
}
"""Lines as each format's own program writes them or has them in its tests."""
SEQUENCES = [
    UnitSequence("84-121123-0000", [5, 17, 5], [2, 1, 4]),
    UnitSequence("84-121123-0001", [0], [3]),
]


def manifest_of(folder: Path, utterances: dict[str, int], suffix: str = ".flac") -> Path:
    """A manifest of fileids and their numbers of frames of 320 samples, in folders by speaker."""
    path = folder / "manifest.csv"
    write_manifest(
        path,
        [Utterance(f, folder / "audio" / f[:2] / f"{f}{suffix}", 320 * n + 80, f[:2]) for f, n in utterances.items()],
    )
    return path


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return manifest_of(tmp_path, {sequence.fileid: sequence.num_frames for sequence in SEQUENCES})


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


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.wav", "a"), ("a", "a"), ("/x/y.z/a.b.flac", "a.b"), ("a.", "a."), (".wav", ""), ("x/", "")],
)
def test_the_stem_is_the_last_part_of_a_path_without_its_extension(name: str, expected: str) -> None:
    assert stem(name) == expected


class TestNames:
    """Whom a path means where a manifest is given."""

    @pytest.fixture
    def roster(self, tmp_path: Path) -> Roster:
        places = {"one": "dr1/fcjf0/sa1.wav", "two": "dr2/fcjf0/sa1.wav", "three": "x/lone.wav", "four": "dr1/f/a.wav"}
        places |= {"five": "dr1/f/a.flac"}
        utterances = [Utterance(fileid, tmp_path / place, 3200, "s") for fileid, place in places.items()]
        write_manifest(tmp_path / "manifest.csv", utterances)
        return Roster(tmp_path / "manifest.csv")

    @pytest.mark.parametrize(
        ("name", "fileid"),
        [
            ("two", "two"),
            ("/elsewhere/dr1/fcjf0/sa1.flac", "one"),
            ("dr2/fcjf0/sa1", "two"),
            ("elsewhere/lone.flac", "three"),
            ("../dr1/f/a.wav", "four"),
            ("a.flac", "five"),
        ],
    )
    def test_a_name_is_a_fileid_or_the_nearest_path(self, roster: Roster, name: str, fileid: str) -> None:
        assert roster.fileid(name, "here") == fileid

    def test_equally_near_paths_are_an_error(self, roster: Roster) -> None:
        with pytest.raises(InputError, match=r"^here: found fcjf0/sa1.wav, which may be one or two, expected one utt"):
            roster.fileid("fcjf0/sa1.wav", "here")

    def test_nobody_is_an_error(self, roster: Roster) -> None:
        with pytest.raises(InputError, match=r"^here: found x/y.wav, expected an utterance of .*manifest.csv$"):
            roster.fileid("x/y.wav", "here")


class TestFrameLength:
    """Frames are held against samples without knowing the frame rate."""

    @pytest.mark.parametrize("hop", [160, 320, 640])
    @given(st.lists(st.integers(400, 2_000_000), max_size=20), st.data())
    def test_all_ways_of_cutting_frames_pass(self, hop: int, lengths: list[int], data: st.DataObject) -> None:
        frame_length = FrameLength()
        for num_samples in lengths:
            pieces, rest = divmod(num_samples, 1_600_000)  # as fairseq takes them
            cut = data.draw(st.sampled_from([0, hop, hop + 80]))  # centred, whole hops, the receptive field of HuBERT
            num_frames = pieces * (1_600_000 // hop - 1) + max(0, (rest - cut) // hop + 1)
            frame_length.check(num_frames, num_samples, "here")

    @given(st.integers(60_000, 200_000), st.floats(0.2, 0.8))
    def test_units_without_repetitions_do_not(self, num_samples: int, kept: float) -> None:
        frame_length = FrameLength()
        frame_length.check(500, 160_000, "here")
        with pytest.raises(
            InputError, match=r"^here: found \d+ frames for the [\d,]+ samples of the manifest, expected"
        ):
            frame_length.check(int(kept * num_samples / 320), num_samples, "here")


RECORD = {"units": [1, 2], "duration": [1, 1], "file_name": "dev/a.wav"}


def lines(*records: object) -> str:
    return "".join(record if isinstance(record, str) else json.dumps(record) + "\n" for record in records)


@pytest.mark.parametrize(
    ("form", "text", "message"),
    [
        ("units", lines({"fileid": "a"}), "line 1: found keys fileid, expected also units"),
        ("units", lines({"fileid": "a", "units": [1, 1]}), "line 1: found a unit twice in a row"),
        ("units", lines(*2 * [{"fileid": "a", "units": [1]}]), "line 2: fileid a again, first on line 1"),
        ("slamkit", "{\n", "line 1: not JSON"),
        ("slamkit", "[]\n", "line 1: found .*, expected a JSON object"),
        ("slamkit", lines({"units": [1], "name": "a"}), "line 1: found keys units, name, expected also file_name"),
        (
            "slamkit",
            lines({"file_name": "a.wav", "audio_repr": "<Un3>"}),
            "line 1: found keys file_name, audio_repr, expected also units",
        ),
        ("slamkit", lines(RECORD | {"units": [1, -2]}), r"line 1: units: found \[1, -2\], expected a list of whole"),
        ("slamkit", lines(RECORD | {"units": [1, 2.0]}), r"line 1: units: found \[1, 2.0\], expected a list of whole"),
        ("slamkit", lines(RECORD | {"units": [2**63]}), r"line 1: units: found \[9223372036854775808\], expected"),
        (
            "slamkit",
            lines(RECORD | {"duration": [1]}),
            "line 1: found 1 durations, expected one for each of 2 units",
        ),
        (
            "slamkit",
            lines(RECORD | {"duration": [0, 1]}),
            r"line 1: duration: found \[0, 1\], expected a list of whole",
        ),
        ("slamkit", lines(RECORD | {"duration": None}), "line 1: duration: found None, expected a list of whole"),
        ("slamkit", lines({"units": [4, 4], "file_name": "a"}), "line 1: found a unit twice in a row and no duration"),
        ("slamkit", lines(RECORD | {"file_name": "dev/.wav"}), "line 1: file_name: found 'dev/.wav', expected a name"),
        ("slamkit", lines(RECORD | {"file_name": 7}), "line 1: file_name: found 7, expected a name"),
        (
            "slamkit",
            lines(RECORD, RECORD | {"file_name": "test/a.flac"}),
            "line 2: found a again, first on line 1; --manifest tells equal file names apart",
        ),
        ("fastabx", lines({"audio": "a.wav"}), "line 1: found keys audio, expected also units"),
        ("fastabx", lines({"audio": "a.wav", "units": "1 2"}), "line 1: units: found 1 2, expected a list of whole"),
        (
            "fastabx",
            lines({"audio": "a.wav", "units": [1]}, {"audio": "b/a.wav", "units": [1]}),
            "line 2: found a again, first on line 1; --manifest tells",
        ),
        (
            "fastabx",
            lines({"audio": "a.wav", "units": [1], "duration": [2]}),
            "line 1: found duration, expected one unit a frame: fastabx has no durations",
        ),
        ("spidr", lines({"audio": "a.wav", "units": [1]}), "line 1: found keys audio, units, expected also name"),
        (
            "spidr",
            lines({"name": "a", "units": [1], "durations": [2]}),
            "line 1: found durations, expected one unit a frame: spidr has no durations",
        ),
        ("spidr", lines(*2 * [{"name": "a", "units": [1]}]), "line 2: found a again, first on line 1$"),
        ("km", "1 2\n", "^--manifest: found none, expected one: the lines of km are its utterances, in its order"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, form: Format, text: str, message: str) -> None:
    path = tmp_path / "theirs"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        convert(path, form, tmp_path / "ours.jsonl", "units")
    assert str(caught.value).startswith((f"{path}, line ", "--manifest"))
    assert [file.name for file in tmp_path.iterdir()] == ["theirs"]


@pytest.mark.parametrize(
    ("form", "text", "message"),
    [
        ("km", "5 5 17 5 5 5 5\n0 x 0\n", "line 2: found '0 x 0', expected whole numbers from 0, separated by spaces"),
        ("km", "a|5 5\n0\n", r"line 1: found 'a\|5 5', expected whole numbers"),
        ("km", "5 5 17 5 5 5 5\n-1\n", "line 2: found '-1', expected whole numbers"),
        ("km", "5 5 17 5 5 5 5\n1.0\n", "line 2: found '1.0', expected whole numbers"),
        ("km", f"{10**19}\n0\n", "line 1: found '10000000000000000000', expected whole numbers"),
        ("km", f"{2**63}\n0\n", r"line 1: found \[9223372036854775808\], expected a list of whole numbers"),
        ("km", "5 5 17 5 5 5 5\n", ": found 1 lines, expected 2: one for each utterance of .*manifest.csv"),
        ("km", "5 5 17 5 5 5 5\n0 0 0\n\n", "line 3: found another line, expected 2: one for each utterance of"),
        (
            "spidr",
            lines({"name": "84-121123-0002", "units": [1]}),
            "line 1: found 84-121123-0002, expected an utterance",
        ),
        ("units", lines({"fileid": "b", "units": [1]}), "line 1: found b, expected an utterance of .*manifest.csv"),
        ("fastabx", lines({"audio": "84/b.wav", "units": [1]}), "line 1: found 84/b.wav, expected an utterance of"),
    ],
)
def test_what_does_not_go_with_the_manifest_is_named(
    tmp_path: Path, manifest: Path, form: Format, text: str, message: str
) -> None:
    path = tmp_path / "theirs"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        convert(path, form, tmp_path / "ours.jsonl", "units", manifest)
    assert {file.name for file in tmp_path.iterdir()} == {"theirs", "manifest.csv"}


@pytest.mark.parametrize("form", FORMS)
def test_frames_that_do_not_go_with_the_samples_are_named(tmp_path: Path, form: Format) -> None:
    manifest = manifest_of(tmp_path, {"a": 100, "b": 200})
    sequences = [UnitSequence("a", [1], [100]), UnitSequence("b", [1, 2], [50, 50])]
    write_units(tmp_path / "ours.jsonl", sequences)
    manifest_without_lengths = tmp_path / "same.csv"
    write_manifest(manifest_without_lengths, [Utterance(f, Path(f"/{f}.wav"), 32000, "s") for f in "ab"])
    convert(tmp_path / "ours.jsonl", "units", tmp_path / "theirs", form, manifest_without_lengths)
    message = (
        r"theirs, line 2: b: found 100 frames for the 64,080 samples of the manifest, "
        r"expected 304 to 337 samples a frame, as before it"
    )
    with pytest.raises(InputError, match=message):
        convert(tmp_path / "theirs", form, tmp_path / "out.jsonl", "units", manifest)


def test_speech_without_a_frame_is_named(tmp_path: Path) -> None:
    (tmp_path / "theirs.km").write_text("\n")
    with pytest.raises(InputError, match=r"line 1: a: found 0 frames for the 32,080 samples of the manifest, expected"):
        convert(tmp_path / "theirs.km", "km", tmp_path / "o", "units", manifest_of(tmp_path, {"a": 100}))


def test_a_km_file_needs_every_utterance_of_the_manifest(tmp_path: Path, manifest: Path) -> None:
    write_units(tmp_path / "ours.jsonl", SEQUENCES[:1])
    with pytest.raises(InputError, match=r"ours.jsonl: found no 84-121123-0001, expected all 2 utterances of .*manif"):
        convert(tmp_path / "ours.jsonl", "units", tmp_path / "theirs.km", "km", manifest)


@pytest.mark.parametrize("fileid", ["v1.0", "dev/a"])
def test_a_fileid_that_would_not_come_back_is_named(tmp_path: Path, fileid: str) -> None:
    write_units(tmp_path / "ours.jsonl", [UnitSequence(fileid, [1], [1])])
    message = f"ours.jsonl, line 1: found fileid {fileid}, expected one without folders and extension: "
    for form in ("slamkit", "fastabx"):
        with pytest.raises(InputError, match=f"{message}{form} takes it for '(v1|a)'"):
            convert(tmp_path / "ours.jsonl", "units", tmp_path / "theirs", form)  # type: ignore[arg-type]
    convert(tmp_path / "ours.jsonl", "units", tmp_path / "theirs", "spidr")
    assert [sequence.fileid for _, sequence in read_sequences(tmp_path / "theirs", "spidr")] == [fileid]


@pytest.mark.parametrize("form", FORMS)
def test_an_absent_or_binary_file_is_named(tmp_path: Path, form: Format, manifest: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such file"):
        convert(tmp_path / "nowhere", form, tmp_path / "out", "units", manifest)
    (tmp_path / "binary").write_bytes(b"\x1f\x8b\xff\n")
    with pytest.raises(InputError, match="binary: not UTF-8 text"):
        convert(tmp_path / "binary", form, tmp_path / "out", "units", manifest)


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


def test_bad_input_ends_with_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "theirs.jsonl").write_text("{}\n")
    command = [sys.executable, "-m", "units.interchange", "--from", "spidr", "--to", "units"]
    command += ["--input", str(tmp_path / "theirs.jsonl"), "--output", str(tmp_path / "ours.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"error: {tmp_path / 'theirs.jsonl'}, line 1: found keys none, expected also name, units"
    )
