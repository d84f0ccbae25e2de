"""What an experiment measures: metrics, the corpora and sets they are measured on, and their conditions."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from artifacts.settings import Settings

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+(-[A-Za-z0-9_]+)*$")]
"""Letters, digits, ``_`` and single ``-``: names are folders, and ``--`` parts the two of a comparison."""

ZEROSHOT_LAYOUTS = {
    "swuggy": ("zerospeech2021",),
    "sblimp": ("zerospeech2021",),
    "tsc": ("twist", "slamkit"),
    "ssc": ("twist", "slamkit"),
    "prosaudit": ("prosaudit",),
    "salmon": ("salmon",),
    "pairs": ("pairs", "slamkit"),
}
"""Layouts of the evaluation sets that each zero-shot metric can do with."""

ZEROSPEECH_TASKS = {"swuggy": "lexical", "sblimp": "syntactic"}
"""Which of the sLM21 sets a zero-shot metric is of: both have one layout."""

UNWRITTEN = ("prosaudit", "salmon")
"""Zero-shot metrics of how something is said, which no text tells."""


class Abx(Settings):
    """ABX discriminability of phones, on features, codebook predictions and units; each condition with each other."""

    corpora: list[Name] = Field(min_length=1)
    """Annotated corpora it is measured on."""
    conditions: list[Literal["within", "across"]] = Field(["within", "across"], min_length=1)
    """Speaker conditions: A, B and X from one speaker, or X from another."""
    contexts: list[Literal["within", "any"]] = Field(["within"], min_length=1)
    """Context conditions: A, B and X between the same neighbouring phones, or between any."""
    segments: list[Literal["triphone", "phoneme"]] = Field(["triphone"], min_length=1)
    """What A, B and X are: a phone with its neighbours, or a phone alone. The paper's are triphones within context."""
    resample: Literal["speakers", "pairs"] = "speakers"
    """What intervals and tests of comparisons draw: speakers, or pairs of phones where speakers are few."""

    @property
    def variants(self) -> list[str]:
        """What comes after the speaker condition in the names of scores: nothing for the paper's, else ``_any``,
        ``_phoneme`` or both.
        """
        return [
            f"{'_any' if context == 'any' else ''}{'_phoneme' if segments == 'phoneme' else ''}"
            for segments in self.segments
            for context in self.contexts
        ]


class Measured(Settings):
    """A metric measured on annotated corpora."""

    corpora: list[Name] = Field(min_length=1)
    """Annotated corpora it is measured on."""


class Words(Measured):
    """MAP@R over words: each token as a query for the others of its word."""

    variants: list[Literal["strict", "speech-map"]] = Field(["strict"], min_length=1)
    """Formulas, which are never compared with each other: ``strict`` ends at R (Musgrave et al. 2020, equation 3), that
    of the package speech-map, probably the paper's, does not."""


class Zeroshot(Settings):
    """A zero-shot metric of the language models."""

    set: Name
    """The evaluation set, one of the corpora."""


class Evaluation(Settings):
    """Which metrics are wanted, on which corpora. A metric that is not named is not computed."""

    abx: Abx | None = None
    """Continuous, codebook and unit ABX."""
    quality: Measured | None = None
    """PNMI, purities, perplexity, bitrate of the units."""
    map: Words | None = None
    """MAP@R over words of the features."""
    swuggy: Zeroshot | None = None
    """Words against nonwords."""
    sblimp: Zeroshot | None = None
    """Grammatical against ungrammatical sentences."""
    tsc: Zeroshot | None = None
    """Stories with a fitting against an unfitting ending."""
    ssc: Zeroshot | None = None
    """Stories with a fitting against a contradicting ending."""
    prosaudit: Zeroshot | None = None
    """Speech with pauses where they belong against pauses elsewhere, between phrases or between words."""
    salmon: Zeroshot | None = None
    """Speech that keeps, or fits, its speaker, room, background or sentiment against speech that does not."""
    pairs: Zeroshot | None = None
    """Pairs of one's own, by the columns that group them."""

    @property
    def zeroshot(self) -> dict[str, str]:
        """The evaluation set of each zero-shot metric that is wanted."""
        return {metric: wanted.set for metric, wanted in self if isinstance(wanted, Zeroshot)}
