import numpy as np
import pytest

from stages.assistant.explain import ALIKE, across, by_term, instead_of, without_each_sentence
from stages.assistant.passages import Passage, Sentence
from stages.assistant.search import Found, Hit, TermIndex, question_terms
from stages.assistant.text import terms, words
from tests.assistant.papers import QUESTIONS

EXPLAINED = slice(None, None, 4)  # of the questions: ten of them


@pytest.fixture(scope="module")
def dropped(search, found):
    """Return for the first passage of some questions what was found, the hit and its drops."""
    firsts = [(each, each.shown[0]) for each in found[EXPLAINED]]
    return [(each, hit, without_each_sentence(search, each, hit)) for each, hit in firsts]


def without(passage, left):
    return " ".join(s.text for number, s in enumerate(passage.sentences) if number != left)


def test_the_drop_of_a_cosine_is_that_of_the_packages_own_engine(search, engine, dropped):
    agreed, total = 0, 0
    for each, hit, drops in dropped[::3]:
        assert [drop.sentence for drop in drops] == [sentence.text for sentence in hit.passage.sentences]

        def centred(vector, of_language):
            rest = vector - search._means[of_language]
            return rest / np.linalg.norm(rest)

        asked = centred(engine.query(each.question), each.language)
        whole = centred(engine.passage(hit.passage.text), hit.passage.language) @ asked
        rest = engine.passage([without(hit.passage, number) for number in range(len(drops))])
        rest = [centred(vector, hit.passage.language) for vector in rest]
        expected = whole - np.array(rest) @ asked
        assert [drop.cosine for drop in drops] == pytest.approx(expected, abs=0.02)
        if len(drops) > 1:
            total += 1
            agreed += int(np.argmax([drop.cosine for drop in drops]) == np.argmax(expected))
    assert agreed == total >= 3


def test_the_drop_of_bm25_is_that_of_an_index_with_and_without_the_sentence(search, dropped):
    # idf and mean length stay those of the whole index, and the rest is a text that is none of it
    index = TermIndex([terms(passage.searched, passage.language) for passage in search.passages])
    for each, hit, drops in dropped:
        for left in range(len(drops)):
            rest = terms(without(hit.passage, left), hit.passage.language)
            expected = hit.bm25 - sum(index.contributions(question_terms(each.question), rest).values())
            assert drops[left].bm25 == pytest.approx(expected, abs=1e-5)
            stems = set(terms(hit.passage.sentences[left].text, hit.passage.language))
            if not stems & set(question_terms(each.question)):
                assert drops[left].bm25 <= 1e-5  # the rest is shorter, so what it has weighs more


def test_the_headings_of_docs_stay_when_a_sentence_is_left_out(search, monkeypatch):
    sentences = (Sentence("Relevance is conserved.", "A › Rules"), Sentence("Apples are red.", "A › Rules"))
    passage = Passage("docs/a.md", "docs", "A", "en", "0", sentences)
    found = search.find("Which rules conserve relevance?", 3)
    vector = search.vectors_of_texts([passage.searched], "en")[0]
    asked, read = question_terms(found.question), []
    bm25 = sum(search.terms.contributions(asked, terms(passage.searched, "en")).values())
    hit = Hit(passage, 0, float(vector @ found.vector), 1, bm25, 1, 0.03, 1)
    original = search.vectors_of_texts
    monkeypatch.setattr(search, "vectors_of_texts", lambda texts, of: read.extend(texts) or original(texts, of))
    first, second = without_each_sentence(search, found, hit)
    assert read == ["A › Rules: Apples are red.", "A › Rules: Relevance is conserved."]
    assert first.cosine > second.cosine
    assert first.bm25 > 0 > second.bm25


def test_a_passage_without_its_top_sentence_falls_further_than_without_another(dropped):
    random, further, total = np.random.default_rng(0), 0, 0
    for _, _, drops in dropped:
        if len(drops) > 1:
            values = [drop.cosine for drop in drops]
            top = int(np.argmax(values))
            other = random.choice([at for at in range(len(drops)) if at != top])
            further += values[top] > max(values[other], 0)
            total += 1
    assert further >= total - 1


def test_the_sentence_that_answers_is_mostly_the_one_whose_loss_costs_most(search, found):
    top = total = 0
    for question, each in zip(QUESTIONS[::2], found[::2], strict=True):
        for hit in each.shown:
            texts = [sentence.text for sentence in hit.passage.sentences]
            if question.answer in texts and len(texts) > 2:
                drops = without_each_sentence(search, each, hit)
                total += 1
                top += drops[int(np.argmax([drop.cosine for drop in drops]))].sentence == question.answer
    assert total >= 10
    assert top / total > 0.5


def test_words_add_up_to_the_score_by_terms(search, found):
    counted = 0
    for each in found:
        for hit in each.shown:
            shares = by_term(search, each, hit)
            assert sum(shares.values()) == pytest.approx(hit.bm25, abs=1e-4)
            assert list(shares.values()) == sorted(shares.values(), reverse=True)
            assert min(shares.values(), default=1) > 0
            assert set(shares) <= set(words(each.question))
            counted += len(shares)
    assert counted > 100


def meeting(search, question, text, language, counted=()):
    passage = Passage("a.pdf", "paper", "A", language, "0", (Sentence(text, "p. 1"),))
    found = Found(question, "en", np.zeros(384), [], [])
    return across(search, found, Hit(passage, 0, 0.0, 1, 0.0, None, 0.0, 1), counted)


@pytest.mark.parametrize(("asked", "there"), [("Relevanz", "relevance"), ("Bild", "image"), ("Klasse", "class")])
def test_a_german_word_meets_its_english_one(search, asked, there):
    others = "A kitchen has many knives, boats sail on a lake"
    (pair,) = meeting(search, asked, f"{others}, {there} and seven elephants", "en")
    vectors = search.vectors_of_words([asked, there])
    assert (pair.asked, pair.found) == (asked, there)
    assert pair.cosine == pytest.approx(vectors[0] @ vectors[1], abs=1e-5)
    assert pair.cosine >= ALIKE


def test_words_that_have_nothing_in_common_do_not_meet(search):
    text = "Relevance of filters in convolutional layers, accuracy after training, pictures of skin."
    assert meeting(search, "Sauerteig Elefant Steuerbescheid Autobahn knitting Bratwurst", text, "en") == []


def test_pairs_are_near_each_of_a_word_that_was_not_counted_and_the_nearest_first(search, found):
    pairs_of = {}
    for each in found[EXPLAINED]:
        for hit in each.shown[:2]:
            counted = list(by_term(search, each, hit))
            pairs = across(search, each, hit, counted)
            assert not {pair.asked for pair in pairs} & set(counted)
            assert [pair.cosine for pair in pairs] == sorted((pair.cosine for pair in pairs), reverse=True)
            there = set(words(hit.passage.searched))
            for pair in pairs:
                assert pair.cosine >= ALIKE
                assert pair.found in there
                vector = search.vectors_of_words([pair.asked])[0]
                assert pair.cosine == pytest.approx(
                    max(search.vectors_of_words(sorted(w for w in there if len(w) > 2 and not w.isdigit())) @ vector),
                    abs=1e-5,
                )
            pairs_of[each.question, hit.at] = pairs
    assert sum(map(bool, pairs_of.values())) >= 3


def test_words_that_bm25_counted_or_that_are_not_there_meet_nothing(search):
    assert meeting(search, "Relevanz", "relevance", "en", ["Relevanz"]) == []
    assert meeting(search, "der die das", "relevance", "en") == []
    assert meeting(search, "Relevanz", "12 345 at", "en") == []


def test_why_a_passage_stands_before_the_next_is_true(search, found):
    told = {"nearer": 0, "farther": 0, "more": 0, "less": 0, "MMR": 0}
    for each in found:
        for hit, other in zip(each.shown, each.shown[1:], strict=False):
            text = instead_of(search, each, hit, other)
            in_favour, _, against = text.partition(", although ")
            assert ("nearer to" in in_favour) == (hit.cosine > other.cosine)
            assert ("farther from" in against) == (hit.cosine < other.cosine)
            assert f"(cosine {hit.cosine:.3f}, the other {other.cosine:.3f})" in text
            assert ("MMR" in in_favour) == (hit.fused < other.fused)
            assert "MMR" not in against
            mine, its = by_term(search, each, hit), by_term(search, each, other)
            for word in set(words(each.question)):
                more = mine.get(word, 0) - its.get(word, 0)
                assert f"“{word}” ({more:+.2f})" in text or f"“{word}”" not in text
                if f"“{word}”" in text:
                    assert (f"“{word}”" in in_favour) == (more > 0)
                    assert abs(more) >= 0.005
            for part, sign in ((in_favour, 1), (against, -1)):
                amounts = [sign * (mine.get(w, 0) - its.get(w, 0)) for w in {*mine, *its}]
                assert part.count("“") == min(3, sum(amount >= 0.005 for amount in amounts))
            for word in told:
                told[word] += word in text
    assert min(told.values()) > 5


def test_where_nothing_speaks_for_a_passage_both_rankings_do(search, found):
    hit = found[0].shown[0]
    worse = hit._replace(cosine=hit.cosine - 0.1)
    assert instead_of(search, found[0], hit, hit) == "both rankings together put it first"
    assert instead_of(search, found[0], worse, hit).startswith("both rankings together put it first, although its")
