"""Every loss of the course, written out in PyTorch: ``from lib import losses``.

The conventions are those of ``torch.nn.functional``: ``loss(input, target, *, options, reduction="mean")``, logits
rather than probabilities unless the name says otherwise.
"""

from lib.losses.classification import cross_entropy
from lib.losses.margin import hinge_loss, soft_margin_loss, squared_hinge_loss
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

__all__ = [
    "charbonnier_loss",
    "cross_entropy",
    "gaussian_nll_loss",
    "general_robust_loss",
    "hinge_loss",
    "huber_loss",
    "l1_loss",
    "log_cosh_loss",
    "mse_loss",
    "poisson_nll_loss",
    "quantile_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "squared_hinge_loss",
]
