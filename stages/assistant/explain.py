"""Why a passage was found: by sentence, by term, across languages, and against the next passage."""

from collections.abc import Sequence
from typing import NamedTuple

from stages.assistant.search import Found, Hit, Search, question_terms
from stages.assistant.text import stems, terms, words

ALIKE = 0.9  # cosine from which two words are shown as a pair; `make bench-assistant` says what it finds and misses
FULL = 0.2  # cosine that a passage loses with a sentence of the full colour: the same in every heat map


class Drop(NamedTuple):
    """How much a passage's scores fall without one of its sentences; below zero where they rise."""

    sentence: str
    cosine: float
    bm25: float


class Pair(NamedTuple):
    """A word of the question, and the word of the passage that means the same in the eyes of the encoder."""

    asked: str
    found: str
    cosine: float


def without_each_sentence(search: Search, found: Found, hit: Hit) -> list[Drop]:
    """Leave out each sentence of a passage in turn, and score what remains: in order, one `Drop` a sentence."""
    sentences = [sentence.text for sentence in hit.passage.sentences]
    above = hit.passage.searched.removesuffix(hit.passage.text)
    rest = [above + " ".join(sentences[:left] + sentences[left + 1 :]) for left in range(len(sentences))]
    cosines = search.vectors_of_texts(rest, hit.passage.language) @ found.vector
    asked = question_terms(found.question)
    scores = [sum(search.terms.contributions(asked, terms(text, hit.passage.language)).values()) for text in rest]
    return [
        Drop(sentence, float(hit.cosine - cosine), hit.bm25 - score)
        for sentence, cosine, score in zip(sentences, cosines, scores, strict=True)
    ]


def by_term(search: Search, found: Found, hit: Hit) -> dict[str, float]:
    """Return what each word of the question adds to the passage's BM25, most first, without those that add nothing."""
    contributions = search.terms.contributions(
        question_terms(found.question), terms(hit.passage.searched, hit.passage.language)
    )
    shares: dict[str, float] = {}
    for word in words(found.question):
        mine = {stem for of_language in ("en", "de") for stem in stems(word, of_language)}
        if (share := sum(contributions.pop(stem) for stem in mine & set(contributions))) > 0:
            shares[word] = shares.get(word, 0.0) + share
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def across(search: Search, found: Found, hit: Hit, counted: Sequence[str]) -> list[Pair]:
    """Return for words of the question that BM25 did not count the nearest word of the passage, where it is near.

    So a German question shows which English words it met: each pair's cosine is that of the two words alone.
    """
    asked = [word for word in dict.fromkeys(words(found.question)) if word not in counted]
    there = list(dict.fromkeys(word for word in words(hit.passage.searched) if len(word) > 2 and not word.isdigit()))
    if not asked or not there:
        return []
    cosines = search.vectors_of_words(asked) @ search.vectors_of_words(there).T
    pairs = [Pair(word, there[int(row.argmax())], float(row.max())) for word, row in zip(asked, cosines, strict=True)]
    return sorted((pair for pair in pairs if pair.cosine >= ALIKE), key=lambda pair: -pair.cosine)


def instead_of(search: Search, found: Found, hit: Hit, other: Hit) -> str:
    """Say why a passage stands before another: what speaks for it, and what against."""
    mine, its = by_term(search, found, hit), by_term(search, found, other)
    more = {word: mine.get(word, 0.0) - its.get(word, 0.0) for word in {**its, **mine}}
    order = sorted((word for word in more if abs(more[word]) >= 0.005), key=lambda word: -abs(more[word]))
    cosines = f"cosine {hit.cosine:.3f}, the other {other.cosine:.3f}"
    in_favour, against = [], []
    if hit.cosine != other.cosine:
        nearer = hit.cosine > other.cosine
        where = in_favour if nearer else against
        where.append(f"its meaning is {'nearer to' if nearer else 'farther from'} the question's ({cosines})")
    for where, sign, amount in ((in_favour, 1, "more"), (against, -1, "less")):
        if some := [f"“{word}” ({more[word]:+.2f})" for word in order if sign * more[word] > 0][:3]:
            where.append(f"it has {amount} of {', '.join(some)}")
    if hit.fused < other.fused:
        in_favour.append("it repeats less of what stands above (MMR)")
    if not in_favour:
        in_favour.append("both rankings together put it first")
    return " and ".join(in_favour) + (f", although {' and '.join(against)}" if against else "")
