"""Stage toy: the toy study's table and figure, from the rows of its three problems.

By hand::

    python -m stages.toy --params params.yaml --rows moons.csv circles.csv multi.csv \
        --regions moons.npz circles.npz multi.npz --table table.csv --page page.md --figure toy.svg
"""

from pathlib import Path

import numpy as np
import pandas as pd

from stages import command
from stages.files import replacing
from stages.params import load
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
    rows = pd.concat(map(pd.read_csv, arguments.rows), ignore_index=True)
    table = tables.toy(rows)
    with replacing(arguments.table) as temporary:
        table.to_csv(temporary, index=False)
    with replacing(arguments.page) as temporary:
        temporary.write_text(_page(table, params))
    regions = {path.stem: dict(np.load(path)) for path in arguments.regions}
    plots.save(plots.toy(table, regions, params.criteria), arguments.figure)
    print(f"\n{tables.toy_in_words(table, params.shown).to_string(index=False)}\n")


def _page(table: pd.DataFrame, params) -> str:
    parts = [
        f"The {params.removed:,} lowest of 3,000 units removed at once, without fine-tuning: accuracy on the training "
        f"points (%), as published by Yeom et al. (2021, arXiv 1912.08881, section 4.1); mean and standard deviation "
        f"over {params.networks} networks and {params.seeds} draws of {params.shown} reference points a class. "
        f"`same lowest {params.overlap}`: the share of the lowest units that two draws have in common.",
        tables.as_markdown(tables.toy_in_words(table, params.shown)),
        "![decision regions before and after, and accuracy by number of reference points](toy.svg)",
        "By number of reference points a class:",
        tables.as_markdown(tables.toy_by_references(table)),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    command.run(main)
