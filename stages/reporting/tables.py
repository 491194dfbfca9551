"""The study's tables, from the rows that its jobs wrote."""

from collections.abc import Iterable

import pandas as pd

SIZES = ["filters", "params", "macs"]
IN_WORDS = {"filters": "filters", "params": "parameters"}
EFFECTIVE = "effective_"  # before the name of a size: that without what is masked
PHASES = ["baseline", "pruned", "finetuned"]
LATEX = str.maketrans({sign: f"\\{sign}" for sign in "%&_#$"} | {"±": r"$\pm$", "<": "$<$", "–": "--"})
LEVEL = 0.05  # below which a corrected p counts
IN_CELLS = "and less the unpruned network; 95 % interval over seeds"
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


def majority(counts: dict[str, int]) -> pd.Series:
    """Return what always naming the largest class with the same certainty scores, named `always <class>`.

    Parameters
    ----------
    counts : dict
        Class to images of the test split.

    Returns
    -------
    Series
        accuracy, balanced_accuracy, macro_f1 (that of a class never named is 0) and auroc.
    """
    name, share = max(counts, key=counts.get), max(counts.values()) / sum(counts.values())
    f1 = 2 * share / (1 + share)
    scores = {"accuracy": share, "balanced_accuracy": 1 / len(counts), "macro_f1": f1 / len(counts), "auroc": 0.5}
    return pd.Series(scores, name=f"always {name}")


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
    return _with_criterion(_with_majority(_last_step_in_words(table), majority.map("{:.4f}".format), after=1))


def steps_markdown(table: pd.DataFrame) -> str:
    """Return sizes left and accuracy, before and after fine-tuning, of every step as a Markdown table."""
    table = effective(table)
    whole = baseline(table)[SIZES]
    groups = table[table["criterion"] != "baseline"].groupby(["criterion", "step", "phase"], sort=False)
    measures = {"accuracy after the cut": ("pruned", "accuracy"), "accuracy": ("finetuned", "accuracy")}
    measures |= {"balanced accuracy": ("finetuned", "balanced_accuracy")}
    left = groups[SIZES].mean().xs("finetuned", level="phase") / whole
    texts = left.map("{:.1%}".format)
    for title, (phase, measure) in measures.items():
        texts[title] = spread(groups[measure].mean(), groups[measure].std()).xs(phase, level="phase")
    lost = groups["balanced_accuracy"].mean().xs("finetuned", level="phase") - baseline(table)["balanced_accuracy"]
    texts["less the unpruned network"] = lost.map("{:+.4f}".format)
    return as_markdown(texts.reset_index())


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
    unpruned = table[table["phase"] == "baseline"].set_index("seed")[names]
    last = at_the_end(table[table["phase"] == "finetuned"]).set_index(["criterion", "seed"])[names]
    groups = (last - unpruned.reindex(last.index.get_level_values("seed")).to_numpy()).groupby("criterion", sort=False)
    mean, std = groups.mean(), groups.std()
    texts = {name.replace("_", " "): spread(mean[name], std[name], sign="+") for name in names}
    always = (majority - unpruned.mean()[majority.index]).rename(majority.name).map("{:+.4f}".format)
    return _with_criterion(_with_majority(pd.DataFrame(texts), always, after=0))


def areas_markdown(areas: pd.DataFrame, phases: dict[str, str]) -> list[str]:
    """Return mean balanced accuracy over sizes, criterion by axis, as Markdown: for each phase a sentence and a table.

    Parameters
    ----------
    areas : DataFrame
        Rows of `reporting.comparison.areas` with the column phase.
    phases : dict
        Phase to words, such as "after fine-tuning".
    """
    parts = []
    for phase, when in phases.items():
        chosen = of(areas, metric="balanced_accuracy", phase=phase)
        names = {axis: f"{axis.replace('latency_', 'time of ')} (from {least:.0%})"
                 for axis, least in chosen[["axis", "least"]].drop_duplicates().itertuples(index=False)}  # fmt: skip
        wide = chosen.assign(text=_with_difference(chosen)).pivot(index="criterion", columns="axis", values="text")
        wide = wide.loc[chosen["criterion"].unique(), list(names)].rename(columns=names).rename_axis(columns=None)
        parts += [
            f"Mean balanced accuracy {when} over all sizes that every criterion reaches (the area under its curve), "
            "and less the unpruned network; time is measured, of batches of so many images:",
            _with_criterion(wide),
        ]
    return parts


def few_areas_markdown(areas: pd.DataFrame, phases: dict[str, str]) -> list[str]:
    """Do as `areas_markdown` for each number in the column images_per_class."""
    return [
        part
        for images, rows in areas.groupby("images_per_class")
        for part in areas_markdown(rows, _with_few(images, phases))
    ]


def classes_markdown(table: pd.DataFrame) -> str:
    """Return the recall of each class at the last step, by criterion, as a Markdown table."""
    recalls = [name for name in table.columns if name.startswith("recall_")]
    groups = _unpruned_and_last(table).groupby("criterion", sort=False)[recalls]
    mean, std = groups.mean(), groups.std()
    texts = {name.removeprefix("recall_"): spread(mean[name], std[name], digits=3) for name in recalls}
    return _with_criterion(pd.DataFrame(texts))


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
    return _with_criterion(texts)


def comparison_markdown(
    levels: pd.DataFrame, pairs: pd.DataFrame, phases: dict[str, str], others: Iterable[str]
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
    levels, pairs = (of(table, axis="macs", metric="balanced_accuracy") for table in (levels, pairs))
    parts = []
    last = list(phases)[-1]
    if not (reached := of(levels, phase=last)).empty:
        parts += [
            f"Balanced accuracy {phases[last]} where this part of the MACs is left ({IN_CELLS}):",
            levels_markdown(reached),
        ]
    for other in others:
        for phase, when in phases.items():
            if not (differences := differences_to(of(pairs, phase=phase), other)).empty:
                title = (
                    f"Balanced accuracy less that of {other}, {when}, at equal MACs (p corrected for pairs and sizes)."
                )
                parts += [f"{title} {better_than(differences, other)}", differences_markdown(differences)]
    return parts


def levels_markdown(levels: pd.DataFrame) -> str:
    """Return means, differences to the unpruned network and 95 % intervals by criterion and share left as Markdown.

    Parameters
    ----------
    levels : DataFrame
        Rows of `reporting.comparison.levels`, one a criterion and share.
    """
    interval = " (" + levels["low"].map("{:.4f}".format) + " to " + levels["high"].map("{:.4f}".format) + ")"
    return _by_share(levels, _with_difference(levels) + interval.where(levels["low"].notna(), ""))


def at_other_sizes(levels: pd.DataFrame, pairs: pd.DataFrame, phases: dict[str, str]) -> list[str]:
    """Return balanced accuracies at equal size as Markdown, for each measure of size but MACs that has some.

    After each table stands what is better than random there, if random is a criterion.

    Parameters
    ----------
    levels, pairs : DataFrame
        Rows of `reporting.comparison` with the columns axis, metric and phase.
    phases : dict
        Phase to words, such as "after fine-tuning"; levels are given for the last.
    """
    levels, pairs = (of(table, metric="balanced_accuracy") for table in (levels, pairs))
    last = list(phases)[-1]
    found = []
    for axis, of_axis in of(levels[levels["axis"] != "macs"], phase=last).groupby("axis", sort=False):
        what = IN_WORDS.get(axis, f"measured time, batch of {axis.removeprefix('latency_')},")
        parts = [f"Balanced accuracy {phases[last]} where this part of the {what} is left ({IN_CELLS}):"]
        parts.append(levels_markdown(of_axis))
        for phase, when in phases.items():
            if not (differences := differences_to(of(pairs, axis=axis, phase=phase), "random")).empty:
                parts.append(f"{when[0].upper()}{when[1:]}: {better_than(differences, 'random').lower()}")
        found.append("\n\n".join(parts))
    return found


def few_at_other_sizes(levels: pd.DataFrame, pairs: pd.DataFrame, phases: dict[str, str]) -> list[str]:
    """Do as `at_other_sizes` for each number in the column images_per_class."""
    return [
        text
        for images, rows in levels.groupby("images_per_class")
        for text in at_other_sizes(rows, of(pairs, images_per_class=images), _with_few(images, phases))
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
    return _by_share(differences, texts)


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
    return as_markdown(texts.assign(p=stability["p_holm"].map(_p)))


def changes_markdown(rows: pd.DataFrame, key: str, measure: str) -> str:
    """Return mean changes (± standard deviation over seeds) by criterion and key, as Markdown."""
    groups = rows.groupby(["criterion", key], sort=False)[measure]
    texts = groups.mean().map("{:+.3f}".format)
    spread = groups.std()
    return _by_key(texts.where(spread.isna(), texts + " ± " + spread.map("{:.3f}".format)), rows, key)


def measures_markdown(rows: pd.DataFrame, key: str, measure: str) -> str:
    """Return means over seeds of a measure and its change, such as `0.812 (+0.035)`, by criterion and key."""
    means = rows.groupby(["criterion", key], sort=False)[[measure, f"{measure}_change"]].mean()
    return _by_key(means[measure].map("{:.3f}".format) + means[f"{measure}_change"].map(" ({:+.3f})".format), rows, key)


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


def similarities_markdown(rows: pd.DataFrame, measures: dict[str, str]) -> str:
    """Return mean and standard deviation of measures (column to words) by criterion, as Markdown."""
    groups = rows.groupby("criterion", sort=False)[list(measures)]
    mean, std = groups.mean(), groups.std()
    texts = {words: spread(mean[name], std[name], digits=3) for name, words in measures.items()}
    return _with_criterion(pd.DataFrame(texts))


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
    return _with_criterion(counts.map("{:.1f}".format).rename_axis(columns=None))


def concept_layers_markdown(layers: pd.DataFrame) -> str:
    """Return how relevance is spread over the concepts of each layer (mean over seeds), as Markdown."""
    means = layers.groupby("layer", sort=False).mean(numeric_only=True)
    texts = pd.DataFrame(
        {
            "layer": means.index,
            "concepts": means["concepts"].map("{:.0f}".format),
            "effective": means["effective_concepts"].map("{:.1f}".format),
            "largest share": means["largest_share"].map("{:.1%}".format),
            "lost or gained": means["lost"].map("{:.1e}".format),
        }
    )
    unreported = means["effective_concepts"].isna().to_numpy()
    texts.loc[unreported, ["effective", "largest share"]] = "not reported"
    if "inside" in means:
        inside = means["inside"].map("{:.1%}".format) + " of " + means["area"].map("{:.1%}".format)
        texts["in the region"] = inside.where(means["inside"].notna(), "").to_numpy()
    return as_markdown(texts)


def top_concepts_markdown(rows: pd.DataFrame) -> str:
    """Return the concepts of rows of the atlas by class, with share, interval and votes, as Markdown."""
    lines = []
    for name, of_class in rows.groupby("class", sort=False):
        said = []
        for row in of_class.itertuples():
            interval = f"{row.low:.1%} to {row.high:.1%}; " if row.low == row.low else ""  # of one group there is none
            said.append(f"{row.concept}: {row.share:.1%} ({interval}{row.votes:.0f} of {row.images})")
        lines.append({"class": name, "concepts": ", ".join(said)})
    return as_markdown(pd.DataFrame(lines))


def concept_changes_markdown(changes: pd.DataFrame) -> str:
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
    return _with_criterion(seen.map("{:.0f}".format).join(means.map("{:.1%}".format)))


def lost_concepts_markdown(fates: pd.DataFrame, shown: int = 5) -> str:
    """Return the lost concepts with the largest share of their layer's relevance, by criterion, as Markdown.

    Parameters
    ----------
    fates : DataFrame
        criterion, layer, concept, share, fate and removed; one seed.
    """
    lines = []
    for criterion in fates["criterion"].unique():
        lost = of(fates, criterion=criterion, fate="lost").nlargest(shown, "share")
        said = [
            f"{row.layer} {row.concept} ({row.share:.1%}{'' if row.removed else ', not removed'})"
            for row in lost.itertuples()
        ]
        lines.append({"criterion": criterion, "lost": ", ".join(said) or "none"})
    return as_markdown(pd.DataFrame(lines, columns=["criterion", "lost"]))


def of(table: pd.DataFrame, **values: str) -> pd.DataFrame:
    """Return the rows that have these values."""
    return table[(table[list(values)] == pd.Series(values)).all(axis=1)]


def _with_few(images: int, phases: dict[str, str]) -> dict[str, str]:
    return {phase: f"{when} with {images} of each class" for phase, when in phases.items()}


def _with_difference(rows: pd.DataFrame) -> pd.Series:
    """Return texts such as `0.8524, -0.0296`, the mean and its difference to the unpruned network."""
    return rows["mean"].map("{:.4f}".format) + rows["difference"].map(", {:+.4f}".format)


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _by_key(texts: pd.Series, rows: pd.DataFrame, key: str) -> str:
    """Return texts as a Markdown table, criterion by key, both in the order of the rows."""
    wide = texts.unstack().loc[rows["criterion"].unique(), rows[key].unique()]
    return _with_criterion(wide.rename_axis(columns=None))


def _by_share(rows: pd.DataFrame, texts: pd.Series) -> str:
    """Return texts as a Markdown table, criterion by share; where a criterion never gets that small, a dash."""
    wide = rows.assign(text=texts).pivot(index="criterion", columns="share", values="text").fillna("–")
    wide = wide.loc[rows["criterion"].unique(), sorted(wide, reverse=True)]
    return _with_criterion(wide.rename(columns="{:.0%}".format).rename_axis(columns=None))


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


def _with_majority(texts: pd.DataFrame, majority: pd.Series, after: int) -> pd.DataFrame:
    """Return texts with a row for `majority` after so many others; what it has no value of is empty."""
    line = majority.rename(lambda name: name.replace("_", " ")).reindex(texts.columns).fillna("").to_frame().T
    return pd.concat([texts[:after], line, texts[after:]])


def _with_criterion(table: pd.DataFrame) -> str:
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
