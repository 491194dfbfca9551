"""What breaks on a cluster, broken for real. `make reliability` writes the table of docs/reliability.md from it."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.pipeline.conftest import copied, jobs, rules, step

MEMORY = Path("/sys/fs/cgroup/memory")
EPOCHS = 20_000  # more than any test waits for


def wait_until(condition, seconds=240):
    """Wait until a condition holds and return its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.2)
    return value


def log_of_training(study):
    """Return what the newest training has said, of all attempts."""
    return "".join(path.read_text() for path in study.folder.glob("logs/train/*.log"))


def pruning_logs(study):
    """Return the logs of pruning steps that there are."""
    return list(study.folder.glob("logs/prune/*/*/*.log"))


def epoch(text):
    """Return the last epoch that a training names, or nothing."""
    found = re.findall(rf"epoch (\d+) of {EPOCHS}", text)
    return int(found[-1]) if found else None


def in_queue(study):
    """Return the jobs that wait or run."""
    return study.run("squeue", "--noheader", "--states", "PENDING,RUNNING,COMPLETING", "--format", "%A %T").split("\n")[
        :-1
    ]


def interrupt(study, process):
    """Press Ctrl-C and wait for the end."""
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=90) != 0


def train_without_end(study):
    """Start a training on SLURM that the test must end, and wait until it has finished epochs."""
    study.edit(train__epochs=EPOCHS)
    process = study.start("train")
    wait_until(lambda: (epoch(log_of_training(study)) or 0) > 3)
    return process


def kept(study):
    """Return how many epochs the state of the training has."""
    (path,) = study.folder.glob(".work/train/*/seed0.training")
    with safe_open(path, "np") as file:
        return len(json.loads(file.metadata()["training"])["history"])


def goes_on(study, epochs):
    """Wait until a training goes on after at least so many epochs; return what was lost and the seconds that took."""
    begin = time.monotonic()
    found = wait_until(lambda: re.search(r"goes on after epoch (\d+) of seed0.training", log_of_training(study)))
    after = int(found[1])
    assert after >= epochs
    wait_until(lambda: kept(study) > after)
    return f"the epoch after the {after} it had made", time.monotonic() - begin


@pytest.mark.fault
def test_a_job_out_of_memory_is_submitted_again_with_more(on_slurm, faults):
    on_slurm.edit_profile({}, prune={"mem_mb": "150 * attempt ** 5"})
    on_slurm.edit(prune__criteria=["lrp"], prune__steps=3)
    begin = time.monotonic()
    answer = on_slurm.run("dvc", "repro", "prune")
    assert rules(answer) == ["prune", "prune", "relevance"]
    said = "".join(path.read_text() for path in on_slurm.folder.glob(".snakemake/slurm_logs/rule_prune/*/*.log"))
    assert "Exceeded job memory limit" in said
    faults("a job takes more memory than it asked for", "killed by SLURM, submitted again with more (`attempt`)",
           "the job", time.monotonic() - begin)  # fmt: skip


@pytest.fixture
def no_more_memory():
    """Return a function that leaves a process no memory beyond what it has: the kernel kills it when it wants more."""
    group = MEMORY / f"study-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text("64K")
    except OSError as error:
        pytest.skip(f"no memory cgroup (v1) can be made here: {error}")

    def limit(process):
        (group / "cgroup.procs").write_text(str(process))

    yield limit
    wait_until(lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()


@pytest.mark.fault
def test_a_job_that_the_kernel_kills_for_memory_is_submitted_again_with_more_and_goes_on(
    on_slurm, no_more_memory, faults
):
    on_slurm.edit(prune__criteria=["lrp"], prune__steps=1, prune__finetune__epochs=60)
    process = on_slurm.start("prune")
    (log,) = wait_until(lambda: [log for log in pruning_logs(on_slurm) if "epoch 3 of 60" in log.read_text()])
    begin = time.monotonic()
    for each in on_slurm.processes():
        if b"\0-m\0stages.prune\0" in Path(f"/proc/{each}/cmdline").read_bytes():
            no_more_memory(each)
    assert process.wait(timeout=240) == 0
    assert rules(on_slurm.read("repro.log")) == ["prune", "prune", "relevance"]
    after = re.search(r"goes on after epoch (\d+) of step1.training", log.read_text())[1]
    asked = on_slurm.run("scontrol", "--oneliner", "show", "job")
    assert re.findall(r"MinMemoryNode=(\S+)", asked)[-2:] == ["8000M", "16000M"]
    faults("the kernel's out-of-memory killer takes a job", "submitted again with more; goes on from its last epoch",
           f"the epoch after the {after} it had made", time.monotonic() - begin)  # fmt: skip


@pytest.mark.fault
def test_a_training_over_its_time_goes_on_from_its_last_epoch_with_more(on_slurm, faults):
    on_slurm.edit_profile({}, train={"runtime": "attempt ** 5"})
    process = train_without_end(on_slurm)
    on_slurm.wait_for("Trying to restart job", seconds=240)
    epochs = kept(on_slurm)
    assert epochs > 3
    lost, seconds = goes_on(on_slurm, epochs)
    faults("a training runs over its time", "ended by SLURM, submitted again with more; it goes on from its last epoch",
           lost, seconds)  # fmt: skip
    interrupt(on_slurm, process)
    assert in_queue(on_slurm) == []


@pytest.mark.fault
def test_a_job_whose_node_dies_is_queued_again_and_goes_on(on_slurm, cluster, faults):
    process = train_without_end(on_slurm)
    cluster.kill_node()
    on_slurm.kill_jobs()
    epochs = kept(on_slurm)
    assert epochs >= epoch(log_of_training(on_slurm)) > 3
    wait_until(lambda: "down" in cluster.state_of_node())
    cluster.start_node()
    lost, seconds = goes_on(on_slurm, epochs)
    assert rules(on_slurm.read("repro.log")) == ["train"]  # queued again by SLURM, not submitted by Snakemake
    assert "Restarts=1" in on_slurm.run("scontrol", "show", "job", in_queue(on_slurm)[0].split()[0])
    faults("a node dies under a training", "queued again by SLURM when the node is missed; goes on from its last epoch",
           lost, seconds)  # fmt: skip
    interrupt(on_slurm, process)


@pytest.mark.fault
def test_scancel_stops_the_study_and_the_next_run_goes_on(on_slurm, faults):
    on_slurm.edit(prune__scores__references_per_class=9, prune__finetune__epochs=60, prune__criteria=["lrp"])
    process = on_slurm.start("prune")
    on_slurm.wait_for("rule_prune", seconds=300)
    begin = time.monotonic()
    on_slurm.run("scancel", "--user", "root")
    assert process.wait(timeout=120) != 0
    told = on_slurm.read("repro.log")
    assert re.search("SLURM jobs cancelled: .*; the study stops, the next run goes on", told)
    assert rules(told).count("prune") <= 2  # Snakemake may submit once more before it has heard
    assert in_queue(on_slurm) == []
    seconds = time.monotonic() - begin
    assert rules(on_slurm.run("dvc", "repro", "prune")) == ["prune", "prune", "relevance"]  # not the first scores
    faults("`scancel` of the study's jobs", "the study stops and says so; the next run goes on", "the jobs that ran",
           seconds)  # fmt: skip


@pytest.mark.fault
def test_the_controller_may_be_away_for_a_while(on_slurm, cluster, faults):
    on_slurm.edit(prune__criteria=["lrp"], prune__steps=3)
    process = on_slurm.start("prune")
    on_slurm.wait_for("rule_relevance", seconds=120)
    begin = time.monotonic()
    cluster.stop_controller()
    time.sleep(30)
    cluster.start_controller()
    assert process.wait(timeout=600) == 0
    told = on_slurm.read("repro.log")
    assert "Snakemake has lost its SLURM jobs; it is started again" in told
    assert rules(told) == ["prune", "relevance"]
    faults("the controller is away for 30 s, and Snakemake's plugin forgets its jobs",
           "noticed after five silent minutes; Snakemake is started again and finds what the jobs have made", "nothing",
           time.monotonic() - begin - 30)  # fmt: skip


@pytest.mark.parametrize(
    "killed",
    [
        pytest.param("dvc|stages.run|snakemake", marks=pytest.mark.slow, id="all"),
        pytest.param("stages.run", marks=pytest.mark.fault, id="bridge"),  # Snakemake lives on, and submits
    ],
)
def test_jobs_of_a_killed_run_are_cancelled_and_the_study_finds_its_results(on_slurm, tmp_path, faults, killed):
    here = copied(on_slurm, tmp_path / "here")
    for study in (on_slurm, here):
        study.edit(prune__scores__references_per_class=9, prune__finetune__epochs=20, prune__criteria=["lrp"])
    made = set(on_slurm.folder.glob(".work/prune/*/lrp/seed0/step1.history.csv"))
    dvc = on_slurm.start("prune")
    wait_until(lambda: rules(on_slurm.read("repro.log")).count("relevance") == 2)
    wait_until(lambda: rules(on_slurm.read("repro.log")).count("prune") == 2)  # the second step's
    wait_until(lambda: "RUNNING" in "".join(in_queue(on_slurm)))
    (first,) = set(on_slurm.folder.glob(".work/prune/*/lrp/seed0/step1.history.csv")) - made
    session = subprocess.run(["pgrep", "-a", "-s", str(dvc.pid)], capture_output=True, text=True).stdout.splitlines()
    for line in session:
        if re.search(killed, line):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line.split()[0]), signal.SIGKILL)
    dvc.wait()
    assert in_queue(on_slurm)
    file, begin = first.stat().st_ino, time.monotonic()
    answer = on_slurm.run("dvc", "repro", "prune")
    assert "cancels SLURM jobs that have no owner: " in answer
    assert rules(answer) == ["prune"]  # of the second step
    assert first.stat().st_ino == file
    assert not (on_slurm.folder / ".snakemake/study/slurm").exists()
    faults(f"`kill -9` of {'the submitting processes' if '|' in killed else 'the process between DVC and Snakemake'}",
           "the next run cancels their jobs and goes on with what was finished", "the job that ran",
           time.monotonic() - begin)  # fmt: skip
    here.repro("prune", SNAKEMAKE_PROFILE="profiles/local")
    assert on_slurm.files("models/pruned") == here.files("models/pruned")


@pytest.mark.slow
def test_an_interrupted_run_leaves_no_job(on_slurm, faults):
    on_slurm.edit(prune__scores__references_per_class=9, prune__finetune__epochs=30)
    dvc = on_slurm.start()
    on_slurm.wait_for("rule_prune", seconds=300)
    begin = time.monotonic()
    interrupt(on_slurm, dvc)
    assert in_queue(on_slurm) == []
    faults(
        "Ctrl-C", "the study's jobs are cancelled; the next run goes on", "the jobs that ran", time.monotonic() - begin
    )


@pytest.mark.slow
def test_a_full_disk_is_named_and_the_study_goes_on_when_there_is_room(study, tmp_path, faults):
    disk = tmp_path / "disk"
    disk.mkdir()
    pages = {path.name: -(-path.stat().st_size // 4096) for path in study.folder.glob(".work/prune/*/lrp/seed0/step*")}
    first = sum(pages[name] for name in pages if name.startswith("step1."))
    # Room for step 1, and of step 2 for the network after the cut, but not for the one after fine-tuning.
    size = f"size={4 * (first + 6 + 3 * pages['step2.pruned.safetensors'] // 2)}k"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here (needs root)")
    try:
        study.edit(prune__criteria=["lrp"], prune__recalibrate=90, prune__steps=3)
        told = study.run("dvc", "repro", "prune", status=255, STUDY_WORK=str(disk))
        assert "No space left on device; make room and run it again, what is finished is kept" in told
        assert "Traceback" not in told
        finished = {path.name for path in disk.glob("prune/*/lrp/seed0/step*.safetensors")}
        assert "step1.safetensors" in finished
        assert not list(disk.rglob("*.tmp"))
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        begin = time.monotonic()
        again = study.repro("prune", STUDY_WORK=str(disk))
        assert not any(f"prune lrp seed 0 step {n}" in again for n in (1, 2, 3) if f"step{n}.safetensors" in finished)
        assert "prune lrp seed 0 step 3" in again
        faults("the disk is full", "one line names the file; with room made, the study goes on", "the job that was hit",
               time.monotonic() - begin)  # fmt: skip
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.slow
def test_a_checkpoint_without_its_end_is_found_and_made_again(study, faults):
    before = study.results()
    (path,) = study.folder.glob(".work/prune/*/lrp/seed0/step1.safetensors")
    os.truncate(path, path.stat().st_size // 2)  # with it what is published, and DVC's copy: they are one file
    begin = time.monotonic()
    assert "files were not whole" in study.run("python", "-m", "stages.study", "check")
    assert study.repro("prune") <= step("lrp", 1) | step("lrp", 2)  # none where DVC's copy is another file
    assert study.results() == before
    faults("a checkpoint lost its end in a crash", "found by `make run`, restored or made again", "that job",
           time.monotonic() - begin)  # fmt: skip
    (path,) = study.folder.glob(".work/prune/*/lrp/seed0/step2.safetensors")
    os.truncate(path, path.stat().st_size - 1)
    study.edit(prune__steps=3)
    told = study.run("dvc", "repro", "prune")
    assert "step2.safetensors: not whole, and made again" in told
    again = jobs(told)
    assert again >= step("lrp", 2) | step("lrp", 3) | step("weight", 3)
    assert not again & (step("weight", 1) | step("weight", 2))
    published = study.files("models/pruned/lrp/seed0")
    for name in ("step2.safetensors", "step2.plan.json"):
        assert published[name] == before[f"models/pruned/lrp/seed0/{name}"]


@pytest.mark.slow
def test_a_run_that_goes_on_is_named_to_whoever_starts_a_second(study, faults):
    study.edit(prune__recalibrate=90)
    first = study.start("prune")
    study.wait_for("Job stats")
    held = study.processes()
    for each in held:  # or it ends before the others have asked
        os.kill(each, signal.SIGSTOP)
    begin = time.monotonic()
    output = study.run("python", "-m", "stages.run", "prune", status=2)
    seconds = time.monotonic() - begin
    assert "held by another run: stage prune, process" in output
    assert len(output.splitlines()) == 1
    assert "held by another run" in study.run("python", "-m", "stages.study", "check", status=2)  # `make run` begins so
    assert re.search(r"blocked by:\s+\(PID \d+\): \S*dvc repro prune", study.run("dvc", "repro", "prune", status=255))
    for each in held:
        os.kill(each, signal.SIGCONT)
    assert first.wait(timeout=120) == 0
    faults("two start the study in one folder", "the second is told who holds it", "nothing", seconds)


@pytest.mark.parametrize(
    ("stage", "epochs", "models"),
    [
        pytest.param("train", "train__epochs", "models/baseline", marks=pytest.mark.slow),
        pytest.param("prune", "prune__finetune__epochs", "models/pruned", marks=pytest.mark.fault),
    ],
)
def test_a_training_killed_between_epochs_goes_on_to_the_same_weights(study, tmp_path, faults, stage, epochs, models):
    study.edit(prune__criteria=["lrp"], prune__steps=1, **{epochs: 60})
    whole = copied(study, tmp_path / "whole")
    study.start(stage)
    study.wait_for("epoch 3 of 60")
    study.kill_all()
    begin = time.monotonic()
    output = study.run("dvc", "repro", stage)
    seconds = time.monotonic() - begin
    after = re.search(r"goes on after epoch (\d+) of \w+.training, which an earlier run left", output)[1]
    assert int(after) >= 3
    whole.run("dvc", "repro", stage)
    assert study.files(models) == whole.files(models)
    if stage == "train":
        faults("the machine goes down in a training", "goes on from its last epoch to the same weights",
               f"the epoch after the {after} it had made", seconds)  # fmt: skip
