"""Stage compare_drift: how far the explanations of all chains have moved, step by step, and of which classes most.

By hand::

    python -m stages.compare_drift --params params.yaml --rows lrp.csv weight.csv … --folder metrics/drift
"""

from pathlib import Path

import pandas as pd

from stages import command
from stages.errors import naming
from stages.files import replacing
from stages.reporting import plots, tables

MEASURES = {"cosine": "cosine", "rank": "rank correlation", "ssim": "SSIM"}


def main() -> None:
    """Run the stage."""
    parser = command.parser("stages.compare_drift", __doc__, folder="of tables and plots, to write")
    parser.add_argument("--rows", type=Path, nargs="+", required=True, help="of `stages.drift`")
    arguments = parser.parse_args()
    with naming("rows"):
        rows = pd.concat(map(pd.read_csv, arguments.rows), ignore_index=True)
    with replacing(arguments.folder / "drift.csv") as temporary:
        rows.to_csv(temporary, index=False, float_format="%.6g")
    plots.save(plots.drift_curves(rows, MEASURES), arguments.folder / "drift.svg")
    with replacing(arguments.folder / "page.md") as temporary:
        temporary.write_text(page(rows))


def page(rows: pd.DataFrame) -> str:
    """Return similarities at the last step, and the classes whose explanations moved most, as Markdown."""
    last = tables.at_the_end(rows)
    return (
        "Similarity of heat maps of the same test images, true class, unpruned and after the last step (mean ± "
        f"standard deviation over images and seeds):\n\n{tables.similarities_markdown(last, MEASURES)}\n\n"
        f"Classes whose heat maps moved most (mean cosine):\n\n{tables.moved_markdown(last, 'cosine')}\n"
    )


if __name__ == "__main__":
    command.run(main)
