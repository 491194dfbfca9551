"""Finding passages: by meaning (dense) and by terms (BM25), fused, and no two that say the same."""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import NamedTuple, get_args

import numpy as np

from stages.assistant.index import Index
from stages.assistant.passages import Kind, Language, Passage
from stages.assistant.text import language, terms

CANDIDATES = 50  # of the fused ranking that are kept
DIVERSIFIED = 20  # of the fused ranking, from which those shown are chosen
RANK_CONSTANT = 60  # k of reciprocal rank fusion
RELEVANCE = 0.85  # λ of MMR
K1, B = 1.5, 0.75  # of BM25
SHRINKAGE = 20  # passages of any language that are added to those of one

UNANSWERABLE = {
    "en": [
        "What is the capital of Portugal?", "How do I cook rice without burning it?",
        "Which train goes from Lyon to Marseille?", "Who wrote the novel about the white whale?",
        "How tall is the tower in Pisa?", "When does the swimming pool open on Sundays?",
        "What should I plant in a shady garden?", "How much does it cost to rent a boat?",
        "Why is the sky blue in the morning?", "Which vaccine do cats need every year?", "How do I tie a bow tie?",
        "What time is it in Tokyo now?",
    ],
    "de": [
        "Wie heißt die Hauptstadt von Portugal?", "Wie koche ich Reis, ohne dass er anbrennt?",
        "Welcher Zug fährt von Köln nach Bremen?", "Wer schrieb den Roman über den weißen Wal?",
        "Wie hoch ist der Turm in Pisa?", "Wann öffnet das Schwimmbad am Sonntag?",
        "Was pflanze ich in einen schattigen Garten?", "Was kostet es, ein Boot zu mieten?",
        "Warum ist der Himmel morgens blau?", "Welche Impfung brauchen Katzen jedes Jahr?",
        "Wie bindet man eine Fliege?", "Wie spät ist es gerade in Tokio?",
    ],
}  # fmt: skip


class Hit(NamedTuple):
    """A passage that was found, its position among all, and what its rank is made of.

    Ranks are 1-based; `bm25_rank` is None where no term of the question counts.
    """

    passage: Passage
    at: int
    cosine: float
    dense_rank: int
    bm25: float
    bm25_rank: int | None
    fused: float
    fused_rank: int


class Found(NamedTuple):
    """A question, its language and vector, the passages shown, and all candidates by their fused rank."""

    question: str
    language: Language
    vector: np.ndarray
    shown: list[Hit]
    ranked: list[Hit]


class Search:
    """Questions to an index as it is now; open another after an update."""

    def __init__(self, index: Index):
        self.encoder = index.encoder
        self._words: dict[str, np.ndarray] = {}
        self.passages = index.passages()
        self.terms = TermIndex([terms(passage.searched, passage.language) for passage in self.passages])
        self._languages = np.array([passage.language for passage in self.passages])
        raw = index.vectors_of(self.passages)
        self._means = means_by_language(raw, self._languages)
        self.vectors = self._centred(raw, self._languages)

    def find(self, question: str, shown: int, kinds: Collection[Kind] | None = None) -> Found:
        """Return the `shown` best passages for a question, of some kinds of sources or of all.

        Both rankings are fused by reciprocal rank, Σ 1 / (60 + rank) (Cormack et al. 2009). Terms cannot meet across
        languages, so a passage in another language than the question's has its rank by meaning in both; one without any
        of the terms comes after all that have some. Those shown are chosen among the first 20 by maximal marginal
        relevance (Carbonell and Goldstein 1998): fused score against likeness to what is chosen already, both scaled to
        [0, 1] over the 20.
        """
        asked_in = language(question)
        of_kind = np.flatnonzero([not kinds or passage.kind in kinds for passage in self.passages])
        if not len(of_kind):
            return Found(question, asked_in, np.zeros(0, np.float32), [], [])
        vector = self.vectors_of_questions([question], asked_in)[0]
        cosines, scores = self.vectors @ vector, self.terms.scores(question_terms(question))
        lexical = np.where(self._languages == asked_in, scores, 0)
        dense_ranks, bm25_ranks = ranks(cosines[of_kind]), ranks(lexical[of_kind])
        elsewhere = self._languages[of_kind] != asked_in
        with_terms = lexical[of_kind] > 0
        matched = np.where(elsewhere, dense_ranks, np.where(with_terms, bm25_ranks, with_terms.sum() + 1))
        fused = 1 / (RANK_CONSTANT + dense_ranks) + 1 / (RANK_CONSTANT + matched)
        best = np.argsort(-fused, kind="stable")[:CANDIDATES]
        ranked = [
            Hit(
                self.passages[of_kind[at]],
                int(of_kind[at]),
                float(cosines[of_kind[at]]),
                int(dense_ranks[at]),
                float(scores[of_kind[at]]),
                int(bm25_ranks[at]) if with_terms[at] else None,
                float(fused[at]),
                rank,
            )
            for rank, at in enumerate(best, 1)
        ]
        some = ranked[:DIVERSIFIED]
        order = diversified(np.array([hit.fused for hit in some]), self.vectors[[hit.at for hit in some]], shown)
        return Found(question, asked_in, vector, [some[position] for position in order], ranked)

    @cached_property
    def chance(self) -> float:
        """The cosine that three of four questions which no source answers stay below here.

        It grows with the number of passages, so it is measured on those of this index.
        """
        best = [
            (self.vectors_of_questions(questions, each) @ self.vectors.T).max(1)
            for each, questions in UNANSWERABLE.items()
        ]
        return float(np.quantile(np.concatenate(best), 0.75))

    def vectors_of_words(self, words: Sequence[str]) -> np.ndarray:
        """Return the vectors (words, dimensions) of single words of any language; those seen before are kept."""
        new = [word for word in dict.fromkeys(words) if word not in self._words]
        if new:
            self._words |= dict(zip(new, self.encoder.queries(new), strict=True))
        return np.stack([self._words[word] for word in words])

    def vectors_of_questions(self, questions: Sequence[str], asked_in: Language) -> np.ndarray:
        """Return the vectors (questions, dimensions) of questions in one language, to be compared with any others."""
        return self._centred(self.encoder.queries(questions), np.repeat(asked_in, len(questions)))

    def vectors_of_texts(self, texts: Sequence[str], written_in: Language) -> np.ndarray:
        """Return the vectors (texts, dimensions) of texts such as parts of passages."""
        return self._centred(self.encoder.passages(texts), np.repeat(written_in, len(texts)))

    def _centred(self, raw: np.ndarray, languages: np.ndarray) -> np.ndarray:
        """Return vectors less the mean of their language, of unit length.

        Two texts in one language are nearer to each other than two that mean the same in two languages; without the
        means that is gone, and cosines of what has nothing in common are about 0.
        """
        centred = raw - np.array([self._means[each] for each in languages], np.float32).reshape(raw.shape)
        return centred / np.linalg.norm(centred, axis=1, keepdims=True).clip(1e-9)


def means_by_language(vectors: np.ndarray, languages: np.ndarray) -> dict[Language, np.ndarray]:
    """Return the mean vector of each language's passages; where they are few it is drawn towards that of all."""
    overall = vectors.mean(0) if len(vectors) else np.zeros(vectors.shape[1:])
    means = {}
    for each in get_args(Language):
        mine = vectors[languages == each]
        means[each] = (mine.sum(0) + SHRINKAGE * overall) / (len(mine) + SHRINKAGE)
    return means


def ranks(values: np.ndarray) -> np.ndarray:
    """Return the 1-based rank of each value, the greatest first; of equal ones the earlier is first."""
    found = np.empty(len(values), int)
    found[np.argsort(-values, kind="stable")] = np.arange(1, len(values) + 1)
    return found


def question_terms(question: str) -> list[str]:
    """Return the terms of a question in either language: a short question does not tell its own."""
    return list(dict.fromkeys([*terms(question, "en"), *terms(question, "de")]))


class TermIndex:
    """BM25 over lists of terms, by bm25s: Σ idf(t) · tf / (tf + k1 (1 - b + b · length / mean length)).

    With idf(t) = ln(1 + (n - df + ½) / (df + ½)) (Robertson et al. 1994, as Lucene has it), a sum over the terms of the
    question, each counted once.
    """

    def __init__(self, documents: Sequence[Sequence[str]]):
        import bm25s

        self._count = len(documents)
        self._mean_length = sum(map(len, documents)) / max(1, self._count)
        self._frequency = Counter(term for document in documents for term in set(document))
        self._bm25 = bm25s.BM25(method="lucene", k1=K1, b=B)
        if self._frequency:
            self._bm25.index([list(document) for document in documents], show_progress=False)

    def scores(self, of_terms: Sequence[str]) -> np.ndarray:
        """Return the scores (documents,) of a question's terms."""
        known = [term for term in dict.fromkeys(of_terms) if term in self._frequency]
        return self._bm25.get_scores(known) if known else np.zeros(self._count, np.float32)

    def contributions(self, of_terms: Sequence[str], document: Sequence[str]) -> dict[str, float]:
        """Return what each term of a question adds to the score of a text, one of the documents or any other."""
        counts, slope = Counter(document), 1 - B + B * len(document) / max(1e-9, self._mean_length)
        return {
            term: self.idf(term) * counts[term] / (counts[term] + K1 * slope)
            for term in dict.fromkeys(of_terms)
            if counts[term] and term in self._frequency
        }

    def idf(self, term: str) -> float:
        """Return how rare a term is; one that is in no document is the rarest."""
        frequency = self._frequency.get(term, 0)
        return math.log(1 + (self._count - frequency + 0.5) / (frequency + 0.5))


def diversified(scores: np.ndarray, vectors: np.ndarray, count: int) -> list[int]:
    """Return positions chosen one by one by λ · relevance - (1 - λ) · greatest likeness to what is chosen.

    Parameters
    ----------
    scores
        (n,) relevance.
    vectors
        (n, dimensions), of unit length.
    count
        How many to choose.
    """
    relevance = scaled(scores)
    likeness = vectors @ vectors.T
    between = likeness[~np.eye(len(scores), dtype=bool)]
    low, high = (between.min(), between.max()) if len(between) else (0, 1)
    likeness = ((likeness - low) / max(high - low, 1e-9)).clip(0, 1)
    chosen = [int(np.argmax(relevance))]
    while len(chosen) < min(count, len(scores)):
        value = RELEVANCE * relevance - (1 - RELEVANCE) * likeness[:, chosen].max(1)
        value[chosen] = -np.inf
        chosen.append(int(np.argmax(value)))
    return chosen


def scaled(values: np.ndarray) -> np.ndarray:
    """Return values between 0, the least of them, and 1, the greatest; all 0 where they are equal."""
    return (values - values.min()) / max(np.ptp(values), 1e-9)
