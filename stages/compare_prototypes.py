"""Stage compare_prototypes: the ProtoPNets of all seeds in one table, beside the filter pruning of the study.

By hand::

    python -m stages.compare_prototypes --params params.yaml --rows seed0/rows.csv … --plans seed0/plan.json … \
        --pruning metrics/pruning.csv --folder metrics/prototypes
"""

import json
from pathlib import Path

import pandas as pd

from stages import command
from stages.errors import naming
from stages.files import replacing
from stages.reporting import plots, prototypes


def main() -> None:
    """Run the stage."""
    parser = command.parser(
        "stages.compare_prototypes", __doc__, pruning="table of the study", folder="of tables and plots, to write"
    )
    parser.add_argument(
        "--rows", type=Path, nargs="*", required=True, help="of `stages.evaluate_prototypes`; may be none"
    )
    parser.add_argument("--plans", type=Path, nargs="*", required=True, help="of `stages.prune_prototypes`, as many")
    arguments = parser.parse_args()
    if not arguments.rows:
        with replacing(arguments.folder / "prototypes.csv") as temporary:
            temporary.write_text("seed,network\n")
        with replacing(arguments.folder / "page.md") as temporary:
            temporary.write_text("No ProtoPNets were asked for (`prototypes.per_class` is 0).\n")
        return
    with naming("rows, plans and pruning"):
        tables = [pd.read_csv(file) for file in arguments.rows]
        seeds = [int(table["seed"].iloc[0]) for table in tables]
        rows = pd.concat(tables, ignore_index=True)
        plans = {seed: json.loads(file.read_text()) for seed, file in zip(seeds, arguments.plans, strict=True)}
        pruning = pd.read_csv(arguments.pruning)
    with replacing(arguments.folder / "prototypes.csv") as temporary:
        rows.to_csv(temporary, index=False)
    words = {network: prototypes.in_words(network) for network in rows["network"]}
    plots.save(plots.prototype_points(pruning, rows, words), arguments.folder / "prototypes.svg")
    with replacing(arguments.folder / "page.md") as temporary:
        temporary.write_text(page(rows, pruning, plans))


def page(rows: pd.DataFrame, pruning: pd.DataFrame, plans: dict[int, dict]) -> str:
    """Return what pruning prototypes and filters cost, the tables, and what was removed, as Markdown."""
    said = "\n".join(f"- {sentence}" for sentence in prototypes.sentences(rows))
    return (
        f"{said}\n\n"
        "ProtoPNets and, last, the classifiers at the end of their chains, test split (mean ± standard deviation over "
        f"seeds; differences to the unpruned classifier):\n\n{prototypes.markdown(rows, pruning)}\n\n"
        "Beside the filter pruning of the study, after fine-tuning, at the same MACs (between steps interpolated):\n\n"
        f"{prototypes.beside_markdown(rows, pruning)}\n\n"
        "Prototypes: how pure the nearest test patches are, from how many images and groups of images they come, "
        "which share of an image's five strongest stays among them under noise, and how often the strongest one's "
        "patch stays where it was; inside: the share of their response in the region asked about, if one is:\n\n"
        f"{prototypes.measures_markdown(rows)}\n\n"
        f"Prototypes of each class, per seed:\n\n{prototypes.removed_markdown(plans)}\n"
    )


if __name__ == "__main__":
    command.run(main)
