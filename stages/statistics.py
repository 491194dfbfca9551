"""Stage statistics: the criteria at equal size, with intervals and tests, from predictions that were made before.

By hand::

    python -m stages.statistics --params params.yaml --pruning metrics/pruning.csv --latency metrics/latency.csv \
        --predictions metrics/predictions/baseline/seed0.parquet metrics/predictions/lrp/seed0.parquet … \
        --folder metrics/comparison

Measured times differ from run to run, so what is compared at equal latency is in tables of its own.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from stages import command, predictions
from stages.errors import naming
from stages.files import replacing
from stages.names import Identity
from stages.params import load
from stages.reporting import comparison, tables

PHASES = {"pruned": "right after the cut", "finetuned": "after fine-tuning"}


def main() -> None:
    """Run the stage."""
    parser = command.parser(
        "stages.statistics",
        __doc__,
        pruning="table of `stages.compare`",
        latency="table of `stages.latency`",
        folder="folder of tables to write",
    )
    parser.add_argument("--predictions", type=Path, nargs="+", required=True, help="of `stages.evaluate`")
    arguments = parser.parse_args()
    params = load(arguments.params).evaluate.comparison
    with naming("pruning, latency and predictions"):
        table = pd.read_csv(arguments.pruning)
        sizes = shares_left(table, pd.read_csv(arguments.latency))
        correct, labels = answers(arguments.predictions)
    latencies = [axis for axis in sizes if axis not in tables.SIZES]
    compared = {"stability": comparison.stability(table, params.resamples)}
    for axes, suffix in ((tables.SIZES, ""), (latencies, "_latency")):
        found = {"levels": [], "areas": [], "pairs": []}
        for phase in PHASES:
            chains = assemble(sizes, correct, phase)
            for axis in axes:
                of_axis = {
                    "levels": comparison.levels(chains, labels, axis, params.shares),
                    "areas": comparison.areas(chains, labels, axis),
                    "pairs": comparison.pairs(chains, labels, axis, params.shares, params.resamples),
                }
                for name, rows in of_axis.items():
                    found[name].append(rows.assign(phase=phase))
        compared |= {f"{name}{suffix}": pd.concat(parts, ignore_index=True) for name, parts in found.items()}
    for name, rows in compared.items():
        with replacing(arguments.folder / f"{name}.csv") as temporary:
            rows.to_csv(temporary, index=False, float_format="%.6g")
    with replacing(arguments.folder / "page.md") as temporary:
        temporary.write_text(page(compared["levels"], compared["pairs"], compared["stability"]))


def shares_left(table: pd.DataFrame, latency: pd.DataFrame) -> pd.DataFrame:
    """Return what is left of the unpruned network of the same seed, by criterion, seed and step (0: unpruned).

    Returns
    -------
    DataFrame
        A column an axis: filters, params, macs, and `latency_<n>` for each batch size n that was timed.
    """
    keys = ["criterion", "seed", "step"]
    sizes = table[table["phase"] != "pruned"].set_index(keys)[tables.SIZES]
    times = latency.pivot(index=keys, columns="batch", values="milliseconds").add_prefix("latency_")
    sizes = sizes.join(times)
    whole = sizes.loc["baseline"].droplevel("step")
    return sizes / whole.reindex(sizes.index.get_level_values("seed")).to_numpy()


def answers(files: list[Path]) -> tuple[dict[Identity, np.ndarray], np.ndarray]:
    """Return which images each checkpoint has right (bool, N), and the images' classes (int, N)."""
    correct = {}
    for identity, images, probabilities in predictions.each(files):
        labels = images["label"].to_numpy()
        correct[identity] = probabilities.argmax(axis=1) == labels
    return correct, labels


def assemble(
    sizes: pd.DataFrame, correct: dict[Identity, np.ndarray], phase: str
) -> dict[tuple[str, int], comparison.Chain]:
    """Return the chains of the study, in the order of its criteria, as they are in one phase of each step."""
    chains = {}
    for criterion, seed in dict.fromkeys(identity[:2] for identity in correct if identity.criterion != "baseline"):
        left = pd.concat([sizes.loc[["baseline"], [seed], :], sizes.loc[[criterion], [seed], :]])
        steps = left.index.get_level_values("step")[1:]
        right = [correct["baseline", seed, 0, "baseline"], *(correct[criterion, seed, step, phase] for step in steps)]
        chains[criterion, seed] = comparison.Chain(np.stack(right), {axis: left[axis].to_numpy() for axis in left})
    return chains


def page(levels: pd.DataFrame, pairs: pd.DataFrame, stability: pd.DataFrame) -> str:
    """Return what the criteria are worth at equal MACs, as Markdown; a table that would be empty is left out."""
    levels, pairs = (_where(table, axis="macs", metric="balanced_accuracy") for table in (levels, pairs))
    parts = []
    if not (finetuned := _where(levels, phase="finetuned")).empty:
        parts.append(
            "Balanced accuracy after fine-tuning where this part of the MACs is left (95 % interval over seeds):"
        )
        parts.append(tables.levels_markdown(finetuned))
    for other in ("random", "lrp"):
        for phase, when in PHASES.items():
            if not (differences := tables.differences_to(_where(pairs, phase=phase), other)).empty:
                title = (
                    f"Balanced accuracy less that of {other}, {when}, at equal MACs (p corrected for pairs and sizes)."
                )
                parts.append(f"{title} {tables.better_than(differences, other)}")
                parts.append(tables.differences_markdown(differences))
    if not stability.empty:
        parts.append("Variance over steps and seeds of the accuracy that fine-tuning recovers:")
        parts.append(tables.stability_markdown(stability))
    return "\n\n".join(parts) + "\n"


def _where(table: pd.DataFrame, **values: str) -> pd.DataFrame:
    return table[(table[list(values)] == pd.Series(values)).all(axis=1)]


if __name__ == "__main__":
    command.run(main)
