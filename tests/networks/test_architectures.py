import pytest
import torch

from stages.errors import InputError
from stages.networks import architectures


@pytest.mark.parametrize(("depth", "params"), [(20, 0.27e6), (56, 0.85e6)])
def test_the_cifar_resnets_have_the_published_size(depth, params):
    """He et al. (2016), table 6; option B adds the two 1x1 shortcuts."""
    network = architectures.build(f"resnet{depth}", "imagenet", 10, 32)
    shortcuts = 32 * 16 + 64 * 32 + 2 * (32 + 64)
    total = sum(parameter.numel() for parameter in network.parameters())
    assert total - shortcuts == pytest.approx(params, rel=0.02)


def test_the_small_stem_keeps_the_resolution(images):
    network = architectures.build("resnet18", "small", 10, 32).eval()
    shapes = []
    network.layer1.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    network(images)
    assert shapes == [torch.Size([6, 64, 32, 32])]


def test_a_stem_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="model.stem: vgg11 has no small stem"):
        architectures.build("vgg11", "small", 10, 32)


def test_the_logits_are_never_scored(build):
    network = build("vgg11")
    assert architectures.logits_layer(network) == "classifier.6"
    assert "classifier.6" not in architectures.scored_layers(network)
    assert len(architectures.scored_layers(network)) == 8 + 2
