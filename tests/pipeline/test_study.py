"""The claims of the README about a study, each with a real run."""

import json
import os
import re
import signal
import time

import numpy as np
import pandas as pd
import pytest

from stages.names import PARTS
from stages.networks import checkpoint
from stages.networks.size import measure
from stages.reporting import tables
from tests.browser import BROWSER, opened
from tests.pipeline.conftest import evaluated, jobs, step

STEPS = step("lrp", 1) | step("lrp", 2) | step("weight", 1) | step("weight", 2)
EVALUATIONS = evaluated("baseline", "lrp", "weight")


def test_one_command_runs_every_job_once_and_writes_what_the_contract_says(finished):
    assert finished.first_jobs == {"prepare", "train seed 0"} | STEPS | EVALUATIONS
    parts = ["scores.npz", "diagnostics.json", "plan.json", "pruned.safetensors", "safetensors", "history.csv"]
    names = {f"seed0/step{n}.{part}" for n in (1, 2) for part in parts}
    assert set(finished.files("models/pruned")) == {f"{c}/{name}" for c in ("lrp", "weight") for name in names}
    assert set(finished.files("models/baseline")) == {"seed0.safetensors", "seed0.history.csv"}
    plots = ("accuracy", "balanced_accuracy", "layers", "training")
    assert {f"{name}.{kind}" for name in plots for kind in ("svg", "pdf")} == set(finished.files("metrics/plots"))
    assert finished.run("dvc", "status").strip() == "Data and pipelines are up to date."
    assert finished.run("git", "status", "--porcelain") == ""


def test_the_table_has_one_row_a_network_and_the_promised_columns(finished):
    table = pd.read_csv(finished.folder / "metrics/pruning.csv")
    assert list(table.columns[:14]) == [
        "criterion", "seed", "step", "phase", "filters", "params", "macs", "sparsity",
        "accuracy", "balanced_accuracy", "macro_f1", "auroc", "ece", "loss",
    ]  # fmt: skip
    assert len([column for column in table if column.startswith("recall_")]) == 10
    keys = table[["criterion", "step", "phase"]].to_records(index=False).tolist()
    assert keys == [("baseline", 0, "baseline")] + [
        (criterion, n, phase) for criterion in ("lrp", "weight") for n in (1, 2) for phase in ("pruned", "finetuned")
    ]
    summary = json.loads(finished.read("metrics/summary.json"))
    last = table[(table["criterion"] == "lrp") & (table["step"] == 2) & (table["phase"] == "finetuned")].iloc[0]
    assert summary["lrp"]["accuracy"] == pytest.approx(last["accuracy"], abs=1e-6)
    assert summary["lrp"]["macs"] == last["macs"]
    assert json.loads(finished.read("metrics/baseline.json"))["params"] == table["params"].iloc[0]


def test_accuracy_follows_from_the_published_predictions(finished):
    table = pd.read_csv(finished.folder / "metrics/pruning.csv")
    predictions = pd.read_parquet(finished.folder / "metrics/predictions/lrp/seed0.parquet")
    chosen = predictions[(predictions["step"] == 2) & (predictions["phase"] == "finetuned")]
    found = chosen.filter(like="probability_").to_numpy().argmax(1) == chosen["label"]
    row = table[(table["criterion"] == "lrp") & (table["step"] == 2) & (table["phase"] == "finetuned")]
    assert found.mean() == pytest.approx(row["accuracy"].iloc[0], abs=1e-9)
    assert chosen["image_id"].is_unique


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["workspace", "nowhere"], "nowhere: no such commit, or experiment"),
        (["workspace", "HEAD~1"], "HEAD~1: has no metrics/pruning.csv; `git add params.yaml dvc.lock metrics && "),
        (["workspace", "workspace"], "workspace: is one study"),
        (
            ["workspace", "HEAD", "--metric", "seed"],
            "--metric seed: not in metrics/pruning.csv of workspace, which has",
        ),
    ],
)
def test_only_studies_are_compared(finished, arguments, said):
    assert said in finished.run("python", "-m", "stages.study", "compare", *arguments, status=2)


def test_the_headline_is_the_end_of_each_criterions_chains(finished):
    known = {name: json.loads(finished.read(f"metrics/{name}.json")) for name in ("headline", "baseline", "summary")}
    assert set(known["headline"]["balanced_accuracy"]) == {"unpruned", "lrp", "weight"}
    for name, balanced_accuracy in known["headline"]["balanced_accuracy"].items():
        of_network = known["baseline"] if name == "unpruned" else known["summary"][name]
        assert balanced_accuracy == of_network["balanced_accuracy"]
        left = of_network["macs"] / known["baseline"]["macs"]
        assert known["headline"]["macs_left"][name] == pytest.approx(left, abs=1e-6)
    columns = finished.run("dvc", "exp", "show", "--csv").splitlines()[0].split(",")
    numbers = "balanced_accuracy", "macs_left"
    assert columns[5:11] == [f"{number}.{name}" for number in numbers for name in ("lrp", "unpruned", "weight")]
    assert not any(column.startswith(("lrp.", "weight.")) for column in columns)


@pytest.mark.slow
def test_the_last_network_of_the_first_criterion_is_checked_and_timed_as_onnx(finished, complete):
    assert pd.read_csv(finished.folder / "metrics/deployment/deployment.csv").empty
    assert "No network was asked for" in finished.read("metrics/deployment/page.md")
    table = pd.read_csv(complete.folder / "metrics/deployment/deployment.csv")
    assert list(zip(table["criterion"], table["engine"], table["batch"], strict=True)) == [
        ("lrp", "PyTorch", 1),
        ("lrp", "onnxruntime", 1),
    ]
    sizes = [json.loads(complete.read(f"metrics/{name}.json")) for name in ("baseline", "summary")]
    assert table["macs_ratio"].unique() == pytest.approx(sizes[0]["macs"] / sizes[1]["lrp"]["macs"], rel=1e-4)
    predictions = pd.read_parquet(complete.folder / "metrics/predictions/lrp/seed0.parquet")
    assert (table["images"] == predictions["image_id"].nunique()).all()
    assert (table["identical"] == table["images"]).all() and (table["max_abs_difference"] < 1e-4).all()
    assert (table[["milliseconds", "unpruned_milliseconds"]] > 0).all(axis=None)
    assert (complete.folder / "metrics/deployment/deployment.svg").exists()


def test_criteria_at_equal_size_lie_between_their_steps(finished):
    table = pd.read_csv(finished.folder / "metrics/pruning.csv")
    chain = table[
        (table["criterion"] == "baseline") | ((table["criterion"] == "lrp") & (table["phase"] == "finetuned"))
    ]
    left = (chain["filters"] / chain["filters"].iloc[0]).to_numpy()
    levels = pd.read_csv(finished.folder / "metrics/comparison/levels.csv").query("axis == 'filters' and share == 0.8")
    both = levels.query("phase == 'finetuned' and metric == 'accuracy'").set_index("criterion")["mean"]
    assert both["lrp"] == pytest.approx(np.interp(0.8, left[::-1], chain["accuracy"].to_numpy()[::-1]), abs=1e-5)
    pair = pd.read_csv(finished.folder / "metrics/comparison/pairs.csv").query("axis == 'filters' and share == 0.8")
    (difference,) = pair.query("phase == 'finetuned' and metric == 'accuracy'")["difference"]
    assert difference == pytest.approx(both["lrp"] - both["weight"], abs=1e-5)
    assert set(pd.read_csv(finished.folder / "metrics/comparison/areas_latency.csv")["axis"]) == {"latency_1"}


def test_what_flipped_explains_the_change_of_accuracy(finished):
    table = pd.read_csv(finished.folder / "metrics/pruning.csv").set_index(["criterion", "step", "phase"])["accuracy"]
    flips = pd.read_csv(finished.folder / "metrics/safety/flips.csv").query("criterion == 'weight' and step == 2")
    images = (
        pd.read_csv(finished.folder / "metrics/safety/confusion.csv").query("criterion == 'baseline'")["images"].sum()
    )
    counts = flips["kind"].value_counts()
    change = (counts.get("gained", 0) - counts.get("lost", 0)) / images
    assert change == pytest.approx(table["weight", 2, "finetuned"] - table["baseline", 0, "baseline"], abs=1e-9)
    classes = pd.read_csv(finished.folder / "metrics/safety/classes.csv").query("criterion == 'weight' and step == 2")
    summary = json.loads(finished.read("metrics/summary.json"))["weight"]
    for row in classes.query("phase == 'finetuned'").itertuples():
        assert row.recall == pytest.approx(summary[f"recall_{row[5]}"], abs=1e-5)


def test_the_plan_says_what_was_removed(finished):
    folder = finished.folder / "models/pruned/lrp/seed0"
    plans = [json.loads((folder / f"step{n}.plan.json").read_text()) for n in (1, 2)]
    network, architecture = checkpoint.load(folder / "step2.safetensors")
    original = measure(architecture.unpruned().shape(), 16)
    assert plans[1]["original"] == vars(original)
    assert plans[1]["after"] == vars(measure(network, 16))
    assert plans[0]["after"] == plans[1]["before"]
    for n, plan in enumerate(plans, start=1):
        assert plan["asked"] == pytest.approx(0.2 * n)
        assert 0 <= plan["reached"] - plan["asked"] <= 2 / original.filters
        lost = sum(len(each["layers"]) for each in plan["removed"])
        assert lost == plan["before"]["filters"] - plan["after"]["filters"]
        assert plan["recalibration"]["largest_shift"] > 0
        assert plan["recalibration"]["images"] == 96  # whole batches of 32 of the 100 asked for
    gone = [(each["group"], each["original_channel"]) for plan in plans for each in plan["removed"]]
    assert len(set(gone)) == len(gone)
    known = json.loads((folder / "step1.diagnostics.json").read_text())
    assert known["layers"]["conv1"]["conservation"] == pytest.approx(1, abs=1e-2)  # epsilon keeps a share
    assert 0.3 < known["overlap"] <= 1
    scores = np.load(folder / "step1.scores.npz")
    single = next(each for each in plans[0]["removed"] if len(each["layers"]) == 1)
    assert single["score"] == pytest.approx(float(scores[single["group"]][single["channel"]]))


def test_a_finished_study_does_nothing_at_once(study):
    study.repro()  # the copy's first look rebuilds DVC's own cache of file states
    start = time.monotonic()
    output = study.run("dvc", "repro")
    assert jobs(output) == set()
    assert time.monotonic() - start < 5


def test_the_fine_tuning_budget_does_not_concern_the_baseline(study):
    study.edit(prune__finetune__epochs=2)
    assert study.repro("prune") == STEPS


def test_another_criterion_runs_only_itself(study):
    study.edit(prune__criteria=["lrp", "weight", "random"])
    assert study.repro() == step("random", 1) | step("random", 2) | evaluated("random")
    assert set(json.loads(study.read("metrics/summary.json"))) == {"lrp", "weight", "random"}


def test_one_more_step_runs_only_the_new_steps_and_one_less_runs_none(study):
    before = study.results()
    study.edit(prune__steps=3)
    assert study.repro() == step("lrp", 3) | step("weight", 3) | evaluated("lrp", "weight")
    study.edit(prune__steps=2)
    assert study.repro() & (STEPS | step("lrp", 3)) == set()
    assert study.results() == before


def test_a_killed_run_goes_on_where_it_was(study, finished):
    study.edit(prune__scores__references_per_class=9)
    study.start("prune")
    study.wait_for("relevance lrp seed 0 step 2")
    study.kill_all()
    done = {job for job in jobs(study.read("repro.log")) if job.startswith("prune")}
    kept = {path.stem for path in study.folder.glob(".work/prune/*/*/seed0/step*.plan.json")}
    assert kept
    again = study.repro("prune")
    assert "prune lrp seed 0 step 1" not in again
    assert step("lrp", 2) - {"relevance lrp seed 0 step 2"} <= again
    assert len(again & STEPS) < len(STEPS)
    assert done
    assert study.run("dvc", "status", "prune").strip() == "Data and pipelines are up to date."


# one that stays beside the command, one that becomes it
@pytest.mark.parametrize("shell", ["/bin/sh", pytest.param("/bin/bash", marks=pytest.mark.slow)])
def test_killing_dvc_alone_ends_its_jobs_and_the_command_typed_again_goes_on(study, shell):
    study.edit(prune__scores__references_per_class=9)
    dvc = study.start("prune", SHELL=shell)
    study.wait_for("prune lrp seed 0 step 1")
    os.kill(dvc.pid, signal.SIGKILL)
    dvc.wait()
    again = study.repro("prune")
    assert "relevance lrp seed 0 step 1" not in again
    assert step("lrp", 2) <= again


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        ({"prune__criteria": ["lrp", "grad"]}, "did you mean gradient?"),
        ({"prune__per_step": 1.5}, "prune.per_step"),
    ],
)
def test_wrong_params_stop_the_study_with_one_line_and_lose_nothing(study, edit, named):
    before = study.results()
    study.edit(**edit)
    for command in (["python", "-m", "stages.study", "check"], ["python", "-m", "stages.run", "prune"]):
        output = study.run(*command, status=2)
        assert len(output.splitlines()) == 1
        assert "params.yaml" in output
        assert named in output
    assert study.results() == before
    assert named in study.run("dvc", "repro", status=255)
    study.run("git", "checkout", "-q", "params.yaml")
    assert study.repro() & (STEPS | {"train seed 0"}) == set()
    assert study.results() == before


def test_an_unreachable_budget_fails_with_one_line_and_the_place_of_the_log(study):
    study.edit(prune__min_channels=30)
    output = study.run("dvc", "repro", "prune", status=None)
    assert "0.4 of the filters cannot be removed" in output or "0.2 of the filters cannot be" in output
    assert "allow 0." in output
    assert "Traceback" not in output
    assert "logs/prune/" in output
    assert not list(study.folder.glob(".work/**/*.tmp"))


@pytest.mark.slow
def test_each_layer_alone_is_pruned_from_the_baselines(complete):
    rows = pd.read_csv(complete.folder / "metrics/sensitivity/sensitivity.csv")
    history = pd.read_csv(complete.folder / "metrics/history.csv").query("criterion == 'baseline'")
    accuracy = history.loc[history["val_loss"].idxmin(), "val_accuracy"]
    assert rows[rows["rate"] == 0]["accuracy"].tolist() == pytest.approx([accuracy] * 2 * rows["group"].nunique())
    recalls = [name for name in rows.columns if name.startswith("recall_")]
    assert rows[recalls].mean(axis=1).tolist() == pytest.approx(rows["balanced_accuracy"].tolist(), abs=1e-5)
    parts, rows = rows[rows["group"].isin(PARTS)], rows[~rows["group"].isin(PARTS)]
    assert parts["group"].nunique() == 2 and rows["group"].nunique() > 4
    for group, some in parts.groupby("group"):
        together = some["layers"].iloc[0].split()
        alone = rows[rows["group"].isin(together)].groupby(["criterion", "rate"])["removed"].sum()
        assert some.set_index(["criterion", "rate"])["removed"].to_dict() == alone.to_dict(), group
    widths = pd.read_csv(complete.folder / "metrics/layers.csv").drop_duplicates("layer").set_index("layer")["original"]
    expected = (rows["rate"] * rows["group"].map(widths)).round()
    assert (rows["removed"] == expected.clip(upper=rows["group"].map(widths) - 1)).all()
    page = complete.read("metrics/sensitivity/page.md")
    assert f"| {rows['group'].iloc[0]} |" in page
    assert "the lower and the upper third of the layers alone" in page.lower()


@pytest.mark.slow
def test_the_few_shot_regime_makes_the_same_cuts_and_another_number_of_images_runs_only_itself(complete, whole):
    few = {(criterion, images): f"few_shot {criterion} seed 0 with {images}" for criterion in ("lrp", "weight")
           for images in (1, 2, 3)}  # fmt: skip
    assert complete.added_jobs == {job for (_, images), job in few.items() if images != 2}
    table = pd.read_csv(complete.folder / "metrics/few_shot.csv")
    assert len(table) == 2 * (1 + 2 * 2 * 2)
    keys = ["criterion", "step", "phase"]
    same = table.merge(pd.read_csv(complete.folder / "metrics/pruning.csv"), on=keys, suffixes=("", "_of_the_study"))
    assert len(same) == len(table)
    assert (same["filters"] / same["filters_of_the_study"]).between(0.97, 1.03).all()
    baselines = same[same["phase"] == "baseline"]
    assert baselines["loss"].tolist() == pytest.approx(baselines["loss_of_the_study"].tolist(), rel=1e-5)
    predicted = pd.read_parquet(complete.folder / "metrics/few_shot/predictions/k3/lrp/seed0.parquet")
    right = predicted.filter(like="probability_").to_numpy().argmax(1) == predicted["label"]
    last = (predicted["step"] == 2) & (predicted["phase"] == "finetuned")
    found = table.set_index([*keys, "images_per_class"]).loc[("lrp", 2, "finetuned", 3), "accuracy"]
    assert right[last].mean() == pytest.approx(found, abs=1e-5)
    pairs = pd.read_csv(complete.folder / "metrics/few_shot/pairs.csv")
    assert set(pairs["images_per_class"]) == {1, 3} and set(pairs["phase"]) == {"pruned", "finetuned"}
    timed = pd.read_csv(complete.folder / "metrics/few_shot_latency/areas.csv")
    assert set(timed["images_per_class"]) == {1, 3} and set(timed["axis"]) == {"latency_1"}
    whole.edit(few_shot__images_per_class=[1, 2, 3])
    assert whole.repro() == {few["lrp", 2], few["weight", 2]}
    assert whole.run("dvc", "status").strip() == "Data and pipelines are up to date."


@pytest.mark.slow
def test_heat_maps_are_compared_with_those_of_the_unpruned_network(complete):
    rows = pd.read_csv(complete.folder / "metrics/drift/drift.csv")
    assert len(rows) == 2 * 2 * 10 * 2  # criteria, steps, classes, images
    assert rows[["cosine", "rank", "ssim"]].abs().max().max() <= 1
    assert rows["cosine"].mean() < 0.999
    test = pd.read_csv(complete.folder / "data/prepared/index.csv").query("split == 'test'")["image_id"]
    assert set(rows["image_id"]) <= set(test)
    pictures = set(complete.files("metrics/drift")) - {"drift.csv", "drift.svg", "drift.pdf", "page.md"}
    assert pictures == {"lrp/seed0.png", "weight/seed0.png"}


@pytest.mark.slow
def test_concepts_of_the_unpruned_network_are_followed_to_the_last_step(complete):
    atlas, layers, changes = (
        pd.read_csv(complete.folder / f"metrics/concepts/{n}.csv") for n in ("atlas", "layers", "changes")
    )
    assert list(atlas.columns[:6]) == ["seed", "layer", "class", "concept", "rank", "images"]
    assert list(atlas["layer"].unique()) == list(layers["layer"]) == list(changes["layer"].unique())
    assert (changes[["kept", "moved", "lost", "silent"]].sum(axis=1) == changes["concepts"]).all()
    assert (changes[["kept", "moved", "gained"]].sum(axis=1) <= changes["left"]).all()
    assert changes[["share_kept", "share_moved", "share_lost"]].sum(axis=1).tolist() == pytest.approx(
        [1] * len(changes)
    )
    fates = pd.read_csv(complete.folder / "metrics/concepts/fates.csv").groupby(["criterion", "layer", "fate"]).size()
    for (criterion, layer), row in changes.set_index(["criterion", "layer"]).iterrows():
        found = {fate: fates.get((criterion, layer, fate), 0) for fate in ("kept", "moved", "lost", "silent", "gained")}
        assert found == row[list(found)].to_dict()
    for criterion, of_chain in changes.groupby("criterion"):
        widths = json.loads(complete.read(f"models/pruned/{criterion}/seed0/step2.plan.json"))["layers"]
        assert of_chain.set_index("layer")["left"].to_dict() == {layer: each["after"] for layer, each in widths.items()}
    pictures = set(complete.files("metrics/plots/concepts/seed0"))
    seen = [name for name in atlas["class"].unique() if name != "(all)"]
    assert {f"heatmaps/{name}.png" for name in seen} < pictures and {f"graphs/{name}.svg" for name in seen} < pictures
    assert sum(name.startswith("references/") for name in pictures) == 2


@pytest.mark.slow
def test_protopnets_are_pruned_and_stand_beside_the_classifier(complete):
    rows = pd.read_csv(complete.folder / "metrics/prototypes/prototypes.csv").set_index("network")
    assert list(rows.index) == ["classifier", "trained", "pruned", "tuned", "lrp", "weight"]
    baseline = json.loads(complete.read("metrics/baseline.json"))
    assert rows.loc["classifier", "accuracy"] == pytest.approx(baseline["accuracy"], abs=1e-5)
    plan = json.loads(complete.read("models/prototypes/seed0/plan.json"))
    assert (rows.loc["trained", "prototypes"], rows.loc["tuned", "prototypes"]) == (plan["before"], plan["after"])
    assert plan["after"] == sum(not each["removed_by"] for each in plan["prototypes"])
    assert rows["off_patch"].max() <= 1e-5
    for criterion in ("lrp", "weight"):
        cut = json.loads(complete.read(f"models/prototypes/seed0/filters/{criterion}.plan.json"))
        assert cut["after"]["macs"] == rows.loc[criterion, "macs"] <= 0.5 * cut["original"]["macs"]
        network, architecture = checkpoint.load(
            complete.folder / f"models/prototypes/seed0/filters/{criterion}.safetensors"
        )
        assert len(architecture.prototypes.sources) == len(network.prototypes.vectors) == plan["after"]
    pictures = set(complete.files("metrics/plots/prototypes/seed0"))
    data = json.loads(complete.read("data/prepared/dataset.json"))
    expected = {f"prototypes/{name}.png" for name in data["classes"]}
    assert pictures == expected | {f"explanations/{name}.1.png" for name in data["classes"]} | {"explanations.json"}
    for told in json.loads(complete.read("metrics/plots/prototypes/seed0/explanations.json")):
        for part in told["strongest"]:
            assert part["contributions"][told["called"]] == pytest.approx(part["similarity"] * part["weight"], abs=1e-4)


@pytest.mark.slow
def test_a_study_may_do_without_prototypes(whole):
    whole.edit(prototypes__per_class=0, sensitivity__criteria=[])
    whole.repro()
    assert whole.run("dvc", "status").strip() == "Data and pipelines are up to date."
    report = whole.read("metrics/report.html")
    assert "No ProtoPNets were asked for" in report and "`sensitivity.criteria` in params.yaml is empty" not in report
    assert "<code>sensitivity.criteria</code> in params.yaml is empty" in report
    whole.commit("without")
    answer = whole.run("python", "-m", "stages.study", "export", "p", "--of", "prototypes", status=2)
    assert "prototypes.per_class" in answer.splitlines()[-1]


@pytest.mark.slow
def test_the_report_holds_all_it_shows(complete):
    text = complete.read("metrics/report.html")
    result = text.partition(">The result</h2>")[2].partition("<h2")[0]
    assert result.count("<figure>") == result.count("<table>") == 1
    assert tables.CALIBRATION in text and ">Training</h2>" in text
    assert "the lowest filters of one layer alone removed" in text
    assert "after tuning with 3 of each class where this part of the filters is left (and less the unpruned" in text
    assert "Mean balanced accuracy right after the cut with 3 of each class over all sizes" in text
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)[^\"]*", text)
    accuracy = json.loads(complete.read("metrics/summary.json"))["lrp"]["accuracy"]
    assert f">{accuracy:.4f}<" in text
    assert "With 3 images of each class:" in text
    assert complete.run("git", "rev-parse", "HEAD~1").strip() in text
    assert "per_step: 0.2" in text


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER, reason="no chromium or playwright here to open the report with")
@pytest.mark.parametrize(("width", "theme"), [(1400, "light"), (390, "dark")])
def test_a_browser_draws_every_figure_of_the_report_and_complains_of_nothing(complete, width, theme):
    figures = complete.read("metrics/report.html").count("<figure>")
    assert figures >= 9
    with opened(complete.folder / "metrics/report.html", width, theme) as (shown, complaints):
        assert shown.evaluate("() => [...document.images].filter(i => i.naturalWidth > 0).length") == figures
        assert shown.evaluate("() => document.documentElement.scrollWidth") <= width
    assert complaints == []
