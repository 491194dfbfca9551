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
    lines = [map(str, table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def per_cent(mean: pd.Series, std: pd.Series) -> pd.Series:
    """Return texts such as `91.3 ± 0.4` for fractions and their standard deviations (without one: `91.3`)."""
    pairs = zip(mean, std, strict=True)
    texts = [f"{100 * m:.1f}" if pd.isna(s) else f"{100 * m:.1f} ± {100 * s:.1f}" for m, s in pairs]
    return pd.Series(texts, index=mean.index)
