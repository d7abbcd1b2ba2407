"""Losses for predicting a number, and their gradients derived by hand."""

import numpy as np


def mse_loss(input, target):
    """Squared error: r^2 for the residual r = input - target."""
    return _residual(input, target) ** 2


def mse_loss_grad(input, target):
    """Gradient: 2 r."""
    return 2 * _residual(input, target)


def l1_loss(input, target):
    """Absolute error: |r|."""
    return np.abs(_residual(input, target))


def l1_loss_grad(input, target):
    """Gradient: sign(r), and 0 at the kink."""
    return np.sign(_residual(input, target))


def huber_loss(input, target, *, delta=1.0):
    """Huber loss: r^2 / 2 for |r| <= delta, delta (|r| - delta / 2) beyond."""
    r = np.abs(_residual(input, target))
    clipped = np.minimum(r, delta)
    return clipped * (r - clipped / 2)


def huber_loss_grad(input, target, *, delta=1.0):
    """Gradient: r clipped to [-delta, delta]."""
    return np.clip(_residual(input, target), -delta, delta)


def smooth_l1_loss(input, target, *, beta=1.0):
    """Smooth absolute error: the Huber loss over beta; |r| for beta = 0."""
    return huber_loss(input, target, delta=beta) / beta if beta > 0 else l1_loss(input, target)


def smooth_l1_loss_grad(input, target, *, beta=1.0):
    """Gradient: r / beta clipped to [-1, 1]; sign(r) for beta = 0."""
    return huber_loss_grad(input, target, delta=beta) / beta if beta > 0 else l1_loss_grad(input, target)


def log_cosh_loss(input, target):
    """Log-cosh: log(1 + 2 sinh(r / 2)^2) near 0, log(e^r + e^-r) - log 2 beyond 1."""
    r = _residual(input, target)
    near = np.log1p(2 * np.sinh(np.clip(r, -1, 1) / 2) ** 2)
    far = np.logaddexp(r, -r) - np.log(2)
    return np.where(np.abs(r) < 1, near, far)


def log_cosh_loss_grad(input, target):
    """Gradient: tanh(r)."""
    return np.tanh(_residual(input, target))


def quantile_loss(input, target, *, q):
    """Quantile loss: max(-q r, (1 - q) r)."""
    r = _residual(input, target)
    return np.maximum(-q * r, (1 - q) * r)


def quantile_loss_grad(input, target, *, q):
    """Gradient: -q below the target, 1 - q above it, 1/2 - q at the kink."""
    r = _residual(input, target)
    return np.select([r < 0, r > 0], [-q, 1 - q], 0.5 - q)


def charbonnier_loss(input, target, *, eps=1e-3):
    """Charbonnier loss: sqrt(r^2 + eps^2)."""
    return np.hypot(_residual(input, target), eps)


def charbonnier_loss_grad(input, target, *, eps=1e-3):
    """Gradient: r / sqrt(r^2 + eps^2)."""
    return _residual(input, target) / charbonnier_loss(input, target, eps=eps)


def poisson_nll_loss(input, target, *, log_input=True, full=False, eps=1e-8):
    """Poisson: e^z - y z, or z - y log(z + eps) for a rate z; ``full`` adds Stirling's log y! for counts y above 1."""
    z, y = _float64(input), _float64(target)
    stirling = 0.0
    if full:
        many = np.maximum(y, 1)
        stirling = np.where(y > 1, many * np.log(many) - many + np.log(2 * np.pi * many) / 2, 0)
    return (np.exp(z) - y * z if log_input else z - y * np.log(z + eps)) + stirling


def poisson_nll_loss_grad(input, target, *, log_input=True, full=False, eps=1e-8):
    """Gradient: e^z - y, or 1 - y / (z + eps) for a rate z; Stirling's term does not depend on z."""
    z, y = _float64(input), _float64(target)
    return np.exp(z) - y if log_input else 1 - y / (z + eps)


def gaussian_nll_loss(input, target, var, *, full=False, eps=1e-6):
    """Gaussian: (log v + r^2 / v) / 2 for v = max(var, eps); ``full`` adds log(2 pi) / 2."""
    v = np.maximum(_float64(var), eps)
    standardised = _residual(input, target) / np.sqrt(v)
    return (np.log(v) + standardised**2) / 2 + (np.log(2 * np.pi) / 2 if full else 0)


def gaussian_nll_loss_grad(input, target, var, *, full=False, eps=1e-6):
    """Gradients: r / v in the mean, (1 - r^2 / v) / (2 v) in the variance (given for each element)."""
    v = np.maximum(_float64(var), eps)
    standardised = _residual(input, target) / np.sqrt(v)
    return standardised / np.sqrt(v), (1 - standardised**2) / (2 * v)


def general_robust_loss(input, target, *, alpha, scale=1.0):
    """General robust loss: b lam phi(alpha lam / 2) / 2 for u = r / scale, b = |alpha - 2|, lam = log(1 + u^2 / b)."""
    _, _, b, _, lam, alpha = _robust_terms(input, target, alpha, scale)
    return b * lam / 2 * _phi(alpha * lam / 2)


def general_robust_loss_grad(input, target, *, alpha, scale=1.0):
    """Gradients in input, alpha and scale: s = u (1 + u^2 / b)^(alpha / 2 - 1) / scale, the integral below, and -u s.

    In alpha it is b / 4 times the integral of exp(alpha t / 2) (t - 1 + exp(-t)) for t from 0 to lam, taken by parts so
    that nothing cancels, with 64 nodes, which resolve it while alpha lam is moderate.
    """
    u, scale, b, sign, lam, alpha = _robust_terms(input, target, alpha, scale)
    slope = u * np.exp(sign * b * lam / 2) / scale
    nodes, weights = np.polynomial.legendre.leggauss(64)
    lam, a = lam[..., None], alpha[..., None] / 2
    t, rest = lam * (1 + nodes) / 2, lam * (1 - nodes) / 2
    integrand = -np.expm1(-t) * np.exp(a * t) * rest * _phi(a * rest)
    return slope, b / 4 * np.sum(lam * weights / 2 * integrand, axis=-1), -u * slope


def _robust_terms(input, target, alpha, scale):
    """Return u, scale, b, the sign of alpha - 2, lam and alpha, which stops at 1e30 for infinity."""
    alpha, scale = np.clip(_float64(alpha), -1e30, 1e30), _float64(scale)
    u, alpha = np.broadcast_arrays(_residual(input, target) / scale, alpha)
    sign = np.where(alpha > 2, 1, -1)
    b = np.maximum(np.abs(alpha - 2), 2**-52)
    return u, scale, b, sign, np.log1p(u**2 / b), alpha


def _phi(s):
    """(exp(s) - 1) / s, and 1 at 0."""
    safe = np.where(s == 0, 1, s)
    return np.where(s == 0, 1, np.expm1(safe) / safe)


def _residual(input, target):
    return _float64(input) - _float64(target)


def _float64(array):
    return np.asarray(array, dtype=np.float64)
