import pandas as pd
import pytest

from stages.reporting import claims


@pytest.fixture
def layers():
    """Six layers of ten concepts, of which one is not reported, for two seeds."""
    rows = []
    for seed, more in ((0, 0.0), (1, 1.0)):
        for number, effective in enumerate([9, 7, 6, 5, 2, None]):
            row = {"seed": seed, "layer": f"l{number}", "concepts": 10, "lost": 1e-6 * (number + seed)}
            row |= {"reported": effective is not None, "effective_concepts": effective and effective + more}
            inside = 0.4 + 0.1 * seed if number in (1, 2) else None
            row |= {"inside": inside, "inside_low": inside and inside - 0.15, "inside_high": inside and inside + 0.01}
            rows.append(row | {"area": 0.3 if number < 3 else None})
    return pd.DataFrame(rows)


def graph(*shares):
    return [{"above": ["l3", 1], "below": ["l1", n], "share": share} for n, share in enumerate(shares)]


def test_spread_is_compared_between_what_is_reported_of_the_outer_thirds_of_the_layers(layers):
    said = claims.uniform(layers)
    assert "over 85% of the concepts of the lower third" in said  # 0.9 and 0.7, 1.0 and 0.8
    assert "over 25% of the upper third's" in said  # 0.2, 0.3
    assert "of those reported)" in said and "a difference of 60 points (60 to 60)" in said
    one = claims.uniform(layers[layers["seed"] == 0])
    assert "over 80%" in one and "over 20%" in one and one.endswith("points. In this one network it holds.")
    only_above = layers.assign(reported=layers["reported"] & ((layers["seed"] == 0) | (layers["layer"] > "l1")))
    assert "of those reported of 1 of 2 networks)" in claims.uniform(only_above)
    assert claims.uniform(only_above[only_above["seed"] == 1]) == ""


def test_no_layer_is_left_out_of_those_that_are_all_reported(layers):
    assert "of the 10 layers reported (each baseline's counted), par" in claims.decisive(layers[layers["reported"]])


@pytest.mark.parametrize(
    ("differences", "said"),
    [
        ([0.2, 0.3, 0.25], "It holds."),
        ([-0.2, -0.3, -0.25], "It does not hold."),
        ([0.2, -0.3, 0.25], "do not show"),
        ([0.2, 0.3, -0.01], "do not show"),
        ([-0.1], "In this one network it does not hold."),
    ],
)
def test_a_claim_holds_where_the_interval_over_seeds_has_one_sign(differences, said):
    assert said in claims.verdict(differences)


def test_sub_concepts_bring_more_than_as_many_others_would(layers):
    graphs = {0: {"cat": graph(0.5, 0.3), "dog": graph(0.4)}, 1: {"cat": graph(0.6, 0.4)}}
    said = claims.decomposed(layers, graphs)
    assert "bring 80% of a concept's relevance" in said  # (0.8 + 0.4) / 2, and 1
    assert "mean over 3 concepts" in said
    assert "as many would bring 17.5%" in said  # (0.2 + 0.1) / 2, and 0.2
    assert claims.decomposed(layers, {0: {"cat": []}}) == ""
    assert claims.decomposed(layers, graphs | {2: {"cat": []}}) == said  # a seed without edges tells nothing


def test_the_classes_that_bear_a_loss_are_compared_where_both_parts_cost_it():
    harm = pd.DataFrame(
        [["lrp", "lower third", 0, 4.0], ["lrp", "upper third", 0, 1.5], ["lrp", "lower third", 1, 9.0]]
        + [["weight", "lower third", 0, 2.0]],
        columns=["criterion", "part", "seed", "classes"],
    )
    assert claims.lower_hurt_several(harm, 2) == []
    (said,) = claims.lower_hurt_several(harm, 10)
    assert "(by lrp): effectively 4.0 classes bear the loss where the lower third's filters go, 1.5 where" in said
    assert said.endswith("a difference of 2.5. In this one network it holds.")


def test_the_region_is_told_where_a_layer_could(layers):
    said = claims.within(layers)
    assert "45% of it (-19 to 109)" in said  # 0.4 and 0.5; Student's t of two
    assert "region is 30% of the image" in said
    assert "more than its area in 2 of 4 layers" in said
    assert "less in 0. Whether it holds, these networks do not show" in said
    assert claims.within(layers.drop(columns="inside")) == ""


def test_no_layer_decides_by_relevance(layers):
    said = claims.sentences(layers, {0: {"cat": graph(0.5)}})
    assert len(said) == 4
    counted = "at each of the 10 layers reported (each baseline's counted; 2 are left out), parallel branches together"
    assert f"{counted} (at most 5.0e-06 is" in said[0]


def test_upper_layers_decide_where_less_of_them_can_go():
    rows = [("lower third", 0, 0.6), ("lower third", 1, 0.8), ("upper third", 0, 0.3), ("upper third", 1, 0.3)]
    harm = pd.DataFrame(rows, columns=["part", "seed", "rate"]).assign(criterion="lrp")
    (said,) = claims.upper_decide(harm, [0, 1])
    assert "(by lrp): so much is lost where 70% of the lower third's filters go, or 30% of the upper third's;" in said
    assert "a difference of 40 points (-87 to 167). Whether it holds" in said
    (said,) = claims.upper_decide(harm[(harm["seed"] == 0) & (harm["part"] == "upper third")], [0])
    assert "where 100% of the lower" in said and "(1 of 2 thirds never lost so much: all their filters" in said
    assert said.endswith("a difference of 70 points. In this one network it holds.")
    (said,) = claims.upper_decide(harm, [0, 1, 2])
    assert "where 80% of the lower third's filters go, or 53% of the upper third's (2 of 6 thirds never" in said
