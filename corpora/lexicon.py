"""The words of the synthetic corpus, their forms, and the nonwords made of them.

Pronunciations are ARPAbet with stress, as in the CMU dictionary. No word has /l/ or /r/ after a
vowel of its own syllable (the r-coloured ER is one phone): eSpeak NG gives such a consonant no
stretch of its own.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

Phones = tuple[str, ...]
EDGE = "#"
MIN_PHONES = 4
"""Shortest words of sWUGGY, in phones: parts of three phones leave hardly a nonword."""


@dataclass(frozen=True, slots=True)
class Word:
    """A spoken word: spelling (empty for a nonword) and phones with stress digits on vowels."""

    spelling: str
    phones: Phones


@dataclass(frozen=True, slots=True)
class Topic:
    """What stories are about: words that occur together."""

    nouns: tuple[Word, ...]
    transitive: tuple[Word, ...]
    intransitive: tuple[Word, ...]


def _words(text: str) -> tuple[Word, ...]:
    """Words from lines `spelling PHONE PHONE ...`."""
    entries = [line.split() for line in text.strip().splitlines()]
    return tuple(Word(spelling, tuple(phones)) for spelling, *phones in entries)


TOPICS = {
    "farm": Topic(
        _words("""
            rooster R UW1 S T ER0
            donkey D AA1 NG K IY0
            chicken CH IH1 K AH0 N
            pumpkin P AH1 M P K IH0 N
            meadow M EH1 D OW0
            rabbit R AE1 B AH0 T"""),
        _words("""
            feed F IY1 D
            chase CH EY1 S"""),
        _words("graze G R EY1 Z"),
    ),
    "sea": Topic(
        _words("""
            sailor S EY1 L ER0
            captain K AE1 P T AH0 N
            island AY1 L AH0 N D
            anchor AE1 NG K ER0
            lobster L AA1 B S T ER0
            ocean OW1 SH AH0 N"""),
        _words("""
            rescue R EH1 S K Y UW0
            catch K AE1 CH"""),
        _words("swim S W IH1 M"),
    ),
    "school": Topic(
        _words("""
            teacher T IY1 CH ER0
            student S T UW1 D AH0 N T
            lesson L EH1 S AH0 N
            classroom K L AE1 S R UW2 M
            notebook N OW1 T B UH2 K
            crayon K R EY1 AA2 N"""),
        _words("""
            praise P R EY1 Z
            question K W EH1 S CH AH0 N"""),
        _words("whisper W IH1 S P ER0"),
    ),
    "kitchen": Topic(
        _words("""
            baker B EY1 K ER0
            kitchen K IH1 CH AH0 N
            cookie K UH1 K IY0
            butter B AH1 T ER0
            onion AH1 N Y AH0 N
            muffin M AH1 F IH0 N"""),
        _words("""
            taste T EY1 S T
            serve S ER1 V"""),
        _words("wait W EY1 T"),
    ),
    "city": Topic(
        _words("""
            driver D R AY1 V ER0
            taxi T AE1 K S IY0
            tower T AW1 ER0
            station S T EY1 SH AH0 N
            office AO1 F AH0 S
            subway S AH1 B W EY2"""),
        _words("""
            visit V IH1 Z AH0 T
            pass P AE1 S"""),
        _words("linger L IH1 NG G ER0"),
    ),
    "forest": Topic(
        _words("""
            hunter HH AH1 N T ER0
            mushroom M AH1 SH R UW2 M
            river R IH1 V ER0
            beaver B IY1 V ER0
            spider S P AY1 D ER0
            blossom B L AA1 S AH0 M"""),
        _words("""
            follow F AA1 L OW0
            touch T AH1 CH"""),
        _words("wander W AA1 N D ER0"),
    ),
    "music": Topic(
        _words("""
            singer S IH1 NG ER0
            dancer D AE1 N S ER0
            banjo B AE1 N JH OW0
            drummer D R AH1 M ER0
            concert K AA1 N S ER0 T
            trombone T R AA0 M B OW1 N"""),
        _words("""
            admire AE0 D M AY1 ER0
            applaud AH0 P L AO1 D"""),
        _words("hum HH AH1 M"),
    ),
    "hospital": Topic(
        _words("""
            doctor D AA1 K T ER0
            patient P EY1 SH AH0 N T
            bandage B AE1 N D IH0 JH
            surgeon S ER1 JH AH0 N
            pillow P IH1 L OW0
            fever F IY1 V ER0"""),
        _words("""
            examine IH0 G Z AE1 M AH0 N
            comfort K AH1 M F ER0 T"""),
        _words("sneeze S N IY1 Z"),
    ),
}
THE = Word("the", ("DH", "AH0"))
SINGULAR_DETERMINERS = _words("""
    this DH IH1 S
    that DH AE1 T
    every EH1 V R IY0
    another AH0 N AH1 DH ER0""")
PLURAL_DETERMINERS = _words("""
    these DH IY1 Z
    those DH OW1 Z
    many M EH1 N IY0
    seven S EH1 V AH0 N""")
ADJECTIVES = _words("""
    yellow Y EH1 L OW0
    happy HH AE1 P IY0
    heavy HH EH1 V IY0
    broken B R OW1 K AH0 N
    quiet K W AY1 AH0 T
    hungry HH AH1 NG G R IY0
    wooden W UH1 D AH0 N
    clever K L EH1 V ER0""")
ADVERBS = _words("""
    slowly S L OW1 L IY0
    quickly K W IH1 K L IY0
    again AH0 G EH1 N
    together T AH0 G EH1 DH ER0""")
PREPOSITIONS = _words("""
    behind B IH0 HH AY1 N D
    beside B IH0 S AY1 D
    under AH1 N D ER0""")
UNHEARD = _words("""
    window W IH1 N D OW0
    tiger T AY1 G ER0
    monkey M AH1 NG K IY0
    ribbon R IH1 B AH0 N
    button B AH1 T AH0 N
    dragon D R AE1 G AH0 N
    planet P L AE1 N AH0 T
    lemon L EH1 M AH0 N
    ticket T IH1 K AH0 T
    hammer HH AE1 M ER0
    pepper P EH1 P ER0
    blanket B L AE1 NG K AH0 T""")
"""Words that the training text never has, so that sWUGGY has words out of vocabulary."""

VERBS = tuple(verb for topic in TOPICS.values() for verb in topic.transitive + topic.intransitive)
NOUNS = tuple(noun for topic in TOPICS.values() for noun in topic.nouns)
CONTENT_WORDS = NOUNS + VERBS + ADJECTIVES + ADVERBS
FUNCTION_WORDS = (THE, *SINGULAR_DETERMINERS, *PLURAL_DETERMINERS, *PREPOSITIONS)


def inflect(word: Word) -> Word:
    """The word with the ending of plural nouns and of verbs in the third person: IH Z, S or Z."""
    last = word.phones[-1]
    if last in {"S", "Z", "SH", "ZH", "CH", "JH"}:
        ending: Phones = ("IH0", "Z")
    else:
        ending = ("S",) if last in {"P", "T", "K", "F", "TH"} else ("Z",)
    suffix = "es" if word.spelling.endswith(("s", "sh", "ch")) else "s"
    return Word(word.spelling + suffix, word.phones + ending)


INFLECTED_FORMS = tuple(inflect(word) for word in NOUNS + VERBS)
ALL_FORMS = CONTENT_WORDS + FUNCTION_WORDS + INFLECTED_FORMS + UNHEARD


def without_stress(phones: Phones) -> Phones:
    """Phones without their stress digits."""
    return tuple(phone.rstrip("012") for phone in phones)


def phone_bigrams(phones: Phones) -> set[tuple[str, str]]:
    """Adjacent phones without stress, the word's edges included."""
    return set(pairwise((EDGE, *without_stress(phones), EDGE)))


ATTESTED_BIGRAMS = set().union(*(phone_bigrams(word.phones) for word in ALL_FORMS))


@dataclass(frozen=True, slots=True)
class Crossing:
    """Two words and the two nonwords that have the beginning of the one and the end of the other.

    Words and nonwords share their phones, phone by phone and in number, and what one nonword is
    longer than its word the other is shorter: neither phone frequency nor duration tells them apart.
    """

    words: tuple[Word, Word]
    nonwords: tuple[Word, Word]


def crossings() -> Iterator[Crossing]:
    """All crossings of two words of one phone count whose nonwords obey the phonotactics.

    A nonword is no form of the lexicon, has only phone bigrams that the lexicon has, and one
    primary stress. Unheard words are crossed with each other alone: a nonword with half a heard word
    in it would be likelier than the unheard word the better a model knew its vocabulary.
    """
    known = {without_stress(word.phones) for word in ALL_FORMS}
    words = [word for word in CONTENT_WORDS + UNHEARD if len(word.phones) >= MIN_PHONES]
    for first, second in combinations(words, 2):
        if len(first.phones) != len(second.phones) or (first in UNHEARD) != (second in UNHEARD):
            continue
        for cut in range(1, len(first.phones)):
            phones = first.phones[:cut] + second.phones[cut:], second.phones[:cut] + first.phones[cut:]
            if all(
                without_stress(nonword) not in known
                and phone_bigrams(nonword) <= ATTESTED_BIGRAMS
                and sum("1" in phone for phone in nonword) == 1
                for nonword in phones
            ):
                yield Crossing((first, second), (Word("", phones[0]), Word("", phones[1])))


def draw_crossings(count: int, rng: np.random.Generator) -> list[Crossing]:
    """At most `count` crossings, no nonword twice, the words used as evenly as can be."""
    candidates = list(crossings())
    candidates = [candidates[index] for index in rng.permutation(len(candidates))]
    uses: Counter[Word] = Counter()
    made: set[Phones] = set()
    chosen: list[Crossing] = []
    for limit in range(1, len(candidates) + 1):
        for crossing in candidates:
            if len(chosen) == count:
                return chosen
            new = {without_stress(nonword.phones) for nonword in crossing.nonwords}
            if len(new) < 2 or new & made or any(uses[word] >= limit for word in crossing.words):
                continue
            chosen.append(crossing)
            made |= new
            uses.update(crossing.words)
        if limit > max(uses.values(), default=0):
            return chosen
    return chosen
