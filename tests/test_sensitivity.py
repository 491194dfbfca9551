import pandas as pd
import pytest

from stages.layer_sensitivity import parts
from stages.sensitivity import at_like_harm, harm_in_words
from tests.conftest import in_process


def rows(part, seed, *recalls):
    columns = ["recall_a", "recall_b", "recall_c", "recall_d"]
    table = pd.DataFrame(recalls, columns=columns).assign(rate=[0.0, 0.25, 0.5][: len(recalls)])
    return table.assign(criterion="lrp", group=part, seed=seed, balanced_accuracy=table[columns].mean(axis=1))


def test_one_class_bears_a_loss_or_all_do():
    whole = [0.9, 0.8, 0.7, 1.0]
    lower = rows("lower third", 0, whole, [0.9, 0.8, 0.7, 0.95], [0.5, 0.4, 0.3, 0.6])
    upper = rows("upper third", 0, whole, [0.9, 0.8, 0.7, 0.2])
    gaining = rows("upper third", 1, whole, [1.0, 0.8, 0.1, 0.9])
    layer = rows("conv1", 0, whole, [0, 0, 0, 0])
    found = at_like_harm(pd.concat([lower, upper, gaining, layer])).set_index(["part", "seed"])
    assert found.loc[("lower third", 0)].to_dict() == {
        "criterion": "lrp", "rate": 0.5, "lost": pytest.approx(0.4), "hurt": 4, "classes": pytest.approx(4),
        **dict.fromkeys(["lost_a", "lost_b", "lost_c", "lost_d"], pytest.approx(0.4)),
    }  # fmt: skip
    assert found.loc[("upper third", 0), ["rate", "hurt", "classes"]].tolist() == [0.25, 1, pytest.approx(1)]
    assert found.loc[("upper third", 1), ["hurt", "classes"]].tolist() == [
        1, pytest.approx(1 / ((6 / 7) ** 2 + (1 / 7) ** 2)),
    ]  # fmt: skip
    words = harm_in_words(found.reset_index(), [0, 1])
    assert "| lrp | upper third | 25% | 0.175 | 1.0 | 1.2 | d -0.45, c -0.30, b +0.00, a +0.05 | 2 |" in words
    assert "**Upper layers decide** (by lrp): so much is lost where 75% of the lower third's" in words
    assert "**Lower layers hurt several classes, upper ones one** (by lrp): effectively 4.0 classes bear" in words


def test_to_name_the_largest_class_always_is_harm():
    whole, always_a = rows("lower third", 0, [0.8, 0.6, 0.6, 0.6]), [1.0, 0.0, 0.0, 0.0]
    table = pd.concat([whole, rows("lower third", 0, always_a).assign(rate=0.5)]).assign(accuracy=[0.75, 0.9])
    assert at_like_harm(table)["rate"].tolist() == [0.5]


def test_a_part_that_never_costs_so_much_is_not_told():
    found = at_like_harm(rows("lower third", 0, [0.9] * 4, [0.85] * 4))
    assert found.empty and "lower third |" not in harm_in_words(found, [0])


def test_the_parts_are_the_first_and_the_last_third():
    assert parts(list("abcdefgh")) == {"lower third": ["a", "b"], "upper third": ["g", "h"]}
    assert parts(["a"]) == {"lower third": ["a"], "upper third": ["a"]}


def test_where_it_is_not_asked_the_page_says_so(tmp_path):
    assert in_process("sensitivity", "--rows", "--folder", tmp_path / "made").returncode == 0
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["page.md"]
    assert (tmp_path / "made/page.md").read_text() == "Not asked: `sensitivity.criteria` in params.yaml is empty.\n"
