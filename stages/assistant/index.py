"""The passages of all sources with their vectors, in Chroma, and which documents they are of.

Why no framework such as LlamaIndex: each score must be split into what made it, and each sentence keep its place on the
page; a framework's nodes and scores would be unpacked again for both.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.assistant.encoders import Encoder
from stages.assistant.passages import Box, Document, Passage, Sentence, cut
from stages.errors import InputError
from stages.files import write_json

LAYOUT = 3  # of what is kept; another number is another index
BATCH = 64  # passages that are encoded and kept together
Progress = Callable[[str, float], None]  # the path that is read, the share of paths that are done


class Source(NamedTuple):
    """A file that can be read: its path below the project, the digest of its content, and how it is read."""

    path: str
    digest: str
    read: Callable[[], Document]


class Changes(NamedTuple):
    """What an update did: documents read, removed, left alone, and (path, why) of those that could not be read."""

    read: list[str]
    removed: list[str]
    kept: list[str]
    same: list[tuple[str, str]]  # a path, and the other with the same content
    refused: list[tuple[str, str]]
    tokens: int


class Index:
    """What a folder holds of the sources. Open it for questions; `update` brings it to what the sources are now."""

    def __init__(self, folder: Path, encoder: Encoder, most_tokens: int):
        import chromadb
        from chromadb.config import Settings

        self.folder, self.encoder, self._most = Path(folder), encoder, most_tokens
        self._made = {"layout": LAYOUT, "encoder": encoder.name, "passage_tokens": most_tokens}
        self.folder.mkdir(parents=True, exist_ok=True)
        self._client = chromadb.PersistentClient(str(self.folder / "chroma"), Settings(anonymized_telemetry=False))
        self.vectors = self._collection()
        self.documents = self._known()
        self._forget(set())

    @property
    def _list(self) -> Path:
        return self.folder / "documents.json"

    def _known(self) -> dict[str, dict]:
        """Return the documents of an index that was made in the same way; what was made otherwise is removed."""
        try:
            content = json.loads(self._list.read_text())
            if all(content[key] == value for key, value in self._made.items()):
                return dict(content["documents"])
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, LookupError) as error:
            anew = "`python -m stages.assistant index --rebuild` makes it anew"
            raise InputError(f"{self._list}: is broken ({error}); {anew}") from None
        self._client.delete_collection("passages")
        self.vectors = self._collection()
        return {}

    def _collection(self):
        return self._client.get_or_create_collection(
            "passages", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
        )

    def update(self, sources: Sequence[Source], progress: Progress = lambda path, share: None) -> Changes:
        """Read what is new or changed, remove what is gone, leave the rest; killed, it goes on with the next file.

        The same content under two paths is one document, that of the first path.
        """
        changes, first = Changes([], [], [], [], [], 0), {}
        for source in sources:
            if source.digest in first:
                changes.same.append((source.path, first[source.digest]))
            else:
                first[source.digest] = source.path
        wanted = {path: digest for digest, path in first.items()}
        changes.removed.extend(path for path in self.documents if path not in wanted)
        stale = {path for path, entry in self.documents.items() if wanted.get(path) != entry["digest"]}
        self._forget(stale)
        tokens = 0
        for number, source in enumerate(sources):
            if wanted.get(source.path) != source.digest:
                continue
            if source.path in self.documents:
                changes.kept.append(source.path)
                continue
            progress(source.path, number / len(sources))
            try:
                document = source.read()
            except (ValueError, OSError) as error:
                changes.refused.append((source.path, " ".join(str(error).split())))
                continue
            tokens += self._add(document, source.digest)
            changes.read.append(source.path)
        if self.encoder.fitted and (changes.read or changes.removed):
            self._encode_anew()
        return changes._replace(tokens=tokens)

    def _forget(self, paths: set[str]) -> None:
        """Forget documents, and what a killed update leaves: documents without all their vectors, vectors of none."""
        there = set(self.vectors.get(include=[])["ids"])
        names = {
            path: {passage["name"] for passage in entry["passages"]}
            for path, entry in self.documents.items()
            if path not in paths
        }
        kept = {path: self.documents[path] for path, mine in names.items() if mine <= there}
        if len(kept) < len(self.documents):
            self.documents = kept
            self._write()
        if unknown := there.difference(*(names[path] for path in kept)):
            self.vectors.delete(sorted(unknown))

    def _add(self, document: Document, digest: str) -> int:
        """Encode the passages of a document and keep them; return how many tokens they have."""
        document = dataclasses.replace(document, digest=digest)
        passages = list({each.name: each for each in cut(document, self.encoder.tokens, self._most)}.values())
        if not self.encoder.fitted:
            self._encode(passages)
        entry = {"digest": digest, "kind": document.kind, "title": document.title, "language": document.language}
        self.documents[document.source] = entry | {"passages": [_to_json(passage) for passage in passages]}
        self._write()
        return sum(self.encoder.tokens(passage.searched) for passage in passages)

    def _encode(self, passages: Sequence[Passage]) -> None:
        for begin in range(0, len(passages), BATCH):
            some = passages[begin : begin + BATCH]
            texts = [passage.searched for passage in some]
            kinds = [{"kind": passage.kind} for passage in some]
            self.vectors.upsert([passage.name for passage in some], self.encoder.passages(texts), kinds, texts)

    def _encode_anew(self) -> None:
        """Encode all passages again with an encoder that learns from them."""
        self._client.delete_collection("passages")
        self.vectors = self._collection()
        passages = self.passages()
        self.encoder.fit([passage.searched for passage in passages])
        self._encode(passages)

    def _write(self) -> None:
        write_json(self._list, self._made | {"documents": self.documents})

    def passages(self) -> list[Passage]:
        """Return all passages, by document in the order in which they were read."""
        return [
            _from_json(source, entry, content)
            for source, entry in self.documents.items()
            for content in entry["passages"]
        ]

    def vectors_of(self, passages: Sequence[Passage]) -> np.ndarray:
        """Return the vectors (passages, dimensions) as the encoder made them."""
        names = [passage.name for passage in passages]
        if not names:
            return np.zeros((0, 1), np.float32)
        found = self.vectors.get(names, include=["embeddings"])
        by_name = dict(zip(found["ids"], np.asarray(found["embeddings"], np.float32), strict=True))
        return np.stack([by_name[name] for name in names])


def _to_json(passage: Passage) -> dict:
    sentences = [
        {"text": each.text, "place": each.place, "boxes": [dataclasses.astuple(box) for box in each.boxes]}
        for each in passage.sentences
    ]
    return {"name": passage.name, "sentences": sentences}


def _from_json(source: str, entry: dict, content: dict) -> Passage:
    sentences = tuple(
        Sentence(each["text"], each["place"], tuple(Box(*box) for box in each["boxes"]))
        for each in content["sentences"]
    )
    return Passage(source, entry["kind"], entry["title"], entry["language"], entry["digest"], sentences)
