"""Stage sensitivity: how much each layer alone can lose, as a heat map a criterion.

By hand::

    python -m stages.sensitivity --params params.yaml --rows lrp.csv random.csv … --folder metrics/sensitivity
"""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from stages import command
from stages.errors import naming
from stages.files import replacing
from stages.names import PARTS
from stages.params import Params, load
from stages.reporting import claims, plots, tables

MEASURE, HARM = "balanced_accuracy", 0.1  # to name the largest class always costs no accuracy
SHOWN = 4  # classes
LOST = "lost_"  # before a class: the recall that it loses


def main() -> None:
    """Run the stage."""
    parser = command.parser("stages.sensitivity", __doc__, folder="folder of table and figure, to write")
    parser.add_argument("--rows", type=Path, nargs="*", required=True, help="rows of `stages.layer_sensitivity`")
    arguments = parser.parse_args()
    params = load(arguments.params)
    if not arguments.rows:
        with replacing(arguments.folder / "page.md") as temporary:
            temporary.write_text(f"Not asked: `sensitivity.criteria` in {arguments.params.name} is empty.\n")
        return
    with naming("rows"):
        rows = pd.concat(map(pd.read_csv, arguments.rows), ignore_index=True)
    with replacing(arguments.folder / "sensitivity.csv") as temporary:
        rows.to_csv(temporary, index=False, float_format="%.6g")
    harm = at_like_harm(rows)
    with replacing(arguments.folder / "parts.csv") as temporary:
        harm.to_csv(temporary, index=False, float_format="%.6g")
    layers = rows[~rows["group"].isin(PARTS)]
    plots.save(figure(layers), arguments.folder / "sensitivity.svg")
    with replacing(arguments.folder / "page.md") as temporary:
        temporary.write_text(f"{page(layers, params)}\n{harm_in_words(harm, sorted(rows['seed'].unique()))}")


def mean_loss(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the accuracy that a group loses at a rate, mean over seeds: rows criterion and group, columns rates."""
    keys = ["criterion", "group", "seed"]
    whole = rows[rows["rate"] == 0].set_index(keys)["accuracy"]
    lost = rows.set_index([*keys, "rate"])["accuracy"]
    lost = whole.reindex(lost.index.droplevel("rate")).to_numpy() - lost
    lost = lost.groupby(["criterion", "group", "rate"], sort=False).mean().unstack()
    return lost.drop(columns=0.0)


def at_like_harm(rows: pd.DataFrame) -> pd.DataFrame:
    """Return how many classes bear it when the lower or the upper layers alone are pruned, at about the same harm.

    Returns
    -------
    DataFrame
        criterion, part, seed; `rate`, the lowest that costs `HARM` of the balanced accuracy (none: no row), and how
        much is `lost`; `hurt`, the classes whose recall falls by more than that; and `classes`, the effective number of
        classes that bear the loss, 1 / sum of squares of their shares of it (1: one alone; after Hill, 1973);
        `lost_<class>`, the recall that each loses.
    """
    recalls = [name for name in rows.columns if name.startswith("recall_")]
    found = []
    for keys, of_part in rows[rows["group"].isin(PARTS)].groupby(["criterion", "group", "seed"], sort=False):
        whole = of_part[of_part["rate"] == 0].iloc[0]
        costly = of_part[of_part[MEASURE] <= whole[MEASURE] - HARM].sort_values("rate")
        if not costly.empty:
            first = costly.iloc[0]
            fallen = (whole[recalls] - first[recalls]).astype(float).dropna()
            shares = fallen.clip(lower=0) / fallen.clip(lower=0).sum()
            row = dict(zip(["criterion", "part", "seed"], keys, strict=True))
            row |= {"rate": first["rate"], "lost": whole[MEASURE] - first[MEASURE]}
            row |= {"hurt": int((fallen > HARM).sum()), "classes": 1 / (shares**2).sum()}
            found.append(row | {name.replace("recall_", LOST, 1): fall for name, fall in fallen.items()})
    columns = ["criterion", "part", "seed", "rate", "lost", "hurt", "classes"]
    return pd.DataFrame(found, columns=[*columns, *(name.replace("recall_", LOST, 1) for name in recalls)])


def harm_in_words(harm: pd.DataFrame, seeds: list[int]) -> str:
    """Return the table of `at_like_harm`, means over seeds, and what follows from it, as Markdown."""
    intended = (
        f"The lower and the upper third of the layers alone, all of them at one rate, the lowest that costs {HARM:.0%} "
        "of the balanced accuracy: how many classes lose as much of their recall, and the effective number of classes "
        "that bear the loss (1: one alone); and by how much recall changes, of the classes that lose most."
    )
    if harm.empty:
        return f"{intended.partition(':')[0]}: no rate that was asked for does.\n"
    groups = harm.groupby(["criterion", "part"], sort=False)
    texts = groups[["rate", "lost", "hurt", "classes"]].mean()
    texts = texts.assign(rate=texts["rate"].map("{:.0%}".format), lost=texts["lost"].map("{:.3f}".format))
    texts = texts.assign(**{name: texts[name].map("{:.1f}".format) for name in ("hurt", "classes")})
    lost = groups[[name for name in harm if name.startswith(LOST)]].mean()
    texts["recall"] = [
        ", ".join(f"{name.removeprefix(LOST)} {0.0 - fall:+.2f}" for name, fall in of_part.nlargest(SHOWN).items())
        for _, of_part in lost.iterrows()
    ]
    texts["baselines"] = groups.size()
    said = "\n\n".join([*claims.upper_decide(harm, seeds), *claims.lower_hurt_several(harm, lost.shape[1])])
    return f"{intended}\n\n{tables.as_markdown(texts.reset_index())}\n\n{said}\n"


def figure(rows: pd.DataFrame) -> Figure:
    """Return a heat map a criterion of the accuracy that is left: layers by rates."""
    criteria, groups = rows["criterion"].unique(), rows["group"].unique()
    figure = Figure(figsize=(1.8 + 2.4 * len(criteria), 1.4 + 0.24 * len(groups)), layout="constrained")
    panels = figure.subplots(1, len(criteria), sharey=True, squeeze=False)[0]
    means = rows.groupby(["criterion", "group", "rate"])["accuracy"].mean().unstack()
    for axes, criterion in zip(panels, criteria, strict=True):
        left = means.loc[criterion].loc[groups]
        image = axes.imshow(left, vmin=0, vmax=means.max().max(), cmap="viridis", aspect="auto")
        axes.set_title(criterion)
        every = max(1, left.shape[1] // 3)
        axes.set_xticks(range(0, left.shape[1], every), [f"{rate:.0%}" for rate in left.columns[::every]])
        axes.set_yticks(range(len(groups)), groups)
    figure.supxlabel("filters removed from the layer")
    figure.colorbar(image, ax=panels, label="accuracy (validation)")
    return figure


def page(rows: pd.DataFrame, params: Params) -> str:
    """Return what was done, and the accuracy lost by each layer at half its filters, as Markdown."""
    seeds = rows["seed"].nunique()
    lost = mean_loss(rows)
    rate = min(lost.columns, key=lambda value: abs(value - 0.5))
    wide = lost[rate].unstack("criterion").loc[rows["group"].unique(), rows["criterion"].unique()]
    table = tables.as_markdown(wide.map("{:.3f}".format).rename_axis("layer").reset_index())
    layers = rows.drop_duplicates("group").set_index("group")["layers"]
    together = [f"{root} ({names})" for root, names in layers.items() if " " in names]
    return (
        f"{params.model.name} on {params.data.name}: the lowest filters of one layer alone removed, without "
        f"fine-tuning or recalibration; validation split, mean over {seeds} baseline{'s' if seeds > 1 else ''}. Pruned "
        f"together: {'; '.join(together) or 'none'}.\n\n"
        f"Accuracy lost where {rate:.0%} of the layer's filters is removed:\n\n{table}\n"
    )


if __name__ == "__main__":
    command.run(main)
