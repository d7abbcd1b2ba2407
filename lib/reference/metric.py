"""Losses on embeddings, in NumPy: the twins of ``lib.losses.metric``."""

import numpy as np


def contrastive_loss(input1, input2, target, *, margin=1.0):
    r"""Return :math:`\tfrac12 D^2` for similar pairs (+1), :math:`\tfrac12 \max(0, m - D)^2` for others (-1)."""
    x1, x2, y = _doubles(input1, input2, target)
    distance = _norm(x1 - x2, 2)
    return np.where(y == 1, distance, np.maximum(0.0, margin - distance)) ** 2 / 2


def contrastive_loss_grad(input1, input2, target, *, margin=1.0):
    r"""Return :math:`x_1 - x_2` for similar pairs, :math:`-\max(0, m - D)(x_1 - x_2) / D` for others; its negative."""
    x1, x2, y = _doubles(input1, input2, target)
    distance = _norm(x1 - x2, 2)
    slope = np.where(y == 1, distance, -np.maximum(0.0, margin - distance))
    grad = slope[..., None] * _norm_grad(x1 - x2, 2)
    return grad, -grad


def triplet_margin_loss(anchor, positive, negative, *, margin=1.0, p=2.0, eps=1e-6, swap=False):
    r"""Return :math:`\max(0, m + d(a, p) - d(a, n))` with :math:`d(x, y) = \lVert x - y + \varepsilon \rVert_p`."""
    a, b, c = _doubles(anchor, positive, negative)
    near, far = _norm(a - b + eps, p), _norm(a - c + eps, p)
    if swap:
        far = np.minimum(far, _norm(b - c + eps, p))
    return np.maximum(0.0, margin + near - far)


def triplet_margin_loss_grad(anchor, positive, negative, *, margin=1.0, p=2.0, eps=1e-6, swap=False):
    r"""Return :math:`\nabla d(a, p) - \nabla d(a, n)` and so on, where the loss is active; tied distances share."""
    a, b, c = _doubles(anchor, positive, negative)
    near, far, other = _norm(a - b + eps, p), _norm(a - c + eps, p), _norm(b - c + eps, p)
    share = (np.sign(other - far) + 1) / 2 if swap else 1.0  # of the distance to the anchor in the smaller distance
    active = margin + near - (np.minimum(far, other) if swap else far) >= 0
    pull = active[..., None] * _norm_grad(a - b + eps, p)
    push = (active * share)[..., None] * _norm_grad(a - c + eps, p)
    push_other = (active * (1 - share))[..., None] * _norm_grad(b - c + eps, p)
    return pull - push, -pull - push_other, push + push_other


def cosine_embedding_loss(input1, input2, target, *, margin=0.0):
    r"""Return :math:`1 - \cos` for +1, :math:`\max(0, \cos - m)` for -1, and 0 for any other number."""
    a, _, lack_a = _damped_unit(input1)
    b, _, lack_b = _damped_unit(input2)
    y = np.asarray(target)
    apart = (((a - b) ** 2).sum(-1) + lack_a + lack_b) / 2  # 1 - cos, without a cancellation
    return np.where(y == 1, apart, np.where(y == -1, np.maximum(0.0, (a * b).sum(-1) - margin), 0.0))


def cosine_embedding_loss_grad(input1, input2, target, *, margin=0.0):
    r"""Return minus or plus :math:`(b - \cos a) / \sqrt{|u|^2 + \varepsilon}`, and the same with exchanged roles."""
    a, length_a, lack_a = _damped_unit(input1)
    b, length_b, lack_b = _damped_unit(input2)
    y = np.asarray(target)
    apart = (((a - b) ** 2).sum(-1) + lack_a + lack_b) / 2
    slope = np.where(y == 1, -1.0, np.where((y == -1) & ((a * b).sum(-1) >= margin), 1.0, 0.0))[..., None]
    apart = apart[..., None]  # b - cos a = (b - a) + (1 - cos) a
    return slope * (b - a + apart * a) / length_a, slope * (a - b + apart * b) / length_b


def nt_xent_loss(input, target, *, temperature=0.5):
    r"""Return :math:`\ln(1 + \sum_{j \ne i, p} e^{s_{ij} - s_{ip}})` for the rows of both views."""
    z, _ = _unit(np.concatenate(_doubles(input, target)))
    similarity, truth, rival = _nt_xent(z, temperature)
    return np.logaddexp(0.0, _log_sum_exp(similarity, rival) - truth)


def nt_xent_loss_grad(input, target, *, temperature=0.5):
    r"""Return :math:`\frac1\tau \sum_j (G_{ij} + G_{ji}) z_j` through the scaling, G the derivative in similarities."""
    z, length = _unit(np.concatenate(_doubles(input, target)))
    similarity, truth, rival = _nt_xent(z, temperature)
    partner = np.roll(np.arange(len(z)), len(z) // 2)
    grad = _pick_grad(similarity, truth, rival, partner)
    grad = _unit_grad((grad + grad.T) @ z / temperature, z, length)
    return tuple(np.split(grad, 2))


def info_nce_loss(query, positive, negatives=None, *, temperature=0.07):
    r"""Return :math:`\ln(1 + \sum_j e^{(q \cdot n_j - q \cdot k) / \tau})`, all scaled to length 1."""
    q, k, n, _, rival = _info_nce(query, positive, negatives)
    similarity = np.einsum("id,ijd->ij", q, n) / temperature
    return np.logaddexp(0.0, _log_sum_exp(similarity, rival) - (q * k).sum(-1) / temperature)


def info_nce_loss_grad(query, positive, negatives=None, *, temperature=0.07):
    r"""Return :math:`\frac1\tau \sum_j P_j (n_j - k)` and so on through the scaling, for each embedding given."""
    q, k, n, lengths, rival = _info_nce(query, positive, negatives)
    similarity = np.einsum("id,ijd->ij", q, n) / temperature
    weight = _rival_weight(similarity, (q * k).sum(-1) / temperature, rival) / temperature
    total = weight.sum(1, keepdims=True)
    grad_q = np.einsum("ij,ijd->id", weight, n) - total * k
    grad_k = -total * q
    grad_n = weight[:, :, None] * q[:, None]
    if negatives is None:
        grad_k = grad_k + grad_n.sum(0)
    grads = (_unit_grad(grad_q, q, lengths[0]), _unit_grad(grad_k, k, lengths[1]))
    if negatives is None:
        return grads
    shared = np.ndim(negatives) == 2
    return (*grads, _unit_grad(grad_n.sum(0), n[0], lengths[2]) if shared else _unit_grad(grad_n, n, lengths[2]))


def clip_loss(input, target, *, temperature=0.07):
    r"""Return the mean of :func:`info_nce_loss` in both directions."""
    there = info_nce_loss(input, target, temperature=temperature)
    back = info_nce_loss(target, input, temperature=temperature)
    return (there + back) / 2


def clip_loss_grad(input, target, *, temperature=0.07):
    r"""Return the mean of the gradients of :func:`info_nce_loss` in both directions."""
    there = info_nce_loss_grad(input, target, temperature=temperature)
    back = info_nce_loss_grad(target, input, temperature=temperature)
    return (there[0] + back[1]) / 2, (there[1] + back[0]) / 2


def supervised_contrastive_loss(input, target, *, temperature=0.1):
    r"""Return :math:`\ln\sum_{j \ne i} e^{s_{ij}}` minus the mean of the positives' :math:`s_{ip}`; 0 without any."""
    z, _ = _unit(np.asarray(input, dtype=np.float64))
    similarity, positive, other = _classes(z, target, temperature)
    count = positive.sum(1)
    attraction = np.where(positive, similarity, 0.0).sum(1) / np.maximum(count, 1)
    rivals = _log_sum_exp(similarity, other & ~positive) - attraction
    kin = _log_sum_exp(similarity, positive) - attraction  # exactly 0 where there is one
    return np.where(count > 0, np.logaddexp(rivals, kin), 0.0)


def supervised_contrastive_loss_grad(input, target, *, temperature=0.1):
    r"""Return :math:`\frac1\tau \sum_j (G_{ij} + G_{ji}) z_j` through the scaling, G the derivative in similarities."""
    z, length = _unit(np.asarray(input, dtype=np.float64))
    similarity, positive, other = _classes(z, target, temperature)
    count = positive.sum(1, keepdims=True)
    chance = np.exp(np.where(other, similarity - _log_sum_exp(similarity, other)[:, None], -np.inf))
    grad = np.where(count > 0, chance - positive / np.maximum(count, 1), 0.0)
    return _unit_grad((grad + grad.T) @ z / temperature, z, length)


def _doubles(*arrays):
    """Return the arrays in float64."""
    return tuple(np.asarray(array, dtype=np.float64) for array in arrays)


def _norm(x, p):
    """Return the p-norm of each row."""
    return np.linalg.norm(x, ord=p, axis=-1)


def _norm_grad(x, p):
    r"""Return :math:`\operatorname{sign}(x)\,(|x| / \lVert x \rVert)^{p - 1}`, and 0 at 0; tied largest ones share."""
    norm = _norm(x, p)[..., None]
    ratio = np.abs(x) / np.where(norm == 0, 1.0, norm)
    if p == np.inf:
        return np.sign(x) * (ratio == 1) / np.maximum((ratio == 1).sum(-1, keepdims=True), 1)
    return np.sign(x) * np.where(x == 0, 1.0, ratio) ** (p - 1)


def _unit(x):
    """Return the rows divided by their lengths, and the lengths; a row of zeros stays one."""
    length = _norm(x, 2)[..., None]
    return x / np.where(length == 0, 1.0, length), length


def _unit_grad(grad, unit, length):
    r"""Return :math:`(g - (g \cdot u)\,u) / |x|`, the gradient in a row x of what has gradient g in its direction u."""
    across = grad - (grad * unit).sum(-1, keepdims=True) * unit
    return np.where(length == 0, 0.0, across / np.where(length == 0, 1.0, length))


def _damped_unit(x):
    r"""Return :math:`a = x / \sqrt{|x|^2 + 10^{-12}}`, the root, and :math:`1 - |a|^2`."""
    x = np.asarray(x, dtype=np.float64)
    damping = float(np.float32(1e-12))  # torch's constant
    squared = (x**2).sum(-1, keepdims=True) + damping
    return x / np.sqrt(squared), np.sqrt(squared), damping / squared[..., 0]


def _log_sum_exp(x, mask):
    """Return log(sum(exp(x))) of each row over the mask, -inf where that is empty."""
    top = np.where(mask, x, -np.inf).max(1, initial=-np.inf)
    top = np.where(top == -np.inf, 0.0, top)
    total = np.where(mask, np.exp(np.where(mask, x - top[:, None], 0.0)), 0.0).sum(1)
    return np.where(total > 0, np.log(np.where(total > 0, total, 1.0)) + top, -np.inf)


def _rival_weight(similarity, truth, rival):
    """Return the probability given to each rival."""
    everyone = np.logaddexp(truth, _log_sum_exp(similarity, rival))[:, None]
    return np.where(rival, np.exp(np.where(rival, similarity, -np.inf) - everyone), 0.0)


def _pick_grad(similarity, truth, rival, index):
    """Return the derivative in the similarities: each rival's probability, and minus their sum for the positive."""
    grad = _rival_weight(similarity, truth, rival)
    np.put_along_axis(grad, index[:, None], -grad.sum(1, keepdims=True), 1)
    return grad


def _nt_xent(z, temperature):
    """Return the similarities, those to the positives, and who is whose rival."""
    itself = np.eye(len(z), dtype=bool)
    positive = np.roll(itself, len(z) // 2, axis=0)
    similarity = z @ z.T / temperature
    return similarity, similarity[positive], ~itself & ~positive


def _info_nce(query, positive, negatives):
    """Return unit vectors (the negatives as (N, M, D)), the lengths of the three, and who is whose rival."""
    (q, length_q), (k, length_k) = _unit(_doubles(query)[0]), _unit(_doubles(positive)[0])
    n, length_n = (k, length_k) if negatives is None else _unit(_doubles(negatives)[0])
    n = n if n.ndim == 3 else np.broadcast_to(n, (len(q), *n.shape))
    rival = ~np.eye(len(q), dtype=bool) if negatives is None else np.ones(n.shape[:2], dtype=bool)
    return q, k, n, (length_q, length_k, length_n), rival


def _classes(z, target, temperature):
    """Return the similarities, who is whose positive, and who is somebody else."""
    target = np.asarray(target)
    other = ~np.eye(len(z), dtype=bool)
    return z @ z.T / temperature, (target[:, None] == target) & other, other
