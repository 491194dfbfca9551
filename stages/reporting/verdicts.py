"""What the numbers say, as sentences that follow from them."""

import pandas as pd

from stages.reporting import equal_size, tables

SHARE = 0.5  # of the MACs, where the winner is named


def sentences(levels: pd.DataFrame, pairs: pd.DataFrame, stability: pd.DataFrame, criteria: list[str]) -> list[str]:
    """Return who wins at half of the MACs and at the least that all reach, and whether LRP recovers more stably.

    Parameters
    ----------
    levels, pairs, stability : DataFrame
        Rows of `reporting.comparison`; the first two with the column phase.
    criteria : list of str
        Of the study; those that reach no size at all are named.
    """
    return [*_winners(levels, pairs, criteria), *_stability(stability)]


def _winners(levels: pd.DataFrame, pairs: pd.DataFrame, criteria: list[str]) -> list[str]:
    levels, pairs = (tables.of(table, axis="macs", metric="balanced_accuracy", phase="finetuned")
                     for table in (levels, pairs))  # fmt: skip
    present = levels["criterion"].unique()
    reached = levels.groupby("share")["criterion"].nunique()
    complete = reached[reached == len(present)].index
    shares = sorted({share for share in (SHARE, complete.min()) if share in complete}, reverse=True)
    said = [_winner(share, levels, pairs) for share in shares]
    if said and (missing := [name for name in criteria if name not in set(present)]):
        said.append(f"Ended before any of the sizes compared: {', '.join(missing)}.")
    return said


def _winner(share: float, levels: pd.DataFrame, pairs: pd.DataFrame) -> str:
    ranked = levels[levels["share"] == share].sort_values("mean", ascending=False, kind="stable")
    first = ranked.iloc[0]
    said = [
        f"After fine-tuning, where {share:.0%} of the MACs is left, {first['criterion']} has the highest balanced "
        f"accuracy: {first['mean']:.4f}, {first['difference']:+.4f} against the unpruned network."
    ]
    lrp = ranked[ranked["criterion"] == "lrp"]
    if len(lrp) and first["criterion"] != "lrp":
        lrp = lrp.iloc[0]
        said.append(f"LRP has {lrp['mean']:.4f}, {lrp['mean'] - first['mean']:+.4f} against that.")
    others = equal_size.differences_to(pairs[pairs["share"] == share], first["criterion"])
    behind = others[(others["difference"] < 0) & (others["p_holm"] < equal_size.LEVEL)]["criterion"]
    level = [name for name in others["criterion"] if name not in set(behind)]
    if len(others):
        said.append(
            f"Clearly behind {first['criterion']}, of these networks (corrected p < {equal_size.LEVEL}): "
            f"{', '.join(behind) or 'none'}; "
            f"not to be told apart from it: {', '.join(level) or 'none'}."
        )
    return " ".join(said)


def _stability(stability: pd.DataFrame) -> list[str]:
    names = ("criterion", "other")
    both = stability[stability[list(names)].isin(["lrp", "weight"]).all(axis=1)]
    if both.empty:
        return []
    row = both.iloc[0]
    lrp, weight = (row["variance"], row["variance_other"])[:: 1 if row["criterion"] == "lrp" else -1]
    direction = "true" if lrp < weight else "false"
    verdict = direction if row["p_holm"] < equal_size.LEVEL else "not shown"
    return [
        f"“LRP recovers more stably than weight magnitude” is {verdict}: the accuracy that fine-tuning recovers has a "
        f"variance of {lrp:.2g} over steps and seeds with LRP and of {weight:.2g} with weight magnitude (corrected p "
        f"{row['p_holm']:.3f})."
    ]


def better_than_markdown(regimes: dict[tuple[str, str], pd.DataFrame], other: str) -> str:
    """Return which criteria are better than `other` in each regime and phase, by share of the MACs, as Markdown.

    Parameters
    ----------
    regimes : dict
        (regime, phase) in words to rows of `reporting.comparison.pairs`.
    """
    rows = []
    for (regime, when), pairs in regimes.items():
        differences = equal_size.differences_to(tables.of(pairs, axis="macs", metric="balanced_accuracy"), other)
        rows.append({"to tune with": regime, "when": when} | equal_size.better(differences))
    return tables.as_markdown(pd.DataFrame(rows).fillna("–"))
