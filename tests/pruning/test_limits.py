import time

import pytest
import torch

from stages.networks import timing
from stages.params.pruning import Guard, Until
from stages.pruning import limits

EVERYTHING = 0.999


def test_the_guard_compares_with_the_unpruned_network_on_the_validation_split(build, architecture, prepared):
    unpruned, one_answer = build("resnet8", image_size=16), build("resnet8", image_size=16)
    torch.nn.init.zeros_(one_answer.fc.weight)
    one_answer.fc.bias.data = torch.nn.functional.one_hot(torch.tensor(3), 10).float()
    rows = prepared.rows("val")
    images, labels = prepared.batch(rows)
    with torch.no_grad():
        right = (unpruned(architecture.normalise(images)).argmax(1) == labels).double().mean().item()
    name = prepared.classes[3]

    def verdict(metric, max_drop, network=one_answer):
        return limits.guarded(
            Guard(metric=metric, max_drop=max_drop), network, unpruned, architecture, prepared, batch_size=64
        )

    found = verdict("accuracy", 0.0)
    assert found.unpruned == pytest.approx(right)
    assert found.now == pytest.approx((labels == 3).double().mean().item())
    assert verdict(f"recall_{name}", EVERYTHING).now == 1
    other = next(
        label for label in range(10) if label != 3 and verdict(f"recall_{prepared.classes[label]}", 0.0).unpruned > 0
    )
    gone = verdict(f"recall_{prepared.classes[other]}", 0.0)
    assert gone.now == 0
    assert gone.reached
    assert not verdict(f"recall_{prepared.classes[other]}", EVERYTHING).reached or gone.unpruned == 1
    assert not verdict("accuracy", 0.0, unpruned).reached


class Waits(torch.nn.Module):
    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def forward(self, images):
        time.sleep(self.seconds)
        return images


def test_times_are_compared_by_turns():
    ratio = timing.relative(Waits(0.02), Waits(0.04), torch.zeros(1), threads=1, seconds=0.1)
    assert ratio == pytest.approx(0.5, abs=0.15)


def test_a_time_is_reached_by_its_share(build, architecture, monkeypatch):
    monkeypatch.setattr(timing, "relative", lambda *arguments: 0.6)
    network = build("resnet8", image_size=16)

    def reached(left):
        until = Until(unit="latency", left=left)
        return limits.time_left(until, network, network, architecture, threads=1).reached

    assert reached(0.6)
    assert not reached(0.59)
