"""The study on a real SLURM."""

import time

import pytest

from tests.pipeline.conftest import SUBMITTED, copied, rules


@pytest.mark.slow
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


@pytest.mark.slow
def test_processes_that_srun_starts_train_as_those_started_here(on_slurm, tmp_path):
    here = copied(on_slurm, tmp_path / "here")
    on_slurm.edit_profile({}, train={"mpi": "srun", "tasks_per_node": 2, "gpu": 2})
    profile = here.folder / "profiles/local/config.yaml"
    profile.write_text(f"{profile.read_text()}set-resources: {{train: {{tasks_per_node: 2}}}}\n")
    alone = here.files("models/baseline")
    for study, profile in ((on_slurm, "profiles/slurm"), (here, "profiles/local")):
        study.edit(train__learning_rate=0.03)
        study.run("dvc", "repro", "train", SNAKEMAKE_PROFILE=profile)
        logs = [log.read_text() for log in (study.folder / "logs/train").iterdir()]
        assert sum("2 processes share each batch of 32" in log for log in logs) == 1
    assert on_slurm.files("models/baseline") == here.files("models/baseline") != alone


@pytest.mark.fault
def test_a_grouped_chain_is_one_job_and_goes_on_after_the_steps_it_has_made(on_slurm, tmp_path):
    here = copied(on_slurm, tmp_path / "here")
    on_slurm.edit_profile({"retries": 0, "slurm-requeue": False})
    profile = on_slurm.folder / "profiles/slurm/config.yaml"
    profile.write_text(f"{profile.read_text()}groups: [relevance=chain, prune=chain]\n")
    for study in (on_slurm, here):
        study.edit(prune__criteria=["lrp"], prune__steps=5, prune__per_step=0.1)
    process, end = on_slurm.start("prune"), time.monotonic() + 200
    while not (made := list(on_slurm.folder.glob(".work/prune/*/lrp/seed0/step3.history.csv"))):
        assert time.monotonic() < end, on_slurm.read("repro.log")
        time.sleep(0.1)
    on_slurm.kill_jobs()
    assert process.wait() != 0
    assert on_slurm.read("repro.log").count("submitted with SLURM jobid") == 1
    file = made[0].stat().st_ino
    assert on_slurm.run("dvc", "repro", "prune").count("submitted with SLURM jobid") == 1
    assert made[0].stat().st_ino == file
    here.repro("prune", SNAKEMAKE_PROFILE="profiles/local")
    assert on_slurm.files("models/pruned") == here.files("models/pruned")


@pytest.mark.slow
def test_an_experiment_of_the_queue_has_its_jobs_on_slurm(on_slurm):
    on_slurm.run(
        "dvc", "exp", "run", "--queue", "-n", "rounder", "-S", "prune.round_to=2", "-S", "prune.steps=1", "prune"
    )
    on_slurm.run("dvc", "exp", "run", "--run-all")
    assert rules(on_slurm.run("dvc", "queue", "logs", "rounder")) == ["prune", "prune", "relevance", "relevance"]
    shown = on_slurm.run("dvc", "exp", "show", "--csv")
    assert "rounder" in shown
