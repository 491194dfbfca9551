"""Chains of pruning steps, from tables and predictions to what `reporting.comparison` compares."""

from pathlib import Path

import numpy as np
import pandas as pd

from stages import predictions
from stages.errors import naming
from stages.names import Identity
from stages.reporting import comparison, tables

PHASES = {"pruned": "right after the cut", "finetuned": "after fine-tuning"}
TABLES = {  # of a regime, at equal size and at equal time
    "comparison": ["comparison/{}.csv", "comparison/{}_latency.csv"],
    "few_shot": ["few_shot/{}.csv", "few_shot_latency/{}.csv"],
}
FEW_SHOT_PHASES = PHASES | {"finetuned": "after tuning"}


def shares_left(table: pd.DataFrame, latency: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return what is left of the unpruned network of the same seed, by criterion, seed and step (0: unpruned).

    Returns
    -------
    DataFrame
        A column an axis: filters, params, macs (without what is masked), and `latency_<n>` for each batch size n that
        was timed.
    """
    keys = ["criterion", "seed", "step"]
    sizes = tables.effective(table[table["phase"] != "pruned"]).set_index(keys)[tables.SIZES]
    if latency is not None:
        sizes = sizes.join(latency.pivot(index=keys, columns="batch", values="milliseconds").add_prefix("latency_"))
    whole = sizes.loc["baseline"].droplevel("step")
    return sizes / whole.reindex(sizes.index.get_level_values("seed")).to_numpy()


def answers(files: list[Path]) -> tuple[dict[Identity, np.ndarray], np.ndarray, pd.Series]:
    """Return which images each checkpoint has right (bool, N), the images' classes (int, N), and `tables.majority`."""
    correct = {}
    for identity, images, probabilities in predictions.each(files):
        labels = images["label"].to_numpy()
        correct[identity] = probabilities.argmax(axis=1) == labels
    names = predictions.classes(files[0])
    counts = np.bincount(labels, minlength=len(names))
    return correct, labels, tables.majority(dict(zip(names, counts, strict=True)))


def assemble(
    sizes: pd.DataFrame, correct: dict[Identity, np.ndarray], phase: str
) -> dict[tuple[str, int], comparison.Chain]:
    """Return the chains of the study, in the order of its criteria, as they are in one phase of each step."""
    chains = {}
    for criterion, seed in dict.fromkeys(identity[:2] for identity in correct if identity.criterion != "baseline"):
        left = pd.concat([sizes.loc[["baseline"], [seed], :], sizes.loc[[criterion], [seed], :]])
        steps = left.index.get_level_values("step")[1:]
        right = [correct["baseline", seed, 0, "baseline"], *(correct[criterion, seed, step, phase] for step in steps)]
        chains[criterion, seed] = comparison.Chain(np.stack(right), {axis: left[axis].to_numpy() for axis in left})
    return chains


def compared(metrics: Path, part: str) -> list[pd.DataFrame]:
    """Return the study's tables `levels`, `pairs` and `areas` of `at_equal_size`, at all sizes and times.

    Parameters
    ----------
    metrics : Path
        The folder of the study's metrics.
    part : str
        Of `TABLES`.

    Raises
    ------
    InputError
        A file cannot be read.
    """
    found = []
    for name in ("levels", "pairs", "areas"):
        files = [metrics / file.format(name) for file in TABLES[part]]
        with naming(" and ".join(map(str, files))):
            found.append(pd.concat(map(pd.read_csv, files)))
    return found


def at_equal_size(
    sizes: pd.DataFrame,
    correct: dict[Identity, np.ndarray],
    labels: np.ndarray,
    axes: list[str],
    shares: list[float],
    resamples: int,
) -> dict[str, pd.DataFrame]:
    """Return the tables `levels`, `areas` and `pairs` of `reporting.comparison` with the columns axis and phase."""
    found = {"levels": [], "areas": [], "pairs": []}
    for phase in PHASES:
        chains = assemble(sizes, correct, phase)
        for axis in axes:
            of_axis = {
                "levels": comparison.levels(chains, labels, axis, shares),
                "areas": comparison.areas(chains, labels, axis),
                "pairs": comparison.pairs(chains, labels, axis, shares, resamples),
            }
            for name, rows in of_axis.items():
                found[name].append(rows.assign(phase=phase))
    return {name: pd.concat(parts, ignore_index=True) for name, parts in found.items()}
