"""The study on a real SLURM."""

import pytest

from tests.pipeline.conftest import SUBMITTED, copied, rules

pytestmark = pytest.mark.slow


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
