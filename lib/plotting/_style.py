"""The style of all figures, and a stable colour for each loss."""

import difflib

import matplotlib.pyplot as plt
from cycler import cycler

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
