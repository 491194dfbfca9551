import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as reference

from stages.reporting import safety, tables

NAMES = ["nv", "mel", "bcc", "df"]


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    labels = rng.choice(4, 400, p=[0.6, 0.2, 0.15, 0.05])
    logits = rng.normal(size=(400, 4)) * 1.5 + 1.5 * np.eye(4)[labels]
    return labels, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def test_each_class_against_the_rest_is_as_scikit_learn_has_it(sample):
    labels, probabilities = sample
    predicted = probabilities.argmax(1)
    found = safety.by_class(labels, probabilities, NAMES)
    precision, recall, f1, images = reference.precision_recall_fscore_support(labels, predicted)
    assert found["class"].tolist() == NAMES
    for name, expected in {"precision": precision, "recall": recall, "f1": f1, "images": images}.items():
        assert found[name].to_numpy() == pytest.approx(expected)
    for n in range(4):
        assert found["specificity"][n] == pytest.approx(reference.recall_score(labels != n, predicted != n))
        assert found["auroc"][n] == pytest.approx(reference.roc_auc_score(labels == n, probabilities[:, n]))
        interval = stats.binomtest(round(recall[n] * images[n]), int(images[n])).proportion_ci(method="wilson")
        assert (found["recall_low"][n], found["recall_high"][n]) == pytest.approx(interval)
        hits, chosen = ((predicted == n) & (labels == n)).sum(), (predicted == n).sum()
        interval = stats.binomtest(int(hits), int(chosen)).proportion_ci(method="wilson")
        assert (found["precision_low"][n], found["precision_high"][n]) == pytest.approx(interval)
        rejected = ((predicted != n) & (labels != n)).sum()
        interval = stats.binomtest(int(rejected), int((labels != n).sum())).proportion_ci(method="wilson")
        assert (found["specificity_low"][n], found["specificity_high"][n]) == pytest.approx(interval)


def test_the_intervals_of_f1_and_auroc_are_those_of_a_bootstrap_over_images(sample):
    labels, probabilities = sample
    found = safety.by_class(labels, probabilities, NAMES)
    rng = np.random.default_rng(2)
    drawn = {"f1": [], "auroc": []}
    for _ in range(600):
        rows = rng.integers(0, len(labels), len(labels))
        predicted = probabilities[rows].argmax(1)
        drawn["f1"].append(reference.f1_score(labels[rows], predicted, average=None))
        drawn["auroc"].append([reference.roc_auc_score(labels[rows] == n, probabilities[rows, n]) for n in range(4)])
    for name, values in drawn.items():
        low, high = np.quantile(values, [0.025, 0.975], axis=0)
        for n in range(4):
            width = high[n] - low[n]
            assert found[f"{name}_low"][n] == pytest.approx(low[n], abs=0.25 * width)
            assert found[f"{name}_high"][n] == pytest.approx(high[n], abs=0.25 * width)


def test_a_perfect_answer_to_few_images_is_not_certain():
    found = safety.by_class(np.array([0, 0, 1, 1, 1]), np.eye(2)[[0, 0, 1, 1, 1]], NAMES[:2])
    assert (found["f1"] == 1).all() and (found["f1_low"] < 0.8).all()
    assert (found["auroc"] == 1).all() and found["auroc_low"].isna().all()


def test_a_class_without_images_has_no_recall_and_stops_nothing():
    found = safety.by_class(np.array([0, 0, 1]), np.eye(3)[[0, 2, 1]], list("abc")).set_index("class")
    assert found.loc["b", ["recall", "precision", "f1", "specificity", "auroc"]].tolist() == [1, 1, 1, 1, 1]
    assert np.isnan(found.loc["c", ["recall", "recall_low", "auroc", "auroc_low"]].astype(float)).all()
    assert found.loc["c", ["precision", "f1"]].tolist() == [0, 0]


def test_the_images_lost_most_often_come_first_then_those_that_lost_most():
    rows = [
        ("weight", 0, "a", "lost", 0.9, 0.1), ("weight", 1, "b", "lost", 0.6, 0.4),
        ("weight", 2, "b", "lost", 0.8, 0.4), ("weight", 0, "c", "lost", 0.6, 0.5),
        ("weight", 0, "d", "gained", 0.1, 0.9), ("lrp", 0, "c", "lost", 0.6, 0.3),
    ]  # fmt: skip
    flips = pd.DataFrame(
        rows, columns=["criterion", "seed", "image_id", "kind", "probability_before", "probability_after"]
    ).assign(label="nv", after=["mel", "df", "df", "mel", "nv", "df"])
    found = safety.most_lost(flips, 2)
    assert found[["criterion", "image_id", "seeds"]].to_numpy().tolist() == [
        ["weight", "b", 2],
        ["weight", "a", 1],
        ["lrp", "c", 1],
    ]
    assert found.loc[0, ["before_mean", "after_mean"]].tolist() == pytest.approx([0.7, 0.4])
    assert found["after"].tolist() == ["df", "mel", "df"]
    assert safety.most_lost(flips[flips["kind"] == "gained"], 2).empty


def test_a_confusion_has_each_image_once(sample):
    labels, probabilities = sample
    predicted = probabilities.argmax(1)
    assert (safety.confusion(labels, predicted, 4) == reference.confusion_matrix(labels, predicted)).all()
    rows = safety.confusions(labels, predicted, NAMES).set_index(["label", "predicted"])["images"]
    assert rows.sum() == 400 and (rows > 0).all()
    assert rows["mel", "nv"] == ((labels == 1) & (predicted == 0)).sum()


def test_a_subgroup_counts_its_own_images(sample):
    labels, probabilities = sample
    predicted = probabilities.argmax(1)
    rng = np.random.default_rng(1)
    subgroups = pd.DataFrame({"sex": rng.choice(["male", "female", None], 400), "age": rng.integers(0, 18, 400) * 5.0})
    subgroups.loc[:9, "age"] = np.nan
    found = safety.by_subgroup(labels, predicted, subgroups, 4).set_index(["subgroup", "value"])
    women = (subgroups["sex"] == "female").to_numpy()
    assert found.loc[("sex", "female"), "images"] == women.sum()
    assert found.loc[("sex", "female"), "accuracy"] == pytest.approx((predicted == labels)[women].mean())
    expected = reference.balanced_accuracy_score(labels[women], predicted[women])
    assert found.loc[("sex", "female"), "balanced_accuracy"] == pytest.approx(expected)
    assert found["images"].groupby("subgroup").sum().tolist() == [400, 400]
    assert found.loc[("age", "unknown"), "images"] == 10


def test_classes_of_a_subgroup_are_measured_among_its_images(sample):
    labels, probabilities = sample
    subgroups = pd.DataFrame({"sex": np.where(np.arange(400) % 3, "female", "male")})
    subgroups.loc[labels == 3, "sex"] = "male"  # no df among women
    found = safety.by_subgroup_and_class(labels, probabilities, subgroups, NAMES).set_index(
        ["subgroup", "value", "class"]
    )
    assert list(found.loc[("sex", "female")].index) == NAMES[:3]
    men = (subgroups["sex"] == "male").to_numpy()
    alone = safety.by_class(labels[men], probabilities[men], NAMES).set_index("class")
    pd.testing.assert_frame_equal(found.loc[("sex", "male")], alone, check_names=False)
    none = safety.by_subgroup_and_class(labels, probabilities, subgroups[[]], NAMES)
    assert none.empty and list(none.columns) == list(found.reset_index().columns)


def test_many_numbers_are_divided_at_their_quartiles_and_few_are_not():
    ages = pd.Series([*range(0, 41, 4)])
    assert list(dict.fromkeys(safety.divided(ages))) == ["0 to 10", "10 to 20", "20 to 30", "30 to 40"]
    assert list(safety.divided(pd.Series([1, 2, 2]))) == ["1", "2", "2"]


def test_flips_are_lost_gained_or_other():
    images = pd.DataFrame({"image_id": list("abcd"), "label": [0, 0, 1, 1]})
    before, after = np.eye(3)[[0, 1, 0, 1]], np.eye(3)[[1, 0, 2, 1]]
    found = safety.flips(images, NAMES[:3], before, after)
    assert found[["image_id", "label", "before", "after", "kind"]].to_numpy().tolist() == [
        ["a", "nv", "nv", "mel", "lost"], ["b", "nv", "mel", "nv", "gained"], ["c", "mel", "nv", "bcc", "other"],
    ]  # fmt: skip
    assert found["probability_before"].tolist() == [1, 0, 0] and found["probability_after"].tolist() == [0, 1, 0]


def changes():
    rows = [["baseline", 0, "nv", 0.9], ["baseline", 1, "nv", 0.8], ["lrp", 0, "nv", 0.85], ["lrp", 1, "nv", 0.77]]
    return safety.with_change(
        pd.DataFrame(rows, columns=["criterion", "seed", "class", "recall"]), ["class"], ["recall"]
    )


def test_a_change_is_to_the_unpruned_network_of_the_same_seed():
    assert changes()["recall_change"].tolist() == pytest.approx([0, 0, -0.05, -0.03])
    text = tables.changes_markdown(changes().query("criterion == 'lrp'"), "class", "recall_change")
    assert text.splitlines()[2] == "| lrp | -0.040 ± 0.014 |"


def test_the_worst_class_is_the_least_recognised_and_the_one_that_lost_most_another():
    rows = [
        ["lrp", 0, "nv", 0.8, -0.1],
        ["lrp", 1, "nv", 0.9, -0.1],
        ["lrp", 0, "df", 0.3, 0.1],
        ["lrp", 1, "df", 0.2, 0],
    ]
    table = pd.DataFrame(rows, columns=["criterion", "seed", "class", "recall", "recall_change"])
    text = tables.worst_class_markdown(table).splitlines()
    assert text[2] == "| lrp | df 0.250 (+0.050) | nv 0.850 (-0.100) |"


def test_the_worst_subgroups_are_named_with_their_size():
    rows = [
        ["lrp", 0, "sex", "male", -0.02, 30],
        ["lrp", 1, "sex", "male", -0.06, 30],
        ["lrp", 0, "sex", "female", 0.01, 9],
    ]
    table = pd.DataFrame(rows, columns=["criterion", "seed", "subgroup", "value", "accuracy_change", "images"])
    assert tables.worst_markdown(table, "accuracy_change", 1).splitlines()[2] == "| lrp | sex male -0.040 (30) |"


def test_every_large_subgroup_has_its_accuracy_with_an_interval():
    rows = [
        ["lrp", 0, "sex", "male", 30, 0.8, 0.7, 0.9, -0.02],
        ["lrp", 1, "sex", "male", 30, 0.7, 0.6, 0.8, -0.06],
        ["random", 0, "sex", "male", 30, 0.6, 0.5, 0.7, 0.1],
        ["lrp", 0, "sex", "female", 9, 0.6, 0.5, 0.7, 0.01],
    ]
    columns = ["criterion", "seed", "subgroup", "value", "images", "accuracy", "low", "high", "accuracy_change"]
    assert tables.subgroups_markdown(pd.DataFrame(rows, columns=columns)).splitlines() == [
        "| subgroup | lrp | random |",
        "| --- | --- | --- |",
        "| sex male (30) | 0.750, -0.040 (0.650 to 0.850) | 0.600, +0.100 (0.500 to 0.700) |",
    ]


def test_flips_are_counted_by_kind_and_averaged_over_seeds():
    rows = [["lrp", 0, "lost"], ["lrp", 0, "lost"], ["lrp", 1, "lost"], ["lrp", 1, "gained"]]
    text = tables.flips_markdown(pd.DataFrame(rows, columns=["criterion", "seed", "kind"])).splitlines()
    assert text[0] == "| criterion | lost | gained | other |" and text[2] == "| lrp | 1.5 | 0.5 | 0.0 |"
