"""eSpeak NG through its C interface: speech from phoneme strings, with sample-exact phone boundaries.

eSpeak NG is a formant synthesiser (espeak-ng, GPL-3). Its callback reports an event for every
phoneme it starts, with the sample at which it starts, so that annotations are exact.

State leaks from one utterance into the next (flutter, wave phase) and opening the library again
does not clear it: whoever wants the same bytes twice speaks the same utterances in the same order
in a fresh process.
"""

import ctypes
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from artifacts.errors import InputError

SAMPLE_RATE_HZ = 22050

# espeak-ng/speak_lib.h
_SYNCHRONOUS = 2
_PHONEME_EVENTS, _DONT_EXIT = 0x1, 0x8000
_UTF8, _PHONEMES_IN_BRACKETS = 0x1, 0x100
_RATE, _PITCH, _RANGE = 1, 3, 4
_LIST_TERMINATED, _PHONEME = 0, 7


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True, slots=True)
class Sound:
    """What was spoken: int16 samples at 22,050 Hz, (num_samples,), and where each phoneme starts."""

    samples: np.ndarray
    onsets: list[tuple[int, str]]
    """(sample, eSpeak's mnemonic); the mnemonic of a pause is empty."""


def installed() -> tuple[Path, Path]:
    """The library's file and the folder of its data.

    Raises:
        InputError: eSpeak NG is not installed.
    """
    try:
        import espeakng_loader
    except ImportError:
        raise InputError(
            "layout: synthetic: found no eSpeak NG, expected the package espeakng-loader "
            "(pip install espeakng-loader, or this project's extra `synthetic`)"
        ) from None
    return Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())


class Espeak:
    """The library, opened once a process.

    Args:
        data: Folder of its data, where `voices/!v` holds the voice variants.
    """

    def __init__(self, data: Path) -> None:
        library, _ = installed()
        self._library = ctypes.CDLL(str(library))
        self._library.espeak_Synth.argtypes = [
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_uint,
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]
        self._library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        rate_hz = self._library.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), _PHONEME_EVENTS | _DONT_EXIT)
        if rate_hz != SAMPLE_RATE_HZ:
            raise RuntimeError(f"eSpeak NG with the data in {data} gave {rate_hz} Hz, expected {SAMPLE_RATE_HZ}")
        # The callback is kept: ctypes would free it while the library still calls it.
        self._callback = _Callback(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)
        self._samples: list[np.ndarray] = []
        self._onsets: list[tuple[int, str]] = []

    def _receive(
        self, wave: "ctypes._Pointer[ctypes.c_short]", num_samples: int, events: "ctypes._Pointer[_Event]"
    ) -> int:
        if wave and num_samples > 0:
            self._samples.append(np.ctypeslib.as_array(wave, (num_samples,)).copy())
        index = 0
        while (event := events[index]).type != _LIST_TERMINATED:
            if event.type == _PHONEME:
                name = ctypes.string_at(ctypes.addressof(event.id), 8).split(b"\0")[0]
                self._onsets.append((event.sample, name.decode()))
            index += 1
        return 0

    def set_voice(self, name: str, rate: int, pitch: int, pitch_range: int) -> None:
        """Choose a voice (`language+variant`), its speed in words a minute, pitch and pitch range (0-99)."""
        status = self._library.espeak_SetVoiceByName(name.encode())
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range)):
            status = status or self._library.espeak_SetParameter(parameter, value, 0)
        if status != 0:
            raise RuntimeError(f"eSpeak NG refused the voice {name} at {rate}, {pitch}, {pitch_range}: status {status}")

    def say(self, text: str, seed: int) -> Sound:
        """Speak `text`, in which `[[...]]` holds phoneme mnemonics parted by `|`.

        Args:
            seed: Of the synthesiser's own noise and jitter.
        """
        self._samples, self._onsets = [], []
        self._library.espeak_ng_SetRandSeed(seed % 2**31)
        encoded = text.encode()
        flags = _UTF8 | _PHONEMES_IN_BRACKETS
        status = self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, flags, None, None)
        status = status or self._library.espeak_Synchronize()
        if status != 0 or not self._samples:
            raise RuntimeError(f"eSpeak NG did not speak {text!r}: status {status}")
        return Sound(np.concatenate(self._samples), self._onsets)
