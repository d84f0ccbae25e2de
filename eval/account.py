"""What was run, and how sure one can be of what it showed: two short texts around the story."""

from collections.abc import Collection, Sequence
from statistics import fmean
from typing import NamedTuple

from artifacts.files import read_json_object
from eval.comparisons import PairOfSystems
from eval.evidence import Files, score_file, spoken_name
from eval.foretelling import LANGUAGE_METRICS
from eval.materials import LanguageModel, Materials, Speech
from eval.metrics import METRICS, Resampled
from eval.paired import SIGNIFICANCE
from eval.resampling import NAMES
from eval.results import CODEBOOK, TOPLINE, TOPLINES, Result, estimate, group, unit_label
from eval.statistics import least_p_value
from eval.wording import count_text, listed, time_text

TRAINING = ("trains encoders", "trains language models")
DRAWN_FOR = {
    **dict.fromkeys(("abx_continuous", "abx_codebook", "abx_units"), "ABX"),
    **{"map_words": "MAP", "pnmi": "PNMI"},
}
"""Metrics whose items are drawn by what they belong to, and what stands for them after the number of it."""


class Drawn(NamedTuple):
    """For which metrics intervals draw something, and how much of it there is, by dataset and condition."""

    metrics: dict[str, None]
    numbers: set[int]


def account(results: Sequence[Result], materials: Materials) -> str:
    """What was run, in one paragraph; what an experiment has not is not mentioned.

    Args:
        results: Scores; those of publications take no part.
    """
    ours = [r for r in results if r.source == "ours"]
    sentences = [
        *_encoders(ours, materials),
        *_units(ours, materials.language_models),
        *_measurements(ours, materials),
    ]
    return " ".join(sentences)


def _encoders(results: Sequence[Result], materials: Materials) -> list[str]:
    models = {r.encoder: r.model for r in results}
    encoders = [encoder for encoder in materials.encoders if encoder.name in models and encoder.name not in TOPLINES]
    trained = [encoder for encoder in encoders if encoder.steps is not None]
    rest = [encoder for encoder in encoders if encoder.steps is None]
    sentences = []
    if trained:
        speech = [corpus for corpus in materials.speech if "trains encoders" in corpus.uses]
        was = "was" if len(trained) == 1 else "were"
        on = f" on {_speech_text(speech)}" if speech else ""
        names = listed([models[encoder.name] for encoder in trained])
        devices = list(dict.fromkeys(device_text(encoder.device or "") for encoder in trained))
        took = [f"{count_text(e.steps or 0, 'step')} in {time_text(e.seconds or 0.0)}" for e in trained]
        sentences.append(f"{names} {was} trained without labels{on}: {listed(took)}, on {listed(devices)}.")
    if rest:
        manners = "; ".join(f"{models[encoder.name]}, {encoder.manner}" for encoder in rest)
        sentences.append(f"{'Beside them' if trained else 'The encoders'}: {manners}.")
    return sentences


def _speech_text(corpora: Sequence[Speech]) -> str:
    """How much speech some corpora are together, by how many speakers."""
    speakers = frozenset[str]().union(*(corpus.speakers for corpus in corpora))
    duration = time_text(sum(corpus.duration_s for corpus in corpora))
    names = listed([corpus.name for corpus in corpora])
    return f"{duration} of speech by {count_text(len(speakers), 'speaker')} ({names})"


def device_text(device: str) -> str:
    """A device as one says it."""
    return "a CPU" if device == "cpu" else device


def _units(results: Sequence[Result], language_models: Sequence[LanguageModel]) -> list[str]:
    kinds = {(unit_label(r.quantizer, r.num_units), r.num_units) for r in results if r.quantizer}
    sentences = []
    if kinds:
        ways = [("codebook predictions" if kind == CODEBOOK else kind, size) for kind, size in sorted(kinds, key=str)]
        named = [f"{kind} ({size} units)" if size else kind for kind, size in ways]
        sentences.append(f"Their features became units by {listed(named)}.")
    for slm, trainings in _by_name(language_models).items():
        systems = {training.system for training in trainings}
        seeds = len({training.seed for training in trainings})
        one = trainings[0]
        toplines = {TOPLINE: "the annotated phones", "text": "the text itself"}
        among_them = listed([what for system, what in toplines.items() if system in systems])
        among = f", {among_them} among them" if among_them else ""
        sentences.append(
            f"A language model ({slm}, {one.num_parameters / 1e6:.1f} million parameters, "
            f"{count_text(one.steps, 'step')}) was trained on the units of each of {count_text(len(systems), 'system')}"
            f"{among}{f', with {seeds} seeds' if seeds > 1 else ''}."
        )
    return sentences


def _by_name(language_models: Sequence[LanguageModel]) -> dict[str, list[LanguageModel]]:
    found: dict[str, list[LanguageModel]] = {}
    for training in language_models:
        found.setdefault(training.slm, []).append(training)
    return found


def _measurements(results: Sequence[Result], materials: Materials) -> list[str]:
    """What was measured on which speech, and whether training heard its speakers."""
    heard = frozenset[str]().union(*(c.speakers for c in materials.speech if set(c.uses) & set(TRAINING)))
    annotated = {r.dataset for r in results if r.slm is None}
    corpora = [corpus for corpus in materials.speech if corpus.name in annotated]
    sentences = []
    if corpora:
        speakers = frozenset[str]().union(*(corpus.speakers for corpus in corpora))
        known = len(speakers & heard)
        who = "whom no training heard" if not known else f"{known} of whom training heard"
        sentences.append(f"Features and units were measured on {_speech_text(corpora)}, {who}.")
    if pairs := pair_counts(results):
        sentences.append(f"The language models chose between {listed(pairs)}.")
    return sentences


def pair_counts(results: Sequence[Result]) -> list[str]:
    """How many pairs each metric of language models has: ``300 pairs of sWUGGY``."""
    counts = {}
    for name in LANGUAGE_METRICS:
        if numbers := [r.n for r in results if r.metric == name and r.n]:
            counts[name] = max(numbers)
    return [f"{count_text(number, 'pair')} of {spoken_name(name)}" for name, number in counts.items()]


def certainty(
    results: Sequence[Result], materials: Materials, files: Files, pairs: Sequence[PairOfSystems]
) -> list[str]:
    """How sure one can be, in short paragraphs: what the intervals draw, how wide they are, what they leave out.

    Args:
        files: Score files, which say what their intervals draw; of a score without one nothing is said.
        pairs: The systems that were compared.
    """
    ours = [r for r in results if r.source == "ours"]
    found = [_what_is_drawn(ours, files, pairs), _widths(ours), _trainings(materials), _selection(ours)]
    return [paragraph for paragraph in found if paragraph]


def _what_is_drawn(results: Sequence[Result], files: Files, pairs: Sequence[PairOfSystems]) -> str:
    drawn = _draws(results, files)
    over = [f"{_numbers_text(what, of.numbers)} ({', '.join(of.metrics)})" for what, of in drawn.items()]
    over += pair_counts(results)
    bootstrap = f"a bootstrap over {listed(over)}" if over else "a bootstrap"
    text = (
        f"Brackets hold 95% intervals, from {bootstrap}. Two systems are compared on the same items: a difference is "
        "called shown where its interval leaves out zero, a score where its interval leaves out chance. Where items "
        "cannot be paired, the intervals of both must not touch. Each is judged by itself: of twenty such judgements "
        "one may be wrong."
    )
    return text + "".join(
        f" Over {_numbers_text(what, few)}, which is few, intervals are rather too narrow, and a permutation test, "
        f"adjusted for the others of two systems, cannot always be below p = {SIGNIFICANCE}: their page under compare/ "
        "says where no difference can be shown."
        for what, of in drawn.items()
        if (few := {number for number in of.numbers if _is_few(what, number, pairs)})
    )


def _is_few(resample: Resampled, number: int, pairs: Sequence[PairOfSystems]) -> bool:
    """Whether a test over so many can show nothing, by itself or among others, and could over more of them."""
    least = least_p_value(number)
    hidden = any((c.resample, c.n) == (resample, number) for pair in pairs for c in pair.out_of_reach)
    return (hidden or least >= SIGNIFICANCE) and least_p_value(number + 1) < least


def _draws(results: Sequence[Result], files: Files) -> dict[Resampled, Drawn]:
    """What the intervals draw, as the scores say it."""
    found: dict[Resampled, Drawn] = {}
    for name, spoken in DRAWN_FOR.items():
        paths = [score_file(r, files) for r in results if r.metric == name]
        for conditions in (read_json_object(path).get("conditions", {}) for path in paths if path):
            if "resample" in conditions:
                drawn = found.setdefault(conditions["resample"], Drawn({}, set()))
                drawn.metrics[spoken] = None
                drawn.numbers.add(conditions["num_resampled"])
    return found


def _numbers_text(resample: Resampled, numbers: Collection[int]) -> str:
    """``40 speakers``, ``33 to 40 speakers``."""
    least, most = min(numbers), max(numbers)
    counted = count_text(most, *NAMES[resample])
    return counted if least == most else f"{least:,} to {counted}"


def _widths(results: Sequence[Result]) -> str:
    widths = []
    for name in LANGUAGE_METRICS:
        measured = group(
            [r for r in results if r.metric == name and r.encoder not in TOPLINES], lambda r: (r.encoder, r.layer)
        )
        means = [mean for scores in measured.values() if (mean := estimate(scores))]
        spans = [mean.high - mean.low for mean in means if mean.low is not None and mean.high is not None]
        if spans:
            widths.append(f"{METRICS[name].shown(fmean(spans)):.0f} points for {spoken_name(name)}")
    if not widths:
        return ""
    return (
        f"The interval of a language model's score is on average {listed(widths)} wide: much smaller effects go unseen."
    )


def _trainings(materials: Materials) -> str:
    seeds = {training.seed for training in materials.language_models}
    parts = ["Each encoder was trained once"] if any(e.steps is not None for e in materials.encoders) else []
    if seeds:
        parts.append(f"each language model {'once' if len(seeds) == 1 else f'{len(seeds)} times'}")
    if not parts:
        return ""
    text = f"{listed(parts)}: the intervals say what other items would give, not what another training would."
    return text[0].upper() + text[1:]


def _selection(results: Sequence[Result]) -> str:
    layers = {r.layer for r in results if r.layer is not None}
    if len(layers) < 2:
        return ""
    return (
        "The layer of an encoder is the one with the lowest ABX error on the very speech that is reported, as in the "
        "paper: a little flattering to encoders with many layers."
    )
