import pytest
import torch

from stages.attribution.composites import ByGraph, Rules
from stages.attribution.filters import from_class
from stages.attribution.heatmap import heat_maps


@pytest.mark.parametrize("name", ["resnet8", "vgg11_bn", "mlp"])
def test_a_heat_map_sums_to_the_logit_it_explains(build, images, name):
    network = build(name).double()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    labels = torch.arange(len(images))
    maps = heat_maps(network, images.double(), labels, from_class("true", "logit"), ByGraph(Rules.named("zplus")))
    with torch.no_grad():
        logits = network(images.double())[labels, labels]
    assert maps.shape == (6, 32, 32)
    assert maps.sum((1, 2)).tolist() == pytest.approx(logits.tolist(), rel=1e-6)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_relevance_is_where_the_network_looks(build, images):
    network = build("mlp")
    first = next(module for module in network.modules() if isinstance(module, torch.nn.Linear))
    seen = torch.zeros(3, 32, 32)
    seen[:, 4:12, 20:28] = 1
    first.weight.data *= seen.flatten()
    labels = torch.zeros(len(images), dtype=torch.int64)
    maps = heat_maps(network, images, labels, from_class("predicted", "one"), ByGraph(Rules.named("epsilon-plus")))
    assert (maps[:, 4:12, 20:28] != 0).any()
    assert (maps * (1 - seen[0]) == 0).all()
