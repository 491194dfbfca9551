"""Stage statistics: the criteria at equal size, with intervals and tests, from predictions that were made before.

By hand::

    python -m stages.statistics --params params.yaml --pruning metrics/pruning.csv --latency metrics/latency.csv \
        --predictions metrics/predictions/baseline/seed0.parquet metrics/predictions/lrp/seed0.parquet … \
        --folder metrics/comparison

Measured times differ from run to run, so what is compared at equal latency is in tables of its own.
"""

from pathlib import Path

import pandas as pd

from stages import chains, command
from stages.errors import naming
from stages.files import replacing
from stages.params import load
from stages.reporting import comparison, equal_size, plots, tables


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
        latency = pd.read_csv(arguments.latency)
        sizes = chains.shares_left(table, latency)
        correct, labels, majority = chains.answers(arguments.predictions)
    latencies = [axis for axis in sizes if axis not in tables.SIZES]
    compared = {"stability": comparison.stability(table, params.resamples)}
    for axes, suffix in ((tables.SIZES, ""), (latencies, "_latency")):
        found = chains.at_equal_size(sizes, correct, labels, axes, params.shares, params.resamples)
        compared |= {f"{name}{suffix}": rows for name, rows in found.items()}
    for name, rows in compared.items():
        with replacing(arguments.folder / f"{name}.csv") as temporary:
            rows.to_csv(temporary, index=False, float_format="%.6g")
    plots.save(plots.time_curves(table, latency, "balanced_accuracy"), arguments.folder / "time.svg")
    with replacing(arguments.folder / "page.md") as temporary:
        temporary.write_text(page(compared["levels"], compared["pairs"], compared["stability"], majority))


def page(levels: pd.DataFrame, pairs: pd.DataFrame, stability: pd.DataFrame, majority: pd.Series) -> str:
    """Return what the criteria are worth at equal MACs, as Markdown; a table that would be empty is left out."""
    parts = equal_size.comparison_markdown(levels, pairs, chains.PHASES, ("random", "lrp"), majority)
    if not stability.empty:
        parts.append("Variance over steps and seeds of the accuracy that fine-tuning recovers:")
        parts.append(equal_size.stability_markdown(stability))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    command.run(main)
