"""The study's plots, as SVG and PDF without dates or random identifiers: equal tables give equal files."""

import textwrap
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.files import replacing
from stages.reporting import tables

matplotlib.rcParams.update({"svg.hashsalt": "study", "svg.fonttype": "none", "pdf.fonttype": 42, "font.size": 9})
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"]  # Okabe & Ito
READABLE = 25  # names of classes along an axis
AXES = {"macs": "MACs left", "params": "parameters left", "filters": "filters left"}
TIME = "latency_"  # before a batch size
TITLES = {"pruned": "right after each cut", "finetuned": "after fine-tuning"}


def styles(names: list[str]) -> dict[str, dict[str, str]]:
    """Return color and linestyle of each criterion or variant: random is dashed, and no two are alike up to 21."""
    repeated = ["-", "-.", ":"]
    return {
        name: {
            "color": COLOURS[place % len(COLOURS)],
            "linestyle": "--" if name == "random" else repeated[place // len(COLOURS) % len(repeated)],
        }
        for place, name in enumerate(names)
    }


def save(figure: Figure, path: Path) -> None:
    """Write a figure as SVG, and beside it as PDF."""
    silent = {"svg": dict.fromkeys(["Date", "Creator"]), "pdf": dict.fromkeys(["CreationDate", "Creator", "Producer"])}
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # done, for both; as the box around all
    box = figure.get_tightbbox().padded(matplotlib.rcParams["savefig.pad_inches"])
    for kind, metadata in reversed(silent.items()):  # the SVG, which jobs wait for, last
        with replacing(path.with_suffix(f".{kind}")) as temporary:
            figure.savefig(temporary, format=kind, metadata=metadata, bbox_inches=box)


def metric_curves(table: pd.DataFrame, metric: str) -> Figure:
    """Return a metric against the MACs, parameters and filters left, right after each cut and after fine-tuning.

    One line a criterion (mean over seeds, with the range of the seeds shaded), the unpruned network as a dotted line.
    """
    table = tables.effective(table)
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


def few_shot_curves(table: pd.DataFrame, metric: str) -> Figure:
    """Return a metric against the MACs left, a column a number of images of each class; see `metric_curves`."""
    table = tables.effective(table)
    numbers = sorted(table["images_per_class"].unique())
    figure = Figure(figsize=(1.5 + 2.6 * len(numbers), 5.6), layout="constrained")
    panels = figure.subplots(2, len(numbers), sharey=True, squeeze=False)
    words = TITLES | {"finetuned": "after tuning"}
    for row, phase in zip(panels, words, strict=True):
        for axes, images in zip(row, numbers, strict=True):
            _curves(axes, table[table["images_per_class"] == images], metric, phase, "macs")
            axes.set_title(f"{images} image{'s' if images > 1 else ''} a class\n{words[phase]}")
        row[0].set_ylabel(metric.replace("_", " ") + " (test)")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 2 * len(numbers)))
    return figure


def time_curves(table: pd.DataFrame, latency: pd.DataFrame, metric: str) -> Figure:
    """Return a fine-tuned metric against the measured time left, and MACs left against it; a column a batch size.

    Parameters
    ----------
    table : DataFrame
        Of `metric_curves`.
    latency : DataFrame
        criterion, seed, step, batch, milliseconds.
    """
    batches = sorted(latency["batch"].unique())
    times = latency.pivot(index=["criterion", "seed", "step"], columns="batch", values="milliseconds")
    table = tables.effective(table).join(times.add_prefix(TIME), on=["criterion", "seed", "step"])
    of_macs = table.assign(macs=table["macs"] / tables.baseline(table)["macs"])
    figure = Figure(figsize=(1.5 + 3.4 * len(batches), 6.2), layout="constrained")
    panels = figure.subplots(2, len(batches), sharey="row", squeeze=False)
    for (above, below), batch in zip(panels.T, batches, strict=True):
        _curves(above, table, metric, "finetuned", f"{TIME}{batch}")
        above.set_title(TITLES["finetuned"])
        _curves(below, of_macs, "macs", "finetuned", f"{TIME}{batch}")
        below.axline((0, 0), slope=1, color="grey", lw=0.8)
        below.set_title("grey: as fast as MACs promise")
    panels[0, 0].set_ylabel(metric.replace("_", " ") + " (test)")
    panels[1, 0].set_ylabel("MACs left")
    panels[1, 0].yaxis.set_major_formatter("{x:.0%}")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 3 * len(batches)))
    return figure


def speed_ups(table: pd.DataFrame) -> Figure:
    """Return how many times as fast as unpruned networks are, bars by engine and batch size, a panel a criterion.

    Parameters
    ----------
    table : DataFrame
        criterion, engine, batch, speed_up and macs_ratio, drawn as the line that MACs promise.
    """
    criteria = table["criterion"].unique()
    figure = Figure(figsize=(1.6 + 3 * len(criteria), 3.2), layout="constrained")
    panels = figure.subplots(1, len(criteria), sharey=True, squeeze=False)[0]
    for axes, criterion in zip(panels, criteria, strict=True):
        rows = tables.of(table, criterion=criterion)
        names = rows["engine"] + "\nbatch of " + rows["batch"].astype(str)
        engines = pd.factorize(rows["engine"])[0]
        bars = axes.bar(names, rows["speed_up"], color=[COLOURS[number] for number in engines], width=0.6)
        apart = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # from a line across
        axes.bar_label(bars, fmt="{:.2f}", fontsize=7, padding=1, bbox=apart)
        axes.axhline(rows["macs_ratio"].iloc[0], color="black", linestyle="--", lw=1, label="MACs, times fewer")
        axes.axhline(1, color="grey", linestyle=":", label="unpruned")
        axes.tick_params(axis="x", labelsize=7)
        axes.margins(y=0.1)
        axes.set_title(criterion)
    panels[0].set_ylabel("times the speed of the unpruned network")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _curves(axes: Axes, table: pd.DataFrame, metric: str, phase: str, size: str) -> None:
    whole = tables.baseline(table)
    axes.axhline(whole[metric], color="grey", linestyle=":", label="unpruned")
    most = 1.0  # a time can rise
    for criterion, style in styles(tables.criteria(table)).items():
        chain = table[(table["criterion"] == criterion) & (table["phase"] == phase)]
        steps = chain.groupby("step")
        share = [1.0, *(steps[size].mean() / whole[size])]
        most = max(most, *share)
        axes.plot(share, [whole[metric], *steps[metric].mean()], marker="o", ms=3, label=criterion, **style)
        if chain["seed"].nunique() > 1:
            band = {"color": style["color"], "alpha": 0.15, "lw": 0}
            axes.fill_between(share[1:], steps[metric].min(), steps[metric].max(), **band)
    if table["seed"].nunique() > 1:
        axes.fill_between([], [], [], color="grey", alpha=0.3, lw=0, label="lowest to highest seed")
    axes.set_xlim(most + 0.02, 0)
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.set_xlabel(AXES.get(size, f"time left, batch of {size.removeprefix(TIME)}"))
    axes.grid(alpha=0.3)


def layer_shares(layers: pd.DataFrame) -> Figure:
    """Return a map of the share of each layer's filters that is left after the last step, criterion by layer."""
    last = tables.at_the_end(layers)
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


def confusion_matrices(confusion: pd.DataFrame) -> Figure:
    """Return how the images of each class (row) were called, of the unpruned network and each criterion at its end.

    Parameters
    ----------
    confusion : DataFrame
        criterion, seed, step, phase, label, predicted, images; entries of zero may be missing. Seeds are added up.
    """
    names = list(dict.fromkeys([*confusion["label"], *confusion["predicted"]]))
    ends = tables.at_the_end(confusion[confusion["phase"] != "pruned"])
    criteria = ends["criterion"].unique()
    columns = min(3, len(criteria))
    rows = -(-len(criteria) // columns)
    size = 1.2 + 0.24 * min(len(names), READABLE)
    figure = Figure(figsize=(columns * size + 0.6, rows * (size + 0.2)), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes, criterion in zip(panels.flat, criteria, strict=False):
        of_criterion = ends[ends["criterion"] == criterion]
        counts = of_criterion.pivot_table("images", "label", "predicted", "sum", fill_value=0)
        counts = counts.reindex(index=names, columns=names, fill_value=0)
        shares = counts.div(counts.sum(axis=1), axis=0)
        image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
        if len(names) <= 12:
            for y, x in [(y, x) for y in range(len(names)) for x in range(len(names)) if shares.iat[y, x] >= 0.005]:
                value = shares.iat[y, x]
                colour = "white" if value > 0.5 else "black"
                axes.text(x, y, f"{100 * value:.0f}", ha="center", va="center", color=colour, fontsize=6)
        axes.set_title("unpruned" if criterion == "baseline" else criterion)
        if len(names) <= READABLE:
            axes.set_xticks(range(len(names)), names, rotation=90)
            axes.set_yticks(range(len(names)), names)
    for axes in panels.flat[len(criteria) :]:
        axes.set_axis_off()
    figure.supxlabel("predicted")
    figure.supylabel("true class")
    figure.colorbar(image, ax=panels, format=lambda value, _: f"{value:.0%}", shrink=0.6)
    return figure


def reliability_curves(reliability: pd.DataFrame) -> Figure:
    """Return accuracy against confidence in bins, of the unpruned network and each criterion at its end.

    Parameters
    ----------
    reliability : DataFrame
        criterion, seed, step, phase, bin, and sums over its images: images, confidence, correct. Seeds are added up.
    """
    ends = tables.at_the_end(reliability[reliability["phase"] != "pruned"])
    figure = Figure(figsize=(5.4, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], ":", color="grey", label="calibrated")
    unpruned = {"baseline": {"color": "black", "linestyle": "-"}}
    for criterion, style in (unpruned | styles(tables.criteria(ends))).items():
        bins = ends[ends["criterion"] == criterion].groupby("bin")[["images", "confidence", "correct"]].sum()
        bins = bins[bins["images"] > 0]
        x, y = (bins[name] / bins["images"] for name in ("confidence", "correct"))
        axes.plot(x, y, marker="o", ms=3, label="unpruned" if criterion == "baseline" else criterion, **style)
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.01), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def drift_curves(rows: pd.DataFrame, measures: dict[str, str]) -> Figure:
    """Return mean similarities of heat maps to those of the unpruned network by step, a panel a measure.

    Parameters
    ----------
    rows : DataFrame
        criterion, seed, step, and the columns that `measures` names, a row an image.
    """
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    panels = figure.subplots(1, len(measures), squeeze=False)[0]
    of_criteria = styles(tables.criteria(rows))
    for axes, (measure, words) in zip(panels, measures.items(), strict=True):
        for criterion, style in of_criteria.items():
            means = rows[rows["criterion"] == criterion].groupby("step")[measure].mean()
            axes.plot([0, *means.index], [1, *means], marker="o", ms=3, label=criterion, **style)
        axes.axhline(1, color="grey", linestyle=":", label="unpruned")
        axes.set(xlabel="step", ylabel=words, ylim=(None, 1.02))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(of_criteria) + 1)
    return figure


def training_curves(history: pd.DataFrame) -> Figure:
    """Return the baselines' losses and validation accuracy by epoch, and that of all fine-tunings, one after another.

    Parameters
    ----------
    history : DataFrame
        criterion, seed, step, epoch, train_loss, val_loss, val_accuracy. A line of fine-tuning is a mean over seeds.
    """
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    left, right, tuned = figure.subplots(1, 3)
    for seed, rows in history[history["criterion"] == "baseline"].groupby("seed"):
        left.plot(rows["epoch"], rows["train_loss"], label=f"training, seed {seed}")
        left.plot(rows["epoch"], rows["val_loss"], "--", label=f"validation, seed {seed}")
        right.plot(rows["epoch"], rows["val_accuracy"], label=f"seed {seed}")
    left.set(xlabel="epoch", ylabel="loss (nats)")
    right.set(xlabel="epoch", ylabel="validation accuracy")
    for criterion, style in styles(tables.criteria(history)).items():
        means = history[history["criterion"] == criterion].groupby(["step", "epoch"])["val_accuracy"].mean()
        tuned.plot(range(1, len(means) + 1), means, label=criterion, **style)
    tuned.set(xlabel="epoch of fine-tuning, over all steps", ylabel="validation accuracy")
    for axes in (left, right, tuned):
        axes.legend(fontsize=7)
    return figure


def prototype_points(pruning: pd.DataFrame, rows: pd.DataFrame, words: dict[str, str]) -> Figure:
    """Return balanced accuracy against the MACs left: chains of filter pruning as lines, ProtoPNets as points.

    Parameters
    ----------
    pruning : DataFrame
        metrics/pruning.csv.
    rows : DataFrame
        Of the stage evaluate_prototypes; a point a network, the mean over seeds.
    words : dict
        What each network is called.
    """
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    _curves(axes, tables.effective(pruning), "balanced_accuracy", "finetuned", "macs")
    mean = rows.groupby("network", sort=False)[["macs", "balanced_accuracy"]].mean()
    whole = mean.loc["classifier", "macs"]
    for marker, (network, point) in zip("DsP^vX<>*p" * len(mean), mean.drop("classifier").iterrows(), strict=False):
        axes.plot(point["macs"] / whole, point["balanced_accuracy"], marker, color="black", ms=6, label=words[network])
    axes.set_ylabel("balanced accuracy (test)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=7)
    return figure


def concept_changes(changes: pd.DataFrame, layers: list[str]) -> Figure:
    """Return what became of the relevance of each layer's concepts, stacked bars of all layers, a panel a criterion.

    Parameters
    ----------
    changes : DataFrame
        criterion, seed, layer, share_kept, share_moved, share_lost.
    layers : list of str
        All layers, in the network's order; those without changes are left out.
    """
    criteria = changes["criterion"].unique()
    layers = [layer for layer in layers if layer in set(changes["layer"])]
    columns = min(len(criteria), 3) or 1
    rows = -(-len(criteria) // columns) or 1
    figure = Figure(figsize=(3.6 * columns, 0.4 + rows * (0.9 + 0.16 * len(layers))), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat
    for criterion, axes in zip(criteria, panels, strict=False):  # in this order, else zip takes a panel too many
        means = (
            changes[changes["criterion"] == criterion]
            .groupby("layer")[["share_kept", "share_moved", "share_lost"]]
            .mean()
        )
        left = np.zeros(len(layers))
        for name, colour in (("kept", COLOURS[0]), ("moved", COLOURS[1]), ("lost", "#bbbbbb")):
            width = 100 * means[f"share_{name}"].reindex(layers).fillna(0).to_numpy()
            axes.barh(layers, width, left=left, color=colour, label=name)
            left += width
        axes.set(title=criterion, xlabel="per cent of the relevance", xlim=(0, 100))
        axes.tick_params(axis="y", labelsize=6)
        axes.tick_params(axis="x", labelbottom=True)  # also above a hidden panel
    for axes in panels:
        axes.set_visible(False)
    if len(criteria):
        axes = figure.axes[0]
        axes.invert_yaxis()
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def concept_graph(edges: list[tuple[tuple[str, int], tuple[str, int], float]], layers: list[str], title: str) -> Figure:
    """Return a drawing of a concept's sub-concepts: layers from top to bottom, lines as wide as shares.

    Parameters
    ----------
    edges : list of ((layer, channel) above, (layer, channel) below, share)
    layers : list of str
        In the order of the forward pass.
    """
    nodes = list(dict.fromkeys(node for above, below, _ in edges for node in (above, below)))
    levels = [layer for layer in reversed(layers) if any(node[0] == layer for node in nodes)]
    members = {layer: [node for node in nodes if node[0] == layer] for layer in levels}
    place = {
        node: ((number + 0.5) / len(row), -levels.index(layer))
        for layer, row in members.items()
        for number, node in enumerate(row)
    }
    widest = max(map(len, members.values()), default=1)
    figure = Figure(figsize=(max(4.0, 0.75 * widest + 1.5), 0.8 * len(levels) + 0.6), layout="constrained")
    axes = figure.subplots()
    largest = max((share for *_, share in edges), default=1.0)
    for above, below, share in edges:
        (x, y), (left, low) = place[above], place[below]
        axes.plot([x, left], [y, low], "-", color=COLOURS[0], lw=0.3 + 3 * share / largest, alpha=0.6, zorder=1)
        axes.text((x + 2 * left) / 3, (y + 2 * low) / 3, f"{100 * share:.1f}%", fontsize=6, ha="center", va="center")
    for node, (x, y) in place.items():
        axes.text(
            x, y, str(node[1]), ha="center", va="center", fontsize=7, zorder=2,
            bbox={"boxstyle": "round", "fc": "white", "ec": "grey"},
        )  # fmt: skip
    axes.set(yticks=[-n for n in range(len(levels))], yticklabels=levels, xticks=[], xlim=(0, 1))
    axes.set_title(textwrap.fill(title, int(14 * figure.get_figwidth())), fontsize=7)
    axes.spines[:].set_visible(False)
    return figure
