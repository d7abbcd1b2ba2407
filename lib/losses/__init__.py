"""Every loss of the course, written out in PyTorch: ``from lib import losses``.

The conventions are those of ``torch.nn.functional``: ``loss(input, target, *, options, reduction="mean")``, logits
rather than probabilities unless the name says otherwise.
"""

from lib.losses.classification import cross_entropy
from lib.losses.divergence import (
    distillation_loss,
    gaussian_kl,
    js_divergence,
    kl_div,
)
from lib.losses.margin import (
    crammer_singer_loss,
    hinge_loss,
    margin_ranking_loss,
    multi_margin_loss,
    soft_margin_loss,
    squared_hinge_loss,
)
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
from lib.losses.regularization import (
    elastic_net_penalty,
    l1_penalty,
    l2_penalty,
)

__all__ = [
    "charbonnier_loss",
    "crammer_singer_loss",
    "cross_entropy",
    "distillation_loss",
    "elastic_net_penalty",
    "gaussian_kl",
    "gaussian_nll_loss",
    "general_robust_loss",
    "hinge_loss",
    "huber_loss",
    "js_divergence",
    "kl_div",
    "l1_loss",
    "l1_penalty",
    "l2_penalty",
    "log_cosh_loss",
    "margin_ranking_loss",
    "mse_loss",
    "multi_margin_loss",
    "poisson_nll_loss",
    "quantile_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "squared_hinge_loss",
]
