"""Phone labels as people read them: ARPAbet in the letters of the International Phonetic Alphabet."""

from corpora.annotations import SILENCE

VOWELS = {
    **{"AA": "ɑ", "AE": "æ", "AH": "ʌ", "AO": "ɔ", "AW": "aʊ", "AX": "ə", "AXR": "ɚ", "AY": "aɪ", "EH": "ɛ", "ER": "ɝ"},
    **{"EY": "eɪ", "IH": "ɪ", "IX": "ɨ", "IY": "i", "OW": "oʊ", "OY": "ɔɪ", "UH": "ʊ", "UW": "u", "UX": "ʉ"},
}
CONSONANTS = {
    **{"B": "b", "CH": "tʃ", "D": "d", "DH": "ð", "DX": "ɾ", "EL": "l̩", "EM": "m̩", "EN": "n̩", "F": "f", "G": "ɡ"},
    **{"HH": "h", "JH": "dʒ", "K": "k", "L": "l", "M": "m", "N": "n", "NG": "ŋ", "P": "p", "Q": "ʔ", "R": "ɹ"},
    **{"S": "s", "SH": "ʃ", "T": "t", "TH": "θ", "V": "v", "W": "w", "WH": "ʍ", "Y": "j", "Z": "z", "ZH": "ʒ"},
}
REDUCED = {"AH0": "ə", "ER0": "ɚ"}
"""Vowels whose letter depends on stress, where the labels say that there is none."""


def ipa(label: str) -> str:
    """The label in IPA, without its stress digit; silence is nothing, a label not of ARPAbet stays as it is.

    >>> ipa("AH0"), ipa("AH1"), ipa("SIL"), ipa("ts")
    ('ə', 'ʌ', '', 'ts')
    """
    if label == SILENCE:
        return ""
    letters = VOWELS | CONSONANTS
    return REDUCED.get(label) or letters.get(label) or VOWELS.get(label.rstrip("012"), label)
