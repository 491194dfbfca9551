import pytest
import torch

from stages.training.optimisers import optimiser


@pytest.fixture
def updated(params):
    def run(name, decay):
        torch.manual_seed(0)
        settings = params.train.model_copy(
            update={"optimiser": name, "learning_rate": 0.01, "momentum": 0.8, "weight_decay": decay}
        )
        weight = torch.nn.Parameter(7 * torch.randn(6, 5))  # a norm above 10
        gradients, values = [torch.randn(6, 5) for _ in range(4)], [weight.detach().clone()]
        updating = optimiser([weight], settings)
        for gradient in gradients:
            weight.grad = gradient.clone()
            updating.step()
            values.append(weight.detach().clone())
        return gradients, values

    return run


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_lamb_is_that_of_its_paper_without_the_correction_of_bias(updated, decay):
    gradients, values = updated("lamb", decay)
    weight, mean, square = values[0].double(), 0, 0
    assert weight.norm() > 10
    for gradient, found in zip(gradients, values[1:], strict=True):
        mean = 0.8 * mean + 0.2 * gradient.double()
        square = 0.999 * square + 0.001 * gradient.double() ** 2
        update = mean / (square.sqrt() + 1e-6) + decay * weight
        weight = weight - 0.01 * weight.norm().clamp(max=10) * update / update.norm()
        torch.testing.assert_close(found.double(), weight, rtol=1e-5, atol=1e-6)


def test_adamw_is_that_of_its_paper(updated):
    gradients, values = updated("adamw", 0.1)
    weight, mean, square = values[0].double(), 0, 0
    for time, (gradient, found) in enumerate(zip(gradients, values[1:], strict=True), 1):
        mean = 0.8 * mean + 0.2 * gradient.double()
        square = 0.999 * square + 0.001 * gradient.double() ** 2
        corrected = mean / (1 - 0.8**time) / ((square / (1 - 0.999**time)).sqrt() + 1e-8)
        weight = weight - 0.01 * (corrected + 0.1 * weight)
        torch.testing.assert_close(found.double(), weight, rtol=1e-5, atol=1e-6)


def test_sgd_has_nesterov_momentum(updated):
    gradients, values = updated("sgd", 0.1)
    weight, velocity = values[0].double(), 0
    for gradient, found in zip(gradients, values[1:], strict=True):
        decayed = gradient.double() + 0.1 * weight
        velocity = 0.8 * velocity + decayed
        weight = weight - 0.01 * (decayed + 0.8 * velocity)
        torch.testing.assert_close(found.double(), weight, rtol=1e-5, atol=1e-6)
