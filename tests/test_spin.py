"""The parts of Spin: targets, loss, perturbation, batches, settings, jobs."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
import soundfile
import torch
import yaml
from conftest import TINY, snakemake

from artifacts.errors import InputError
from artifacts.settings import parse_settings
from artifacts.workers import Workers
from corpora.manifest import Utterance
from units.spin import batches as spin_batches
from units.spin.batches import Batches
from units.spin.objective import sinkhorn, swapped_prediction
from units.spin.perturbation import change_voice, draw_equaliser, peak, perturb, praat, shelf
from units.spin.settings import ModelSettings, OptimizerSettings, PerturbationSettings, SpinRecipe, learning_rate
from workflow.reading import read_experiment


def cosines(frames: int, codes: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(frames, 8)), rng.normal(size=(codes, 8))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return a @ b.T


def oracle_sinkhorn(scores: np.ndarray, epsilon: float = 0.02, iterations: int = 3) -> np.ndarray:
    """Algorithm 1 of Caron et al. (2020), step by step, with codes as rows."""
    q = np.exp(scores / epsilon).T
    q /= q.sum()
    codes, frames = q.shape
    for _ in range(iterations):
        for code in range(codes):
            q[code] *= (1 / codes) / q[code].sum()
        for frame in range(frames):
            q[:, frame] *= (1 / frames) / q[:, frame].sum()
    return (q * frames).T


def test_targets_are_those_of_sinkhorns_algorithm() -> None:
    scores = cosines(50, 6)
    found = sinkhorn(torch.from_numpy(scores).float(), ModelSettings()).numpy()
    np.testing.assert_allclose(found, oracle_sinkhorn(scores), atol=1e-5)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


def test_in_the_end_all_codes_have_the_same_share() -> None:
    scores = torch.from_numpy(cosines(300, 6))
    for epsilon in (0.05, 0.5):
        q = sinkhorn(scores, ModelSettings(epsilon=epsilon, iterations=500))
        np.testing.assert_allclose(q.sum(0), 50, rtol=1e-3)
        np.testing.assert_allclose(q.sum(1), 1, rtol=1e-6)


class Mirror(Workers):
    """Two workers with the same frames: every sum is twice this one's."""

    def add_up(self, tensor: torch.Tensor) -> None:
        tensor.mul_(2)


def test_the_targets_of_all_workers_are_made_together() -> None:
    scores = torch.from_numpy(cosines(40, 5))
    alone = sinkhorn(torch.cat([scores, scores]), ModelSettings())
    torch.testing.assert_close(sinkhorn(scores, ModelSettings(), Mirror(0, 2)), alone[:40])


def test_the_loss_is_the_cross_entropy_of_each_view_with_the_others_targets() -> None:
    first, second = cosines(30, 5), cosines(30, 5, seed=1)
    q = oracle_sinkhorn(first), oracle_sinkhorn(second)
    p = [np.exp(view / 0.1) / np.exp(view / 0.1).sum(1, keepdims=True) for view in (first, second)]
    loss = 0.0
    for frame in range(30):
        for code in range(5):
            loss -= 0.5 * (
                q[0][frame, code] * np.log(p[1][frame, code]) + q[1][frame, code] * np.log(p[0][frame, code])
            )
    agreed = (p[0].argmax(1) == q[1].argmax(1)).sum() + (p[1].argmax(1) == q[0].argmax(1)).sum()
    usage = np.bincount(np.concatenate([x.argmax(1) for x in p]), minlength=5) / 60
    tally = swapped_prediction(torch.from_numpy(first), torch.from_numpy(second), ModelSettings())
    assert tally.loss.item() == pytest.approx(loss, rel=1e-6)
    figures = tally.figures()
    assert figures["loss"] == pytest.approx(loss / 30, rel=1e-6)
    assert figures["agreement"] == pytest.approx(agreed / 60)
    assert figures["code_perplexity"] == pytest.approx(np.exp(-sum(u * np.log(u) for u in usage if u)))
    mean = (p[0] + p[1]).mean(0) / 2
    assert figures["prediction_perplexity"] == pytest.approx(np.exp(-(mean * np.log(mean)).sum()))


def test_targets_have_no_gradient() -> None:
    first = torch.from_numpy(cosines(30, 5)).requires_grad_()
    second = torch.from_numpy(cosines(30, 5, seed=1))
    swapped_prediction(first, second, ModelSettings()).loss.backward()
    assert first.grad is not None
    targets = torch.from_numpy(oracle_sinkhorn(second.numpy()))
    expected = ((first.detach() / 0.1).softmax(1) - targets) / 0.1 / 2  # that of the cross-entropy alone
    torch.testing.assert_close(first.grad, expected, atol=1e-6, rtol=1e-6)


# The equaliser.


def analog(kind: str, s: np.ndarray, quality: float, gain_db: float) -> np.ndarray:
    """The prototypes that the Cookbook derives its biquads from, at a centre frequency of 1."""
    a = 10 ** (gain_db / 40)
    if kind == "peak":
        return (s**2 + s * a / quality + 1) / (s**2 + s / (a * quality) + 1)
    low, high = s**2 + np.sqrt(a) / quality * s + a, a * s**2 + np.sqrt(a) / quality * s + 1
    return a * low / high if kind == "low" else a * high / low


@pytest.mark.parametrize("kind", ["peak", "low", "high"])
@pytest.mark.parametrize(("frequency", "quality", "gain"), [(60, 2, 12), (1000, 3.3, -7), (7600, 5, 4)])
def test_a_band_responds_as_its_analog_prototype(kind: str, frequency: float, quality: float, gain: float) -> None:
    section = (
        peak(frequency, quality, gain) if kind == "peak" else shelf(frequency, quality, gain, 1 - 2 * (kind == "high"))
    )
    angles = np.linspace(0.01, 3.1, 200)
    s = 1j * np.tan(angles / 2) / np.tan(np.pi * frequency / 16_000)
    _, response = scipy.signal.freqz(section[:3], section[3:], angles)
    np.testing.assert_allclose(response, analog(kind, s, quality, gain), rtol=1e-6)
    at_centre = abs(scipy.signal.freqz(section[:3], section[3:], [2 * np.pi * frequency / 16_000])[1][0])
    assert 20 * np.log10(at_centre) == pytest.approx(gain if kind == "peak" else gain / 2)


def test_an_equaliser_is_drawn_within_its_limits() -> None:
    settings = PerturbationSettings()
    centres = 60 * (7600 / 60) ** (np.arange(10) / 9)
    gains, qualities = [], []
    for seed in range(50):
        sections = draw_equaliser(settings, np.random.default_rng(seed))
        assert sections.shape == (10, 6)
        for centre, (b0, _b1, b2, _a0, a1, a2) in list(zip(centres, sections, strict=True))[1:-1]:
            # cos(omega) = -a1 / (1 + a2), of a peak.
            assert -a1 / (1 + a2) == pytest.approx(np.cos(2 * np.pi * centre / 16_000))
            amplitude = np.sqrt((b0 - b2) / (1 - a2))
            gains.append(40 * np.log10(amplitude))
            qualities.append(np.sin(2 * np.pi * centre / 16_000) * (1 + a2) / (1 - a2) / amplitude / 2)
    assert -12 <= min(gains) < -11
    assert 11 < max(gains) <= 12
    assert 2 <= min(qualities) < 2.1
    assert 4.8 < max(qualities) <= 5
    assert np.median(qualities) == pytest.approx(np.sqrt(10), rel=0.05)  # of a log-uniform draw
    flat = draw_equaliser(PerturbationSettings(gain_db=0), np.random.default_rng(0))
    np.testing.assert_allclose(flat[:, :3], flat[:, 3:], atol=1e-12)


# The voice.


@pytest.fixture
def parselmouth() -> Any:
    return pytest.importorskip("parselmouth")


def vowel(f0: float = 120, wobble: float = 0, seconds: float = 1.0) -> np.ndarray:
    """A glottal pulse train through two resonances, at 600 and 1,600 Hz."""
    times = np.arange(int(16_000 * seconds)) / 16_000
    phase = np.cumsum(f0 + wobble * np.sin(2 * np.pi * 3 * times)) / 16_000
    pulses = np.diff(np.floor(phase), prepend=0)
    for formant in (600, 1600):
        radius, angle = 0.98, 2 * np.pi * formant / 16_000
        pulses = scipy.signal.lfilter([1], [1, -2 * radius * np.cos(angle), radius**2], pulses)
    return (0.3 * pulses / np.abs(pulses).max()).astype(np.float32)


def f0_of(parselmouth: Any, waveform: np.ndarray) -> np.ndarray:
    pitch = parselmouth.Sound(waveform.astype(np.float64), 16_000).to_pitch_ac(pitch_floor=50, pitch_ceiling=700)
    found: np.ndarray = pitch.selected_array["frequency"][5:-5]
    return found[found > 0]


def first_formant(parselmouth: Any, waveform: np.ndarray) -> float:
    formants = parselmouth.Sound(waveform.astype(np.float64), 16_000).to_formant_burg(maximum_formant=5000)
    return float(np.nanmedian([formants.get_value_at_time(1, t) for t in np.linspace(0.2, 0.8, 30)]))


@pytest.mark.parametrize("ratio", [0.6, 1.5, 1.9])
def test_f0_changes_by_the_ratio_asked_for_and_the_length_does_not(parselmouth: Any, ratio: float) -> None:
    for num_samples in (16_000, 15_999, 9_001):
        waveform = vowel()[:num_samples]
        changed = change_voice(waveform, 1.0, ratio, 1.0, (75, 600), seed=0)
        assert changed.shape == waveform.shape
        assert np.median(f0_of(parselmouth, changed)) == pytest.approx(120 * ratio, rel=0.03)


def test_formants_and_range_change_by_the_ratios_asked_for(parselmouth: Any) -> None:
    waveform = vowel(wobble=15)
    before = first_formant(parselmouth, waveform)
    for ratio in (1.25, 0.8):
        changed = change_voice(waveform, ratio, 1.0, 1.0, (75, 600), seed=0)
        assert first_formant(parselmouth, changed) / before == pytest.approx(ratio, rel=0.1)
        assert np.median(f0_of(parselmouth, changed)) == pytest.approx(120, rel=0.03)
    wide = change_voice(waveform, 1.0, 1.0, 1.5, (75, 600), seed=0)
    spread = np.std(f0_of(parselmouth, wide)) / np.std(f0_of(parselmouth, waveform))
    assert spread == pytest.approx(1.5, rel=0.15)


def test_speech_whose_f0_would_fall_below_zero_is_changed_all_the_same(parselmouth: Any) -> None:
    both = np.concatenate([vowel(80, seconds=0.5), vowel(500, seconds=2)])
    changed = change_voice(both, 1.0, 0.5, 1.5, (75, 600), seed=0)
    assert changed.shape == both.shape
    assert np.isfinite(changed).all()
    assert np.median(f0_of(parselmouth, changed)) == pytest.approx(250, rel=0.05)


def test_without_voice_there_is_nothing_but_the_equaliser(parselmouth: Any) -> None:
    for waveform in (np.zeros(8000, np.float32), np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)):
        np.testing.assert_array_equal(change_voice(waveform, 1.4, 2, 1.5, (75, 600), seed=0), waveform)


def test_a_perturbed_waveform_follows_from_the_draw_alone(parselmouth: Any) -> None:
    waveform = vowel() * 3
    views = [perturb(waveform, PerturbationSettings(), np.random.default_rng(seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(views[0], views[1])
    assert not np.allclose(views[0], views[2], atol=1e-2)
    for view in views:
        assert view.dtype == np.float32
        assert view.shape == waveform.shape
        assert np.abs(view).max() <= 1


def test_a_missing_praat_is_one_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "parselmouth", None)
    with pytest.raises(InputError, match=r"parselmouth: not installed, .* pip install praat-parselmouth"):
        praat()
    with pytest.raises(InputError, match="parselmouth: not installed"):
        Batches([], SpinRecipe(), 0)


# Batches.

SMALL = {"min_samples": 1000, "max_samples": 5000, "max_batch_samples": 12_000, "num_buckets": 4}


@pytest.fixture
def utterances(tmp_path: Path) -> list[Utterance]:
    rng = np.random.default_rng(0)
    found = []
    for index in range(11):
        path = tmp_path / f"u{index}.wav"
        soundfile.write(path, rng.normal(size=900 + 600 * index) * 0.1, 16_000, subtype="FLOAT")
        found.append(Utterance(path.stem, path, 900 + 600 * index, "s"))
    return found


def test_rows_are_crops_of_one_length_and_their_perturbation_is_their_own(
    utterances: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spin_batches, "praat", lambda: None)
    monkeypatch.setattr(spin_batches, "perturb", lambda waveform, _, rng: waveform + np.float32(rng.random()))
    drawn: list[dict[str, float]] = []
    for num_buckets in (1, 4):  # other batches, the same perturbations
        batches = Batches(utterances, SpinRecipe.model_validate({"batches": {**SMALL, "num_buckets": num_buckets}}), 5)
        assert batches.num_short == 1
        for epoch in (0, 1):
            shifts: dict[str, float] = {}
            for number in range(epoch * batches.batches_per_epoch, (epoch + 1) * batches.batches_per_epoch):
                views = batches[number]
                lengths = [u.num_samples for u in utterances if u.fileid in views.fileids]
                assert views.original.shape == (len(views.fileids), min(5000, *lengths))
                assert views.original.size <= 12_000
                for fileid, original, perturbed in zip(views.fileids, views.original, views.perturbed, strict=True):
                    whole = soundfile.read(next(u.path for u in utterances if u.fileid == fileid), dtype="float32")[0]
                    windows = np.lib.stride_tricks.sliding_window_view(whole, len(original))
                    assert (windows == original).all(1).any()
                    shifts[fileid] = float(np.median(perturbed - original))
            assert sorted(shifts) == sorted(u.fileid for u in utterances[1:])  # each once in an epoch
            assert len(set(shifts.values())) == 10
            drawn.append(shifts)
    for fileid, shift in drawn[0].items():
        assert drawn[2][fileid] == pytest.approx(shift, abs=1e-5)
        assert drawn[1][fileid] != pytest.approx(shift, abs=1e-5)  # another epoch


def test_workers_share_the_rows_of_a_batch(utterances: list[Utterance], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spin_batches, "praat", lambda: None)
    monkeypatch.setattr(spin_batches, "perturb", lambda waveform, _, rng: waveform + np.float32(rng.random()))
    recipe = SpinRecipe.model_validate({"batches": SMALL})
    alone = Batches(utterances, recipe, 0)
    for number in range(alone.batches_per_epoch):
        shares = [Batches(utterances, recipe, 0, Workers(rank, 3))[number] for rank in range(3)]
        for rank, share in enumerate(shares):
            assert share.fileids == alone[number].fileids[rank::3]
            np.testing.assert_array_equal(share.original, alone[number].original[rank::3])
            np.testing.assert_array_equal(share.perturbed, alone[number].perturbed[rank::3])


# Settings.


def test_the_learning_rate_rises_and_falls_linearly() -> None:
    rates = {step: learning_rate(step, OptimizerSettings()) for step in (0, 1250, 2500, 4999, 6000)}
    assert rates == pytest.approx({0: 1e-6, 1250: 5.05e-5, 2500: 1e-4, 4999: 1e-6, 6000: 1e-6})
    middle = learning_rate(2500 + 1000, OptimizerSettings())
    assert middle == pytest.approx(1e-4 - (1e-4 - 1e-6) * 1000 / 2499)
    assert SpinRecipe().num_steps == 5000


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"model": {"epsilon": 0.01}}, "model.epsilon: found 0.01, expected"),
        ({"batches": {"min_samples": 300_000}}, "max_samples: found 272000, expected more than min_samples 300000"),
        ({"batches": {"min_samples": 600}}, "batches.min_samples: found 600, expected at least 640"),
        ({"perturbation": {"lowest_q": 6}}, "lowest_q: found 6, expected less than highest_q"),
        (
            {"perturbation": {"pitch_floor_hz": 39}},
            "pitch_floor_hz: found 39, expected at least 40: 20 times pitch_ratio",
        ),
        ({"codebook": {}}, "codebook: unknown key"),
    ],
)
def test_a_wrong_recipe_is_one_line(recipe: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        parse_settings(SpinRecipe, recipe, "recipe.yaml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("recipe", sorted((TINY.parent / "spin").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_recipes_are_recipes(recipe: Path) -> None:
    read = parse_settings(SpinRecipe, yaml.safe_load(recipe.read_text()), str(recipe))
    if recipe.stem == "base":
        assert read == SpinRecipe()


# The experiment.


def with_spin(tmp_path: Path, spin: dict[str, Any], **encoders: Any) -> Path:
    """The tiny experiment with an encoder fine-tuned by Spin."""
    experiment = yaml.safe_load(TINY.read_text())
    entry = {"family": "spin", "recipe": "spin/tiny.yaml", "base": "spidr", "train": ["train"], "layers": [4]}
    experiment["encoders"] |= {**encoders, "spun": entry | {"quantizers": ["codebook"]} | spin}
    for named in (*experiment["encoders"].values(), *experiment["slms"].values()):
        if "recipe" in named:
            named["recipe"] = str(TINY.parent / named["recipe"])
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(experiment, sort_keys=False))
    return path


HUBERT = {"family": "hub", "source": "hubert-base", "layers": [12]}


@pytest.mark.parametrize(
    ("spin", "said"),
    [
        (
            {"base": "nobody"},
            "encoders.spun.base: found 'nobody', expected one of the HuBERTs, WavLMs and SpidRs: spidr",
        ),
        ({"base": "mfcc"}, "encoders.spun.base: found 'mfcc', expected one of"),
        ({"base": "dinosr"}, "encoders.spun.base: found 'dinosr', expected one of"),
        ({"base": "wav2vec"}, "encoders.spun.base: found 'wav2vec', expected one of"),
        ({"base": "spun"}, "encoders.spun.base: found 'spun', expected one of"),
        ({"train": ["lexical"]}, "encoders.spun.train: found 'lexical', expected one of the corpora of layout folder"),
        ({"train": []}, "encoders.spun.train: found"),
        ({"layers": [3, 4]}, r"encoders.spun.layers: found \[3, 4\] with quantizer codebook, expected \[4\]"),
        ({"layers": [5]}, "encoders.spun.layers: found 5, expected 0 to 4"),
        ({"recipe": "spin/base.yaml"}, "found model.frozen_blocks 10, expected at most 3: the encoder has 4 layers"),
        ({"base": "hubert", "layers": [13]}, "encoders.spun.layers: found 13, expected 0 to 12"),
    ],
)
def test_a_wrong_entry_is_one_line(tmp_path: Path, spin: dict[str, Any], said: str) -> None:
    wav2vec = HUBERT | {"source": "wav2vec2-base"}
    with pytest.raises(InputError, match=said) as error:
        read_experiment(with_spin(tmp_path, spin, hubert=HUBERT, wav2vec=wav2vec))
    assert "\n" not in str(error.value)


def test_a_fine_tuning_of_hubert_is_read(tmp_path: Path) -> None:
    spin = {"base": "hubert", "recipe": "spin/base.yaml", "layers": [12]}
    experiment = read_experiment(with_spin(tmp_path, spin, hubert=HUBERT))
    assert "spun-L12-codebook" in experiment.all_systems
    assert "spun" not in experiment.logged_encoders  # figure 2 is of pretrainings


def test_the_workflow_plans_the_fine_tuning(tmp_path: Path) -> None:
    target = "results/tiny/units/spun-L04-codebook/dev.jsonl"
    done = snakemake(tmp_path, "-n", "-p", target, experiment=with_spin(tmp_path, {}))
    assert done.returncode == 0, done.stderr[-3000:]
    text = done.stdout + done.stderr
    (job,) = [part for part in text.split("\n\n") if "rule finetune_spin:" in part]
    for named in ("input: results/tiny/encoders/spidr/config.json", "corpora/train/manifest.csv", "encoders/spun/base"):
        assert named in job
    assert "--base results/tiny/encoders/spidr --settings" in text
    assert json.dumps({"frozen_blocks": 2})[1:-1].replace(" ", "") in text.replace(" ", "")
    assert "rule pretrain:" in text
    assert text.count("encoders/spun/spin.safetensors") >= 2  # made, and read by those who make units
