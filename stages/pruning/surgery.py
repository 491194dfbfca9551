"""Which channels stand and fall together, and their physical removal (torch-pruning's dependency graph)."""

from dataclasses import dataclass

from torch import nn

from stages.errors import InputError
from stages.networks.architectures import logits_layer, prunable_layers, scored_layers
from stages.networks.dependencies import dependency_graph


@dataclass(frozen=True)
class Group:
    """Channels that several layers can lose only together, such as those of a residual stream.

    Attributes
    ----------
    root : str
        The first of the layers, in the network's order.
    layers : dict
        Layer name to the channel of that layer which belongs to each channel of the root.
    """

    root: str
    layers: dict[str, list[int]]

    @property
    def channels(self) -> int:
        """How many channels the root has."""
        return len(self.layers[self.root])


def prunable_groups(
    network: nn.Module, image_size: int | tuple[int, ...], include: list[str], exclude: list[str]
) -> list[Group]:
    """Return the groups all of whose layers may be pruned, in the network's order.

    Parameters
    ----------
    image_size : int or tuple of int
        See `stages.networks.dependencies.dependency_graph`.
    include, exclude : list of str
        See `stages.networks.architectures.prunable_layers`.

    Raises
    ------
    InputError
        They leave no layer, or no whole group.
    """
    layers = scored_layers(network)
    allowed = set(prunable_layers(network, include, exclude))
    name_of = {layer: name for name, layer in layers.items()}
    order = list(layers)
    graph = dependency_graph(network, image_size)
    head = network.get_submodule(logits_layer(network))
    groups = []
    for traced in graph.get_all_groups([head], [nn.Conv2d, nn.Linear]):
        members = {
            name_of[item.dep.target.module]: item
            for item in traced
            if item.dep.target.module in name_of and graph.is_out_channel_pruning_fn(item.dep.handler)
        }
        names = sorted(members, key=order.index)
        if allowed.issuperset(names):
            groups.append(Group(names[0], {name: list(members[name].idxs) for name in names}))
    if not groups:
        raise InputError(
            f"prune.layers: no layer may be pruned; include {include} and exclude {exclude} must leave a whole group "
            f"of {', '.join(layers)}"
        )
    return sorted(groups, key=lambda group: order.index(group.root))


def remove(network: nn.Module, image_size: int | tuple[int, ...], channels: dict[str, list[int]]) -> list[list]:
    """Remove channels physically, in place, with everything that depends on them.

    Parameters are replaced by smaller ones: an optimiser made before would train dead tensors.

    Parameters
    ----------
    image_size : int or tuple of int
        See `stages.networks.dependencies.dependency_graph`.
    channels : dict
        Root layer of a group to the channels to remove.

    Returns
    -------
    list of [layer, is_output, channels]
        The history that `stages.networks.checkpoint.replay` repeats.
    """
    graph = dependency_graph(network, image_size)
    for root, chosen in channels.items():
        layer = network.get_submodule(root)
        prune = graph.get_pruner_of_module(layer).prune_out_channels
        graph.get_pruning_group(layer, prune, sorted(chosen)).prune()
    return [[layer, is_output, list(removed)] for layer, is_output, removed in graph.pruning_history()]
