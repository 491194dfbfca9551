"""How far heat maps have moved: similarities of two maps of one image."""

import numpy as np

SIGMA = 1.5  # pixels: the Gaussian window of Wang et al. (2004)


def cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the cosine of the angle between maps (N x H x W): float, N; NaN where a map is zero everywhere."""
    one, other = (maps.reshape(len(maps), -1).astype(float) for maps in (one, other))
    with np.errstate(invalid="ignore"):
        return (one * other).sum(1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))


def rank_correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation of maps (N x H x W): float, N; NaN where a map is constant."""
    from scipy.stats import rankdata

    ranks = [rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (one, other)]
    return cosine(*(each - each.mean(axis=1, keepdims=True) for each in ranks))


def structural_similarity(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the SSIM of maps (N x H x W), each scaled to a largest magnitude of one: float, N.

    Mean over the pixels of equation 13 of Wang et al. (2004), with a Gaussian window of 1.5 pixels, K1 0.01, K2 0.03
    and a range of 2 (from -1 to 1).
    """
    from scipy.ndimage import gaussian_filter

    def smooth(maps: np.ndarray) -> np.ndarray:
        return gaussian_filter(maps, (0, SIGMA, SIGMA), truncate=3.5)

    x, y = (_scaled(maps) for maps in (one, other))
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    mean_x, mean_y = smooth(x), smooth(y)
    var_x, var_y = smooth(x * x) - mean_x**2, smooth(y * y) - mean_y**2
    covariance = smooth(x * y) - mean_x * mean_y
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return (above / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean(axis=(1, 2))


def _scaled(maps: np.ndarray) -> np.ndarray:
    most = np.abs(maps).max(axis=(1, 2), keepdims=True).astype(float)
    return maps / np.where(most > 0, most, 1)
