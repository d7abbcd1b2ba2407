"""The drawings that chapters share."""

import ast
import inspect
import textwrap
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown
from matplotlib.axes import Axes

from lib.plotting._style import BLUE, GREY, INK, LIGHT_GREY


def show_source(*objects) -> Markdown:
    """Show the source of functions or classes as it stands in the library, without the docstrings."""
    code = "\n\n".join(_without_docstring(textwrap.dedent(inspect.getsource(thing))) for thing in objects)
    return Markdown(f"```python\n{code}\n```")


def image_grid(
    images, labels, predictions=None, probabilities=None, *, columns: int = 10, size: float = 0.85
) -> np.ndarray:
    """Draw images in rows, each under its label; with predictions, what was read and how surely.

    Args:
        images: grey values of any range, shape (N, height, width).
        labels: the true classes, shape (N,).
        predictions: the predicted classes, shape (N,).
        probabilities: the probability given to each prediction, shape (N,).
        columns: images in a row.
        size: width of one image in inches.

    Returns:
        The axes, shape (rows, columns).

    Raises:
        ValueError: if there is no image, or if the lengths differ.
    """
    lengths = {len(values) for values in (images, labels, predictions, probabilities) if values is not None}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(f"image_grid wants as many labels (and predictions) as images, got lengths {sorted(lengths)}")
    rows = -(-len(images) // columns)
    height = size + (0.25 if predictions is None else 0.4)
    _, axes = plt.subplots(rows, columns, figsize=(size * columns, height * rows), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for i, ax in enumerate(axes.flat[: len(images)]):
        ax.imshow(np.asarray(images[i]), interpolation="nearest")
        title = f"{int(labels[i])}" if predictions is None else f"{int(labels[i])} read as {int(predictions[i])}"
        ax.set_title(
            title + ("" if probabilities is None else f"\np = {float(probabilities[i]):.4f}"), fontsize=8, loc="center"
        )
    return axes


def learning_curves(histories: Sequence, *, held_out: str = "held out", color: str = BLUE) -> np.ndarray:
    """Draw loss and accuracy over the epochs: training dashed, held-out data solid, one thin line for each run.

    Args:
        histories: what ``lib.training.fit`` returned, one for each run.
        held_out: what the runs were evaluated on, for the legend.
        color: the colour of the loss that was minimised.

    Returns:
        The two axes: loss in nats, accuracy in per cent.
    """
    _, axes = plt.subplots(1, 2)
    for run, history in enumerate(histories):
        epochs = range(1, len(history.test_loss) + 1)
        curves = [
            (axes[0], history.train_loss, "--", "training"),
            (axes[0], history.test_loss, "-", held_out),
            (axes[1], 100 * np.asarray(history.train_accuracy), "--", "training"),
            (axes[1], 100 * np.asarray(history.test_accuracy), "-", held_out),
        ]
        for ax, values, dashes, label in curves:
            ax.plot(epochs, values, dashes, color=color, linewidth=1.2, label=label if run == 0 else None)
    axes[0].set(title="loss (nats)", xlabel="epoch", ylim=(0, None))
    axes[1].set(title="accuracy (%)", xlabel="epoch")
    axes[0].legend()
    return axes


def confusion_grid(counts, names: Sequence[str]) -> Axes:
    """Draw how often each class was taken for each other one; the right answers on the diagonal stay blank.

    Args:
        counts: shape (C, C), rows the truth and columns the prediction, as from ``sklearn.metrics.confusion_matrix``.
        names: of the classes.

    Returns:
        The axes.
    """
    mistakes = np.array(counts)
    np.fill_diagonal(mistakes, 0)
    _, ax = plt.subplots(figsize=(4.6, 4.2))
    ax.imshow(mistakes, cmap="Blues")
    for (row, column), count in np.ndenumerate(mistakes):
        if count:
            shade = "white" if count > 0.6 * mistakes.max() else INK
            ax.text(column, row, count, ha="center", va="center", fontsize=9, color=shade)
    ax.set(xlabel="read as", ylabel="is", xticks=range(len(names)), yticks=range(len(names)))
    ax.set_xticklabels(names)
    ax.set_yticklabels(names)
    ax.grid(visible=False)
    return ax


def reliability_diagram(bins, *, color: str = BLUE, ax: Axes | None = None) -> Axes:
    """Draw how often the model is right against how sure it is; a calibrated model lies on the diagonal.

    Grey bars show how the samples are spread over the bins.

    Args:
        bins: what ``lib.training.calibration_bins`` returned.
        color: of the line and the bars.
        ax: where to draw; a new figure where none is given.

    Returns:
        The axes.
    """
    ax = ax or plt.subplots(figsize=(4.4, 4.2))[1]
    share, confidence, accuracy = (np.asarray(values) for values in (bins.share, bins.confidence, bins.accuracy))
    filled, width = share > 0, 1 / len(share)
    ax.bar(
        width * np.arange(len(share)), share, 0.9 * width, align="edge", color=LIGHT_GREY, label="share of all samples"
    )
    ax.plot([0, 1], [0, 1], ":", color=GREY, label="calibrated")
    ax.plot(confidence[filled], accuracy[filled], "o-", color=color, label="the network")
    ax.set(xlabel="mean probability of the prediction", ylabel="share that is right", xlim=(0, 1.02), ylim=(0, 1.02))
    ax.legend(loc="upper left")
    return ax


def _without_docstring(source: str) -> str:
    """Return the source of a function or class without its docstring and those of its methods."""
    lines = source.rstrip().splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node, clean=False) is not None:
            first, last = node.body[0].lineno - 1, node.body[0].end_lineno
            while last < len(lines) and not lines[last].strip():
                last += 1
            lines[first:last] = [None] * (last - first)
    return "\n".join(line for line in lines if line is not None)
