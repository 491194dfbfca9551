import math

import pytest
import torch

from stages.params.training import Distillation
from stages.training.loss import loss


def test_distillation_is_that_of_hinton_et_al():
    logits, taught, labels = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0]]), torch.tensor([0])
    student = [math.exp(value / 2) / (math.exp(0.5) + math.exp(1)) for value in (1, 2)]
    teacher = [math.exp(value / 2) / (math.exp(1.5) + math.exp(-0.5)) for value in (3, -1)]
    distance = sum(t * math.log(t / s) for t, s in zip(teacher, student, strict=True))
    of_labels = -math.log(math.exp(1) / (math.exp(1) + math.exp(2)))
    found = loss(logits, labels, taught, Distillation(weight=0.7, temperature=2.0))
    assert found.item() == pytest.approx(0.3 * of_labels + 0.7 * 4 * distance, rel=1e-6)
    assert loss(logits, labels).item() == pytest.approx(of_labels, rel=1e-6)


def test_a_student_that_says_what_its_teacher_says_is_at_the_least():
    taught = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    logits = taught.clone().requires_grad_()
    cost = loss(logits, torch.zeros(6, dtype=torch.int64), taught, Distillation(weight=1.0, temperature=3.0))
    cost.backward()
    assert cost.item() == pytest.approx(0, abs=1e-6)
    assert logits.grad.abs().max() < 1e-6
