"""Concepts of layers and classes, and what became of them by pruning, as tables in Markdown."""

import pandas as pd

from stages.reporting import tables


def layers_markdown(layers: pd.DataFrame) -> str:
    """Return how relevance is spread over the concepts of each layer (mean over seeds), as Markdown."""
    means = layers.groupby("layer", sort=False).mean(numeric_only=True)
    texts = pd.DataFrame(
        {
            "layer": means.index,
            "concepts": means["concepts"].map("{:.0f}".format),
            "effective": means["effective_concepts"].map("{:.1f}".format),
            "largest share": means["largest_share"].map("{:.1%}".format),
            "lost, gained or spread": means["lost"].map("{:.1e}".format),
        }
    )
    unreported = means["effective_concepts"].isna().to_numpy()
    texts.loc[unreported, ["effective", "largest share"]] = "not reported"
    if "inside" in means:
        inside = means["inside"].map("{:.1%}".format) + " of " + means["area"].map("{:.1%}".format)
        texts["in the region"] = inside.where(means["inside"].notna(), "").to_numpy()
    return tables.as_markdown(texts)


def top_markdown(rows: pd.DataFrame) -> str:
    """Return the concepts of rows of the atlas by class, with share, interval and votes, as Markdown."""
    lines = []
    for name, of_class in rows.groupby("class", sort=False):
        said = []
        for row in of_class.itertuples():
            interval = f"{row.low:.1%} to {row.high:.1%}; " if row.low == row.low else ""  # of one group there is none
            said.append(f"{row.concept}: {row.share:.1%} ({interval}{row.votes:.0f} of {row.images})")
        lines.append({"class": name, "concepts": ", ".join(said)})
    return tables.as_markdown(pd.DataFrame(lines))


def changes_markdown(changes: pd.DataFrame) -> str:
    """Return what became of the concepts of all layers by criterion (mean over seeds), as Markdown."""
    sums = changes.groupby(["criterion", "seed"], sort=False)
    counts = sums[["concepts", "left", "kept", "moved", "lost", "gained", "by_chance"]].sum()
    relevance = sums[["share_kept", "share_moved", "share_lost"]].mean()
    seen = sums.agg(layers=("layer", "nunique"), images=("images", "first")).groupby("criterion", sort=False).mean()
    parts = {
        "left": counts["left"] / counts["concepts"],
        "kept": counts["kept"] / counts["concepts"],
        "moved": counts["moved"] / counts["concepts"],
        "by chance": counts["by_chance"] / counts["concepts"],
        "lost": counts["lost"] / counts["concepts"],
        "gained (of those left)": counts["gained"] / counts["left"],
        "relevance kept": relevance["share_kept"],
        "relevance moved": relevance["share_moved"],
        "relevance lost": relevance["share_lost"],
    }
    means = pd.DataFrame(parts).groupby("criterion", sort=False).mean()
    return tables.with_criterion(seen.map("{:.0f}".format).join(means.map("{:.1%}".format)))


def lost_markdown(fates: pd.DataFrame, shown: int = 5) -> str:
    """Return the lost concepts with the largest share of their layer's relevance, by criterion, as Markdown.

    Parameters
    ----------
    fates : DataFrame
        criterion, layer, concept, share, fate and removed; one seed.
    """
    lines = []
    for criterion in fates["criterion"].unique():
        lost = tables.of(fates, criterion=criterion, fate="lost").nlargest(shown, "share")
        said = [
            f"{row.layer} {row.concept} ({row.share:.1%}{'' if row.removed else ', not removed'})"
            for row in lost.itertuples()
        ]
        lines.append({"criterion": criterion, "lost": ", ".join(said) or "none"})
    return tables.as_markdown(pd.DataFrame(lines, columns=["criterion", "lost"]))
