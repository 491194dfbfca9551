"""What criteria are worth at equal size, as tables: what `reporting.comparison` computed, in Markdown."""

from collections.abc import Iterable

import pandas as pd

from stages.reporting import tables

IN_WORDS = {"filters": "filters", "params": "parameters"}
LEVEL = 0.05  # below which a corrected p counts
IN_CELLS = "and less the unpruned network; 95 % interval over seeds"


def areas_markdown(areas: pd.DataFrame, phases: dict[str, str], majority: pd.Series) -> list[str]:
    """Return mean balanced accuracy over sizes, criterion by axis, as Markdown: for each phase a sentence and a table.

    In all tables of levels and areas here the first row is that of `tables.majority`.

    Parameters
    ----------
    areas : DataFrame
        Rows of `reporting.comparison.areas` with the column phase.
    phases : dict
        Phase to words, such as "after fine-tuning".
    """
    parts = []
    for phase, when in phases.items():
        chosen = tables.of(areas, metric="balanced_accuracy", phase=phase)
        names = {axis: f"{axis.replace('latency_', 'time of ')} (from {least:.0%})"
                 for axis, least in chosen[["axis", "least"]].drop_duplicates().itertuples(index=False)}  # fmt: skip
        wide = chosen.assign(text=_with_difference(chosen)).pivot(index="criterion", columns="axis", values="text")
        wide = wide.loc[chosen["criterion"].unique(), list(names)].rename(columns=names).rename_axis(columns=None)
        wide = _after_majority(wide, chosen, majority)
        parts += [
            f"Mean balanced accuracy {when} over all sizes that every criterion reaches (the area under its curve), "
            "and less the unpruned network; time is measured, of batches of so many images:",
            tables.with_criterion(wide),
        ]
    return parts


def few_areas_markdown(areas: pd.DataFrame, phases: dict[str, str], majority: pd.Series) -> list[str]:
    """Do as `areas_markdown` for each number in the column images_per_class."""
    return [
        part
        for images, rows in areas.groupby("images_per_class")
        for part in areas_markdown(rows, _with_few(images, phases), majority)
    ]


def comparison_markdown(
    levels: pd.DataFrame, pairs: pd.DataFrame, phases: dict[str, str], others: Iterable[str], majority: pd.Series
) -> list[str]:
    """Return what criteria are worth at equal MACs as paragraphs of Markdown; an empty table is left out.

    Parameters
    ----------
    levels, pairs : DataFrame
        Rows of `reporting.comparison`, with the column phase.
    phases : dict
        Phase to words, such as "after fine-tuning"; levels are given for the last.
    others : iterable of str
        Criteria to which differences are given.
    """
    criteria = levels["criterion"].unique()
    levels, pairs = (tables.of(table, axis="macs", metric="balanced_accuracy") for table in (levels, pairs))
    parts = []
    last = list(phases)[-1]
    if not (reached := tables.of(levels, phase=last)).empty:
        parts += [
            f"Balanced accuracy {phases[last]} where this part of the MACs is left ({IN_CELLS}):",
            levels_markdown(reached, majority, criteria),
        ]
    for other in others:
        for phase, when in phases.items():
            if not (differences := differences_to(tables.of(pairs, phase=phase), other)).empty:
                title = (
                    f"Balanced accuracy less that of {other}, {when}, at equal MACs (p corrected for pairs and sizes)."
                )
                parts += [f"{title} {better_than(differences, other)}", differences_markdown(differences)]
    return parts


def levels_markdown(levels: pd.DataFrame, majority: pd.Series, criteria: Iterable[str] | None = None) -> str:
    """Return means, differences to the unpruned network and 95 % intervals by criterion and share left as Markdown.

    Parameters
    ----------
    levels : DataFrame
        Rows of `reporting.comparison.levels`, one a criterion and share.
    criteria : iterable of str, optional
        The criteria, also those that reach no share, of which there are no rows; None: those of the rows.
    """
    interval = " (" + levels["low"].map("{:.4f}".format) + " to " + levels["high"].map("{:.4f}".format) + ")"
    wide = _by_share(levels, _with_difference(levels) + interval.where(levels["low"].notna(), ""), criteria)
    return tables.with_criterion(_after_majority(wide, levels, majority))


def at_other_sizes(levels: pd.DataFrame, pairs: pd.DataFrame, phases: dict[str, str], majority: pd.Series) -> list[str]:
    """Return balanced accuracies at equal size as Markdown, for each measure of size but MACs that has some.

    Each table has all criteria, also those that get nowhere so small. After it stands what is better than random there,
    if random is a criterion.

    Parameters
    ----------
    levels, pairs : DataFrame
        Rows of `reporting.comparison` with the columns axis, metric and phase.
    phases : dict
        Phase to words, such as "after fine-tuning"; levels are given for the last.
    """
    levels, pairs = (tables.of(table, metric="balanced_accuracy") for table in (levels, pairs))
    criteria = levels["criterion"].unique()
    last = list(phases)[-1]
    found = []
    for axis, of_axis in tables.of(levels[levels["axis"] != "macs"], phase=last).groupby("axis", sort=False):
        what = IN_WORDS.get(axis, f"measured time, batch of {axis.removeprefix('latency_')},")
        parts = [f"Balanced accuracy {phases[last]} where this part of the {what} is left ({IN_CELLS}):"]
        parts.append(levels_markdown(of_axis, majority, criteria))
        for phase, when in phases.items():
            if not (differences := differences_to(tables.of(pairs, axis=axis, phase=phase), "random")).empty:
                parts.append(f"{when[0].upper()}{when[1:]}: {better_than(differences, 'random').lower()}")
        if "random" in criteria and "random" not in set(of_axis["criterion"]):
            parts.append("Random removal does not get to any of these sizes with all seeds.")
        found.append("\n\n".join(parts))
    return found


def few_at_other_sizes(
    levels: pd.DataFrame, pairs: pd.DataFrame, phases: dict[str, str], majority: pd.Series
) -> list[str]:
    """Do as `at_other_sizes` for each number in the column images_per_class."""
    return [
        text
        for images, rows in levels.groupby("images_per_class")
        for text in at_other_sizes(rows, tables.of(pairs, images_per_class=images), _with_few(images, phases), majority)
    ]


def differences_to(pairs: pd.DataFrame, other: str) -> pd.DataFrame:
    """Return the pairs that have `other`, turned so that the difference is that of `criterion` to it.

    Parameters
    ----------
    pairs : DataFrame
        Rows of `reporting.comparison.pairs`, one a pair and share.
    """
    turned = pairs.rename(columns={"criterion": "other", "other": "criterion", "low": "high", "high": "low"})
    turned = turned.assign(**{name: -turned[name] for name in ("difference", "low", "high")})
    both = pd.concat([pairs, turned[list(pairs)]])
    return both[both["other"] == other]


def differences_markdown(differences: pd.DataFrame) -> str:
    """Return differences by criterion and share left, each with its corrected p, as Markdown."""
    texts = differences["difference"].map("{:+.4f}".format) + " (p " + differences["p_holm"].map(_p) + ")"
    return tables.with_criterion(_by_share(differences, texts))


def better(differences: pd.DataFrame) -> dict[str, str]:
    """Return, for each share left, the criteria that are better than the other (by their corrected p), or `none`."""
    clearly = differences.assign(better=(differences["difference"] > 0) & (differences["p_holm"] < LEVEL))
    shares = sorted(clearly.groupby("share"), reverse=True)
    return {f"{share:.0%}": ", ".join(rows[rows["better"]]["criterion"]) or "none" for share, rows in shares}


def better_than(differences: pd.DataFrame, other: str) -> str:
    """Return a sentence that names, for each share left, the criteria that are better."""
    said = "; ".join(f"at {share} {names}" for share, names in better(differences).items())
    return f"Better than {other} (p < {LEVEL}): {said}."


def stability_markdown(stability: pd.DataFrame) -> str:
    """Return the variances of the recovered accuracy of each pair of criteria, with corrected p, as Markdown."""
    texts = stability[["criterion", "variance", "other", "variance_other"]]
    texts = texts.assign(**{name: texts[name].map("{:.2g}".format) for name in ("variance", "variance_other")})
    texts = texts.rename(columns={"variance_other": "its variance"})
    return tables.as_markdown(texts.assign(p=stability["p_holm"].map(_p)))


def _with_few(images: int, phases: dict[str, str]) -> dict[str, str]:
    return {phase: f"{when} with {images} of each class" for phase, when in phases.items()}


def _with_difference(rows: pd.DataFrame) -> pd.Series:
    """Return texts such as `0.8524, -0.0296`, the mean and its difference to the unpruned network."""
    return rows["mean"].map("{:.4f}".format) + rows["difference"].map(", {:+.4f}".format)


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _after_majority(wide: pd.DataFrame, rows: pd.DataFrame, majority: pd.Series) -> pd.DataFrame:
    """Return a table after a row of the balanced accuracy of `majority`, also less that of the unpruned network."""
    score, unpruned = majority["balanced_accuracy"], (rows["mean"] - rows["difference"]).iloc[0]
    always = pd.DataFrame(f"{score:.4f}, {score - unpruned:+.4f}", index=[majority.name], columns=wide.columns)
    return pd.concat([always, wide])


def _by_share(rows: pd.DataFrame, texts: pd.Series, criteria: Iterable[str] | None = None) -> pd.DataFrame:
    """Return texts as a table, criterion by share; where a criterion never gets that small, a dash."""
    wide = rows.assign(text=texts).pivot(index="criterion", columns="share", values="text")
    criteria = rows["criterion"].unique() if criteria is None else list(criteria)
    wide = wide.reindex(criteria)[sorted(wide, reverse=True)].fillna("–")
    return wide.rename(columns="{:.0%}".format).rename_axis(columns=None)
