"""One look for every figure: the style, a stable colour for each loss, and the drawings that chapters share.

Figures are drawn on a white panel, which reads well in light and dark notebooks alike; the website turns the panel dark
where its page is dark.
"""

import ast
import difflib
import inspect
import textwrap
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from IPython.display import Markdown
from matplotlib.axes import Axes

# The colour-blind safe hues of Okabe and Ito (https://jfly.uni-koeln.de/color/), the light ones darkened until a thin
# line of them has a contrast of 3 against white.
BLUE, VERMILION, GREEN, PURPLE, BROWN, SKY = "#0072b2", "#d55e00", "#00875f", "#a8478a", "#8a5a00", "#2a8fc9"
GREY, LIGHT_GREY, INK = "#6b6b6b", "#d9d9d9", "#222222"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, BROWN, SKY)

# Within a family, losses that are drawn together differ.
LOSS_COLORS = {
    "mse_loss": BLUE,
    "l1_loss": VERMILION,
    "huber_loss": GREEN,
    "smooth_l1_loss": SKY,
    "log_cosh_loss": PURPLE,
    "quantile_loss": BROWN,
    "charbonnier_loss": SKY,
    "poisson_nll_loss": GREEN,
    "gaussian_nll_loss": PURPLE,
    "general_robust_loss": BROWN,
    "cross_entropy": BLUE,
    "hinge_loss": VERMILION,
    "squared_hinge_loss": GREEN,
    "soft_margin_loss": PURPLE,
    "multi_margin_loss": BROWN,
    "crammer_singer_loss": SKY,
    "margin_ranking_loss": VERMILION,
    "kl_div": BLUE,
    "js_divergence": VERMILION,
    "gaussian_kl": GREEN,
    "distillation_loss": PURPLE,
    "l1_penalty": VERMILION,
    "l2_penalty": BLUE,
    "elastic_net_penalty": PURPLE,
    "binary_cross_entropy": SKY,
    "binary_cross_entropy_with_logits": BLUE,
    "nll_loss": SKY,
    "focal_loss": VERMILION,
    "sigmoid_focal_loss": VERMILION,
    "generalized_cross_entropy": GREEN,
    "symmetric_cross_entropy": PURPLE,
    "brier_loss": BROWN,
    "contrastive_loss": VERMILION,
    "triplet_margin_loss": GREEN,
    "cosine_embedding_loss": BROWN,
    "nt_xent_loss": BLUE,
    "info_nce_loss": SKY,
    "clip_loss": BROWN,
    "supervised_contrastive_loss": PURPLE,
    "bpr_loss": VERMILION,
    "sampled_softmax_loss": GREEN,
    "listwise_softmax_loss": PURPLE,
    "sequence_cross_entropy": BLUE,
    "ctc_loss": VERMILION,
    "iou_loss": BLUE,
    "giou_loss": VERMILION,
    "diou_loss": GREEN,
    "ciou_loss": PURPLE,
    "dice_loss": BROWN,
    "tversky_loss": SKY,
    "discriminator_loss, minimax": BLUE,
    "discriminator_loss, non-saturating": VERMILION,
    "discriminator_loss, lsgan": GREEN,
    "discriminator_loss, wgan": PURPLE,
    "discriminator_loss, hinge": BROWN,
    "generator_loss, minimax": BLUE,
    "generator_loss, non-saturating": VERMILION,
    "generator_loss, lsgan": GREEN,
    "generator_loss, wgan": PURPLE,
    "generator_loss, hinge": BROWN,
    "entropy_loss": BLUE,
    "pseudo_label_loss": VERMILION,
    "consistency_loss, mse": GREEN,
    "consistency_loss, kl": PURPLE,
}

STYLE = {
    "figure.figsize": (7.2, 3.6),
    "figure.dpi": 120,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.size": 10.5,
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": LIGHT_GREY,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "image.cmap": "Greys",
    "svg.hashsalt": "loss functions",  # the same figure gives the same bytes
}


def use_style() -> None:
    """Give all figures of this session the course's look."""
    plt.rcParams.update(STYLE)


def loss_color(name: str) -> str:
    """Return the colour that a loss has throughout the course, as a hexadecimal string.

    Raises:
        ValueError: if no loss of that name has a colour; the message names the nearest.
    """
    if name not in LOSS_COLORS:
        near = difflib.get_close_matches(name, LOSS_COLORS, n=1, cutoff=0.0)
        raise ValueError(f"no loss called {name!r} has a colour; the nearest name is {near[0]!r}")
    return LOSS_COLORS[name]


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
