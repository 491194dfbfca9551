"""The study's plots, as SVG without dates or random identifiers: equal tables give equal files."""

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from stages.files import replacing
from stages.reporting import tables

matplotlib.rcParams.update({"svg.hashsalt": "study", "svg.fonttype": "none", "font.size": 9})
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"]  # Okabe & Ito
AXES = {"macs": "MACs left", "params": "parameters left", "filters": "filters left"}
TITLES = {"pruned": "right after each cut", "finetuned": "after fine-tuning"}


def save(figure: Figure, path: Path) -> None:
    """Write a figure as SVG."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")


def metric_curves(table: pd.DataFrame, metric: str) -> Figure:
    """Return a metric against the MACs, parameters and filters left, right after each cut and after fine-tuning.

    One line a criterion (mean over seeds, with the range of the seeds shaded), the unpruned network as a dotted line.
    """
    figure = Figure(figsize=(11, 6.2), layout="constrained")
    panels = figure.subplots(2, 3, sharey="row", squeeze=False)
    for row, phase in zip(panels, TITLES, strict=True):
        for axes, size in zip(row, AXES, strict=True):
            _curves(axes, table, metric, phase, size)
            axes.set_title(TITLES[phase])
        row[0].set_ylabel(metric.replace("_", " ") + " (test)")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def _curves(axes: Axes, table: pd.DataFrame, metric: str, phase: str, size: str) -> None:
    whole = tables.baseline(table)
    axes.axhline(whole[metric], color="grey", linestyle=":", label="unpruned")
    criteria = [name for name in table["criterion"].unique() if name != "baseline"]
    for colour, criterion in zip(COLOURS * len(criteria), criteria, strict=False):
        chain = table[(table["criterion"] == criterion) & (table["phase"] == phase)]
        steps = chain.groupby("step")
        share = [1.0, *(steps[size].mean() / whole[size])]
        style = "--" if criterion == "random" else "-"
        axes.plot(share, [whole[metric], *steps[metric].mean()], style, marker="o", ms=3, color=colour, label=criterion)
        if chain["seed"].nunique() > 1:
            axes.fill_between(share[1:], steps[metric].min(), steps[metric].max(), color=colour, alpha=0.15, lw=0)
    axes.set_xlim(1.02, 0)
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.set_xlabel(AXES[size])
    axes.grid(alpha=0.3)


def layer_shares(layers: pd.DataFrame) -> Figure:
    """Return a map of the share of each layer's filters that is left after the last step, criterion by layer."""
    last = layers[layers["step"] == layers["step"].max()]
    share = (last["after"] / last["original"]).groupby([last["criterion"], last["layer"]], sort=False).mean().unstack()
    share = share.loc[layers["criterion"].unique(), layers["layer"].unique()]
    figure = Figure(figsize=(2 + 0.45 * share.shape[1], 1.6 + 0.4 * share.shape[0]), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    axes.set_yticks(range(share.shape[0]), share.index)
    axes.set_xticks(range(share.shape[1]), share.columns, rotation=60, ha="right")
    for y, x in [(y, x) for y in range(share.shape[0]) for x in range(share.shape[1])]:
        value = share.iat[y, x]
        axes.text(x, y, f"{100 * value:.0f}", ha="center", va="center", color="white" if value < 0.6 else "black")
    axes.set_title("filters left in each layer after the last step (%)")
    figure.colorbar(image, format=lambda value, _: f"{value:.0%}")
    return figure


def training_curves(history: pd.DataFrame) -> Figure:
    """Return the baselines' training and validation loss and validation accuracy by epoch."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for seed, rows in history[history["criterion"] == "baseline"].groupby("seed"):
        left.plot(rows["epoch"], rows["train_loss"], label=f"training, seed {seed}")
        left.plot(rows["epoch"], rows["val_loss"], "--", label=f"validation, seed {seed}")
        right.plot(rows["epoch"], rows["val_accuracy"], label=f"seed {seed}")
    left.set(xlabel="epoch", ylabel="loss (nats)")
    right.set(xlabel="epoch", ylabel="validation accuracy")
    left.legend()
    right.legend()
    return figure


def toy(table: pd.DataFrame, regions: dict[str, dict[str, np.ndarray]], criteria: list[str]) -> Figure:
    """Return the toy study's figure: predicted classes in the plane, and accuracy by number of reference points.

    Parameters
    ----------
    table : DataFrame
        Of `stages.reporting.tables.toy`.
    regions : dict
        By problem: grid (G^2 x 2), points (N x 2), labels (N), and the predicted classes on the grid (G^2) of the
        unpruned network and by criterion.
    """
    shown = ["unpruned", *criteria]
    figure = Figure(figsize=(2 * len(shown) + 3.2, 2 * len(regions) + 0.4), layout="constrained")
    widths = [1] * len(shown) + [1.5]
    panels = figure.subplots(len(regions), len(shown) + 1, squeeze=False, gridspec_kw={"width_ratios": widths})
    for row, (problem, found) in zip(panels, regions.items(), strict=True):
        for axes, name in zip(row, shown, strict=False):
            _regions(axes, found, name)
            axes.set_title(name)
        row[0].set_ylabel(problem)
        _accuracy_by_references(row[-1], table[table["problem"] == problem], criteria)
    panels[-1][-1].set_xlabel("reference points a class")
    panels[0][-1].legend(fontsize=7)
    return figure


def _regions(axes: Axes, found: dict[str, np.ndarray], name: str) -> None:
    side = int(len(found["grid"]) ** 0.5)
    (left, bottom), (right, top) = found["grid"].min(0), found["grid"].max(0)
    colours = ListedColormap(COLOURS[:4])
    image = found[name].reshape(side, side).T
    axes.imshow(image, origin="lower", extent=(left, right, bottom, top), cmap=colours, vmin=0, vmax=3, alpha=0.3)
    some = slice(None, None, 5)
    axes.scatter(*found["points"][some].T, c=found["labels"][some], cmap=colours, vmin=0, vmax=3, s=1, rasterized=True)
    axes.set(xticks=[], yticks=[], aspect="auto")


def _accuracy_by_references(axes: Axes, table: pd.DataFrame, criteria: list[str]) -> None:
    for colour, criterion in zip(COLOURS * len(criteria), criteria, strict=False):
        rows = table[table["criterion"] == criterion]
        style = {"color": colour, "label": criterion}
        if (rows["references_per_class"] == 0).all():
            axes.axhline(rows["train_accuracy"].item(), ls="--" if criterion == "random" else "-", lw=1, **style)
        else:
            axes.plot(rows["references_per_class"], rows["train_accuracy"], marker="o", ms=3, **style)
    axes.set_xscale("log")
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.grid(alpha=0.3)


def one_shot(rows: pd.DataFrame) -> Figure:
    """Return accuracy against the share of filters, and of MACs, that was removed at once (mean and range of seeds)."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    variants = list(rows["variant"].unique())
    for axes, unit in zip(panels, ("filters", "macs"), strict=True):
        for place, variant in enumerate(variants):
            curve = rows[(rows["unit"] == unit) & (rows["variant"] == variant)].groupby("rate")["accuracy"]
            colour = COLOURS[place % len(COLOURS)]
            style = "--" if variant == "random" else ("-", "-.")[place // len(COLOURS)]
            axes.plot(curve.mean(), style, color=colour, label=variant, lw=1.2)
            axes.fill_between(curve.min().index, curve.min(), curve.max(), color=colour, alpha=0.12, lw=0)
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.set_xlabel(f"{'MACs' if unit == 'macs' else unit} removed")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
    return figure
