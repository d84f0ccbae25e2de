"""What units of another format lack, or a format cannot hold, is named by file and line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from unit_files import FORMS, SEQUENCES, manifest, manifest_of

from artifacts.errors import InputError
from corpora.manifest import Utterance, write_manifest
from units.interchange import Format, convert, read_sequences
from units.records import UnitSequence, write_units

__all__ = ["manifest"]  # a fixture

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


def test_bad_input_ends_with_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "theirs.jsonl").write_text("{}\n")
    command = [sys.executable, "-m", "units.interchange", "--from", "spidr", "--to", "units"]
    command += ["--input", str(tmp_path / "theirs.jsonl"), "--output", str(tmp_path / "ours.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"error: {tmp_path / 'theirs.jsonl'}, line 1: found keys none, expected also name, units"
    )
