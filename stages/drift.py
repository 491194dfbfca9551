"""Stage drift: does a pruned network still look where the unpruned one looked? Heat maps of the same test images.

By hand::

    python -m stages.drift --params params.yaml --data data/prepared --unpruned models/baseline/seed0.safetensors \
        --checkpoints lrp/seed0/step1.safetensors lrp/seed0/step2.safetensors --rows lrp.csv --pictures lrp.png
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from stages import command, device
from stages.attribution.filters import TRUE_CLASS
from stages.attribution.heatmap import heat_maps
from stages.datasets import store
from stages.datasets.store import Prepared
from stages.errors import InputError, naming
from stages.files import replacing
from stages.names import identify, without_repeats
from stages.networks import checkpoint
from stages.params import load
from stages.params.measuring import Drift
from stages.params.scores import Lrp
from stages.pruning.scoring import composite
from stages.reporting import drift, montage

SHOWN = 10  # classes in the picture, one image each
COLUMNS = 8  # steps in the picture


def main() -> None:
    """Run the stage."""
    parser = command.parser(
        "stages.drift",
        __doc__,
        data="prepared data",
        unpruned="network before any pruning",
        rows="similarities to write",
        pictures="heat maps side by side, to write (PNG)",
    )
    parser.add_argument("--checkpoints", type=Path, nargs="+", required=True, help="of a chain, fine-tuned, in order")
    arguments = parser.parse_args()
    params = load(arguments.params)
    log = command.logger("drift")
    where = device.prepare(params.drift.threads)
    data = store.load(arguments.data)
    chosen = data.references(params.drift.images_per_class, params.data.split_seed, split="test")
    before = explained(arguments.unpruned, data, chosen, params.prune.scores.lrp, params.drift, where)
    images = data.index.iloc[chosen][["image_id", "label"]].reset_index(drop=True)
    one_a_class = images.drop_duplicates("label").index[:SHOWN]
    found, shown = [], {"unpruned": before[one_a_class]}
    for path in without_repeats(arguments.checkpoints):
        identity = identify(path)
        after = explained(path, data, chosen, params.prune.scores.lrp, params.drift, where)
        shown[f"step {identity.step}"] = after[one_a_class]
        similarities = {
            "cosine": drift.cosine(before, after),
            "rank": drift.rank_correlation(before, after),
            "ssim": drift.structural_similarity(before, after),
        }
        keys = {"criterion": identity.criterion, "seed": identity.seed, "step": identity.step}
        names = images["label"].map(dict(enumerate(data.classes)))
        found.append(pd.DataFrame({**keys, "image_id": images["image_id"], "class": names, **similarities}))
        log.info("%s seed %d step %d: mean cosine %.3f", *identity[:3], np.nanmean(similarities["cosine"]))
    with replacing(arguments.rows) as temporary:
        pd.concat(found, ignore_index=True).to_csv(temporary, index=False, float_format="%.6g")
    steps = [list(shown)[n] for n in np.unique(np.linspace(0, len(shown) - 1, COLUMNS + 1).round().astype(int))]
    figure = montage.heat_map_rows(
        [data.images[chosen[n]] for n in one_a_class],
        [data.classes[images["label"][n]] for n in one_a_class],
        {name: shown[name] for name in steps},
    )
    montage.save(figure, arguments.pictures)


def explained(
    path: Path, data: Prepared, rows: np.ndarray, lrp: Lrp, settings: Drift, where: torch.device
) -> np.ndarray:
    """Return a network's heat maps for the true class of images, N x H x W."""
    network, architecture = checkpoint.load(path)
    if architecture.classes != data.classes:
        raise InputError(f"{path}: its classes are not those of the data")
    network.to(where)
    propagating = composite(lrp, architecture, where)
    maps = []
    for images, labels in data.batches(rows, settings.batch_size):
        batch = architecture.normalise(images.to(where))
        with naming(path):
            maps.append(heat_maps(network, batch, labels.to(where), TRUE_CLASS, propagating).cpu())
    return torch.cat(maps).numpy()


if __name__ == "__main__":
    command.run(main)
