"""Stage safety: what pruning does to single classes, subgroups and images, from predictions that were made before.

By hand::

    python -m stages.safety --params params.yaml --data data/prepared --folder metrics/safety \
        --predictions metrics/predictions/baseline/seed0.parquet metrics/predictions/lrp/seed0.parquet …
"""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd

from stages import command, predictions
from stages.errors import naming
from stages.files import replacing
from stages.reporting import montage, plots, safety, tables
from stages.reporting.metrics import reliability

SHOWN = 8  # images that a criterion lost, as pictures
KEYS = ["criterion", "seed", "step", "phase"]
OTHERS = {"precision": "Precision", "f1": "F1", "specificity": "Specificity", "auroc": "AUROC against the rest"}
OWN = ["image_id", "label", "group", "split"]  # columns of index.csv that are no subgroup


def main() -> None:
    """Run the stage."""
    parser = command.parser("stages.safety", __doc__, data="prepared data", folder="folder of tables to write")
    parser.add_argument(
        "--predictions", type=Path, nargs="+", required=True, help="of `stages.evaluate`, baselines first"
    )
    arguments = parser.parse_args()
    with naming(arguments.data):
        index = pd.read_csv(arguments.data / "index.csv").set_index("image_id")
        pictures = np.load(arguments.data / "images.npy", mmap_mode="r")
    names = predictions.classes(arguments.predictions[0])
    found, unpruned = defaultdict(list), {}
    for identity, images, probabilities in predictions.each(arguments.predictions):
        labels, predicted = images["label"].to_numpy(), probabilities.argmax(axis=1)
        subgroups = index.loc[images["image_id"]].drop(columns=OWN, errors="ignore").reset_index(drop=True)
        made = {
            "classes": safety.by_class(labels, probabilities, names),
            "subgroups": safety.by_subgroup(labels, predicted, subgroups, len(names)),
            "subgroup_classes": safety.by_subgroup_and_class(labels, probabilities, subgroups, names),
            "reliability": pd.DataFrame(reliability(labels, probabilities)).rename_axis("bin").reset_index(),
            "confusion": safety.confusions(labels, predicted, names),
        }
        if identity.criterion == "baseline":
            unpruned[identity.seed] = probabilities
        elif identity.phase == "finetuned":
            made["flips"] = safety.flips(images, names, unpruned[identity.seed], probabilities)
        for name, rows in made.items():
            for column, value in reversed(identity._asdict().items()):
                rows.insert(0, column, value)
            found[name].append(rows)
    made = {name: pd.concat(parts, ignore_index=True) for name, parts in found.items()}
    of_subgroups = ["subgroup", "value"]
    largest = tables.largest(dict(zip(names, np.bincount(labels, minlength=len(names)), strict=True)))
    always = safety.by_class(labels, np.eye(len(names))[[names.index(largest)] * len(labels)], names)
    always = [always.assign(criterion=f"always {largest}", seed=seed) for seed in unpruned]
    count, classes = len(made["classes"]), pd.concat([made["classes"], *always], ignore_index=True)
    classes = safety.with_change(classes, ["class"], safety.MEASURES)
    made["classes"], always = classes[:count], classes[count:]
    made["subgroups"] = safety.with_change(made["subgroups"], of_subgroups, ["accuracy", "balanced_accuracy"])
    made["subgroup_classes"] = safety.with_change(made["subgroup_classes"], [*of_subgroups, "class"], safety.MEASURES)
    for name, rows in made.items():
        with replacing(arguments.folder / f"{name}.csv") as temporary:
            rows.to_csv(temporary, index=False, float_format="%.6g")
    plots.save(plots.confusion_matrices(made["confusion"]), arguments.folder / "confusion.svg")
    plots.save(plots.reliability_curves(made["reliability"]), arguments.folder / "reliability.svg")
    ends = tables.at_the_end(made["classes"].query("phase == 'finetuned'"))[KEYS].drop_duplicates()
    ended = {name: rows.merge(ends) for name, rows in made.items()}
    lost = safety.most_lost(ended["flips"], SHOWN)
    shown = {
        criterion: [(pictures[index.index.get_loc(row.image_id)], _caption(row)) for row in rows.itertuples()]
        for criterion, rows in ((name, tables.of(lost, criterion=name)) for name in ends["criterion"].unique())
    }
    montage.save(montage.picture_rows(shown, SHOWN), arguments.folder / "flips.png")
    with replacing(arguments.folder / "page.md") as temporary:
        temporary.write_text(page(pd.concat([always, ended["classes"]]), ended["subgroups"], ended["flips"]))


def page(classes: pd.DataFrame, subgroups: pd.DataFrame, flips: pd.DataFrame) -> str:
    """Return what the last step did to classes, subgroups and images, as Markdown (means over seeds).

    Before the criteria, the classes have what always naming the largest class would do.
    """
    parts = [
        "Recall of each class less that of the unpruned network:",
        tables.changes_markdown(classes, "class", "recall_change"),
        "The class that is recognised worst, and the one that lost most (recall, and its change):",
        tables.worst_class_markdown(classes),
    ]
    for measure, words in OTHERS.items():
        parts += [f"{words} of each class, and its change:", tables.measures_markdown(classes, "class", measure)]
    if (subgroups["images"] >= tables.SUBGROUP).any():
        parts += [
            f"Of the subgroups of {tables.SUBGROUP} images or more, the three that lost most accuracy (images):",
            tables.worst_markdown(subgroups, "accuracy_change"),
            "All of these subgroups (images): accuracy, and less the unpruned network; 95 % interval over the images, "
            "mean over seeds:",
            tables.subgroups_markdown(subgroups),
        ]
    if not flips.empty:
        parts += [
            "Images whose predicted class changed: right before (lost), right after (gained), neither (other):",
            tables.flips_markdown(flips),
        ]
    return "\n\n".join(parts) + "\n"


def _caption(lost: tuple) -> str:
    return f"{lost.label}\n→ {lost.after}\n{lost.before_mean:.2f} → {lost.after_mean:.2f} ({lost.seeds})"


if __name__ == "__main__":
    command.run(main)
