"""The study on a real SLURM."""

import contextlib
import os
import re
import signal
import subprocess

import pytest

from tests.pipeline.cluster import Cluster
from tests.pipeline.conftest import copied

pytestmark = pytest.mark.slow
SUBMITTED = re.compile(r"submitted with SLURM jobid (\d+) \(log: \S*?/rule_(\w+)/(?:(\S+)/)?\d+\.log\)")
PROFILE = "profiles/slurm/config.yaml"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Return a running cluster."""
    if why := Cluster.missing():
        pytest.skip(why)
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        try:
            cluster.start()
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"SLURM does not start here: {error}")
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def on_slurm(study, cluster):
    """Return a copy of the finished study whose jobs SLURM runs, polled often."""
    text = study.read(PROFILE)
    for key, value in {"slurm-init-seconds-before-status-checks": 6, "latency-wait": 10}.items():
        text, found = re.subn(rf"^{key}: \d+", f"{key}: {value}", text, flags=re.M)
        assert found
    (study.folder / PROFILE).write_text(text)
    path = os.pathsep.join([study.environment["PATH"], "/usr/sbin"])
    study.environment |= cluster.environment | {"SNAKEMAKE_PROFILE": "profiles/slurm", "PATH": path}
    return study


def rules(output):
    """Return the rules whose jobs were submitted."""
    return sorted(rule for _, rule, _ in SUBMITTED.findall(output))


def test_a_study_goes_on_on_slurm_with_the_numbers_it_has_here(on_slurm, tmp_path):
    assert rules(on_slurm.run("dvc", "repro")) == []
    here = copied(on_slurm, tmp_path / "here")
    for study in (on_slurm, here):
        study.edit(prune__steps=3)
    answer = on_slurm.run("dvc", "repro")
    of_chains = ["relevance", "prune", "evaluate"] * 2
    assert rules(answer) == sorted([*of_chains, "latency", "compare", "statistics", "safety"])
    assert any("lrp" in names for _, rule, names in SUBMITTED.findall(answer) if rule == "prune")
    here.repro(SNAKEMAKE_PROFILE="profiles/local")
    assert on_slurm.results() == here.results()


def test_jobs_of_a_killed_run_are_cancelled_and_the_study_goes_on(on_slurm):
    on_slurm.edit(prune__scores__references_per_class=9, prune__steps=1, prune__finetune__epochs=30)
    dvc = on_slurm.start()
    on_slurm.wait_for("rule_prune", seconds=300)
    session = subprocess.run(["pgrep", "-a", "-s", str(dvc.pid)], capture_output=True, text=True).stdout.splitlines()
    for line in session:
        if "stages.run" in line:  # the bridge alone: Snakemake lives on, and submits
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line.split()[0]), signal.SIGKILL)
    dvc.wait()
    on_slurm.edit(prune__finetune__epochs=1)
    answer = on_slurm.run("dvc", "repro", "prune")
    assert "cancels SLURM jobs that have no owner: " in answer
    assert len(rules(answer)) == 4  # the fine-tuning is another
    assert len(list(on_slurm.folder.glob("models/pruned/*/seed0/step1.safetensors"))) == 2
    assert not (on_slurm.folder / ".snakemake/study/slurm").exists()


def test_an_interrupted_run_leaves_no_job(on_slurm):
    on_slurm.edit(prune__scores__references_per_class=9, prune__finetune__epochs=30)
    dvc = on_slurm.start()
    on_slurm.wait_for("rule_prune", seconds=300)
    os.killpg(dvc.pid, signal.SIGINT)
    dvc.wait()
    states = on_slurm.run("squeue", "--noheader", "--states", "PENDING,RUNNING,COMPLETING", "--format", "%A %T")
    assert states == ""
