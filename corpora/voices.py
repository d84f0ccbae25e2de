"""The speakers of the synthetic corpus: generated voices of eSpeak NG, and how they speak.

A voice is a variant file with its own vocal tract length (a scale of the formants), pitch,
roughness, breath and tone. All speak American English, so that there is one phone inventory.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from artifacts.seeds import generator, seed_for
from corpora.annotations import SILENCE, Interval, Tier
from corpora.audio import SAMPLE_RATE_HZ
from corpora.espeak import SAMPLE_RATE_HZ as ESPEAK_RATE_HZ
from corpora.espeak import Espeak, Sound
from corpora.grammar import Document
from corpora.lexicon import Phones, without_stress

# fmt: off
MNEMONICS = {
    "AA": "A:", "AE": "a", "AH": "V", "AO": "O:", "AW": "aU", "AY": "aI", "EH": "E", "ER": "3:", "EY": "eI",
    "IH": "I", "IY": "i:", "OW": "oU", "OY": "OI", "UH": "U", "UW": "u:",
    "B": "b", "CH": "tS", "D": "d", "DH": "D", "F": "f", "G": "g", "HH": "h", "JH": "dZ", "K": "k", "L": "l",
    "M": "m", "N": "n", "NG": "N", "P": "p", "R": "r", "S": "s", "SH": "S", "T": "t", "TH": "T", "V": "v",
    "W": "w", "Y": "j", "Z": "z", "ZH": "Z",
}
# fmt: on
"""ARPAbet -> eSpeak's mnemonic."""
UNSTRESSED = {"AH": "@", "ER": "3", "IY": "i"}
"""Vowels that eSpeak writes in another way where they bear no stress."""
STRESS = {"1": "'", "2": ",", "0": ""}

LINKS = {"r-", ";"}
"""Glides that eSpeak puts between two vowels (`under a`, `every ox`): they belong to the first."""

MIN_PHONE_S = 0.012
"""A shorter phone has no sound of its own and goes to its neighbour."""


@dataclass(frozen=True, slots=True)
class Voice:
    """One speaker; `variant` is the text of its eSpeak voice file, `rate` in words a minute."""

    name: str
    gender: str
    rate: int
    pitch_range: int
    variant: str


def draw_voice(seed: int, index: int) -> Voice:
    """The voice of speaker `index`; even ones are female, odd ones male."""
    rng = generator(seed, "voice", index)
    name, female = f"s{index:03d}", index % 2 == 0
    tract = rng.uniform(1.02, 1.24) if female else rng.uniform(0.86, 1.04)
    pitch_hz = rng.uniform(135, 200) if female else rng.uniform(70, 115)
    lines = [
        "language variant",
        f"name {name}",
        f"gender {'female' if female else 'male'}",
        f"pitch {pitch_hz:.0f} {pitch_hz * rng.uniform(1.35, 1.75):.0f}",
        "formant 0 100 100 100",
        *(
            f"formant {number} {100 * tract * rng.uniform(0.95, 1.05):.0f} {rng.integers(85, 116)} "
            f"{rng.integers(85, 121)}"
            for number in range(1, 9)
        ),
        f"flutter {rng.integers(1, 7)}",
        f"roughness {rng.integers(5)}",
        f"consonants {rng.integers(80, 121)} {rng.integers(80, 121)}",
        f"tone 600 {rng.integers(120, 256)} 1200 {rng.integers(80, 201)} 3000 {rng.integers(60, 181)}",
    ]
    if rng.random() < 0.5:
        lines.append(f"breath 0 {rng.integers(4)} 3 3 3 3 2")
    rate, pitch_range = int(rng.integers(135, 186)), int(rng.integers(30, 71))
    return Voice(name, "f" if female else "m", rate, pitch_range, "\n".join(lines) + "\n")


def write_data(source: Path, folder: Path, voices: Sequence[Voice]) -> None:
    """Copy eSpeak's data, English alone, into `folder`, with one variant file a voice."""
    (folder / "voices" / "!v").mkdir(parents=True)
    (folder / "lang" / "gmw").mkdir(parents=True)
    for name in ("phondata", "phonindex", "phontab", "intonations", "en_dict", "lang/gmw/en-US"):
        shutil.copy(source / name, folder / name)
    for voice in voices:
        (folder / "voices" / "!v" / voice.name).write_text(voice.variant, encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Delivery:
    """How one utterance is spoken; the two members of a test pair share theirs."""

    rate: int
    pitch: int
    gain: float
    noise: float
    """Standard deviation of the white noise added."""
    lead_s: float
    tail_s: float
    seed: int


def draw_delivery(voice: Voice, seed: int, *purpose: str | int) -> Delivery:
    """A manner of speaking around the voice's own."""
    rng = generator(seed, "delivery", voice.name, *purpose)
    return Delivery(
        rate=voice.rate + int(rng.integers(-8, 9)),
        pitch=50 + int(rng.integers(-8, 9)),
        gain=float(rng.uniform(0.35, 0.8)),
        noise=float(10 ** (rng.uniform(-60, -45) / 20)),
        lead_s=float(rng.uniform(0.05, 0.15)),
        tail_s=float(rng.uniform(0.05, 0.15)),
        seed=seed_for(seed, "noise", voice.name, *purpose),
    )


def mnemonics(phones: Phones) -> str:
    """A word in eSpeak's notation, its phones parted by `|`."""
    spoken = []
    for phone in phones:
        name, stress = (phone[:-1], phone[-1]) if phone[-1].isdigit() else (phone, "0")
        plain = UNSTRESSED.get(name, MNEMONICS[name]) if stress == "0" else MNEMONICS[name]
        spoken.append(STRESS[stress] + plain)
    return "[[" + "|".join(spoken) + "]]"


def speak(
    espeak: Espeak, voice: Voice, delivery: Delivery, document: Document, fileid: str, speaker: str
) -> tuple[np.ndarray, list[Interval]]:
    """Speak a document as one utterance.

    Args:
        fileid, speaker: Names for the annotation.

    Returns:
        The waveform at 16 kHz, float32 in [-1, 1], (num_samples,), and its intervals: phones, which
        follow each other without gaps from 0 to the end, silences included, then words. Every time
        is a whole number of samples.
    """
    espeak.set_voice(f"en-us+{voice.name}", delivery.rate, delivery.pitch, voice.pitch_range)
    text = " ".join(" ".join(mnemonics(word.phones) for word in sentence) + "." for sentence in document)
    sound = espeak.say(text, delivery.seed)
    speech = resample_poly(sound.samples.astype(np.float32) / 2**15, SAMPLE_RATE_HZ // 50, ESPEAK_RATE_HZ // 50)
    lead, tail = (round(time_s * SAMPLE_RATE_HZ) for time_s in (delivery.lead_s, delivery.tail_s))
    waveform = delivery.gain * np.concatenate([np.zeros(lead), speech, np.zeros(tail)])
    waveform += delivery.noise * np.random.default_rng(delivery.seed).standard_normal(len(waveform))
    intervals = _annotate(sound, lead, len(waveform), document, fileid, speaker)
    return np.clip(waveform, -1, 1).astype(np.float32), intervals


def _annotate(
    sound: Sound, lead: int, num_samples: int, document: Document, fileid: str, speaker: str
) -> list[Interval]:
    words = [word for sentence in document for word in sentence]
    phones = ((index, phone) for index, word in enumerate(words) for phone in without_stress(word.phones))
    onsets = [lead + round(sample * SAMPLE_RATE_HZ / ESPEAK_RATE_HZ) for sample, _ in sound.onsets]
    marks: list[tuple[int, str, int]] = [(0, SILENCE, -1)]  # (onset in samples, phone, index of its word)
    for (_, mnemonic), onset, offset in zip(sound.onsets, onsets, [*onsets[1:], num_samples], strict=True):
        if mnemonic in LINKS:
            continue
        # A pause's mnemonic starts with an underscore; all others are our phones in our order, though
        # eSpeak names allophones in its own way.
        word, label = (-1, SILENCE) if mnemonic.startswith("_") else next(phones, (-1, ""))
        if not label:
            raise RuntimeError(f"{fileid}: eSpeak NG spoke more phones than it was given")
        heard = offset - onset >= MIN_PHONE_S * SAMPLE_RATE_HZ
        if heard and not label == marks[-1][1] == SILENCE:
            marks.append((onset, label, word))
    if next(phones, None) is not None:
        raise RuntimeError(f"{fileid}: eSpeak NG spoke fewer phones than it was given")

    def interval(onset: int, offset: int, label: str, tier: Tier) -> Interval:
        return Interval(fileid, onset / SAMPLE_RATE_HZ, offset / SAMPLE_RATE_HZ, label, tier, speaker)

    spans = list(zip(marks, [*(onset for onset, _, _ in marks[1:]), num_samples], strict=True))
    intervals = [interval(onset, offset, label, "phones") for (onset, label, _), offset in spans]
    for index, group in groupby(spans, key=lambda span: span[0][2]):
        if index >= 0:
            members = list(group)
            label = words[index].spelling or "".join(without_stress(words[index].phones))
            intervals.append(interval(members[0][0][0], members[-1][1], label, "words"))
    return intervals
