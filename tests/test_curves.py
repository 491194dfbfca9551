import pandas as pd
import pytest

from stages import curves, one_shot
from stages.errors import InputError
from stages.params.beside import Setting
from stages.reporting import plots


def curve(variant, seed, accuracies, unit="macs"):
    rates = [step / len(accuracies) for step in range(len(accuracies))]
    columns = {"variant": variant, "unit": unit, "seed": seed, "rate": rates, "accuracy": accuracies}
    return pd.DataFrame(columns)


def test_a_pr_is_the_mean_and_top_pr_the_last_rate_before_the_first_fall():
    summary = curves.by_seed(curve("lrp", 0, [0.8, 0.78, 0.5, 0.79]), kept=0.95)
    assert summary["a_pr"].item() == pytest.approx(0.7175)
    assert summary["top_pr"].item() == 0.25


def test_variants_are_listed_by_mean_over_seeds_at_equal_macs():
    some = [curve(name, seed, [0.8, low + 0.1 * seed]) for name, low in (("a", 0.2), ("b", 0.4)) for seed in (0, 1)]
    table = curves.in_words(curves.by_seed(pd.concat(some), kept=0.5))
    assert table.iloc[:, 0].tolist() == ["b", "a"]
    assert table["A_PR, equal MACs"].tolist() == ["62.5 ± 3.5", "52.5 ± 3.5"]
    assert table["Top-PR, equal MACs"].tolist() == ["50.0 ± 0.0", "0.0 ± 0.0"]


def test_more_variants_than_colours_are_drawn(tmp_path):
    rows = [curve(f"v{number}", 0, [0.8, 0.1], unit) for number in range(25) for unit in ("filters", "macs")]
    plots.save(curves.figure(pd.concat(rows)), tmp_path / "a.svg")
    assert all(f">v{number}</text>" in (tmp_path / "a.svg").read_text() for number in range(25))


def test_a_setting_changes_what_it_names_for_lrp_alone(params):
    given = Setting(reduction="abs-pixel", normalisation="l1", coupled="max", composite="z", amount="logit")
    changed = params.model_copy(
        update={"curves": params.curves.model_copy(update={"settings": {"other": given, "default": Setting()}})}
    )
    criterion, scores = one_shot._variant(changed, None, "other")
    assert criterion == "lrp"
    assert [getattr(scores, name)["lrp"] for name in ("reduction", "normalisation", "coupled")] == [
        "abs-pixel", "l1", "max"
    ]  # fmt: skip
    assert (scores.lrp.composite, scores.lrp.amount, scores.lrp.start) == ("z", "logit", params.prune.scores.lrp.start)
    assert scores.coupled["taylor"] == params.prune.scores.coupled["taylor"]
    assert one_shot._variant(changed, None, "default") == ("lrp", params.prune.scores)
    with pytest.raises(InputError, match="'none' is none of curves.settings: other, default"):
        one_shot._variant(changed, None, "none")
