"""Stage curves: tables and plots of pruning at once, from the rows of every criterion, setting and seed.

By hand::

    python -m stages.curves --params params.yaml --criteria lrp.csv random.csv --settings default.csv \
        --folder metrics/curves
"""

from pathlib import Path

import pandas as pd

from stages import command
from stages.files import replacing
from stages.params import Params, load
from stages.reporting import plots, tables

KEPT = 0.95  # of the accuracy without pruning, at the rate that Top-PR names


def main() -> None:
    """Run the stage."""
    parser = command.parser("stages.curves", __doc__, folder="to write criteria.*, settings.* and page.md to")
    parser.add_argument("--criteria", type=Path, nargs="+", required=True, help="rows of `stages.one_shot`")
    parser.add_argument("--settings", type=Path, nargs="*", default=[], help="rows of `stages.one_shot`")
    arguments = parser.parse_args()
    params = load(arguments.params)
    parts = [_introduction(params)]
    for kind, files in (("criteria", arguments.criteria), ("settings", arguments.settings)):
        if not files:
            continue
        rows = pd.concat(map(pd.read_csv, files), ignore_index=True)
        summary = tables.one_shot(rows, KEPT)
        plots.save(plots.one_shot(rows), arguments.folder / f"{kind}.svg")
        with replacing(arguments.folder / f"{kind}.csv") as temporary:
            rows.to_csv(temporary, index=False)
        parts += [_heading(kind), f"![{kind}]({kind}.svg)", tables.as_markdown(tables.one_shot_in_words(summary))]
        print(f"\n{kind}\n{tables.one_shot_in_words(summary).to_string(index=False)}\n")
    with replacing(arguments.folder / "page.md") as temporary:
        temporary.write_text("\n\n".join(parts) + "\n")


def _introduction(params: Params) -> str:
    source = params.data.name if params.data.name != "image-folder" else Path(params.data.source).name
    return (
        f"{params.model.name} on {source} at {params.data.image_size} px, scored once with "
        f"{params.prune.scores.references_per_class} images a class and pruned at once, without fine-tuning or "
        f"recalibration, at {params.curves.rates} rates from 0 to {1 - 1 / params.curves.rates:.0%}; "
        f"{len(params.seeds)} baselines, mean ± standard deviation. A_PR: mean accuracy over the rates (%). Top-PR: "
        f"the highest rate that keeps {KEPT:.0%} of the accuracy without pruning (%). (Both after Hatefi et al., 2024, "
        "arXiv 2408.12568, who mask where this removes.)"
    )


def _heading(kind: str) -> str:
    return {
        "criteria": "## Criteria, on the test split",
        "settings": "## Settings of LRP, on the validation split\n\n`default` is prune.scores; each other setting "
        "changes what its name says (curves.settings in params.yaml).",
    }[kind]


if __name__ == "__main__":
    command.run(main)
