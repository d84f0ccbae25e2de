"""What an experiment taught, in chapters of a few sentences that follow from its numbers, whichever way they fall.

A claim is called shown where a 95% interval leaves out chance, zero or the other value, and is said to be not shown
where it does not. A chapter of which nothing was measured is absent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from eval.claims import Claim, Verdict, choose, contest
from eval.evidence import Files, Finding, against, against_chance, spoken_name
from eval.foretelling import LANGUAGE_METRICS, tell_of_foretelling
from eval.materials import Encoder, Materials
from eval.metrics import METRICS
from eval.results import TOPLINE, TOPLINES, Result, estimate, group
from eval.voices import Voice, features_of, units_of
from eval.wording import count_text, figure_text, interval_text, listed
from units.health import warnings

FEATURE_METRICS = ("abx_continuous", "map_words")
UNIT_METRICS = ("pnmi", "abx_units")
LEARNT = {"swuggy_all": "words", "sblimp": "grammar", "tsc": "stories"}

MEANINGS = {
    "abx_continuous": "ABX error is how often a phone lies nearer to another than to its own kind; chance is 50%.",
    "map_words": "MAP is how well the tokens of a word find each other among all words; chance is near 0%.",
    "abx_units": "Unit ABX error is the ABX error of the units themselves; chance is 50%.",
    "pnmi": "PNMI is how much of the phone a unit tells, from 0 (nothing) to 1 (all).",
}
CHOICES = {
    "swuggy_all": "a word and a nonword (sWUGGY)",
    "sblimp": "a grammatical and an ungrammatical sentence (sBLIMP)",
    "tsc": "a fitting and an unfitting end of a story (tSC)",
}


@dataclass(frozen=True, slots=True)
class Chapter:
    """Claims about one thing, after a word on what was measured."""

    title: str
    measures: str
    claims: list[Claim]


def tell(
    results: Sequence[Result], materials: Materials, health: Sequence[Mapping[str, Any]], files: Files
) -> list[Chapter]:
    """The chapters of an experiment that have something to say.

    The lead is the first SpidR that was trained; where there is none, the first encoder that learned anything.

    Args:
        results: Scores; those of publications take no part.
        materials: The encoders, in the order of the experiment file.
        health: Content of each system's health.json, with its ``name``.
        files: Where the tables of items lie, for paired comparisons.
    """
    ours = [r for r in results if r.source == "ours"]
    scored = {r.encoder for r in ours}.difference(TOPLINES)
    encoders = [encoder for encoder in materials.encoders if encoder.name in scored]
    learned = [encoder for encoder in encoders if encoder.learned]
    if not learned:
        return []
    lead = next((encoder for encoder in learned if encoder.family == "spidr"), learned[0])
    others = [encoder for encoder in encoders if encoder is not lead and not encoder.untrained]
    floor = next((encoder for encoder in encoders if encoder.untrained and encoder.model == lead.model), None)
    chapters = [
        Chapter(
            "Phones, learned without labels",
            _meanings(ours, FEATURE_METRICS),
            tell_of_phones(ours, lead, floor, files),
        ),
        Chapter("Against other features", "", tell_of_features(ours, lead, others, files)),
        Chapter(
            "From features to units",
            _meanings(ours, UNIT_METRICS),
            tell_of_units(ours, lead, others, health, files),
        ),
        Chapter("Language models on units", _choices(ours), tell_of_language(ours, lead, others, files)),
        Chapter(
            "What foretells a language model",
            "What can be measured without a language model helps to choose units if it goes with what one reaches.",
            tell_of_foretelling(ours),
        ),
    ]
    return [chapter for chapter in chapters if chapter.claims]


def _meanings(results: Sequence[Result], metrics: Sequence[str]) -> str:
    """What the metrics mean, of those that were measured."""
    return " ".join(MEANINGS[name] for name in metrics if any(r.metric == name for r in results))


def _choices(results: Sequence[Result]) -> str:
    asked = [choice for name, choice in CHOICES.items() if any(r.metric == name for r in results)]
    return f"A language model is asked which of two it finds likelier: {', '.join(asked)}. Chance is 50%."


def tell_of_phones(results: Sequence[Result], lead: Encoder, floor: Encoder | None, files: Files) -> list[Claim]:
    """Whether the lead tells phones apart, and whether it is training that taught it."""
    voice = features_of(results, lead)
    if voice is None:
        return []
    able = f"{voice.name} tells phones apart"
    headlines: dict[Verdict, str] = {
        "shown": f"{able}.",
        "in part": f"{able} in part: {{which}}.",
        "not shown": f"It is not shown that {able}.",
        "opposite": f"{able} worse than guessing: {{which}}.",
    }
    claims = [choose(against_chance(voice.scores, FEATURE_METRICS), headlines, voice.label)]
    untrained = features_of(results, floor) if floor else None
    if untrained and (findings := against(voice.scores, untrained.scores, FEATURE_METRICS, files)):
        headlines = {
            "shown": f"Training is what taught {voice.name}: the same network untrained does worse.",
            "in part": f"Training helped {voice.name} in part: {{which}}.",
            "not shown": f"It is not shown that training helped {voice.name}.",
            "opposite": f"Training did {voice.name} harm: that it helped is {{which}}.",
        }
        claims.append(choose(findings, headlines, f"{voice.label} against {untrained.label}"))
    return [*claims[:-1], replace(claims[-1], key=True)]


def tell_of_features(results: Sequence[Result], lead: Encoder, others: Sequence[Encoder], files: Files) -> list[Claim]:
    """The lead's features against those of each other encoder."""
    voice = features_of(results, lead)
    claims: list[Claim] = []
    for rival in (features_of(results, other) for other in others):
        if voice and rival and (findings := against(voice.scores, rival.scores, FEATURE_METRICS, files)):
            claim = contest(f"{voice.name} is", rival.name, findings, f"{voice.label} against {rival.label}")
            claims.append(replace(claim, key=not claims))
    return claims


def tell_of_units(
    results: Sequence[Result],
    lead: Encoder,
    others: Sequence[Encoder],
    health: Sequence[Mapping[str, Any]],
    files: Files,
) -> list[Claim]:
    """Whether phones can be told from the lead's units, how they compare with others, whether any has collapsed."""
    own = units_of(results, lead)
    if not own:
        return []
    voice, *rest = own
    claims = []
    if findings := against_chance(voice.scores, UNIT_METRICS):
        headlines: dict[Verdict, str] = {
            "shown": f"The units of {voice.name} tell phones apart.",
            "in part": f"The units of {voice.name} tell phones apart in part: {{which}}.",
            "not shown": f"It is not shown that the units of {voice.name} tell phones apart.",
            "opposite": f"The units of {voice.name} tell phones apart worse than guessing: {{which}}.",
        }
        pnmi = estimate([r for r in voice.scores if r.metric == "pnmi"])
        known = ""
        if pnmi:
            figure = figure_text(pnmi.value, METRICS["pnmi"]) + interval_text(pnmi.low, pnmi.high, METRICS["pnmi"])
            known = f"PNMI {figure}."
        claims.append(replace(choose(findings, headlines, voice.label, known), key=True))
    rivals = [
        (f"The {voice.units} units of {voice.name} are", f"its {other.units} units", other)
        for other in rest
        if other.layer == voice.layer
    ]
    rivals += [
        (f"The units of {voice.name} are", f"those of {best.name}", best)
        for other in others
        for best in units_of(results, other)[:1]
    ]
    for whose, than, rival in rivals:
        if findings := against(voice.scores, rival.scores, UNIT_METRICS, files):
            claims.append(contest(whose, than, findings, f"{voice.label} against {rival.label}"))
    return claims + _tell_of_health(own, health)


def _tell_of_health(voices: Sequence[Voice], health: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """Whether an inventory has collapsed, of any system, and how many units the lead's systems use."""
    if not health:
        return []
    ill = [
        f"{system['name']} on {corpus}: {', '.join(found)}"
        for system in health
        for corpus, figures in system["corpora"].items()
        if (found := warnings(figures, system["num_units"]))
    ]
    if ill:
        return [Claim("collapsed", "An inventory has collapsed.", f"{'; '.join(ill)}.")]
    reports = {system["name"]: system for system in health}
    uses = []
    for voice in voices:
        system = reports.get(voice.system)
        measured = {r.dataset for r in voice.scores}
        corpora = {} if system is None else system["corpora"]
        corpus = next((name for name in corpora if name in measured), next(iter(corpora), None))
        if system and corpus:
            figures = corpora[corpus]
            used = f"{figures['active_units']} of {system['num_units']} (perplexity {figures['perplexity']:.0f})"
            uses.append(f"{voice.label}: {used}")
    in_use = f" Units in use: {'; '.join(uses)}." if uses else ""
    return [Claim("healthy", "No inventory of units has collapsed.", f"{count_text(len(health), 'system')}.{in_use}")]


def tell_of_language(results: Sequence[Result], lead: Encoder, others: Sequence[Encoder], files: Files) -> list[Claim]:
    """What language models learn from the text, the phones, the lead's units, and from those of others."""
    first = next((r.slm for r in results if r.slm), None)
    results = [r for r in results if r.slm in (None, first)]
    phones = [r for r in results if r.encoder == TOPLINE]
    claims = []
    if findings := against_chance([r for r in results if r.encoder == "text"], LANGUAGE_METRICS):
        claims.append(_tell_of_learning("the text", findings, "Text"))
    if findings := against_chance(phones, LANGUAGE_METRICS):
        claims.append(_tell_of_learning("the annotated phones", findings, "Phones"))
    own = units_of(results, lead, spoken=True)
    if not own:
        return claims
    voice = own[0]
    if findings := against_chance(voice.scores, LANGUAGE_METRICS):
        claim = _tell_of_learning(f"the units of {voice.name}", findings, voice.label, _above_chance(results))
        claims.append(replace(claim, key=True))
    if findings := against(phones, voice.scores, LANGUAGE_METRICS, files):
        headlines: dict[Verdict, str] = {
            "shown": "Better units make better language models: the phones do better than learned units.",
            "in part": "Better units, the phones, make better language models in part: {which}.",
            "not shown": "It is not shown that better units, the phones, make better language models.",
            "opposite": "The phones make worse language models than learned units; that they are better is {which}.",
        }
        claims.append(replace(choose(findings, headlines, f"Phones against {voice.label}"), key=True))
    for other in others:
        for rival in units_of(results, other, spoken=True)[:1]:
            if findings := against(voice.scores, rival.scores, LANGUAGE_METRICS, files):
                whose, than = (f"anguage models on the units of {each.name}" for each in (voice, rival))
                claims.append(contest(f"L{whose} are", f"l{than}", findings, f"{voice.label} against {rival.label}"))
    return claims


def _tell_of_learning(source: str, findings: Sequence[Finding], subject: str, note: str = "") -> Claim:
    taught, untaught = (
        [LEARNT[f.metric] for f in findings if (f.outcome == "better") == is_taught] for is_taught in (True, False)
    )
    headlines: dict[Verdict, str] = {
        "shown": f"From {source} a language model learns {listed(taught)}.",
        "in part": f"From {source} a language model learns {listed(taught)}; not shown: {listed(untaught)}.",
        "not shown": f"It is not shown that a language model learns {listed(untaught, 'or')} from {source}.",
        "opposite": f"From {source} a language model learns to choose wrongly: {{which}}.",
    }
    return choose(findings, headlines, subject, note)


def _above_chance(results: Sequence[Result]) -> str:
    """How many of all systems but the toplines are above chance, by metric."""
    systems = group(
        [r for r in results if r.slm and r.encoder not in TOPLINES], lambda r: (r.encoder, r.layer, r.quantizer)
    )
    findings = [finding for scores in systems.values() for finding in against_chance(scores, LANGUAGE_METRICS)]
    above = [
        f"{sum(f.metric == name and f.outcome == 'better' for f in findings)} in {spoken_name(name)}"
        for name in LANGUAGE_METRICS
        if any(f.metric == name for f in findings)
    ]
    return f"Of {count_text(len(systems), 'system')} without the topline, above chance are {listed(above)}."
