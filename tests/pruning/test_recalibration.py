import torch

from stages.pruning.recalibration import recalibrate


def test_statistics_become_those_of_the_images_and_weights_stay(build, images):
    network = build("resnet8")
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}
    shift = recalibrate(network, [images])
    stem = network.conv1(images)
    assert torch.allclose(network.bn1.running_mean, stem.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(network.bn1.running_var, stem.var((0, 2, 3)), rtol=1e-4)
    assert all(torch.equal(parameter, before[name]) for name, parameter in network.named_parameters())
    assert shift > 0.1
    assert not network.training
    assert network.bn1.momentum == 0.1


def test_batches_count_equally_and_order_does_not_matter(build, images):
    first, second = build("resnet8"), build("resnet8")
    recalibrate(first, [images[:3], images[3:]])
    recalibrate(second, [images[3:], images[:3]])
    assert torch.allclose(first.bn1.running_mean, second.bn1.running_mean, atol=1e-6)
    assert torch.allclose(first.bn1.running_mean, first.conv1(images).mean((0, 2, 3)), atol=1e-5)


def test_what_was_known_before_counts_like_so_many_images(build, images):
    network, alone = build("resnet8"), build("resnet8")
    mean, variance = network.bn1.running_mean.clone(), network.bn1.running_var.clone()
    recalibrate(alone, [images])
    recalibrate(network, [images[:3], images[3:]], prior=18)
    new = network.conv1(images).mean((0, 2, 3))
    assert torch.allclose(network.bn1.running_mean, (18 * mean + 6 * new) / 24, atol=1e-5)
    assert not torch.allclose(network.bn1.running_var, variance)
    assert (network.bn1.running_var - variance).abs().sum() < (alone.bn1.running_var - variance).abs().sum()
