"""Strategies of a class: a mixture fitted to the shares of its concepts."""

import numpy as np
import pytest

from stages.attribution.strategies import DIMENSIONS, find


@pytest.fixture
def vectors():
    """Two ways to the class, 60 and 40 images that rely on different concepts, and two images that rely on neither."""
    rng = np.random.default_rng(0)
    shares = rng.normal(0.02, 0.002, (102, 50))
    shares[:60, :5] += 0.05
    shares[60:100, 5:10] += 0.05
    shares[100, 20] += 0.4
    shares[101, 30] -= 0.4
    return shares


def test_images_that_rely_on_the_same_concepts_are_one_strategy(vectors):
    found = find(vectors[:100], 4)
    assert found.strategy.tolist() == [0] * 60 + [1] * 40
    assert set(found.typical(1)) == set(range(60, 100))


def test_outliers_are_what_no_strategy_explains(vectors):
    assert set(find(vectors, 2).outliers()[:2]) == {100, 101}


def test_one_way_is_one_strategy():
    assert set(find(np.random.default_rng(1).normal(0.02, 0.01, (200, 30)), 5).strategy) == {0}


def test_typical_images_are_near_the_middle(vectors):
    found = find(vectors[:60], 1)
    order = found.typical(0)
    away = np.linalg.norm(vectors[:60] - vectors[:60].mean(0), axis=1)
    assert away[order[:15]].mean() < away[order[-15:]].mean()
    # The squared distances to one Gaussian with the data's covariance sum to about N times the dimensions.
    assert (found.distance**2).sum() == pytest.approx(60 * min(DIMENSIONS, 6), rel=0.1)


@pytest.mark.parametrize("vectors", [np.ones((1, 4)), np.ones((30, 4))])
def test_too_little_to_tell_strategies_is_refused(vectors):
    with pytest.raises(ValueError, match="too few for strategies"):
        find(vectors, 3)


def test_few_images_have_few_strategies(vectors):
    assert set(find(vectors[[0, 1, 60, 61, 62]], 4).strategy) == {0}
