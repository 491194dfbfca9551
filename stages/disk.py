"""How much disk the networks of a study take, and which of them need not stay."""

import json
import re
from collections import defaultdict
from pathlib import Path

from stages.params import Params

STEP = re.compile(r"step(\d+)(\.pruned)?\.safetensors")
BYTES = 4  # of a weight, which is float32


def expected(params: Params, classes: int = 10) -> tuple[int, int]:
    """Return about how many bytes the networks of a study take: all of them, and those that `models.keep` keeps.

    A step of `per_step` of the parameters, or of the MACs, is taken to leave 1 - per_step of the parameters; one of the
    filters (1 - per_step)², because a layer loses inputs with outputs. Criteria differ. Masked networks stay as large.
    """
    import torch

    from stages.networks.architectures import build

    with torch.device("meta"):
        network = build(params.model.name, params.model.stem, classes, params.data.image_size)
    whole = BYTES * sum(tensor.numel() for tensor in network.state_dict().values())
    steps, power = params.prune.steps, 2 if params.prune.unit == "filters" else 1
    power = 0 if params.prune.removal == "mask" else power
    chains = len(params.seeds) * len(params.prune.criteria)
    every = kept = len(params.seeds) * whole
    for step in range(1, steps + 1):
        size = chains * whole * (1 - step * params.prune.per_step) ** power
        every += 2 * size
        kept += sum(size for phase in ("pruned", "finetuned") if params.models.keeps(step, steps, phase))
    return round(every), round(kept)


def of_protopnets(params: Params, classes: int = 10) -> int:
    """Return about how many bytes the ProtoPNets of a study take; with `left` of the MACs, as much of a backbone.

    Raises
    ------
    InputError
        The backbone has not the layer that `prototypes.layer` names.
    """
    import torch

    from stages.networks.architectures import build
    from stages.networks.protopnet import ProtoPNet, Prototypes

    study = params.prototypes
    if not study.per_class:
        return 0
    of_classes = [label for label in range(classes) for _ in range(study.per_class)]
    with torch.device("meta"):
        classifier = build(params.model.name, params.model.stem, classes, params.data.image_size)
        network = ProtoPNet(classifier, Prototypes(study.layer, study.dimension, study.similarity, of_classes), classes)
    whole = BYTES * sum(tensor.numel() for tensor in network.state_dict().values())
    return round(len(params.seeds) * whole * (3 + study.backbone.left * len(study.backbone.criteria)))


def in_words(params: Params, prepared: Path) -> str:
    """Return in words what a study will take; the number of classes is that of the prepared data, where there are."""
    known = {"classes": len(json.loads(prepared.read_text())["classes"])} if prepared.exists() else {}
    every, kept = expected(params, **known)
    protopnets = of_protopnets(params, **known)
    return (
        f"networks of this study: about {every / 1e6:,.1f} MB while it runs, of which {kept / 1e6:,.1f} MB are "
        f"versioned (models.keep: {params.models.keep}), and {protopnets / 1e6:,.1f} MB of ProtoPNets"
    )


def by_step(folder: Path) -> dict[int, int]:
    """Return how many bytes of files there are by step of the study, in all chains together; 0 are the baselines."""
    sizes: dict[int, int] = defaultdict(int)
    for path in folder.rglob("*"):
        if path.is_file() and (found := re.match(r"(?:seed|step(\d+))", path.name)):
            sizes[int(found[1] or 0)] += path.stat().st_size
    return dict(sorted(sizes.items()))


def free(steps: Path, keep: str) -> int:
    """Delete networks that are not to be kept from the work folder of the stage prune; return how many bytes they had.

    Of each chain the last fine-tuned network that there is stays: the chain may go on from it.
    """
    freed = 0
    for chain in {path.parent for path in steps.glob("*/*/*/step*.safetensors")}:
        networks = {path: STEP.fullmatch(path.name) for path in chain.iterdir()}
        numbers = {path: (int(found[1]), found[2]) for path, found in networks.items() if found}
        last = max((step for step, pruned in numbers.values() if not pruned), default=0)
        for path, (step, pruned) in numbers.items():
            if keep != "all" and (pruned or (keep == "last" and step < last)):
                freed += path.stat().st_size
                path.unlink()
    return freed
