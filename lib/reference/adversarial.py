"""Adversarial inputs and TRADES in NumPy: the twins of ``lib.losses.adversarial``.

The attacks have a closed form where the model is linear, so theirs is: logits :math:`z = W x + b`.
"""

import numpy as np


def fgsm(weight, bias, input, target, *, epsilon, bounds=(0.0, 1.0)):
    r"""Return :math:`x + \varepsilon \operatorname{sign}(W^\top (r - e_y))`, clipped; r: softmax of the rivals of y."""
    return pgd(weight, bias, input, target, epsilon=epsilon, step_size=epsilon, steps=1, bounds=bounds)


def pgd(weight, bias, input, target, *, epsilon, step_size=None, steps=10, bounds=(0.0, 1.0)):
    r"""Repeat :math:`x' \leftarrow x' + \eta \operatorname{sign}(W^\top (r - e_y))`, clipped, r as in ``fgsm``.

    The start is the input itself. As :math:`p - e_y = (1 - p_y)(r - e_y)`, the signs are those of cross-entropy.
    """
    weight, bias, x = _doubles(weight, bias, input)
    low, high = (-np.inf, np.inf) if bounds is None else bounds
    step_size = epsilon / 4 if step_size is None else step_size
    adversarial = x
    for _ in range(steps):
        truth = _one_hot(target, len(bias))
        rivals = np.where(truth == 1, -np.inf, adversarial @ weight.T + bias)
        slope = (np.exp(_log_softmax(rivals)) - truth) @ weight
        adversarial = np.clip(adversarial + step_size * np.sign(slope), x - epsilon, x + epsilon)
        adversarial = np.clip(adversarial, low, high)
    return adversarial


def trades_loss(input, adversarial, target, *, beta=6.0):
    r"""Return :math:`-\ln p_y + \beta\,D(p \,\|\, q)`, p and q the softmax of the two kinds of logits."""
    log_p, log_q = (_log_softmax(*_doubles(logits)) for logits in (input, adversarial))
    loss = -np.take_along_axis(log_p, np.asarray(target)[..., None], -1)[..., 0]
    return loss + beta * _divergence(log_p, log_q)[..., 0]


def trades_loss_grad(input, adversarial, target, *, beta=6.0):
    r"""Return :math:`p_j - [j = y] + \beta\,p_j (\ln(p_j / q_j) - D(p \,\|\, q))` and :math:`\beta\,(q - p)`."""
    log_p, log_q = (_log_softmax(*_doubles(logits)) for logits in (input, adversarial))
    p, q = np.exp(log_p), np.exp(log_q)
    clean = p - _one_hot(target, p.shape[-1]) + beta * p * (log_p - log_q - _divergence(log_p, log_q))
    return clean, beta * (q - p)


def _doubles(*arrays):
    """Return the arrays in float64."""
    return tuple(np.asarray(array, dtype=np.float64) for array in arrays)


def _log_softmax(logits):
    """Return the logarithms of the class probabilities."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _divergence(log_p, log_q):
    """Return KL(p || q), shape (..., 1)."""
    return (np.exp(log_p) * (log_p - log_q)).sum(-1, keepdims=True)


def _one_hot(target, classes):
    """Return 1 at the true class and 0 elsewhere, shape (..., C)."""
    return np.eye(classes)[np.asarray(target)]
