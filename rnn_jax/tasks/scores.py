"""Scores of predictions, computed on the host in NumPy. Each takes true and predicted values [N, ...]."""

from collections.abc import Sequence

import numpy as np


def most_frequent_class(classes: Sequence[str], usual: int, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Makes the baseline that always predicts the class `usual`: probabilities [*shape, C], by their description."""
    certain = np.eye(len(classes), dtype=np.float32)[usual]
    always = np.broadcast_to(certain, (*shape, len(classes)))
    return {f"always the most frequent class, {classes[usual]}": always}


def class_figures(true: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Computes the figures of a classification, by their names in reports."""
    return {
        "Accuracy": accuracy(true, predicted),
        "Balanced Accuracy": balanced_accuracy(true, predicted),
        "Macro F1": macro_f1(true, predicted),
    }


def accuracy(true: np.ndarray, predicted: np.ndarray) -> float:
    """Computes the fraction of predictions that are right."""
    return float(np.mean(true == predicted))


def balanced_accuracy(true: np.ndarray, predicted: np.ndarray) -> float:
    """Computes the mean recall over the classes that occur."""
    return float(np.mean([np.mean(predicted[true == c] == c) for c in np.unique(true)]))


def macro_f1(true: np.ndarray, predicted: np.ndarray) -> float:
    """Computes the mean over all classes, true or predicted, of F1 = 2 hits / (occurrences + predictions)."""
    classes = np.union1d(true, predicted)
    hits = [np.sum((true == c) & (predicted == c)) for c in classes]
    counts = [np.sum(true == c) + np.sum(predicted == c) for c in classes]
    return float(np.mean(2 * np.array(hits) / np.array(counts)))


def mean_absolute_error(true: np.ndarray, predicted: np.ndarray) -> float:
    """Computes MAE = mean |y - y'|."""
    return float(np.mean(np.abs(true - predicted)))


def root_mean_square_error(true: np.ndarray, predicted: np.ndarray) -> float:
    """Computes RMSE = sqrt(mean (y - y')^2)."""
    return float(np.sqrt(np.mean((true - predicted) ** 2)))


def r_squared(true: np.ndarray, predicted: np.ndarray) -> float:
    """Computes R2 = 1 - sum (y - y')^2 / sum (y - mean y)^2; nan if all true values are equal."""
    variation = np.sum((true - np.mean(true)) ** 2)
    return float(1 - np.sum((true - predicted) ** 2) / variation) if variation > 0 else float("nan")
