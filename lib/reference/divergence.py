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
    """(log p - x) p, and 0 where p = 0."""
    x, target = np.float64(input), np.float64(target)
    root = (
        np.exp(target / 2) if log_target else np.sqrt(target)
    )  # of p, which may under- or overflow where the loss does not
    log_p = np.where(target == -np.inf, 0.0, target) if log_target else _log(target)
    x = np.where((root == 0) & (x == -np.inf), 0.0, x)
    return root * (log_p - x) * root


def kl_div_grad(input, target, *, log_target=False):
    """-p."""
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
    """Loss w T^2 sum_j p_j (e^r_j - 1 - r_j) + (1 - w) cross_entropy, r = log q - log p; z (N, C), y (N,)."""
    student, teacher = np.float64(input), np.float64(teacher)
    q, p, r = _softened(student, teacher, temperature)
    near = abs(r) < 0.5
    small = np.where(near, r, 0.0)
    agreement = p * (temperature * small) ** 2 * _phi2(small)
    disagreement = (q - p - p * r) * temperature**2
    soft = np.where(near, agreement, disagreement).sum(1)
    return weight * soft + (1 - weight) * cross_entropy(student, target)


def distillation_loss_grad(input, teacher, target, *, temperature=4.0, weight=0.9):
    """Derivative w T (q - p) + (1 - w) (softmax - y), in z; q - p = p (e^r - 1) where they nearly agree."""
    student, teacher = np.float64(input), np.float64(teacher)
    q, p, r = _softened(student, teacher, temperature)
    near = abs(r) < 0.5
    soft = temperature * np.where(near, p * np.expm1(np.where(near, r, 0.0)), q - p)
    return weight * soft + (1 - weight) * cross_entropy_grad(student, target)


def _softened(student, teacher, temperature):
    """Return q = softmax(z / T), p = softmax(t / T), and r = log q - log p with the rounding of both sums taken out."""
    student_top, teacher_top = student.max(1, keepdims=True), teacher.max(1, keepdims=True)
    student_sum = np.exp((student - student_top) / temperature).sum(1, keepdims=True)
    teacher_sum = np.exp((teacher - teacher_top) / temperature).sum(1, keepdims=True)
    q = np.exp((student - student_top) / temperature) / student_sum
    p = np.exp((teacher - teacher_top) / temperature) / teacher_sum
    r = ((student - teacher) - (student_top - teacher_top)) / temperature - np.log(student_sum / teacher_sum)
    near = abs(r) < 0.5
    surplus = np.where(near, p * np.expm1(np.where(near, r, 0.0)), q - p).sum(1, keepdims=True)
    return q, p, r - np.log1p(surplus)
