import pandas as pd

from stages.reporting import equal_size, tables

MAJORITY = tables.majority({"mel": 50, "nv": 150})


def pairs():
    return pd.DataFrame(
        [[0.5, "lrp", "weight", 0.02, 0.01, 0.03, 0.3], [0.5, "lrp", "random", 0.1, 0.08, 0.12, 0.0002]]
        + [[0.5, "weight", "random", -0.08, -0.1, -0.06, 0.04], [0.8, "lrp", "random", 0.01, -0.01, 0.02, 0.5]],
        columns=["share", "criterion", "other", "difference", "low", "high", "p_holm"],
    )


def test_differences_are_those_to_one_criterion_whichever_side_it_was_on():
    found = equal_size.differences_to(pairs(), "weight").set_index("criterion")
    assert found.loc["random", ["difference", "low", "high"]].tolist() == [0.08, 0.06, 0.1]
    assert found.loc["lrp", ["difference", "low", "high"]].tolist() == [0.02, 0.01, 0.03]
    text = equal_size.differences_markdown(equal_size.differences_to(pairs(), "random")).splitlines()
    assert text[0] == "| criterion | 80% | 50% |"
    assert text[2:] == ["| lrp | +0.0100 (p 0.500) | +0.1000 (p < 0.001) |", "| weight | – | -0.0800 (p 0.040) |"]


def test_better_means_a_higher_metric_and_a_low_corrected_p():
    said = equal_size.better_than(equal_size.differences_to(pairs(), "random"), "random")
    assert said == "Better than random (p < 0.05): at 80% none; at 50% lrp."


def test_levels_have_an_interval_where_there_are_seeds():
    levels = pd.DataFrame(
        [[0.5, "lrp", 0.7, 0.68, 0.72, -0.1], [0.5, "random", 0.6, float("nan"), float("nan"), 0.02]],
        columns=["share", "criterion", "mean", "low", "high", "difference"],
    )
    assert equal_size.levels_markdown(levels, MAJORITY).splitlines()[2:] == [
        "| always nv | 0.5000, -0.3000 |",
        "| lrp | 0.7000, -0.1000 (0.6800 to 0.7200) |",
        "| random | 0.6000, +0.0200 |",
    ]


def test_every_measure_of_size_but_macs_has_its_table_after_tuning_and_what_is_better_than_random():
    levels = pd.DataFrame(
        [
            [axis, metric, phase, images, 0.5, "lrp", mean, mean, mean, -0.1]
            for axis, mean in (("filters", 0.71), ("macs", 0.72), ("latency_32", 0.73))
            for metric, phase in (("accuracy", "finetuned"), ("balanced_accuracy", "pruned"))
            for images in (1, 5)
        ]
        + [
            [axis, "balanced_accuracy", "finetuned", images, 0.5, "lrp", mean, mean, mean, -0.1]
            for axis, images, mean in (("filters", 5, 0.6), ("macs", 5, 0.5), ("latency_32", 1, 0.4))
        ],
        columns=["axis", "metric", "phase", "images_per_class", "share", "criterion", "mean", "low", "high"]
        + ["difference"],
    )
    pairs = pd.DataFrame(
        [
            ["filters", "balanced_accuracy", "pruned", 5, 0.5, "lrp", "random", 0.1, 0.0, 0.2, 0.01],
            ["filters", "balanced_accuracy", "finetuned", 5, 0.5, "lrp", "random", 0.1, 0.0, 0.2, 0.3],
            ["filters", "balanced_accuracy", "finetuned", 1, 0.5, "lrp", "random", 0.1, 0.0, 0.2, 0.01],
            ["macs", "balanced_accuracy", "finetuned", 5, 0.5, "lrp", "random", 0.1, 0.0, 0.2, 0.01],
        ],
        columns=["axis", "metric", "phase", "images_per_class", "share", "criterion", "other", "difference"]
        + ["low", "high", "p_holm"],
    )
    phases = {"pruned": "after the cut", "finetuned": "after tuning"}
    time, filters = equal_size.few_at_other_sizes(levels, pairs, phases, MAJORITY)
    title, table = time.split("\n\n")
    assert title.startswith(
        "Balanced accuracy after tuning with 1 of each class where this part of the measured time, "
    )
    assert table.splitlines()[-1] == "| lrp | 0.4000, -0.1000 (0.4000 to 0.4000) |"
    title, table, *said = filters.split("\n\n")
    assert title.startswith("Balanced accuracy after tuning with 5 of each class where this part of the filters is ")
    assert table.splitlines()[-1] == "| lrp | 0.6000, -0.1000 (0.6000 to 0.6000) |"
    assert said == [
        "After the cut with 5 of each class: better than random (p < 0.05): at 50% lrp.",
        "After tuning with 5 of each class: better than random (p < 0.05): at 50% none.",
    ]


def test_a_criterion_that_gets_nowhere_so_small_has_dashes():
    levels = pd.DataFrame(
        [["macs", "finetuned", 0.5, "lrp", 0.7], ["macs", "finetuned", 0.5, "random", 0.6]]
        + [["latency_1", "finetuned", 0.8, "lrp", 0.7], ["latency_1", "finetuned", 0.5, "lrp", 0.6]],
        columns=["axis", "phase", "share", "criterion", "mean"],
    ).assign(metric="balanced_accuracy", low=0.5, high=0.8, difference=-0.1)
    pairs = pd.DataFrame(columns=["axis", "metric", "phase", "share", "criterion", "other", "difference", "low"])
    pairs = pairs.assign(high=[], p_holm=[])
    (text,) = equal_size.at_other_sizes(levels, pairs, {"finetuned": "after fine-tuning"}, MAJORITY)
    assert text.splitlines()[-4:] == [
        "| lrp | 0.7000, -0.1000 (0.5000 to 0.8000) | 0.6000, -0.1000 (0.5000 to 0.8000) |",
        "| random | – | – |",
        "",
        "Random removal does not get to any of these sizes with all seeds.",
    ]


def test_areas_are_those_of_the_number_of_images_and_the_phase():
    areas = pd.DataFrame(
        [
            [images, axis, 0.4, metric, criterion, 0.1 * images + offset + (phase == "finetuned") * 0.01, -0.1, phase]
            for images in (1, 5)
            for axis, offset in (("filters", 0.1), ("latency_32", 0.2))
            for metric in ("balanced_accuracy", "macro_f1")
            for criterion in ("lrp", "weight")
            for phase in ("pruned", "finetuned")
        ],
        columns=["images_per_class", "axis", "least", "metric", "criterion", "mean", "difference", "phase"],
    )
    areas.loc[areas["metric"] == "macro_f1", "mean"] += 0.5
    areas.loc[areas["criterion"] == "weight", "mean"] -= 0.05
    phases = {"pruned": "after the cut", "finetuned": "after tuning"}
    found = equal_size.few_areas_markdown(areas, phases, MAJORITY)
    assert [sentence.split(" over ")[0] for sentence in found[::2]] == [
        "Mean balanced accuracy after the cut with 1 of each class",
        "Mean balanced accuracy after tuning with 1 of each class",
        "Mean balanced accuracy after the cut with 5 of each class",
        "Mean balanced accuracy after tuning with 5 of each class",
    ]
    assert found[3].splitlines() == [
        "| criterion | filters (from 40%) | time of 32 (from 40%) |",
        "| --- | --- | --- |",
        "| always nv | 0.5000, +0.1900 | 0.5000, +0.1900 |",
        "| lrp | 0.2100, -0.1000 | 0.3100, -0.1000 |",
        "| weight | 0.1600, -0.1000 | 0.2600, -0.1000 |",
    ]
    assert found[5].splitlines()[3] == "| lrp | 0.6000, -0.1000 | 0.7000, -0.1000 |"


def test_variances_are_shown_with_their_corrected_p():
    stability = pd.DataFrame([["lrp", "weight", 0.00012, 0.0034, 0.01, 0.02]])
    stability.columns = ["criterion", "other", "variance", "variance_other", "p", "p_holm"]
    assert equal_size.stability_markdown(stability).splitlines()[2] == "| lrp | 0.00012 | weight | 0.0034 | 0.020 |"
