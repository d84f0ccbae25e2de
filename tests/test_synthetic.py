"""The synthetic corpus: exact annotations, the same bytes every time, and tests that only context solves."""

import csv
import math
import os
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from artifacts.errors import InputError
from artifacts.files import sha256
from corpora import grammar
from corpora.annotations import read_intervals
from corpora.espeak import installed
from corpora.lexicon import ALL_FORMS, TOPICS, UNHEARD, crossings, inflect, without_stress
from corpora.settings import SyntheticSettings
from corpora.synthetic import each_by_itself

SETS = ("train", "valid", "dev", "lexical", "syntactic", "tsc")
EVALUATION = {"lexical": "sLM21/lexical/dev", "syntactic": "sLM21/syntactic/dev", "tsc": "tSC"}


def synthesise(folder: Path, processes: int, seed: int = 0, **sizes: float) -> Path:
    """Make a corpus by its entry point."""
    small = {"training_minutes": 0.5, "valid_minutes": 0.1, "dev_utterances": 5}
    pairs = {"word_pairs": 12, "sentence_pairs": 10, "story_pairs": 4}
    settings = SyntheticSettings.model_validate({"layout": "synthetic"} | small | pairs | sizes).model_dump_json()
    command = [sys.executable, "-m", "corpora.synthetic", "--settings", settings, "--seed", str(seed)]
    subprocess.run([*command, "--processes", str(processes), "--output", str(folder)], check=True)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesise(tmp_path_factory.mktemp("small") / "corpus", processes=2)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evaluation sets large enough to tell a cue from chance."""
    sizes = {"word_pairs": 200, "sentence_pairs": 120, "story_pairs": 40}
    return synthesise(tmp_path_factory.mktemp("large") / "corpus", processes=2, seed=1, **sizes)


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def pairs(corpus: Path, name: str) -> list[tuple[Path, Path]]:
    """The files (correct, incorrect) of an evaluation set's pairs."""
    folder = corpus / EVALUATION[name]
    found: dict[tuple[str, str], dict[bool, Path]] = defaultdict(dict)
    if name == "tsc":
        for path in sorted(folder.iterdir()):
            _, identity, kind = path.stem.split("_")
            found["", identity][kind == "correct"] = path
    else:
        for row in read_rows(folder / "gold.csv"):
            found[row["voice"], row["id"]][row["correct"] == "1"] = folder / f"{row['filename']}.wav"
    return [(pair[True], pair[False]) for pair in found.values()]


def test_the_same_seed_gives_the_same_bytes_with_one_process_and_with_two(small: Path, tmp_path: Path) -> None:
    assert sha256(synthesise(tmp_path / "again", processes=1)) == sha256(small)


def test_another_seed_gives_other_voices(small: Path, large: Path) -> None:
    path = Path("dev/s020/s020-00000.wav")
    assert (small / path).read_bytes() != (large / path).read_bytes()


def test_no_speaker_is_in_two_splits_and_half_are_female(small: Path) -> None:
    rows = read_rows(small / "speakers.csv")
    assert len({row["speaker"] for row in rows}) == len(rows) == 24
    for split in ("train", "valid", "dev"):
        genders = [row["gender"] for row in rows if row["split"] == split]
        assert genders.count("f") == genders.count("m") > 0
        spoken = {path.name for path in (small / split).iterdir()}
        assert spoken == {row["speaker"] for row in rows if row["split"] == split}


def test_there_is_as_much_speech_as_asked_for(small: Path) -> None:
    def seconds(split: str) -> float:
        return sum(soundfile.info(path).duration for path in (small / split).rglob("*.wav"))

    assert seconds("train") >= 30
    assert seconds("valid") >= 6
    assert len(list((small / "dev").rglob("*.wav"))) == 5


def test_speech_is_16_khz_pcm_and_not_clipped(small: Path) -> None:
    for path in small.rglob("*.wav"):
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
    waveform, _ = soundfile.read(path, dtype="float32")
    assert 0.02 < np.abs(waveform).max() < 1


def test_phones_follow_each_other_from_the_start_to_the_end(small: Path) -> None:
    paths = {path.stem: path for path in small.rglob("*.wav")}
    annotated = {}
    for name in SETS:
        annotated |= read_intervals(small / "annotations" / f"{name}.csv", "phones")
    assert annotated.keys() == paths.keys()
    for fileid, phones in annotated.items():
        assert phones[0].onset == 0
        assert all(first.offset == second.onset for first, second in pairwise(phones))
        assert round(phones[-1].offset * 16000, 6) == soundfile.info(paths[fileid]).frames
        assert phones[0].label == phones[-1].label == "SIL"
        assert min(phone.offset - phone.onset for phone in phones) >= 0.012


def test_the_phones_of_a_word_are_those_of_the_lexicon_and_fill_it(small: Path) -> None:
    lexicon = {row["word"]: row["phones"].split() for row in read_rows(small / "lexicon.csv")}
    for name in ("train", "dev", "syntactic", "tsc"):
        phones = read_intervals(small / "annotations" / f"{name}.csv", "phones")
        for fileid, words in read_intervals(small / "annotations" / f"{name}.csv", "words").items():
            for word in words:
                inside = [p for p in phones[fileid] if word.onset <= p.onset and p.offset <= word.offset]
                assert [phone.label for phone in inside] == lexicon[word.label]
                assert (inside[0].onset, inside[-1].offset) == (word.onset, word.offset)


def test_phones_are_loud_and_silence_is_not(small: Path) -> None:
    phones = read_intervals(small / "annotations" / "dev.csv", "phones")
    energy: dict[bool, list[float]] = {True: [], False: []}
    for path in (small / "dev").rglob("*.wav"):
        waveform, _ = soundfile.read(path)
        for phone in phones[path.stem]:
            span = waveform[round(phone.onset * 16000) : round(phone.offset * 16000)]
            energy[phone.label == "SIL"].append(float(np.mean(span**2)))
    assert np.median(energy[False]) > 100 * np.median(energy[True])


def test_gold_has_the_columns_of_sLM21_and_names_every_file(small: Path) -> None:
    columns = {
        "lexical": "id,filename,voice,frequency,word,phones,length,correct",
        "syntactic": "id,filename,voice,type,subtype,transcription,correct",
    }
    for name, header in columns.items():
        folder = small / EVALUATION[name]
        assert (folder / "gold.csv").read_text().splitlines()[0] == header
        assert {row["filename"] for row in read_rows(folder / "gold.csv")} == {p.stem for p in folder.glob("*.wav")}
    assert sorted(path.name for path in (small / "tSC").iterdir())[:2] == ["0_0000_correct.wav", "1_0000_incorrect.wav"]


def test_frequency_counts_the_training_text(large: Path) -> None:
    words = read_intervals(large / "annotations" / "train.csv", "words")
    count = Counter(word.label for utterance in words.values() for word in utterance)
    gold = read_rows(large / EVALUATION["lexical"] / "gold.csv")
    assert all(int(row["frequency"]) == (count[row["word"]] if row["correct"] == "1" else 0) for row in gold)
    unheard = {word.spelling for word in UNHEARD}
    assert not unheard & count.keys()
    assert unheard & {row["word"] for row in gold}


def test_nonwords_obey_the_phonotactics_and_are_no_words(large: Path) -> None:
    lexicon = [row["phones"].split() for row in read_rows(large / "lexicon.csv")]
    attested = {bigram for phones in lexicon for bigram in pairwise(["#", *phones, "#"])}
    by_pair = defaultdict(dict)
    for row in read_rows(large / EVALUATION["lexical"] / "gold.csv"):
        by_pair[row["id"]][row["correct"]] = row
    assert len(by_pair) == 200
    for pair in by_pair.values():
        word, nonword = pair["1"]["phones"].split(), pair["0"]["phones"].split()
        assert len(word) == len(nonword) == int(pair["0"]["length"])
        assert word in lexicon
        assert nonword not in lexicon
        assert set(pairwise(["#", *nonword, "#"])) <= attested
        assert pair["0"]["word"] == ""
    nonwords = [pair["0"]["phones"] for pair in by_pair.values()]
    assert len(set(nonwords)) == len(nonwords)


def test_words_and_nonwords_share_their_phones(large: Path) -> None:
    rows = read_rows(large / EVALUATION["lexical"] / "gold.csv")
    for position in range(4):
        words, nonwords = (
            Counter(row["phones"].split()[position] for row in rows if row["correct"] == c) for c in ("1", "0")
        )
        assert words == nonwords


def test_right_and_wrong_sentences_share_their_words(large: Path) -> None:
    rows = read_rows(large / EVALUATION["syntactic"] / "gold.csv")
    for subtype in {row["subtype"] for row in rows}:
        good, bad = (
            Counter(w for r in rows if (r["subtype"], r["correct"]) == (subtype, c) for w in r["transcription"].split())
            for c in ("1", "0")
        )
        assert good == bad
    assert len({(row["id"], row["transcription"]) for row in rows}) == len(rows)


def test_no_right_sentence_is_in_the_training_text(large: Path) -> None:
    words = read_intervals(large / "annotations" / "train.csv", "words")
    text = " | ".join(" ".join(word.label for word in utterance) for utterance in words.values())
    rows = read_rows(large / EVALUATION["syntactic"] / "gold.csv")
    assert not any(row["transcription"] in text for row in rows)


def test_right_and_wrong_stories_have_the_same_endings(large: Path) -> None:
    words = read_intervals(large / "annotations" / "tsc.csv", "words")
    spoken = {fileid: [word.label for word in utterance] for fileid, utterance in words.items()}
    right, wrong = (Counter(w for pair in pairs(large, "tsc") for w in spoken[pair[side].stem]) for side in (0, 1))
    assert right == wrong


def chance(successes: Sequence[float]) -> bool:
    """Whether a share lies in the binomial 95% interval around one half."""
    return abs(np.mean(successes) - 0.5) <= 1.96 * math.sqrt(0.25 / len(successes))


@pytest.mark.parametrize("name", EVALUATION)
def test_length_alone_tells_nothing(large: Path, name: str) -> None:
    phones = read_intervals(large / "annotations" / f"{name}.csv", "phones")

    def longer(good: float, bad: float) -> float:
        return 1.0 if good > bad else 0.5 if good == bad else 0.0

    def num_phones(path: Path) -> int:
        return sum(phone.label != "SIL" for phone in phones[path.stem])

    def duration(path: Path) -> int:
        return int(soundfile.info(path).frames)

    files = pairs(large, name)
    assert len(files) >= 40
    assert chance([longer(num_phones(good), num_phones(bad)) for good, bad in files])
    assert chance([longer(duration(good), duration(bad)) for good, bad in files])
    assert chance([longer(duration(g) / num_phones(g), duration(b) / num_phones(b)) for g, b in files])


@pytest.mark.parametrize("name", EVALUATION)
def test_the_members_of_a_pair_sound_alike_but_for_what_they_say(large: Path, name: str) -> None:
    for good, bad in pairs(large, name)[:20]:
        first, second = (soundfile.read(path)[0][:800] for path in (good, bad))
        np.testing.assert_array_equal(first, second)


def test_inflection_follows_the_last_phone() -> None:
    forms = {word.spelling: inflect(word) for topic in TOPICS.values() for word in topic.nouns + topic.transitive}
    spelled = {name: (form.spelling, form.phones[-2:]) for name, form in forms.items()}
    assert spelled["rabbit"] == ("rabbits", ("T", "S"))
    assert spelled["bandage"] == ("bandages", ("IH0", "Z"))
    assert spelled["catch"] == ("catches", ("IH0", "Z"))
    assert spelled["donkey"] == ("donkeys", ("IY0", "Z"))


def test_no_two_forms_sound_alike() -> None:
    sounds = [without_stress(word.phones) for word in ALL_FORMS]
    assert len(set(sounds)) == len(sounds)


def test_a_crossing_and_its_words_have_the_same_phones() -> None:
    for crossing in crossings():
        words, nonwords = (Counter(p for w in side for p in w.phones) for side in (crossing.words, crossing.nonwords))
        assert words == nonwords


def test_an_unheard_word_is_never_crossed_with_a_heard_one() -> None:
    """Else its nonword has half a word of the vocabulary, and who knows the vocabulary is wrong."""
    kinds = Counter(sum(word in UNHEARD for word in crossing.words) for crossing in crossings())
    assert kinds[0] > 0
    assert kinds[1] == 0
    assert kinds[2] > 0


def test_sentences_agree_in_number() -> None:
    """Oracle: read the number off every word between the determiner and the noun, and off the verb."""
    singular = {w.spelling for w in grammar.SINGULAR_DETERMINERS}
    plural = {w.spelling for w in grammar.PLURAL_DETERMINERS}
    nouns = {
        form.spelling: number
        for t in TOPICS.values()
        for n in t.nouns
        for number, form in (("s", n), ("p", inflect(n)))
    }
    text = grammar.sentences(np.random.default_rng(0))
    for _ in range(300):
        ((*words,),) = next(text)
        determiner = ""
        for word in (word.spelling for word in words):
            if word in singular | plural:
                determiner = "s" if word in singular else "p"
            elif word == "the":
                determiner = ""
            elif word in nouns:
                assert determiner in ("", nouns[word])


def test_without_espeak_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(InputError, match="expected the package espeakng-loader"):
        installed()


def square(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 5:
        raise InputError("found 5")
    return number**2


def test_each_is_done_by_itself_in_order_and_its_error_is_ours() -> None:
    assert list(each_by_itself(square, [2, 1, 0, 4], 2)) == [4, 1, 0, 16]
    with pytest.raises(InputError, match="found 5"):
        list(each_by_itself(square, [2, 5], 2))


def test_a_process_that_is_killed_is_not_waited_for() -> None:
    with pytest.raises(ChildProcessError, match=r"a process of this job was killed \(exit code -9\)"):
        list(each_by_itself(square, range(5), 2))
