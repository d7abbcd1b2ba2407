"""Losses for choosing one class among several, in NumPy."""

import numpy as np


def cross_entropy(input, target):
    """Log loss of logits (N, C) for class indices (N,): log(1 + sum over the rivals of exp(rival - truth)), (N,)."""
    input, rows = np.float64(input), np.arange(len(target))
    rivals = input - input[rows, target][:, None]
    rivals[rows, target] = -np.inf
    return np.logaddexp(0.0, np.logaddexp.reduce(rivals, axis=1))


def cross_entropy_grad(input, target):
    """Derivative of the sum: softmax - one-hot, (N, C); at the truth minus the sum of the others, which is exact."""
    input, rows = np.float64(input), np.arange(len(target))
    exponentials = np.exp(input - input.max(axis=1, keepdims=True))
    gradient = exponentials / exponentials.sum(axis=1, keepdims=True)
    gradient[rows, target] = 0.0
    gradient[rows, target] = -gradient.sum(axis=1)
    return gradient


def binary_cross_entropy(input, target, *, weight=1.0):
    r"""Return :math:`-w\,(t\max(\log p, -100) + (1 - t)\max(\log(1 - p), -100))`."""
    p, t, weight = _doubles(input, target, weight)
    with np.errstate(divide="ignore"):
        log_yes, log_no = np.maximum(np.log(p), -100), np.maximum(np.log1p(-p), -100)
    return -weight * (t * log_yes + (1 - t) * log_no)


def binary_cross_entropy_grad(input, target, *, weight=1.0):
    r"""Return :math:`w\,(p - t) / \max(p(1 - p), 10^{-12})`."""
    p, t, weight = _doubles(input, target, weight)
    return weight * (p - t) / np.maximum(p * (1 - p), 1e-12)


def binary_cross_entropy_with_logits(input, target, *, weight=1.0, pos_weight=1.0):
    r"""Return :math:`w\,((1 - t)\log(1 + e^x) + w_1 t\log(1 + e^{-x}))`."""
    x, t, weight, pos_weight = _doubles(input, target, weight, pos_weight)
    return weight * ((1 - t) * np.logaddexp(0, x) + pos_weight * t * np.logaddexp(0, -x))


def binary_cross_entropy_with_logits_grad(input, target, *, weight=1.0, pos_weight=1.0):
    r"""Return :math:`w\,((1 - t)\sigma(x) - w_1 t\,\sigma(-x))`."""
    x, t, weight, pos_weight = _doubles(input, target, weight, pos_weight)
    return weight * ((1 - t) * _sigmoid(x) - pos_weight * t * _sigmoid(-x))


def nll_loss(input, target, *, weight=None):
    """Return -w_y x_y for log-probabilities (N, C) and class indices (N,)."""
    rows = np.arange(len(target))
    return -_factor(weight, target) * np.asarray(input, dtype=np.float64)[rows, target]


def nll_loss_grad(input, target, *, weight=None):
    """Return -w_y for the true class, 0 for the others."""
    gradient = np.zeros(np.shape(input))
    gradient[np.arange(len(target)), target] = -_factor(weight, target)
    return gradient


def focal_loss(input, target, *, gamma=2.0, alpha=None):
    r"""Return :math:`-\alpha_y (1 - p_y)^\gamma \log p_y` for logits (N, C) and class indices (N,)."""
    lead, _ = _rivals(input, target)
    return _factor(alpha, target) * np.exp(gamma * _log_p_of_rivals(lead)) * np.logaddexp(0, lead)


def focal_loss_grad(input, target, *, gamma=2.0, alpha=None):
    r"""Return :math:`\alpha_y (1 - p_y)^\gamma (1 - p_y - \gamma p_y \log p_y)` times :math:`q_j`, or -1 for j = y."""
    lead, direction = _rivals(input, target)
    lead = _finite(lead)  # p log p at p = 0 is 0, not 0 * inf
    slope = _sigmoid(lead) + gamma * _sigmoid(-lead) * np.logaddexp(0, lead)
    slope *= _factor(alpha, target) * np.exp(gamma * _log_p_of_rivals(lead))
    return slope[:, None] * direction


def sigmoid_focal_loss(input, target, *, gamma=2.0, alpha=0.25):
    r"""Return :math:`a\,d^\gamma c`: class weight, distance of p from t to the power gamma, log loss."""
    x, t = _doubles(input, target)
    distance = t * _sigmoid(-x) + (1 - t) * _sigmoid(x)
    log_loss = t * np.logaddexp(0, -x) + (1 - t) * np.logaddexp(0, x)
    return _balance(t, alpha) * distance**gamma * log_loss


def sigmoid_focal_loss_grad(input, target, *, gamma=2.0, alpha=0.25):
    r"""Return :math:`a\,d^\gamma\,((1 - t) p - t (1 - p) + \gamma c\,(1 - 2 t)\,p (1 - p) / d)`."""
    x, t = _doubles(input, target)
    yes, no = _sigmoid(x), _sigmoid(-x)
    distance = np.maximum(t * no + (1 - t) * yes, np.finfo(np.float64).tiny)
    log_loss = t * np.logaddexp(0, -x) + (1 - t) * np.logaddexp(0, x)
    slope = (1 - t) * yes - t * no + gamma * (log_loss / distance) * ((1 - 2 * t) * yes * no)
    return _balance(t, alpha) * distance**gamma * slope


def generalized_cross_entropy(input, target, *, q=0.7):
    r"""Return :math:`(1 - p_y^q) / q`, at q = 0 :math:`-\log p_y`, for logits (N, C) and class indices (N,)."""
    lead, _ = _rivals(input, target)
    log_loss = np.logaddexp(0, lead)
    if q < np.finfo(np.float64).tiny:
        return log_loss
    return np.where(q * log_loss < 1e-16, log_loss, -np.expm1(-q * log_loss) / q)  # the smallest products underflow


def generalized_cross_entropy_grad(input, target, *, q=0.7):
    r"""Return :math:`p_y^q (1 - p_y)` times :math:`r_j`, or -1 for j = y."""
    lead, direction = _rivals(input, target)
    return (np.exp(-q * np.logaddexp(0, _finite(lead))) * _sigmoid(lead))[:, None] * direction


def symmetric_cross_entropy(input, target, *, alpha=0.1, beta=1.0, log_zero=-4.0):
    r"""Return :math:`-\alpha\log p_y - \beta A (1 - p_y)` for logits (N, C) and class indices (N,)."""
    lead, _ = _rivals(input, target)
    cross_entropy = alpha * np.logaddexp(0, lead) if alpha else 0.0  # not 0 * inf where the true class is ruled out
    return cross_entropy - beta * log_zero * _sigmoid(lead)


def symmetric_cross_entropy_grad(input, target, *, alpha=0.1, beta=1.0, log_zero=-4.0):
    r"""Return :math:`(1 - p_y)(\alpha - \beta A p_y)` times :math:`q_j`, or -1 for j = y."""
    lead, direction = _rivals(input, target)
    return (_sigmoid(lead) * (alpha - beta * log_zero * _sigmoid(-lead)))[:, None] * direction


def brier_loss(input, target):
    r"""Return :math:`\sum_j (p_j - t_j)^2` for logits (N, C) and class indices (N,) or probabilities (N, C)."""
    _, excess, _ = _excess(input, target)
    return (excess**2).sum(1)


def brier_loss_grad(input, target):
    r"""Return :math:`2 p_j (d_j - \sum_k p_k d_k)`, with d the lead of p - t over that of the likeliest class."""
    p, _, lead = _excess(input, target)
    return 2 * p * (lead - (p * lead).sum(1, keepdims=True))


def _rivals(input, target):
    """Return the rivals' lead over the truth, log((1 - p) / p), and its gradient: their softmax, -1 at the truth."""
    rows = np.arange(len(target))
    rivals = np.array(input, dtype=np.float64)
    truth = rivals[rows, target]
    rivals[rows, target] = -np.inf
    limits = np.finfo(np.float64)
    largest = rivals.max(1, keepdims=True).clip(min=limits.min)  # finite also where there is no rival
    odds = np.exp(rivals - largest)
    total = odds.sum(1, keepdims=True).clip(min=limits.tiny)
    lead = (largest - truth[:, None] + np.log(total))[:, 0]
    direction = odds / total
    direction[rows, target] = -1.0
    return lead, direction


def _excess(input, target):
    """Return softmax, softmax - target without cancellation next to 1, and its lead over the likeliest class's."""
    z = np.float64(input)
    t = np.float64(target) if np.ndim(target) == 2 else np.eye(z.shape[1])[target]
    likeliest = z.argmax(1)
    of_rivals, direction = _rivals(z, likeliest)
    p = direction * _sigmoid(of_rivals)[:, None]
    top = np.arange(len(z)), likeliest
    excess = p - t
    excess[top] = 1 - t[top] - _sigmoid(of_rivals)
    p[top] = _sigmoid(-of_rivals)
    p_top, t_top, excess_top, z_top = (array[top][:, None] for array in (p, t, excess, z))
    largest = z_top.clip(min=np.finfo(np.float64).min)
    # With a sure target both excesses may be small, and have the digits; else two equal logits must leave exactly 0.
    lead = np.where(t_top > 0.75, excess - excess_top, p_top * np.expm1(z - largest) - (t - t_top))
    return p, excess, lead


def _log_p_of_rivals(lead):
    """Return log(1 - p), finite also where there is no rival: its product with gamma = 0 is 0."""
    return -np.logaddexp(0, -_finite(lead))


def _finite(lead):
    """Return the lead, within bounds that leave room for factors, and beyond which its exponentials are 0 or inf."""
    return lead.clip(-1e300, 1e300)


def _sigmoid(x):
    """1 / (1 + e^-x), which does not overflow."""
    return np.exp(-np.logaddexp(0, -x))


def _factor(weight, target):
    """Return the weight of each true class, 1 where there are none."""
    return 1.0 if weight is None else np.float64(weight)[target]


def _balance(t, alpha):
    """Return alpha for a yes and 1 - alpha for a no; 1 where alpha is None or -1."""
    return 1.0 if alpha is None or alpha == -1 else alpha * t + (1 - alpha) * (1 - t)


def _doubles(*arrays):
    """Return the arrays in float64."""
    return tuple(np.asarray(array, dtype=np.float64) for array in arrays)
