"""The one exception that means: the input is wrong, not the program."""

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(Exception):
    """Bad input. The message names the file or key, what is wrong with it and what would be right.

    Commands print it as one line on stderr and end with status 2 (see `stages.command`).
    """


@contextmanager
def naming(source: object) -> Iterator[None]:
    """Turn a ValueError or OSError in the block into an InputError that names where its input came from."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise InputError(f"{source}: {error}") from None


@contextmanager
def within(source: object) -> Iterator[None]:
    """Put where its input came from before the message of an InputError in the block."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
