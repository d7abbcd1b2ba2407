"""Losses of generative adversarial networks: a discriminator tells real from fake, a generator tries to fool it."""

import math
from collections.abc import Callable

import torch

from lib.losses._common import (
    WithDerivative,
    as_result,
    check_floating,
    check_number,
    check_reduction,
    reduce,
    softplus,
    working_precision,
)

KINDS = ("minimax", "non-saturating", "lsgan", "wgan", "hinge")


def discriminator_loss(
    real: torch.Tensor, fake: torch.Tensor, *, kind: str = "non-saturating", reduction: str = "mean"
) -> torch.Tensor:
    r"""Loss of the discriminator, which should score real samples high and fake ones low.

    For the scores :math:`r` of real and :math:`f` of fake samples:

    ============================== ======================================= =========================================
    kind                           :math:`\ell`                            :math:`(\partial_r \ell, \partial_f \ell)`
    ============================== ======================================= =========================================
    "minimax", "non-saturating"    :math:`\ln(1+e^{-r}) + \ln(1+e^f)`    :math:`(-\sigma(-r),\; \sigma(f))`
    "lsgan"                        :math:`\tfrac12(r-1)^2 + \tfrac12 f^2`  :math:`(r - 1,\; f)`
    "wgan"                         :math:`f - r`                           :math:`(-1,\; 1)`
    "hinge"                        :math:`\max(0,1-r) + \max(0,1+f)`       :math:`(-[r < 1],\; [f > -1])`
    ============================== ======================================= =========================================

    The first two kinds differ for the generator only. Where real samples have the density :math:`g` and fake ones
    :math:`h`, the loss is least at the score :math:`\ln(g/h)`; of "lsgan" at :math:`g/(g+h)`; of "hinge" at
    :math:`\operatorname{sign}(g - h)`. That of "wgan" has no least value unless the discriminator (there a "critic") is
    kept from being steep, as ``gradient_penalty`` does.

    Args:
        real: scores of real samples, any shape: log-odds (nats) of being real for "minimax" and "non-saturating",
            plain numbers for the others.
        fake: scores of generated samples, any shape. Detach the samples before they are scored, or this loss trains
            the generator too.
        kind: "minimax", "non-saturating", "lsgan", "wgan" or "hinge".
        reduction: "mean" (the mean over ``real`` plus that over ``fake``, which need not be as many; of no scores it is
            NaN), "sum", or "none" (the loss of the i-th real plus that of the i-th fake: the shapes must agree).

    Returns:
        The loss (in nats for the first two kinds) in the dtype to which those of ``real`` and ``fake`` promote
        (computed in float32 where that is a half precision): a scalar, or the shape of ``real`` where ``reduction`` is
        "none".

    Raises:
        TypeError: if ``real`` or ``fake`` is not a floating-point tensor.
        ValueError: if ``kind`` or ``reduction`` is unknown, or the shapes differ where ``reduction`` is "none".

    Example:
        >>> undecided = torch.zeros(4)
        >>> discriminator_loss(undecided, undecided)  # 2 ln 2
        tensor(1.3863)

    Reference:
        I. Goodfellow et al., Generative Adversarial Networks (2014), https://arxiv.org/abs/1406.2661. "lsgan": X. Mao
        et al. (2017), https://arxiv.org/abs/1611.04076. "wgan": M. Arjovsky, S. Chintala and L. Bottou (2017),
        https://arxiv.org/abs/1701.07875. "hinge": J. H. Lim and J. C. Ye (2017), https://arxiv.org/abs/1705.02894, and
        T. Miyato et al. (2018), https://arxiv.org/abs/1802.05957.
    """
    _check_kind(kind, reduction)
    check_floating("real", real)
    check_floating("fake", fake)
    if reduction == "none":
        _check_pairs(real, fake)
    dtype = torch.promote_types(real.dtype, fake.dtype)
    real, fake = working_precision(real.to(dtype)), working_precision(fake.to(dtype))
    if kind in ("minimax", "non-saturating"):
        of_real, of_fake = softplus(-real), softplus(fake)
    elif kind == "lsgan":
        of_real, of_fake = _half_square(real - 1), _half_square(fake)
    elif kind == "wgan":
        of_real, of_fake = -real, fake
    else:
        of_real, of_fake = (1 - real).relu(), (1 + fake).relu()
    return as_result(reduce(of_real, reduction) + reduce(of_fake, reduction), dtype)


def generator_loss(fake: torch.Tensor, *, kind: str = "non-saturating", reduction: str = "mean") -> torch.Tensor:
    r"""Loss of the generator, which should make the discriminator score its samples high.

    For the scores :math:`f` of fake samples:

    ================= =============================================== ========================
    kind              :math:`\ell`                                    :math:`\partial_f \ell`
    ================= =============================================== ========================
    "minimax"         :math:`\ln(1-\sigma(f)) = -\ln(1+e^f)`        :math:`-\sigma(f)`
    "non-saturating"  :math:`-\ln\sigma(f) = \ln(1+e^{-f})`         :math:`-\sigma(-f)`
    "lsgan"           :math:`\tfrac12(f-1)^2`                         :math:`f - 1`
    "wgan", "hinge"   :math:`-f`                                      :math:`-1`
    ================= =============================================== ========================

    Where the discriminator is sure that a sample is fake (:math:`f \ll 0`), the gradient of "minimax" vanishes: the
    generator learns least where it is worst. That of "non-saturating" tends to -1 there.

    Args:
        fake: scores of generated samples, any shape: log-odds (nats) of being real for "minimax" and
            "non-saturating", plain numbers for the others.
        kind: "minimax", "non-saturating", "lsgan", "wgan" or "hinge".
        reduction: "none", "sum" or "mean" (over all scores; of no scores it is NaN).

    Returns:
        The loss (in nats for the first two kinds) in the dtype of ``fake`` (computed in float32 where that is a half
        precision): a scalar, or the shape of ``fake`` where ``reduction`` is "none".

    Raises:
        TypeError: if ``fake`` is not a floating-point tensor.
        ValueError: if ``kind`` or ``reduction`` is unknown.

    Example:
        >>> fake = torch.tensor([-10.0])  # the discriminator is sure
        >>> generator_loss(fake, kind="minimax"), generator_loss(fake, kind="non-saturating")
        (tensor(-4.5399e-05), tensor(10.0000))

    Reference:
        As for ``discriminator_loss``; the first two kinds: I. Goodfellow et al., Generative Adversarial Networks
        (2014), https://arxiv.org/abs/1406.2661.
    """
    _check_kind(kind, reduction)
    check_floating("fake", fake)
    score = working_precision(fake)
    if kind == "minimax":
        loss = -softplus(score)
    elif kind == "non-saturating":
        loss = softplus(-score)
    elif kind == "lsgan":
        loss = _half_square(score - 1)
    else:
        loss = -score
    return as_result(reduce(loss, reduction), fake.dtype)


def gradient_penalty(
    critic: Callable[[torch.Tensor], torch.Tensor],
    real: torch.Tensor,
    fake: torch.Tensor,
    *,
    target_norm: float = 1.0,
    generator: torch.Generator | None = None,
    reduction: str = "mean",
) -> torch.Tensor:
    r"""Penalty on a critic whose gradient, between real and fake samples, does not have norm 1 (WGAN-GP).

    For each pair of samples, a point is drawn evenly from the line between them:

    .. math:: \hat x = u\,x_{\text{real}} + (1 - u)\,x_{\text{fake}}, \quad u \sim U[0, 1],
              \qquad \ell = \bigl(\lVert\nabla D(\hat x)\rVert - c\bigr)^2,

    where the norm is over all dimensions but that of the batch. With :math:`g = \nabla D(\hat x)`,
    :math:`\partial\ell / \partial g = 2\,(\lVert g\rVert - c)\,g / \lVert g\rVert`, and 0 at :math:`g = 0`, where the
    norm has no derivative. In the paper the critic's loss is
    ``discriminator_loss(..., kind="wgan") + 10 * gradient_penalty(...)``.

    ``gradient_penalty(critic, real, real, target_norm=0)`` is the squared norm at the real samples, the penalty R1.

    Args:
        critic: function or module that gives each sample one score, shape (N,) or (N, 1, ...). It must look at each
            sample alone: with batch normalisation a score has a gradient in all samples.
        real: real samples, shape (N, ...).
        fake: generated samples, in the shape of ``real``. They count as constants: no gradient flows to the generator.
        target_norm: the norm :math:`c \ge 0`, in units of score per unit of sample.
        generator: source of the random :math:`u`; the default is torch's own.
        reduction: "none", "sum" or "mean" (over the pairs; of no pairs it is NaN).

    Returns:
        The penalty, whose gradient flows to the parameters of ``critic``, in the dtype to which those of ``real`` and
        ``fake`` promote (the norm is computed in float32 where that is a half precision): a scalar, or shape (N,) where
        ``reduction`` is "none". Where gradients are disabled it is computed all the same, without a graph.

    Raises:
        TypeError: if ``critic`` is not callable, ``real`` or ``fake`` is not a floating-point tensor, ``generator`` is
            not a torch.Generator, or what the critic returns is not a tensor.
        ValueError: if the shapes differ, have no batch dimension or hold samples of no numbers, if the critic does not
            give one score per sample or its scores do not depend on the samples, or if ``target_norm`` or ``reduction``
            does not fit.
        RuntimeError: under ``torch.inference_mode()``, where a critic has no gradient.

    Example:
        >>> weight = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> penalty = gradient_penalty(lambda x: x @ weight, torch.ones(8, 2), torch.zeros(8, 2))
        >>> penalty  # (5 - 1)^2, wherever the points are
        tensor(16., grad_fn=<DivBackward0>)

    Reference:
        I. Gulrajani et al., Improved Training of Wasserstein GANs (2017), https://arxiv.org/abs/1704.00028. R1: L.
        Mescheder, A. Geiger and S. Nowozin (2018), https://arxiv.org/abs/1801.04406.
    """
    check_reduction(reduction)
    if not callable(critic):
        raise TypeError(f"critic must be callable, got {type(critic).__name__}")
    check_floating("real", real)
    check_floating("fake", fake)
    _check_pairs(real, fake)
    if real.dim() == 0:
        raise ValueError("real must have a batch dimension: shape (N, ...), got a scalar")
    if 0 in real.shape[1:]:
        raise ValueError(f"real must have at least one number in each sample, got shape {tuple(real.shape)}")
    check_number("target_norm", target_norm, lambda norm: 0 <= norm < math.inf, "at least 0 and finite")
    if not (generator is None or isinstance(generator, torch.Generator)):
        raise TypeError(f"generator must be a torch.Generator or None, got {type(generator).__name__}")
    if torch.is_inference_mode_enabled():
        raise RuntimeError("gradient_penalty needs the graph of the critic, which torch.inference_mode() does not keep")
    penalty = _penalty_between
    if torch.compiler.is_compiling():  # which knows no second derivatives; a decorator would load it with this module
        penalty = torch.compiler.disable(penalty)
    return penalty(critic, real, fake, target_norm, generator, reduction)


def _penalty_between(critic, real, fake, target_norm, generator, reduction):
    """Return the penalty at random points between real and fake samples."""
    points = _points_between(real.detach(), fake.detach(), generator).requires_grad_()
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        scores = critic(points)
        _check_scores(scores, len(points))
        (gradient,) = torch.autograd.grad(
            scores, points, torch.ones_like(scores), create_graph=graph, allow_unused=True
        )
    if gradient is None:
        raise ValueError("critic must be a function of the samples; its scores do not depend on them")
    rows = working_precision(gradient.unsqueeze(-1).flatten(1))
    # Autograd would take the derivative through the norm, by way of numbers that over- and underflow before g does.
    penalty = WithDerivative.apply(
        rows, lambda g: (_norm(g) - target_norm).square(), lambda g: 2 * (g - _direction(g) * target_norm)
    )
    return as_result(reduce(penalty.squeeze(1), reduction), points.dtype)


def _points_between(real, fake, generator):
    """Return a random point between each real and fake sample, in the dtype to which theirs promote."""
    dtype = torch.promote_types(real.dtype, fake.dtype)
    real, fake = working_precision(real.to(dtype)), working_precision(fake.to(dtype))
    device = real.device if generator is None else generator.device
    share = torch.rand(len(real), *[1] * (real.dim() - 1), generator=generator, dtype=real.dtype, device=device)
    return torch.lerp(fake, real, share.to(real.device)).to(dtype)


def _norm(vectors):
    """Return the Euclidean norm of each row, shape (N, 1), also where squares over- or underflow."""
    scale = _scale(vectors)
    return (vectors / scale).square().sum(1, keepdim=True).sqrt() * scale


def _direction(vectors):
    """Return each row divided by its norm; a row of zeros stays as it is, and its derivative is no NaN."""
    scaled = vectors / _scale(vectors)
    squares = scaled.square().sum(1, keepdim=True)
    return scaled / squares.masked_fill(squares == 0, 1.0).sqrt()


def _scale(vectors):
    """Return a number of the size of the largest in each row, a constant by which all can be divided."""
    limits = torch.finfo(vectors.dtype)
    return vectors.detach().abs().amax(1, keepdim=True).clamp(limits.tiny, limits.max)


def _half_square(x):
    """Return x^2 / 2, also where x^2 alone would overflow."""
    return WithDerivative.apply(x, lambda x: x / 2 * x, lambda x: x)


def _check_kind(kind, reduction):
    """Raise ValueError unless both are known."""
    check_reduction(reduction)
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}, got {kind!r}")


def _check_pairs(real, fake):
    """Raise ValueError unless real and fake come in pairs."""
    if real.shape != fake.shape:
        raise ValueError(
            f"real and fake must have the same shape here, got real {tuple(real.shape)} and fake {tuple(fake.shape)}"
        )


def _check_scores(scores, samples):
    """Raise TypeError or ValueError unless the critic returned one score per sample, with a gradient."""
    if not isinstance(scores, torch.Tensor):
        raise TypeError(f"critic must return a torch.Tensor, got {type(scores).__name__}")
    if scores.dim() == 0 or tuple(scores.shape) != (samples, *[1] * (scores.dim() - 1)):
        raise ValueError(
            f"critic must return one score for each of the {samples} samples, shape ({samples},) or ({samples}, 1), "
            f"got {tuple(scores.shape)}"
        )
    if not scores.requires_grad:
        raise ValueError("critic must be a function of the samples; its scores do not depend on them")
