"""The corpora of an experiment: which layout the speech lies in, and where."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

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
    """A folder of WAV and FLAC files, at any depth: LibriSpeech, Libri-Light, one's own recordings."""

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
    """Interval table of phones and words; relative to the source where one is named."""


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


CorpusAt = FolderSettings | ZeroSpeechSettings | StoryClozeSettings
"""A corpus that lies somewhere, and is not made."""

Corpus = Annotated[SyntheticSettings | CorpusAt, Field(discriminator="layout")]
"""One corpus of an experiment."""


class _Layout(Settings):
    """What tells the layouts apart."""

    model_config = ConfigDict(extra="ignore")

    layout: Literal["folder", "zerospeech2021", "twist"]


def load_corpus(text: str) -> CorpusAt:
    """Settings of a corpus that lies somewhere, from a file or a JSON object.

    Raises:
        InputError: One line that names every wrong key.
    """
    match load_settings(_Layout, text).layout:
        case "folder":
            return load_settings(FolderSettings, text)
        case "zerospeech2021":
            return load_settings(ZeroSpeechSettings, text)
        case "twist":
            return load_settings(StoryClozeSettings, text)


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
