"""Sentences, stories and minimal pairs over the lexicon, with number agreement and topics.

What a test set asks for can be learnt from the training text and from nothing beside it:

- every sentence keeps to one topic, and a story of 3 to 5 sentences to one topic and one
  protagonist (tSC);
- nouns agree with their determiners and verbs with their subjects, next to them or across a phrase,
  and transitive verbs have an object where intransitive ones have a place (sBLIMP). Each noun has
  one noun of its topic that never follows it in a training sentence: the pairs are made of these,
  so that no sentence of theirs can be known by heart;
- words are also heard alone, as sWUGGY speaks them.

Pairs come in mirrored twos: what is right in the one is wrong in the other, word by word. Whatever
looks at words, phones or durations without their context is therefore at chance, exactly.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from corpora.lexicon import (
    ADJECTIVES,
    ADVERBS,
    CONTENT_WORDS,
    PLURAL_DETERMINERS,
    PREPOSITIONS,
    SINGULAR_DETERMINERS,
    THE,
    TOPICS,
    Topic,
    Word,
    inflect,
)

Sentence = tuple[Word, ...]
Document = tuple[Sentence, ...]
"""What one utterance says."""

UNPAIRED = 3
"""Noun i of a topic is never followed by noun i + 3 (mod 6) in a training sentence."""


def _one[T](options: Sequence[T], rng: np.random.Generator) -> T:
    return options[int(rng.integers(len(options)))]


def _chance(probability: float, rng: np.random.Generator) -> bool:
    return bool(rng.random() < probability)


def _noun(word: Word, plural: bool) -> Word:
    return inflect(word) if plural else word


def _verb(word: Word, plural: bool) -> Word:
    return word if plural else inflect(word)


def _determiner(plural: bool, rng: np.random.Generator) -> Word:
    return _one(PLURAL_DETERMINERS if plural else SINGULAR_DETERMINERS, rng)


def noun_phrase(noun: Word, plural: bool, rng: np.random.Generator) -> Sentence:
    """A determiner that agrees or `the`, perhaps an adjective, and the noun."""
    determiner = THE if _chance(0.25, rng) else _determiner(plural, rng)
    adjective = (_one(ADJECTIVES, rng),) if _chance(0.25, rng) else ()
    return (determiner, *adjective, _noun(noun, plural))


def _other_noun(topic: Topic, noun: Word, rng: np.random.Generator) -> Word:
    """A noun that may follow `noun` in a training sentence."""
    return _one([other for other in topic.nouns if other not in (noun, never_follows(topic, noun))], rng)


def never_follows(topic: Topic, noun: Word) -> Word:
    """The noun of the topic that follows `noun` in test sentences only."""
    return topic.nouns[(topic.nouns.index(noun) + UNPAIRED) % len(topic.nouns)]


def sentence(topic: Topic, subject: Word, plural: bool, rng: np.random.Generator) -> Sentence:
    """Subject, verb, and an object or a place, perhaps with a phrase after the subject and an adverb."""

    def other_phrase() -> Sentence:
        return noun_phrase(_other_noun(topic, subject, rng), _chance(0.5, rng), rng)

    words = noun_phrase(subject, plural, rng)
    if _chance(0.15, rng):
        words += (_one(PREPOSITIONS, rng), *other_phrase())
    if _chance(0.6, rng):
        words += (_verb(_one(topic.transitive, rng), plural),)
    else:
        words += (_verb(_one(topic.intransitive, rng), plural), _one(PREPOSITIONS, rng))
    words += other_phrase()
    return (*words, _one(ADVERBS, rng)) if _chance(0.2, rng) else words


def story(topic: Topic, num_sentences: int, rng: np.random.Generator) -> Document:
    """Sentences on one topic that share their subject, the protagonist."""
    protagonist, plural = _one(topic.nouns, rng), _chance(0.5, rng)
    return tuple(sentence(topic, protagonist, plural, rng) for _ in range(num_sentences))


def documents(isolated_words: float, rng: np.random.Generator) -> Iterator[Document]:
    """Endless training text: single words, and in equal number single sentences and stories of 3 to 5.

    Args:
        isolated_words: Share of the documents that are a single word.
    """
    topics = list(TOPICS.values())
    while True:
        if _chance(isolated_words, rng):
            yield ((_one(CONTENT_WORDS, rng),),)
        else:
            num_sentences = 1 if _chance(0.5, rng) else int(rng.integers(3, 6))
            yield story(_one(topics, rng), num_sentences, rng)


def sentences(rng: np.random.Generator) -> Iterator[Document]:
    """Endless text of single sentences."""
    topics = list(TOPICS.values())
    while True:
        yield story(_one(topics, rng), 1, rng)


@dataclass(frozen=True, slots=True)
class MinimalPair:
    """A grammatical sentence and the same with one word wrong; types are those of BLiMP."""

    type: str
    subtype: str
    good: Sentence
    bad: Sentence


SUBTYPES = (
    ("determiner_noun_agreement", "simple"),
    ("subject_verb_agreement", "simple"),
    ("argument_structure", "transitivity"),
    ("determiner_noun_agreement", "with_adjective"),
    ("subject_verb_agreement", "across_phrase"),
)


def minimal_pairs(rng: np.random.Generator) -> Iterator[tuple[MinimalPair, MinimalPair]]:
    """Endless mirrored twos of minimal pairs, the subtypes in turn.

    In the two, both alternatives (singular or plural, transitive or intransitive) are once right and
    once wrong.
    """
    topics = list(TOPICS.values())
    for kind in cycle(SUBTYPES):
        topic = _one(topics, rng)
        subject = _one(topic.nouns, rng)
        yield _mirrored(kind, topic, subject, never_follows(topic, subject), rng)


def _mirrored(
    kind: tuple[str, str], topic: Topic, subject: Word, other: Word, rng: np.random.Generator
) -> tuple[MinimalPair, MinimalPair]:
    """Two contexts and two words, each right in its own context and wrong in the other."""
    transitive, intransitive = _one(topic.transitive, rng), _one(topic.intransitive, rng)
    preposition, adjective = (_one(PREPOSITIONS, rng),), (_one(ADJECTIVES, rng),)
    subject_plural, other_plural = _chance(0.5, rng), _chance(0.5, rng)
    tail: Sentence = (THE, _noun(other, other_plural))
    if kind[0] == "determiner_noun_agreement":
        head: Sentence = (THE, _noun(subject, subject_plural), _verb(transitive, subject_plural))
        between = adjective if kind[1] == "with_adjective" else ()
        before = [(*head, _determiner(plural, rng), *between) for plural in (False, True)]
        words = [_noun(other, plural) for plural in (False, True)]
        after: list[Sentence] = [(), ()]
    elif kind[0] == "subject_verb_agreement":
        # The noun next to the verb is the same in both, so that it helps in the one where it misleads in the other.
        phrase = (*preposition, THE, _noun(other, _chance(0.5, rng))) if kind[1] == "across_phrase" else ()
        before = [(THE, _noun(subject, plural), *phrase) for plural in (False, True)]
        words = [_verb(transitive, plural) for plural in (False, True)]
        after = [tail, tail]
    else:
        before = [(THE, _noun(subject, subject_plural))] * 2
        words = [_verb(transitive, subject_plural), _verb(intransitive, subject_plural)]
        after = [tail, preposition + tail]
    first, second = (
        MinimalPair(*kind, (*before[i], words[i], *after[i]), (*before[i], words[1 - i], *after[i])) for i in (0, 1)
    )
    return first, second


@dataclass(frozen=True, slots=True)
class StoryPair:
    """A story with its own ending and with that of a story on another topic."""

    correct: Document
    incorrect: Document


def story_pairs(rng: np.random.Generator) -> Iterator[tuple[StoryPair, StoryPair]]:
    """Endless mirrored twos of story pairs: two stories of 4 sentences that exchange their endings."""
    topics = list(TOPICS.values())
    while True:
        first, second = (topics[index] for index in rng.permutation(len(topics))[:2])
        one, two = story(first, 4, rng), story(second, 4, rng)
        yield StoryPair(one, one[:3] + two[3:]), StoryPair(two, two[:3] + one[3:])
