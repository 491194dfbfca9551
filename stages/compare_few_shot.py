"""Stage compare_few_shot: the criteria at equal size where k images of each class were all there was.

By hand::

    python -m stages.compare_few_shot --params params.yaml --rows lrp.csv random.csv … \
        --predictions k10/lrp/seed0.parquet k10/random/seed0.parquet … --latency metrics/few_shot_latency/latency.csv \
        --table metrics/few_shot.csv --folder metrics/few_shot --timed metrics/few_shot_latency

Measured times differ from run to run, so what is compared at equal latency is in a folder of its own.
"""

from pathlib import Path

import pandas as pd

from stages import chains, command
from stages.errors import InputError, naming
from stages.files import replacing
from stages.names import Identity
from stages.params import load
from stages.reporting import equal_size, plots, tables

KEY = "images_per_class"


def main() -> None:
    """Run the stage."""
    parser = command.parser(
        "stages.compare_few_shot",
        __doc__,
        table="metrics of every network, to write",
        folder="of comparisons, to write",
        latency="table of `stages.latency_few_shot`",
        timed="folder of comparisons at equal latency, to write",
    )
    parser.add_argument("--rows", type=Path, nargs="+", required=True, help="tables of `stages.few_shot`")
    parser.add_argument(
        "--predictions", type=Path, nargs="+", required=True, help="of `stages.few_shot`: k<images>/<criterion>/…"
    )
    arguments = parser.parse_args()
    params = load(arguments.params)
    comparison = params.evaluate.comparison
    with naming("rows and latency"):
        rows = pd.concat(map(pd.read_csv, arguments.rows), ignore_index=True)
        latency = pd.read_csv(arguments.latency)
    parts, written = [], {}
    for images, of_number in rows.groupby(KEY):
        networks = of_number.drop(columns=KEY).drop_duplicates(list(Identity._fields))  # each job has the baseline, too
        table = tables.pruning_table(networks, params.prune.criteria)
        predictions = [path for path in arguments.predictions if f"k{images}" in path.parts]
        if not predictions:
            raise InputError(f"--predictions: none lies in a folder k{images}, which --rows has")
        correct, labels, majority = chains.answers(predictions)
        sizes = chains.shares_left(table, latency[latency[KEY] == images])
        latencies = [axis for axis in sizes if axis not in tables.SIZES]
        made, timed = (
            chains.at_equal_size(sizes, correct, labels, axes, comparison.shares, comparison.resamples)
            for axes in (tables.SIZES, latencies)
        )
        files = {arguments.table: table}
        for folder, compared in ((arguments.folder, made), (arguments.timed, timed)):
            files |= {folder / f"{name}.csv": of_name for name, of_name in compared.items()}
        for path, content in files.items():
            written.setdefault(path, []).append(content.assign(**{KEY: images}))
        parts += [
            f"With {images} image{'s' if images > 1 else ''} of each class:",
            *equal_size.comparison_markdown(
                made["levels"], made["pairs"], chains.FEW_SHOT_PHASES, ["random"], majority
            ),
        ]
    written = {path: pd.concat(each, ignore_index=True) for path, each in written.items()}
    for path, content in written.items():
        with replacing(path) as temporary:
            content[[KEY, *content.columns.drop(KEY)]].to_csv(temporary, index=False, float_format="%.6g")
    curves = plots.few_shot_curves(written[arguments.table], "balanced_accuracy")
    plots.save(curves, arguments.folder / "few_shot.svg")
    with replacing(arguments.folder / "page.md") as temporary:
        temporary.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    command.run(main)
