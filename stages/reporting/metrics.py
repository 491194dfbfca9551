"""Metrics of a classifier. scikit-learn is imported where it is used: it costs a second and a half."""

import numpy as np

BINS = 15


def recalls(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return the share of each class's images that is found (float64, classes); NaN for a class without images."""
    hits = np.bincount(labels[labels == predicted], minlength=classes)
    with np.errstate(invalid="ignore"):
        return hits / np.bincount(labels, minlength=classes)


def balanced_accuracy(labels: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    """Return the mean recall over the classes that have images."""
    return float(np.nanmean(recalls(labels, predicted, classes)))


def reliability(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Return the reliability diagram: 15 bins of equal width of the highest probability (Guo et al., 2017).

    Parameters
    ----------
    labels : int array, N
    probabilities : float array, N x classes

    Returns
    -------
    dict of arrays, 15
        images in the bin, and sums over them: confidence (the highest probability) and correct (right answers).
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    sums = {"confidence": np.bincount(bins, confidence, BINS), "correct": np.bincount(bins, right, BINS)}
    return {"images": np.bincount(bins, minlength=BINS)} | sums


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the expected calibration error (Guo et al., 2017, arXiv 1706.04599).

    The mean over the bins of `reliability` of |accuracy - confidence|, weighted by their images. (torchmetrics has it
    too; importing that costs every training job three seconds through Fabric.)
    """
    bins = reliability(labels, probabilities)
    return float(np.abs(bins["correct"] - bins["confidence"]).sum() / len(labels))


def classification(labels: np.ndarray, probabilities: np.ndarray, classes: list[str]) -> dict[str, float]:
    """Return the metrics of one checkpoint on one split.

    Parameters
    ----------
    labels : int array, N
    probabilities : float array, N x classes

    Returns
    -------
    dict
        accuracy, balanced_accuracy, macro_f1, auroc (macro, one against rest), ece, loss (mean cross-entropy, nats),
        and recall_<class> for each class; all but loss are fractions.
    """
    from sklearn.metrics import f1_score, roc_auc_score

    predicted = probabilities.argmax(axis=1)
    truth = np.eye(len(classes))[labels]
    metrics = {
        "accuracy": float((predicted == labels).mean()),
        "balanced_accuracy": balanced_accuracy(labels, predicted, len(classes)),
        "macro_f1": float(f1_score(labels, predicted, average="macro")),
        "auroc": float(roc_auc_score(truth, probabilities, average="macro")),
        "ece": expected_calibration_error(labels, probabilities),
        "loss": float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)).mean()),
    }
    found = recalls(labels, predicted, len(classes))
    return metrics | {f"recall_{name}": float(recall) for name, recall in zip(classes, found, strict=True)}
