"""What may be removed from an unpruned network, in the order in which a criterion would."""

from torch import nn

from stages.datasets.store import Prepared, derived_seed
from stages.networks.architectures import prunable_layers
from stages.networks.checkpoint import Architecture
from stages.params.pruning import Layers
from stages.params.scores import Scores
from stages.pruning.scoring import scored
from stages.pruning.selection import Candidate, rank
from stages.pruning.surgery import prunable_groups


def ranked(
    criterion: str,
    network: nn.Module,
    architecture: Architecture,
    data: Prepared,
    layers: Layers,
    settings: Scores,
    seed: int,
    min_channels: int,
) -> list[Candidate]:
    """Return what may be removed from an unpruned network, least relevant first; see `scored` and `rank`."""
    names = prunable_layers(network, layers.include, layers.exclude)
    scores, _ = scored(criterion, network, architecture, data, names, settings, seed, derived_seed(seed))
    groups = prunable_groups(network, architecture.image_size, layers.include, layers.exclude)
    return rank(groups, scores, settings.coupled[criterion], min_channels)
