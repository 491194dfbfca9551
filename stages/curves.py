"""Stage curves: tables and plots of pruning at once, from the rows of every criterion, setting and seed.

By hand::

    python -m stages.curves --params params.yaml --criteria lrp.csv random.csv --settings default.csv \
        --folder metrics/curves
"""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from stages import command
from stages.errors import naming
from stages.files import replacing
from stages.params import Params, load
from stages.params.data import OF_THE_USER
from stages.reporting import plots, tables


def main() -> None:
    """Run the stage."""
    parser = command.parser("stages.curves", __doc__, folder="to write criteria.*, settings.* and page.md to")
    parser.add_argument("--criteria", type=Path, nargs="+", required=True, help="rows of `stages.one_shot`")
    parser.add_argument("--settings", type=Path, nargs="+", required=True, help="rows of `stages.one_shot`")
    arguments = parser.parse_args()
    params = load(arguments.params)
    parts = [_introduction(params)]
    for kind, files in (("criteria", arguments.criteria), ("settings", arguments.settings)):
        with naming(kind):
            rows = pd.concat(map(pd.read_csv, files), ignore_index=True)
        summary = by_seed(rows, params.curves.kept)
        plots.save(figure(rows), arguments.folder / f"{kind}.svg")
        with replacing(arguments.folder / f"{kind}.csv") as temporary:
            rows.to_csv(temporary, index=False)
        parts += [_heading(kind), f"![{kind}]({kind}.svg)", tables.as_markdown(in_words(summary))]
        print(f"\n{kind}\n{in_words(summary).to_string(index=False)}\n")
    with replacing(arguments.folder / "page.md") as temporary:
        temporary.write_text("\n\n".join(parts) + "\n")


def _introduction(params: Params) -> str:
    source = params.data.source if params.data.name in OF_THE_USER else params.data.name
    curves, seeds = params.curves, len(params.seeds)
    over = f"{seeds} baselines, mean ± standard deviation" if seeds > 1 else "one baseline"
    return (
        f"{params.model.name} on {source} at {params.data.image_size} px, scored once with "
        f"{params.prune.scores.references_per_class} images a class and pruned at once, without fine-tuning or "
        f"recalibration, at {curves.rates} rates from 0 to {1 - 1 / curves.rates:.0%}; {over}. A_PR: mean accuracy "
        f"over the rates (%). Top-PR: the highest rate that keeps {curves.kept:.0%} of the accuracy without pruning "
        "(%). Both after Hatefi et al. (2024, arXiv 2408.12568), who mask where this removes."
    )


def _heading(kind: str) -> str:
    return {
        "criteria": "## Criteria, on the test split",
        "settings": "## Settings of LRP, on the validation split\n\n`default` is prune.scores; each other setting "
        "changes what its name says (curves.settings in params.yaml).",
    }[kind]


def by_seed(rows: pd.DataFrame, kept: float) -> pd.DataFrame:
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
        found.append([*key, curve["accuracy"].mean(), top])
    return pd.DataFrame(found, columns=["variant", "unit", "seed", "a_pr", "top_pr"])


def in_words(summary: pd.DataFrame) -> pd.DataFrame:
    """Return mean and standard deviation over seeds in per cent, a row a variant, the best at equal MACs first."""
    groups = summary.groupby(["variant", "unit"], sort=False)[["a_pr", "top_pr"]]
    mean, std = groups.mean(), groups.std()
    names = {"a_pr": "A_PR", "top_pr": "Top-PR"}
    columns = {
        f"{names[measure]}, equal {'MACs' if unit == 'macs' else unit}": tables.per_cent(
            mean.xs(unit, level="unit")[measure], std.xs(unit, level="unit")[measure]
        )
        for unit in summary["unit"].unique()
        for measure in names
    }
    order = mean.xs("macs", level="unit")["a_pr"].sort_values(ascending=False).index
    return pd.DataFrame(columns).loc[order].rename_axis("").reset_index()


def figure(rows: pd.DataFrame) -> Figure:
    """Return accuracy against the share of filters, and of MACs, that was removed at once (mean and range of seeds)."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    of_variants = plots.styles(list(rows["variant"].unique()))
    for axes, unit in zip(panels, ("filters", "macs"), strict=True):
        for variant, style in of_variants.items():
            curve = rows[(rows["unit"] == unit) & (rows["variant"] == variant)].groupby("rate")["accuracy"]
            axes.plot(curve.mean(), label=variant, lw=1.2, **style)
            axes.fill_between(curve.min().index, curve.min(), curve.max(), color=style["color"], alpha=0.12, lw=0)
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.set_xlabel(f"{'MACs' if unit == 'macs' else unit} removed")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
    return figure


if __name__ == "__main__":
    command.run(main)
