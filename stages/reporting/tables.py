"""The study's tables, from the rows that its jobs wrote."""

import pandas as pd

from stages.reporting.safety import with_change

SIZES = ["filters", "params", "macs"]
EFFECTIVE = "effective_"  # before the name of a size: that without what is masked
PHASES = ["baseline", "pruned", "finetuned"]
LATEX = str.maketrans({sign: f"\\{sign}" for sign in "%&_#$"} | {"±": r"$\pm$", "<": "$<$", "–": "--"})
CALIBRATION = "Expected calibration error, by 15 bins of confidence (always naming one class: with certainty):"
SUBGROUP = 20  # images that a subgroup needs to be named on the page: one image more or less is 5 points


def pruning_table(rows: pd.DataFrame, criteria: list[str]) -> pd.DataFrame:
    """Return the rows in the order criterion (baseline first), seed, step, phase.

    Where some networks are masked, all have effective sizes.
    """
    if f"{EFFECTIVE}macs" in rows:
        without = {f"{EFFECTIVE}{size}": rows[f"{EFFECTIVE}{size}"].fillna(rows[size]).astype(int) for size in SIZES}
        others = rows.columns.drop(without)
        after = others.get_loc("macs") + 1
        rows = rows.assign(**without)[[*others[:after], *without, *others[after:]]]
    order = {name: position for position, name in enumerate(["baseline", *criteria])}
    keys = pd.DataFrame(
        {"criterion": rows["criterion"].map(order), "seed": rows["seed"], "step": rows["step"]}
        | {"phase": rows["phase"].map(PHASES.index)}
    )
    return rows.loc[keys.sort_values(list(keys)).index].reset_index(drop=True)


def effective(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with sizes that leave out what is masked; without masks, as it is."""
    return table.assign(**{size: table[f"{EFFECTIVE}{size}"] for size in SIZES if f"{EFFECTIVE}{size}" in table})


def last_step(table: pd.DataFrame) -> pd.DataFrame:
    """Return, for each criterion in the table's order, the mean over seeds of the last fine-tuned step."""
    last = at_the_end(table[table["phase"] == "finetuned"])
    return last.drop(columns=["seed", "step", "phase"]).groupby("criterion", sort=False).mean()


def at_the_end(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the last step of each chain: a guard or target may have ended some before others."""
    return rows[rows["step"] == rows.groupby(["criterion", "seed"])["step"].transform("max")]


def baseline(table: pd.DataFrame) -> pd.Series:
    """Return the mean over seeds of the unpruned networks' rows."""
    return table.loc[table["phase"] == "baseline"].drop(columns=["criterion", "seed", "step", "phase"]).mean()


def criteria(table: pd.DataFrame) -> list[str]:
    """Return the criteria that a table has, in its order."""
    return [name for name in table["criterion"].unique() if name != "baseline"]


def headline(unpruned: pd.Series, last: pd.DataFrame) -> pd.DataFrame:
    """Return balanced_accuracy and macs_left (share, without what is masked), a column a network.

    Parameters
    ----------
    unpruned, last : Series, DataFrame
        Of `baseline` and `last_step`.
    """
    both = effective(pd.concat([unpruned.to_frame("unpruned").T, last]))
    left = both["macs"] / unpruned["macs"]
    return pd.DataFrame({"balanced_accuracy": both["balanced_accuracy"], "macs_left": left}).T


def splits(index: pd.DataFrame) -> str:
    """Return of how many images and groups each split is, as a sentence.

    Parameters
    ----------
    index : DataFrame
        Of the prepared data: split and group.
    """
    counts = index.groupby("split")["group"].agg(["size", "nunique"])
    said = [
        f"{counts.loc[split, 'size']:,} images of {counts.loc[split, 'nunique']:,} groups {does}"
        for split, does in (("train", "train"), ("val", "choose"), ("test", "test"))
    ]
    return f"{', '.join(said)}; no group (an image, lesion, slide or patient) is in two splits."


def largest(counts: dict[str, int]) -> str:
    """Return the largest class; of several the first by name."""
    return max(sorted(counts), key=counts.get)


def majority(counts: dict[str, int]) -> pd.Series:
    """Return what always naming the largest class with the same certainty scores, named `always <class>`.

    Parameters
    ----------
    counts : dict
        Class to images of the test split.

    Returns
    -------
    Series
        accuracy, balanced_accuracy, macro_f1 (that of a class never named is 0), auroc, and recall_<class>.
    """
    name = largest(counts)
    share = counts[name] / sum(counts.values())
    f1 = 2 * share / (1 + share)
    scores = {"accuracy": share, "balanced_accuracy": 1 / len(counts), "macro_f1": f1 / len(counts), "auroc": 0.5}
    return pd.Series(scores | {f"recall_{other}": float(other == name) for other in counts}, name=f"always {name}")


def majority_in_words(counts: dict[str, int]) -> str:
    """Return accuracy and balanced accuracy of `majority` as a sentence."""
    scores = majority(counts)
    accuracy, balanced = scores["accuracy"], scores["balanced_accuracy"]
    return f"A{scores.name[1:]}: accuracy {accuracy:.4f}, balanced accuracy {balanced:.4f}."


def in_words(table: pd.DataFrame) -> str:
    """Return the last step of every criterion as lines of text, after the unpruned network."""
    return f"{title(table)}\n{_last_step_in_words(table).to_string()}"


def title(table: pd.DataFrame) -> str:
    """Return what the table of the last step shows."""
    seeds = table["seed"].nunique()
    spread = f"{seeds} seeds, mean ± standard deviation" if seeds > 1 else "1 seed"
    steps = at_the_end(table[table["criterion"] != "baseline"])["step"]
    least = f"{steps.min()} to " if steps.min() < steps.max() else ""
    masked = "; sizes without what is masked" if f"{EFFECTIVE}macs" in table else ""
    return f"After {least}{steps.max()} steps (test split, {spread}{masked}):"


def markdown(table: pd.DataFrame, majority: pd.Series) -> str:
    """Return the last step of every criterion, after the unpruned network and `majority`, as a Markdown table."""
    return with_criterion(_with_line(_last_step_in_words(table), _in_words(majority.map("{:.4f}".format)), after=1))


def steps_markdown(table: pd.DataFrame, majority: pd.Series) -> str:
    """Return sizes left and accuracy, before and after fine-tuning, of every step, after `majority`, as Markdown."""
    table = effective(table)
    whole = baseline(table)[SIZES]
    groups = table[table["criterion"] != "baseline"].groupby(["criterion", "step", "phase"], sort=False)
    measures = {"accuracy after the cut": ("pruned", "accuracy"), "accuracy": ("finetuned", "accuracy")}
    measures |= {"balanced accuracy": ("finetuned", "balanced_accuracy")}
    left = groups[SIZES].mean().xs("finetuned", level="phase") / whole
    texts = left.map("{:.1%}".format)
    for title, (phase, measure) in measures.items():
        texts[title] = spread(groups[measure].mean(), groups[measure].std()).xs(phase, level="phase")
    changed = of(with_change(table, [], ["balanced_accuracy"]), phase="finetuned")
    change = changed.groupby(["criterion", "step"], sort=False)["balanced_accuracy_change"]
    texts["less the unpruned network"] = spread(change.mean(), change.std(), sign="+")
    less = majority["balanced_accuracy"] - baseline(table)["balanced_accuracy"]
    always = _in_words(majority.map("{:.4f}".format))
    always["criterion"], always["less the unpruned network"] = majority.name, f"{less:+.4f}"
    return as_markdown(_with_line(texts.reset_index(), always, after=0))


def ends_markdown(chains: pd.DataFrame) -> str:
    """Return what ended the chains as Markdown, a row a criterion and limit.

    Parameters
    ----------
    chains : DataFrame
        criterion, seed, ended_by (`steps`, `macs`, `guard`, …), measure, and its values `unpruned` and `now`.
    """
    groups = chains.groupby(["criterion", "ended_by", "measure"], sort=False)
    texts = groups[["unpruned", "now"]].mean().map("{:.3f}".format)
    texts.insert(0, "seeds", groups["seed"].agg(lambda seeds: ", ".join(map(str, seeds))))
    return as_markdown(texts.reset_index().rename(columns={"ended_by": "ended by"}))


def difference_markdown(table: pd.DataFrame, majority: pd.Series) -> str:
    """Return the last step's metrics less those of the unpruned network of the same seed, by criterion, as Markdown.

    Before them stands `majority`, less the mean over seeds of the unpruned networks.
    """
    names = ["accuracy", "balanced_accuracy", "macro_f1", "auroc", "ece", "loss"]
    last = at_the_end(of(with_change(table, [], names), phase="finetuned"))
    groups = last.groupby("criterion", sort=False)[[f"{name}_change" for name in names]]
    mean, std = groups.mean().set_axis(names, axis=1), groups.std().set_axis(names, axis=1)
    texts = {name.replace("_", " "): spread(mean[name], std[name], sign="+") for name in names}
    known = [name for name in names if name in majority]
    always = (majority[known] - baseline(table)[known]).rename(majority.name).map("{:+.4f}".format)
    return with_criterion(_with_line(pd.DataFrame(texts), _in_words(always), after=0))


def classes_markdown(table: pd.DataFrame, majority: pd.Series) -> str:
    """Return the recall of each class at the last step, by criterion and of `majority`, as a Markdown table."""
    recalls = [name for name in table.columns if name.startswith("recall_")]
    groups = _unpruned_and_last(table).groupby("criterion", sort=False)[recalls]
    mean, std = groups.mean(), groups.std()
    texts = pd.DataFrame({name: spread(mean[name], std[name], digits=3) for name in recalls})
    texts = _with_line(texts, majority[recalls].map("{:.3f}".format), after=1)
    return with_criterion(texts.rename(columns=lambda name: name.removeprefix("recall_")))


def calibration_markdown(table: pd.DataFrame, majority: pd.Series) -> str:
    """Return the expected calibration error at the last step, and less the unpruned network, by criterion, as Markdown.

    Naming the class of `majority` with certainty has its own.
    """
    groups = _unpruned_and_last(with_change(table, [], ["ece"])).groupby("criterion", sort=False)
    mean, std = groups[["ece", "ece_change"]].mean(), groups[["ece", "ece_change"]].std()
    texts = pd.DataFrame({"ece": spread(mean["ece"], std["ece"])})
    texts["less the unpruned network"] = spread(mean["ece_change"], std["ece_change"], sign="+")
    texts.loc["unpruned", "less the unpruned network"] = ""
    error = 1 - majority["accuracy"]
    less = f"{error - mean.loc['unpruned', 'ece']:+.4f}"
    always = pd.Series({"ece": f"{error:.4f}", "less the unpruned network": less}, name=majority.name)
    return with_criterion(_with_line(texts, always, after=1))


def latency_markdown(table: pd.DataFrame, latency: pd.DataFrame) -> str:
    """Return sizes and milliseconds a forward pass at the last step as a Markdown table, beside what MACs promise.

    Means and standard deviations over seeds (of medians). Sizes are those of the tensors, and of masked networks also
    those without what is masked. Behind a time stands what it makes of the unpruned network's speed.

    Parameters
    ----------
    latency : DataFrame
        criterion, seed, step, batch, milliseconds.
    """
    names = [name for name in [*SIZES, *(f"{EFFECTIVE}{size}" for size in SIZES)] if name in table]
    groups = _unpruned_and_last(table).groupby("criterion", sort=False)[names]
    means, deviations = groups.mean(), groups.std()
    texts = pd.DataFrame({name.replace("_", " "): spread(means[name], deviations[name], digits=0) for name in names})
    texts["MACs, times fewer"] = (means.loc["unpruned", "macs"] / means["macs"]).map("{:.2f}".format)
    latency = at_the_end(latency).replace({"criterion": {"baseline": "unpruned"}})
    for batch, rows in latency.groupby("batch"):
        times = rows.groupby("criterion")["milliseconds"]
        mean = times.mean()
        faster = (mean["unpruned"] / mean).map(" ({:.2f} times the speed)".format)
        texts[f"ms, batch of {batch}"] = spread(mean, times.std(), digits=2) + faster.where(
            mean.index != "unpruned", ""
        )
    return with_criterion(texts)


def changes_markdown(rows: pd.DataFrame, key: str, measure: str) -> str:
    """Return mean changes (± standard deviation over seeds) by criterion and key, as Markdown."""
    groups = rows.groupby(["criterion", key], sort=False)[measure]
    texts = groups.mean().map("{:+.3f}".format)
    spread = groups.std()
    return _by_key(texts.where(spread.isna(), texts + " ± " + spread.map("{:.3f}".format)), rows, key)


def measures_markdown(rows: pd.DataFrame, key: str, measure: str) -> str:
    """Return means over seeds of a measure and its change, such as `0.812 (+0.035)`, by criterion and key.

    A dash is where there is nothing to count, such as the precision of a class that is never named.
    """
    means = rows.groupby(["criterion", key], sort=False)[[measure, f"{measure}_change"]].mean()
    texts = means[measure].map("{:.3f}".format) + means[f"{measure}_change"].map(" ({:+.3f})".format)
    return _by_key(texts.where(means.notna().all(axis=1), "–"), rows, key)


def worst_class_markdown(classes: pd.DataFrame) -> str:
    """Return, for each criterion, the class of lowest recall and that which lost most, means over seeds, as Markdown.

    Parameters
    ----------
    classes : DataFrame
        criterion, class, recall, recall_change; one step of each chain.
    """
    means = classes.groupby(["criterion", "class"], sort=False)[["recall", "recall_change"]].mean().dropna()
    lines = []
    for criterion, of_criterion in means.groupby("criterion", sort=False):
        line = {"criterion": criterion}
        for title, measure in (("worst", "recall"), ("lost most", "recall_change")):
            row = of_criterion.loc[of_criterion[measure].idxmin()]
            line[title] = f"{row.name[1]} {row['recall']:.3f} ({row['recall_change']:+.3f})"
        lines.append(line)
    return as_markdown(pd.DataFrame(lines))


def worst_markdown(subgroups: pd.DataFrame, measure: str, shown: int = 3) -> str:
    """Return, for each criterion, the subgroups of 20 images or more that lost most, mean over seeds, as Markdown."""
    subgroups = subgroups[subgroups["images"] >= SUBGROUP]
    groups = subgroups.groupby(["criterion", "subgroup", "value"], sort=False)
    mean = groups.agg(change=(measure, "mean"), images=("images", "first")).reset_index()
    lines = []
    for criterion in subgroups["criterion"].unique():
        worst = mean[mean["criterion"] == criterion].nsmallest(shown, "change")
        said = [f"{row.subgroup} {row.value} {row.change:+.3f} ({row.images})" for row in worst.itertuples()]
        lines.append({"criterion": criterion, "lost most": ", ".join(said)})
    return as_markdown(pd.DataFrame(lines))


def subgroups_markdown(subgroups: pd.DataFrame) -> str:
    """Return accuracies, changes and 95 % intervals, means over seeds, subgroup of 20 images or more by criterion.

    Parameters
    ----------
    subgroups : DataFrame
        criterion, seed, subgroup, value, images, accuracy, low, high (its interval over the subgroup's images) and
        accuracy_change; one step of each chain.
    """
    large = subgroups[subgroups["images"] >= SUBGROUP]
    name = large["subgroup"] + " " + large["value"].astype(str) + " (" + large["images"].astype(str) + ")"
    keys = [name.rename("subgroup"), large["criterion"]]
    mean = large.groupby(keys, sort=False)[["accuracy", "accuracy_change", "low", "high"]].mean()
    texts = mean["accuracy"].map("{:.3f}".format) + mean["accuracy_change"].map(", {:+.3f}".format)
    texts += mean["low"].map(" ({:.3f}".format) + mean["high"].map(" to {:.3f})".format)
    wide = texts.unstack().loc[name.unique(), large["criterion"].unique()]
    return as_markdown(wide.rename_axis(columns=None).reset_index())


def similarities_markdown(rows: pd.DataFrame, measures: dict[str, str]) -> str:
    """Return mean and standard deviation of measures (column to words) by criterion, as Markdown."""
    groups = rows.groupby("criterion", sort=False)[list(measures)]
    mean, std = groups.mean(), groups.std()
    texts = {words: spread(mean[name], std[name], digits=3) for name, words in measures.items()}
    return with_criterion(pd.DataFrame(texts))


def moved_markdown(rows: pd.DataFrame, measure: str, shown: int = 3) -> str:
    """Return the classes of which a similarity is lowest in the mean, by criterion, as Markdown."""
    means = rows.groupby(["criterion", "class"], sort=False)[measure].mean()
    lines = []
    for criterion in rows["criterion"].unique():
        lowest = means[criterion].nsmallest(shown)
        moved = ", ".join(f"{name} {value:.3f}" for name, value in lowest.items())
        lines.append({"criterion": criterion, "moved most": moved})
    return as_markdown(pd.DataFrame(lines))


def flips_markdown(flips: pd.DataFrame) -> str:
    """Return how many images' predicted class changed, by criterion and kind (mean over seeds), as Markdown."""
    counts = flips.groupby(["criterion", "seed", "kind"], sort=False).size().unstack(fill_value=0)
    counts = counts.reindex(columns=["lost", "gained", "other"], fill_value=0).groupby("criterion", sort=False).mean()
    return with_criterion(counts.map("{:.1f}".format).rename_axis(columns=None))


def of(table: pd.DataFrame, **values: str) -> pd.DataFrame:
    """Return the rows that have these values."""
    return table[(table[list(values)] == pd.Series(values)).all(axis=1)]


def _by_key(texts: pd.Series, rows: pd.DataFrame, key: str) -> str:
    """Return texts as a Markdown table, criterion by key, both in the order of the rows."""
    wide = texts.unstack().loc[rows["criterion"].unique(), rows[key].unique()]
    return with_criterion(wide.rename_axis(columns=None))


def _unpruned_and_last(table: pd.DataFrame) -> pd.DataFrame:
    return at_the_end(table[table["phase"] != "pruned"]).replace({"criterion": {"baseline": "unpruned"}})


def _last_step_in_words(table: pd.DataFrame) -> pd.DataFrame:
    table = effective(table)
    groups = _unpruned_and_last(table).groupby("criterion", sort=False)
    texts = (groups[SIZES].mean() / baseline(table)[SIZES]).map("{:.1%}".format)
    cut = at_the_end(table[table["phase"] == "pruned"]).groupby("criterion")["accuracy"]
    texts["accuracy after the cut"] = spread(cut.mean(), cut.std())
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "auroc"):
        texts[name.replace("_", " ")] = spread(groups[name].mean(), groups[name].std())
    return texts.fillna("").rename_axis(None)


def _in_words(line: pd.Series) -> pd.Series:
    return line.rename(lambda name: name.replace("_", " "))


def _with_line(texts: pd.DataFrame, line: pd.Series, after: int) -> pd.DataFrame:
    """Return texts with a line after so many others; what it has no value of is empty."""
    return pd.concat([texts[:after], line.reindex(texts.columns).fillna("").to_frame().T, texts[after:]])


def with_criterion(table: pd.DataFrame) -> str:
    """Return a table as Markdown, with its index as the first column: the criterion."""
    return as_markdown(table.rename_axis("criterion").reset_index())


def spread(mean: pd.Series, std: pd.Series, digits: int = 4, sign: str = "") -> pd.Series:
    """Return texts such as `0.8715 ± 0.0020`, or without a standard deviation `0.8715`."""
    texts = mean.map(f"{{:{sign},.{digits}f}}".format)
    return texts.where(std.isna(), texts + " ± " + std.map(f"{{:,.{digits}f}}".format))


def as_markdown(table: pd.DataFrame) -> str:
    """Return a table as Markdown."""
    lines = [map(str, table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_latex(page: str) -> str:
    """Return the tables of a Markdown page as LaTeX (booktabs), each under a comment with the paragraph before it."""
    found, said = [], ""
    for block in page.split("\n\n"):
        lines = block.strip().splitlines()
        if len(lines) > 1 and lines[1].startswith("| ---"):
            table = [[cell.strip().translate(LATEX) for cell in line.strip()[1:-1].split("|")] for line in lines]
            head, _, *rows = table
            body = [" & ".join(cells) + r" \\" for cells in (head, *rows)]
            frame = [rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule", body[0], r"\midrule", *body[1:]]
            found.append("\n".join([f"% {said}", *frame, r"\bottomrule", r"\end{tabular}"]))
        elif lines and not lines[0].startswith("!"):
            said = " ".join(lines)
    return "\n\n".join(found) + "\n"


def per_cent(mean: pd.Series, std: pd.Series) -> pd.Series:
    """Return texts such as `91.3 ± 0.4` for fractions and their standard deviations (without one: `91.3`)."""
    pairs = zip(mean, std, strict=True)
    texts = [f"{100 * m:.1f}" if pd.isna(s) else f"{100 * m:.1f} ± {100 * s:.1f}" for m, s in pairs]
    return pd.Series(texts, index=mean.index)
