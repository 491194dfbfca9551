import numpy as np
import pandas as pd
import pytest
from scipy import stats

from stages.reporting import comparison, metrics

RESAMPLES = 4000


@pytest.fixture
def generator():
    return np.random.default_rng(3)


@pytest.fixture
def labels(generator):
    return generator.permutation(np.repeat([0, 1, 2], [100, 30, 20]))


def chain(generator, accuracies, left):
    """Return a chain whose steps are right on about so many images."""
    return comparison.Chain(
        generator.random((len(left), 150)) < np.array(accuracies)[:, None], {"macs": np.array(left)}
    )


@pytest.fixture
def chains(generator):
    whole = {seed: generator.random(150) < 0.9 for seed in (0, 1)}
    made = {}
    for criterion, accuracies in {"lrp": [0.9, 0.8, 0.7], "random": [0.9, 0.6, 0.3]}.items():
        for seed in (0, 1):
            made[criterion, seed] = chain(generator, accuracies, [1.0, 0.7, 0.4 + 0.1 * seed])
            made[criterion, seed].correct[0] = whole[seed]
    return made


def value(table, **keys):
    (found,) = table.query(" and ".join(f"{name} == {key!r}" for name, key in keys.items())).to_dict("records")
    return found


def test_between_two_steps_a_chain_is_a_mixture_of_them():
    assert comparison.mixture(np.array([1.0, 0.7, 0.4]), 0.5) == pytest.approx([0, 1 / 3, 2 / 3])
    assert comparison.mixture(np.array([1.0, 0.7, 0.4]), 0.7) == pytest.approx([0, 1, 0])
    assert comparison.mixture(np.array([1.0, 0.7, 0.4]), 1.0) == pytest.approx([1, 0, 0])
    assert comparison.mixture(np.array([1.0, 0.7, 0.4]), 0.3) is None
    rising = np.array([1.0, 0.6, 0.8, 0.3])  # a time may rise: what counts is the first step that is fast enough
    assert comparison.mixture(rising, 0.7) == pytest.approx([0.25, 0.75, 0, 0])
    assert comparison.mixture(rising, 0.5) == pytest.approx([0, 0, 0.4, 0.6])


def test_the_weights_of_images_make_the_metrics_of_the_study(labels, generator):
    predicted = generator.integers(0, 3, len(labels))
    right = predicted == labels
    assert right @ comparison.image_weights(labels, "accuracy") == pytest.approx(right.mean())
    expected = metrics.balanced_accuracy(labels, predicted, 3)
    assert right @ comparison.image_weights(labels, "balanced_accuracy") == pytest.approx(expected)


def test_levels_are_interpolated_between_steps(chains, labels):
    table = comparison.levels(chains, labels, "macs", [0.6, 0.45])
    found = value(table, metric="accuracy", criterion="lrp", share=0.6)
    each = [np.interp(0.6, one.left["macs"][::-1], one.correct.mean(axis=1)[::-1]) for one in chains_of(chains, "lrp")]
    assert found["mean"] == pytest.approx(np.mean(each))
    interval = stats.t.interval(0.95, 1, loc=np.mean(each), scale=stats.sem(each))
    assert (found["low"], found["high"]) == pytest.approx(interval)
    unpruned = np.mean([one.correct[0].mean() for one in chains_of(chains, "lrp")])
    assert found["difference"] == pytest.approx(np.mean(each) - unpruned)
    assert 0.45 not in set(table["share"])  # seed 1 ends at 0.5
    turned = comparison.levels(dict(reversed(chains.items())), labels, "macs", [0.6])
    assert turned["criterion"].unique().tolist() == ["random", "lrp"]  # as the study names them


def chains_of(chains, criterion):
    return [one for (name, _), one in chains.items() if name == criterion]


def test_an_area_is_the_mean_over_sizes_that_every_chain_reaches(chains, labels):
    table = comparison.areas(chains, labels, "macs")
    found = value(table, metric="accuracy", criterion="random")
    assert found["least"] == 0.5
    expected = []
    for one in chains_of(chains, "random"):
        left, right = one.left["macs"][::-1], one.correct.mean(axis=1)[::-1]
        sizes = np.array([0.5, 0.7, 1.0])
        expected.append(np.trapezoid(np.interp(sizes, left, right), sizes) / 0.5)
    assert found["mean"] == pytest.approx(np.mean(expected), abs=1e-4)
    unpruned = np.mean([one.correct[0].mean() for one in chains_of(chains, "random")])
    assert found["difference"] == pytest.approx(np.mean(expected) - unpruned, abs=1e-4)


def test_a_pair_has_the_difference_of_its_levels(chains, labels):
    levels = comparison.levels(chains, labels, "macs", [0.6])
    found = comparison.pairs(chains, labels, "macs", [0.6, 0.45], RESAMPLES)
    assert len(found) == 2  # accuracy and balanced accuracy, at the one size that all chains reach
    for metric in comparison.METRICS:
        pair = value(found, metric=metric, criterion="lrp", other="random")
        sides = [value(levels, metric=metric, criterion=name)["mean"] for name in ("lrp", "random")]
        assert pair["difference"] == pytest.approx(sides[0] - sides[1])
        assert pair["low"] < pair["difference"] < pair["high"]
        assert pair["p"] < 0.01 and pair["p_holm"] >= pair["p"]


def test_sizes_that_none_reaches_give_an_empty_table_with_the_same_columns(chains, labels):
    for made in (
        lambda share: comparison.pairs(chains, labels, "macs", [share], RESAMPLES),
        lambda share: comparison.levels(chains, labels, "macs", [share]),
    ):
        assert made(0.1).empty and not made(0.6).empty
        assert list(made(0.1)) == list(made(0.6))


def test_p_values_are_those_of_scipy(generator):
    values = generator.normal([0, 0.1, 0.2, 0.3], 1, (80, 4))
    found = comparison.permutation_test(values, RESAMPLES)
    for column, p in enumerate(found):
        peer = stats.permutation_test(
            (values[:, column], np.zeros(80)), lambda x, y: np.sum(x - y), permutation_type="samples", rng=1,
            n_resamples=RESAMPLES,
        )  # fmt: skip
        assert p == pytest.approx(peer.pvalue, abs=0.03)
    assert found[3] < 0.05 < found[0]


def test_p_values_of_equal_criteria_are_uniform(generator):
    p = comparison.permutation_test(generator.normal(size=(60, 400)), 999)
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_intervals_are_those_of_scipy(generator):
    values = generator.normal(0.2, 1, (1, 80, 1)) / 80
    low, high = comparison.bootstrap_interval(values, np.zeros(80, int), RESAMPLES)
    peer = stats.bootstrap((values[0, :, 0],), np.sum, method="percentile", n_resamples=RESAMPLES, rng=1)
    assert (low[0], high[0]) == pytest.approx(peer.confidence_interval, abs=0.02)


def test_intervals_keep_the_size_of_each_class_and_span_the_seeds(labels):
    of_classes = np.array([0.1, 0.5, 0.9])[labels][None, :, None] / 150
    low, high = comparison.bootstrap_interval(of_classes, labels, RESAMPLES)
    assert [*low, *high] == pytest.approx([of_classes.sum()] * 2)
    of_seeds = np.full((3, 150, 1), 1 / 150) * np.array([1, 2, 3])[:, None, None]
    low, high = comparison.bootstrap_interval(of_seeds, labels, RESAMPLES)
    assert (low[0], high[0]) == pytest.approx((1, 3), abs=0.34)


def test_holm_corrects_step_by_step():
    assert comparison.holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert comparison.holm(np.array([0.5, 0.6])) == pytest.approx([1, 1])


def recoveries(generator, spread):
    rows = []
    for criterion, scale in spread.items():
        for seed in range(3):
            for step in range(1, 6):
                pruned, finetuned = 0.5, 0.7 + scale * generator.normal()
                for phase, accuracy in (("pruned", pruned), ("finetuned", finetuned)):
                    rows.append([criterion, seed, step, phase, accuracy])
    return pd.DataFrame(rows, columns=["criterion", "seed", "step", "phase", "accuracy"])


def test_recoveries_are_compared_where_both_chains_have_steps(generator):
    table = recoveries(generator, {"lrp": 0.01, "weight": 0.05, "taylor": 0.05})
    shorter = table.query("not (criterion == 'weight' and (seed == 2 or step > 2))")
    found = comparison.stability(shorter, RESAMPLES)
    common = shorter.query("criterion == 'lrp' and phase == 'finetuned' and seed < 2 and step <= 2")["accuracy"]
    assert value(found, criterion="lrp", other="weight")["variance"] == pytest.approx(common.var())
    assert value(found, criterion="lrp", other="taylor")["p"] == pytest.approx(
        value(comparison.stability(table, RESAMPLES), criterion="lrp", other="taylor")["p"]
    )
    alone = table.query("not (criterion == 'weight' and (seed > 0 or step > 2))")
    assert set(comparison.stability(alone, RESAMPLES)["other"]) == {"taylor"}


def test_a_steadier_recovery_is_found_and_an_equal_one_is_not(generator):
    table = recoveries(generator, {"lrp": 0.01, "weight": 0.05, "taylor": 0.05})
    found = comparison.stability(table, RESAMPLES)
    assert value(found, criterion="lrp", other="weight")["p_holm"] < 0.01
    assert value(found, criterion="weight", other="taylor")["p_holm"] > 0.05
    of_lrp = table.query("criterion == 'lrp' and phase == 'finetuned'")["accuracy"]
    assert value(found, criterion="lrp", other="weight")["variance"] == pytest.approx(of_lrp.var())
