"""Which criterion keeps more at equal size, and how sure that is.

A chain of pruning steps stands at few sizes, and two chains seldom at the same. Between two steps a metric is
interpolated linearly, image by image: the result is the expected metric of a network drawn from the two steps with the
odds of the interpolation. So paired tests over images work at any size.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

GRID = 101  # sizes at which the area under a curve is summed
METRICS = ("accuracy", "balanced_accuracy")
LEVELS = ["axis", "share", "metric", "criterion", "mean", "low", "high", "difference"]
PAIRS = ["axis", "share", "metric", "criterion", "other", "difference", "low", "high", "p", "p_holm"]


@dataclass(frozen=True)
class Chain:
    """One criterion and seed: which images are right at each step, and what is left of the unpruned network.

    Parameters
    ----------
    correct : bool array, (steps + 1) x N
        Row 0 is the unpruned network; images in the same order in every chain.
    left : dict of float arrays, steps + 1
        By axis (filters, params, macs, latency): share of the unpruned network.
    """

    correct: np.ndarray
    left: dict[str, np.ndarray]


def mixture(left: np.ndarray, share: float) -> np.ndarray | None:
    """Return the weights of the steps (float, steps + 1; sum 1) where a chain first has `share` left; None: never.

    Parameters
    ----------
    left : float array, steps + 1
        Share that is left at each step; it need not fall at every step (a measured time may rise).
    """
    reached = np.flatnonzero(left <= share + 1e-9)
    if not reached.size:
        return None
    step = reached[0]
    weights = np.zeros(len(left))
    if step == 0:
        weights[0] = 1
    else:
        weights[step] = (left[step - 1] - share) / (left[step - 1] - left[step])
        weights[step - 1] = 1 - weights[step]
    return weights.clip(0, 1)


def at_macs(rows: pd.DataFrame, macs: float, phase: str, metric: str) -> dict[str, float]:
    """Return a metric of each criterion's chain where it has so many MACs, interpolated; NaN: it never has.

    Parameters
    ----------
    rows : DataFrame
        Of metrics/pruning.csv or few_shot.csv, of one seed.
    phase : {"pruned", "finetuned"}
    """
    whole, found = rows[rows["phase"] == "baseline"].head(1), {}
    for criterion, chain in rows[rows["phase"] == phase].groupby("criterion", sort=False):
        steps = pd.concat([whole, chain.sort_values("step")])
        sizes = steps["macs"].to_numpy(float)
        weights = mixture(sizes, macs) if macs <= sizes[0] else None
        found[criterion] = np.nan if weights is None else weights @ steps[metric]
    return found


def image_weights(labels: np.ndarray, metric: str) -> np.ndarray:
    """Return what each image counts (float, N; sum 1): alike for accuracy, each class alike for balanced accuracy."""
    if metric == "accuracy":
        return np.full(len(labels), 1 / len(labels))
    counts = np.bincount(labels)
    return 1 / (np.count_nonzero(counts) * counts[labels])


def seeds_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of a mean over seeds by Student's t; NaN for one seed."""
    from scipy.stats import t

    if len(values) < 2:
        return np.nan, np.nan
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return values.mean() - half, values.mean() + half


def curves(chains: dict[tuple[str, int], Chain], labels: np.ndarray, axis: str, shares: np.ndarray) -> pd.DataFrame:
    """Return every chain's metrics at every share: criterion, seed, metric, share, value (NaN: never that small)."""
    rows = []
    for (criterion, seed), chain in chains.items():
        mixtures = [mixture(chain.left[axis], share) for share in shares]
        for metric in METRICS:
            steps = chain.correct @ image_weights(labels, metric)
            values = [np.nan if weights is None else float(weights @ steps) for weights in mixtures]
            keys = {"criterion": criterion, "seed": seed, "metric": metric}
            rows += [keys | {"share": share, "value": value} for share, value in zip(shares, values, strict=True)]
    return pd.DataFrame(rows)


def levels(chains: dict[tuple[str, int], Chain], labels: np.ndarray, axis: str, shares: list[float]) -> pd.DataFrame:
    """Return each criterion's metrics at equal size, and the difference to the unpruned network.

    Returns
    -------
    DataFrame
        axis, share, metric, criterion, mean and 95 % interval (low, high) over seeds, difference. Criteria of which a
        seed never gets that small are left out.
    """
    table = curves(chains, labels, axis, np.array([1.0, *shares]))
    values = table.pivot(index=["metric", "criterion", "seed"], columns="share", values="value")
    values = values.reindex(table["criterion"].unique(), level="criterion")  # which pivot has sorted
    rows = []
    for share in shares:
        for (metric, criterion), group in values.groupby(["metric", "criterion"], sort=False):
            if group[share].notna().all():
                rows.append(
                    {"axis": axis, "share": share, "metric": metric, "criterion": criterion}
                    | _over_seeds(group[share].to_numpy())
                    | {"difference": (group[share] - group[1.0]).mean()}
                )
    return pd.DataFrame(rows, columns=LEVELS)


def areas(chains: dict[tuple[str, int], Chain], labels: np.ndarray, axis: str) -> pd.DataFrame:
    """Return the mean of each criterion's metrics over sizes, from all to the least that every chain reaches.

    Returns
    -------
    DataFrame
        axis, least (share), metric, criterion, mean and 95 % interval (low, high) over seeds, difference to the
        unpruned network.
    """
    least = max(chain.left[axis].min() for chain in chains.values())
    table = curves(chains, labels, axis, np.linspace(least, 1, GRID))
    rows = []
    for (metric, criterion), group in table.groupby(["metric", "criterion"], sort=False):
        area = group.groupby("seed").apply(
            lambda one: np.trapezoid(one["value"], dx=1 / (GRID - 1)), include_groups=False
        )
        keys = {"axis": axis, "least": least, "metric": metric, "criterion": criterion}
        unpruned = group.loc[group["share"] == 1, "value"].mean()
        rows.append(keys | _over_seeds(area) | {"difference": area.mean() - unpruned})
    return pd.DataFrame(rows)


def pairs(
    chains: dict[tuple[str, int], Chain], labels: np.ndarray, axis: str, shares: list[float], resamples: int
) -> pd.DataFrame:
    """Return the differences between criteria at equal size.

    Returns
    -------
    DataFrame
        axis, share, metric, criterion, other, difference (mean over seeds), its 95 % interval (low, high) by a
        bootstrap over seeds and over the images of each class, `p` of a paired permutation test over images (two-sided;
        it takes the trained networks as given) and `p_holm`, corrected for all pairs and shares of the axis and metric
        (Holm, 1979).
    """
    seeds = sorted({seed for _, seed in chains})
    criteria = list(dict.fromkeys(criterion for criterion, _ in chains))
    keys, differences = [], []
    for share in shares:
        right = {}
        for name in criteria:
            mixtures = [mixture(chains[name, seed].left[axis], share) for seed in seeds]
            if all(weights is not None for weights in mixtures):
                right[name] = np.stack(
                    [weights @ chains[name, seed].correct for weights, seed in zip(mixtures, seeds, strict=True)]
                )
        for one, other in combinations(right, 2):
            keys.append({"axis": axis, "share": share, "criterion": one, "other": other})
            differences.append(right[one] - right[other])
    if not keys:
        return pd.DataFrame(columns=PAIRS)
    tables = []
    for metric in METRICS:
        weighted = np.stack(differences, axis=-1) * image_weights(labels, metric)[:, None]  # seeds x N x tests
        low, high = bootstrap_interval(weighted, labels, resamples)
        p = permutation_test(weighted.mean(axis=0), resamples)
        columns = {"metric": metric, "difference": weighted.sum(axis=1).mean(axis=0), "low": low, "high": high}
        tables.append(pd.DataFrame(keys).assign(**columns, p=p, p_holm=holm(p)))
    return pd.concat(tables, ignore_index=True)[PAIRS]


def bootstrap_interval(values: np.ndarray, labels: np.ndarray, resamples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % percentile intervals of sums over images, averaged over seeds.

    Seeds are drawn with replacement, and so are the images of each class, which keep their number.

    Parameters
    ----------
    values : float array, seeds x N x tests

    Returns
    -------
    two float arrays, tests
    """
    generator = np.random.default_rng(0)
    seeds = len(values)
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels)
    drawn = []
    for count in _blocks(resamples):
        of_seeds = generator.multinomial(seeds, np.full(seeds, 1 / seeds), count) / seeds
        of_images = np.empty((count, len(labels)))
        of_images[:, order] = np.hstack(
            [generator.multinomial(size, np.full(size, 1 / size), count) for size in sizes if size]
        )
        drawn.append(sum(of_seeds[:, [seed]] * (of_images @ values[seed]) for seed in range(seeds)))
    return tuple(np.quantile(np.concatenate(drawn), [0.025, 0.975], axis=0))


def permutation_test(values: np.ndarray, resamples: int) -> np.ndarray:
    """Return two-sided p-values that sums over images are zero, by flipping the sign of each image at random.

    Parameters
    ----------
    values : float array, N x tests
        Differences of paired observations.

    Returns
    -------
    float array, tests
        (1 + how many of the resampled sums are at least as far from zero) / (1 + resamples); Phipson & Smyth (2010).
    """
    generator = np.random.default_rng(0)
    observed = np.abs(values.sum(axis=0))
    beyond = np.zeros(values.shape[1])
    for count in _blocks(resamples):
        signs = 1.0 - 2.0 * generator.integers(0, 2, (count, len(values)))
        beyond += (np.abs(signs @ values) >= observed - 1e-12).sum(axis=0)
    return (1 + beyond) / (1 + resamples)


def holm(p: np.ndarray) -> np.ndarray:
    """Return p-values corrected for their number, step-down (Holm, 1979)."""
    order = np.argsort(p)
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return corrected


def stability(table: pd.DataFrame, resamples: int) -> pd.DataFrame:
    """Return how steadily fine-tuning recovers accuracy, for each pair of criteria.

    Recovery is the accuracy after fine-tuning less that right after the cut, a value for each step and seed.

    Parameters
    ----------
    table : DataFrame
        criterion, seed, step, phase, accuracy: the study's metrics.

    Returns
    -------
    DataFrame
        criterion, other, their variances over the steps and seeds that both have (three or more), and the two-sided
        `p` of a permutation test that swaps the two, each centred at its mean, step by step and seed by seed; `p_holm`
        corrects for the number of pairs.
    """
    from scipy.stats import permutation_test as permute

    wide = table[table["step"] > 0].pivot(index=["seed", "step", "criterion"], columns="phase", values="accuracy")
    recovery = (wide["finetuned"] - wide["pruned"]).unstack()
    recovery = recovery[[name for name in table["criterion"].unique() if name in recovery]]
    rows = []
    for one, other in combinations(recovery, 2):
        both = recovery[[one, other]].dropna()
        if len(both) < 3:
            continue
        sides = [both[name] - both[name].mean() for name in (one, other)]
        found = permute(
            sides, lambda x, y, axis: x.var(axis=axis, ddof=1) - y.var(axis=axis, ddof=1), permutation_type="samples",
            vectorized=True, n_resamples=resamples, rng=0,
        )  # fmt: skip
        variances = {"variance": sides[0].var(), "variance_other": sides[1].var()}
        rows.append({"criterion": one, "other": other} | variances | {"p": found.pvalue})
    result = pd.DataFrame(rows, columns=["criterion", "other", "variance", "variance_other", "p"])
    return result.assign(p_holm=holm(result["p"].to_numpy()))


def _over_seeds(values: np.ndarray) -> dict[str, float]:
    low, high = seeds_interval(values)
    return {"mean": float(values.mean()), "low": low, "high": high}


def _blocks(resamples: int, size: int = 500):
    """Yield the sizes of blocks of at most `size` that make up `resamples`: a block is in memory at a time."""
    for start in range(0, resamples, size):
        yield min(size, resamples - start)
