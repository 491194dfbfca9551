"""What the bridge to Snakemake does where Snakemake's SLURM plugin does not; on a real SLURM: tests/pipeline."""

import itertools
import os
import signal
import time
from pathlib import Path

import pytest

from stages import run, slurm
from stages.errors import InputError

RESTART = "Job 2 has been submitted with SLURM jobid 7 (log: x/rule_prune/7.log).\nTrying to restart job 2.\n"


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """Return a file of squeue's answers, `STATE NUMBER NAME` a line; without it squeue fails."""
    answers = tmp_path / "queue"
    command = tmp_path / "squeue"
    command.write_text(f"""#!/bin/sh
case "$*" in *CANCELLED*) state=CANCELLED;; *) state=RUNNING;; esac
sed -n "s/^$state //p" {answers} || exit 1
""")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return answers


@pytest.mark.parametrize(
    ("answer", "stops"),
    [
        (f"CANCELLED 7 {slurm.PREFIX}-prune", True),
        ("", False),  # it failed, and is submitted again
        (f"CANCELLED 6 {slurm.PREFIX}-prune", False),  # by an earlier run
        ("CANCELLED 7 of-somebody-else", False),
        (None, False),
    ],
)
def test_a_job_that_was_cancelled_stops_the_study_and_one_that_failed_does_not(queue, capfd, answer, stops):
    if answer is not None:
        queue.write_text(answer + "\n")
    stopped = []
    slurm.Follower(RESTART.splitlines(keepends=True), lambda: stopped.append(True)).join()
    said = capfd.readouterr().err
    assert said.startswith(RESTART)
    assert ("SLURM jobs cancelled: 7; the study stops" in said) == bool(stopped) == stops


@pytest.mark.parametrize(
    ("answer", "submitted", "silent", "lost"),
    [
        ("", True, 400, True),
        ("", True, 200, False),  # Snakemake may be about to look
        ("", False, 400, False),  # it plans
        (f"RUNNING 7 {slurm.PREFIX}-prune", True, 400, False),
        (None, True, 400, False),  # nobody knows
    ],
)
def test_snakemake_has_lost_its_jobs_where_none_is_left_and_it_stays_silent(
    queue, monkeypatch, answer, submitted, silent, lost
):
    if answer is not None:
        queue.write_text(answer + "\n")
    follower = slurm.Follower(RESTART.splitlines(keepends=True)[:submitted], lambda: None)
    follower.join()
    now = time.monotonic()
    clock = itertools.count(now + 60, 60)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    assert any(follower.waits_for_nothing() for _ in range(silent // 60)) == lost


@pytest.fixture
def on_slurm(tmp_path, monkeypatch):
    """Let the bridge take shell commands for Snakemake, on a SLURM that has no job."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "SLURM_USED", tmp_path / "slurm")
    monkeypatch.setattr(slurm, "chosen", lambda profile: True)
    monkeypatch.setattr(slurm, "cancel_jobs", lambda marker: marker.unlink())
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_snakemake_is_started_again_where_it_has_lost_its_jobs_but_not_for_ever(on_slurm, monkeypatch, capfd):
    monkeypatch.setattr(slurm.Follower, "waits_for_nothing", lambda self: True)
    assert run.snakemake(["sh", "-c", "echo >> starts; exec sleep 60"]) == -signal.SIGINT
    assert len(Path("starts").read_text()) == 1 + run.RESTARTS
    assert capfd.readouterr().err.splitlines()[-1] == "Snakemake has lost its SLURM jobs; run the study again"


def test_the_status_of_the_second_start_counts(on_slurm, monkeypatch):
    monkeypatch.setattr(slurm.Follower, "waits_for_nothing", lambda self: True)
    assert run.snakemake(["sh", "-c", "test -f started && exit 7; touch started; exec sleep 60"]) == 7


def test_snakemake_is_not_started_again_where_it_was_told_to_stop(on_slurm, monkeypatch):
    def lost_and_told(self):
        signal.raise_signal(signal.SIGTERM)
        return True

    monkeypatch.setattr(slurm.Follower, "waits_for_nothing", lost_and_told)
    run.snakemake(["sh", "-c", "echo >> starts; exec sleep 60"])
    assert len(Path("starts").read_text()) == 1


@pytest.mark.parametrize("name", ["it's a; study", 'a "study" $(touch sprung) `ls`', "x & y"])
def test_a_folder_may_have_almost_any_name(name):
    run.refuse_folder(Path("/home/me") / name)


@pytest.mark.parametrize("name", ["it's $(touch sprung)", "it's `ls`", """it's a "study" """, "a\\b"])
def test_a_folder_that_a_shell_would_read_otherwise_is_refused(name):
    with pytest.raises(InputError, match="rename it"):
        run.refuse_folder(Path("/home/me") / name)


NOBODY = 65534


def _as_nobody(function):
    """Call a function in a process of another account and return the `InputError` it raises, or nothing."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.setuid(NOBODY)
        try:
            function()
        except InputError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as answer:
        return answer.read()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be somebody else")
def test_another_account_is_told_who_holds_a_study_and_cannot_start_it(tmp_path, monkeypatch):
    folder = tmp_path / "study"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for parent in folder.parents[:4]:
        if parent.stat().st_uid == os.getuid() and parent != Path("/tmp"):
            parent.chmod(0o755)
    monkeypatch.setattr(run.time, "sleep", lambda _: None)

    def start():
        with run.sole_owner("train"):
            pass

    with run.sole_owner("prune"):
        assert "held by another run: stage prune, process " in _as_nobody(start)
    assert "the study of another account" in _as_nobody(start)
    start()
