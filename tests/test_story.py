"""The story: its sentences follow from the numbers, whichever way they fall, and what was not measured is absent."""

from typing import Any

import pytest

from eval.claims import Claim
from eval.foretelling import tell_of_foretelling
from eval.materials import Encoder, Materials
from eval.results import Result
from eval.story import Chapter, tell

SPIDR = Encoder("spidr", "spidr", learned=True, model="{}", steps=10)
UNTRAINED = Encoder("untrained", "spidr", untrained=True, model="{}")
DINOSR = Encoder("dinosr", "dinosr", learned=True, model="{}", steps=10)
MFCC = Encoder("mfcc", "mfcc")
PHONES = Encoder("phones", "phones")
NAMES = {"spidr": "SpidR", "untrained": "Untrained", "dinosr": "DinoSR", "mfcc": "MFCC", "phones": "Phones"}


def score(encoder: str, metric: str, value: float, width: float = 0.02, **fields: Any) -> Result:
    """A score whose interval is `width` to either side."""
    defaults = {"source": "ours", "model": NAMES[encoder], "encoder": encoder, "layer": 1, "dataset": "dev"}
    interval = {"low": value - width, "high": value + width}
    return Result(**(defaults | interval | {"metric": metric, "value": value} | fields))


def features(encoder: str, error: float, **fields: Any) -> list[Result]:
    return [
        score(encoder, "abx_continuous", error, condition=condition, **fields) for condition in ("within", "across")
    ]


def units(encoder: str, pnmi: float, accuracy: float | None = None, **fields: Any) -> list[Result]:
    """Unit metrics of a system, and those of its language model where it has one."""
    system = {"quantizer": "kmeans50", "num_units": 50} | fields
    found = [score(encoder, "pnmi", pnmi, **system)]
    found += [score(encoder, "abx_units", 0.5 - pnmi / 2, condition="within", **system)]
    slm = system | {"slm": "opt", "corpus": "train", "seed": 0}
    metrics = ("swuggy_all", "sblimp", "tsc") if accuracy is not None else ()
    return found + [score(encoder, metric, accuracy or 0.0, **slm) for metric in metrics]


def topline(accuracy: float) -> list[Result]:
    return [r for r in units("phones", 1.0, accuracy, quantizer=None, num_units=None, layer=None) if r.slm]


def story(results: list[Result], *encoders: Encoder, health: Any = ()) -> dict[str, Chapter]:
    return {chapter.title: chapter for chapter in tell(results, Materials(encoders=encoders), health, {})}


def claims(results: list[Result], *encoders: Encoder, health: Any = ()) -> dict[str, Claim]:
    chapters = story(results, *encoders, health=health).values()
    return {claim.headline: claim for chapter in chapters for claim in chapter.claims}


def test_a_whole_experiment_has_every_chapter_and_each_has_a_key_claim() -> None:
    results = features("spidr", 0.1) + features("untrained", 0.5) + features("mfcc", 0.2)
    for layer in (1, 2, 3):
        results += units("spidr", 0.5 - layer / 100, 0.7 + layer / 100, layer=layer)
    results += units("mfcc", 0.2, 0.6) + topline(0.9)
    chapters = story(results, SPIDR, UNTRAINED, MFCC, PHONES)
    assert list(chapters) == [
        "Phones, learned without labels",
        "Against other features",
        "From features to units",
        "Language models on units",
        "What foretells a language model",
    ]
    assert all(any(claim.key for claim in chapter.claims) for chapter in chapters.values())


@pytest.mark.parametrize(
    ("error", "headline"),
    [
        (0.1, "SpidR tells phones apart."),
        (0.49, "It is not shown that SpidR tells phones apart."),
        (
            0.6,
            "SpidR tells phones apart worse than guessing: "
            "the opposite for ABX error within speaker and across speakers.",
        ),
    ],
)
def test_what_is_said_of_the_lead_follows_its_error(error: float, headline: str) -> None:
    assert headline in claims(features("spidr", error), SPIDR)


@pytest.mark.parametrize(
    ("untrained", "headline"),
    [
        (0.5, "Training is what taught SpidR: the same network untrained does worse."),
        (0.31, "It is not shown that training helped SpidR."),
        (
            0.1,
            "Training did SpidR harm: that it helped is the opposite for ABX error within speaker and across speakers.",
        ),
    ],
)
def test_what_is_said_of_training_follows_the_untrained_network(untrained: float, headline: str) -> None:
    assert headline in claims(features("spidr", 0.3) + features("untrained", untrained), SPIDR, UNTRAINED)


def test_another_network_untrained_is_not_called_the_same() -> None:
    other = Encoder("untrained", "spidr", untrained=True, model='{"num_layers": 2}')
    [only] = claims(features("spidr", 0.3) + features("untrained", 0.5), SPIDR, other)
    assert only == "SpidR tells phones apart."


def test_the_lead_stands_at_its_selected_layer() -> None:
    results = features("spidr", 0.3, layer=1) + features("spidr", 0.1, layer=2)
    assert claims(results, SPIDR)["SpidR tells phones apart."].figures.startswith("SpidR layer 2: ABX error")


def test_mfcc_has_no_layer_to_speak_of() -> None:
    found = claims(features("spidr", 0.3) + features("mfcc", 0.1), SPIDR, MFCC)
    assert found["SpidR is worse than MFCC."].figures.startswith("SpidR layer 1 against MFCC: ")


def test_without_a_spidr_the_first_that_learned_leads() -> None:
    found = claims(features("dinosr", 0.3) + features("mfcc", 0.1), MFCC, DINOSR)
    assert "DinoSR is worse than MFCC." in found


def test_without_anything_that_learned_or_any_score_of_it_there_is_no_story() -> None:
    assert story(features("mfcc", 0.1), MFCC) == {}
    assert story(features("mfcc", 0.1), SPIDR, MFCC) == {}
    assert story([], SPIDR) == {}


def test_a_published_number_takes_no_part() -> None:
    results = features("spidr", 0.1) + features("dinosr", 0.1, source="a paper")
    assert list(story(results, SPIDR, DINOSR)) == ["Phones, learned without labels"]


def test_without_language_models_their_chapters_are_absent() -> None:
    assert list(story(features("spidr", 0.1) + units("spidr", 0.5), SPIDR)) == [
        "Phones, learned without labels",
        "From features to units",
    ]


def test_without_abx_the_units_with_the_highest_pnmi_speak() -> None:
    results = [r for layer in (1, 2) for r in units("spidr", layer / 10, 0.6, layer=layer) if r.metric != "abx_units"]
    results += [r for r in units("mfcc", 0.1) if r.metric == "pnmi"]
    chapters = story(results, SPIDR, MFCC)
    assert next(iter(chapters)) == "From features to units"
    assert chapters["From features to units"].claims[0].headline == "The units of SpidR are better than those of MFCC."
    assert chapters["Language models on units"].claims[0].figures.startswith("SpidR layer 2, K-means 50: sWUGGY")


def test_a_chapter_explains_only_the_measures_it_has() -> None:
    chapters = story(features("spidr", 0.1) + units("spidr", 0.5, 0.6), SPIDR)
    assert "MAP" not in chapters["Phones, learned without labels"].measures
    assert "PNMI" in chapters["From features to units"].measures
    assert "(sBLIMP)" in chapters["Language models on units"].measures


@pytest.mark.parametrize(
    ("accuracy", "headline"),
    [
        (0.6, "From the units of SpidR a language model learns words, grammar and stories."),
        (0.51, "It is not shown that a language model learns words, grammar or stories from the units of SpidR."),
    ],
)
def test_what_is_said_of_language_models_follows_their_accuracy(accuracy: float, headline: str) -> None:
    assert headline in claims(units("spidr", 0.5, accuracy), SPIDR)


def test_a_language_model_may_learn_words_alone() -> None:
    results = [r for r in units("spidr", 0.5, 0.5) if r.metric != "swuggy_all"]
    results += [r for r in units("spidr", 0.5, 0.8) if r.metric == "swuggy_all"]
    found = claims(results, SPIDR)
    claim = found["From the units of SpidR a language model learns words; not shown: grammar and stories."]
    assert claim.figures.endswith(
        "Of 1 system without the topline, above chance are 1 in sWUGGY, 0 in sBLIMP and 0 in tSC."
    )


@pytest.mark.parametrize(
    ("phones", "headline"),
    [
        (0.9, "Better units make better language models: the phones do better than learned units."),
        (0.61, "It is not shown that better units, the phones, make better language models."),
        (
            0.55,
            "The phones make worse language models than learned units; that they are better is "
            "the opposite for sWUGGY, sBLIMP and tSC.",
        ),
    ],
)
def test_what_is_said_of_better_units_follows_the_topline(phones: float, headline: str) -> None:
    assert headline in claims(units("spidr", 0.5, 0.6) + topline(phones), SPIDR, PHONES)


def correlated(slope: float, systems: int = 6) -> list[Result]:
    """Systems whose accuracy rises with their PNMI by `slope`, but for a little noise."""
    results = []
    for layer in range(1, systems + 1):
        noise = 0.002 * (-1) ** layer
        results += units("spidr", layer / 10, 0.6 + slope * layer / 10 + noise, layer=layer)
    return results


def test_pnmi_foretells_where_better_goes_with_better() -> None:
    found = {claim.headline: claim for claim in tell_of_foretelling(correlated(0.2))}
    shown = found["PNMI foretells what language models reach."]
    assert (shown.badge, shown.key) == ("shown", True)
    assert shown.figures.startswith("Pearson's r over 6 language models without the topline: sWUGGY 1.00 [0.99")
    assert "ABX of the units foretells what language models reach." in found  # lower is better: r is negative


def test_what_goes_the_wrong_way_is_called_so() -> None:
    badges = {claim.headline: claim.badge for claim in tell_of_foretelling(correlated(-0.2))}
    assert badges["PNMI goes the wrong way with sWUGGY, sBLIMP and tSC."] == "opposite"


def test_a_correlation_that_may_be_zero_is_not_shown() -> None:
    badges = {claim.headline: claim.badge for claim in tell_of_foretelling(correlated(0.0))}
    assert badges["It is not shown that PNMI foretells what language models reach."] == "not shown"


def test_too_few_language_models_foretell_nothing_and_say_so() -> None:
    [claim] = tell_of_foretelling(correlated(0.2, systems=3))
    assert claim.headline == "Whether ABX or PNMI foretells what language models reach cannot be said here."
    assert "found 3 language models" in claim.figures
    assert tell_of_foretelling(units("spidr", 0.5)) == []


def health(active: int, largest_share: float = 0.1) -> dict[str, Any]:
    figures = {"active_units": active, "largest_share": largest_share, "perplexity": active / 2}
    return {
        "name": "spidr-L01-kmeans50",
        "num_units": 50,
        "corpora": {"train": figures | {"perplexity": 1.0}, "dev": figures},
    }


def test_a_healthy_inventory_is_counted_where_it_was_measured() -> None:
    found = claims(units("spidr", 0.5), SPIDR, health=[health(40)])
    figures = found["No inventory of units has collapsed."].figures
    assert figures == "1 system. Units in use: SpidR layer 1, K-means 50: 40 of 50 (perplexity 20)."


@pytest.mark.parametrize(
    ("ill", "reason"),
    [(health(4), "only 4 of 50 units are used"), (health(40, 0.6), "one unit takes 60% of the frames")],
)
def test_a_collapse_is_named(ill: dict[str, Any], reason: str) -> None:
    claim = claims(units("spidr", 0.5), SPIDR, health=[ill])["An inventory has collapsed."]
    assert claim.badge == "collapsed"
    assert f"spidr-L01-kmeans50 on dev: {reason}" in claim.figures
