"""What pruning does to single classes, subgroups and images: what a mean hides."""

import numpy as np
import pandas as pd

from stages.reporting.metrics import balanced_accuracy

MEASURES = ["recall", "precision", "f1", "specificity", "auroc"]  # of a class against the rest
Z = 1.959963984540054  # of a 95 % interval
QUANTILES = 4  # parts into which a subgroup of many numbers, such as age, is divided
DISTINCT = 8  # values of a number that need no dividing


def wilson(hits: np.ndarray, trials: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % score intervals of proportions (Wilson, 1927); NaN without trials."""
    with np.errstate(invalid="ignore", divide="ignore"):
        share = hits / trials
        centre = (share + Z**2 / (2 * trials)) / (1 + Z**2 / trials)
        half = Z / (1 + Z**2 / trials) * np.sqrt(share * (1 - share) / trials + Z**2 / (4 * trials**2))
    return centre - half, centre + half


def auroc_interval(auroc: np.ndarray, images: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % intervals of areas under ROC curves (Hanley & McNeil, 1982, equation 1), within 0 and 1.

    Of areas of 0 and 1, whose variance the equation does not know, there is none: NaN.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        both, ranked = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)  # Q1 and Q2 there
        variance = auroc * (1 - auroc) + (images - 1) * (both - auroc**2) + (others - 1) * (ranked - auroc**2)
        half = np.where((auroc > 0) & (auroc < 1), Z * np.sqrt(variance / (images * others)), np.nan)
    return np.clip(auroc - half, 0, 1), np.clip(auroc + half, 0, 1)


def f1_interval(hits: np.ndarray, relevant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % intervals of F1: that of the share J of hits, as 2 J / (1 + J), which F1 is.

    Parameters
    ----------
    relevant : int array
        Images that are of the class or were called so.
    """
    return tuple(2 * bound / (1 + bound) for bound in wilson(hits, relevant))


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return how many images of each class (row) went to each class (column): int, classes x classes."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def confusions(labels: np.ndarray, predicted: np.ndarray, names: list[str]) -> pd.DataFrame:
    """Return the entries of the confusion matrix that are not zero: label, predicted (names of classes), images."""
    matrix = confusion(labels, predicted, len(names))
    rows, columns = np.nonzero(matrix)
    return pd.DataFrame(
        {"label": np.array(names)[rows], "predicted": np.array(names)[columns], "images": matrix[rows, columns]}
    )


def by_class(labels: np.ndarray, probabilities: np.ndarray, names: list[str]) -> pd.DataFrame:
    """Return one row a class, each against the rest.

    Parameters
    ----------
    labels : int array, N
    probabilities : float array, N x classes

    Returns
    -------
    DataFrame
        class, images; recall, precision, f1, specificity, auroc: fractions, each followed by its 95 % interval
        (`recall_low`, `recall_high`, …), NaN where there is nothing to count.
    """
    from sklearn.metrics import roc_auc_score

    matrix = confusion(labels, probabilities.argmax(axis=1), len(names))
    hits, images, chosen = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    others, wrong = len(labels) - images, chosen - hits
    both = (images > 0) & (others > 0)
    auroc = np.array(
        [roc_auc_score(labels == n, probabilities[:, n]) if both[n] else np.nan for n in range(len(names))]
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        found = {
            "recall": (hits / images, *wilson(hits, images)),
            "precision": (hits / chosen, *wilson(hits, chosen)),
            "f1": (2 * hits / (images + chosen), *f1_interval(hits, images + wrong)),
            "specificity": (1 - wrong / others, *wilson(others - wrong, others)),
            "auroc": (auroc, *auroc_interval(auroc, images, others)),
        }
    columns = {f"{name}{end}": values for name in MEASURES
               for end, values in zip(("", "_low", "_high"), found[name], strict=True)}  # fmt: skip
    return pd.DataFrame({"class": names, "images": images} | columns)


def by_subgroup_and_class(
    labels: np.ndarray, probabilities: np.ndarray, subgroups: pd.DataFrame, names: list[str]
) -> pd.DataFrame:
    """Return the rows of `by_class` within each value of each subgroup: subgroup, value, class, …; absent classes not.

    Parameters
    ----------
    subgroups : DataFrame, N rows
        As in `by_subgroup`.
    """
    parts = []
    for name in subgroups:
        values = divided(subgroups[name])
        for value in sorted(set(values)):
            here = values == value
            rows = by_class(labels[here], probabilities[here], names).query("images > 0")
            parts.append(rows.assign(subgroup=name, value=value))
    empty = by_class(labels[:0], probabilities[:0], names)[:0].assign(subgroup="", value="")
    rows = pd.concat([empty, *parts], ignore_index=True) if parts else empty
    return rows[["subgroup", "value", *rows.columns.drop(["subgroup", "value"])]]


def by_subgroup(labels: np.ndarray, predicted: np.ndarray, subgroups: pd.DataFrame, classes: int) -> pd.DataFrame:
    """Return one row a value of each subgroup.

    Parameters
    ----------
    subgroups : DataFrame, N rows
        Such as age, sex and site; a number with many values is divided at its quartiles.

    Returns
    -------
    DataFrame
        subgroup, value, images, accuracy with its 95 % interval (low, high), balanced_accuracy (over the classes that
        the subgroup has).
    """
    rows = []
    for name in subgroups:
        values = divided(subgroups[name])
        for value in sorted(set(values)):
            here = values == value
            right = predicted[here] == labels[here]
            low, high = wilson(right.sum(), len(right))
            rows.append(
                {"subgroup": name, "value": value, "images": len(right)}
                | {"accuracy": right.mean(), "low": low, "high": high}
                | {"balanced_accuracy": balanced_accuracy(labels[here], predicted[here], classes)}
            )
    return pd.DataFrame(rows, columns=["subgroup", "value", "images", "accuracy", "low", "high", "balanced_accuracy"])


def divided(values: pd.Series) -> np.ndarray:
    """Return the values as texts, missing ones as `unknown`; many numbers as the quartile they are in, `30 to 45`."""
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > DISTINCT:
        edges = np.unique(values.quantile(np.linspace(0, 1, QUANTILES + 1)))
        parts = pd.cut(values, edges, include_lowest=True)
        names = [f"{low:g} to {high:g}" for low, high in zip(edges[:-1], edges[1:], strict=True)]
        values = parts.cat.rename_categories(names)
    return values.astype(object).where(values.notna(), "unknown").astype(str).to_numpy()


def flips(images: pd.DataFrame, names: list[str], before: np.ndarray, after: np.ndarray) -> pd.DataFrame:
    """Return the images whose predicted class changed.

    Parameters
    ----------
    images : DataFrame, N rows
        image_id and label, the number of a class.
    before, after : float arrays, N x classes
        Probabilities.

    Returns
    -------
    DataFrame
        image_id, label, before, after (names of classes), the probability of the true class before and after, and kind:
        `lost` (right before), `gained` (right after) or `other`.
    """
    labels, rows = images["label"].to_numpy(), np.arange(len(images))
    old, new = before.argmax(axis=1), after.argmax(axis=1)
    kind = np.where(old == labels, "lost", np.where(new == labels, "gained", "other"))
    table = pd.DataFrame(
        {
            "image_id": images["image_id"],
            **{
                name: np.array(names)[numbers] for name, numbers in (("label", labels), ("before", old), ("after", new))
            },
            "probability_before": before[rows, labels],
            "probability_after": after[rows, labels],
            "kind": kind,
        }
    )
    return table[old != new]


def most_lost(flips: pd.DataFrame, shown: int) -> pd.DataFrame:
    """Return, for each criterion, the images it lost: those lost with most seeds first, then by the true class's loss.

    Parameters
    ----------
    flips : DataFrame
        Rows of `flips` with criterion and seed, one step of each chain.

    Returns
    -------
    DataFrame
        At most `shown` rows a criterion: criterion, image_id, label, after (what most seeds call it), seeds (how many
        lost it), before_mean and after_mean (the probability of the true class, mean over these).
    """
    groups = flips[flips["kind"] == "lost"].groupby(["criterion", "image_id"], sort=False)
    images = groups.agg(
        label=("label", "first"),
        after=("after", lambda names: names.mode()[0]),
        seeds=("seed", "nunique"),
        before_mean=("probability_before", "mean"),
        after_mean=("probability_after", "mean"),
    ).reset_index()
    images["loss"] = images["before_mean"] - images["after_mean"]
    images["criterion"] = pd.Categorical(images["criterion"], flips["criterion"].unique())  # in their order
    images = images.sort_values(["criterion", "seeds", "loss"], ascending=[True, False, False], kind="stable")
    chosen = images.groupby("criterion", observed=True).head(shown)
    return chosen.drop(columns="loss").astype({"criterion": str}).reset_index(drop=True)


def with_change(rows: pd.DataFrame, keys: list[str], measures: list[str]) -> pd.DataFrame:
    """Return the rows with `<measure>_change`, the difference to the unpruned network of the same seed.

    Parameters
    ----------
    rows : DataFrame
        criterion (`baseline`: unpruned), seed, the keys, the measures.
    """
    at = pd.MultiIndex.from_frame(rows[["seed", *keys]])  # also of the seed alone
    unpruned = rows["criterion"] == "baseline"
    before = rows.loc[unpruned, measures].set_axis(at[unpruned]).reindex(at).to_numpy()
    return rows.assign(**(rows[measures] - before).add_suffix("_change"))
