"""Speech that Spin has perturbed: the equaliser and the voice."""

import sys
from typing import Any

import numpy as np
import pytest
import scipy.signal

from artifacts.errors import InputError
from units.spin.batches import Batches
from units.spin.perturbation import change_voice, draw_equaliser, peak, perturb, praat, shelf
from units.spin.settings import PerturbationSettings, SpinRecipe

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
