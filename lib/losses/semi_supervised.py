"""Losses that learn from samples without labels: be sure, believe your sure guesses, do not change your mind."""

import math

import torch

from lib.losses._common import (
    WithDerivative,
    as_result,
    check_floating,
    check_number,
    check_reduction,
    check_same_shape,
    reduce,
    working_precision,
)
from lib.losses.classification import cross_entropy
from lib.losses.divergence import _beyond, _softened_divergence


def entropy_loss(input: torch.Tensor, *, reduction: str = "mean") -> torch.Tensor:
    r"""Entropy of the predicted probabilities: to reduce it is to decide, whatever for.

    For logits :math:`z` and :math:`p = \operatorname{softmax}(z)`,

    .. math:: \ell = -\sum_j p_j \ln p_j = \ln(1 + R) - \sum_j p_j d_j,
              \qquad \frac{\partial\ell}{\partial z_j} = -p_j\,(\ln p_j + \ell) = p_j \Bigl(\sum_k p_k d_k - d_j\Bigr),

    where :math:`d = z - \max z` and :math:`R` is the sum of :math:`e^{d_j}` over all classes but the likeliest. The
    right-hand forms are the ones computed: a nearly certain prediction keeps its small entropy. Added to the loss of
    labelled samples, it pushes the boundary between the classes to where samples are rare.

    Args:
        input: logits (nats), shape (C,), (N, C) or (N, C, d1, ..., dK). A class with logit -inf is ruled out and costs
            nothing. The difference of two logits is rounded once, so that the entropy of a prediction whose logits are
            80 apart (1e-33) is right to 5e-6 in float32.
        reduction: "none", "sum" or "mean" (over the rows of C logits; of no rows it is NaN).

    Returns:
        The entropy in nats, between 0 and ln C, in the dtype of ``input`` (computed in float32 where that is a half
        precision): a scalar, or the shape of ``input`` without C where ``reduction`` is "none".

    Raises:
        TypeError: if ``input`` is not a floating-point tensor.
        ValueError: if ``input`` has no classes or ``reduction`` is unknown.

    Example:
        >>> undecided, nearly_sure = [0.0, 0.0], [0.0, -20.0]
        >>> entropy_loss(torch.tensor([undecided, nearly_sure]), reduction="none")
        tensor([6.9315e-01, 4.3284e-08])

    Reference:
        Y. Grandvalet and Y. Bengio, Entropy Regularization, chapter 9 of Semi-Supervised Learning (2006),
        https://doi.org/10.7551/mitpress/9780262033589.001.0001; first at NIPS 2004.
    """
    check_reduction(reduction)
    class_dim = _check_logits("input", input)
    logits = working_precision(input)
    entropy = WithDerivative.apply(logits, lambda z: _entropy(z, class_dim), lambda z: _entropy_slope(z, class_dim))
    return as_result(reduce(entropy.squeeze(class_dim), reduction), input.dtype)


def pseudo_label_loss(
    input: torch.Tensor, target: torch.Tensor, *, threshold: float = 0.95, reduction: str = "mean"
) -> torch.Tensor:
    r"""Cross-entropy with the class that the model itself is sure of, as in FixMatch.

    For logits :math:`z` of a strongly distorted view of a sample, logits :math:`t` of a weakly distorted one,
    :math:`p = \operatorname{softmax}(z)`, :math:`q = \operatorname{softmax}(t)` and the threshold :math:`c`,

    .. math:: \ell = -[q_{\hat y} \ge c] \ln p_{\hat y}, \quad \hat y = \operatorname*{arg\,max}_j q_j,
              \qquad \frac{\partial\ell}{\partial z_j} = [q_{\hat y} \ge c]\,(p_j - [j = \hat y]).

    Whether :math:`q_{\hat y} \ge c` is decided by the log-odds against :math:`\hat y`: a probability itself would
    round to 1 as soon as the others have less than 1e-7 together (in float32).

    Args:
        input: logits (nats) of the view to learn from, shape (C,), (N, C) or (N, C, d1, ..., dK).
        target: logits (nats) of the view to believe, in the shape of ``input``. No gradient flows to them. Logits that
            are -inf rule classes out. A row with a NaN, a +inf or nothing but -inf has no probabilities: its loss and
            gradient are NaN, for a broken teacher must not look like an unsure one.
        threshold: the probability :math:`c`, in [0, 1], from which on a guess is believed: at 0 all are, as in Lee's
            pseudo-labels, at 1 only those that rule out every other class.
        reduction: "none", "sum" or "mean". As in FixMatch the mean is over all rows, those that cost 0 because
            nothing is believed included: the loss grows as the model becomes sure. Of no rows it is NaN.

    Returns:
        The loss in nats in the dtype of ``input`` (computed in float32 where that is a half precision): a scalar, or
        the shape of ``input`` without C where ``reduction`` is "none".

    Raises:
        TypeError: if ``input`` or ``target`` is not a floating-point tensor.
        ValueError: if the shapes differ or have no classes, or ``threshold`` or ``reduction`` does not fit.

    Example:
        >>> strong, weak = torch.zeros(2, 2), torch.tensor([[4.0, 0.0], [0.5, 0.0]])  # sure, unsure
        >>> pseudo_label_loss(strong, weak, reduction="none")
        tensor([0.6931, 0.0000])

    Reference:
        K. Sohn et al., FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence (2020),
        https://arxiv.org/abs/2001.07685.
    """
    check_reduction(reduction)
    class_dim = _check_logits("input", input)
    _check_logits("target", target)
    check_same_shape(input, target)
    check_number("threshold", threshold, lambda share: 0 <= share <= 1, "between 0 and 1")
    log_odds, label = _log_odds_against_the_likeliest(working_precision(target.detach()), class_dim)
    unsure = log_odds > _log_odds(threshold)
    unbelieved = -1
    loss = cross_entropy(
        working_precision(input), label.masked_fill(unsure, unbelieved), ignore_index=unbelieved, reduction="none"
    )
    known = torch.ones_like(loss).masked_fill(log_odds.isnan(), torch.nan)
    return as_result(reduce(loss * known, reduction), input.dtype)


def consistency_loss(
    input: torch.Tensor, target: torch.Tensor, *, kind: str = "mse", reduction: str = "mean"
) -> torch.Tensor:
    r"""Disagreement of a student with a teacher about the same sample, seen twice.

    For logits :math:`z` of the student, :math:`t` of the teacher, :math:`p = \operatorname{softmax}(z)` and
    :math:`q = \operatorname{softmax}(t)`, "mse" is the mean square of the differences and "kl" the divergence:

    .. math:: \ell_\text{mse} = \frac1C \sum_j (p_j - q_j)^2,
              \qquad \frac{\partial\ell_\text{mse}}{\partial z_j}
              = \tfrac2C\,p_j \Bigl(p_j - q_j - \sum_k p_k (p_k - q_k)\Bigr),

    .. math:: \ell_\text{kl} = D(q \,\|\, p) = \sum_j q_j \ln\frac{q_j}{p_j},
              \qquad \frac{\partial\ell_\text{kl}}{\partial z_j} = p_j - q_j.

    "mse" is bounded and forgives a teacher that is wrong (a mean teacher, the Pi-model); "kl" is not, and pulls hardest
    where the student is surest of something else (virtual adversarial training, unsupervised data augmentation). Both
    keep their digits where student and teacher nearly agree.

    Args:
        input: logits (nats) of the student, shape (C,), (N, C) or (N, C, d1, ..., dK). The difference of two logits is
            rounded once, so that "kl" of logits about 100 is right to 1e-4 in float32.
        target: logits (nats) of the teacher, in the shape of ``input``. No gradient flows to them; where both views
            should learn, add the loss with the roles exchanged.
        kind: "mse" or "kl".
        reduction: "none", "sum" or "mean" (over the rows of C logits; of no rows it is NaN).

    Returns:
        The loss ("kl" in nats) in the dtype of ``input`` (computed in float32 where that is a half precision): a
        scalar, or the shape of ``input`` without C where ``reduction`` is "none".

    Raises:
        TypeError: if ``input`` or ``target`` is not a floating-point tensor.
        ValueError: if the shapes differ or have no classes, or ``kind`` or ``reduction`` is unknown.

    Example:
        >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[20.0, 0.0]])
        >>> consistency_loss(student, teacher), consistency_loss(student, teacher, kind="kl")
        (tensor(0.2500), tensor(0.6931))

    Reference:
        "mse": A. Tarvainen and H. Valpola, Mean Teachers Are Better Role Models (2017),
        https://arxiv.org/abs/1703.01780; S. Laine and T. Aila, Temporal Ensembling (2017),
        https://arxiv.org/abs/1610.02242. "kl": Q. Xie et al., Unsupervised Data Augmentation (2020),
        https://arxiv.org/abs/1904.12848.
    """
    check_reduction(reduction)
    class_dim = _check_logits("input", input)
    _check_logits("target", target)
    check_same_shape(input, target)
    if kind not in ("mse", "kl"):
        raise ValueError(f"kind must be 'mse' or 'kl', got {kind!r}")
    student = working_precision(input)
    teacher = target.detach().to(student.dtype)
    if kind == "mse":
        loss = _softmax_distance(student, teacher, class_dim)
    else:
        loss = _softened_divergence(student, teacher, 1.0, class_dim)
    return as_result(reduce(loss, reduction), input.dtype)


def _entropy(logits, class_dim):
    """Return the entropy of the softmax, with the class dimension kept."""
    below, likeliest = _below_the_likeliest(logits, class_dim)
    odds = below.exp().scatter(class_dim, likeliest, 0.0)  # of the others: next to a 1 they would be rounded away
    rest = odds.sum(class_dim, keepdim=True)
    return rest.log1p() - (odds * below).sum(class_dim, keepdim=True) / (1 + rest)


def _entropy_slope(logits, class_dim):
    """Return the derivative of the entropy in the logits; autograd's would cancel where all classes are alike."""
    below, _ = _below_the_likeliest(logits, class_dim)
    odds = below.exp()
    total = odds.sum(class_dim, keepdim=True)
    return odds / total * ((odds * below).sum(class_dim, keepdim=True) / total - below)


def _below_the_likeliest(logits, class_dim):
    """Return how far each logit is below the largest, and the latter's index."""
    top, index = logits.detach().max(class_dim, keepdim=True)
    return (logits - top).clamp(min=-1000), index  # exp(-1000) is 0 in every dtype, and 0 * 1000 is no NaN


def _log_odds_against_the_likeliest(logits, class_dim):
    """Return the log-odds against the likeliest class, NaN where the logits are no distribution, and that class."""
    top, label = logits.max(class_dim, keepdim=True)
    log_odds = (logits - top).scatter(class_dim, label, -torch.inf).logsumexp(class_dim, keepdim=True)
    log_odds = log_odds.masked_fill(~top.isfinite(), torch.nan)
    return log_odds.squeeze(class_dim), label.squeeze(class_dim)


def _log_odds(probability):
    """Return the log-odds against an event of this probability."""
    if probability in (0, 1):
        return math.inf if probability == 0 else -math.inf
    return math.log1p(-probability) - math.log(probability)


def _softmax_distance(student, teacher, class_dim):
    """Return the mean square of softmax(student) - softmax(teacher), to full precision also where they nearly agree."""
    p = student.softmax(class_dim)
    with torch.no_grad():
        difference = _softmax_difference(student, teacher, p, class_dim)
        surest = student.argmax(class_dim, keepdim=True)
        force = 2 * (difference - difference.gather(class_dim, surest))
    # The changes of p sum to 0: what all their factors have in common does not count, and would cancel for the surest.
    change = p - p.detach()  # zeros, whose derivative is that of p
    return torch.addcmul(difference * difference, force + change, change).mean(class_dim)


def _softmax_difference(student, teacher, p, class_dim):
    """Return p - softmax(teacher), where p is softmax(student)."""
    q = teacher.softmax(class_dim)
    likeliest = teacher.argmax(class_dim, keepdim=True)
    shift = student - teacher
    shift -= shift.gather(class_dim, likeliest)
    # p is scaled exp(shift): first the gain of each class, exact also where it is small, then what all lose for it
    scaled = q * (p.gather(class_dim, likeliest) / q.gather(class_dim, likeliest))
    shift = shift.nan_to_num(nan=0.0)  # of two logits -inf
    gain = torch.lerp(shift.clamp(-1, 1).expm1_().mul_(scaled), p - scaled, _beyond(shift, 1))
    return gain - q.mul_(gain.sum(class_dim, keepdim=True))


def _check_logits(name, logits):
    """Return the class dimension, or raise TypeError or ValueError unless these are logits of classes."""
    check_floating(name, logits)
    if logits.dim() == 0:
        raise ValueError(f"{name} must have a class dimension: shape (C,), (N, C) or (N, C, d1, ...), got a scalar")
    class_dim = 0 if logits.dim() == 1 else 1
    if logits.shape[class_dim] == 0:
        raise ValueError(f"{name} must have at least one class, got shape {tuple(logits.shape)}")
    return class_dim
