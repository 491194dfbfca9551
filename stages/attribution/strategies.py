"""Strategies of a class: groups of its images whose relevance goes through the same concepts.

After PCX, prototypical concept-based explanations (Dreyer et al., 2024, arXiv 2311.16681): the shares of relevance of a
layer's concepts are a vector an image, a Gaussian mixture is fitted to those of a class, its components are the
strategies, and images of low likelihood are outliers. Images being fewer than concepts, as a rule, the mixture is
fitted to the first principal components of the vectors; the number of strategies is that with the lowest Bayesian
information criterion (Schwarz, 1978).
"""

from dataclasses import dataclass

import numpy as np

DIMENSIONS = 8  # principal components, at most
IMAGES_EACH = 10  # images for a dimension, and for a strategy, at least
SPREAD = 0.01  # of the mean variance is added to each component's own


@dataclass(frozen=True)
class Strategies:
    """The strategies of a class, the most frequent first.

    Attributes
    ----------
    strategy : int array, N
        Of each image, from 0.
    distance : array, N
        Mahalanobis distance of each image to the middle of its strategy: the most typical have the smallest.
    log_likelihood : array, N
        Of each image under the mixture, in nats; the least are outliers.
    """

    strategy: np.ndarray
    distance: np.ndarray
    log_likelihood: np.ndarray

    def typical(self, number: int) -> np.ndarray:
        """Return the images of a strategy, the most typical first."""
        members = np.flatnonzero(self.strategy == number)
        return members[self.distance[members].argsort(kind="stable")]

    def outliers(self) -> np.ndarray:
        """Return all images, the least likely first."""
        return self.log_likelihood.argsort(kind="stable")


def find(vectors: np.ndarray, most: int, seed: int = 0) -> Strategies:
    """Find the strategies of a class.

    Parameters
    ----------
    vectors : array, N x C
        Share of the relevance of each concept in each image of the class.
    most : int
        How many strategies there may be.

    Raises
    ------
    ValueError
        There are fewer than two images, or all are alike.
    """
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    if len(vectors) < 2 or not np.ptp(vectors, axis=0).any():
        raise ValueError(f"{len(vectors)} images that differ are too few for strategies")
    dimensions = min(DIMENSIONS, max(1, len(vectors) // IMAGES_EACH), vectors.shape[1])
    points = PCA(dimensions, random_state=seed).fit_transform(vectors.astype(np.float64))
    points /= np.sqrt(points.var(axis=0).mean())
    fitted = [
        GaussianMixture(count, reg_covar=SPREAD, n_init=3, random_state=seed).fit(points)
        for count in range(1, min(most, max(1, len(vectors) // IMAGES_EACH)) + 1)
    ]
    best = min(fitted, key=lambda mixture: mixture.bic(points))
    component = best.predict(points)
    away = points - best.means_[component]
    distance = np.sqrt(np.einsum("nd,nde,ne->n", away, best.precisions_[component], away))
    used, counts = np.unique(component, return_counts=True)
    place = np.empty(best.n_components, dtype=int)
    place[used[(-counts).argsort(kind="stable")]] = np.arange(len(used))
    return Strategies(place[component], distance, best.score_samples(points))
