import numpy as np
import pytest

from stages.reporting import drift


@pytest.fixture
def maps():
    return np.random.default_rng(0).normal(size=(2, 3, 14, 14))


def test_a_map_is_like_itself_whatever_its_size_and_unlike_its_opposite(maps):
    one = maps[0]
    for measure in (drift.cosine, drift.rank_correlation, drift.structural_similarity):
        assert measure(one, 3 * one) == pytest.approx([1] * 3)
        assert (measure(one, maps[1]) < 0.5).all()
    assert drift.cosine(one, -one) == pytest.approx([-1] * 3)
    assert drift.rank_correlation(one, -one) == pytest.approx([-1] * 3)
    assert drift.rank_correlation(one, np.exp(one)) == pytest.approx([1] * 3)
    assert (drift.cosine(one, np.exp(one)) < 0.95).all()


def test_a_map_without_relevance_has_no_direction(maps):
    assert np.isnan(drift.cosine(maps[0], 0 * maps[0])).all()
    assert np.isfinite(drift.structural_similarity(maps[0], 0 * maps[0])).all()


def test_structural_similarity_is_that_of_wang_et_al(maps):
    """The same from the paper, window by window, mirrored at the edges."""
    x, y = (each / np.abs(each).max() for each in maps[:, 0])
    reach = np.arange(-5, 6)
    window = np.exp(-(reach[:, None] ** 2 + reach[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    x, y = (np.pad(each, 5, mode="symmetric") for each in (x, y))
    values = []
    for row in range(14):
        for column in range(14):
            p, q = (each[row : row + 11, column : column + 11] for each in (x, y))
            mean_p, mean_q = (window * p).sum(), (window * q).sum()
            var_p, var_q = (window * (p - mean_p) ** 2).sum(), (window * (q - mean_q) ** 2).sum()
            both = (window * (p - mean_p) * (q - mean_q)).sum()
            values.append(
                (2 * mean_p * mean_q + 0.0004) * (2 * both + 0.0036)
                / ((mean_p**2 + mean_q**2 + 0.0004) * (var_p + var_q + 0.0036))
            )  # fmt: skip
    assert drift.structural_similarity(maps[0], maps[1])[0] == pytest.approx(np.mean(values), rel=1e-6)
