"""Jobs of this folder in SLURM's queue, where the chosen profile has SLURM run them."""

import contextlib
import hashlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import yaml

from stages.errors import InputError

PREFIX = "study-" + hashlib.sha256(str(Path.cwd()).encode()).hexdigest()[:8]  # of the names of this folder's jobs
SUBMITTED = re.compile(r"submitted with SLURM jobid (\d+)")
SILENCE = 300  # seconds; Snakemake looks at the queue every 180 at least, and waits 60 for files
PATIENCE = 60  # seconds that cancelled jobs have to end, and a command of SLURM's to answer


@cache
def chosen(profile: str) -> bool:
    """Say whether a profile of Snakemake's has jobs run by SLURM.

    Raises
    ------
    InputError
        The profile is no YAML.
    """
    files = list(Path(profile).glob("*.yaml"))
    if [file.name for file in files] != ["config.yaml"]:  # Snakemake knows more names and places
        from snakemake.cli import get_profile_dir

        files = [file for _, file in filter(None, [get_profile_dir(profile)])]
    try:
        return any((yaml.safe_load(file.read_text()) or {}).get("executor") == "slurm" for file in files)
    except (OSError, AttributeError, yaml.YAMLError) as error:
        raise InputError(f"{profile}: not a profile of Snakemake's: {' '.join(str(error).split())}") from None


class Follower(threading.Thread):
    """Passes what Snakemake says on to standard error, and knows two things of its jobs that it does not.

    Whoever cancels a job (`scancel`) does not want it again, but Snakemake takes it for one that failed and submits it
    again, as often as `retries` says: `stop` is called. And where the controller does not answer when Snakemake looks
    at the queue, its plugin (2.8.0) forgets all jobs and waits for ever.
    """

    def __init__(self, lines: Iterable[str], stop: Callable[[], None]):
        super().__init__(daemon=True)  # a child of a killed Snakemake may hold the pipe
        self.lines, self.stop = lines, stop
        self.submitted: set[str] = set()
        self.heard = self.looked = self.seen = time.monotonic()  # a line; the queue; a job in it
        self.start()

    def run(self) -> None:
        """Follow to the end."""
        for line in self.lines:
            self._say(line)
            self.heard = time.monotonic()
            self.submitted.update(SUBMITTED.findall(line))
            if line.startswith("Trying to restart job"):
                with contextlib.suppress(OSError, subprocess.SubprocessError):
                    if cancelled := self.submitted.intersection(_jobs("--states", "CANCELLED")):
                        names = ", ".join(sorted(cancelled))
                        self._say(f"SLURM jobs cancelled: {names}; the study stops, the next run goes on\n")
                        self.stop()

    def waits_for_nothing(self) -> bool:
        """Say whether no job has been in the queue, and nothing heard, for longer than Snakemake takes to notice."""
        now = time.monotonic()
        if not self.submitted or now - self.looked < PATIENCE:
            return False
        self.looked = now
        try:
            if _jobs():
                self.seen = now
        except (OSError, subprocess.SubprocessError):
            self.seen = now
        return now - max(self.heard, self.seen) > SILENCE

    @staticmethod
    def _say(line: str) -> None:
        with contextlib.suppress(OSError):  # Snakemake must not wait for a terminal that is gone
            print(line, end="", file=sys.stderr, flush=True)


def cancel_jobs(marker: Path) -> None:
    """Cancel this folder's jobs and wait until none is left; then delete the marker that there may be some.

    Raises
    ------
    InputError
        SLURM's commands are not there, do not answer, or jobs do not end.
    """
    hint = f"{marker}: jobs of this folder may be in SLURM's queue (if there are none, delete this file)"
    wrong, told = "", False
    for attempt in range(PATIENCE):
        if attempt:
            time.sleep(1)
        try:
            jobs = _jobs()
            if not jobs:
                marker.unlink(missing_ok=True)
                return
            if not told:
                print(f"cancels SLURM jobs that have no owner: {', '.join(jobs)}", flush=True)
                told = True
            wrong = f"{', '.join(jobs)} do not end"
            _answer("scancel", *jobs)
        except FileNotFoundError as error:
            raise InputError(f"{hint}, and there is no {error.filename} here to cancel them") from None
        except subprocess.TimeoutExpired as error:
            wrong = f"{error.cmd[0]} does not answer"
        except subprocess.CalledProcessError as error:
            wrong = f"{error.cmd[0]} fails: {' '.join(error.stderr.split())}"
    raise InputError(f"{hint}, and {wrong}; cancel them (names: {PREFIX}…) and run again")


def _jobs(*options: str) -> list[str]:
    lines = _answer("squeue", "--me", "--noheader", "--format", "%A %j", *options).splitlines()
    pairs = (line.partition(" ") for line in lines)
    return [number for number, _, name in pairs if name.startswith(PREFIX)]


def _answer(*arguments: str) -> str:
    # in a session of its own: a Ctrl-C at the terminal is not for it
    return subprocess.run(
        arguments, capture_output=True, text=True, check=True, timeout=PATIENCE, start_new_session=True
    ).stdout
