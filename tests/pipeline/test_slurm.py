"""The study on a real SLURM."""

import csv
import io
import re
import secrets
import shutil
import time

import pytest

from tests.pipeline.conftest import ROOT, SMALL, SUBMITTED, clone_of_the_project, copied, moved_to, rules

ON_A_GPU = {
    "train",
    "relevance",
    "prune",
    "evaluate",
    "few_shot",
    "drift",
    "concepts",
    "concept_changes",
    "latency",
} | {"latency_few_shot", "layer_sensitivity"}
ON_A_GPU |= {"prototypes", "prune_prototypes", "prune_backbone", "evaluate_prototypes"}
SECRET = secrets.token_hex(16)


def asked_for(study, below=False):
    """Return what `scontrol show job` says of the jobs of a study (or of its temporary copies), by rule."""
    known = {}
    for line in study.run("scontrol", "--oneliner", "show", "job").splitlines():
        of_job = dict(re.findall(r"(\S+?)=(.*?)(?= \S+=|$)", line))
        folder = of_job.get("WorkDir", "").rstrip()
        if folder == str(study.folder) or (below and folder.startswith(f"{study.folder}/.dvc/tmp")):
            rule = re.match(r"rule_([a-z_]+?)(?:_wildcards_|$)", of_job["Comment"].strip())[1]
            known.setdefault(rule, []).append(of_job)
    return known


@pytest.mark.fault
def test_every_stage_runs_on_slurm_with_what_the_profile_asks_for(complete, cluster, tmp_path):
    study = clone_of_the_project(tmp_path / 'a "study"; $(exit 1)')
    shutil.copy(ROOT / "dvc.yaml", study.folder)
    study.edit(**SMALL)
    study.commit("small study")
    moved_to(cluster, study).environment |= {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": SECRET}
    study.edit_profile({}, train={"gres": "gpu:1", "gpu": 0}, prune={"mem_mb": 3000})
    profile = study.folder / "profiles/slurm/config.yaml"
    lines = "default-resources:\n  slurm_partition: main\n  slurm_account: mine\n"
    profile.write_text(profile.read_text().replace("default-resources:\n", lines))
    answer = study.run("dvc", "repro")
    assert study.results() == complete.results()
    assert ON_A_GPU < set(rules(answer)) >= {"prepare", "compare", "report"}
    known = asked_for(study)
    assert set(known) == set(rules(answer))
    for rule, jobs in known.items():
        for job in jobs:
            assert (job["Partition"], job["Account"]) == ("main", "mine")
            asked = job.get("TresPerNode", "") + job.get("TresPerJob", "")
            assert ("gres:gpu" in asked) == (rule in ON_A_GPU), job
    assert {job["TimeLimit"] for job in known["train"]} == {"04:00:00"}
    assert {job["TimeLimit"] for job in known["evaluate"]} == {"00:30:00"}
    assert {job["MinMemoryNode"] for job in known["prune"]} == {"3000M"}
    assert {job["CPUs/Task"] for job in known["prepare"]} == {"4"}
    assert {job["CPUs/Task"] for job in known["train"]} == {"1"}
    assert {"lrp", "weight"} == {re.search("lrp|weight", job["Comment"])[0] for job in known["prune"]}
    here = study.run("dvc", "repro", SNAKEMAKE_PROFILE="profiles/local")
    assert "Data and pipelines are up to date" in here
    for file in filter(lambda path: path.is_file(), study.folder.rglob("*")):
        assert SECRET.encode() not in file.read_bytes(), file


@pytest.mark.slow
def test_a_study_goes_on_on_slurm_with_the_numbers_it_has_here(on_slurm, tmp_path):
    assert rules(on_slurm.run("dvc", "repro")) == []
    here = copied(on_slurm, tmp_path / "here")
    for study in (on_slurm, here):
        study.edit(prune__steps=3)
    answer = on_slurm.run("dvc", "repro")
    of_chains = ["relevance", "prune", "evaluate"] * 2
    assert rules(answer) == sorted([*of_chains, "latency", "deployment", "compare", "statistics", "safety"])
    assert any("lrp" in names for _, rule, names in SUBMITTED.findall(answer) if rule == "prune")
    here.repro(SNAKEMAKE_PROFILE="profiles/local")
    assert on_slurm.results() == here.results()


@pytest.mark.slow
def test_processes_that_srun_starts_make_what_those_started_here_make(on_slurm, tmp_path):
    here = copied(on_slurm, tmp_path / "here")
    shared = {"tasks_per_node": 2, "gpu": 2}
    on_slurm.edit_profile({}, **dict.fromkeys(("train", "relevance", "prune"), shared | {"mpi": "srun"}))
    profile = here.folder / "profiles/local/config.yaml"
    profile.write_text(
        f"{profile.read_text()}set-resources: {{train: {shared}, relevance: {shared}, prune: {shared}}}\n"
    )
    alone = here.files("models/baseline")
    for study, profile in ((on_slurm, "profiles/slurm"), (here, "profiles/local")):
        study.edit(train__learning_rate=0.03, prune__criteria=["lrp"], prune__steps=1)
        study.run("dvc", "repro", "prune", SNAKEMAKE_PROFILE=profile)
        logs = [log.read_text() for log in (study.folder / "logs/train").iterdir()]
        assert sum("2 processes share each batch of 32" in log for log in logs) == 1
    assert on_slurm.files("models/baseline") == here.files("models/baseline") != alone
    assert on_slurm.files("models/pruned") == here.files("models/pruned")


@pytest.mark.fault
def test_processes_on_two_nodes_make_what_those_on_one_make(on_slurm, cluster, tmp_path):
    here = copied(on_slurm, tmp_path / "here")
    on_slurm.edit_profile(
        {}, train={"slurm_partition": "both", "nodes": 2, "tasks_per_node": 2, "gpu": 4, "mpi": "srun"}
    )
    profile = here.folder / "profiles/local/config.yaml"
    profile.write_text(f"{profile.read_text()}set-resources: {{train: {{tasks_per_node: 4}}}}\n")
    alone = here.files("models/baseline")
    cluster.start_node(cluster.second)
    try:
        for study, profile in ((on_slurm, "profiles/slurm"), (here, "profiles/local")):
            study.edit(train__learning_rate=0.03)
            study.run("dvc", "repro", "train", SNAKEMAKE_PROFILE=profile)
        assert asked_for(on_slurm)["train"][0]["NumNodes"] == "2"
    finally:
        cluster.stop_second()
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


@pytest.mark.fault
def test_a_grid_of_criterion_rate_and_seed_has_its_jobs_on_slurm(on_slurm, tmp_path):
    shared = {"STUDY_WORK": str(tmp_path / "shared work")}
    grid = ["prune.criteria=[lrp],[weight]", "prune.per_step=0.1,0.15", "seeds=[0],[1]", "prune.steps=1"]
    options = [part for each in grid for part in ("-S", each)]
    on_slurm.run("dvc", "exp", "run", "--queue", *options, "prune", **shared)
    on_slurm.run("dvc", "exp", "run", "--run-all", "--jobs", "2", **shared)
    states = [line.split()[-1] for line in on_slurm.run("dvc", "queue", "status").splitlines() if "Success" in line]
    assert states == ["Success"] * 8
    shown = csv.DictReader(io.StringIO(on_slurm.run("dvc", "exp", "show", "--csv")))
    assert len([row for row in shown if row["Experiment"]]) == 8
    jobs = sorted(rule for rule, of_rule in asked_for(on_slurm, below=True).items() for _ in of_rule)
    assert (jobs.count("prune"), jobs.count("relevance")) == (8, 8)
    assert 1 <= jobs.count("train") <= 4  # that of seed 0 is known to DVC
