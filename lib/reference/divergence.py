"""Divergences between distributions, and their gradients."""

import numpy as np

from lib.reference.classification import cross_entropy, cross_entropy_grad


def _phi2(v):
    """(e^v - 1 - v) / v^2 = 1/2! + v/3! + v^2/4! + ..., for |v| <= 1/2."""
    series = np.ones_like(v)
    for k in range(14, 2, -1):
        series = 1 + series * v / k
    return series / 2


def _log(p):
    """log(p), and any finite number where p is 0."""
    return np.log(np.where(p == 0, 1.0, p))


def kl_div(input, target, *, log_target=False):
    """(log q - log p) q, and 0 where q = 0."""
    log_p, target = np.float64(input), np.float64(target)
    # The root of q, which may under- or overflow where the loss does not
    root = np.exp(target / 2) if log_target else np.sqrt(target)
    log_q = np.where(target == -np.inf, 0.0, target) if log_target else _log(target)
    log_p = np.where((root == 0) & (log_p == -np.inf), 0.0, log_p)
    return root * (log_q - log_p) * root


def kl_div_grad(input, target, *, log_target=False):
    """-q, in log p."""
    return -np.exp(np.float64(target)) if log_target else -np.float64(target)


def js_divergence(input, target):
    """sum_j m/2 ((1 + d) log(1 + d) + (1 - d) log(1 - d)), m = (p + q) / 2, d = (p - q) / (p + q)."""
    p, q = np.float64(input), np.float64(target)
    total = np.where(p + q < np.finfo(np.float64).tiny, 1.0, p + q)
    near = abs(p - q) < total / 2
    d = np.where(near, p - q, 0.0) / total
    agreement = total / 4 * (2 * d * np.arctanh(d) + np.log1p(-d * d))
    disagreement = (p * _log(2 * p / total) + q * _log(2 * q / total)) / 2
    return np.where(near, agreement, disagreement).sum(-1)


def js_divergence_grad(input, target):
    """log(p / m) / 2 = log(1 + d) / 2; at p = 0 < q as at the smallest float."""
    p, q = np.float64(input), np.float64(target)
    total = np.where(p + q < np.finfo(np.float64).tiny, 1.0, p + q)
    near = abs(p - q) < total / 2
    d = np.where(near, p - q, 0.0) / total
    positive = np.where(p == 0, np.finfo(np.float64).tiny, p)
    return np.where(near, np.log1p(d), np.log(2 * positive / total)) / 2


def gaussian_kl(mean, log_variance):
    """sum_j (mu^2 + e^v - 1 - v) / 2."""
    mu, v = np.float64(mean), np.float64(log_variance)
    near = abs(v) < 0.5
    small = np.where(near, v, 0.0)
    width = np.where(near, small * small * _phi2(small), np.expm1(v) - v)
    return ((mu * mu + width) / 2).sum(-1)


def gaussian_kl_grad(mean, log_variance):
    """(mu, (e^v - 1) / 2)."""
    return np.float64(mean), np.expm1(np.float64(log_variance)) / 2


def distillation_loss(input, teacher, target, *, temperature=4.0, weight=0.9):
    """Loss w tau^2 sum_j q_j (e^d_j - 1 - d_j) + (1 - w) cross_entropy, d = log p - log q; z (N, C), y (N,)."""
    student, teacher = np.float64(input), np.float64(teacher)
    p, q, d = _softened(student, teacher, temperature)
    near = abs(d) < 0.5
    small = np.where(near, d, 0.0)
    agreement = q * (temperature * small) ** 2 * _phi2(small)
    disagreement = (p - q - q * d) * temperature**2
    soft = np.where(near, agreement, disagreement).sum(1)
    return weight * soft + (1 - weight) * cross_entropy(student, target)


def distillation_loss_grad(input, teacher, target, *, temperature=4.0, weight=0.9):
    """Derivative w tau (p - q) + (1 - w) (softmax - [j = y]), in z; p - q = q (e^d - 1) where they nearly agree."""
    student, teacher = np.float64(input), np.float64(teacher)
    p, q, d = _softened(student, teacher, temperature)
    near = abs(d) < 0.5
    soft = temperature * np.where(near, q * np.expm1(np.where(near, d, 0.0)), p - q)
    return weight * soft + (1 - weight) * cross_entropy_grad(student, target)


def _softened(student, teacher, temperature):
    """Return p = softmax(z / tau), q = softmax(t / tau), and d = log p - log q without the rounding of either sum."""
    student_top, teacher_top = student.max(1, keepdims=True), teacher.max(1, keepdims=True)
    student_sum = np.exp((student - student_top) / temperature).sum(1, keepdims=True)
    teacher_sum = np.exp((teacher - teacher_top) / temperature).sum(1, keepdims=True)
    p = np.exp((student - student_top) / temperature) / student_sum
    q = np.exp((teacher - teacher_top) / temperature) / teacher_sum
    d = ((student - teacher) - (student_top - teacher_top)) / temperature - np.log(student_sum / teacher_sum)
    near = abs(d) < 0.5
    surplus = np.where(near, q * np.expm1(np.where(near, d, 0.0)), p - q).sum(1, keepdims=True)
    return p, q, d - np.log1p(surplus)
