"""The two-dimensional problems of the toy study (Yeom et al., 2021, arXiv 1912.08881, section 4.1)."""

import numpy as np

CLASSES = {"moons": 2, "circles": 2, "multi": 4}


def draw(problem: str, per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points (float32, N x 2) and labels (int64, N), `per_class` points of each class.

    `moons` and `circles` are scikit-learn's with noise 0.1 (circles: factor 0.3). `multi` are four spiral arms: the
    radius runs from 0 to 1, the angle from 4 j to 4 (j + 1) radians for class j, plus normal noise of 0.2.
    """
    from sklearn.datasets import make_circles, make_moons

    if problem == "multi":
        return _spirals(per_class, seed)
    count = (per_class, per_class)
    if problem == "moons":
        points, labels = make_moons(count, noise=0.1, random_state=seed)
    else:
        points, labels = make_circles(count, noise=0.1, factor=0.3, random_state=seed)
    return points.astype(np.float32), labels.astype(np.int64)


def _spirals(per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(CLASSES["multi"]), per_class)
    along = np.tile(np.linspace(0, 1, per_class), CLASSES["multi"])
    if per_class == 1:
        along += rng.uniform(size=len(along))  # not all at the centre, where no class is
    angle = 4 * (labels + along) + 0.2 * rng.normal(size=len(labels))
    points = along[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    return points.astype(np.float32), labels
