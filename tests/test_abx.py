"""ABX is that of an oracle of plain loops."""

import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from abx_oracle import DISTANCES, HEADER, SUBJECT, Corpus, abx_by_loops, angular, identical, mean_of_pairs, score
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.errors import InputError
from eval.abx import Scored, condition_name, score_abx
from eval.frames import unit_frames
from units.records import UnitSequence, run_length, write_units


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("hyphen", [False, True])
def test_abx_in_context_is_that_of_the_loops(tmp_path: Path, distance: str, hyphen: bool) -> None:
    corpus = Corpus(tmp_path, seed=len(distance), hyphen=hyphen)
    found = score(corpus, tmp_path / "scores", distance)
    tokens = corpus.with_frames(distance)
    groups = Counter((token["phone"], token["context"], token["speaker"]) for token in tokens)
    assert max(groups.values()) <= 10  # nothing to subsample
    for condition in ("within", "across"):
        expected = abx_by_loops(tokens, condition == "across", False, DISTANCES[distance])
        items = found[condition]["items"]
        assert {(i["phone_a"], i["phone_b"], i["speaker"]): float(i["score"]) for i in items} == pytest.approx(expected)
        assert found[condition]["value"] == pytest.approx(mean_of_pairs(expected))
        weighted = sum(float(i["score"]) * float(i["weight"]) for i in items)
        assert found[condition]["value"] == pytest.approx(weighted)
        assert found[condition]["low"] <= found[condition]["value"] <= found[condition]["high"]


def test_intervals_over_pairs_of_phones_are_another_way_to_draw_the_same_score(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, seed=7)
    by_speakers = score(corpus, tmp_path / "a", "identical")["within"]
    by_pairs = score(corpus, tmp_path / "b", "identical", resample="pairs")["within"]
    assert by_pairs["value"] == by_speakers["value"]
    assert by_pairs["items"] == by_speakers["items"]
    pairs = {frozenset((row["phone_a"], row["phone_b"])) for row in by_pairs["items"]}
    assert by_pairs["conditions"]["interval"].startswith(f"percentile bootstrap over {len(pairs)} pairs of phones")
    assert [of["conditions"]["resample"] for of in (by_speakers, by_pairs)] == ["speakers", "pairs"]
    assert [of["conditions"]["num_resampled"] for of in (by_speakers, by_pairs)] == [3, len(pairs)]
    rows = [[float(row["score"]), float(row["weight"])] for row in by_pairs["items"]]
    groups = [
        np.array(
            [r for r, row in zip(rows, by_pairs["items"], strict=True) if {row["phone_a"], row["phone_b"]} == pair]
        )
        for pair in pairs
    ]
    draw = np.random.default_rng(0)
    means = []
    for _ in range(2000):
        drawn = np.concatenate([groups[i] for i in draw.integers(0, len(groups), len(groups))])
        means.append(np.average(drawn[:, 0], weights=drawn[:, 1]))
    low, high = np.quantile(means, [0.025, 0.975])
    assert by_pairs["low"] == pytest.approx(low, abs=0.03)
    assert by_pairs["high"] == pytest.approx(high, abs=0.03)


def test_abx_in_any_context_is_fastabx_own(tmp_path: Path) -> None:
    import torch
    from fastabx import zerospeech_abx

    corpus = Corpus(tmp_path, seed=1)
    (tmp_path / "pt").mkdir()
    for fileid, frames in corpus.frames.items():
        torch.save(torch.from_numpy(frames), tmp_path / "pt" / f"{fileid}.pt")
    for context, suffix in (("within", ""), ("any", "_any")):
        found = score(corpus, tmp_path / f"scores_{context}", "angular", context)
        for speaker in ("within", "across"):
            reference = zerospeech_abx(
                corpus.item,
                tmp_path / "pt",
                max_size_group=10,
                max_x_across=5,
                speaker=speaker,
                context=context,
                device="cpu",
                progress=False,
            )
            assert found[f"{speaker}{suffix}"]["value"] == pytest.approx(reference, abs=1e-6)


def test_abx_in_any_context_is_that_of_the_loops(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, seed=1)
    tokens = corpus.with_frames("angular")
    assert max(Counter((token["phone"], token["speaker"]) for token in tokens).values()) <= 10  # nothing to subsample
    found = score(corpus, tmp_path / "scores", "angular", "any")
    for speaker in ("within", "across"):
        expected = abx_by_loops(tokens, speaker == "across", True, angular)
        items = found[f"{speaker}_any"]["items"]
        errors = {(i["phone_a"], i["phone_b"], i["speaker"]): float(i["score"]) for i in items}
        assert errors == pytest.approx(expected, abs=1e-6)
        assert found[f"{speaker}_any"]["value"] == pytest.approx(mean_of_pairs(expected))


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["within", "any"]), st.integers(3, 30))
def test_every_condition_has_the_comparisons_and_errors_of_the_loops(
    seed: int, context: str, num_segments: int
) -> None:
    with TemporaryDirectory() as name:
        corpus = Corpus(Path(name), seed)
        chosen = np.sort(np.random.default_rng(seed).permutation(len(corpus.tokens))[:num_segments])
        lines = corpus.item.read_text().splitlines()
        corpus.item.write_text("\n".join([lines[0], *(lines[1 + i] for i in chosen)]) + "\n")
        tokens = [corpus.with_frames("identical")[i] for i in chosen]
        for speaker in ("within", "across"):
            expected = abx_by_loops(tokens, speaker == "across", context == "any", identical)
            folder = Path(name, speaker)
            if not expected:
                with pytest.raises(InputError, match=f"no A, B and X {speaker} speakers"):
                    score(corpus, folder, "identical", context, speakers=[speaker])
                continue
            (found,) = score(corpus, folder, "identical", context, speakers=[speaker]).values()
            errors = {(i["phone_a"], i["phone_b"], i["speaker"]): float(i["score"]) for i in found["items"]}
            assert errors == pytest.approx(expected, abs=1e-6)
            assert found["value"] == pytest.approx(mean_of_pairs(expected), abs=1e-6)


def test_names_of_conditions_tell_context_and_segments_apart_and_keep_those_of_the_paper() -> None:
    assert condition_name("within", "within", "triphone") == "within"
    assert condition_name("across", "any", "triphone") == "across_any"
    assert condition_name("across", "within", "phoneme") == "across_phoneme"
    assert condition_name("within", "any", "phoneme") == "within_any_phoneme"


def test_units_that_are_the_phones_make_no_error_where_segments_are_whole_phones(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines, sequences = [HEADER], []
    for file in range(4):
        units = rng.permutation(np.repeat([0, 1, 2], 6))
        sequences.append(UnitSequence(f"f{file}", *run_length(units.repeat(3))))
        for place, unit in enumerate(units):
            lines.append(f"f{file} {place * 0.06:.2f} {place * 0.06 + 0.06:.2f} P{unit} X Y s{file % 2}")
    (tmp_path / "triphone.item").write_text("\n".join(lines) + "\n")
    write_units(tmp_path / "units.jsonl", sequences)
    score_abx(
        tmp_path / "triphone.item",
        [Scored(unit_frames(tmp_path / "units.jsonl", 50.0), SUBJECT, tmp_path)],
        metric="abx_units",
        distance="identical",
        speakers=["within", "across"],
        dataset="dev",
        device="cpu",
        seed=0,
    )
    values = [json.loads((tmp_path / f"abx_units.dev.{c}.json").read_text())["value"] for c in ("within", "across")]
    assert values == [0.0, 0.0]
