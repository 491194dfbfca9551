"""What pruning did to the ProtoPNets of a study, beside filter pruning: sentences and tables."""

import numpy as np
import pandas as pd

from stages.reporting import tables
from stages.reporting.comparison import at_macs, seeds_interval

WORDS = {
    "classifier": "unpruned classifier",
    "trained": "ProtoPNet, projected",
    "pruned": "less prototypes",
    "tuned": "less prototypes, last layer tuned",
}
ENOUGH = 0.005  # of balanced accuracy that pruning prototypes may cost, where so many are gone:
QUARTER = 0.25


def in_words(network: str) -> str:
    """Return what a network of the stage prototypes is; others have the name of the criterion that pruned them."""
    return WORDS.get(network, network if " " in network else f"also less filters by {network}")


def sentences(rows: pd.DataFrame) -> list[str]:
    """Return what pruning prototypes and then filters cost, with 95 % intervals of the mean over several seeds."""
    of_seed = rows.pivot(index="seed", columns="network", values=["prototypes", "macs", "balanced_accuracy"])
    accuracy, prototypes = of_seed["balanced_accuracy"], of_seed["prototypes"]
    gone = 1 - (prototypes["tuned"] / prototypes["trained"]).mean()
    right_after, in_the_end = (accuracy[name] - accuracy["trained"] for name in ("pruned", "tuned"))
    found = [
        f"Without {gone:.0%} of its prototypes ({prototypes['tuned'].mean():.0f} of {prototypes['trained'].mean():.0f} "
        f"are left) the balanced accuracy of the ProtoPNet changes by {_points(right_after)} right after, and by "
        f"{_points(in_the_end)} once the last layer is tuned. {_target(gone, in_the_end)}",
        f"Projected, it is {_points(accuracy['trained'] - accuracy['classifier'])} from the classifier whose backbone "
        f"it took, at {(of_seed['macs']['trained'] / of_seed['macs']['classifier']).mean():.0%} of its MACs.",
    ]
    for criterion in [name for name in rows["network"].unique() if name not in WORDS]:
        left = (of_seed["macs"][criterion] / of_seed["macs"]["trained"]).mean()
        found.append(
            f"Its filters pruned by {criterion} to {left:.0%} of the MACs, trained on and projected again, it changes "
            f"by another {_points(accuracy[criterion] - accuracy['tuned'])}."
        )
    return found


def _target(gone: float, changes: pd.Series) -> str:
    """Return whether a quarter of the prototypes went at a loss of half a point at most, as a sentence."""
    said = f"That a quarter of the prototypes can go at a loss of {100 * ENOUGH:.1f} points at most"
    low, _ = seeds_interval(changes.to_numpy(float))
    if gone < QUARTER:
        return f"{said} is not shown: {gone:.1%} went."
    if changes.mean() < -ENOUGH:
        return f"{said} is false here."
    if np.isnan(low):
        return f"{said} is true of this seed."
    certain = "the interval's lower end too" if low >= -ENOUGH else "the interval reaches further down"
    return f"{said} is true in the mean of these seeds; {certain}."


def contributions_markdown(told: dict, classes: list[str]) -> str:
    """Return what the strongest prototypes add to the logit of each class, as Markdown.

    Parameters
    ----------
    told : dict
        Of `explanations.json`: one image.
    """
    rows = [
        {"prototype": f"{each['prototype']} ({each['of_class']})", "similarity": f"{each['similarity']:.2f}"}
        | {name: f"{each['contributions'][name]:+.2f}" for name in classes}
        for each in told["strongest"]
    ]
    return tables.as_markdown(pd.DataFrame(rows))


def markdown(rows: pd.DataFrame, pruning: pd.DataFrame) -> str:
    """Return sizes and metrics of ProtoPNets and of the last step of the study's chains, as Markdown.

    Parameters
    ----------
    rows : DataFrame
        Of the stage evaluate_prototypes.
    pruning : DataFrame
        metrics/pruning.csv.
    """
    last = tables.at_the_end(tables.effective(pruning[pruning["phase"] == "finetuned"]))
    chains = last.assign(network="classifier less filters by " + last["criterion"])
    rows = pd.concat([rows, chains[chains.columns.intersection(rows.columns)]], ignore_index=True)
    rows = rows.assign(macs_left=rows["macs"] / _of_classifier(rows, "macs"))
    rows["difference"] = 100 * (rows["balanced_accuracy"] - _of_classifier(rows, "balanced_accuracy"))
    groups = rows.groupby("network", sort=False)
    mean, std = (getattr(groups, what)(numeric_only=True) for what in ("mean", "std"))
    shown = pd.DataFrame({"network": [in_words(name) for name in mean.index]}, index=mean.index)
    shown["prototypes"] = mean["prototypes"].map("{:.0f}".format).replace("nan", "")
    shown["parameters"] = mean["params"].map("{:,.0f}".format)
    shown["MACs"], shown["MACs left"] = mean["macs"].map("{:,.0f}".format), mean["macs_left"].map("{:.1%}".format)
    for metric in ("accuracy", "balanced_accuracy", "auroc"):
        shown[metric.replace("_", " ")] = tables.spread(mean[metric], std[metric])
    shown["difference, points"] = tables.spread(mean["difference"], std["difference"], 2, "+")
    return tables.as_markdown(shown)


def measures_markdown(rows: pd.DataFrame) -> str:
    """Return what is said of the prototypes of each network, means over seeds, as Markdown."""
    rows = rows[rows["prototypes"].notna()]
    mean = rows.groupby("network", sort=False).mean(numeric_only=True)
    shown = pd.DataFrame({"network": [in_words(name) for name in mean.index]}, index=mean.index)
    counts = {
        "prototypes": "prototypes",
        "fewest_of_class": "fewest of a class",
        "images": "images",
        "groups": "groups",
    }
    for column, words in counts.items():
        shown[words] = mean[column].map("{:.0f}".format)
    names = {"purity": "purity", "strongest_kept": "strongest kept", "patch_stays": "patch stays", "inside": "inside"}
    for column, words in names.items():
        if mean[column].notna().any():
            shown[words] = mean[column].map("{:.3f}".format)
    return tables.as_markdown(shown)


def beside_markdown(rows: pd.DataFrame, pruning: pd.DataFrame) -> str:
    """Return each ProtoPNet beside the filter pruning of the study at its MACs, as Markdown.

    Parameters
    ----------
    rows : DataFrame
        Of the stage evaluate_prototypes.
    pruning : DataFrame
        metrics/pruning.csv; balanced accuracy after fine-tuning, interpolated between the steps of a chain.
    """
    lines, pruning = [], tables.effective(pruning)
    for network, of_network in rows[rows["prototypes"].notna()].groupby("network", sort=False):
        of_seeds = [(pruning[pruning["seed"] == row.seed], row.macs) for row in of_network.itertuples()]
        found = pd.DataFrame([at_macs(of_seed, macs, "finetuned", "balanced_accuracy") for of_seed, macs in of_seeds])
        own, macs = of_network["balanced_accuracy"].mean(), of_network["macs"].mean()
        reached = found.mean().dropna()
        line = {"network": in_words(network), "MACs": f"{macs:,.0f}", "balanced accuracy": f"{own:.4f}"}
        best = reached.idxmax() if len(reached) else None
        line["best filter pruning"] = "no chain has that size" if best is None else f"{reached[best]:.4f} ({best})"
        lines.append(line | {"difference, points": "" if best is None else f"{100 * (own - reached[best]):+.2f}"})
    return tables.as_markdown(pd.DataFrame(lines))


def removed_markdown(plans: dict[int, dict]) -> str:
    """Return how many prototypes each class kept, over seeds, and the rules that removed them, as Markdown."""
    rows = pd.DataFrame([each | {"seed": seed} for seed, plan in plans.items() for each in plan["prototypes"]])
    rows["kept"] = rows["removed_by"].map(len) == 0
    seeds = rows["seed"].nunique()
    of_class = rows.groupby("class", sort=False)
    shown = pd.DataFrame({"class": list(of_class.groups), "before": of_class.size().to_numpy() / seeds})
    shown["kept"] = of_class["kept"].sum().to_numpy() / seeds
    shown["purity before"] = of_class["purity"].mean().map("{:.2f}".format).to_numpy()
    shown["removed by"] = [
        ", ".join(sorted({rule for rules in group["removed_by"] for rule in rules})) for _, group in of_class
    ]
    return tables.as_markdown(shown.round(1))


def _of_classifier(rows: pd.DataFrame, column: str) -> pd.Series:
    return rows["seed"].map(rows[rows["network"] == "classifier"].set_index("seed")[column])


def _points(differences: pd.Series) -> str:
    points = 100 * differences.to_numpy()
    low, high = seeds_interval(points)
    interval = "" if np.isnan(low) else f" (95 % interval {low:+.2f} to {high:+.2f})"
    return f"{points.mean():+.2f} points{interval}"
