"""Reading YAML against a schema; what is wrong becomes one line."""

import difflib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from stages.errors import InputError
from stages.params.section import Section

SchemaT = TypeVar("SchemaT", bound=Section)


def read(path: Path, schema: type[SchemaT]) -> SchemaT:
    """Read a YAML file and check it against the schema of its sections.

    Raises
    ------
    InputError
        The file is missing or no YAML mapping, or a key is unknown, missing or out of range; the message names it.
    """
    try:
        content = YAML(typ="safe").load(Path(path).read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
    except MarkedYAMLError as error:
        raise InputError(f"{path}: line {error.problem_mark.line + 1}: not valid YAML: {error.problem}") from None
    except (YAMLError, ValueError) as error:
        raise InputError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: must be a mapping with the sections {', '.join(schema.model_fields)}")
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        problems = sorted(error.errors(), key=_rank)
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(f"{path}: {_describe(problems[0], schema)}{more}") from None


def _rank(problem: dict) -> int:
    """Put an unknown key first, and last that a section is not the word it could be instead."""
    if problem["type"] == "extra_forbidden":
        return 0
    return 2 if problem["type"] == "literal_error" and isinstance(problem["input"], dict) else 1


def _describe(problem: dict, schema: type[Section]) -> str:
    """Return `key: what is wrong: what would be right` for one error of pydantic."""
    names = [str(part) for part in problem["loc"]]
    key = ".".join(
        name for name in names if name.replace("_", "").isalnum() and name not in ("Weights", "LayerGroups", "str")
    )
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key{_suggest(names[-1], _siblings(names[:-1], schema))}"
    if problem["type"] == "missing":
        return f"{key}: missing"
    if problem["type"] == "literal_error":
        allowed = problem["ctx"]["expected"]
        choices = [choice.strip(" '") for choice in allowed.replace(" or ", ", ").split(",")]
        return f"{key}: {problem['input']!r} is none of {', '.join(choices)}{_suggest(str(problem['input']), choices)}"
    if problem["type"] == "value_error":
        return f"{key}: {problem['ctx']['error']}" if key else str(problem["ctx"]["error"])
    message = problem["msg"].replace("Input should be", "must be").replace("String should", "must")
    return f"{key}: {problem['input']!r} {message}"


def _siblings(names: list[str], section: type[BaseModel]) -> list[str]:
    """Return the keys of the section at `names`."""
    for name in names:
        if name in section.model_fields:
            annotation = section.model_fields[name].annotation
            options = [annotation, *getattr(annotation, "__args__", ())]
            section = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return list(section.model_fields)


def _suggest(word: str, choices: list[str]) -> str:
    near = difflib.get_close_matches(word, choices, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(choices)}"
