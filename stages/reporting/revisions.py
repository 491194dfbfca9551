"""The same criteria in studies of several revisions, at equal MACs."""

import pandas as pd

from stages.reporting import tables
from stages.reporting.comparison import at_macs, seeds_interval


def at_equal_macs(studies: dict[str, pd.DataFrame], metric: str, phase: str, shares: list[float]) -> pd.DataFrame:
    """Return what a metric of each criterion is at equal MACs, by revision.

    Parameters
    ----------
    studies : dict
        Revision to its metrics/pruning.csv.
    metric : str
        A column of these.
    phase : {"pruned", "finetuned"}
    shares : list of float
        Of the MACs of the first revision's unpruned networks; at 1 stand the unpruned networks.

    Returns
    -------
    DataFrame
        criterion, revision, share; mean over the seeds that all revisions have; difference to the first revision, and
        its 95 % interval (low, high) over seeds by Student's t. NaN where a seed's chain never gets that small; the
        interval also for one seed.

    Raises
    ------
    ValueError
        No criterion or no seed is in all studies.
    """
    criteria = _in_all("criterion", {name: tables.criteria(rows) for name, rows in studies.items()})
    seeds = _in_all("seed", {name: rows["seed"].unique().tolist() for name, rows in studies.items()})
    first = next(iter(studies))
    whole = tables.baseline(tables.effective(studies[first]))["macs"]
    values = {}
    for revision, rows in studies.items():
        of_seeds = dict(list(tables.effective(rows).groupby("seed")))
        reached = {
            (share, seed): at_macs(of_seeds[seed], share * whole, phase, metric) for share in shares for seed in seeds
        }
        values[revision] = pd.DataFrame(reached).loc[criteria]
    found = []
    for criterion in criteria:
        for revision, table in values.items():
            for share in shares:
                own = table.loc[criterion, share]
                less = own - values[first].loc[criterion, share]
                low, high = seeds_interval(less)
                found.append(
                    {"criterion": criterion, "revision": revision, "share": share, "mean": own.mean(skipna=False)}
                    | {"difference": less.mean(skipna=False), "low": low, "high": high}
                )
    return pd.DataFrame(found)


def markdown(levels: pd.DataFrame) -> str:
    """Return what `at_equal_macs` found as a table of Markdown for each criterion, revisions by what is left.

    The first row has means; the others also differences to it, with their intervals.
    """
    less = "{:+.4f}".format
    interval = " (" + levels["low"].map(less) + " to " + levels["high"].map(less) + ")"
    difference = ", " + levels["difference"].map(less) + interval.where(levels["low"].notna(), "")
    shown = levels["difference"].notna() & (levels["revision"] != levels["revision"].iloc[0])
    texts = levels["mean"].map("{:.4f}".format) + difference.where(shown, "")
    levels = levels.assign(text=texts.where(levels["mean"].notna(), "–"))
    parts = []
    for criterion, rows in levels.groupby("criterion", sort=False):
        wide = rows.pivot(index="revision", columns="share", values="text")
        wide = wide.loc[rows["revision"].unique(), rows["share"].unique()]
        wide.columns = [f"{share:.0%}" for share in wide]
        parts.append(tables.as_markdown(wide.rename_axis(criterion).reset_index()))
    return "\n\n".join(parts)


def _in_all(what: str, has: dict[str, list]) -> list:
    """Return what all revisions have, in the order of the first."""
    found = [one for one in next(iter(has.values())) if all(one in each for each in has.values())]
    if not found:
        said = "; ".join(f"{revision} has {', '.join(map(str, each))}" for revision, each in has.items())
        raise ValueError(f"no {what} is in all of them: {said}")
    return found
