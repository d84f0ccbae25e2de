"""Whether ABX and PNMI foretell what language models reach (appendix, figures 13 and 14)."""

from collections.abc import Mapping, Sequence

from eval.claims import Badge, Claim, verdict_of
from eval.correlations import correlate, proxy_points
from eval.evidence import Outcome, spoken_name
from eval.metrics import METRICS
from eval.results import OURS, Result
from eval.statistics import Correlation
from eval.wording import NO_BREAK, count_text, listed

LANGUAGE_METRICS = ("swuggy_all", "sblimp", "tsc")
PROXIES = {"abx_continuous": "ABX of the features", "abx_units": "ABX of the units", "pnmi": "PNMI"}
KEY_PROXIES = ("abx_units", "pnmi")


def tell_of_foretelling(results: Sequence[Result]) -> list[Claim]:
    """Whether what is known of features and units beforehand goes with what language models reach."""
    claims = []
    most = 0
    for proxy, name in PROXIES.items():
        clouds = {target: proxy_points(results, proxy, target) for target in LANGUAGE_METRICS}
        models = max(sum(len(layers) for layers in points.values()) for points in clouds.values())
        found = {target: r for target, points in clouds.items() for whose, r in correlate(points) if whose == OURS}
        most = max(most, models)
        if any(r.low is not None for r in found.values()):
            claims.append(_tell_of_correlations(proxy, name, found, models))
    if most and not claims:
        headline = "Whether ABX or PNMI foretells what language models reach cannot be said here."
        figures = (
            "A correlation with an interval needs four language models and some spread: found "
            f"{count_text(most, 'language model')} without the topline."
        )
        claims.append(Claim("not shown", headline, figures, key=True))
    return claims


def _tell_of_correlations(proxy: str, name: str, found: Mapping[str, Correlation], models: int) -> Claim:
    outcomes = {target: _goes_with(r, proxy, target) for target, r in found.items()}
    of = {way: listed([spoken_name(t) for t, o in outcomes.items() if o == way]) for way in ("better", "worse", "open")}
    verdict = verdict_of(list(outcomes.values()))
    badge: Badge = "mixed" if of["better"] and of["worse"] else verdict
    headline = {
        "shown": f"{name} foretells what language models reach.",
        "in part": f"{name} foretells {of['better']}; not shown for {of['open']}.",
        "mixed": f"{name} foretells {of['better']}, and goes the wrong way with {of['worse']}.",
        "not shown": f"It is not shown that {name} foretells what language models reach.",
        "opposite": f"{name} goes the wrong way with {of['worse']}.",
    }[badge]
    figures = ", ".join(f"{spoken_name(target)} {_correlation_text(r)}" for target, r in found.items())
    over = f"Pearson's r over {count_text(models, 'language model')} without the topline"
    return Claim(badge, headline, f"{over}: {figures}.", gist=f"{over}: {figures}.", key=proxy in KEY_PROXIES)


def _goes_with(r: Correlation, proxy: str, target: str) -> Outcome:
    """Whether better goes with better (``better``), better with worse, or neither is shown."""
    if r.low is None or r.high is None or r.low <= 0 <= r.high:
        return "open"
    return "better" if (r.r > 0) == (METRICS[proxy].better == METRICS[target].better) else "worse"


def _correlation_text(r: Correlation) -> str:
    interval = "" if r.low is None or r.high is None else f" [{r.low:.2f},{NO_BREAK}{r.high:.2f}]"
    return f"{r.r:.2f}{interval}".replace("-", "\N{MINUS SIGN}")
