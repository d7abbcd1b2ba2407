"""Every loss of the course, written out in PyTorch: ``from lib import losses``.

The conventions are those of ``torch.nn.functional``: ``loss(input, target, *, options, reduction="mean")``, logits
rather than probabilities unless the name says otherwise.
"""

from lib.losses.adversarial import fgsm, pgd, trades_loss
from lib.losses.classification import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    brier_loss,
    class_balanced_weights,
    cross_entropy,
    focal_loss,
    generalized_cross_entropy,
    nll_loss,
    sigmoid_focal_loss,
    symmetric_cross_entropy,
)
from lib.losses.composite import GradNorm, UncertaintyWeighting, weighted_sum
from lib.losses.detection import ciou_loss, dice_loss, diou_loss, giou_loss, iou_loss, tversky_loss
from lib.losses.divergence import distillation_loss, gaussian_kl, js_divergence, kl_div
from lib.losses.gan import discriminator_loss, generator_loss, gradient_penalty
from lib.losses.large_scale import distributed_clip_loss, distributed_nt_xent_loss, linear_cross_entropy
from lib.losses.margin import (
    crammer_singer_loss,
    hinge_loss,
    margin_ranking_loss,
    multi_margin_loss,
    soft_margin_loss,
    squared_hinge_loss,
)
from lib.losses.metric import (
    clip_loss,
    contrastive_loss,
    cosine_embedding_loss,
    info_nce_loss,
    nt_xent_loss,
    supervised_contrastive_loss,
    triplet_margin_loss,
)
from lib.losses.ranking import bpr_loss, listwise_softmax_loss, sampled_softmax_loss
from lib.losses.regression import (
    charbonnier_loss,
    gaussian_nll_loss,
    general_robust_loss,
    huber_loss,
    l1_loss,
    log_cosh_loss,
    mse_loss,
    poisson_nll_loss,
    quantile_loss,
    smooth_l1_loss,
)
from lib.losses.regularization import elastic_net_penalty, l1_penalty, l2_penalty
from lib.losses.semi_supervised import consistency_loss, entropy_loss, pseudo_label_loss
from lib.losses.sequence import ctc_loss, sequence_cross_entropy

__all__ = [
    "GradNorm",
    "UncertaintyWeighting",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "bpr_loss",
    "brier_loss",
    "charbonnier_loss",
    "ciou_loss",
    "class_balanced_weights",
    "clip_loss",
    "consistency_loss",
    "contrastive_loss",
    "cosine_embedding_loss",
    "crammer_singer_loss",
    "cross_entropy",
    "ctc_loss",
    "dice_loss",
    "diou_loss",
    "discriminator_loss",
    "distillation_loss",
    "distributed_clip_loss",
    "distributed_nt_xent_loss",
    "elastic_net_penalty",
    "entropy_loss",
    "fgsm",
    "focal_loss",
    "gaussian_kl",
    "gaussian_nll_loss",
    "general_robust_loss",
    "generalized_cross_entropy",
    "generator_loss",
    "giou_loss",
    "gradient_penalty",
    "hinge_loss",
    "huber_loss",
    "info_nce_loss",
    "iou_loss",
    "js_divergence",
    "kl_div",
    "l1_loss",
    "l1_penalty",
    "l2_penalty",
    "linear_cross_entropy",
    "listwise_softmax_loss",
    "log_cosh_loss",
    "margin_ranking_loss",
    "mse_loss",
    "multi_margin_loss",
    "nll_loss",
    "nt_xent_loss",
    "pgd",
    "poisson_nll_loss",
    "pseudo_label_loss",
    "quantile_loss",
    "sampled_softmax_loss",
    "sequence_cross_entropy",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "squared_hinge_loss",
    "supervised_contrastive_loss",
    "symmetric_cross_entropy",
    "trades_loss",
    "triplet_margin_loss",
    "tversky_loss",
    "weighted_sum",
]
