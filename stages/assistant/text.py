"""Text in English and German: its language, its sentences, and the terms it is searched by."""

import re
from functools import cache

from stages.assistant.passages import Language

WORD = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*")
# "Eq. (2)": sentencex ends a sentence before a bracket or a figure, also after what never ends one
NEVER_LAST = re.compile(
    r"\b(?:e\.g|i\.e|cf|vs|et al|resp|approx|ca|Eqs?|Figs?|Secs?|Tabs?|Tables?|Refs?|Nos?|pp?|Chap|App"
    r"|Abb|Abschn|Bd|bzw|d\. ?h|Gl|Kap|Nr|S|u\. ?a|usw|vgl|z\. ?B)\.$"
)


def language(text: str) -> Language:
    """Return the language whose function words the text has more of; English where it has as many."""
    words = [word.lower() for word in WORD.findall(text)]
    return max(("en", "de"), key=lambda each: sum(word in _function_words(each) for word in words))


def sentences(text: str, of_language: Language) -> list[str]:
    """Split running text, on one line, into sentences; joined with spaces they are the text again."""
    from sentencex import segment

    found = []
    for part in segment(of_language, " ".join(text.split())):
        if found and NEVER_LAST.search(found[-1]):
            found[-1] = f"{found[-1]} {part.strip()}"
        elif part.strip():
            found.append(part.strip())
    return found


def terms(text: str, of_language: Language) -> list[str]:
    """Return the terms of a text in order: stems of its words but for function words.

    Short words stay (LRP, CRP, XAI), and words of capitals are not stemmed. A word with hyphens is its parts as well.
    """
    return [stem for word in words(text) for stem in stems(word, of_language)]


def words(text: str) -> list[str]:
    """Return the words of a text as they are written, but for function words of either language."""
    english, german = _function_words("en"), _function_words("de")
    return [word for word in WORD.findall(text) if (lower := word.lower()) not in english and lower not in german]


@cache
def stems(word: str, of_language: Language) -> tuple[str, ...]:
    """Return the stem of a word; of one with hyphens also those of its parts."""
    parts = [part for part in re.split(r"[-'’]", word) if len(part) > 1]
    every = [word, *parts] if len(parts) > 1 else [word]
    return tuple(each.lower() if each.isupper() else _stemmer(of_language).stemWord(each.lower()) for each in every)


@cache
def _stemmer(of_language: Language):
    import snowballstemmer

    return snowballstemmer.stemmer({"en": "english", "de": "german"}[of_language])


@cache
def _function_words(of_language: Language) -> frozenset[str]:
    from bm25s import stopwords

    return frozenset({"en": stopwords.STOPWORDS_EN_PLUS, "de": stopwords.STOPWORDS_GERMAN}[of_language])
