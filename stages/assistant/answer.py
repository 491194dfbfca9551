"""Answers that quote: sentences of the passages found, word for word, or that the sources do not say."""

import re
from typing import NamedTuple, get_args

import numpy as np

from stages.assistant.explain import across, by_term
from stages.assistant.passages import Language, Sentence
from stages.assistant.search import Found, Search, question_terms, scaled
from stages.assistant.text import stems, terms, words

ENDED = re.compile(r"[.!?:;][\"'”’»)\]]*$")  # what ends a sentence
QUOTED = 3  # sentences at most
NEAR = 0.15  # below the first sentence's cosine, and still quoted
THRESHOLD = 0.17  # of `confidence`; `make bench-assistant` says what it lets through and what it turns away


class Quote(NamedTuple):
    """A sentence of a passage, word for word, and the 1-based number of that passage among those shown."""

    sentence: Sentence
    passage: int
    cosine: float


class Answer(NamedTuple):
    """Sentences, best first, and how sure it is that they answer: below 0 it is not, and `quotes` are none."""

    quotes: list[Quote]
    confidence: float


def quote(search: Search, found: Found) -> Answer:
    """Return the sentences of the passages shown that are best by meaning and terms: cosine and BM25, each scaled.

    Headings and what else of a paper has no full stop are not quoted: they answer nothing.
    """
    sure = confidence(search, found)
    if sure < 0:
        return Answer([], sure)
    asked, numbers, sentences, cosines, scores = question_terms(found.question), [], [], [], []
    for number, hit in enumerate(found.shown, 1):
        passage = hit.passage
        some = [each for each in passage.sentences if passage.kind != "paper" or ENDED.search(each.text)]
        if some:
            texts = [sentence.text for sentence in some]
            cosines.extend(search.vectors_of_texts(texts, passage.language) @ found.vector)
            counted = [terms(text, passage.language) for text in texts]
            scores.extend(sum(search.terms.contributions(asked, each).values()) for each in counted)
            numbers.extend([number] * len(some))
            sentences.extend(some)
    if not sentences:
        return Answer([], sure)
    order = np.argsort(-(scaled(np.array(cosines)) + scaled(np.array(scores))), kind="stable")[:QUOTED]
    quotes = [Quote(sentences[at], numbers[at], float(cosines[at])) for at in order]
    return Answer([each for each in quotes if each.cosine >= quotes[0].cosine - NEAR], sure)


def confidence(search: Search, found: Found) -> float:
    """Return how far the best passage and the words it shares with the question are above the calibrated threshold.

    That is: cosine of the best passage, less what questions that nothing answers reach by chance (`Search.chance`), + ½
    of the share of the question's words, weighted by idf, that one of the first two passages has or has a word for that
    means the same (`across`), less the threshold. `make bench-assistant` measures which questions it turns away.
    """
    if not found.shown:
        return -1.0
    rarity = {
        word: max(search.terms.idf(stem) for each in get_args(Language) for stem in stems(word, each))
        for word in words(found.question)
    }
    shares = [0.0]
    for hit in found.shown[:2]:
        counted = list(by_term(search, found, hit))
        met = {*counted, *(pair.asked for pair in across(search, found, hit, counted))}
        shares.append(sum(rarity[word] for word in met) / (sum(rarity.values()) or 1.0))
    return max(hit.cosine for hit in found.ranked) - search.chance + max(shares) / 2 - THRESHOLD
