"""Lengths from headers: in order, in bounded memory, and each file once though the job be killed."""

import json
import tracemalloc
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile

from artifacts.errors import InputError
from corpora import headers
from corpora.headers import listed, measure
from corpora.layouts import Place
from corpora.manifest import Member, Utterance


def write_audio(path: Path, num_samples: int) -> Path:
    soundfile.write(path, np.zeros(num_samples), 16000, subtype="PCM_16")
    return path


@pytest.fixture
def places(tmp_path: Path) -> list[Place]:
    return [Place(f"u{k}", write_audio(tmp_path / f"{k}.wav", 100 + k), f"s{k % 2}") for k in range(9)]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose headers are read, as they are."""
    names: list[str] = []

    def counting(path: Path, member: Member | None) -> int:
        names.append(path.name)
        return len(soundfile.read(path)[0])

    monkeypatch.setattr(headers, "read_num_samples", counting)
    return names


def lengths(places: list[Place], folder: Path) -> list[Utterance]:
    with listed(places, folder) as listing:
        return list(measure(listing, folder / "known"))


def test_lengths_come_in_the_order_of_the_places(places: list[Place], tmp_path: Path) -> None:
    expected = [Utterance(p.fileid, p.path, 100 + k, p.speaker) for k, p in enumerate(places)]
    assert lengths(places, tmp_path) == expected
    assert lengths(places[::-1], tmp_path) == expected[::-1]
    assert not (tmp_path / "known").exists()


def test_a_listing_counts_and_forgets_nothing(tmp_path: Path) -> None:
    places = [Place("a", Path("x.tar/a\n\udcff.wav"), "s1", Member(Path("x.tar"), 512, 9)), Place("b", Path("b"), "s2")]
    with listed(places, tmp_path / "new") as listing:
        assert list(listing) == list(listing) == places
        assert (listing.count, listing.speakers, listing.archives) == (2, {"s1", "s2"}, True)
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize(("cut", "left"), [(0, 5), (3, 4)])
def test_a_killed_job_goes_on_where_it_was(
    places: list[Place], tmp_path: Path, read: list[str], cut: int, left: int
) -> None:
    known = "".join(json.dumps([str(p.path), 100 + k]) + "\n" for k, p in enumerate(places[:5]))
    (tmp_path / "known").write_text(known[: len(known) - cut])
    assert [u.num_samples for u in lengths(places, tmp_path)] == [*range(100, 109)]
    assert sorted(read) == [f"{k}.wav" for k in range(left, 9)]


def test_what_was_read_before_an_error_is_kept(places: list[Place], tmp_path: Path, read: list[str]) -> None:
    broken = places[6].path
    content = broken.read_bytes()
    broken.unlink()
    with pytest.raises(soundfile.LibsndfileError):
        lengths(places, tmp_path)
    broken.write_bytes(content)
    read.clear()
    assert [u.num_samples for u in lengths(places, tmp_path)] == [*range(100, 109)]
    assert sorted(read) == ["6.wav", "7.wav", "8.wav"]


def test_a_file_that_came_between_is_read(places: list[Place], tmp_path: Path, read: list[str]) -> None:
    (tmp_path / "known").write_text("".join(json.dumps([str(p.path), 1]) + "\n" for p in places[:4]))
    found = lengths([places[0], places[8], *places[1:4]], tmp_path)
    assert [u.num_samples for u in found] == [1, 108, 101, 102, 103]


def test_memory_hardly_grows_with_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some 100 bytes a file stay, the parts of its path, which Python keeps for good; a `Place` alone is 700."""
    monkeypatch.setattr(headers, "read_num_samples", lambda path, member: 16000)
    monkeypatch.setattr(headers, "CHUNK", 64)

    def peak(count: int) -> int:
        def many() -> Iterator[Place]:
            for k in range(count):
                yield Place(f"{k % 50}/book/{k}", Path(f"/speech/large/{k % 50}/book/{k}.flac"), str(k % 50))

        tracemalloc.start()
        with listed(many(), tmp_path) as listing:
            assert sum(1 for _ in measure(listing, tmp_path / "known")) == count
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(2560) - peak(256) < 250 * (2560 - 256)


def test_an_unreadable_header_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"a.wav: not readable as audio"):
        lengths([Place("a", tmp_path / "a.wav", "s")], tmp_path)


def test_what_is_measured_can_be_left_off_and_taken_up(places: list[Place], tmp_path: Path, read: list[str]) -> None:
    with listed(places, tmp_path) as listing:
        some = list(islice(measure(listing, tmp_path / "known"), 3))
    assert [u.fileid for u in some] == ["u0", "u1", "u2"]
    assert len(lengths(places, tmp_path)) == 9
