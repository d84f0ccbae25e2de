"""Phones by manner of articulation: the classes that figures 8 to 10 sort and colour them by."""

from corpora.annotations import SILENCE
from eval.ipa import VOWELS

MANNERS = {
    "Stops": ("P", "B", "T", "D", "K", "G", "DX", "Q"),
    "Affricates": ("CH", "JH"),
    "Fricatives": ("F", "V", "TH", "DH", "S", "Z", "SH", "ZH", "HH"),
    "Nasals": ("M", "N", "NG", "EM", "EN"),
    "Approximants": ("L", "R", "W", "Y", "WH", "EL"),
}
CLASSES = ("Vowels", *MANNERS, "Other", "Silence")
"""In the order in which figures have them; what is not ARPAbet is other."""
CLASS_COLOURS = {
    **{"Vowels": "#D55E00", "Stops": "#0072B2", "Affricates": "#882255", "Fricatives": "#009E73"},
    **{"Nasals": "#CC79A7", "Approximants": "#B8860B", "Other": "#6f6f6f", "Silence": "#bbbbbb"},
}
CLASS_OF = {
    **dict.fromkeys(VOWELS, "Vowels"),
    **{phone: name for name, phones in MANNERS.items() for phone in phones},
    SILENCE: "Silence",
}


def phone_class(label: str) -> str:
    """The class of a phone, whatever the stress of its label.

    >>> phone_class("AH0"), phone_class("CH"), phone_class("SIL"), phone_class("ts")
    ('Vowels', 'Affricates', 'Silence', 'Other')
    """
    return CLASS_OF.get(label) or CLASS_OF.get(label.rstrip("012"), "Other")
