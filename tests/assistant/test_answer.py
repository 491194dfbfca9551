import re

import numpy as np
import pytest

from stages.assistant import answer as module
from stages.assistant import pdf
from stages.assistant.answer import confidence, quote
from stages.assistant.explain import across, by_term
from stages.assistant.search import question_terms
from stages.assistant.settings import Endpoint
from stages.assistant.text import stems, terms, words
from tests.assistant.endpoint import Script, serving
from tests.assistant.papers import OFF_TOPIC, PROSE, QUESTIONS, page_of

KEY = "gsk_secret0123456789"


@pytest.fixture(scope="module")
def never_silent(search, found):
    """Return the answers there would be if none were held back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "THRESHOLD", -10)
        return [quote(search, each) for each in found]


@pytest.fixture(scope="module")
def off_topic(search):
    return [quote(search, search.find(text, 5)) for text in OFF_TOPIC]


@pytest.fixture(scope="module")
def answered(answers):
    """Return the number of a question that is answered."""
    return max(range(len(answers)), key=lambda number: answers[number].confidence)


def test_a_quote_is_word_for_word_a_sentence_of_the_passage_it_names(found, answers, never_silent):
    for each, answer, anyway in zip(found, answers, never_silent, strict=True):
        assert answer.quotes in ([], anyway.quotes)
        assert 1 <= len(anyway.quotes) <= 3
        assert len({(each.passage, each.sentence) for each in anyway.quotes}) == len(anyway.quotes)
        for one in anyway.quotes:
            assert one.sentence in each.shown[one.passage - 1].passage.sentences


def test_a_quote_stands_on_the_page_it_names(found, never_silent, project):
    compared = 0
    for each, answer in zip(found, never_silent, strict=True):
        for one in answer.quotes:
            name = each.shown[one.passage - 1].passage.source.removeprefix("papers/").replace("-copy", "")
            paragraphs = [text for _, section in PROSE[name][1] for text in section]
            if sum(one.sentence.text in text for text in paragraphs) == 1:
                assert one.sentence.place == f"p. {page_of(name, one.sentence.text)}"
                compared += 1
            first = one.sentence.boxes[0]
            with pdf._opened(project / "papers" / name) as file:
                text = "".join(file[first.page - 1].get_textpage().get_text_bounded().split()).replace("ﬁ", "fi")
            start = re.sub(r"\s", "", one.sentence.text)[:4]
            assert start in text
    assert compared > 80


def test_quotes_are_the_best_by_meaning_and_terms(search, found, never_silent):
    for each, answer in zip(found[::4], never_silent[::4], strict=True):
        values = []
        for number, hit in enumerate(each.shown, 1):
            whole = [each for each in hit.passage.sentences if each.text.rstrip("\"'”’»)]")[-1] in ".!?:;"]
            for sentence in whole:
                cosine = float(search.vectors_of_texts([sentence.text], hit.passage.language)[0] @ each.vector)
                has = terms(sentence.text, hit.passage.language)
                score = sum(search.terms.contributions(question_terms(each.question), has).values())
                values.append((number, sentence, cosine, score))
        (low, high), (least, most) = ((min(column), max(column)) for column in list(zip(*values, strict=True))[2:])
        order = sorted(values, key=lambda v: -((v[2] - low) / (high - low) + (v[3] - least) / (most - least or 1)))
        best = [value for value in order[:3] if value[2] >= order[0][2] - 0.15]
        assert [(one.passage, one.sentence) for one in answer.quotes] == [value[:2] for value in best]
        assert [one.cosine for one in answer.quotes] == pytest.approx([value[2] for value in best], abs=1e-5)


def test_confidence_is_the_sum_that_it_says(search, found, answers):
    for each, answer in zip(found[::4], answers[::4], strict=True):
        rarity = {
            word: max(search.terms.idf(stem) for of in ("en", "de") for stem in stems(word, of))
            for word in words(each.question)
        }
        met = []
        for hit in each.shown[:2]:
            counted = list(by_term(search, each, hit))
            pairs = across(search, each, hit, counted)
            met.append(sum(rarity[word] for word in [*counted, *(pair.asked for pair in pairs)]))
        best = max(float(search.vectors[hit.at] @ each.vector) for hit in each.ranked)
        expected = best - search.chance + max(met) / sum(rarity.values()) / 2 - module.THRESHOLD
        assert answer.confidence == pytest.approx(expected, abs=1e-4)
        assert confidence(search, each) == pytest.approx(expected, abs=1e-4)
        assert bool(answer.quotes) == (answer.confidence >= 0)


# measured: 8 of 28
def test_what_the_papers_do_not_say_is_not_answered(off_topic):
    assert sum(bool(answer.quotes) for answer in off_topic) <= 10
    assert all(answer.confidence < 0 for answer in off_topic if not answer.quotes)


# measured: 33 of 40
def test_what_the_papers_say_is_answered(answers):
    assert sum(bool(answer.quotes) for answer in answers) >= 31


# measured: 17 of the 30 whose passage is shown
def test_the_sentence_that_answers_is_quoted_where_its_passage_is_shown(found, never_silent):
    shown = quoted = 0
    for question, each, answer in zip(QUESTIONS, found, never_silent, strict=True):
        if any(question.answer == s.text for hit in each.shown for s in hit.passage.sentences):
            shown += 1
            quoted += question.answer in (one.sentence.text for one in answer.quotes)
    assert quoted >= 15


def test_confidence_tells_questions_that_are_answered_from_those_that_are_not(answers, off_topic):
    """The share of pairs of which the question on topic has the greater confidence (area under the ROC curve)."""
    on, off = (np.array([answer.confidence for answer in some]) for some in (answers, off_topic))
    assert (on[:, None] > off).mean() > 0.82  # measured: 0.872


@pytest.mark.parametrize("question", ["?!", "der die das", "42"])
def test_a_question_without_a_word_that_counts_is_not_answered(search, question):
    assert quote(search, search.find(question, 5)).quotes == []


def test_where_nothing_was_found_nothing_is_quoted(search):
    nothing = search.find("How is relevance conserved?", 5, ["results"])
    assert quote(search, nothing).quotes == []
    assert quote(search, nothing).confidence < 0


def asked(assistant, monkeypatch, number, script, url=None):
    with serving(script) as served:
        endpoint = Endpoint(url=url or served, model="some-model", key="SOME_KEY", timeout=1.0)
        monkeypatch.setattr(assistant, "settings", assistant.settings.model_copy(update={"language_model": endpoint}))
        return assistant.ask(QUESTIONS[number].text, 5)


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("SOME_KEY", KEY)


def test_without_a_language_model_there_are_quotes_and_no_claims(assistant, found, answers, answered):
    response = assistant.ask(QUESTIONS[answered].text, 5)
    assert (response.claims, response.trouble) == (None, "")
    assert response.answer.quotes == answers[answered].quotes != []
    assert [hit.at for hit in response.found.shown] == [hit.at for hit in found[answered].shown]


def test_a_language_model_gets_the_passages_shown_and_its_sentences_are_checked(
    assistant, monkeypatch, key, found, answers, answered
):
    one = answers[answered].quotes[0]
    script = Script(text=f"{one.sentence.text} [{one.passage}] It costs 987654 euros [1].")
    response = asked(assistant, monkeypatch, answered, script)
    assert [(claim.text, claim.citations, claim.supported) for claim in response.claims] == [
        (one.sentence.text, (one.passage,), True),
        ("It costs 987654 euros.", (1,), False),
    ]
    assert response.trouble == ""
    assert response.answer == answers[answered]
    ((path, headers, content),) = script.received
    assert (path, headers["authorization"]) == ("/v1/chat/completions", f"Bearer {KEY}")
    sent = content["messages"][1]["content"]
    assert all(sentence.text.split()[0] in sent for hit in found[answered].shown for sentence in hit.passage.sentences)


@pytest.mark.parametrize(
    ("script", "trouble"),
    [
        (Script(status=401, body={"error": {"message": f"no {KEY}"}}), "401"),
        (Script(status=404, body={"error": {"message": "no model"}}), "has no model some-model"),
        (Script(status=429, body={"error": {"message": "slow down"}}, headers={"Retry-After": "7"}), "again in 7 s"),
        (Script(status=500, body="<html>"), "out of order"),
        (Script(body="no JSON"), "no answer of OpenAI's protocol"),
        (Script(text=""), "answered nothing"),
        (Script(refusal="I must not"), "refuses to answer"),
        (Script(text="late", delay=1.6), "did not answer within 1 s"),
    ],
)
def test_without_an_answer_of_the_language_model_there_is_a_line_and_the_quotes(
    assistant, monkeypatch, key, answers, answered, script, trouble
):
    response = asked(assistant, monkeypatch, answered, script)
    assert trouble in response.trouble
    assert "\n" not in response.trouble
    assert KEY not in response.trouble
    assert response.claims is None
    assert response.answer == answers[answered]


def test_without_a_connection_or_a_key_there_is_a_line_and_the_quotes(assistant, monkeypatch, key, answers, answered):
    response = asked(assistant, monkeypatch, answered, Script(), "http://127.0.0.1:1/v1")
    assert "cannot be reached" in response.trouble
    assert (response.claims, response.answer) == (None, answers[answered])
    monkeypatch.delenv("SOME_KEY")
    script = Script(text="never")
    response = asked(assistant, monkeypatch, answered, script)
    assert response.trouble.startswith("SOME_KEY is not set")
    assert (response.claims, response.answer, script.received) == (None, answers[answered], [])


def test_a_language_model_that_finds_nothing_in_the_passages_claims_nothing(assistant, monkeypatch, key, answered):
    response = asked(assistant, monkeypatch, answered, Script(text="NOT IN THE SOURCES"))
    assert (response.claims, response.trouble) == ([], "")


def test_a_language_model_is_not_asked_where_nothing_answers(assistant, monkeypatch, key, off_topic):
    script = Script(text="Six minutes [1].")
    assert off_topic[0].quotes == []
    with serving(script) as url:
        endpoint = Endpoint(url=url, model="m", key="SOME_KEY")
        monkeypatch.setattr(assistant, "settings", assistant.settings.model_copy(update={"language_model": endpoint}))
        response = assistant.ask(OFF_TOPIC[0], 5)
    assert (response.claims, response.trouble, response.answer.quotes) == (None, "", [])
    assert script.received == []


def test_only_the_kinds_asked_for_answer(assistant, answered):
    response = assistant.ask(QUESTIONS[answered].text, 5, ["docs"])
    assert (response.found.shown, response.answer.quotes) == ([], [])
