import numpy as np
import pytest
from sklearn import metrics as reference

from stages.reporting import metrics


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    labels = rng.choice(4, 500, p=[0.6, 0.2, 0.15, 0.05])
    logits = rng.normal(size=(500, 4)) * 1.5 + 1.5 * np.eye(4)[labels]
    return labels, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def test_recalls_and_balanced_accuracy_are_scikit_learns(sample):
    labels, probabilities = sample
    predicted = probabilities.argmax(1)
    assert metrics.recalls(labels, predicted, 4) == pytest.approx(
        reference.recall_score(labels, predicted, average=None)
    )
    expected = reference.balanced_accuracy_score(labels, predicted)
    assert metrics.balanced_accuracy(labels, predicted, 4) == pytest.approx(expected)


def test_a_class_without_images_does_not_count():
    assert metrics.balanced_accuracy(np.array([0, 0, 1]), np.array([0, 1, 1]), 3) == 0.75


def test_calibration_error_equals_a_slow_twin(sample):
    labels, probabilities = sample
    total = 0.0
    for low in np.arange(15) / 15:
        inside = [n for n in range(500) if low < probabilities[n].max() <= low + 1 / 15]
        if inside:
            accuracy = np.mean([probabilities[n].argmax() == labels[n] for n in inside])
            confidence = np.mean([probabilities[n].max() for n in inside])
            total += len(inside) / 500 * abs(accuracy - confidence)
    assert metrics.expected_calibration_error(labels, probabilities) == pytest.approx(total, abs=1e-12)
    assert total > 0.01


def test_loss_and_accuracy_are_what_they_say(sample):
    labels, probabilities = sample
    found = metrics.classification(labels, probabilities, list("abcd"))
    assert found["loss"] == pytest.approx(reference.log_loss(labels, probabilities))
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, probabilities.argmax(1)))
    assert found["auroc"] == pytest.approx(reference.roc_auc_score(labels, probabilities, multi_class="ovr"))
    assert list(found)[-4:] == ["recall_a", "recall_b", "recall_c", "recall_d"]
