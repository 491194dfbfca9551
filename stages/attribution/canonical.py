"""The canonical form of a network, in which a filter is a convolution with its batch norm folded in.

Surgery removes a filter together with its batch norm, so every criterion looks at what leaves the batch norm.
"""

import copy

from torch import nn
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.torchvision import ResNetBasicBlockCanonizer, ResNetBottleneckCanonizer


class MergeBatchNorm(SequentialMergeBatchNorm):
    """Zennit's merge, with the identity it leaves behind made exact.

    zennit 0.4.6 keeps the batch norm's eps, so that the merged network differs from the original by 1e-5 a layer.
    """

    @staticmethod
    def merge_batch_norm(modules, batch_norm):
        """Fold `batch_norm` into the linear `modules` before it."""
        SequentialMergeBatchNorm.merge_batch_norm(modules, batch_norm)
        batch_norm.eps = 0.0


def canonical(network: nn.Module) -> nn.Module:
    """Return a copy in canonical form, in evaluation mode; the network itself is not touched.

    Batch norms are folded into the convolutions before them, residual additions become modules (so that rules can
    be attached), and activations work out of place (so that outputs can be kept).
    """
    network = copy.deepcopy(network).eval()
    for module in network.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    for canonizer in (MergeBatchNorm(), ResNetBasicBlockCanonizer(), ResNetBottleneckCanonizer()):
        canonizer.apply(network)
    return network
