"""Inputs of the metrics' benchmark: a synthetic corpus and evaluation sets of the sizes of those in use."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from artifacts.files import write_csv, write_json
from corpora.annotations import SILENCE, Interval, interval_writer
from corpora.manifest import Utterance, write_manifest
from units.features import FeatureWriter
from units.records import UnitSequence, run_length, write_units

FRAME_RATE_HZ = 50
SAMPLES_PER_FRAME = 320
NUM_PHONES = 39
NUM_UNITS = 256
VOICES = 4
TYPES = 12
ITEM_COLUMNS = "#file onset offset #phone prev-phone next-phone speaker"

type Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is of everything; the defaults are LibriSpeech's dev-clean, and the dev sets of sLM21."""

    speakers: int = 40
    utterances: int = 2703
    tokens: int = 44_954
    types: int = 3568
    dim: int = 768
    triphones: int = 10_000
    """Of the item file of ABX: the first ones of each speaker of the first quarter."""
    lexical: int = 5000
    syntactic: int = 6300


SMALL = Size(speakers=4, utterances=40, tokens=600, types=60, dim=32, triphones=600, lexical=50, syntactic=60)


def make_corpus(folder: Path, size: Size) -> int:
    """Features, word list, item file, intervals, manifest and units of one corpus; returns the number of frames.

    Words are drawn with probabilities as 1 / (rank + 1), and each occurs twice at least; phones, as 1 / (rank + 3). A
    frame is its phone's vector, half of its speaker's, and noise. A unit is a number that its phone has four of, and
    one time in three any other.
    """
    rng = np.random.default_rng(0)
    phone_shares = 1 / np.arange(4, NUM_PHONES + 4)
    phone_shares /= phone_shares.sum()
    pronunciations = [rng.choice(NUM_PHONES, rng.integers(2, 7), p=phone_shares) for _ in range(size.types)]
    shares = 1 / np.arange(2, size.types + 2)
    drawn = rng.choice(size.types, size.tokens - 2 * size.types, p=shares / shares.sum())
    tokens = rng.permutation(np.concatenate((np.arange(size.types), np.arange(size.types), drawn)))
    phone_vectors = rng.standard_normal((NUM_PHONES + 1, size.dim), dtype=np.float32)
    speaker_vectors = rng.standard_normal((size.speakers, size.dim), dtype=np.float32) / 2
    words, items, utterances, units = [], [], [], []
    item_speakers = max(2, size.speakers // 4)
    left = dict.fromkeys(range(item_speakers), size.triphones // item_speakers)
    with (
        FeatureWriter(folder / "features", {"frame_rate_hz": float(FRAME_RATE_HZ)}) as features,
        interval_writer(folder / "intervals.csv") as write_intervals,
    ):
        for number, spoken in enumerate(np.array_split(tokens, size.utterances)):
            speaker = number * size.speakers // size.utterances
            fileid, name = f"u{number:05d}", f"s{speaker:02d}"
            phones, durations, starts = _speech(rng, [pronunciations[word] for word in spoken])
            ends = np.cumsum(durations)
            onsets = ends - durations
            for word, start in zip(spoken, starts, strict=True):
                stop = start + len(pronunciations[word])
                times = {"onset": onsets[start] / FRAME_RATE_HZ, "offset": ends[stop - 1] / FRAME_RATE_HZ}
                words.append({"fileid": fileid, **times, "label": f"w{word}", "speaker": name})
            for place in range(1, len(phones) - 1):
                if NUM_PHONES not in phones[place - 1 : place + 2] and left.get(speaker):
                    left[speaker] -= 1
                    previous, phone, following = phones[place - 1 : place + 2]
                    span = f"{onsets[place] / FRAME_RATE_HZ} {ends[place] / FRAME_RATE_HZ}"
                    items.append(f"{fileid} {span} p{phone} p{previous} p{following} {name}")
            write_intervals(
                Interval(fileid, on / FRAME_RATE_HZ, off / FRAME_RATE_HZ, _label(phone), "phones", name)
                for phone, on, off in zip(phones.tolist(), onsets.tolist(), ends.tolist(), strict=True)
            )
            frames = np.repeat(phones, durations)
            noise = rng.standard_normal((len(frames), size.dim), dtype=np.float32)
            features.write(fileid, phone_vectors[frames] + speaker_vectors[speaker] + 2 * noise)
            utterances.append(Utterance(fileid, folder / f"{fileid}.flac", len(frames) * SAMPLES_PER_FRAME, name))
            own = frames * 4 + rng.integers(4, size=len(frames))
            anything = rng.integers(NUM_UNITS, size=len(frames))
            units.append(UnitSequence(fileid, *run_length(np.where(rng.random(len(frames)) < 1 / 3, anything, own))))
    write_csv(folder / "words.csv", tuple(words[0]), words)
    write_manifest(folder / "manifest.csv", utterances)
    write_units(folder / "units.jsonl", units)
    write_json(folder / "vocabulary.json", {"num_units": NUM_UNITS, "frame_rate_hz": FRAME_RATE_HZ})
    (folder / "triphone.item").write_text("\n".join([ITEM_COLUMNS, *items]) + "\n", encoding="utf-8")
    return sum(utterance.num_samples for utterance in utterances) // SAMPLES_PER_FRAME


def _label(phone: int) -> str:
    return SILENCE if phone == NUM_PHONES else f"p{phone}"


def _speech(rng: np.random.Generator, words: list[Integers]) -> tuple[Integers, Integers, list[int]]:
    """Phones of an utterance, their frames, and where in them each word begins; silence about it and here and there."""
    silence = np.array([NUM_PHONES])
    parts, starts, length = [silence], [], 1
    for word in words:
        starts.append(length)
        parts.append(word)
        length += len(word)
        if rng.random() < 0.2:
            parts.append(silence)
            length += 1
    phones = np.concatenate([*parts, silence])
    return (
        phones,
        np.where(phones == NUM_PHONES, rng.integers(5, 25, len(phones)), rng.integers(3, 7, len(phones))),
        starts,
    )


def make_pairs(folder: Path, size: Size) -> None:
    """items.csv and likelihoods.csv of `lexical` and `syntactic`: 4 voices an item, 2 stimuli a voice."""
    rng = np.random.default_rng(1)
    sets: dict[str, tuple[int, dict[str, str]]] = {
        "lexical": (size.lexical, {"frequency": "{0}", "word": "w{0}", "phones": "a b", "length": "5"}),
        "syntactic": (size.syntactic, {"type": "t{1}", "subtype": "s{1}", "transcription": "a sentence {0}"}),
    }
    for name, (count, columns) in sets.items():
        rows = [
            {
                **{"fileid": f"{item}_{voice}_{correct}", "id": item, "voice": f"v{voice}", "correct": correct},
                **{column: text.format(item, item % TYPES) for column, text in columns.items()},
            }
            for item in range(count)
            for voice in range(VOICES)
            for correct in (1, 0)
        ]
        log_likelihoods = -rng.gamma(20, 2, len(rows)) - [1 - row["correct"] for row in rows]  # type: ignore[operator]
        likelihoods = [
            {"fileid": row["fileid"], "log_likelihood": value, "num_tokens": 20}
            for row, value in zip(rows, log_likelihoods.tolist(), strict=True)
        ]
        write_csv(folder / name / "items.csv", tuple(rows[0]), rows)
        write_csv(folder / name / "likelihoods.csv", tuple(likelihoods[0]), likelihoods)
