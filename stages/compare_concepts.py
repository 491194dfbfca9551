"""Stage compare_concepts: what the unpruned networks rely on, and what of it pruned ones still have.

By hand::

    python -m stages.compare_concepts --params params.yaml --atlases seed0 seed1 --changes lrp.csv weight.csv … \
        --fates lrp.fates.csv weight.fates.csv … --folder metrics/concepts
"""

import json
from pathlib import Path

import pandas as pd

from stages import command
from stages.errors import naming
from stages.files import replacing
from stages.names import ALL_CLASSES
from stages.reporting import claims, concepts, plots, tables


def main() -> None:
    """Run the stage."""
    parser = command.parser("stages.compare_concepts", __doc__, folder="of tables and plots, to write")
    parser.add_argument(
        "--atlases", type=Path, nargs="+", required=True, help="folders of `stages.concepts`, a seed each"
    )
    parser.add_argument("--changes", type=Path, nargs="+", required=True, help="rows of `stages.concept_changes`")
    parser.add_argument("--fates", type=Path, nargs="+", required=True, help="single concepts, of the same stage")
    arguments = parser.parse_args()
    with naming("atlases, changes and fates"):
        atlas, layers = (
            pd.concat(
                [pd.read_csv(each / f"{name}.csv").assign(seed=_seed(each)) for each in arguments.atlases],
                ignore_index=True,
            )
            for name in ("atlas", "layers")
        )
        graphs = {_seed(each): json.loads((each / "graphs.json").read_text()) for each in arguments.atlases}
        changes, fates = (_of_chains(files) for files in (arguments.changes, arguments.fates))
    written = {"atlas": _seed_first(atlas), "layers": _seed_first(layers), "changes": changes, "fates": fates}
    for name, rows in written.items():
        with replacing(arguments.folder / f"{name}.csv") as temporary:
            rows.to_csv(temporary, index=False, float_format="%.6g")
    plots.save(plots.concept_changes(changes, list(layers["layer"].unique())), arguments.folder / "changes.svg")
    with replacing(arguments.folder / "page.md") as temporary:
        temporary.write_text(page(atlas, layers, changes, fates, claims.sentences(layers, graphs)))


def page(
    atlas: pd.DataFrame, layers: pd.DataFrame, changes: pd.DataFrame, fates: pd.DataFrame, claimed: list[str]
) -> str:
    """Return claims, how relevance is spread over concepts, what classes rely on, and what is left, as Markdown."""
    seed = atlas["seed"].min()
    of_seed = atlas[atlas["seed"] == seed]
    last = of_seed["layer"].iloc[-1]
    top = of_seed[(of_seed["layer"] == last) & (of_seed["class"] != ALL_CLASSES) & (of_seed["rank"] <= 3)]
    claimed = "\n".join(f"- {sentence}" for sentence in claimed)
    return (
        "What is said of the concepts of classifiers, in these networks (of several seeds the 95 % interval of the "
        f"mean over them):\n\n{claimed}\n\n"
        "How the relevance of a layer is spread over its concepts, the channels of its output (effective number: exp "
        "of the entropy of their mean shares; the largest share; the relevance that is lost, gained or spread over "
        f"silent concepts on the way to the layer; mean over seeds):\n\n{concepts.layers_markdown(layers)}\n\n"
        f"The concepts of `{last}` that each class relies on most, seed {seed} (share of the relevance, its 95 % "
        "bootstrap interval, and how many images have it among their five most relevant):\n\n"
        f"{concepts.top_markdown(top)}\n\n"
        "What became of the concepts by the last step (mean over seeds): of their number in all layers, and of the "
        "relevance, as a mean over layers. Kept: the channel is relevant in the same images of each class as before. "
        "Moved: another channel is, to which no other concept belongs. Lost: none. Gained: a channel is relevant in "
        "images in which none was. By chance: what would be kept or moved, had each image been another of its class. "
        "Compared in images that both networks get right, in layers that conserve relevance in both.\n\n"
        f"{concepts.changes_markdown(changes)}\n\n"
        f"The most relevant concepts that were lost, seed {seed} (share of the relevance of their layer; all are in "
        f"fates.csv):\n\n{concepts.lost_markdown(tables.of(fates, seed=seed))}\n"
    )


def _of_chains(files: list[Path]) -> pd.DataFrame:
    tables = [pd.read_csv(file) for file in files]
    return pd.concat([rows for rows in tables if len(rows)] or tables[:1], ignore_index=True)


def _seed(folder: Path) -> int:
    return int(folder.name.removeprefix("seed"))


def _seed_first(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["seed", *rows.columns.drop("seed")]]


if __name__ == "__main__":
    command.run(main)
