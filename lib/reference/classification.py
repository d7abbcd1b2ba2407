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
    r"""Return :math:`-w\,(y\max(\ln p, -100) + (1 - y)\max(\ln(1 - p), -100))`."""
    p, y, weight = _doubles(input, target, weight)
    with np.errstate(divide="ignore"):
        log_yes, log_no = np.maximum(np.log(p), -100), np.maximum(np.log1p(-p), -100)
    return -weight * (y * log_yes + (1 - y) * log_no)


def binary_cross_entropy_grad(input, target, *, weight=1.0):
    r"""Return :math:`w\,(p - y) / \max(p(1 - p), 10^{-12})`."""
    p, y, weight = _doubles(input, target, weight)
    return weight * (p - y) / np.maximum(p * (1 - p), 1e-12)


def binary_cross_entropy_with_logits(input, target, *, weight=1.0, pos_weight=1.0):
    r"""Return :math:`w\,((1 - y)\ln(1 + e^z) + w_1 y\ln(1 + e^{-z}))`."""
    z, y, weight, pos_weight = _doubles(input, target, weight, pos_weight)
    return weight * _log_loss(z, y, pos_weight)


def binary_cross_entropy_with_logits_grad(input, target, *, weight=1.0, pos_weight=1.0):
    r"""Return :math:`w\,((1 - y)\sigma(z) - w_1 y\,\sigma(-z))`."""
    z, y, weight, pos_weight = _doubles(input, target, weight, pos_weight)
    return weight * ((1 - y) * _sigmoid(z) - pos_weight * y * _sigmoid(-z))


def nll_loss(input, target, *, weight=None):
    r"""Return :math:`-w_y \ln p_y` for log-probabilities (N, C) and class indices (N,)."""
    rows = np.arange(len(target))
    return -_factor(weight, target) * np.asarray(input, dtype=np.float64)[rows, target]


def nll_loss_grad(input, target, *, weight=None):
    """Return -w_y for the true class, 0 for the others."""
    gradient = np.zeros(np.shape(input))
    gradient[np.arange(len(target)), target] = -_factor(weight, target)
    return gradient


def focal_loss(input, target, *, gamma=2.0, alpha=None):
    r"""Return :math:`-\alpha_y (1 - p_y)^\gamma \ln p_y` for logits (N, C) and class indices (N,)."""
    lead, _ = _rivals(input, target)
    return _factor(alpha, target) * np.exp(gamma * _log_p_of_rivals(lead)) * np.logaddexp(0, lead)


def focal_loss_grad(input, target, *, gamma=2.0, alpha=None):
    r"""Return :math:`\alpha_y (1 - p_y)^{\gamma - 1} (1 - p_y - \gamma p_y \ln p_y)\,(p_j - [j = y])`."""
    lead, direction = _rivals(input, target)
    lead = _finite(lead)  # p log p at p = 0 is 0, not 0 * inf
    slope = _sigmoid(lead) + gamma * _sigmoid(-lead) * np.logaddexp(0, lead)
    slope *= _factor(alpha, target) * np.exp(gamma * _log_p_of_rivals(lead))
    return slope[:, None] * direction


def sigmoid_focal_loss(input, target, *, gamma=2.0, alpha=0.25):
    r"""Return :math:`w\,d^\gamma c`: class weight, distance of p from y to the power gamma, log loss."""
    z, y = _doubles(input, target)
    weight = _balance(y, alpha)
    distance = y * _sigmoid(-z) + (1 - y) * _sigmoid(z)
    log_loss = np.where(weight == 0, 0.0, _log_loss(z, y))  # not 0 * inf
    return weight * distance**gamma * log_loss


def sigmoid_focal_loss_grad(input, target, *, gamma=2.0, alpha=0.25):
    r"""Return :math:`w\,d^\gamma\,((1 - y) p - y (1 - p) + \gamma c\,(1 - 2 y)\,p (1 - p) / d)`."""
    z, y = _doubles(input, target)
    limits = np.finfo(np.float64)
    yes, no = _sigmoid(z), _sigmoid(-z)
    distance = np.maximum(y * no + (1 - y) * yes, limits.tiny)
    pull = np.minimum(_log_loss(z, y) / distance, limits.max)  # not inf * 0
    slope = (1 - y) * yes - y * no + gamma * (pull * ((1 - 2 * y) * yes * no))
    return _balance(y, alpha) * distance**gamma * slope


def generalized_cross_entropy(input, target, *, q=0.7):
    r"""Return :math:`(1 - p_y^q) / q`, at q = 0 :math:`-\ln p_y`, for logits (N, C) and class indices (N,)."""
    lead, _ = _rivals(input, target)
    log_loss = np.logaddexp(0, lead)
    if q < np.finfo(np.float64).tiny:
        return log_loss
    return np.where(q * log_loss < 1e-16, log_loss, -np.expm1(-q * log_loss) / q)  # the smallest products underflow


def generalized_cross_entropy_grad(input, target, *, q=0.7):
    r"""Return :math:`p_y^q\,(p_j - [j = y])`."""
    lead, direction = _rivals(input, target)
    return (np.exp(-q * np.logaddexp(0, _finite(lead))) * _sigmoid(lead))[:, None] * direction


def symmetric_cross_entropy(input, target, *, alpha=0.1, beta=1.0, log_zero=-4.0):
    r"""Return :math:`-\alpha\ln p_y - \beta A (1 - p_y)` for logits (N, C) and class indices (N,)."""
    lead, _ = _rivals(input, target)
    cross_entropy = alpha * np.logaddexp(0, lead) if alpha else 0.0  # not 0 * inf where the true class is ruled out
    return cross_entropy - beta * log_zero * _sigmoid(lead)


def symmetric_cross_entropy_grad(input, target, *, alpha=0.1, beta=1.0, log_zero=-4.0):
    r"""Return :math:`(\alpha - \beta A p_y)(p_j - [j = y])`."""
    lead, direction = _rivals(input, target)
    return (_sigmoid(lead) * (alpha - beta * log_zero * _sigmoid(-lead)))[:, None] * direction


def brier_loss(input, target):
    r"""Return :math:`\sum_j (p_j - q_j)^2` for logits (N, C) and class indices (N,) or probabilities (N, C)."""
    _, excess, _ = _excess(input, target)
    return (excess**2).sum(1)


def brier_loss_grad(input, target):
    r"""Return :math:`2 p_j (d_j - \sum_k p_k d_k)`, with d the lead of p - q over that of the likeliest class."""
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
    q = np.float64(target) if np.ndim(target) == 2 else np.eye(z.shape[1])[target]
    likeliest = z.argmax(1)
    of_rivals, direction = _rivals(z, likeliest)
    p = direction * _sigmoid(of_rivals)[:, None]
    top = np.arange(len(z)), likeliest
    excess = p - q
    excess[top] = 1 - q[top] - _sigmoid(of_rivals)
    p[top] = _sigmoid(-of_rivals)
    p_top, q_top, excess_top, z_top = (array[top][:, None] for array in (p, q, excess, z))
    largest = z_top.clip(min=np.finfo(np.float64).min)
    # With a sure target both excesses may be small, and have the digits; else two equal logits must leave exactly 0.
    lead = np.where(q_top > 0.75, excess - excess_top, p_top * np.expm1(z - largest) - (q - q_top))
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


def _log_loss(z, y, pos_weight=1.0):
    r"""Return :math:`(1 - y)\ln(1 + e^z) + w_1 y\ln(1 + e^{-z})`, where what does not occur costs 0, not 0 * inf."""
    no, yes = np.where(y == 1, -np.inf, z), np.where(pos_weight * y == 0, -np.inf, -z)
    return (1 - y) * np.logaddexp(0, no) + pos_weight * y * np.logaddexp(0, yes)


def _balance(y, alpha):
    """Return alpha for a yes and 1 - alpha for a no; 1 where alpha is None or -1."""
    return 1.0 if alpha is None or alpha == -1 else alpha * y + (1 - alpha) * (1 - y)


def _doubles(*arrays):
    """Return the arrays in float64."""
    return tuple(np.asarray(array, dtype=np.float64) for array in arrays)
