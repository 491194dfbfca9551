import pandas as pd
import pytest
from sklearn import metrics

from stages.reporting import tables

MAJORITY = tables.majority({"mel": 50, "nv": 150})


def rows(seeds):
    made = []
    for seed in range(seeds):
        for criterion, step, phase, size, accuracy in (
            ("baseline", 0, "baseline", 1000, 0.9),
            ("lrp", 1, "pruned", 500, 0.5),
            ("lrp", 1, "finetuned", 500, 0.8),
            ("lrp", 2, "pruned", 250, 0.4),
            ("lrp", 2, "finetuned", 250, 0.7),
        ):
            found = accuracy + 0.02 * seed
            made.append(
                {"criterion": criterion, "seed": seed, "step": step, "phase": phase}
                | dict.fromkeys(tables.SIZES, size)
                | dict.fromkeys(["accuracy", "balanced_accuracy", "macro_f1", "auroc"], found)
                | {"recall_nv": found + 0.05, "recall_mel": found - 0.05}
            )
    return pd.DataFrame(made)


def test_the_last_step_is_beside_the_unpruned_network():
    text = tables.markdown(rows(1), MAJORITY).splitlines()
    assert text[2] == "| unpruned | 100.0% | 100.0% | 100.0% |  | 0.9000 | 0.9000 | 0.9000 | 0.9000 |"
    assert text[3] == "| always nv |  |  |  |  | 0.7500 | 0.5000 | 0.4286 | 0.5000 |"
    assert text[4] == "| lrp | 25.0% | 25.0% | 25.0% | 0.4000 | 0.7000 | 0.7000 | 0.7000 | 0.7000 |"
    assert len(text) == 5


def test_always_the_largest_class_is_scored_as_by_scikit_learn():
    truth = ["nv"] * 6 + ["mel"] * 2 + ["bcc"]
    scores = tables.majority({"mel": 2, "nv": 6, "bcc": 1})
    named = ["nv"] * len(truth)
    assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(truth, named))
    assert scores["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(truth, named))
    assert scores["macro_f1"] == pytest.approx(metrics.f1_score(truth, named, average="macro", zero_division=0))
    recalls = metrics.recall_score(truth, named, labels=["mel", "nv", "bcc"], average=None)
    assert scores[["recall_mel", "recall_nv", "recall_bcc"]].tolist() == recalls.tolist()
    assert tables.majority({"nv": 4, "bcc": 4, "mel": 1}).name == "always bcc"  # whatever their order
    said = tables.majority_in_words({"Mel": 6, "nv": 3})
    assert said == "Always Mel: accuracy 0.6667, balanced accuracy 0.5000."


def test_differences_are_to_the_unpruned_network_of_the_same_seed():
    table = rows(2).assign(ece=0.1, loss=1.0)
    text = tables.difference_markdown(table, MAJORITY).splitlines()
    assert text[2] == "| always nv | -0.1600 | -0.4100 | -0.4814 | -0.4100 |  |  |"
    assert text[3].startswith("| lrp | -0.2000 ± 0.0000 | -0.2000 ± 0.0000 |")


def test_the_calibration_error_stands_beside_its_change_and_that_of_naming_one_class_with_certainty():
    table = rows(2).assign(ece=[0.1, 0.9, 0.9, 0.9, 0.3, 0.2, 0.9, 0.9, 0.9, 0.2])
    assert tables.calibration_markdown(table, MAJORITY).splitlines() == [
        "| criterion | ece | less the unpruned network |",
        "| --- | --- | --- |",
        "| unpruned | 0.1500 ± 0.0707 |  |",
        "| always nv | 0.2500 | +0.1000 |",
        "| lrp | 0.2500 ± 0.0707 | +0.1000 ± 0.1414 |",
    ]


def test_images_and_groups_of_splits_are_counted():
    index = pd.DataFrame(
        {"split": ["train"] * 1500 + ["val", "test", "test"], "group": [*range(1000), *[5] * 500, 1007, 1008, 1008]}
    )
    assert tables.splits(index).startswith(
        "1,500 images of 1,000 groups train, 1 images of 1 groups choose, 2 images of 1 groups test; no group"
    )


def test_masked_networks_are_as_large_as_what_is_left_of_them_and_as_slow_as_all():
    table = rows(2)
    for size in tables.SIZES:
        table[f"effective_{size}"] = table[size].where(table["phase"] != "baseline")
        table[size] = 1000
    table = tables.pruning_table(table, ["lrp"])
    assert list(table.columns[4:10]) == [*tables.SIZES, *(f"effective_{size}" for size in tables.SIZES)]
    assert (table.loc[table["phase"] == "baseline", "effective_macs"] == 1000).all()
    assert tables.markdown(table, MAJORITY) == tables.markdown(rows(2), MAJORITY)
    assert tables.steps_markdown(table, MAJORITY) == tables.steps_markdown(rows(2), MAJORITY)
    assert "without what is masked" in tables.title(table)
    latency = pd.DataFrame(
        [["baseline", 0, 0, 1, 2.0], ["lrp", 0, 2, 1, 2.0]],
        columns=["criterion", "seed", "step", "batch", "milliseconds"],
    )
    text = tables.latency_markdown(table, latency).splitlines()
    assert text[0].endswith(
        "| effective filters | effective params | effective macs | MACs, times fewer | ms, batch of 1 |"
    )
    assert text[3] == (
        "| lrp | 1,000 ± 0 | 1,000 ± 0 | 1,000 ± 0 | 250 ± 0 | 250 ± 0 | 250 ± 0 | 1.00 | 2.00 (1.00 times the speed) |"
    )


def test_seeds_give_a_mean_and_a_standard_deviation():
    assert "| 25.0% | 0.4200 ± 0.0200 | 0.7200 ± 0.0200 |" in tables.markdown(rows(3), MAJORITY)
    assert "3 seeds, mean ± standard deviation" in tables.title(rows(3))
    steps = tables.steps_markdown(rows(3), MAJORITY)
    assert "| lrp | 1 | 50.0% | 50.0% | 50.0% | 0.5200 ± 0.0200 | 0.8200 ± 0.0200 | " in steps
    assert "| always nv |  |  |  |  |  | 0.7500 | 0.5000 | -0.4200 |" in steps


def test_what_ended_a_chain_is_told_by_criterion_and_limit():
    chains = pd.DataFrame(
        [["lrp", 0, "guard", "recall_mel", 0.5, 0.4], ["lrp", 1, "steps", "macs", 1, 0.41]]
        + [["lrp", 2, "guard", "recall_mel", 0.6, 0.5]],
        columns=["criterion", "seed", "ended_by", "measure", "unpruned", "now"],
    )
    assert tables.ends_markdown(chains).splitlines()[2:] == [
        "| lrp | guard | recall_mel | 0, 2 | 0.550 | 0.450 |",
        "| lrp | steps | macs | 1 | 1.000 | 0.410 |",
    ]


def test_each_class_has_its_recall_and_each_network_its_time():
    text = tables.classes_markdown(rows(3), MAJORITY).splitlines()
    assert text[0] == "| criterion | nv | mel |"
    assert text[2:] == [
        "| unpruned | 0.970 ± 0.020 | 0.870 ± 0.020 |",
        "| always nv | 1.000 | 0.000 |",
        "| lrp | 0.770 ± 0.020 | 0.670 ± 0.020 |",
    ]
    latency = pd.DataFrame(
        [["baseline", seed, 0, batch, batch + seed] for seed in range(3) for batch in (1, 32)]
        + [["lrp", seed, step, batch, step * batch] for seed in range(3) for step in (1, 2) for batch in (1, 32)],
        columns=["criterion", "seed", "step", "batch", "milliseconds"],
    )
    text = tables.latency_markdown(rows(3), latency).splitlines()
    assert text[2:] == [
        "| unpruned | 1,000 ± 0 | 1,000 ± 0 | 1,000 ± 0 | 1.00 | 2.00 ± 1.00 | 33.00 ± 1.00 |",
        "| lrp | 250 ± 0 | 250 ± 0 | 250 ± 0 | 4.00 | 2.00 ± 0.00 (1.00 times the speed) "
        "| 64.00 ± 0.00 (0.52 times the speed) |",
    ]


def test_the_last_step_is_that_of_each_chain():
    table = rows(2).query("not (seed == 1 and step == 2)")  # what ended the second seed's chain came first
    assert tables.title(table).startswith("After 1 to 2 steps")
    assert tables.title(rows(2)).startswith("After 2 steps")
    assert tables.last_step(table).loc["lrp", "accuracy"] == pytest.approx((0.7 + 0.82) / 2)
    text = tables.markdown(table, MAJORITY).splitlines()[4]
    assert text.startswith("| lrp | 37.5% | 37.5% | 37.5% | 0.4600 ± 0.0849 | 0.7600 ± 0.0849 |")
    steps = [line.split(" | ")[-1] for line in tables.steps_markdown(table, MAJORITY).splitlines()[3:]]
    assert steps == ["-0.1000 ± 0.0000 |", "-0.2000 |"]  # less the unpruned network of the same seed
    assert "| 0.810 ± 0.085 |" in tables.classes_markdown(table, MAJORITY).splitlines()[4]


def test_the_order_is_that_of_the_criteria():
    both = pd.concat([rows(2), rows(2).query("criterion == 'lrp'").replace("lrp", "weight")], ignore_index=True)
    table = tables.pruning_table(both, ["weight", "lrp"])
    assert list(dict.fromkeys(table["criterion"])) == ["baseline", "weight", "lrp"]
    assert tables.last_step(table)["accuracy"].to_dict() == pytest.approx({"weight": 0.71, "lrp": 0.71})


def test_a_measure_of_a_class_stands_before_its_change():
    rows = pd.DataFrame(
        [
            ["lrp", 0, "mel", 0.8, -0.1],
            ["lrp", 1, "mel", 0.6, 0.0],
            ["lrp", 0, "nv", 0.9, 0.02],
            ["lrp", 1, "nv", 0.9, 0.0],
            ["weight", 0, "mel", float("nan"), float("nan")],
            ["weight", 0, "nv", 0.8, -0.08],
        ],
        columns=["criterion", "seed", "class", "f1", "f1_change"],
    )
    assert tables.measures_markdown(rows, "class", "f1").splitlines() == [
        "| criterion | mel | nv |",
        "| --- | --- | --- |",
        "| lrp | 0.700 (-0.050) | 0.900 (+0.010) |",
        "| weight | – | 0.800 (-0.080) |",
    ]


def test_tables_of_a_page_become_latex():
    table = "| criterion | a_b |\n| --- | --- |\n| lrp | 0.5 ± 0.1 (p < 0.001) |"
    page = f"# Title\n\nAfter 50 % & more:\n\n{table}\n\n![x](x.svg)\n"
    assert tables.as_latex(page) == (
        "% After 50 % & more:\n\\begin{tabular}{lr}\n\\toprule\ncriterion & a\\_b \\\\\n\\midrule\n"
        "lrp & 0.5 $\\pm$ 0.1 (p $<$ 0.001) \\\\\n\\bottomrule\n\\end{tabular}\n"
    )
