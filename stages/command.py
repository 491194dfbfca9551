"""What every command line of the study shares: arguments, log lines, errors as one line and status 2."""

import argparse
import errno
import gc
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from stages.errors import InputError


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise the message instead of printing the usage with it."""
        raise InputError(f"{self.prog}: {message} (see --help)")


def parser(module: str, description: str | None, **paths: str) -> Parser:
    """Return a parser for `python -m MODULE` with `--params` and one required path option per keyword."""
    made = Parser(prog=f"python -m {module}", description=description)
    made.add_argument("--params", type=Path, default=Path("params.yaml"), help="parameters of the study")
    for name, text in paths.items():
        made.add_argument(f"--{name.replace('_', '-')}", type=Path, required=True, help=text)
    return made


def run(main: Callable[[], None]) -> None:
    """Call `main`; an `InputError`, a full disk and a refused access become one line on stderr and exit status 2.

    What `main` starts (dvc, snakemake, python) is that of its own environment, also where this is not activated.
    """
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    logging.getLogger("study").setLevel(logging.INFO)  # not those of libraries
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stdout)
    try:
        main()
    except InputError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    except PermissionError as error:
        print(f"{error.filename}: {error.strerror}; the study needs to read and write here", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        file = error.filename or Path.cwd()
        print(f"{file}: {error.strerror}; make room and run it again, what is finished is kept", file=sys.stderr)
        sys.exit(2)
    finally:
        gc.freeze()  # or Python looks through all objects of torch for cycles as it ends, which takes over a second


def logger(*parts: object) -> logging.LoggerAdapter:
    """Return a logger whose lines begin with `parts`, such as `prune lrp seed 0 step 2`."""
    prefix = " ".join(str(part) for part in parts)

    class Prefixed(logging.LoggerAdapter):
        def process(self, message, kwargs):
            return f"{prefix}: {message}", kwargs

    return Prefixed(logging.getLogger("study"), {})
