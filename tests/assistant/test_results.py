import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages import provenance
from stages.assistant import results

PUBLISHED = sorted(path.parent.name for path in Path("docs/results").glob("*/pruning.csv"))
COMMIT = "0123456789abcdef0123456789abcdef01234567"
METRICS = ["accuracy", "balanced_accuracy", "macro_f1", "auroc", "ece", "loss", "recall_mel", "recall_nv"]
PARAMS = """
model: {{name: {network}}}
data: {{{data}, image_size: 64}}
prune: {{per_step: 0.15, unit: filters, finetune: {{epochs: 1}}}}
"""


def row(criterion, seed, step, left, value, phase="finetuned", **others):
    sizes = {"filters": round(1000 * left), "params": round(10000 * left), "macs": round(100000 * left)}
    metrics = dict.fromkeys(METRICS, value)
    phase = "baseline" if criterion == "baseline" else phase
    return {"criterion": criterion, "seed": seed, "step": step, "phase": phase} | sizes | metrics | others


def study(rows):
    """Return a table with unpruned networks of 0.9, and for each row of fine-tuned ones a worse one before that."""
    unpruned = [row("baseline", seed, 0, 1.0, 0.9) for seed in sorted({one["seed"] for one in rows})]
    return pd.DataFrame([*unpruned, *(one | {"phase": "pruned"} | dict.fromkeys(METRICS, 0.1) for one in rows), *rows])


@pytest.fixture
def read(tmp_path):
    def written(table, name="pruning.csv", called="ham"):
        table.to_csv(tmp_path / name, index=False)
        return results.read(tmp_path, f"docs/results/ham/{name}", called, COMMIT)

    return written


@pytest.fixture
def two_seeds():
    return study(
        [
            row("lrp", 0, 1, 0.7, 0.8), row("lrp", 0, 2, 0.3, 0.6),
            row("lrp", 1, 1, 0.6, 0.7), row("lrp", 1, 2, 0.4, 0.5),
            row("random", 0, 1, 0.5, 0.66), row("random", 1, 1, 0.5, 0.68),
        ]
    )  # fmt: skip


def said(document, *parts):
    (found,) = [sentence.text for sentence in document.sentences if all(part in sentence.text for part in parts)]
    return found


def numbers(sentence):
    """Return the criteria of a ranking and their numbers, in the order of the sentence."""
    ranked = re.search(r"(?:kept by|lowest with) (.*?); unpruned", sentence)[1]
    ranked = re.sub(r" \(mean of \d+ seeds\)| \(one seed\)", "", ranked).replace(", then ", ", ").replace(": ", " ")
    found, held = [], []
    for word in re.sub(" and |, ", " ", ranked).split():
        if re.fullmatch(r"[\d.]+", word):
            found += [(name, float(word)) for name in held]
            held = []
        else:
            held.append(word)
    return found


def steps_of(table):
    """Return each criterion's rows by seed, the unpruned network's first."""
    table = table[table["phase"] != "pruned"].sort_values("step")
    unpruned = table[table["phase"] == "baseline"]
    return {
        criterion: [pd.concat([unpruned[unpruned["seed"] == seed], of_seed]) for seed, of_seed in rows.groupby("seed")]
        for criterion, rows in table[table["phase"] == "finetuned"].groupby("criterion")
    }


def slowly(steps, axis, share, metric):
    """Return the mean over seeds of each criterion that every seed brings down to a share, by numpy.interp."""
    means = {}
    for criterion, chains in steps.items():
        curves = [(chain[axis].to_numpy() / chain[axis].iloc[0], chain[metric].to_numpy()) for chain in chains]
        if all(left.min() <= share for left, _ in curves):
            means[criterion] = np.mean([np.interp(share, left[::-1], values[::-1]) for left, values in curves])
    return means


def test_a_ranking_says_axis_share_phase_metric_seeds_and_the_unpruned_network(read, two_seeds):
    # lrp: (0.8 + 0.6) / 2 of seed 0, (0.7 + 0.5) / 2 of seed 1, both halfway between two steps
    assert said(read(two_seeds), "half the MACs", "melanoma") == (
        "In the study ham, at half the MACs (50 % of the multiply-accumulates), after fine-tuning, the recall of "
        "melanoma (mel) is best kept by random: 0.670 (mean of 2 seeds), then lrp 0.650; unpruned 0.900."
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_rankings_equal_a_slow_computation_from_the_table(name):
    folder = Path("docs/results") / name
    table = pd.read_csv(folder / "pruning.csv")
    document = results.read(folder, f"{folder}/pruning.csv", name, COMMIT)
    metrics = {"accuracy": "the accuracy is", "auroc": "AUROC", "ece": "ECE", "loss": "loss"}
    metrics |= {column: f"recall of {column[7:]} is" for column in table if column.startswith("recall_")}
    steps, compared = steps_of(table), 0
    for axis, axis_name in {"macs": "the MACs", "params": "the parameters", "filters": "the filters"}.items():
        for share, share_name in {0.6: "60 % of", 0.5: "half"}.items():
            for metric, metric_name in metrics.items():
                if name == "ham10000" and metric.startswith("recall_"):
                    metric_name = f"({metric[7:]}) is"
                expected = slowly(steps, axis, share, metric)
                if expected and (axis == "macs" or metric in results.EVERYWHERE):
                    found = numbers(said(document, f"at {share_name} {axis_name}", metric_name))
                    assert dict(found) == pytest.approx(expected, abs=0.0005001), (axis, share, metric)
                    order = [value for _, value in found]
                    assert order == sorted(order, reverse=metric not in ("ece", "loss"))
                    compared += 1
    assert compared > 2 * len(metrics)  # all at both shares of the MACs, and some elsewhere


@pytest.mark.parametrize("name", PUBLISHED)
def test_levels_are_those_of_the_study_and_leave_out_the_same_criteria(name):
    folder = Path("docs/results") / name
    table, levels = pd.read_csv(folder / "pruning.csv"), pd.read_csv(folder / "levels.csv")
    chains = results.measured(table, ["accuracy", "balanced_accuracy"])
    levels = levels[levels["phase"] == "finetuned"]
    for axis in results.SIZES:
        for share in results.SHARES:
            found = results.level(chains, axis, share, ["accuracy", "balanced_accuracy"], table["seed"].nunique()).means
            rows = levels[(levels["axis"] == axis) & np.isclose(levels["share"], share)]
            expected = rows.pivot(index="criterion", columns="metric", values="mean")
            assert set(found.index) == set(expected.index)
            if len(expected):
                assert found.to_dict() == {name: pytest.approx(expected[name].to_dict(), abs=2e-6) for name in found}


@pytest.mark.parametrize("name", [name for name in PUBLISHED if Path(f"docs/results/{name}/few_shot.csv").exists()])
def test_published_rankings_with_few_images_equal_a_slow_computation_from_the_table(name):
    folder = Path("docs/results") / name
    table = pd.read_csv(folder / "few_shot.csv")
    document = results.read(folder, f"{folder}/few_shot.csv", name, COMMIT)
    for images, of_number in table.groupby("images_per_class"):
        few = f"with {images} image{'s' if images > 1 else ''} of each class and nothing else, at half the MACs"
        for metric, metric_name in {
            "accuracy": "after tuning, the accuracy is best",
            "loss": "the loss (cross-entropy) is lowest",
        }.items():
            found = numbers(said(document, few, metric_name))
            expected = slowly(steps_of(of_number), "macs", 0.5, metric)
            assert dict(found) == pytest.approx(expected, abs=0.0005001)


def test_every_ranking_of_few_images_is_of_one_number_of_images(read):
    one = study([row("lrp", 0, 1, 0.4, 0.5), row("random", 0, 1, 0.4, 0.2)]).assign(images_per_class=1)
    ten = study([row("lrp", 0, 1, 0.4, 0.6), row("random", 0, 1, 0.4, 0.7)]).assign(images_per_class=10)
    document = read(pd.concat([one, ten]), "few_shot.csv")
    assert numbers(said(document, "with 1 image of each class", "40 % of the MACs", "accuracy is", "the accuracy")) == [
        ("lrp", 0.5), ("random", 0.2),
    ]  # fmt: skip
    assert numbers(said(document, "with 10 images of each class", "40 % of the MACs", "the accuracy is")) == [
        ("random", 0.7), ("lrp", 0.6),
    ]  # fmt: skip
    assert document.source.endswith("few_shot.csv")
    assert "1 and 10 of each class and nothing else" in document.sentences[0].text


def test_loss_and_calibration_error_are_best_where_they_are_lowest(read):
    table = study([row("lrp", 0, 1, 0.4, 0.5), row("random", 0, 1, 0.4, 0.2)])
    document = read(table)
    for sign in ("ECE (expected calibration error)", "loss (cross-entropy)"):
        assert f"the {sign} is lowest with random: 0.200 (one seed), then lrp 0.500" in said(
            document, "40 % of the MACs", sign
        )
    for sign in ("AUROC", "macro F1"):
        assert "is best kept by lrp: 0.500 (one seed), then random 0.200" in said(document, "40 % of the MACs", sign)


def test_equal_criteria_are_named_together_in_the_order_of_the_study(read):
    rows = [row("weight", 0, 1, 0.4, 0.50004), row("taylor", 0, 1, 0.4, 0.3), row("lrp", 0, 1, 0.4, 0.50011)]
    document = read(study([*rows, row("random", 0, 1, 0.4, 0.3)]))
    assert "best kept by weight and lrp: 0.500 (one seed), then taylor and random 0.300; unpruned 0.900." in said(
        document, "40 % of the MACs", "the accuracy is"
    )


def test_half_a_digit_is_rounded_up_wherever_it_is_stored(read):
    document = read(study([row("lrp", 0, 1, 0.4, 0.6845), row("random", 0, 1, 0.4, 0.6844999999999999)]))
    assert "lrp and random: 0.685" in said(document, "40 % of the MACs", "the accuracy is")


def test_a_criterion_that_does_not_get_that_small_is_named_and_not_ranked(read, two_seeds):
    more = [row("weight", 0, 1, 0.4, 0.99), row("weight", 1, 1, 0.55, 0.99)]
    document = read(pd.concat([two_seeds, study(more).query("criterion != 'baseline'")]))
    assert said(document, "at 40 % of the MACs", "the accuracy is").endswith(
        "the accuracy is best kept by lrp: 0.575 (mean of 2 seeds); unpruned 0.900; random and weight (only 1 of 2 "
        "seeds) do not get that small."
    )


def test_a_size_that_no_criterion_reaches_is_one_sentence(read):
    document = read(study([row("lrp", 0, 1, 0.7, 0.8), row("random", 0, 1, 0.75, 0.8)]))
    found = [sentence.text for sentence in document.sentences if "60 % of the MACs" in sentence.text]
    assert found == [
        "In the study ham, no criterion gets down to 60 % of the MACs (multiply-accumulates) with every seed."
    ]


def test_a_metric_that_some_network_does_not_have_is_left_out(read):
    document = read(study([row("lrp", 0, 1, 0.4, 0.5, recall_mel=np.nan), row("random", 0, 1, 0.4, 0.5)]))
    assert "melanocytic nevus" in said(document, "40 % of the MACs", "recall")
    everywhere = read(study([row("lrp", 0, 1, 0.4, 0.5)]).assign(recall_mel=np.nan))
    assert "has recall 0.900 of melanocytic nevus (nv) (one seed)." in everywhere.sentences[2].text
    assert not any("nan" in sentence.text for sentence in everywhere.sentences)


def test_masked_networks_are_as_small_as_without_what_is_masked(read):
    table = study([row("lrp", 0, 1, 1.0, 0.5), row("random", 0, 1, 1.0, 0.4)])
    small = {f"effective_{size}": (table[size] * np.where(table["step"] > 0, 0.4, 1)) for size in results.SIZES}
    assert "lrp: 0.500" in said(read(table.assign(**small)), "40 % of the MACs", "the accuracy is")


def test_classes_of_other_data_sets_keep_their_names(read):
    table = study([row("lrp", 0, 1, 0.4, 0.5)]).rename(columns={"recall_nv": "recall_cat"})
    document = read(table)
    assert "the recall of mel is" in said(document, "40 % of the MACs", "recall of mel")
    assert said(document, "40 % of the MACs", "the recall of cat is")


def test_the_study_and_the_unpruned_network_come_first(read, two_seeds, tmp_path):
    (tmp_path / "params.yaml").write_text(PARAMS.format(network="resnet18", data="name: ham10000"))
    document = read(two_seeds)
    first, unpruned, recalls = (sentence.text for sentence in document.sentences[:3])
    assert first == (
        "The study ham prunes the network resnet18 on the data set HAM10000 (images of 64 pixels) by lrp and random, "
        "seeds 0 and 1, in 1 to 2 steps of 15 % of the filters each, with 1 epoch of fine-tuning after each; made at "
        f"commit {COMMIT}."
    )
    assert unpruned == (
        "In the study ham (resnet18 on HAM10000), the unpruned network has accuracy 0.900, balanced accuracy 0.900, "
        "macro F1 0.900, AUROC (area under the ROC curve) 0.900, ECE (expected calibration error) 0.900, loss "
        "(cross-entropy) 0.900 (mean of 2 seeds); 100,000 MACs (multiply-accumulates), 10,000 parameters, 1,000 "
        "filters."
    )
    assert recalls == (
        "In the study ham (resnet18 on HAM10000), the unpruned network has recall 0.900 of melanoma (mel), 0.900 of "
        "melanocytic nevus (nv) (mean of 2 seeds)."
    )
    assert {sentence.place for sentence in document.sentences} == {"commit 0123456"}


def test_chains_that_ended_early_and_a_missing_params_yaml_are_said_as_they_are(read):
    rows = [row("lrp", 0, 1, 0.4, 0.5), row("random", 0, 1, 0.7, 0.5), row("random", 0, 2, 0.4, 0.5)]
    document = read(study(rows), called="this study")
    assert document.sentences[0].text == (
        f"This study prunes a network by lrp and random, seed 0, in 1 to 2 steps; made at commit {COMMIT}."
    )
    assert document.title == "Results of this study"
    assert document.sentences[1].text.startswith("In this study, the unpruned network has accuracy 0.900, ")


def test_the_params_of_a_published_study_lie_beside_its_table_and_those_of_this_one_above(two_seeds, tmp_path):
    (tmp_path / "metrics").mkdir()
    two_seeds.to_csv(tmp_path / "metrics/pruning.csv", index=False)
    (tmp_path / "params.yaml").write_text(PARAMS.format(network="vgg16", data="name: cifar10"))
    first = results.read(tmp_path / "metrics", "metrics/pruning.csv", "this study", COMMIT).sentences[0].text
    assert first.startswith("This study prunes the network vgg16 on the data set CIFAR-10 (images of 64 pixels) by lrp")
    (tmp_path / "metrics/params.yaml").write_text(PARAMS.format(network="resnet50", data="name: cifar10"))
    first = results.read(tmp_path / "metrics", "metrics/pruning.csv", "a", COMMIT).sentences[0].text
    assert first.startswith("The study a prunes the network resnet50 on the data set CIFAR-10")


def test_pictures_in_folders_are_called_after_their_folder(read, two_seeds, tmp_path):
    (tmp_path / "params.yaml").write_text(
        PARAMS.format(network="vgg16", data="name: image-folder, source: data/lesions")
    )
    document = read(two_seeds)
    assert "prunes the network vgg16 on the data set lesions (images of 64 pixels)" in document.sentences[0].text
    assert document.sentences[-1].text.startswith("In the study ham (vgg16 on lesions), ")


def test_a_params_yaml_that_lacks_a_key_is_refused_with_its_name(read, two_seeds, tmp_path):
    (tmp_path / "params.yaml").write_text("model: {name: vgg16}\ndata: {name: cifar10}\n")
    with pytest.raises(ValueError, match=r"^its params\.yaml has no data\.image_size$"):
        read(two_seeds)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda table: table.drop(columns=["macs", "loss"]), "no column macs and loss; needed are criterion, seed"),
        (lambda table: table.assign(accuracy="high"), "column accuracy has a value that is no number"),
        (lambda table: table.assign(effective_macs="x"), "column effective_macs has a value that is no number"),
        (lambda table: table.assign(macs=[np.nan, *table["macs"][1:]]), "column macs has an empty value"),
        (lambda table: table[table["phase"] != "baseline"], r"no unpruned network .* of seed 0 and 1"),
        (lambda table: table[table["phase"] != "finetuned"], "no row of the phase finetuned"),
        (lambda table: pd.concat([table, table[-1:]]), "two rows of criterion random, seed 1, step 1, phase finetuned"),
    ],
)
def test_a_broken_table_is_refused_in_one_line_that_says_why(read, two_seeds, broken, message):
    with pytest.raises(ValueError, match=message) as refusal:
        read(broken(two_seeds))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n3,4,5\n", b"\xff\xfe\x00", None])
def test_what_is_no_table_is_refused_in_one_line(tmp_path, content):
    if content is not None:
        (tmp_path / "pruning.csv").write_bytes(content)
    with pytest.raises(ValueError, match="no table|cannot be read: No such file") as refusal:
        results.read(tmp_path, "metrics/pruning.csv", "this study", COMMIT)
    assert "\n" not in str(refusal.value)


def test_a_params_yaml_that_is_none_is_refused(read, two_seeds, tmp_path):
    (tmp_path / "params.yaml").write_text("a: [1\n")
    with pytest.raises(ValueError, match=r"its params\.yaml cannot be read: while"):
        read(two_seeds)


def test_the_same_table_at_another_commit_has_another_digest(read, two_seeds, tmp_path):
    document = read(two_seeds)
    assert document.digest == results.digest(tmp_path / "pruning.csv", COMMIT)
    assert document.digest != results.digest(tmp_path / "pruning.csv", f"{COMMIT} with changes")
    assert read(two_seeds.assign(accuracy=0.5)).digest != document.digest


def test_without_any_study_there_is_nothing(tmp_path):
    assert list(results.studies(tmp_path)) == []


def test_studies_are_that_which_ran_and_the_published_ones_with_their_commits(tmp_path, monkeypatch):
    for folder in ("metrics", "docs/results/b", "docs/results/a", "docs/results/toy"):
        (tmp_path / folder).mkdir(parents=True)
        if "toy" not in folder:
            (tmp_path / folder / "pruning.csv").touch()
    (tmp_path / "docs/results-b.md").write_text(f"# Results: b\n\nMade at commit {'b' * 40} by `dvc repro`.\n")
    monkeypatch.setattr(provenance, "commit", lambda: COMMIT)
    monkeypatch.setattr(provenance, "uncommitted", lambda *files: [])
    assert list(results.studies(tmp_path)) == [
        (tmp_path / "metrics", "this study", COMMIT),
        (tmp_path / "docs/results/a", "a", "unknown"),
        (tmp_path / "docs/results/b", "b", "b" * 40),
    ]
    monkeypatch.setattr(provenance, "uncommitted", lambda *files: list(files))
    assert next(results.studies(tmp_path))[2] == f"{COMMIT} with changes"
    monkeypatch.setattr(provenance, "commit", lambda: None)
    monkeypatch.setattr(provenance, "uncommitted", lambda *files: [])
    assert next(results.studies(tmp_path))[2] == "unknown"


def test_the_place_of_a_changed_study_says_so(tmp_path, two_seeds):
    two_seeds.to_csv(tmp_path / "pruning.csv", index=False)
    document = results.read(tmp_path, "metrics/pruning.csv", "this study", f"{COMMIT} with changes")
    assert document.sentences[0].place == "commit 0123456 with changes"
    assert document.sentences[0].text.endswith(f"made at commit {COMMIT} with changes.")


def test_every_published_study_is_found_with_the_commit_of_its_page():
    found = {name: (folder, commit) for folder, name, commit in results.studies(Path()) if name != "this study"}
    assert sorted(found) == PUBLISHED
    for name, (_, commit) in found.items():
        assert re.fullmatch("[0-9a-f]{40}", commit)
        assert f"Made at commit {commit}" in Path(f"docs/results-{name}.md").read_text()
