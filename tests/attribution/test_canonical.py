import pytest
import torch

from stages.attribution.canonical import canonical


@pytest.mark.parametrize("name", ["resnet8", "resnet18", "resnet50", "vgg11_bn", "vgg11"])
def test_the_canonical_form_computes_the_same(build, images, name):
    network = build(name).double()
    logits = network(images.double())
    assert torch.allclose(canonical(network)(images.double()), logits, rtol=1e-10, atol=1e-12)


def test_the_canonical_form_has_no_batch_norm_left_that_does_anything(build):
    for module in canonical(build("resnet18")).modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            values = torch.randn(2, module.num_features, 3, 3)
            assert torch.equal(module(values), values)
