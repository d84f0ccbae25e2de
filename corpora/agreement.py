"""Whether annotations and audio agree: every disagreement of a corpus, told at once."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise, takewhile
from pathlib import PurePosixPath

from artifacts.errors import InputError
from corpora.annotations import SILENCE, TIERS, Interval, Tier
from corpora.audio import SAMPLE_RATE_HZ
from corpora.importers.source import Labelled, Span
from corpora.items import HOP_SAMPLES
from corpora.layouts import some
from corpora.manifest import Utterance

NO_WORD = frozenset({"", "sil", "sp", "spn", "<sil>", "<eps>", "<unk>", "h#"})
"""Silence, noise and words unknown to the aligner, as Kaldi, the Montreal Forced Aligner and TIMIT write them, in small
letters."""
NO_PHONE = NO_WORD | {"pau", "epi"}
"""And pauses within TIMIT's sentences."""
STRESSED = re.compile(r"(?P<vowel>[AEIOU][A-Z]{1,2})[012]")
"""A vowel of ARPAbet with its stress, as in CMUdict."""

LEAST_COVERED_S = 0.1
"""How far labels of frames may end before the audio does: encoders and aligners drop parts of frames at the end."""

UNKNOWN = "annotated, but not in the manifest"
AMBIGUOUS = "names that several utterances of the manifest may have"
TWICE = "utterances with a tier given twice, or in pieces that do not stand together"
EMPTY = "intervals that are empty, end before they begin or begin before 0 s"
OVERLAPPING = "intervals that begin before the one before them ends"
LATE = "utterances with intervals past the end of their audio by more than a frame"
SHORT = f"utterances whose frames end more than {LEAST_COVERED_S} s before their audio (is the frame rate right?)"
FOREIGN = "utterances with another speaker than the manifest"
AWKWARD = "phone labels with a space or a hyphen"
MISSING: dict[Tier, str] = {"phones": "utterances without phones", "words": "utterances without words"}


class Agreement:
    """What is found wrong while the tiers of the utterances of a manifest come by, in any order.

    Only names and numbers are kept, so that annotations may be of any size.
    """

    def __init__(self, utterances: Sequence[Utterance]) -> None:
        self.utterances = utterances
        self.found: dict[str, set[str]] = defaultdict(set)
        """Problem -> what has it."""
        self._by_fileid = {utterance.fileid: utterance for utterance in utterances}
        self._by_last_part: dict[str, list[Utterance]] = defaultdict(list)
        for utterance in utterances:
            for name in {PurePosixPath(utterance.fileid).name, utterance.path.stem}:
                self._by_last_part[name].append(utterance)
        self._tiers: dict[Tier, set[str]] = {tier: set() for tier in TIERS}

    def take(self, labelled: Labelled) -> list[Interval]:
        """The intervals of one tier of one utterance, in order, in the labels of the interval table.

        Silence and noise become ``SIL`` among phones and nothing among words; ARPAbet loses its stress. What cannot
        be told to be an utterance's, or is one's already, gives no intervals.
        """
        utterance = self._utterance(labelled.name)
        if utterance is None:
            return []
        if utterance.fileid in self._tiers[labelled.tier]:
            self.found[TWICE].add(f"{utterance.fileid}: {labelled.tier}")
            return []
        duration_s = utterance.num_samples / SAMPLE_RATE_HZ
        if labelled.covers_s is not None and labelled.covers_s < duration_s - LEAST_COVERED_S:
            self.found[SHORT].add(f"{utterance.fileid}: {labelled.covers_s:.2f} of {duration_s:.2f} s")
        speaker = utterance.speaker if labelled.speaker is None else labelled.speaker
        intervals = [
            Interval(utterance.fileid, span.onset, span.offset, span.label, labelled.tier, speaker)
            for span in sorted(_relabelled(labelled.spans, labelled.tier))
        ]
        if labelled.tier == "phones" and not intervals:
            return []  # told as an utterance without phones
        self._check_times(intervals)
        self.compare(utterance, labelled.tier, intervals)
        return intervals

    def _check_times(self, intervals: Sequence[Interval]) -> None:
        for interval in intervals:
            if not 0 <= interval.onset < interval.offset:
                self.found[EMPTY].add(_place(interval))
        for first, second in pairwise(intervals):
            if second.onset < first.offset:
                self.found[OVERLAPPING].add(_place(second))

    def compare(self, utterance: Utterance, tier: Tier, intervals: Iterable[Interval]) -> None:
        """Hold the intervals of one tier against their utterance."""
        self._tiers[tier].add(utterance.fileid)
        end_s = (utterance.num_samples + HOP_SAMPLES) / SAMPLE_RATE_HZ
        for interval in intervals:
            if interval.offset > end_s:
                self.found[LATE].add(utterance.fileid)
            if interval.speaker != utterance.speaker:
                self.found[FOREIGN].add(f"{utterance.fileid}: {interval.speaker} for {utterance.speaker}")
            # Item files are space separated; fastabx joins labels by hyphens.
            if tier == "phones" and any(character.isspace() or character == "-" for character in interval.label):
                self.found[AWKWARD].add(repr(interval.label))

    def problems(self, tiers: Iterable[Tier]) -> dict[str, Collection[str]]:
        """All that was found so far, and the utterances that lack one of `tiers`."""
        missing = {MISSING[tier]: self._by_fileid.keys() - self._tiers[tier] for tier in tiers}
        return {what: names for what, names in (self.found | missing).items() if names}

    def tiers(self) -> list[Tier]:
        """The tiers that any utterance has so far."""
        return [tier for tier in TIERS if self._tiers[tier]]

    def _utterance(self, name: str) -> Utterance | None:
        """The utterance whose fileid `name` is, or that which shares most of the end of its path.

        A path agrees with a fileid where one of the two is the end of the other, and with the path of an audio file
        where folder and file are the same: TIMIT has a ``SA1.PHN`` for each speaker.
        """
        if name in self._by_fileid:
            return self._by_fileid[name]
        path = PurePosixPath(re.sub(r"\.(wav|flac)$", "", name, flags=re.IGNORECASE))
        likeness = {u.fileid: _likeness(path, u) for u in self._by_last_part.get(path.name, ())}
        best = max(likeness.values(), default=0)
        if best == 0:
            self.found[UNKNOWN].add(name)
            return None
        likest = [fileid for fileid, like in likeness.items() if like == best]
        if len(likest) > 1:
            self.found[AMBIGUOUS].add(f"{name}: {likest[0]} or {likest[1]}")
            return None
        return self._by_fileid[likest[0]]


def _likeness(path: PurePosixPath, utterance: Utterance) -> int:
    """How many parts, from the last, a path shares with an utterance's fileid or audio path; 0 is no agreement."""
    fileid = PurePosixPath(utterance.fileid)
    with_fileid = _shared(path, fileid)
    if with_fileid < min(len(path.parts), len(fileid.parts)):
        with_fileid = 0
    with_audio = _shared(path, PurePosixPath(utterance.path.with_suffix("")))
    return max(with_fileid, with_audio if with_audio > 1 else 0)


def _shared(one: PurePosixPath, other: PurePosixPath) -> int:
    pairs = zip(reversed(one.parts), reversed(other.parts), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _relabelled(spans: Iterable[Span], tier: Tier) -> Iterator[Span]:
    for span in spans:
        label = span.label.strip()
        if tier == "words":
            if label.lower() not in NO_WORD:
                yield span._replace(label=label)
        elif label.lower() in NO_PHONE:
            yield span._replace(label=SILENCE)
        else:
            match = STRESSED.fullmatch(label)
            yield span._replace(label=match["vowel"] if match else label)


def _place(interval: Interval) -> str:
    return f"{interval.fileid}: {interval.tier} {interval.onset:g} to {interval.offset:g} s"


def raise_problems(where: str, problems: Mapping[str, Collection[str]]) -> None:
    """Raise one `InputError` that names all problems, how many there are of each and the first few, if there is any."""
    if problems:
        raise InputError(f"{where}: {'; '.join(f'{what}: {some(names)}' for what, names in problems.items())}")
