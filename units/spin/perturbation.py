"""The second view of an utterance: the same words as another speaker might say them.

Formants, f0 and its range are changed by Praat, then a random parametric equaliser changes the
timbre: the speaker perturbation of NANSY (Choi et al. 2021, arXiv 2110.14513), as Spin uses it.
Praat comes with the package praat-parselmouth (GPL), which only this needs.
"""

from importlib import import_module
from types import ModuleType

import numpy as np
from scipy.signal import sosfilt

from artifacts.errors import InputError
from corpora.audio import SAMPLE_RATE_HZ
from units.spin.settings import LOWEST_F0_HZ, PerturbationSettings


def praat() -> ModuleType:
    """The package parselmouth.

    Raises:
        InputError: It is not installed.
    """
    try:
        return import_module("parselmouth")
    except ImportError:
        raise InputError(
            "parselmouth: not installed, expected it for Spin's speaker perturbation: "
            "python -m pip install praat-parselmouth (or this project with its extra `spin`)"
        ) from None


def perturb(waveform: np.ndarray, settings: PerturbationSettings, rng: np.random.Generator) -> np.ndarray:
    """Another speaker's view of a waveform at 16 kHz, float32 (samples,) to the same, within [-1, 1]."""
    formants, pitch, spread = (
        _draw_ratio(rng, most) for most in (settings.formant_ratio, settings.pitch_ratio, settings.range_ratio)
    )
    limits_hz = (settings.pitch_floor_hz, settings.pitch_ceiling_hz)
    voice = change_voice(waveform, formants, pitch, spread, limits_hz, seed=int(rng.integers(2**53)))
    equalised = sosfilt(draw_equaliser(settings, rng), voice)
    return np.clip(equalised, -1, 1).astype(np.float32)


def _draw_ratio(rng: np.random.Generator, most: float) -> float:
    ratio = rng.uniform(1, most)
    return float(ratio if rng.random() < 0.5 else 1 / ratio)


def change_voice(
    waveform: np.ndarray,
    formant_ratio: float,
    pitch_ratio: float,
    range_ratio: float,
    limits_hz: tuple[float, float],
    seed: int,
) -> np.ndarray:
    """Shift formants and f0 by Praat's "Change gender", which keeps the duration.

    Args:
        waveform: (samples,) at 16 kHz.
        formant_ratio: New formants over old.
        pitch_ratio: New median of f0 over old.
        range_ratio: New distance of f0 from its median over old, both in the new pitch; less where f0 would
            go below 20 Hz.
        limits_hz: Lowest and highest f0 looked for.
        seed: Of Praat's own draws, below 2^53: it puts voiceless stretches together at random.

    Returns:
        float64, (samples,). Where nothing is voiced, Praat has nothing to change: the waveform itself.

    Raises:
        InputError: parselmouth is not installed.
    """
    sound = praat().Sound(waveform.astype(np.float64), SAMPLE_RATE_HZ)
    pitch = sound.to_pitch_ac(pitch_floor=limits_hz[0], pitch_ceiling=limits_hz[1])
    f0 = pitch.selected_array["frequency"]
    voiced = f0[f0 > 0]
    if not len(voiced):
        return waveform.astype(np.float64)
    median = float(np.median(voiced)) * pitch_ratio
    depth = median - float(voiced.min()) * pitch_ratio
    if range_ratio * depth > median - LOWEST_F0_HZ:
        range_ratio = (median - LOWEST_F0_HZ) / depth
    praat().praat.run(f"random_initializeWithSeedUnsafelyButPredictably ({seed})")
    changed = praat().praat.call([sound, pitch], "Change gender", formant_ratio, median, range_ratio, 1.0)
    return np.asarray(changed.values[0], dtype=np.float64)


def draw_equaliser(settings: PerturbationSettings, rng: np.random.Generator) -> np.ndarray:
    """A random equaliser as second-order sections, (bands, 6): a low shelf, peaks, a high shelf."""
    frequencies = np.geomspace(settings.lowest_hz, settings.highest_hz, settings.bands)
    qualities = settings.lowest_q * (settings.highest_q / settings.lowest_q) ** rng.random(settings.bands)
    gains = rng.uniform(-settings.gain_db, settings.gain_db, settings.bands)
    bands = list(zip(frequencies, qualities, gains, strict=True))
    return np.stack([shelf(*bands[0], sign=1), *(peak(*band) for band in bands[1:-1]), shelf(*bands[-1], sign=-1)])


def peak(frequency_hz: float, quality: float, gain_db: float) -> np.ndarray:
    """A peaking biquad of the Audio EQ Cookbook (Bristow-Johnson), b0 b1 b2 1 a1 a2, at 16 kHz."""
    amplitude, omega, alpha = _shape(frequency_hz, quality, gain_db)
    middle = -2 * np.cos(omega)
    rising = [1 + alpha * amplitude, middle, 1 - alpha * amplitude]
    falling = [1 + alpha / amplitude, middle, 1 - alpha / amplitude]
    sections: np.ndarray = np.array(rising + falling) / falling[0]
    return sections


def shelf(frequency_hz: float, quality: float, gain_db: float, sign: int) -> np.ndarray:
    """A shelving biquad of the Audio EQ Cookbook, as `peak`: low with `sign` 1, high with -1."""
    amplitude, omega, alpha = _shape(frequency_hz, quality, gain_db)
    cosine, slope = sign * np.cos(omega), 2 * np.sqrt(amplitude) * alpha
    more, less = amplitude + 1, amplitude - 1
    rising = [
        amplitude * (more - less * cosine + slope),
        amplitude * 2 * sign * (less - more * cosine),
        amplitude * (more - less * cosine - slope),
    ]
    falling = [more + less * cosine + slope, -2 * sign * (less + more * cosine), more + less * cosine - slope]
    sections: np.ndarray = np.array(rising + falling) / falling[0]
    return sections


def _shape(frequency_hz: float, quality: float, gain_db: float) -> tuple[float, float, float]:
    """Square root of the amplitude, angular frequency, and the Cookbook's alpha."""
    omega = 2 * np.pi * frequency_hz / SAMPLE_RATE_HZ
    return 10 ** (gain_db / 40), omega, np.sin(omega) / (2 * quality)
