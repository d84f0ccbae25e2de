"""Sentences that findings choose: the same claim shown, shown in part, not shown, or its opposite."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from eval.evidence import Finding, Outcome
from eval.wording import listed

type Verdict = Literal["shown", "in part", "not shown", "opposite"]
type Badge = Verdict | Literal["better", "worse", "mixed", "healthy", "collapsed"]


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence that the numbers chose, what became of it in a word, and the numbers.

    Attributes:
        gist: The number that says most.
        key: Whether it belongs to what is said in short.
    """

    badge: Badge
    headline: str
    figures: str
    gist: str = ""
    key: bool = False


def verdict_of(outcomes: Sequence[Outcome]) -> Verdict:
    """What becomes of a claim that each ``better`` supports.

    >>> verdict_of(["better", "open"]), verdict_of(["open"]), verdict_of(["worse", "open"])
    ('in part', 'not shown', 'opposite')
    """
    if "better" in outcomes:
        return "shown" if set(outcomes) == {"better"} else "in part"
    return "opposite" if "worse" in outcomes else "not shown"


def choose(findings: Sequence[Finding], headlines: Mapping[Verdict, str], subject: str, note: str = "") -> Claim:
    """The headline for what the findings amount to; ``{which}`` in it says what each of them shows.

    Args:
        subject: Whose figures they are: ``SpidR layer 6``.
        note: What is said after the figures.
    """
    verdict = verdict_of([finding.outcome for finding in findings])
    return _claim(verdict, headlines[verdict].format(which=which(findings)), subject, findings, note)


def _claim(badge: Badge, headline: str, subject: str, findings: Sequence[Finding], note: str = "") -> Claim:
    telling = next((finding for finding in findings if finding.outcome != "open"), findings[0])
    figures, gist = (f"{subject}: {texts(those)}." for those in (findings, [telling]))
    return Claim(badge, headline, f"{figures} {note}".strip(), gist)


def which(findings: Sequence[Finding]) -> str:
    """What is shown of which: ``shown for A and B, not shown for C``."""
    words: dict[Outcome, str] = {"better": "shown", "open": "not shown", "worse": "the opposite"}
    named = {word: _named(findings, outcome) for outcome, word in words.items()}
    return ", ".join(f"{word} for {names}" for word, names in named.items() if names)


def contest(a: str, b: str, findings: Sequence[Finding], subject: str) -> Claim:
    """The claim that `a` is better than `b`, for each finding.

    Args:
        a: The beginning of the sentence, with its verb: ``SpidR is``.
        b: The other: ``DinoSR``.
        subject: Whose figures they are: ``SpidR layer 6 against DinoSR layer 5``.
    """
    outcomes: tuple[Outcome, ...] = ("better", "worse", "open")
    of = {outcome: _named(findings, outcome) for outcome in outcomes}
    if not of["better"] and not of["worse"]:
        return _claim("not shown", f"{a} not shown to be better or worse than {b}.", subject, findings)
    won: Literal["better", "worse"] = "better" if of["better"] else "worse"
    if not of["open"] and not (of["better"] and of["worse"]):
        return _claim(won, f"{a} {won} than {b}.", subject, findings)
    headline = f"{a} {won} than {b} in {of[won]}"
    if of["better"] and of["worse"]:
        headline += f", and worse in {of['worse']}"
    if of["open"]:
        headline += f"; no difference is shown in {of['open']}"
    return _claim("mixed", f"{headline}.", subject, findings)


def _named(findings: Sequence[Finding], outcome: Outcome) -> str:
    return listed(_names([finding for finding in findings if finding.outcome == outcome]))


def texts(findings: Sequence[Finding]) -> str:
    """The figures of all findings, one after the other."""
    names = _names(findings)
    separator = ", " if all(finding.other is None for finding in findings) else "; "
    return separator.join(finding.text(name) for finding, name in zip(findings, names, strict=True))


def _names(findings: Sequence[Finding]) -> list[str]:
    """What was measured in each; a metric named just before is not named again where its condition says enough."""
    names: list[str] = []
    for i, finding in enumerate(findings):
        again = i > 0 and findings[i - 1].metric == finding.metric and finding.condition_name
        names.append(finding.condition_name if again else f"{finding.metric_name} {finding.condition_name}".strip())
    return names
