"""Stage toy: the toy study's table and figure, from the rows of its three problems.

By hand::

    python -m stages.toy --params params.yaml --rows moons.csv circles.csv multi.csv \
        --regions moons.npz circles.npz multi.npz --table table.csv --page page.md --figure toy.svg
"""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from stages import command
from stages.errors import naming
from stages.files import replacing
from stages.params import load
from stages.params.beside import Toy
from stages.reporting import plots, tables


def main() -> None:
    """Run the stage."""
    parser = command.parser(
        "stages.toy", __doc__, table="means, to write", page="table as Markdown, to write", figure="plot, to write"
    )
    parser.add_argument("--rows", type=Path, nargs="+", required=True, help="of `stages.toy_problem`")
    parser.add_argument("--regions", type=Path, nargs="+", required=True, help="of `stages.toy_problem`, in that order")
    arguments = parser.parse_args()
    params = load(arguments.params).toy
    with naming("rows and regions"):
        table = means(pd.concat(map(pd.read_csv, arguments.rows), ignore_index=True))
        regions = {path.stem: dict(np.load(path)) for path in arguments.regions}
    with replacing(arguments.table) as temporary:
        table.to_csv(temporary, index=False)
    with replacing(arguments.page) as temporary:
        temporary.write_text(_page(table, params, arguments.figure.name))
    plots.save(figure(table, regions, params.criteria), arguments.figure)
    print(f"\n{in_words(table, params.shown).to_string(index=False)}\n")


def _page(table: pd.DataFrame, params: Toy, picture: str) -> str:
    units = round(table[table["criterion"] == "unpruned"].iloc[0].filter(like="units").sum())
    parts = [
        f"The {params.removed:,} lowest of {units:,} units removed at once, without fine-tuning, after Yeom et al. "
        f"(2021, arXiv 1912.08881, section 4.1): accuracy on the training points (%, what they report) and on as many "
        f"others, mean ± standard deviation over {params.networks} networks and {params.seeds} draws of "
        f"{params.shown} reference points a class; the share of the lowest {params.overlap} units that is the same as "
        "in the first draw; units left in each layer.",
        tables.as_markdown(in_words(table, params.shown)),
        f"![decision regions before and after, and accuracy by number of reference points]({picture})",
        "Accuracy on the training points by number of reference points a class:",
        tables.as_markdown(by_references(table)),
    ]
    return "\n\n".join(parts) + "\n"


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """Return means and standard deviations of the toy study, by problem, criterion and references a class."""
    groups = rows.groupby(["problem", "criterion", "references_per_class"], sort=False)
    measures = ["train_accuracy", "test_accuracy", "overlap"]
    units = list(rows.filter(like="units"))
    parts = [groups[measures].mean(), groups[measures].std().add_suffix("_std"), groups[units].mean()]
    return pd.concat([*parts, groups.size().rename("runs")], axis=1).reset_index()


def in_words(table: pd.DataFrame, references: int) -> pd.DataFrame:
    """Return the toy study's main table: problem, criterion, accuracies in per cent, overlap, units left a layer."""
    some = table[table["references_per_class"].isin([0, references])]
    return pd.DataFrame(
        {
            "problem": some["problem"],
            "criterion": some["criterion"],
            "accuracy": tables.per_cent(some["train_accuracy"], some["train_accuracy_std"]),
            "on other points": tables.per_cent(some["test_accuracy"], some["test_accuracy_std"]),
            "same lowest": some["overlap"].map(lambda share: "" if pd.isna(share) else f"{share:.2f}"),
            "units left": some.filter(like="units").round().astype(int).astype(str).agg(" ".join, axis=1),
        }
    )


def by_references(table: pd.DataFrame) -> pd.DataFrame:
    """Return accuracies in per cent, a row a problem and criterion, a column a number of reference points."""
    some = table[table["references_per_class"] > 0]
    text = some.assign(text=tables.per_cent(some["train_accuracy"], some["train_accuracy_std"]))
    rows = text.pivot(index=["problem", "criterion"], columns="references_per_class", values="text")
    return rows.loc[some.set_index(["problem", "criterion"]).index.unique()].reset_index()


def figure(table: pd.DataFrame, regions: dict[str, dict[str, np.ndarray]], criteria: list[str]) -> Figure:
    """Return the toy study's figure: predicted classes in the plane, and accuracy by number of reference points.

    Parameters
    ----------
    table : DataFrame
        Of `means`.
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
    colours = ListedColormap(plots.COLOURS[:4])
    image = found[name].reshape(side, side).T
    axes.imshow(image, origin="lower", extent=(left, right, bottom, top), cmap=colours, vmin=0, vmax=3, alpha=0.3)
    some = slice(None, None, 5)
    axes.scatter(*found["points"][some].T, c=found["labels"][some], cmap=colours, vmin=0, vmax=3, s=1, rasterized=True)
    axes.set(xticks=[], yticks=[], aspect="auto")


def _accuracy_by_references(axes: Axes, table: pd.DataFrame, criteria: list[str]) -> None:
    for criterion, style in plots.styles(criteria).items():
        rows = table[table["criterion"] == criterion]
        if (rows["references_per_class"] == 0).all():
            axes.axhline(rows["train_accuracy"].item(), label=criterion, lw=1, **style)
        else:
            axes.plot(rows["references_per_class"], rows["train_accuracy"], label=criterion, marker="o", ms=3, **style)
    axes.set_xscale("log")
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.grid(alpha=0.3)


if __name__ == "__main__":
    command.run(main)
