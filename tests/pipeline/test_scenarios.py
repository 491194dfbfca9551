"""What DVC and Snakemake together could get wrong; the scenarios' numbers are those of docs/architecture.md."""

import csv
import io
import json
import os
import re
import signal

import pandas as pd
import pytest

from stages.reporting import tables
from tests.pipeline.conftest import Study, evaluated, jobs, step

pytestmark = pytest.mark.slow

STEPS = step("lrp", 1) | step("lrp", 2) | step("weight", 1) | step("weight", 2)
CLEAN = "Data and pipelines are up to date."


def test_s1_new_file_times_run_nothing(study):
    for folder in ("stages", "data", "models", "metrics", "Snakefile", "dvc.yaml"):
        study.run("find", folder, "-exec", "touch", "{}", "+")
    assert study.repro() == set()


def test_s2_an_interrupted_run_goes_on_where_it_was(study):
    study.edit(prune__recalibrate=90)
    dvc = study.start("prune")
    study.wait_for("prune lrp seed 0 step 1")
    os.killpg(dvc.pid, signal.SIGINT)
    assert dvc.wait(timeout=30) != 0
    again = study.repro("prune")
    assert "relevance lrp seed 0 step 1" not in again
    assert step("lrp", 2) <= again


def test_s4_dvc_told_to_stop_leaves_no_process_behind(study):
    study.edit(prune__recalibrate=90)
    dvc = study.start("prune")
    study.wait_for("prune lrp seed 0 step 1")
    dvc.terminate()
    dvc.wait()
    again = study.repro("prune")
    assert "relevance lrp seed 0 step 1" not in again
    assert study.processes() == []


def test_s7_a_stale_step_is_impossible(study, fresh, tmp_path):
    """Clone, pull, change the rate: everything reruns, and the results equal those of a study run from nothing."""
    study.run("dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "remote"))
    study.run("dvc", "push", "-q")
    study.commit("remote")
    study.run("git", "clone", "-q", str(study.folder), str(tmp_path / "clone"))
    clone = Study(tmp_path / "clone")
    clone.run("dvc", "pull", "-q")
    assert clone.run("dvc", "status").strip() == CLEAN
    clone.edit(prune__per_step=0.3)
    assert clone.repro() == STEPS | evaluated("baseline", "lrp", "weight")
    fresh.edit(prune__per_step=0.3)
    fresh.repro()
    ours, theirs = clone.results(), fresh.results()
    assert set(ours) == set(theirs)
    assert [name for name in ours if ours[name] != theirs[name]] == []


def test_s8_an_older_commit_comes_back_without_a_job(study, tmp_path):
    before = study.results()
    study.edit(prune__per_step=0.25)
    study.repro()
    study.commit("another rate")
    changed = study.results()
    assert changed != before
    diff = json.loads(study.run("dvc", "metrics", "diff", "--json", "HEAD~1", "HEAD"))
    assert list(diff) == ["metrics/headline.json"]
    assert diff["metrics/headline.json"]["macs_left.lrp"]["diff"] < 0
    asked = ["--json", "--targets", "metrics/summary.json"]
    diff = json.loads(study.run("dvc", "metrics", "diff", "HEAD~1", "HEAD", *asked))
    assert diff["metrics/summary.json"]["lrp.filters"]["diff"] < 0
    compared = study.run("python", "-m", "stages.study", "compare", "HEAD~1", "workspace", "--metric", "accuracy")
    assert re.findall(r"^\| (\S+) \| 100% \|", compared, re.M) == ["lrp", "weight"]
    unpruned = f"{json.loads(study.read('metrics/baseline.json'))['accuracy']:.4f}"
    assert re.findall(r"^\| (\S+) \| (0\.\d+)", compared, re.M) == 2 * [("HEAD~1", unpruned), ("workspace", unpruned)]
    study.run("dvc", "plots", "diff", "HEAD~1", "HEAD", "-o", "plots")
    page = study.read("plots/index.html")
    assert "accuracy_by_macs" in page
    assert page.count("HEAD~1") > 10
    study.run("git", "checkout", "-q", "HEAD~1")
    study.run("dvc", "checkout", "-q")
    assert study.repro() == set()
    assert study.results() == before
    study.run("git", "checkout", "-q", "main")
    study.run("dvc", "checkout", "-q")
    assert study.repro() == set()
    assert study.results() == changed


def test_s10_changed_code_reruns_what_uses_it_and_the_old_code_brings_the_old_results_back(study):
    before = study.results()
    path = study.folder / "stages/pruning/recalibration.py"
    code = path.read_text()
    path.write_text(code.replace("norm.reset_running_stats()", "norm.reset_running_stats()  # the same", 1))
    assert study.repro() & STEPS == STEPS
    assert study.results() == before
    path.write_text(code)
    assert study.repro() & (STEPS | {"train seed 0"}) == set()
    assert study.results() == before


def test_a_rule_written_anew_reruns_nothing_by_itself_and_one_more_step_is_published_with_the_rest(study):
    """Keys decide what is stale; Snakemake's own triggers on rules would leave out jobs that must follow."""
    path = study.folder / "Snakefile"
    text = path.read_text()
    command = "{params.python} -m stages.relevance"
    changed = text.replace(command, f"PYTHONHASHSEED=0 {command}")
    assert changed != text
    path.write_text(changed)
    study.edit(prune__steps=3)
    assert study.repro("prune") & (STEPS | step("lrp", 3) | step("weight", 3)) == step("lrp", 3) | step("weight", 3)
    assert study.run("dvc", "status", "prune").strip() == CLEAN
    assert (study.folder / "models/pruned/weight/seed0/step1.safetensors").exists()


def test_s12_experiments_leave_comments_and_the_workspace_alone(study):
    text = study.read("params.yaml").replace("# shares of all images", "# by hand: shares of all images")
    (study.folder / "params.yaml").write_text(text)
    study.commit("a hand edit")
    before = study.results()
    output = study.run("dvc", "exp", "run", "--temp", "-n", "shorter", "-S", "prune.steps=1")
    assert jobs(output) & STEPS == step("lrp", 1) | step("weight", 1)
    assert study.results() == before
    assert study.read("params.yaml") == text
    shown = json.loads(study.run("dvc", "exp", "show", "--json"))
    assert "shorter" in json.dumps(shown)
    study.run("dvc", "exp", "apply", "shorter")
    applied = study.read("params.yaml")
    assert "# by hand: shares of all images" in applied
    assert "  steps: 1\n" in applied
    assert comments(applied) == comments(text)
    assert jobs(study.run("dvc", "exp", "run", "-S", "prune.steps=2")) & STEPS <= step("lrp", 2) | step("weight", 2)
    assert comments(study.read("params.yaml")) == comments(text)


def test_s12_temporary_experiments_share_steps_through_a_common_work_folder(study, tmp_path):
    shared = {"STUDY_WORK": str(tmp_path / "shared work")}
    study.edit(prune__recalibrate=80)
    study.commit("another recalibration")
    first = jobs(study.run("dvc", "exp", "run", "--temp", "-S", "prune.steps=1", "prune", **shared))
    assert first & STEPS == step("lrp", 1) | step("weight", 1)
    second = jobs(study.run("dvc", "exp", "run", "--temp", "-S", "prune.steps=2", "prune", **shared))
    assert second & STEPS == step("lrp", 2) | step("weight", 2)


def test_s12_a_grid_of_experiments_runs_side_by_side(study, tmp_path):
    shared = {"STUDY_WORK": str(tmp_path / "shared work")}
    grid = ["-S", "prune.criteria=[weight],[random]", "-S", "prune.per_step=0.1,0.15", "-S", "prune.steps=1"]
    study.run("dvc", "exp", "run", "--queue", *grid, **shared)
    study.run("dvc", "exp", "run", "--run-all", "--jobs", "2", **shared)
    rows = list(csv.DictReader(io.StringIO(study.run("dvc", "exp", "show", "--csv"))))
    done = {
        (criterion, row["prune.per_step"]): float(row[f"macs_left.{criterion}"])
        for row in rows
        for criterion in ("weight", "random")
        if row["Experiment"] and row["prune.criteria"] == str([criterion])
    }
    assert set(done) == {(criterion, rate) for criterion in ("weight", "random") for rate in ("0.1", "0.15")}
    for criterion in ("weight", "random"):
        assert done[criterion, "0.1"] > done[criterion, "0.15"]


@pytest.mark.parametrize("kind", ["symlink", "copy"])
def test_s13_other_kinds_of_links_work(study, kind):
    study.run("dvc", "config", "cache.type", kind)
    study.edit(prune__steps=3)
    assert study.repro("prune") & (STEPS | step("lrp", 3) | step("weight", 3)) == step("lrp", 3) | step("weight", 3)
    assert study.run("dvc", "status", "prune").strip() == CLEAN


def test_another_seed_trains_and_prunes_only_itself(study):
    study.edit(seeds=[0, 1])
    told = study.run("dvc", "repro")
    assert re.search(r"networks of this study: about \d\.\d MB while it runs, of which \d\.\d MB are versioned", told)
    assert jobs(told) == {"train seed 1"} | {
        job for n in (1, 2) for c in ("lrp", "weight") for job in step(c, n, seed=1)
    } | evaluated("baseline", "lrp", "weight", seed=1)


def test_an_edit_during_the_run_is_noticed_and_reaches_no_result(study):
    edit_during_a_run(study, prune__recalibrate=70)
    again = study.repro("prune")
    assert again >= STEPS
    plan = json.loads(study.read("models/pruned/lrp/seed0/step1.plan.json"))
    assert plan["recalibration"]["images"] == 64  # whole batches of 32 of the 70 asked for


def test_more_steps_asked_for_during_the_run_are_not_taken_for_done(study):
    edit_during_a_run(study, prune__steps=3)
    again = study.repro("prune")
    assert again & (STEPS | step("lrp", 3) | step("weight", 3)) == step("lrp", 3) | step("weight", 3)


def test_no_fine_tuning_is_a_study_too(study):
    study.edit(prune__finetune__epochs=0, prune__recalibrate=0)
    study.repro("prune")
    pruned = study.files("models/pruned/lrp/seed0")
    assert pruned["step2.pruned.safetensors"] == pruned["step2.safetensors"]


def test_results_are_exported_with_what_made_them(whole):
    study = whole
    commit = study.run("git", "rev-parse", "HEAD").strip()
    study.run("python", "-m", "stages.study", "export", "small")
    page = study.read("docs/results-small.md")
    assert commit in page
    assert study.read("docs/results/small/params.yaml") == study.read("params.yaml")
    accuracy = json.loads(study.read("metrics/summary.json"))["lrp"]["accuracy"]
    assert f"| {accuracy:.4f} |" in page
    assert "groups train, " in page and "The unpruned networks start from random weights." in page
    assert "Recall of each class" in page
    assert "ms, batch of 1 |" in page
    assert "With 3 images of each class:" in page
    assert "Balanced accuracy after fine-tuning where this part of the parameters is left (and less" in page
    assert "after tuning with 3 of each class where this part of the filters is left (and less the unpruned" in page
    assert "Mean balanced accuracy right after the cut with 3 of each class over all sizes" in page
    assert "F1 of each class, and its change:" in page
    exported = study.files("docs/results/small")
    assert {"accuracy.pdf", "time.pdf", "few_shot.svg", "few_shot.csv", "pairs.csv", "tables.tex"} <= set(exported)
    assert "Similarity of heat maps of the same test images" in page and "](results/small/drift.svg)" in page
    assert {"sensitivity.svg", "sensitivity.csv", "parts.csv", "drift.pdf", "drift.csv"} <= set(exported)
    assert {"confusion.svg", "confusion.csv", "reliability.pdf", "reliability.csv"} <= set(exported)
    for regime in ("few_shot", "few_shot_latency"):  # beside the comparison's own
        assert exported[f"{regime}_levels.csv"] == (study.folder / f"metrics/{regime}/levels.csv").read_bytes()
    assert exported["levels.csv"] == (study.folder / "metrics/comparison/levels.csv").read_bytes()
    assert "| criterion | ended by | measure | seeds | unpruned | now |\n| --- |" in page
    assert f"{tables.CALIBRATION}\n\n| criterion | ece |" in page
    assert "page.md" not in exported
    assert "the lowest filters of one layer alone removed" in page and "](results/small/sensitivity.svg)" in page
    assert rf"& {accuracy:.4f} &".encode() in exported["tables.tex"]
    assert "| always ankle-boot |  |  |  |  | 0.1000 | 0.1000 | 0.0182 | 0.5000 |" in page
    assert set(re.findall(r"\| (always [^|]+?) \|", page)) == {"always ankle-boot"}
    for table in page.split("\n\n"):  # of balanced accuracies and of classes, each
        if re.match(r"\| criterion \|( t-shirt| \d+% \| \d)", table) and " (p " not in table:
            assert "\n| always ankle-boot | " in table, table
    assert "onnxruntime" in page and "](results/small/deployment.svg)" in page
    study.run("python", "-m", "stages.study", "overview")
    assert "| [small](docs/results-small.md) | fashion-mnist | resnet8 | 16 | 1 | absolute |" in study.read("README.md")
    for name in ("likeness", "another"):
        study.run("python", "-m", "stages.study", "export", name, "--of", "prototypes")
    page = study.read("docs/results-prototypes.md")
    assert page.index("## another") < page.index("## likeness")
    assert page.count(commit) == 2
    assert "![prototypes of t-shirt](<results/prototypes/likeness/t-shirt.png>)" in page
    assert {"t-shirt.png", "t-shirt.1.png", "prototypes.svg", "prototypes.pdf"} <= set(
        study.files("docs/results/prototypes/likeness")
    )
    study.edit(prune__steps=3)
    study.run("git", "commit", "-q", "-a", "-m", "not run")
    assert "`dvc repro` makes it" in study.run("python", "-m", "stages.study", "export", "small", status=2)


def test_push_and_pull_restore_the_study_in_another_clone(study, tmp_path):
    study.run("dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "remote"))
    study.run("dvc", "push", "-q")
    study.commit("remote")
    study.run("git", "clone", "-q", str(study.folder), str(tmp_path / "clone"))
    clone = Study(tmp_path / "clone")
    clone.run("dvc", "pull", "-q")
    assert clone.results() == study.results()
    assert clone.repro() == set()


def test_the_users_own_network_is_pruned(study, finished):
    """A state dict with its architecture, classes and normalisation declared takes the baseline's place."""
    import torch

    from stages.files import sha256
    from stages.networks import checkpoint

    network, architecture = checkpoint.load(finished.folder / "models/baseline/seed0.safetensors")
    torch.save(network.state_dict(), study.folder / "mine.pth")
    given = {"path": "mine.pth", "sha256": sha256(study.folder / "mine.pth"), "classes": architecture.classes}
    study.edit(train__checkpoint=given | {"mean": architecture.mean, "std": architecture.std})
    before = study.files("models")
    output = study.run("dvc", "repro", "prune")
    assert "starts from mine.pth" in output
    after = study.files("models")
    assert set(after) == set(before)
    assert [name for name in before if name.endswith(".safetensors") and after[name] != before[name]] == []
    study.edit(train__checkpoint=given | {"mean": [0.0] * 3, "std": [1.0] * 3, "classes": architecture.classes[::-1]})
    output = study.run("python", "-m", "stages.run", "train", status=None)
    assert "train.checkpoint.classes" in output


def test_plain_snakemake_refuses_to_write_the_study(study):
    (study.folder / "metrics/pruning.csv").unlink()
    output = study.run("snakemake", "--cores", "2", status=1)
    assert "the study is run by `dvc repro`" in output
    assert not (study.folder / "metrics/pruning.csv").exists()
    study.run("snakemake", "--cores", "2", "-n")


def test_status_says_what_would_run(study):
    assert study.run("python", "-m", "stages.study", "status").splitlines() == [
        f"{name}: done" for name in ("prepare", "train", "prune", "evaluate")
    ]
    study.edit(prune__steps=3)
    lines = study.run("python", "-m", "stages.study", "status").splitlines()
    assert lines[:3] == ["prepare: done", "train: done", "prune: to run"]
    assert {line.strip() for line in lines[3:-1]} == {"prune 2", "relevance 2"}
    assert lines[-1] == "evaluate: to run after it"
    study.edit(prune__steps=2, prune__per_step=0.1)
    lines = study.run("python", "-m", "stages.study", "status").splitlines()
    assert {line.strip() for line in lines[3:-1]} == {"prune 4", "relevance 4"}


def test_an_image_folder_is_a_data_set(fresh, tmp_path):
    """A user's own pictures, in folders with spaces and quotes in their names."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    top = tmp_path / "my 'own' pictures; really"
    for label, name in enumerate(["cats & dogs", "birds"]):
        (top / name).mkdir(parents=True)
        for number in range(40):
            pixels = rng.integers(0, 100, (20, 24, 3)) + 120 * label
            Image.fromarray(pixels.astype(np.uint8)).save(top / name / f"{number}.png")
    fresh.edit(data__name="image-folder", data__source=str(top), prune__criteria=["lrp"], prune__steps=1)
    fresh.edit(train__learning_rate=0.05)  # few images: few updates
    fresh.repro()
    baseline = json.loads(fresh.read("metrics/baseline.json"))
    assert baseline["accuracy"] > 0.9
    assert "recall_cats & dogs" in baseline
    assert (fresh.folder / "models/pruned/lrp/seed0/step1.safetensors").exists()


def edit_during_a_run(study, **values):
    """Start a run, edit params.yaml in the middle of it, and wait until the run has said so."""
    study.edit(prune__recalibrate=90)
    study.start("prune")
    study.wait_for("relevance lrp seed 0 step 1")
    study.edit(**values)
    study.wait_for("params.yaml changed while the stage ran; run it again")


def comments(text):
    """Return the comments of a YAML file."""
    return [line.split("#", 1)[1].strip() for line in text.splitlines() if "#" in line]


def test_a_target_ends_the_chains_and_later_steps_repeat_their_end(study):
    study.edit(prune__until={"unit": "macs", "left": 0.75}, prune__steps=3)
    study.repro()
    table = pd.read_csv(study.folder / "metrics/pruning.csv")
    whole = table["macs"].iloc[0]
    for criterion in ("lrp", "weight"):
        plans = [json.loads(study.read(f"models/pruned/{criterion}/seed0/step{n}.plan.json")) for n in (1, 2, 3)]
        end = next(n for n, plan in enumerate(plans, start=1) if plan["stopped_by"] == "macs")
        assert [plan["repeats"] for plan in plans] == [n > end for n in (1, 2, 3)]
        assert plans[end - 1]["after"]["macs"] <= 0.75 * whole
        assert all(plan["after"]["macs"] > 0.75 * whole for plan in plans[: end - 1])
        files = study.files(f"models/pruned/{criterion}/seed0")
        for n in range(end + 1, 4):
            assert (
                files[f"step{n}.safetensors"] == files[f"step{n}.pruned.safetensors"] == files[f"step{end}.safetensors"]
            )
        for name in ("pruning", "layers", "history", "latency"):
            rows = pd.read_csv(study.folder / f"metrics/{name}.csv")
            assert rows[rows["criterion"] == criterion]["step"].max() == end < 3
        chains = pd.read_csv(study.folder / "metrics/chains.csv").set_index("criterion")
        assert tuple(chains.loc[criterion, ["ended_by", "measure"]]) == ("macs", "macs")
        assert chains.loc[criterion, "now"] == pytest.approx(plans[-1]["after"]["macs"] / whole)
    assert study.run("dvc", "status").strip() == CLEAN


def test_a_step_that_breaks_the_guard_is_undone_and_the_last(study):
    study.edit(prune__guard={"metric": "accuracy", "max_drop": 0.0}, prune__per_step=0.45, prune__finetune__epochs=0)
    study.repro()
    table = pd.read_csv(study.folder / "metrics/pruning.csv")
    for criterion in ("lrp", "weight"):
        plans = [json.loads(study.read(f"models/pruned/{criterion}/seed0/step{n}.plan.json")) for n in (1, 2)]
        broken = next(n for n, plan in enumerate(plans, start=1) if plan["stopped_by"] == "guard")
        guard, tried = plans[broken - 1]["guard"], plans[broken - 1]["undone"]
        assert guard["unpruned"] > guard["now"]
        assert len(tried["removed"]) > 0
        assert plans[broken - 1]["removed"] == []
        assert all(plan["guard"]["now"] >= plan["guard"]["unpruned"] for plan in plans[: broken - 1])
        chains = pd.read_csv(study.folder / "metrics/chains.csv").set_index("criterion")
        assert chains.loc[criterion, "ended_by"] == "guard"
        assert chains.loc[criterion, ["unpruned", "now"]].tolist() == [guard["unpruned"], guard["now"]]
        files = study.files(f"models/pruned/{criterion}/seed0") | study.files("models/baseline")
        start = "seed0.safetensors" if broken == 1 else f"step{broken - 1}.safetensors"
        for n in range(broken, 3):
            assert files[f"step{n}.safetensors"] == files[f"step{n}.pruned.safetensors"] == files[start]
        assert table[table["criterion"] == criterion]["step"].max() == max(1, broken - 1)
    assert study.run("dvc", "status").strip() == CLEAN


def test_networks_that_are_not_kept_are_not_versioned_and_made_again_where_needed(study):
    whole = study.results()
    study.edit(models__keep="accepted")
    study.repro()
    accepted = study.results()
    assert set(whole) - set(accepted) == {name for name in whole if name.endswith(".pruned.safetensors")}
    assert accepted == {name: whole[name] for name in accepted}
    study.edit(models__keep="last")
    assert study.repro() == evaluated("lrp", "weight")
    kept = study.results()
    gone = set(whole) - set(kept)
    networks = {name for name in whole if name.startswith("models/pruned") and name.endswith(".safetensors")}
    assert networks - gone == {f"models/pruned/{criterion}/seed0/step2.safetensors" for criterion in ("lrp", "weight")}
    assert gone < networks and kept == {name: whole[name] for name in kept}
    study.run("python", "-m", "stages.study", "free")
    left = [path.name for path in (study.folder / ".work/prune").rglob("*.safetensors")]
    assert left == ["step2.safetensors"] * 2
    study.edit(evaluate__batch_size=100)
    again = {*step("lrp", 1), *step("lrp", 2), *step("weight", 1), *step("weight", 2)}
    assert study.repro() - again == evaluated("baseline", "lrp", "weight")
    assert study.results() == kept
    assert study.repro() == set()
