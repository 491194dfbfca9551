import pytest
import torch
from crp.attribution import CondAttribution
from crp.concepts import ChannelConcept

from stages.attribution.canonical import canonical
from stages.attribution.composites import ByGraph, Rules
from stages.attribution.concepts import PIXELS, propagated, shares
from stages.attribution.filters import from_class
from stages.attribution.heatmap import heat_maps

TRUE_LOGIT = from_class("true", "logit")
LABELS = torch.arange(6)
COMPOSITES = ["epsilon-plus-flat", "alpha-beta"]


def of_crp(form, images, conditions, composite, **options):
    """What zennit-crp finds, one image and condition a row."""
    attribution = CondAttribution(form, no_param_grad=False)
    return attribution(images.clone().requires_grad_(), conditions, composite, **options)


@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize(("name", "layer"), [("vgg11_bn", "features.8"), ("resnet8", "layer2.0.conv1")])
def test_conditional_heat_maps_are_those_of_zennit_crp(build, images, name, layer, composite):
    form, rules = canonical(build(name)), ByGraph(Rules.named(composite))
    channels = [0, 3, 7, 11, 12, 15]
    conditions = [{"y": [label], layer: [channel]} for label, channel in zip(LABELS.tolist(), channels, strict=True)]
    theirs = of_crp(form, images, conditions, rules, exclude_parallel=True)
    with propagated(form, [layer], images, LABELS, TRUE_LOGIT, rules) as found:
        ours = torch.stack([found.heat_maps(layer, channel)[row] for row, channel in enumerate(channels)])
    assert theirs.heatmap.abs().max() > 0
    assert (ours - theirs.heatmap).abs().max() < 1e-4 * theirs.heatmap.abs().max()


def test_sub_concepts_are_those_of_zennit_crp(build, images):
    form, rules = canonical(build("vgg11_bn")), ByGraph(Rules())
    above, below = "features.11", "features.8"
    theirs = of_crp(
        form, images[:1], [{"y": [2], above: [5]}], rules, record_layer=[above, below], exclude_parallel=False
    )
    with propagated(form, [below, above], images[:1], torch.tensor([2]), TRUE_LOGIT, rules) as found:
        ours = found.of(above, [5], at=[below])[below]
        assert torch.allclose(found.relevance[above][:, 5], theirs.relevances[above][:, 5], rtol=1e-4, atol=1e-7)
    concepts = ChannelConcept().attribute(theirs.relevances[below])
    assert torch.allclose(shares(ours), concepts, atol=1e-5)


@pytest.mark.parametrize(("name", "layer"), [("vgg11_bn", "features.0"), ("resnet8", "conv1"), ("mlp", None)])
def test_conditional_heat_maps_of_all_channels_sum_to_the_heat_map(build, images, name, layer):
    network, rules = build(name).double(), ByGraph(Rules.named("zplus"))
    form = canonical(network)
    layer = layer or next(key for key, module in form.named_modules() if isinstance(module, torch.nn.Linear))
    whole = heat_maps(network, images.double(), LABELS, TRUE_LOGIT, rules)
    with propagated(form, [layer], images.double(), LABELS, TRUE_LOGIT, rules) as found:
        channels = range(found.relevance[layer].shape[1])
        assert torch.allclose(found.relevance[PIXELS].sum(1), whole)
    for few in torch.tensor(channels).split(128):  # conditions of one image
        repeated = images[4].double().expand(len(few), -1, -1, -1), LABELS[4].expand(len(few))
        with propagated(form, [layer], *repeated, TRUE_LOGIT, rules) as found:
            whole[4] -= found.heat_map_each(layer, few.tolist()).sum(0)
    assert whole[4].abs().max() < 1e-9 * whole[3].abs().max()


def test_a_condition_can_be_kept_to_some_neurons(build, images):
    form, layer = canonical(build("vgg11_bn")), "features.4"
    with propagated(form, [layer], images, LABELS, TRUE_LOGIT, ByGraph(Rules())) as found:
        left = torch.zeros(6, *found.relevance[layer].shape[2:])
        left[:, :, :4] = 1
        whole, part, rest = (found.heat_maps(layer, 2, where=where) for where in (None, left, 1 - left))
    assert part.abs().sum() > 0
    assert torch.allclose(part + rest, whole, atol=1e-5 * whole.abs().max())
    assert (part[:, :, 20:] == 0).all()  # features.4 at 16 x 16: its neurons of columns 0 to 3 see no pixel right of 19


@pytest.mark.parametrize(("name", "layer"), [("vgg11_bn", "features.8"), ("resnet8", "layer2.0.conv1")])
def test_conditions_of_an_image_are_one_batch(build, images, name, layer, monkeypatch):
    form, rules, channels = canonical(build(name).double()), ByGraph(Rules.named("alpha-beta")), [7, 0, 3]
    images = images.double()
    with propagated(form, [layer], images[2:3], LABELS[2:3], TRUE_LOGIT, rules) as found:
        one_by_one = torch.cat([found.heat_maps(layer, channel) for channel in channels])
    with propagated(form, [layer], images[2].expand(4, -1, -1, -1), LABELS[2].expand(4), TRUE_LOGIT, rules) as found:
        passes = []
        backward = torch.autograd.grad
        monkeypatch.setattr(
            torch.autograd, "grad", lambda y, *rest, **more: passes.append(y) or backward(y, *rest, **more)
        )
        together = found.heat_map_each(layer, channels)
        assert sum(y is found.outputs[layer] for y in passes) == 1  # the rules' own aside
    assert together.shape == (3, 32, 32)
    assert one_by_one.abs().amax((1, 2)).min() > 0
    assert (together - one_by_one).abs().max() < 1e-9 * one_by_one.abs().max()


def test_only_layers_below_can_be_asked_for(build, images):
    form = canonical(build("vgg11_bn"))
    with (
        propagated(form, ["features.4", "features.8"], images, LABELS, TRUE_LOGIT, ByGraph(Rules())) as found,
        pytest.raises(ValueError, match=r"features\.8 is not below features\.4"),
    ):
        found.of("features.4", [0], at=["features.8"])


def test_the_network_computes_as_before_after_an_error(build, images):
    form = canonical(build("resnet8"))
    before = form(images)
    with pytest.raises(KeyError), propagated(form, ["conv1"], images, LABELS, TRUE_LOGIT, ByGraph(Rules())) as found:
        found.heat_maps("conv2", 0)
    assert torch.equal(form(images), before)
    assert not form(images).requires_grad


def test_shares_are_of_the_absolute_relevance_and_zero_where_there_is_none():
    relevance = torch.tensor([[[[1.0, 2.0]], [[-1.0, 0.0]]], [[[0.0, 0.0]], [[0.0, 0.0]]]])
    assert shares(relevance).tolist() == [[0.75, -0.25], [0.0, 0.0]]


def test_captions_say_the_channel_and_its_share_beside_its_own_heat_map(build, images):
    form, rules = canonical(build("resnet8").double()), ByGraph(Rules.named("alpha-beta"))
    concepts = {"layer2.0.conv1": [7, 0, 3], "layer1.0.conv1": [5]}
    image, label = images[2:3].double(), LABELS[2:3]
    with propagated(form, list(concepts), image.expand(3, -1, -1, -1), label.expand(3), TRUE_LOGIT, rules) as found:
        told = found.captioned(concepts)
    with propagated(form, list(concepts), image, label, TRUE_LOGIT, rules) as found:
        for layer, channels in concepts.items():
            share = shares(found.relevance[layer])[0]
            assert [caption for caption, _ in told[layer]] == [f"{n}: {100 * share[n]:.1f} %" for n in channels]
            alone = torch.cat([found.heat_maps(layer, n) for n in channels])
            together = torch.stack([torch.from_numpy(heat) for _, heat in told[layer]])
            assert alone.abs().amax((1, 2)).min() > 0
            assert torch.allclose(together, alone, rtol=1e-9, atol=1e-12)
