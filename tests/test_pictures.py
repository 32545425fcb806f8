"""Pictures show what they were given."""

import numpy as np
import pytest

from rnn_jax.data import Examples
from rnn_jax.tasks.classification import Classification
from rnn_jax.tasks.plots import confusion_matrix, training_curve, worst_mistakes
from rnn_jax.tasks.task import Quantity, Report

NAMES = "loss", "accuracy", "validation_loss", "validation_accuracy"


def report(step, seed, *values):
    return Report(step, seed, dict(zip(NAMES, values, strict=False)))


def draw_curve(reports, title):
    return training_curve(reports, Classification.quantities, title)


def points(line):
    return np.asarray(line.get_xydata()).tolist()


def test_the_curves_of_minibatches_and_of_validation():
    figure = draw_curve([report(1, 0, 2.3, 0.125), report(50, 0, 1.5, 0.5, 1.75, 0.25)], "A title")
    loss_axes, accuracy_axes = figure.axes
    assert figure.get_suptitle() == "A title"
    assert [points(line) for line in loss_axes.lines] == [[[1, 2.3], [50, 1.5]], [[50, 1.75]]]
    assert [points(line) for line in accuracy_axes.lines] == [[[1, 12.5], [50, 50]], [[50, 25]]]
    assert (loss_axes.get_ylabel(), accuracy_axes.get_ylabel()) == ("loss [nats]", "accuracy [%]")
    legend = accuracy_axes.get_legend()
    assert legend
    assert [text.get_text() for text in legend.get_texts()] == ["minibatch", "validation"]


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_the_legend_leaves_the_end_of_the_curves_free(better):
    quantities = {"loss": Quantity("Loss", "loss"), "score": Quantity("Score", "score", better=better)}
    figure = training_curve([Report(1, 0, {"loss": 1.0, "score": 0.5})], quantities, "A title")
    figure.draw_without_rendering()
    axes = figure.axes[-1]
    legend = axes.get_legend()
    assert legend
    boxes = legend.get_window_extent(), axes.get_window_extent()
    legend_middle, middle = ((box.y0 + box.y1) / 2 for box in boxes)
    assert (legend_middle < middle) == (better == "higher")


def test_the_curve_of_several_seeds_is_their_mean_and_range():
    reports = [report(step, seed, step * (1 + seed), 0.5, 1.0 + seed, 0.25) for step in (1, 50) for seed in (0, 2)]
    loss_axes, accuracy_axes = draw_curve(reports, "A title").axes
    assert points(loss_axes.lines[0]) == [[1, 2], [50, 100]]
    assert points(loss_axes.lines[1]) == [[1, 2], [50, 2]]
    assert loss_axes.collections[0].get_datalim(loss_axes.transData).extents == pytest.approx([1, 1, 50, 150])
    legend = accuracy_axes.get_legend()
    assert legend
    assert legend.get_title().get_text() == "mean and range of 2 seeds"


def test_the_confusion_matrix_counts():
    figure = confusion_matrix(np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 0, 2]), 3, "A title")
    axes = figure.axes[0]
    assert {(text.get_position(), text.get_text()) for text in axes.texts} == {
        ((0, 0), "1"),
        ((1, 0), "1"),
        ((1, 1), "1"),
        ((0, 2), "2"),
        ((2, 2), "1"),
    }
    assert np.asarray(axes.images[0].get_array()).tolist() == [[0, 1, 0], [0, 0, 0], [2, 0, 0]], "errors are shaded"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")


def test_the_worst_mistake_comes_first():
    images = np.arange(4 * 2 * 2, dtype=np.uint8).reshape(4, 2, 2)
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    figure = worst_mistakes(Examples(images, np.array([0, 1, 0, 1])), probabilities, "A title")
    assert figure.get_suptitle() == "A title\nthe 2 most certain of 2 mistakes"
    shown = [axes for axes in figure.axes if axes.images]
    assert [np.asarray(axes.images[0].get_array()).tolist() for axes in shown] == [
        images[2].tolist(),
        images[1].tolist(),
    ]
    assert shown[0].get_title() == "true 0 (20.0%)\npredicted 1 (80.0%)"


def test_no_mistake_is_a_picture_too(tmp_path):
    split = Examples(np.zeros((2, 2, 2), np.uint8), np.array([0, 1]))
    figure = worst_mistakes(split, np.eye(2), "A title")
    figure.savefig(tmp_path / "none.png")
    assert "0 most certain of 0" in figure.get_suptitle()
    confusion_matrix(split.targets, split.targets, 2, "A title").savefig(tmp_path / "diagonal.png")
