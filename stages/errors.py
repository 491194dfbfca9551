"""The one exception that means: the input is wrong, not the program."""


class InputError(Exception):
    """Bad input. The message names the file or key, what is wrong with it and what would be right.

    Commands print it as one line on stderr and end with status 2 (see `stages.command`).
    """
