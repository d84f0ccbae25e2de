"""The synthetic corpus: a tree of folders in the layouts of the real corpora, spoken by eSpeak NG.

    train/<speaker>/<fileid>.wav                               and valid/, dev/ likewise
    sLM21/{lexical,syntactic}/dev/*.wav, gold.csv              sWUGGY and sBLIMP, as ZeroSpeech 2021
    tSC/<2k>_<id>_correct.wav, <2k+1>_<id>_incorrect.wav       as TWIST
    annotations/{train,valid,dev,lexical,syntactic,tsc}.csv    exact intervals of phones and words
    speakers.csv, lexicon.csv

No speaker is in two of train, valid and dev. The evaluation sets are spoken by four of the training
voices: a language model of minutes of speech, over units of an encoder trained for minutes, does
not carry over to voices that neither has heard. The two members of a pair share voice, rate, pitch,
level and noise.

The same settings and seed give the same bytes, however many processes speak: each voice is spoken
by a process of its own, in a fixed order, its evaluation files first.
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import soundfile

from artifacts.errors import InputError, run
from artifacts.files import atomic_folder, write_csv
from artifacts.progress import Progress
from artifacts.seeds import generator
from artifacts.settings import load_settings
from corpora import grammar
from corpora.annotations import Interval, interval_writer
from corpora.audio import SAMPLE_RATE_HZ
from corpora.espeak import Espeak, installed
from corpora.evaluation_sets import TestFile, lexical_files, story_files, syntactic_files
from corpora.grammar import Document
from corpora.layouts import UNKNOWN_SPEAKER
from corpora.lexicon import ALL_FORMS, without_stress
from corpora.set_layouts import LEXICAL_COLUMNS, SYNTACTIC_COLUMNS, gold_columns
from corpora.settings import SyntheticSettings
from corpora.voices import Voice, draw_delivery, draw_voice, speak, write_data

SETS = ("train", "valid", "dev", "lexical", "syntactic", "tsc")
NUM_TEST_VOICES = 4


@dataclass(frozen=True, slots=True)
class Part:
    """What one voice speaks: evaluation files, then running text of one split."""

    voice: Voice
    files: list[TestFile]
    split: str
    goal: float
    """Least running text: seconds in train and valid, utterances in dev."""


@dataclass(frozen=True, slots=True)
class Done:
    """What one voice has spoken: annotations by set, and the words of its training text."""

    intervals: dict[str, list[Interval]]
    words: Counter[str]
    duration_s: float


def split_voices(voices: list[Voice]) -> dict[str, list[Voice]]:
    """A fifth of the voices is for `dev`, a tenth for `valid`, half of each female, the rest for `train`."""
    num_dev, num_valid = 2 * (len(voices) // 10), 2 * (len(voices) // 20)
    num_train = len(voices) - num_dev - num_valid
    return {
        "train": voices[:num_train],
        "valid": voices[num_train : num_train + num_valid],
        "dev": voices[num_train + num_valid :],
    }


def plan(settings: SyntheticSettings, seed: int) -> list[Part]:
    """What every voice speaks, those with evaluation files first: they take longest."""
    voices = [draw_voice(seed, index) for index in range(settings.speakers)]
    splits = split_voices(voices)
    testers = [voice.name for voice in splits["train"][:NUM_TEST_VOICES]]
    files = [
        *lexical_files(settings.word_pairs, testers, seed),
        *syntactic_files(settings.sentence_pairs, testers, seed),
        *story_files(settings.story_pairs, testers, seed),
    ]

    def goal(split: str, index: int) -> float:
        num_voices = len(splits[split])
        if split == "dev":
            return len(range(index, settings.dev_utterances, num_voices))
        minutes = settings.training_minutes if split == "train" else settings.valid_minutes
        return 60 * minutes / num_voices

    return [
        Part(voice, [file for file in files if file.voice == voice.name], split, goal(split, index))
        for split, members in splits.items()
        for index, voice in enumerate(members)
    ]


def speak_part(settings: SyntheticSettings, seed: int, data: Path, folder: Path, part: Part) -> Done:
    """Speak everything of one voice into `folder`. Runs in a process of its own."""
    espeak, voice = Espeak(data), part.voice
    intervals: dict[str, list[Interval]] = {name: [] for name in SETS}
    words: Counter[str] = Counter()
    num_samples = 0

    def record(name: str, path: Path, document: Document, *purpose: str | int) -> int:
        # TWIST's layout says of no file who speaks it.
        speaker = UNKNOWN_SPEAKER if name == "tsc" else voice.name
        delivery = draw_delivery(voice, seed, *purpose)
        waveform, annotation = speak(espeak, voice, delivery, document, path.stem, speaker)
        soundfile.write(folder / path, waveform, SAMPLE_RATE_HZ, subtype="PCM_16")
        intervals[name].extend(annotation)
        return len(waveform)

    for file in part.files:
        num_samples += record(file.set, file.path, file.document, file.set, file.mirrored)

    rng = generator(seed, "text", voice.name)
    text = grammar.sentences(rng) if part.split == "dev" else grammar.documents(settings.isolated_words, rng)
    home = Path(part.split, voice.name)
    (folder / home).mkdir(parents=True)
    done = 0.0
    for number, document in enumerate(text):
        if done >= part.goal:
            break
        length = record(part.split, home / f"{voice.name}-{number:05d}.wav", document, "text", number)
        done += 1 if part.split == "dev" else length / SAMPLE_RATE_HZ
        num_samples += length
        if part.split == "train":
            words.update(word.spelling for sentence in document for word in sentence)
    return Done(intervals, words, num_samples / SAMPLE_RATE_HZ)


def synthesise(settings: SyntheticSettings, seed: int, processes: int, folder: Path) -> float:
    """Write the corpus into an empty folder; gives its duration in seconds.

    Raises:
        InputError: eSpeak NG is not installed.
        ChildProcessError: A process that spoke was killed.
    """
    parts = plan(settings, seed)
    for place in ("sLM21/lexical/dev", "sLM21/syntactic/dev", "tSC", "annotations"):
        (folder / place).mkdir(parents=True)
    frequency: Counter[str] = Counter()
    duration_s = 0.0
    with tempfile.TemporaryDirectory() as data, ExitStack() as stack:
        write_data(installed()[1], Path(data), [part.voice for part in parts])
        writers = {name: stack.enter_context(interval_writer(folder / "annotations" / f"{name}.csv")) for name in SETS}
        progress = stack.enter_context(Progress("synthesise", len(parts), "voices"))
        for done in each_by_itself(partial(speak_part, settings, seed, Path(data), folder), parts, processes):
            for name, intervals in done.intervals.items():
                writers[name](intervals)
            frequency.update(done.words)
            duration_s += done.duration_s
            progress.advance()
    write_tables(folder, parts, frequency)
    return duration_s


def each_by_itself[A, R](function: Callable[[A], R], arguments: Iterable[A], processes: int) -> Iterator[R]:
    """`function` of each argument, in their order, each in a process of its own, `processes` at a time.

    Python's pools wait for ever for a process that was killed (by the kernel, where memory is short), and theirs for
    a parent that was.

    Raises:
        ChildProcessError: A process ended without an answer.
    """
    fork = get_context("fork")
    waiting, due = iter(enumerate(arguments)), 0
    running: dict[Connection, tuple[int, ForkProcess]] = {}
    answers: dict[int, R | Exception] = {}
    try:
        while True:
            for number, argument in islice(waiting, processes - len(running)):
                receiver, sender = fork.Pipe(duplex=False)
                process = fork.Process(target=_answer, args=(sender, function, argument))
                process.start()
                sender.close()
                running[receiver] = (number, process)
            if not running:
                return
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                number, process = running.pop(ready)
                answers[number] = _received(ready, process)
            while due in answers:
                answer = answers.pop(due)
                if isinstance(answer, Exception):
                    raise answer
                yield answer
                due += 1
    finally:
        for _, process in running.values():
            process.kill()


def _answer[A, R](sender: Connection, function: Callable[[A], R], argument: A) -> None:
    try:
        sender.send(function(argument))
    except Exception as error:
        sender.send(error)


def _received(receiver: Connection, process: ForkProcess) -> Any:
    """What a process answered, its error, or that it was killed."""
    try:
        answer = receiver.recv()
    except EOFError:
        process.join()
        answer = ChildProcessError(f"a process of this job was killed (exit code {process.exitcode})")
    process.join()
    receiver.close()
    return answer


def write_tables(folder: Path, parts: list[Part], frequency: Counter[str]) -> None:
    """Write speakers.csv, lexicon.csv and the gold.csv of sWUGGY and sBLIMP.

    Args:
        frequency: How often the training text has each word.
    """
    speakers = [{"speaker": part.voice.name, "gender": part.voice.gender, "split": part.split} for part in parts]
    write_csv(folder / "speakers.csv", ("speaker", "gender", "split"), speakers)
    lexicon = (
        {"word": word.spelling, "phones": " ".join(without_stress(word.phones)), "frequency": frequency[word.spelling]}
        for word in ALL_FORMS
    )
    write_csv(folder / "lexicon.csv", ("word", "phones", "frequency"), lexicon)
    files = sorted((file for part in parts for file in part.files), key=lambda file: file.path)
    for name, columns in (("lexical", LEXICAL_COLUMNS), ("syntactic", SYNTACTIC_COLUMNS)):
        rows = (file.gold for file in files if file.set == name)
        if name == "lexical":
            rows = (row | {"frequency": frequency[row["word"]]} for row in rows)
        write_csv(folder / "sLM21" / name / "dev" / "gold.csv", gold_columns(columns), rows)


def main() -> None:
    """Make the synthetic corpus."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--settings", required=True, help="settings of layout `synthetic`: a file, or a JSON object")
    parser.add_argument("--seed", type=int, required=True, help="the experiment's seed")
    parser.add_argument("--processes", type=int, default=1, help="how many voices are spoken at a time")
    parser.add_argument("--output", type=Path, required=True, help="folder of the corpus, replaced as a whole")
    arguments = parser.parse_args()
    if arguments.processes < 1:
        raise InputError(f"--processes: found {arguments.processes}, expected 1 or more")
    settings = load_settings(SyntheticSettings, arguments.settings)
    with atomic_folder(arguments.output) as folder:
        duration_s = synthesise(settings, arguments.seed, arguments.processes, folder)
    print(f"{arguments.output}: {duration_s / 60:.1f} minutes of speech by {settings.speakers} voices")


if __name__ == "__main__":
    run(main)
