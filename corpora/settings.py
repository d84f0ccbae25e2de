"""The corpora of an experiment: which layout the speech lies in, and where."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from artifacts.errors import InputError
from artifacts.settings import Settings, load_settings


def _is_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"found {pattern!r}, expected a regular expression ({error})") from None
    return pattern


def _names_speaker(pattern: str) -> str:
    if "speaker" not in re.compile(_is_pattern(pattern)).groupindex:
        raise ValueError(f"found {pattern!r}, expected a group named speaker: (?P<speaker>...)")
    return pattern


def _once_each(subsets: list[str]) -> list[str]:
    if len(set(subsets)) < len(subsets):
        raise ValueError(f"found {subsets}, expected each once")
    return subsets


def _is_text_source(texts: str) -> str:
    if texts not in TEXT_TIERS and not texts.endswith((".csv", ".jsonl")):
        raise ValueError(f"found {texts!r}, expected words, phones, or the path of a .csv or .jsonl file")
    return texts


TEXT_TIERS = ("words", "phones")
"""Texts that the annotations give: the words as they are labelled, or each word as its phones."""
TextSource = Annotated[str, AfterValidator(_is_text_source)]

LibriSpeechSubset = Literal[
    "train-clean-100", "train-clean-360", "train-other-500", "dev-clean", "dev-other", "test-clean", "test-other"
]
LibriLightSubset = Literal["small", "medium", "large"]
LIBRILIGHT_PARTS: tuple[LibriLightSubset, ...] = ("small", "medium", "large")
"""The archives of Libri-Light; each subset is the one of its name and those before it."""
LibriheavyPart = Literal[
    "small", "medium", "large", "dev", "test_clean", "test_other", "test_clean_large", "test_other_large"
]


def parts_of(subset: LibriLightSubset | None, part: LibriheavyPart | None) -> tuple[LibriheavyPart, ...]:
    """The parts of Libri-Light, or of Libriheavy, that the one of both keys which is given means."""
    if (subset is None) == (part is None):
        found = "neither" if subset is None else "both"
        raise ValueError(f"found {found} subset {'nor' if subset is None else 'and'} part, expected one of them")
    return (part,) if part else LIBRILIGHT_PARTS[: LIBRILIGHT_PARTS.index(subset) + 1] if subset else ()


class SyntheticSettings(Settings):
    """A synthetic corpus made with eSpeak NG: a source, whose folders the other layouts read.

    It holds `train`, `valid` and `dev` (speech of disjoint speakers), `sLM21` (sWUGGY and sBLIMP)
    and `tSC`, with `annotations/{train,valid,dev,lexical,syntactic,tsc}.csv` and `speakers.csv`.
    """

    layout: Literal["synthetic"]
    """Speech synthesised on the spot."""
    speakers: int = Field(24, ge=20, le=500)
    """Number of voices, half of them female: a fifth for `dev`, a tenth for `valid`, the rest for `train`."""
    training_minutes: float = Field(gt=0)
    """Least speech of `train`, in minutes; each voice finishes its last utterance."""
    valid_minutes: float = Field(gt=0)
    """Least speech of `valid`, in minutes, by voices of its own."""
    dev_utterances: int = Field(ge=1)
    """Utterances of `dev`, the annotated set for unit metrics, by voices of its own."""
    word_pairs: int = Field(ge=2, multiple_of=2)
    """Pairs of a word and a nonword in `sLM21/lexical/dev`: an even number; the lexicon gives about 550."""
    sentence_pairs: int = Field(ge=2, le=2000, multiple_of=2)
    """Pairs of a right and a wrong sentence in `sLM21/syntactic/dev`: an even number, they come in mirrored twos."""
    story_pairs: int = Field(ge=2, multiple_of=2)
    """Pairs of a story with a fitting and with an unfitting ending in `tSC`: an even number, likewise."""
    isolated_words: float = Field(0.25, ge=0, le=1)
    """Share of the training utterances that are a single word, as sWUGGY's are."""


class FolderSettings(Settings):
    """A folder of WAV and FLAC files, at any depth, loose or in uncompressed tar archives: one's own recordings.

    What lies in `a.tar` has the path it would have in a folder named `a.tar`.
    """

    layout: Literal["folder"]
    """Every .wav and .flac file below one folder; the fileid is the file's name without extension."""
    path: str
    """The folder; relative to the source where one is named. `${NAME}` stands for an environment variable."""
    source: str | None = None
    """Name of the synthetic corpus that the paths are relative to."""
    files: Annotated[str, AfterValidator(_is_pattern)] = ""
    """Regular expression: only files in whose path relative to the folder it is found. All by default."""
    speaker_pattern: Annotated[str, AfterValidator(_names_speaker)] = r"^(?P<speaker>[^/]+)/"
    """Regular expression searched in a file's path relative to the folder; its group `speaker` names the speaker."""
    speakers: str | None = None
    """CSV with `speaker,gender`; relative to the source where one is named."""
    annotations: str | None = None
    """Interval table, or another form of docs/annotations.md; relative to the source where one is named."""
    texts: TextSource | None = None
    """What is said, for the topline of text: a table (docs/slm-data.md), relative to the source where one is named, or
    `words` or `phones` for what the annotations tell."""


class LibriSpeechSettings(Settings):
    """LibriSpeech, as it is unpacked: speakers are folders, their genders in `SPEAKERS.TXT`."""

    layout: Literal["librispeech"]
    """`<path>/<subset>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac`."""
    path: str
    """The folder that holds `SPEAKERS.TXT` and the subsets, as folders or as uncompressed `<subset>.tar`."""
    source: str | None = None
    """Name of the synthetic corpus that the paths are relative to."""
    subsets: Annotated[list[LibriSpeechSubset], Field(min_length=1), AfterValidator(_once_each)]
    """Which subsets, in this order; the three of `train` are the 960 hours."""
    annotations: str | None = None
    """Interval table, or another form of docs/annotations.md; relative to the source where one is named."""
    texts: TextSource | None = None
    """What is said, for the topline of text: a table (docs/slm-data.md), relative to the source where one is named, or
    `words` or `phones` for what the annotations tell."""


class LibriLightSettings(Settings):
    """Libri-Light, as it is distributed or cut into pieces: speakers are folders, their genders unknown."""

    layout: Literal["librilight"]
    """`<path>/<part>/<speaker>/<book>/<file>.flac`; the fileid is the path from the speaker on, without extension."""
    path: str
    """The folder that holds the parts `small`, `medium` and `large`, as folders or as uncompressed `<part>.tar`."""
    source: str | None = None
    """Name of the synthetic corpus that the paths are relative to."""
    subset: LibriLightSubset | None = None
    """`small` is 577 hours; `medium` (5,770) has `small` in it, and `large` (57,706) both: all their parts are read.
    Either this or `part`."""
    part: LibriLightSubset | None = None
    """This one alone: `train: [ll-small, ll-medium]` of two parts is the subset `medium`, and `ll-small` is tokenized
    once for both subsets. Either this or `subset`."""
    annotations: str | None = None
    """Interval table, or another form of docs/annotations.md; relative to the source where one is named."""
    texts: TextSource | None = None
    """What is said, for the topline of text: a table (docs/slm-data.md), relative to the source where one is named, or
    `words` or `phones` for what the annotations tell."""

    @model_validator(mode="after")
    def _means_parts(self) -> Self:
        parts_of(self.subset, self.part)
        return self

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that are read, in order."""
        return parts_of(self.subset, self.part)


class LibriheavySettings(Settings):
    """Libriheavy (Kang et al. 2023): the texts of Libri-Light's books, cut as they are read. No audio is touched."""

    layout: Literal["libriheavy"]
    """`<path>/libriheavy_cuts_<part>.jsonl.gz`, as released."""
    path: str
    """The folder that holds these files."""
    subset: LibriLightSubset | None = None
    """Cumulative, as those of Libri-Light. Either this or `part`."""
    part: LibriheavyPart | None = None
    """One file alone. Either this or `subset`."""
    transcript: Literal["book", "recognized"] = "book"
    """`book` is the book's own text, with case and punctuation: what the paper trains its text topline on, and what
    OPT's tokenizer was made for. `recognized` is the recogniser's, capitals without punctuation."""

    @model_validator(mode="after")
    def _means_parts(self) -> Self:
        parts_of(self.subset, self.part)
        return self

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that are read, in order."""
        return parts_of(self.subset, self.part)


class ZeroSpeechSettings(Settings):
    """The sLM21 evaluation sets of ZeroSpeech 2021: sWUGGY (lexical) and sBLIMP (syntactic)."""

    layout: Literal["zerospeech2021"]
    """`<path>/<task>/<split>/*.wav` with `gold.csv`."""
    path: str
    """The folder that holds `lexical` and `syntactic`; relative to the source where one is named."""
    source: str | None = None
    """Name of the synthetic corpus that the paths are relative to."""
    task: Literal["lexical", "syntactic"]
    """`lexical` is sWUGGY, `syntactic` sBLIMP."""
    split: Literal["dev", "test"] = "dev"
    """Which split."""
    annotations: str | None = None
    """Interval table, for the topline of true phones; relative to the source where one is named."""
    texts: TextSource | None = None
    """What is said, for the topline of text: a table (docs/slm-data.md), relative to the source where one is named, or
    `words` or `phones` for what the annotations tell. By default what gold.csv has: words, or sentences."""


class StoryClozeSettings(Settings):
    """The topic StoryCloze of TWIST (tSC), or sSC, which has the same layout."""

    layout: Literal["twist"]
    """`<path>/<2k>_<id>_correct.wav` beside `<2k+1>_<id>_incorrect.wav`."""
    path: str
    """The folder of the files; relative to the source where one is named."""
    source: str | None = None
    """Name of the synthetic corpus that the paths are relative to."""
    annotations: str | None = None
    """Interval table, for the topline of true phones; relative to the source where one is named."""
    texts: TextSource | None = None
    """What is said, for the topline of text: a table (docs/slm-data.md), relative to the source where one is named, or
    `words` or `phones` for what the annotations tell."""


class ProsAuditSettings(Settings):
    """prosAudit of ZeroSpeech: pauses between phrases (protosyntax) or words (lexical) against pauses inside."""

    layout: Literal["prosaudit"]
    """`<path>/english/<split>/*.wav` with `gold.csv`."""
    path: str
    """The folder that holds `english`; relative to the source where one is named."""
    source: str | None = None
    """Name of the synthetic corpus that the paths are relative to."""
    split: Literal["dev", "test"] = "dev"
    """Which split."""
    annotations: str | None = None
    """Interval table, for the topline of true phones; relative to the source where one is named."""


SALMON_CONSISTENCY = (
    *("bg_all_consistency", "bg_domain_consistency", "gender_consistency"),
    *("rir_consistency", "sentiment_consistency", "speaker_consistency"),
)
SALMON_ALIGNMENT = ("bg_alignment", "sentiment_alignment")
SALMON_TASKS = (*SALMON_CONSISTENCY, *SALMON_ALIGNMENT)
"""Parts of SALMon (Maimon et al. 2025), each a folder."""


class SalmonSettings(Settings):
    """SALMon: speech that keeps, or fits, its speaker, room, background or sentiment, against speech that does not."""

    layout: Literal["salmon"]
    """`<path>/<task>/sample_<id>_0.wav` beside `sample_<id>_1.wav`, for each of the eight tasks."""
    path: str
    """The folder that holds the tasks' folders; relative to the source where one is named."""
    source: str | None = None
    """Name of the synthetic corpus that the paths are relative to."""
    annotations: str | None = None
    """Interval table, for the topline of true phones; relative to the source where one is named."""


class SlamkitSettings(Settings):
    """Pairs as SlamKit has them: a file whose name starts with 2k against the one whose name starts with 2k + 1."""

    layout: Literal["slamkit"]
    """`<path>/<number>_*.wav`, or `<path>/<group>/<number>_*.wav`; even numbers are correct."""
    path: str
    """The folder of the files, or of the groups' folders; relative to the source where one is named."""
    source: str | None = None
    """Name of the synthetic corpus that the paths are relative to."""
    annotations: str | None = None
    """Interval table, for the topline of true phones; relative to the source where one is named."""
    texts: TextSource | None = None
    """What is said, for the topline of text: a table (docs/slm-data.md), relative to the source where one is named, or
    `words` or `phones` for what the annotations tell."""


class PairsSettings(Settings):
    """Pairs of one's own, from a table."""

    layout: Literal["pairs"]
    """A CSV with the columns `id,positive,negative`, perhaps `voice`, and any others, which group the pairs."""
    table: str
    """The table; relative to the source where one is named."""
    path: str
    """The folder that its files are below; relative to the source where one is named."""
    source: str | None = None
    """Name of the synthetic corpus that the paths are relative to."""
    annotations: str | None = None
    """Interval table, for the topline of true phones; relative to the source where one is named."""
    texts: TextSource | None = None
    """What is said, for the topline of text: a table (docs/slm-data.md), relative to the source where one is named, or
    `words` or `phones` for what the annotations tell."""


SetAt = ZeroSpeechSettings | StoryClozeSettings | ProsAuditSettings | SalmonSettings | SlamkitSettings | PairsSettings
"""An evaluation set that lies somewhere."""

SPEECH_LAYOUTS = ("folder", "librispeech", "librilight")
"""Layouts of speech that models are trained on and units made of."""

CorpusAt = FolderSettings | LibriSpeechSettings | LibriLightSettings | SetAt
"""A corpus that lies somewhere, and is not made."""

Corpus = Annotated[SyntheticSettings | LibriheavySettings | CorpusAt, Field(discriminator="layout")]
"""One corpus of an experiment."""


def has_texts(corpus: Corpus) -> bool:
    """Whether it is known what is said in a corpus: its settings name texts, or it has some of its own."""
    return corpus.layout in ("libriheavy", "zerospeech2021") or getattr(corpus, "texts", None) is not None


class _Layout(Settings):
    """What tells the layouts apart."""

    model_config = ConfigDict(extra="ignore")

    layout: Literal[
        "folder", "librispeech", "librilight", "zerospeech2021", "twist", "prosaudit", "salmon", "slamkit", "pairs"
    ]


def load_corpus(text: str) -> CorpusAt:
    """Settings of a corpus that lies somewhere, from a file or a JSON object.

    Raises:
        InputError: One line that names every wrong key.
    """
    match load_settings(_Layout, text).layout:
        case "folder":
            return load_settings(FolderSettings, text)
        case "librispeech":
            return load_settings(LibriSpeechSettings, text)
        case "librilight":
            return load_settings(LibriLightSettings, text)
        case "zerospeech2021":
            return load_settings(ZeroSpeechSettings, text)
        case "twist":
            return load_settings(StoryClozeSettings, text)
        case "prosaudit":
            return load_settings(ProsAuditSettings, text)
        case "salmon":
            return load_settings(SalmonSettings, text)
        case "slamkit":
            return load_settings(SlamkitSettings, text)
        case "pairs":
            return load_settings(PairsSettings, text)


def locate(path: str, key: str, source: Path | None) -> Path:
    """Where a path of the settings points: environment variables filled in, and below `source` if there is one.

    Args:
        path: As it stands in the settings.
        key: Its key there, for messages.

    Raises:
        InputError: An environment variable is not defined.
    """

    def value(match: re.Match[str]) -> str:
        if match["name"] not in os.environ:
            raise InputError(f"{key}: found {path}, expected the environment variable {match['name']} to be defined")
        return os.environ[match["name"]]

    expanded = Path(re.sub(r"\$\{(?P<name>\w+)\}", value, path))
    return expanded if source is None else source / expanded
