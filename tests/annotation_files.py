"""The same annotation of two utterances in every form that users have."""

import csv
from pathlib import Path

import pytest

from corpora.annotations import COLUMNS
from corpora.importers.formats import Format
from corpora.manifest import Utterance, write_manifest

Rows = list[tuple[str, float, float, str, str, str]]

PHONES: Rows = [
    ("84-1-0", 0.0, 0.25, "SIL", "phones", "84"),
    ("84-1-0", 0.25, 0.5, "K", "phones", "84"),
    ("84-1-0", 0.5, 0.75, "AE", "phones", "84"),
    ("84-1-0", 0.75, 1.0, "SIL", "phones", "84"),
    ("61-2-3", 0.0, 0.5, "IY", "phones", "61"),
]
WORDS: Rows = [("84-1-0", 0.25, 0.75, "cat", "words", "84"), ("61-2-3", 0.0, 0.5, "e", "words", "61")]

MFA = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1.0
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1.0
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = ""
        intervals [2]:
            xmin = 0.25
            xmax = 0.75
            text = "cat"
        intervals [3]:
            xmin = 0.75
            xmax = 1.0
            text = ""
    item [2]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 1.0
        intervals: size = 4
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = ""
        intervals [2]:
            xmin = 0.25
            xmax = 0.5
            text = "K"
        intervals [3]:
            xmin = 0.5
            xmax = 0.75
            text = "AE1"
        intervals [4]:
            xmin = 0.75
            xmax = 1.0
            text = "spn"
"""
SHORT_FORM = """File type = "ooTextFile"
Object class = "TextGrid"

0
0.5
<exists>
2
"IntervalTier"
"61 - phones"
0
0.5
1
0
0.5
"IY0"
"IntervalTier"
"61 - words"
0
0.5
1
0
0.5
"e"
"""
FILES: dict[Format, dict[str, str]] = {
    "textgrid": {"g/84/84-1-0.TextGrid": MFA, "g/61/61-2-3.TextGrid": SHORT_FORM},
    "timit": {
        "g/84/84-1-0.PHN": "0 4000 h#\n4000 8000 K\n8000 12000 AE\n12000 16000 pau\n",
        "g/84/84-1-0.WRD": "4000 12000 cat\n",
        "g/61/61-2-3.phn": "0 8000 IY\n",
        "g/61/61-2-3.wrd": "0 8000 e\n",
    },
    "item": {
        "g.item": "#file onset offset #phone prev-phone next-phone talker\n84-1-0 0.0 0.25 sil SIL K 84\n"
        "84-1-0 0.25 0.5 K SIL AE 84\n84-1-0 0.5 0.75 AE K SIL 84\n84-1-0 0.75 1 SIL AE SIL 84\n"
        "61-2-3 0 0.5 IY SIL SIL 61\n"
    },
    "frames": {
        "g.jsonl": '{"audio": "61/61-2-3.flac", "phones": ["IY", "IY"]}\n'
        '{"name": "84-1-0", "phones": ["sil", "K", "AE1", "SIL"]}\n'
    },
    "words": {
        "g.jsonl": '{"fileid": "84-1-0", "speaker": "84", "onset": 0.25, "offset": "0.75", "transcription": "cat"}\n'
        '{"fileid": "61-2-3", "speaker": "61", "onset": 0, "offset": 0.5, "transcription": "e"}\n'
    },
    "librispeech": {
        "g/84/84-1.alignment.txt": '84-1-0 ",cat," "0.25,0.75,1.0"\n',
        "g/61/61-2.alignment.txt": '61-2-3 "e" "0.5"\n',
    },
}
"""The same annotation in every form, as far as it holds it: of .item and frames no words, of the last two no phones."""
TIERS = {
    **dict.fromkeys(("textgrid", "timit"), PHONES + WORDS),
    **dict.fromkeys(("item", "frames"), PHONES),
    **dict.fromkeys(("words", "librispeech"), WORDS),
}
FRAME_RATE_HZ = 4


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "manifest.csv"
    audio = tmp_path / "audio"
    write_manifest(
        path,
        [
            Utterance("84-1-0", audio / "84" / "84-1-0.flac", 16000, "84"),
            Utterance("61-2-3", audio / "61" / "61-2-3.flac", 8100, "61"),
        ],
    )
    return path


def lay_out(folder: Path, files: dict[str, str]) -> Path:
    """Write files; gives what all of them lie in, or the only one."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder / next(iter(files)).partition("/")[0]


def rows_of(path: Path) -> Rows:
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == COLUMNS
    return [(r[0], float(r[1]), float(r[2]), r[3], r[4], r[5]) for r in rows]
