import pandas as pd
import pytest

from stages.reporting import verdicts


def levels(**means):
    rows = [[share, name, value, value - 0.9] for name, values in means.items() for share, value in values.items()]
    table = pd.DataFrame(rows, columns=["share", "criterion", "mean", "difference"])
    return table.assign(axis="macs", metric="balanced_accuracy", phase="finetuned", low=0.0, high=1.0)


def pairs(*rows):
    table = pd.DataFrame(rows, columns=["share", "criterion", "other", "difference", "p_holm"])
    return table.assign(axis="macs", metric="balanced_accuracy", phase="finetuned", low=0.0, high=0.0, p=0.0)


def stability(one, variance, other, variance_other, p):
    columns = ["criterion", "variance", "other", "variance_other", "p_holm"]
    return pd.DataFrame([[one, variance, other, variance_other, p]], columns=columns)


NOTHING = stability("random", 1, "weight", 1, 1.0)


def test_the_winner_is_named_at_half_of_the_macs_and_at_the_least_that_all_reach():
    half, least = verdicts.sentences(
        levels(lrp={0.8: 0.9, 0.5: 0.8, 0.4: 0.6}, weight={0.8: 0.9, 0.5: 0.7, 0.4: 0.65, 0.3: 0.5}),
        pairs((0.5, "lrp", "weight", 0.1, 0.01), (0.4, "lrp", "weight", -0.05, 0.2)),
        NOTHING,
        ["lrp", "weight"],
    )
    assert half.startswith("After fine-tuning, where 50% of the MACs is left, lrp has the highest balanced accuracy")
    assert "(corrected p < 0.05): weight; not to be told apart from it: none." in half
    assert least.startswith("After fine-tuning, where 40% of the MACs is left, weight has the highest")
    assert "LRP has 0.6000, -0.0500 against that. Clearly behind weight, of these networks" in least


def test_where_half_is_not_reached_by_all_the_winner_is_named_at_the_smallest_size_that_is():
    (said,) = verdicts.sentences(
        levels(lrp={0.8: 0.95, 0.6: 0.7}, random={0.8: 0.6, 0.5: 0.5, 0.4: 0.9, 0.6: 0.1}), pairs(), NOTHING, ["lrp"]
    )
    assert said.startswith("After fine-tuning, where 60% of the MACs is left, lrp has")


def test_a_criterion_that_reaches_no_size_is_named():
    said, ended = verdicts.sentences(
        levels(lrp={0.8: 0.95, 0.5: 0.7}, weight={0.8: 0.6, 0.5: 0.8}, random={0.8: 0.6, 0.5: 0.5, 0.4: 0.9}),
        pairs((0.5, "lrp", "weight", -0.1, 0.2), (0.5, "weight", "random", 0.3, 0.01), (0.8, "lrp", "weight", 0.3, 0)),
        NOTHING,
        ["lrp", "weight", "random", "taylor"],
    )
    assert ended == "Ended before any of the sizes compared: taylor."
    assert said.startswith("After fine-tuning, where 50% of the MACs is left, weight has the highest balanced accuracy")
    assert "0.8000, -0.1000 against the unpruned network" in said
    assert "LRP has 0.7000, -0.1000 against that." in said
    assert "(corrected p < 0.05): random; not to be told apart from it: lrp." in said


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (stability("lrp", 0.1, "weight", 0.4, 0.01), "true"),
        (stability("weight", 0.4, "lrp", 0.1, 0.01), "true"),
        (stability("weight", 0.1, "lrp", 0.4, 0.01), "false"),
        (stability("lrp", 0.1, "weight", 0.4, 0.2), "not shown"),
    ],
)
def test_whether_lrp_recovers_more_stably_is_computed(found, verdict):
    (said,) = verdicts.sentences(levels(), pairs(), found, [])
    assert f"is {verdict}:" in said
    assert f"variance of {0.4 if verdict == 'false' else 0.1:.2g} over steps and seeds with LRP" in said


def test_better_than_random_is_said_by_regime_and_size():
    text = verdicts.better_than_markdown(
        {
            ("all", "after"): pairs((0.8, "random", "lrp", -0.2, 0.01), (0.5, "lrp", "random", 0.2, 0.06)),
            ("few", "after"): pairs((0.8, "lrp", "random", -0.2, 0.01)),
        },
        "random",
    )
    assert "| all | after | lrp | none |" in text
    assert "| few | after | none | – |" in text
