"""The accelerator gives the scores of the processor; skipped where there is none."""

import pytest
import torch

from stages.attribution.composites import Rules
from stages.pruning.criteria import References, score

DEVICE = torch.device("cuda")
LABELS = torch.arange(6)


@pytest.fixture(autouse=True)
def only_with_a_device():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")


def scores(network, images, criterion, where, memory_format, rules, reduction="abs-sample"):
    network = network.to(where, memory_format=memory_format)
    images = images.to(where, memory_format=memory_format)
    bounds = images.amin((0, 2, 3), keepdim=True), images.amax((0, 2, 3), keepdim=True)
    references = References([(images, LABELS.to(where))], bounds, reduction, 0, rules)
    return {name: values.cpu() for name, values in score(criterion, network, references, "none").items()}


@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn", "mlp"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("criterion", ["lrp", "taylor", "gradient"])
@pytest.mark.parametrize("composite", ["alpha-beta", "epsilon-plus-box"])
def test_scores_are_those_of_the_processor(build, images, name, memory_format, criterion, composite):
    if criterion != "lrp" and composite != "alpha-beta":
        pytest.skip("only LRP has rules")
    rules = Rules.named(composite)
    images = images.double()  # in float32 another order of sums can change a score by a per cent
    here = scores(build(name).double(), images, criterion, torch.device("cpu"), torch.contiguous_format, rules)
    there = scores(build(name).double(), images, criterion, DEVICE, memory_format, rules)
    assert here.keys() == there.keys()
    for layer, values in here.items():
        assert torch.allclose(values, there[layer], rtol=1e-6, atol=1e-6 * values.abs().max()), layer


@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn"])
def test_relevance_is_conserved_under_bfloat16(build, images, name):
    rules = Rules.named("zplus")
    with torch.autocast(DEVICE.type, torch.bfloat16):
        found = scores(build(name), images, "lrp", DEVICE, torch.channels_last, rules, "sum")
    first = next(iter(found.values()))
    assert first.sum().item() == pytest.approx(len(images), rel=2e-2)
