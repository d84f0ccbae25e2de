"""Whether a run has all it needs, before it starts: every problem in one list.

    snakemake -c 1 check --configfile config/paper.yaml
    python -m workflow.check --configfile config/paper.yaml

Nothing is decoded and no model is loaded: files are looked for and counted, and annotations held against them.
"""

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants
from rich.console import Console

from artifacts.errors import InputError, run
from artifacts.files import read_csv, read_json_object
from corpora.agreement import Agreement
from corpora.annotate import read_tiers
from corpora.annotations import COLUMNS
from corpora.layouts import Place, folder_places, librilight_places, librispeech_places, some
from corpora.manifest import read_manifest
from corpora.set_layouts import read_set, set_places
from corpora.settings import (
    TEXT_TIERS,
    Corpus,
    CorpusAt,
    FolderSettings,
    LibriheavySettings,
    LibriLightSettings,
    LibriSpeechSettings,
    SyntheticSettings,
    locate,
)
from slm.settings import SlmRecipe
from units.registry import find
from units.settings import ConvertedEncoder, CustomEncoder, HubEncoder, TextEncoder
from workflow.experiment import Experiment
from workflow.plan import plan_of
from workflow.reading import read_experiment, read_recipe
from workflow.targets import Targets

UTTERANCES = {
    **{"train-clean-100": 28539, "train-clean-360": 104014, "train-other-500": 148688},
    **{"dev-clean": 2703, "dev-other": 2864, "test-clean": 2620, "test-other": 2939},
}
"""Files of the subsets of LibriSpeech (openslr.org/12). Libri-Light has no such numbers: it may lie cut in pieces."""
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
"""What transformers looks for in a folder, or a repository of the hub."""
PATIENCE_S = 20
"""How long a command of the system may take to answer."""

Problems = Iterator[str]


def corpora_problems(targets: Targets) -> Problems:
    """Whether the corpora that the experiment uses are complete, and their annotations and texts there.

    What a synthetic corpus is the source of is made by the run.
    """
    undefined: dict[str, list[str]] = {}
    used = {*targets.used_corpora(), *targets.trained_on}
    for name, corpus in targets.experiment.corpora.items():
        if name not in used:
            continue
        where = f"corpora.{name}"
        variables = _undefined_variables(corpus)
        for variable in variables:
            undefined.setdefault(variable, []).append(where)
        if variables or isinstance(corpus, SyntheticSettings):
            continue
        if isinstance(corpus, LibriheavySettings):
            yield from _missing(where, "path", *(f"{corpus.path}/libriheavy_cuts_{p}.jsonl.gz" for p in corpus.parts))
        elif corpus.source is None:
            yield from _speech_problems(where, corpus, Path(targets.root, "corpora", name, "manifest.csv"))
    for variable, wanted in undefined.items():
        yield f"environment variable {variable}: not defined, expected by {', '.join(wanted)}"


def _undefined_variables(corpus: Corpus) -> list[str]:
    """Environment variables that the paths of a corpus name and that are not there."""
    named = [name for _, value in corpus if isinstance(value, str) for name in re.findall(r"\$\{(\w+)\}", value)]
    return [name for name in dict.fromkeys(named) if name not in os.environ]


def _speech_problems(where: str, corpus: CorpusAt, manifest: Path) -> Problems:
    fileids: set[str] = set()
    is_whole = True
    for name, part in _parts(corpus):
        try:
            found = {place.fileid for place in _places(part)}
        except InputError as error:
            yield f"{where}: {error}"
            is_whole = False
            continue
        if name in UTTERANCES and len(found) != UTTERANCES[name]:
            yield f"{where}: {name}: found {len(found):,} files, expected {UTTERANCES[name]:,}"
        fileids |= found
    if isinstance(corpus, LibriSpeechSettings):
        yield from _missing(where, "path", f"{corpus.path}/SPEAKERS.TXT")
    if isinstance(corpus, FolderSettings) and corpus.speakers:
        yield from _missing(where, "speakers", corpus.speakers)
    texts = getattr(corpus, "texts", None)
    if texts is not None and texts not in TEXT_TIERS:
        yield from _missing(where, "texts", texts)
    if corpus.annotations is not None:
        absent = list(_missing(where, "annotations", corpus.annotations))
        yield from absent
        if not absent and is_whole:
            annotations = locate(corpus.annotations, "annotations", None)
            yield from _annotation_problems(where, annotations, fileids, manifest)


def _parts(corpus: CorpusAt) -> list[tuple[str, CorpusAt]]:
    """What is looked for by itself, by name: so a part that is missing hides no other."""
    if isinstance(corpus, LibriSpeechSettings):
        return [(name, corpus.model_copy(update={"subsets": [name]})) for name in corpus.subsets]
    if isinstance(corpus, LibriLightSettings):
        return [(name, corpus.model_copy(update={"subset": None, "part": name})) for name in corpus.parts]
    return [("", corpus)]


def _places(corpus: CorpusAt) -> Iterator[Place]:
    folder = locate(corpus.path, "path", None)
    match corpus:
        case FolderSettings():
            yield from folder_places(corpus, folder)
        case LibriSpeechSettings():
            yield from librispeech_places(corpus, folder)
        case LibriLightSettings():
            yield from librilight_places(corpus, folder)
        case _:
            yield from set_places(read_set(corpus, None))


def _annotation_problems(where: str, annotations: Path, fileids: set[str], manifest: Path) -> Problems:
    """What is wrong between annotations and audio: all of it once there is a manifest, before that only the names."""
    try:
        if manifest.is_file():
            read_tiers(annotations, Agreement(read_manifest(manifest)))
        elif annotations.suffix.lower() == ".csv":
            annotated = {row["fileid"] for _, row in read_csv(annotations, COLUMNS) if row["tier"] == "phones"}
            if without := fileids - annotated:
                yield f"{where}: {annotations}: {some(without)} utterances without phones, expected phones of all"
    except InputError as error:
        yield f"{where}: {error}"


def _missing(where: str, key: str, *paths: str) -> Problems:
    for path in paths:
        if not locate(path, key, None).exists():
            yield f"{where}: {locate(path, key, None)}: not there"


def weights_problems(experiment: Experiment, experiment_file: Path, targets: Targets, slurm: bool) -> Problems:
    """Whether the models that are not trained here are there, or can be had by the jobs that load them."""
    for file in targets.made_elsewhere():
        if not Path(file).is_file():
            yield f"{file}: not there, expected it to be made (docs/encoders.md)"
        elif file.endswith(".json"):
            yield from _unreadable(Path(file))
    for name, encoder in experiment.encoders.items():
        where = f"encoders.{name}"
        match encoder:
            case ConvertedEncoder() if Path(encoder.path).is_dir():
                if not any(Path(encoder.path).rglob("*.safetensors")):
                    yield f"{where}: {encoder.path}: found no .safetensors, expected weights"
            case HubEncoder():
                released = find(encoder.source)
                yield from _hub_problems(where, released.source if released else encoder.source, WEIGHTS, slurm)
            case TextEncoder():
                yield from _hub_problems(where, encoder.tokenizer, ("tokenizer.json", "vocab.json"), slurm)
            case CustomEncoder():
                module = encoder.loader.partition(":")[0]
                if not _is_importable(module):
                    yield f"{where}.loader: found {module}, expected a module in the working directory or on PYTHONPATH"
            case _:
                pass
    for name, slm in experiment.slms.items():
        if init := read_recipe(SlmRecipe, experiment_file, slm.recipe).model.init:
            yield from _hub_problems(f"slms.{name}: {slm.recipe}: init", init, WEIGHTS, slurm)


def _unreadable(path: Path) -> Problems:
    try:
        read_json_object(path)
    except InputError as error:
        yield str(error)


def _is_importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def _hub_problems(where: str, source: str, files: tuple[str, ...], slurm: bool) -> Problems:
    """Whether a folder has one of the files, or the hub's cache has, or the hub can be asked for them.

    On a cluster only the first two count: that the hub answers here does not say that it does where jobs run.
    """
    if Path(source).is_dir():
        if not any(Path(source, file).is_file() for file in files):
            yield f"{where}: {source}: found none of {', '.join(files)}, expected one"
        return
    cached = [huggingface_hub.try_to_load_from_cache(source, file) for file in files]
    if any(isinstance(path, str) for path in cached):
        return
    if slurm:
        yield (
            f"{where}: {source}: not in the cache of the hub, expected it there, "
            f"as the nodes that jobs run on may not reach the hub: hf download {source}"
        )
        return
    if reason := _why_no_hub():
        yield (
            f"{where}: {source}: not in the cache of the hub, which cannot be asked for it ({reason}); "
            f"where it can: hf download {source}"
        )
        return
    try:
        is_there = any(huggingface_hub.file_exists(source, file) for file in files)
    except OSError as error:
        yield f"{where}: {source}: the hub gives no answer ({error})"
    else:
        if not is_there:
            yield f"{where}: {source}: found no such model on the hub, expected one"


def others_problems(targets: Targets) -> Problems:
    """Whether the scores from elsewhere are there; those that are, are read with the experiment."""
    for other in targets.others():
        yield from _missing("others", "others", other)


@cache
def _why_no_hub() -> str | None:
    """Why the hub cannot be asked, if so."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        urllib.request.urlopen(constants.ENDPOINT, timeout=PATIENCE_S).close()
    except urllib.error.HTTPError:
        return None  # it answers
    except OSError as error:
        return str(getattr(error, "reason", error))
    return None


def machine_problems(experiment: Experiment, slurm: bool) -> Problems:
    """Whether the GPUs, or the cluster, that jobs are to run on can be reached."""
    if slurm:
        if (partitions := _answer("sinfo", "--noheader")) is None:
            yield "sinfo: no answer, expected Slurm's partitions"
        elif not partitions.strip():
            yield "sinfo: found no partition, expected one"
    elif experiment.device == "cuda" and not (_answer("nvidia-smi", "--list-gpus") or "").strip():
        yield "device: found cuda, but nvidia-smi lists no GPU"


def _answer(*command: str) -> str | None:
    """What a command prints, or None if it is not there, fails or does not end."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def disk_problems(needed: float, root: Path) -> Problems:
    """Whether the disk has room for what the run will write by estimate."""
    place = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        yield f"{root}: found {free / 1e9:,.0f} GB free, expected {needed / 1e9:,.0f} (an estimate: snakemake plan)"


def check(experiment_file: Path, slurm: bool) -> list[str]:
    """Every problem of an experiment.

    Raises:
        InputError: The experiment file or a recipe is malformed: nothing else can be told then.
    """
    experiment = read_experiment(experiment_file)
    targets = Targets(experiment)
    problems = [*corpora_problems(targets), *weights_problems(experiment, experiment_file, targets, slurm)]
    problems += others_problems(targets)
    problems += machine_problems(experiment, slurm)
    try:
        problems += disk_problems(sum(plan_of(experiment_file).disk.values()), Path(targets.root))
    except InputError as error:
        problems.append(str(error))
    return problems


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--configfile", type=Path, required=True, help="the experiment file")
    parser.add_argument("--slurm", action="store_true", help="jobs run on a Slurm cluster, not here")
    given = parser.parse_args()
    problems = check(given.configfile, given.slurm)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for problem in problems:
        console.print(f"- {problem}")
    if problems:
        number = f"{len(problems)} problem{'s'[: len(problems) > 1]}"
        raise InputError(f"{given.configfile}: found {number}, listed above, expected none")
    console.print(f"{given.configfile}: all there")


if __name__ == "__main__":
    run(main)
