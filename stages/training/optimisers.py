"""The optimisers of training: stochastic gradient descent, AdamW, LAMB."""

from collections.abc import Iterable

import torch
from torch.optim import SGD, AdamW, Optimizer

from stages.params.training import Training


def optimiser(parameters: Iterable[torch.nn.Parameter] | list[dict], settings: Training) -> Optimizer:
    """Return what updates the parameters.

    `sgd` has Nesterov momentum. `adamw` (Loshchilov and Hutter, 2019, arXiv 1711.05101) and `lamb` (You et al., 2020,
    arXiv 1904.00962, algorithm 2 without the correction of bias, as its third version has it) take `settings.momentum`
    as β1, and 0.999 as β2. LAMB's update of a tensor is as long as the tensor itself, or 10 if that is less, times the
    learning rate. The first two go over the weights once an update (`fused`): a VGG's head has 120 million.
    """
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimiser == "sgd":
        return SGD(parameters, rate, momentum=settings.momentum, weight_decay=decay, nesterov=True, fused=True)
    betas = (settings.momentum, 0.999)
    if settings.optimiser == "adamw":
        return AdamW(parameters, rate, betas=betas, weight_decay=decay, fused=True)
    from pytorch_optimizer import Lamb

    return Lamb(parameters, rate, betas=betas, weight_decay=decay, weight_decouple=False, adam_debias=True)
