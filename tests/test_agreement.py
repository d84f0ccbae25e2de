"""Annotations are held against the manifest: whose they are, and all that is wrong with them at once."""

from pathlib import Path

import pytest
from annotation_files import FILES, lay_out, manifest, rows_of

from artifacts.errors import InputError
from corpora.agreement import Agreement
from corpora.annotate import annotate
from corpora.importers.source import Labelled, Span
from corpora.interchange import write_interval_table
from corpora.manifest import Utterance

__all__ = ["manifest"]  # a fixture


def test_a_name_is_a_fileid_or_the_path_that_only_one_utterance_ends_like(tmp_path: Path) -> None:
    def utterance(fileid: str, place: str) -> Utterance:
        return Utterance(fileid, tmp_path / place, 16000, "s")

    agreement = Agreement(
        [
            utterance("FCJF0-SA1", "dr1/FCJF0/SA1.WAV"),
            utterance("MDAB0-SA1", "dr1/MDAB0/SA1.WAV"),
            utterance("dev/84/x", "any/thing.flac"),
            utterance("v1.0", "v1.0.wav"),
        ]
    )

    def fileid(name: str) -> str | None:
        intervals = agreement.take(Labelled(name, "phones", [Span(0, 1, "A")]))
        agreement._tiers["phones"].clear()
        return intervals[0].fileid if intervals else None

    found = {
        "FCJF0-SA1": "FCJF0-SA1",
        "timit/FCJF0/SA1": "FCJF0-SA1",
        "MDAB0/SA1.wav": "MDAB0-SA1",
        "SA1": None,
        "timit/FDAW0/SA1": None,
        "84/x": "dev/84/x",
        "x.flac": "dev/84/x",
        "/corpus/dev/84/x": "dev/84/x",
        "85/x": None,
        "v1.0": "v1.0",
        "grids/v1.0": "v1.0",
        "v1": None,
    }
    assert {name: fileid(name) for name in found} == found
    assert agreement.problems([]) == {"annotated, but not in the manifest": {"SA1", "timit/FDAW0/SA1", "85/x", "v1"}}


def test_a_name_that_two_utterances_may_have_is_neithers(tmp_path: Path) -> None:
    agreement = Agreement([Utterance(f"{a}/x", tmp_path / a / "y.wav", 16000, "s") for a in "ab"])
    assert agreement.take(Labelled("x", "words", [Span(0, 1, "w")])) == []
    assert list(agreement.problems([])) == ["names that several utterances of the manifest may have"]


def test_everything_that_is_wrong_is_told_in_one_line(tmp_path: Path, manifest: Path) -> None:
    lines = [
        "#file onset offset #phone speaker",
        "84-1-0 -0.1 0.1 A 84",
        "84-1-0 0.2 0.2 A 84",
        "84-1-0 0.4 0.3 A 84",
        "84-1-0 0.5 0.7 A-B 84",
        "84-1-0 0.6 1.03 A 84",
        "99-9-9 0 1 A 99",
        "84-1-0 1 2 A 85",
    ]
    path = lay_out(tmp_path, {"bad.item": "\n".join(lines)})
    with pytest.raises(InputError) as error:
        write_interval_table([path], manifest, tmp_path / "out.csv")
    for part in (
        "empty, end before they begin or begin before 0 s: 3 (84-1-0: phones -0.1 to 0.1 s, 84-1-0: phones 0.2 to",
        "intervals that begin before the one before them ends: 1 (84-1-0: phones 0.6 to 1.03 s)",
        "past the end of their audio by more than a frame: 1 (84-1-0)",
        "phone labels with a space or a hyphen: 1 ('A-B')",
        "annotated, but not in the manifest: 1 (99-9-9)",
        "utterances with a tier given twice, or in pieces that do not stand together: 1 (84-1-0: phones)",
        "utterances without phones: 1 (61-2-3)",
    ):
        assert part in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out.csv").exists()


def test_an_end_within_a_frame_of_the_audios_is_no_problem_and_another_speaker_is(tmp_path: Path) -> None:
    utterance = Utterance("a", tmp_path / "a.wav", 16000, "s1")
    for offset, speaker, problems in ((1.02, "s1", 0), (1.0201, "s1", 1), (1.0, "s2", 1), (1.1, "s2", 2)):
        agreement = Agreement([utterance])
        agreement.take(Labelled("a", "words", [Span(0, offset, "w")], speaker))
        assert len(agreement.problems(["words"])) == problems


def test_rows_of_an_utterance_are_put_in_order_and_its_talker_is_its_speaker(tmp_path: Path, manifest: Path) -> None:
    path = lay_out(tmp_path, {"a.item": "#file onset offset #phone talker\n61-2-3 0.3 0.5 B 61\n61-2-3 0.1 0.3 A 61\n"})
    write_interval_table([path], manifest, tmp_path / "out.csv", partial=True)
    assert [row[3] for row in rows_of(tmp_path / "out.csv")] == ["A", "B"]
    path.write_text(path.read_text().replace(" 61\n", " 62\n"))
    with pytest.raises(InputError, match=r"another speaker than the manifest: 1 \(61-2-3: 62 for 61\)"):
        write_interval_table([path], manifest, tmp_path / "out.csv", partial=True)


def test_an_utterance_may_have_no_word_and_not_no_phone(tmp_path: Path) -> None:
    agreement = Agreement([Utterance("a", tmp_path / "a.wav", 16000, "s")])
    assert agreement.take(Labelled("a", "words", [Span(0, 1, "<eps>")])) == []
    assert agreement.take(Labelled("a", "phones", [])) == []
    assert agreement.problems(["phones", "words"]) == {"utterances without phones": {"a"}}


def test_frames_of_another_rate_are_told_by_the_length_of_the_audio(tmp_path: Path, manifest: Path) -> None:
    path = lay_out(tmp_path, FILES["frames"])
    with pytest.raises(InputError, match=r"is the frame rate right\?\): 2 \(61-2-3: 0.25 of 0.51 s, 84-1-0: 0.50 of"):
        write_interval_table([path], manifest, tmp_path / "out.csv", frame_rate_hz=8)
    with pytest.raises(InputError, match=r"past the end of their audio by more than a frame: 2"):
        write_interval_table([path], manifest, tmp_path / "out.csv", frame_rate_hz=2)


def test_what_only_one_side_has_is_left_out_on_demand(
    tmp_path: Path, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lay_out(tmp_path, {"a.alignment.txt": '84-1-0 "cat" "0.75"\n84-9-9 "dog" "0.5"\n'})
    with pytest.raises(InputError, match=r"manifest: 1 \(84-9-9\); utterances without words: 1 \(61-2-3\)"):
        write_interval_table([path], manifest, tmp_path / "out.csv")
    write_interval_table([path], manifest, tmp_path / "out.csv", partial=True)
    assert rows_of(tmp_path / "out.csv") == [("84-1-0", 0.0, 0.75, "cat", "words", "84")]
    printed = capsys.readouterr().out
    assert "left out: annotated, but not in the manifest: 1 (84-9-9)" in printed
    assert "left out: utterances without words: 1 (61-2-3)" in printed
    (tmp_path / "a.alignment.txt").write_text('84-9-9 "dog" "0.5"\n')
    with pytest.raises(InputError, match="utterances without words: 2"):
        write_interval_table([path], manifest, tmp_path / "out.csv", partial=True)


def test_an_experiment_needs_phones_of_all_utterances_and_no_more(
    tmp_path: Path, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lay_out(tmp_path, FILES["item"])
    path.write_text(path.read_text() + "1-1-1 0 1 A SIL SIL 1\n")
    annotate(path, manifest, tmp_path / "out")
    assert "left out 1 (1-1-1) annotated utterances that the manifest lacks" in capsys.readouterr().out
    path = lay_out(tmp_path, FILES["librispeech"])
    with pytest.raises(InputError, match=r"g: utterances without phones: 2 \(61-2-3, 84-1-0\)"):
        annotate(path, manifest, tmp_path / "out")
