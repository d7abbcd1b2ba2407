"""Losses for predicting a number."""

import math

import numpy as np
import torch

from lib.losses._common import (
    WithDerivative,
    any_true,
    as_result,
    check_floating,
    check_real,
    check_reduction,
    check_same_shape,
    reduce,
    working_precision,
)


def mse_loss(
    input: torch.Tensor, target: torch.Tensor, *, weight: torch.Tensor | None = None, reduction: str = "mean"
) -> torch.Tensor:
    r"""Squared error: twice the residual is its gradient, and the mean its minimiser.

    For the residual :math:`r = \hat y - y`, prediction minus target,

    .. math:: \ell = r^2, \qquad \frac{\partial\ell}{\partial\hat y} = 2r.

    Args:
        input: predictions, any shape, in the unit of the target.
        target: what was observed, the shape of ``input``.
        weight: a factor for each loss, the shape of ``input``.
        reduction: "none", "sum" or "mean". With ``weight`` the mean divides by the sum of the weights.

    Returns:
        The loss in the squared unit of the target (half precision is computed in float32): a scalar, or the shape of
        ``input`` where ``reduction`` is "none".

    Raises:
        TypeError: if ``input`` is not floating-point, or another argument is not a tensor of real numbers.
        ValueError: if a shape or ``reduction`` does not fit.

    Example:
        >>> mse_loss(torch.tensor([1.0, 4.0]), torch.tensor([0.0, 2.0]))
        tensor(2.5000)

    Reference:
        A.-M. Legendre, Nouvelles méthodes pour la détermination des orbites des comètes (1805), appendix: the method
        of least squares. torch: ``torch.nn.functional.mse_loss``.
    """
    dtype = _check_arguments(input, target, reduction, weight=weight)
    loss = WithDerivative.apply(_residual(input, target), lambda r: r * r, lambda r: 2 * r)
    return as_result(_weighted_mean(loss, weight, reduction), dtype)


def l1_loss(
    input: torch.Tensor, target: torch.Tensor, *, weight: torch.Tensor | None = None, reduction: str = "mean"
) -> torch.Tensor:
    r"""Absolute error: its gradient is a sign, and the median its minimiser.

    For the residual :math:`r = \hat y - y`, prediction minus target,

    .. math:: \ell = |r|, \qquad \frac{\partial\ell}{\partial\hat y} = \operatorname{sign}(r),

    and 0, the middle of the subgradients, at the kink.

    Args:
        input: predictions, any shape, in the unit of the target.
        target: what was observed, the shape of ``input``.
        weight: a factor for each loss, the shape of ``input``.
        reduction: "none", "sum" or "mean". With ``weight`` the mean divides by the sum of the weights.

    Returns:
        The loss in the unit of the target (half precision is computed in float32): a scalar, or the shape of
        ``input`` where ``reduction`` is "none".

    Raises:
        TypeError: if ``input`` is not floating-point, or another argument is not a tensor of real numbers.
        ValueError: if a shape or ``reduction`` does not fit.

    Example:
        >>> l1_loss(torch.tensor([1.0, 4.0]), torch.tensor([0.0, 2.0]))
        tensor(1.5000)

    Reference:
        R. Koenker and G. Bassett, Regression Quantiles, Econometrica 46 (1978), https://doi.org/10.2307/1913643 (the
        median is the case q = 1/2). torch: ``torch.nn.functional.l1_loss``.
    """
    dtype = _check_arguments(input, target, reduction, weight=weight)
    return as_result(_weighted_mean(_residual(input, target).abs(), weight, reduction), dtype)


def huber_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    *,
    delta: float = 1.0,
    weight: torch.Tensor | None = None,
    reduction: str = "mean",
) -> torch.Tensor:
    r"""Huber loss: half the squared error up to ``delta``, straight on from there.

    For the residual :math:`r = \hat y - y`, and :math:`c = \min(\max(r, -\delta), \delta)`, the residual clipped,

    .. math:: \ell = c\,\Bigl(r - \frac{c}{2}\Bigr)
              = \begin{cases} r^2/2 & |r| \le \delta \\ \delta\,(|r| - \delta/2) & \text{else,} \end{cases}
              \qquad \frac{\partial\ell}{\partial\hat y} = c.

    Args:
        input: predictions, any shape, in the unit of the target.
        target: what was observed, the shape of ``input``.
        delta: the residual, above 0 and in the unit of the target, from which an error counts as an outlier; infinity
            gives half the squared error.
        weight: a factor for each loss, the shape of ``input``.
        reduction: "none", "sum" or "mean". As in torch the mean divides by the number of elements, with ``weight`` too
            (where that of :func:`mse_loss` and :func:`l1_loss` divides by the sum of the weights).

    Returns:
        The loss in the squared unit of the target (half precision is computed in float32): a scalar, or the shape of
        ``input`` where ``reduction`` is "none".

    Raises:
        TypeError: if ``input`` is not floating-point, or another argument is not a tensor of real numbers.
        ValueError: if ``delta`` is not above 0, or a shape or ``reduction`` does not fit.

    Example:
        >>> huber_loss(torch.tensor([0.5, 10.0]), torch.zeros(2), reduction="none")
        tensor([0.1250, 9.5000])

    Reference:
        P. J. Huber, Robust Estimation of a Location Parameter, Ann. Math. Statist. 35 (1964),
        https://doi.org/10.1214/aoms/1177703732. torch: ``torch.nn.functional.huber_loss``.
    """
    dtype = _check_arguments(input, target, reduction, weight=weight)
    if not delta > 0:
        raise ValueError(f"delta must be above 0, got {delta}")

    def rho(residual):
        clipped = residual.clamp(-delta, delta)
        return torch.sub(residual, clipped, alpha=0.5).mul_(clipped)

    def psi(residual):
        return residual.clamp(-delta, delta)

    loss = WithDerivative.apply(_residual(input, target), rho, psi)
    return as_result(reduce(loss if weight is None else loss * working_precision(weight), reduction), dtype)


def smooth_l1_loss(
    input: torch.Tensor, target: torch.Tensor, *, beta: float = 1.0, reduction: str = "mean"
) -> torch.Tensor:
    r"""Smooth absolute error: the Huber loss divided by its threshold, so that far out the slope is 1.

    For the residual :math:`r = \hat y - y`, and :math:`c = \min(\max(r, -\beta), \beta)`, the residual clipped,

    .. math:: \ell = \frac{c}{\beta}\,\Bigl(r - \frac{c}{2}\Bigr)
              = \begin{cases} r^2/(2\beta) & |r| \le \beta \\ |r| - \beta/2 & \text{else,} \end{cases}
              \qquad \frac{\partial\ell}{\partial\hat y} = \frac{c}{\beta}.

    Args:
        input: predictions, any shape, in the unit of the target.
        target: what was observed, the shape of ``input``.
        beta: the residual, in the unit of the target, at which the parabola ends; 0 gives :func:`l1_loss`.
        reduction: "none", "sum" or "mean" over the elements.

    Returns:
        The loss in the unit of the target (half precision is computed in float32): a scalar, or the shape of
        ``input`` where ``reduction`` is "none".

    Raises:
        TypeError: if ``input`` is not floating-point, or ``target`` is not a tensor of real numbers.
        ValueError: if ``beta`` is negative, or a shape or ``reduction`` does not fit.

    Example:
        >>> smooth_l1_loss(torch.tensor([0.5, 10.0]), torch.zeros(2), beta=2.0, reduction="none")
        tensor([0.0625, 9.0000])

    Reference:
        R. Girshick, Fast R-CNN (2015), https://arxiv.org/abs/1504.08083. torch:
        ``torch.nn.functional.smooth_l1_loss``.
    """
    dtype = _check_arguments(input, target, reduction)
    if not beta >= 0:
        raise ValueError(f"beta must be 0 or above, got {beta}")
    residual = _residual(input, target)
    if beta == 0:
        return as_result(reduce(residual.abs(), reduction), dtype)

    def rho(residual):
        clipped = residual.clamp(-beta, beta)
        return torch.sub(residual, clipped, alpha=0.5).mul_(clipped.div_(beta))

    def psi(residual):
        return residual.clamp(-beta, beta).div_(beta)

    return as_result(reduce(WithDerivative.apply(residual, rho, psi), reduction), dtype)


def log_cosh_loss(input: torch.Tensor, target: torch.Tensor, *, reduction: str = "mean") -> torch.Tensor:
    r"""Logarithm of the hyperbolic cosine: a parabola near 0, straight far out, and smooth throughout.

    For the residual :math:`r = \hat y - y`, prediction minus target,

    .. math:: \ell = \ln\cosh r = \ln\bigl(1 + 2\sinh^2(r/2)\bigr) = \ln(e^r + e^{-r}) - \ln 2,
              \qquad \frac{\partial\ell}{\partial\hat y} = \tanh r.

    The first form is the one computed for :math:`|r| < 1`, where the logarithms of the second cancel; the second
    further out, where the hyperbolic sine of the first overflows.

    Args:
        input: predictions, any shape; the residual's unit is the scale at which the parabola ends.
        target: what was observed, the shape of ``input``.
        reduction: "none", "sum" or "mean" over the elements.

    Returns:
        The loss (half precision is computed in float32): a scalar, or the shape of ``input`` where ``reduction`` is
        "none".

    Raises:
        TypeError: if ``input`` is not floating-point, or ``target`` is not a tensor of real numbers.
        ValueError: if a shape or ``reduction`` does not fit.

    Example:
        >>> log_cosh_loss(torch.tensor([1.0, 10.0]), torch.zeros(2), reduction="none")
        tensor([0.4338, 9.3069])

    Reference:
        R. A. Saleh and A. K. M. E. Saleh, Statistical Properties of the log-cosh Loss Function Used in Machine
        Learning (2022), https://arxiv.org/abs/2208.04564.
    """
    dtype = _check_arguments(input, target, reduction)

    def rho(residual):
        near = torch.log1p(2 * (residual.clamp(-1, 1) / 2).sinh().square())
        far = torch.logaddexp(residual, -residual) - math.log(2)
        return torch.where(residual.abs() < 1, near, far)

    return as_result(reduce(WithDerivative.apply(_residual(input, target), rho, torch.tanh), reduction), dtype)


def quantile_loss(input: torch.Tensor, target: torch.Tensor, *, q: float, reduction: str = "mean") -> torch.Tensor:
    r"""Quantile loss, also called pinball loss: its minimiser is the ``q``-quantile.

    For the residual :math:`r = \hat y - y`, prediction minus target,

    .. math:: \ell = \max\bigl(-q\,r,\ (1-q)\,r\bigr),
              \qquad \frac{\partial\ell}{\partial\hat y} = \begin{cases} -q & r < 0 \\ 1-q & r > 0, \end{cases}

    and the middle of the two, :math:`1/2 - q`, at the kink. A prediction that is too low by one costs :math:`q`, one
    that is too high by one costs :math:`1-q`.

    Args:
        input: predictions, any shape, in the unit of the target.
        target: what was observed, the shape of ``input``.
        q: the quantile to predict, between 0 and 1 exclusive; 1/2 gives half the absolute error.
        reduction: "none", "sum" or "mean" over the elements.

    Returns:
        The loss in the unit of the target (half precision is computed in float32): a scalar, or the shape of
        ``input`` where ``reduction`` is "none".

    Raises:
        TypeError: if ``input`` is not floating-point, or ``target`` is not a tensor of real numbers.
        ValueError: if ``q`` is not between 0 and 1, or a shape or ``reduction`` does not fit.

    Example:
        >>> quantile_loss(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 2.0]), q=0.9, reduction="none")
        tensor([0.9000, 0.1000])

    Reference:
        R. Koenker and G. Bassett, Regression Quantiles, Econometrica 46 (1978), https://doi.org/10.2307/1913643.
    """
    dtype = _check_arguments(input, target, reduction)
    if not 0 < q < 1:
        raise ValueError(f"q must be between 0 and 1, both excluded, got {q}")
    residual = _residual(input, target)
    return as_result(reduce(torch.maximum(-q * residual, (1 - q) * residual), reduction), dtype)


def charbonnier_loss(
    input: torch.Tensor, target: torch.Tensor, *, eps: float = 1e-3, reduction: str = "mean"
) -> torch.Tensor:
    r"""Charbonnier loss: absolute error whose kink is rounded off within ``eps``.

    For the residual :math:`r = \hat y - y`, prediction minus target,

    .. math:: \ell = \sqrt{r^2 + \varepsilon^2},
              \qquad \frac{\partial\ell}{\partial\hat y} = \frac{r}{\sqrt{r^2 + \varepsilon^2}}.

    The smallest loss is :math:`\varepsilon`, not 0.

    Args:
        input: predictions, any shape, in the unit of the target.
        target: what was observed, the shape of ``input``.
        eps: the residual, above 0 and in the unit of the target, at which the parabola turns into straight lines.
        reduction: "none", "sum" or "mean" over the elements.

    Returns:
        The loss in the unit of the target (half precision is computed in float32): a scalar, or the shape of
        ``input`` where ``reduction`` is "none".

    Raises:
        TypeError: if ``input`` is not floating-point, or ``target`` is not a tensor of real numbers.
        ValueError: if ``eps`` is not a normal positive number of the dtype, or a shape or ``reduction`` does not fit.

    Example:
        >>> charbonnier_loss(torch.tensor([0.0, 4.0]), torch.zeros(2), eps=3.0, reduction="none")
        tensor([3., 5.])

    Reference:
        P. Charbonnier et al., Deterministic Edge-Preserving Regularization in Computed Imaging, IEEE Trans. Image
        Process. 6 (1997), https://doi.org/10.1109/83.551699; as a loss, with this default: W.-S. Lai et al., Fast and
        Accurate Image Super-Resolution with Deep Laplacian Pyramid Networks (2018), https://arxiv.org/abs/1710.01992.
    """
    dtype = _check_arguments(input, target, reduction)
    residual = _residual(input, target)
    if not torch.finfo(residual.dtype).tiny <= eps < math.inf:
        raise ValueError(f"eps must be above 0, finite and a normal number in {residual.dtype}, got {eps}")
    # hypot, because the square of a residual beyond 1e19 overflows in float32.
    return as_result(reduce(torch.hypot(residual, torch.full_like(residual, eps)), reduction), dtype)


def poisson_nll_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    *,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> torch.Tensor:
    r"""Negative log-likelihood of counts under a Poisson distribution.

    For the logarithm :math:`z` of the rate and the count :math:`y`, and without what does not depend on :math:`z`,

    .. math:: \ell = e^z - y z, \qquad \frac{\partial\ell}{\partial z} = e^z - y;

    for the rate :math:`\hat y` itself (``log_input=False``)

    .. math:: \ell = \hat y - y\ln(\hat y + \varepsilon),
              \qquad \frac{\partial\ell}{\partial\hat y} = 1 - \frac{y}{\hat y + \varepsilon}.

    Args:
        input: logarithms of the rates, or rates where ``log_input`` is false; any shape.
        target: counts, integers or floats, the shape of ``input``.
        log_input: whether ``input`` holds logarithms.
        full: whether to add Stirling's approximation :math:`y\ln y - y + \tfrac12\ln(2\pi y)` of :math:`\ln y!`
            (for counts above 1; it is 0 for the others).
        eps: what is added to a rate before its logarithm is taken (only where ``log_input`` is false).
        reduction: "none", "sum" or "mean" over the elements.

    Returns:
        The loss in nats (half precision is computed in float32): a scalar, or the shape of ``input`` where
        ``reduction`` is "none".

    Raises:
        TypeError: if ``input`` is not floating-point, or ``target`` is not a tensor of real numbers.
        ValueError: if ``eps`` or a rate plus ``eps`` is negative, or a shape or ``reduction`` does not fit.

    Example:
        >>> poisson_nll_loss(torch.tensor([0.0, 1.0]), torch.tensor([1, 2]), reduction="none")
        tensor([1.0000, 0.7183])

    Reference:
        J. A. Nelder and R. W. M. Wedderburn, Generalized Linear Models, J. R. Stat. Soc. A 135 (1972),
        https://doi.org/10.2307/2344614. torch: ``torch.nn.functional.poisson_nll_loss``.
    """
    dtype = _check_arguments(input, target, reduction)
    if not 0 <= eps < math.inf:
        raise ValueError(f"eps must be 0 or above and finite, got {eps}")
    x, count = working_precision(input), working_precision(target)
    if log_input:
        # Where the rate overflows to infinity the loss does; the clamp keeps it from infinity minus infinity.
        largest = math.log(torch.finfo(x.dtype).max)
        loss = x.exp() - count * x.clamp(max=largest)
    else:
        rate = x
        negative = rate + eps < 0
        if any_true(negative):
            raise ValueError(f"rates must be 0 or above (log_input is false), got {input[negative][0].item()}")
        if eps == 0:  # no events, no logarithm: a rate of 0 that saw none costs nothing, not 0 * -inf
            x = torch.where(count == 0, 1.0, x)
        loss = rate - count * _log_of_sum(x, eps)
    if full:
        many = torch.where(count > 1, count, 1).to(x.dtype)  # the mask goes before the logarithm
        stirling = many * many.log() - many + 0.5 * torch.log(2 * math.pi * many)
        loss = loss + torch.where(count > 1, stirling, 0.0)
    return as_result(reduce(loss, reduction), dtype)


def gaussian_nll_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    var: torch.Tensor | float,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> torch.Tensor:
    r"""Negative log-likelihood of a number under a normal distribution whose variance is predicted too.

    For the mean :math:`\hat y`, the variance :math:`v`, the observation :math:`y` and the residual
    :math:`r = \hat y - y`, and without the constant,

    .. math:: \ell = \frac12\Bigl(\ln v + \frac{r^2}{v}\Bigr), \qquad \frac{\partial\ell}{\partial\hat y} = \frac rv,
              \qquad \frac{\partial\ell}{\partial v} = \frac{1}{2v} \Bigl(1 - \frac{r^2}{v}\Bigr).

    Args:
        input: predicted means, any shape, in the unit of the target.
        target: what was observed, the shape of ``input``.
        var: predicted variances, 0 or above: a number, a tensor of the shape of ``input``, or one that lacks its last
            dimension or has a single 1 in place of a dimension (one variance for several means).
        full: whether to add the constant :math:`\tfrac12\ln 2\pi`.
        eps: the smallest variance to compute with. A smaller ``var`` is raised to it, and its gradient is that at
            ``eps``, not zero, so that it can recover.
        reduction: "none", "sum" or "mean" over the elements.

    Returns:
        The loss in nats (half precision is computed in float32): a scalar, or the shape of ``input`` where
        ``reduction`` is "none".

    Raises:
        TypeError: if ``input`` is not floating-point, or ``target`` or ``var`` is not of real numbers.
        ValueError: if a variance or ``eps`` is negative, or a shape or ``reduction`` does not fit.

    Example:
        >>> gaussian_nll_loss(torch.zeros(2), torch.tensor([0.0, 2.0]), torch.tensor([1.0, 4.0]), reduction="none")
        tensor([0.0000, 1.1931])

    Reference:
        D. A. Nix and A. S. Weigend, Estimating the Mean and Variance of the Target Probability Distribution (1994),
        https://doi.org/10.1109/ICNN.1994.374138. torch: ``torch.nn.functional.gaussian_nll_loss``.
    """
    dtype = _check_arguments(input, target, reduction)
    if not 0 <= eps < math.inf:
        raise ValueError(f"eps must be 0 or above and finite, got {eps}")
    var, dtype = _check_variance(var, input, dtype)
    residual = _residual(input, target)
    small = var < eps
    if any_true(small, unknown=True):
        var = torch.where(small, eps + (var - var.detach()), var)  # the value of a clamp, the gradient of none
    standardised = residual / var.sqrt()
    loss = 0.5 * (var.log() + standardised * standardised)
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return as_result(reduce(loss, reduction), dtype)


def general_robust_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    *,
    alpha: float | torch.Tensor,
    scale: float | torch.Tensor = 1.0,
    reduction: str = "mean",
) -> torch.Tensor:
    r"""Barron's general robust loss: one family from the squared error to losses that ignore outliers.

    For the residual in units of the scale :math:`u = (\hat y - y)/c` and :math:`b = |\alpha - 2|`,

    .. math:: \ell = \frac{b}{\alpha}\Bigl(\Bigl(1 + \frac{u^2}{b}\Bigr)^{\alpha/2} - 1\Bigr),
              \qquad \frac{\partial\ell}{\partial\hat y} = \frac{u}{c}\Bigl(1 + \frac{u^2}{b}\Bigr)^{\alpha/2 - 1}.

    It is half the squared error at :math:`\alpha = 2`, pseudo-Huber (Charbonnier) at 1, Cauchy at 0, Geman-McClure at
    -2 and Welsch at :math:`-\infty`. The form computed has no 0/0 at :math:`\alpha = 0`: with
    :math:`\lambda = \ln(1 + u^2/b)` and :math:`\varphi(s) = (e^s - 1)/s`,

    .. math:: \ell = \frac{b\lambda}{2}\,\varphi\Bigl(\frac{\alpha\lambda}{2}\Bigr), \qquad
              \frac{\partial\ell}{\partial\alpha}
              = \frac b4 \int_0^\lambda e^{\alpha t/2}\,(t - 1 + e^{-t})\,\mathrm dt.

    That derivative is positive wherever the residual is not 0, and infinite at :math:`\alpha = 2` (what is returned
    there is that of the float next to 2). So to learn :math:`\alpha` takes the normaliser of the paper's density too;
    without it the smallest wins. It is a sum over 40 nodes, and computed only if ``alpha`` requires a gradient.

    Args:
        input: predictions, any shape, in the unit of the target.
        target: what was observed, the shape of ``input``.
        alpha: the shape, any number or infinity: a number, or a tensor that broadcasts to the shape of ``input``.
        scale: the residual, above 0 and in the unit of the target, at which an error starts to count as an outlier: a
            number :math:`c`, or a tensor that broadcasts to the shape of ``input``.
        reduction: "none", "sum" or "mean" over the elements.

    Returns:
        The loss (computed in float64 for every dtype, as the exponential magnifies the rounding of its argument): a
        scalar, or the shape of ``input`` where ``reduction`` is "none".

    Raises:
        TypeError: if ``input`` is not floating-point, or another argument is not of real numbers.
        ValueError: if ``scale`` is not above 0, ``alpha`` is NaN, or a shape or ``reduction`` does not fit.

    Example:
        >>> general_robust_loss(torch.tensor([1.0, 100.0]), torch.zeros(2), alpha=-2.0, reduction="none")
        tensor([0.4000, 1.9992])

    Reference:
        J. T. Barron, A General and Adaptive Robust Loss Function (2019), https://arxiv.org/abs/1701.03077.
    """
    dtype = _check_arguments(input, target, reduction)
    alpha, scale = _check_parameter("alpha", alpha, input), _check_parameter("scale", scale, input)
    if any_true(alpha.isnan()):
        raise ValueError("alpha must be a number or infinity, got nan")
    bad = ~((scale > 0) & (scale < math.inf))
    if any_true(bad):
        raise ValueError(f"scale must be above 0 and finite, got {scale[bad].flatten()[0].item()}")
    u = (input.double() - target.double()) / scale
    # Beyond 1e30 the loss is that of infinity to the last digit.
    alpha = alpha.clamp(-1e30, 1e30).expand_as(u)
    return as_result(reduce(_GeneralRobust.apply(u, alpha), reduction), dtype)


class _GeneralRobust(torch.autograd.Function):
    """The general robust loss of u and alpha, with derivatives in which nothing cancels.

    The integrand of the derivative in alpha is positive; written as t - 1 + exp(-t), its factor would cancel at small
    t, so the integral is taken by parts, with 1 - exp(-t) and the integral of the exponential from t onwards.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(u, alpha):
        b, _, lam = _GeneralRobust.terms(u, alpha)
        return b * lam / 2 * _phi(alpha * lam / 2)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        u, alpha = ctx.saved_tensors
        b, sign, lam = _GeneralRobust.terms(u, alpha)
        root = torch.exp(sign * b * lam / 4)  # multiplied in twice: its square can underflow where the product does not
        in_u = gradient * u * root * root
        in_alpha = gradient * b / 4 * _GeneralRobust.integral(alpha / 2, lam) if ctx.needs_input_grad[1] else None
        return in_u, in_alpha

    @staticmethod
    def terms(u, alpha):
        """Return |alpha - 2|, kept from 0 by the spacing of the floats there, its sign, and log(1 + u^2 / b)."""
        sign = torch.where(alpha > 2, 1.0, -1.0).to(alpha.dtype)
        b = (sign * (alpha - 2)).clamp(min=2**-52)
        return b, sign, torch.log1p(u * u / b)

    @staticmethod
    def integral(a, lam):
        """Return the integral of exp(a t) (t - 1 + exp(-t)) from 0 to lam, by Gauss-Legendre quadrature."""
        # Only 50 decay lengths of the exponential count; before them, where a is positive, the inner integral is flat.
        steep = a.abs() * lam > 50
        length = torch.where(steep, 50 / torch.where(steep, a.abs(), 1.0), lam)
        late = steep & (a > 0)
        start, span = torch.where(late, lam - length, 0.0), torch.where(late, length, lam)
        before = within = 0.0
        for node, weight in zip(*_GAUSS_LEGENDRE, strict=True):
            t = start + length * node
            rest = span - length * node
            before = before - weight * torch.expm1(-start * node)
            within = within - weight * torch.expm1(-t) * torch.exp(a * t) * rest * _phi(a * rest)
        flat = torch.exp(a * lam) / torch.where(steep, a, 1.0)
        return length * within + torch.where(late, start * before * flat, 0.0)


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)
_GAUSS_LEGENDRE = ((_NODES + 1) / 2).tolist(), (_WEIGHTS / 2).tolist()  # on the interval [0, 1]


def _phi(s):
    """Return (exp(s) - 1) / s, and its series near 0, which has the right derivatives there."""
    near = s.abs() < 1e-3
    safe = torch.where(near, 1.0, s)
    small = torch.where(near, s, 0.0)
    series = 1 + small / 2 * (1 + small / 3 * (1 + small / 4 * (1 + small / 5)))
    return torch.where(near, series, torch.expm1(safe) / safe)


def _log_of_sum(x, eps):
    """Return log(x + eps) with full relative precision, where rounding the sum would lose the smaller of the two."""

    def function(x):
        larger, smaller = x.clamp(min=eps), x.clamp(max=eps)
        return smaller.div_(larger).log1p_().add_(larger.log_())

    return WithDerivative.apply(x, function, lambda x: 1 / (x + eps))


def _residual(input, target):
    return working_precision(input) - working_precision(target)


def _weighted_mean(loss, weight, reduction):
    """Reduce the losses; with weights the mean divides by their sum."""
    if weight is None:
        return reduce(loss, reduction)
    weight = working_precision(weight)
    if reduction == "mean":
        return (loss * weight).sum() / weight.sum()
    return reduce(loss * weight, reduction)


def _check_arguments(input, target, reduction, *, weight=None):
    """Raise TypeError or ValueError where an argument does not fit; return the dtype of the loss."""
    check_reduction(reduction)
    check_floating("input", input)
    check_real("target", target)
    check_same_shape(input, target)
    dtype = torch.promote_types(input.dtype, target.dtype)
    if weight is None:
        return dtype
    check_real("weight", weight)
    if weight.shape != input.shape:
        raise ValueError(f"weight must have the shape of input, {tuple(input.shape)}, got {tuple(weight.shape)}")
    return torch.promote_types(dtype, weight.dtype)


def _check_variance(var, input, dtype):
    """Return the variance in a shape that broadcasts against ``input``, and the dtype of the loss."""
    if isinstance(var, int | float) and not isinstance(var, bool):
        if not var >= 0:
            raise ValueError(f"var must be 0 or above, got {var}")
        return torch.full_like(working_precision(input), var), dtype
    check_floating("var", var)
    if any_true(var < 0):
        raise ValueError(f"var must be 0 or above, got {var[var < 0][0].item()}")
    dtype = torch.promote_types(dtype, var.dtype)
    if var.shape == input.shape:
        return working_precision(var), dtype
    if var.shape == input.shape[:-1]:
        return working_precision(var).unsqueeze(-1), dtype
    mismatches = [own for own, wanted in zip(var.shape, input.shape, strict=False) if own != wanted]
    if var.dim() != input.dim() or mismatches != [1]:
        raise ValueError(
            f"var must have the shape of input, {tuple(input.shape)}, lack its last dimension or have a single 1 in "
            f"place of a dimension, got {tuple(var.shape)}"
        )
    return working_precision(var), dtype


def _check_parameter(name, value, input):
    """Return the number or tensor as a float64 tensor, once it is known to broadcast to the shape of ``input``."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return torch.tensor(value, dtype=torch.float64, device=input.device)
    check_real(name, value)
    try:
        fits = torch.broadcast_shapes(value.shape, input.shape) == input.shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(f"{name} must broadcast to the shape of input, {tuple(input.shape)}, got {tuple(value.shape)}")
    return value.double()
