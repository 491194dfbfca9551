"""Stage evaluate_prototypes: the ProtoPNets of a seed on the test split, and pictures of what one of them looks for.

By hand::

    python -m stages.evaluate_prototypes --params params.yaml --data data/prepared --seed 0 \
        --classifier models/baseline/seed0.safetensors --checkpoints trained.safetensors pruned.safetensors … \
        --pictured tuned.safetensors --folder seed0

writes `rows.csv`, a row a network (the classifier first), `explanations.json` and the pictures `prototypes/CLASS.png`,
every prototype in the image it comes from, and `explanations/CLASS.N.png`: which prototypes test images look like. The
folder is replaced as a whole.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from stages import command, device
from stages.datasets import store
from stages.datasets.store import Prepared, derived_seed
from stages.errors import InputError
from stages.files import replacing, replacing_folder, write_json
from stages.measuring import measured
from stages.names import Identity, file_name
from stages.networks import checkpoint, projection
from stages.networks.checkpoint import Architecture
from stages.networks.likeness import STRONGEST, explanation, likeness, maps_at
from stages.networks.projection import deviation, distinct, enlarged, nearest_patches
from stages.networks.protopnet import ProtoPNet
from stages.params import load
from stages.params.prototypes import PrototypeStudy
from stages.pruning import prototypes
from stages.pruning.scoring import masks_of
from stages.reporting import montage

PICTURES = {"prototypes", "explanations"}
TABLES = {"rows.csv", "explanations.json"}
NOISE = 300  # what the seed of the noise is derived with


def main() -> None:
    """Run the stage."""
    parser = command.parser(
        "stages.evaluate_prototypes",
        __doc__,
        data="prepared data",
        classifier="whose backbone it is",
        pictured="ProtoPNet to draw",
        folder="to write to",
    )
    parser.add_argument("--checkpoints", type=Path, nargs="+", required=True, help="ProtoPNets; their names are kept")
    parser.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()
    params = load(arguments.params)
    study = params.prototypes
    log = command.logger("evaluate_prototypes", "seed", arguments.seed)
    where = device.prepare(study.threads)
    data = store.load(arguments.data)
    rows = []
    for path in [arguments.classifier, *arguments.checkpoints]:
        name = "classifier" if path == arguments.classifier else path.stem
        network, architecture = checkpoint.load(path) if name == "classifier" else projection.load(path, data)
        if architecture.classes != data.classes:
            raise InputError(f"{path}: its classes are not those of {arguments.data}")
        identity = Identity("prototypes", arguments.seed, 0, name)
        found, _ = measured(identity, network.to(where), architecture, data, params.evaluate.batch_size)
        about = {"seed": arguments.seed, "network": name} | {
            key: value for key, value in found.items() if key not in Identity._fields
        }
        if architecture.prototypes:
            about |= _about_prototypes(network, architecture, data, study, arguments.seed)
        rows.append(about)
        log.info("%s: accuracy %.4f", name, about["accuracy"])
    network, architecture = projection.load(arguments.pictured, data)
    with replacing_folder(arguments.folder, PICTURES, TABLES) as folder:
        for pictures in PICTURES:
            (folder / pictures).mkdir()
        with replacing(folder / "rows.csv") as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.6g")
        _draw_prototypes(network.to(where), architecture, data, folder / "prototypes")
        told = _explain(network, architecture, data, study, folder / "explanations")
        write_json(folder / "explanations.json", told)


@torch.no_grad()
def _about_prototypes(
    network: ProtoPNet, architecture: Architecture, data: Prepared, study: PrototypeStudy, seed: int
) -> dict[str, float | None]:
    """Return what is said of the prototypes of a network (docs/prototypes.md says what each is)."""
    settings, rows = architecture.prototypes, distinct(data, data.rows("test"))
    labels, groups = data.labels(rows).numpy(), data.index["group"].to_numpy()[rows]
    nearest = nearest_patches(network, architecture, data, rows, study.batch_size)
    count = min(study.prune.neighbours, len(np.unique(groups)))
    near = prototypes.neighbours(nearest, groups, labels, count)
    of_class = np.bincount(settings.classes, minlength=len(data.classes))
    inside = None
    if study.prune.region is not None:
        masks = masks_of(study.prune.region, data, rows, architecture.image_size, "prototypes.prune.region")
        inside = float(prototypes.inside(network, architecture, data, rows, masks, study.batch_size).mean())
    noisy = nearest_patches(
        network, architecture, _Noisy(data, study.noise, derived_seed(seed, NOISE)), rows, study.batch_size
    )
    kept, stays = _stability(network, nearest, noisy)
    return {
        "prototypes": len(settings.classes),
        "fewest_of_class": int(of_class.min()),
        "purity": float(prototypes.own_share(near, settings.classes).mean()),
        "images": len({source.image for source in settings.sources}),
        "groups": len({source.group for source in settings.sources}),
        "inside": inside,
        "strongest_kept": kept,
        "patch_stays": stays,
        "off_patch": deviation(network, architecture, data),
    }


class _Noisy:
    """Prepared data whose images have Gaussian noise of a standard deviation, the same for an image every time."""

    def __init__(self, data: Prepared, deviation: float, seed: int):
        self.data, self.deviation, self.seed = data, deviation, seed

    def batches(self, rows: np.ndarray, size: int):
        generator = torch.Generator().manual_seed(self.seed)
        for images, labels in self.data.batches(rows, size):
            noise = torch.randn(images.shape, generator=generator) * self.deviation
            yield (images + noise).clamp(0, 1), labels


def _stability(network: ProtoPNet, clean, noisy) -> tuple[float, float]:
    """Return which share of the strongest prototypes noise leaves among them, and how often the first's patch stays."""
    layer, weight = network.prototypes, network.last.weight.detach().cpu()
    similar = [layer.of_distances(found.distances) for found in (clean, noisy)]
    called = (similar[0] @ weight.T).argmax(1)
    strength = [values * weight[called] for values in similar]
    count = min(STRONGEST, strength[0].shape[1])
    before, after = (values.topk(count, 1).indices for values in strength)
    kept = (before[:, :, None] == after[:, None]).any(2).double().mean().item()
    first = before[:, :1]
    return kept, (clean.places.gather(1, first) == noisy.places.gather(1, first)).double().mean().item()


def _draw_prototypes(network: ProtoPNet, architecture: Architecture, data: Prepared, folder: Path) -> None:
    settings = architecture.prototypes
    row_of = data.positions()
    for label, name in enumerate(data.classes):
        sheet = []
        for number, source in enumerate(settings.sources):
            if settings.classes[number] == label:
                row = row_of[source.image]
                near = likeness(network, architecture, data.batch([row])[0][0]).maps[number]
                heat = enlarged(near, architecture.image_size).clamp(min=0).numpy()
                picture = {"image": data.images[row], "box": source.box, "heat": heat}
                sheet.append(picture | {"caption": f"{number}\n{source.image}"})
        montage.save(montage.prototype_sheet(name, sheet), folder / f"{file_name(name)}.png")


def _explain(
    network: ProtoPNet, architecture: Architecture, data: Prepared, study: PrototypeStudy, folder: Path
) -> list[dict]:
    """Draw and return the explanations of the first test images of each class."""
    weight, test, row_of = network.last.weight.detach().cpu(), data.rows("test"), data.positions()
    labels, told = data.labels(test).numpy(), []
    for label, name in enumerate(data.classes):
        for turn, row in enumerate(test[labels == label][: study.examples]):
            like = likeness(network, architecture, data.batch([row])[0][0])
            found = {"image": data.index["image_id"].iloc[row], "class": name}
            found |= explanation(like, weight, architecture)
            told.append(found)
            others = [data.images[row_of[part["image"]]] for part in found["strongest"]]
            heats = maps_at(like.maps, found, architecture.image_size)
            title = f"{found['image']}: {name}"
            figure = montage.this_looks_like_that(title, found, heats, data.images[row], others)
            montage.save(figure, folder / f"{file_name(name)}.{turn + 1}.png")
    return told


if __name__ == "__main__":
    command.run(main)
