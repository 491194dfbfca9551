"""The study's tables, from the rows that its jobs wrote."""

import pandas as pd

SIZES = ["filters", "params", "macs"]
PHASES = ["baseline", "pruned", "finetuned"]


def pruning_table(rows: pd.DataFrame, criteria: list[str]) -> pd.DataFrame:
    """Return the rows in the order criterion (baseline first), seed, step, phase."""
    order = {name: position for position, name in enumerate(["baseline", *criteria])}
    keys = pd.DataFrame(
        {"criterion": rows["criterion"].map(order), "seed": rows["seed"], "step": rows["step"]}
        | {"phase": rows["phase"].map(PHASES.index)}
    )
    return rows.loc[keys.sort_values(list(keys)).index].reset_index(drop=True)


def last_step(table: pd.DataFrame) -> pd.DataFrame:
    """Return, for each criterion in the table's order, the mean over seeds of the last fine-tuned step."""
    finetuned = table[table["phase"] == "finetuned"]
    last = finetuned[finetuned["step"] == finetuned["step"].max()]
    return last.drop(columns=["seed", "step", "phase"]).groupby("criterion", sort=False).mean()


def baseline(table: pd.DataFrame) -> pd.Series:
    """Return the mean over seeds of the unpruned networks' rows."""
    return table.loc[table["phase"] == "baseline"].drop(columns=["criterion", "seed", "step", "phase"]).mean()


def in_words(table: pd.DataFrame) -> str:
    """Return the last step of every criterion as lines of text, after the unpruned network."""
    return f"{title(table)}\n{_last_step_in_words(table).to_string()}"


def title(table: pd.DataFrame) -> str:
    """Return what the table of the last step shows."""
    seeds = table["seed"].nunique()
    return f"After {table['step'].max()} steps (test split, {seeds} seed{'s, mean' if seeds > 1 else ''}):"


def markdown(table: pd.DataFrame) -> str:
    """Return the last step of every criterion as a Markdown table."""
    return as_markdown(_last_step_in_words(table).rename_axis("criterion").reset_index())


def steps_markdown(table: pd.DataFrame) -> str:
    """Return MACs left and accuracy, before and after fine-tuning, of every step as a Markdown table."""
    whole = baseline(table)
    mean = table.groupby(["criterion", "step", "phase"], sort=False)[[*SIZES, "accuracy", "balanced_accuracy"]].mean()
    rows = [
        {
            "criterion": criterion,
            "step": step,
            **{name: f"{mean.loc[(criterion, step, 'finetuned'), name] / whole[name]:.1%}" for name in SIZES},
            "accuracy after the cut": f"{mean.loc[(criterion, step, 'pruned'), 'accuracy']:.4f}",
            "accuracy": f"{mean.loc[(criterion, step, 'finetuned'), 'accuracy']:.4f}",
        }
        for criterion, step, phase in mean.index
        if phase == "finetuned"
    ]
    return as_markdown(pd.DataFrame(rows))


def _last_step_in_words(table: pd.DataFrame) -> pd.DataFrame:
    whole, kept = baseline(table), last_step(table)
    pruned = table[(table["phase"] == "pruned") & (table["step"] == table["step"].max())]
    cut = pruned.groupby("criterion")["accuracy"].mean()
    rows = {
        criterion: {name: f"{row[name] / whole[name]:.1%}" for name in SIZES}
        | {"accuracy after the cut": "" if criterion == "unpruned" else f"{cut[criterion]:.4f}"}
        | {name.replace("_", " "): f"{row[name]:.4f}" for name in ("accuracy", "balanced_accuracy", "macro_f1")}
        for criterion, row in [("unpruned", whole), *kept.iterrows()]
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def as_markdown(table: pd.DataFrame) -> str:
    """Return a table as Markdown."""
    lines = [table.columns, ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def toy(rows: pd.DataFrame) -> pd.DataFrame:
    """Return means and standard deviations of the toy study, by problem, criterion and references a class."""
    groups = rows.groupby(["problem", "criterion", "references_per_class"], sort=False)
    measures = ["train_accuracy", "test_accuracy", "overlap"]
    units = [name for name in rows.columns if name.startswith("units")]
    parts = [groups[measures].mean(), groups[measures].std().add_suffix("_std"), groups[units].mean()]
    return pd.concat([*parts, groups.size().rename("runs")], axis=1).reset_index()


def toy_in_words(table: pd.DataFrame, references: int) -> pd.DataFrame:
    """Return the toy study's main table: problem, criterion, accuracies in per cent, overlap, units left a layer."""
    some = table[table["references_per_class"].isin([0, references])]
    return pd.DataFrame(
        {
            "problem": some["problem"],
            "criterion": some["criterion"],
            "accuracy": _per_cent(some["train_accuracy"], some["train_accuracy_std"]),
            "on other points": _per_cent(some["test_accuracy"], some["test_accuracy_std"]),
            "same lowest": some["overlap"].map(lambda share: "" if pd.isna(share) else f"{share:.2f}"),
            "units left": some[["units1", "units2", "units3"]].round().astype(int).astype(str).agg(" ".join, axis=1),
        }
    )


def toy_by_references(table: pd.DataFrame) -> pd.DataFrame:
    """Return accuracies in per cent, a row a problem and criterion, a column a number of reference points."""
    some = table[table["references_per_class"] > 0]
    text = some.assign(text=_per_cent(some["train_accuracy"], some["train_accuracy_std"]))
    rows = text.pivot(index=["problem", "criterion"], columns="references_per_class", values="text")
    return rows.loc[some.set_index(["problem", "criterion"]).index.unique()].reset_index()


def one_shot(rows: pd.DataFrame, kept: float) -> pd.DataFrame:
    """Return mean accuracy over the rates and the highest rate that keeps `kept` of it, by variant, seed and unit.

    Parameters
    ----------
    rows : DataFrame
        variant, seed, unit, rate (from 0), accuracy.

    Returns
    -------
    DataFrame
        variant, seed, unit, a_pr, top_pr; fractions (A_PR and Top-PR of Hatefi et al., 2024, arXiv 2408.12568). The
        rate is the last before accuracy first falls below `kept` of what it is at rate 0.
    """
    found = []
    for key, curve in rows.groupby(["variant", "unit", "seed"], sort=False):
        curve = curve.sort_values("rate")
        keeps = curve["accuracy"] >= kept * curve["accuracy"].iloc[0]
        top = curve["rate"][keeps.cummin()].max()
        found.append(
            dict(zip(("variant", "unit", "seed"), key, strict=True)) | {"a_pr": curve["accuracy"].mean(), "top_pr": top}
        )
    return pd.DataFrame(found)


def one_shot_in_words(summary: pd.DataFrame) -> pd.DataFrame:
    """Return mean and standard deviation over seeds in per cent, a row a variant, the best at equal MACs first."""
    groups = summary.groupby(["variant", "unit"], sort=False)[["a_pr", "top_pr"]]
    mean, std = groups.mean(), groups.std()
    names = {"a_pr": "A_PR", "top_pr": "Top-PR"}
    columns = {
        f"{names[measure]}, equal {'MACs' if unit == 'macs' else unit}": _per_cent(
            mean.xs(unit, level="unit")[measure], std.xs(unit, level="unit")[measure]
        )
        for unit in summary["unit"].unique()
        for measure in names
    }
    order = mean.xs("macs", level="unit")["a_pr"].sort_values(ascending=False).index
    return pd.DataFrame(columns).loc[order].rename_axis("").reset_index()


def _per_cent(mean: pd.Series, std: pd.Series) -> pd.Series:
    pairs = zip(mean, std, strict=True)
    texts = [f"{100 * m:.1f}" if pd.isna(s) else f"{100 * m:.1f} ± {100 * s:.1f}" for m, s in pairs]
    return pd.Series(texts, index=mean.index)
