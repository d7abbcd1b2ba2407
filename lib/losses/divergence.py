"""Losses that say how far one distribution is from another."""

import math

import torch

from lib.losses._common import (
    WithDerivative,
    any_true,
    as_result,
    check_floating,
    check_number,
    check_reduction,
    check_same_shape,
    reduce,
    working_precision,
)
from lib.losses.classification import cross_entropy


def kl_div(
    input: torch.Tensor, target: torch.Tensor, *, reduction: str = "mean", log_target: bool = False
) -> torch.Tensor:
    r"""Kullback-Leibler divergence of the input from the target, class by class.

    For log-probabilities :math:`\ln p` and probabilities :math:`q` (given as :math:`\ln q` where ``log_target``), each
    class contributes

    .. math:: \ell_j = q_j (\ln q_j - \ln p_j), \qquad \frac{\partial\ell_j}{\partial \ln p_j} = -q_j,

    and the sum over the classes is :math:`D(q \,\|\, p)`, in nats. A class that never occurs
    (:math:`q_j = 0`) costs nothing, even where it is ruled out (:math:`p_j = 0`); torch returns NaN there.

    Args:
        input: log-probabilities :math:`\ln p` (nats), of any shape.
        target: probabilities :math:`q`, or log-probabilities (nats) where ``log_target``, of the shape of ``input``.
        reduction: "none", "sum", "mean" or "batchmean". Only "batchmean", the sum divided by the size of the first
            dimension, is the divergence per sample; "mean" divides by the number of classes too.
        log_target: whether ``target`` holds log-probabilities.

    Returns:
        The loss in nats in the dtype of ``input`` (computed in float32 where that is a half precision): a scalar, or
        the shape of ``input`` where ``reduction`` is "none". A term is the difference of two logarithms: where they
        nearly agree, it is as exact as their rounding allows.

    Raises:
        TypeError: if ``input`` or ``target`` is not a floating-point tensor.
        ValueError: if the shapes differ or ``reduction`` is unknown.

    Example:
        >>> fair, loaded = torch.full((1, 6), 1 / 6), torch.tensor([[0.1, 0.1, 0.1, 0.1, 0.1, 0.5]])
        >>> kl_div(fair.log(), loaded, reduction="batchmean")
        tensor(0.2939)

    Reference:
        S. Kullback and R. A. Leibler, On Information and Sufficiency, Ann. Math. Stat. 22 (1951),
        https://doi.org/10.1214/aoms/1177729694.
    """
    if reduction not in ("none", "mean", "sum", "batchmean"):
        raise ValueError(f"reduction must be one of 'none', 'mean', 'sum', 'batchmean', got {reduction!r}")
    check_floating("input", input)
    check_floating("target", target)
    check_same_shape(input, target)
    log_probability = working_precision(input)
    target = target.to(log_probability.dtype)
    loss = _kl_of_logs(log_probability, target) if log_target else _kl_of_probabilities(log_probability, target)
    if reduction == "batchmean":
        return as_result((loss.sum() / (input.shape[0] if input.dim() else 1)), input.dtype)
    return as_result(reduce(loss, reduction), input.dtype)


def _kl_of_probabilities(log_probability, target):
    """Return target * (log(target) - log_probability), and 0 where target is 0."""
    never = target == 0
    if not any_true(never, unknown=True):
        return target * (target.log() - log_probability)
    # Not 0 * inf: the smallest float stands in for 0 in the logarithm, the lowest for -inf.
    limits = torch.finfo(target.dtype)
    log_probability = torch.where(never, log_probability.clamp(min=limits.min), log_probability)
    return target * (target.masked_fill(never, limits.tiny).log() - log_probability)


def _kl_of_logs(log_probability, target):
    """Return exp(target) * (target - log_probability), and 0 where target is -inf."""
    root = (target / 2).exp_()  # its square under- or overflows where the product need not
    never = target == -torch.inf
    if any_true(never, unknown=True):  # not 0 * inf
        lowest = torch.finfo(target.dtype).min
        log_probability = torch.where(never, log_probability.clamp(min=lowest), log_probability)
        target = target.masked_fill(never, 0.0)
    return root * (target - log_probability) * root


def js_divergence(input: torch.Tensor, target: torch.Tensor, *, reduction: str = "mean") -> torch.Tensor:
    r"""Jensen-Shannon divergence between two probability vectors: symmetric, and never more than ln 2.

    For probabilities :math:`p` and :math:`q`, their mean :math:`m = (p + q) / 2` and the Kullback-Leibler divergence D,

    .. math:: \ell = \tfrac12 D(p \,\|\, m) + \tfrac12 D(q \,\|\, m)
              = \sum_j \frac{m_j}{2} \bigl((1 + d_j) \ln(1 + d_j) + (1 - d_j) \ln(1 - d_j)\bigr),
              \qquad \frac{\partial\ell}{\partial p_j} = \tfrac12 \ln\frac{p_j}{m_j},

    where :math:`d = (p - q) / (p + q)`. The right-hand form is the one computed: none of its terms is negative, so
    vectors that nearly agree keep their small divergence. Where :math:`p_j = 0 < q_j` the derivative is
    :math:`-\infty`; the gradient there is that at the smallest float, which is finite.

    Args:
        input: probabilities, shape (..., C); the last dimension sums to 1.
        target: probabilities, of the shape of ``input``.
        reduction: "none", "sum" or "mean", over the pairs of vectors.

    Returns:
        The divergence in nats in the dtype of ``input`` (computed in float32 where that is a half precision): a
        scalar, or the shape of ``input`` without C where ``reduction`` is "none".

    Raises:
        TypeError: if ``input`` or ``target`` is not a floating-point tensor.
        ValueError: if the shapes differ, there is no last dimension, a probability is negative, a vector does not sum
            to 1 within 1 %, or ``reduction`` is unknown.

    Example:
        >>> js_divergence(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))  # nothing in common
        tensor(0.6931)

    Reference:
        J. Lin, Divergence Measures Based on the Shannon Entropy, IEEE Trans. Inf. Theory 37 (1991),
        https://doi.org/10.1109/18.61115.
    """
    check_reduction(reduction)
    _check_vectors("input", input)
    _check_vectors("target", target)
    check_same_shape(input, target)
    _check_probabilities("input", input)
    _check_probabilities("target", target)
    p = working_precision(input)
    q = target.to(p.dtype)
    return as_result(reduce(_JensenShannon.apply(p, q)[0], reduction), input.dtype)


class _JensenShannon(torch.autograd.Function):
    """The Jensen-Shannon divergence over the last dimension. Beside it comes log(p / m), for the backward pass."""

    generate_vmap_rule = True

    @staticmethod
    def forward(p, q):
        log_ratio, counterpart = _against_mean(p, q), _against_mean(q, p)
        far = p * log_ratio + q * counterpart
        total = p + q
        contrast = (p - q).div_(total.clamp(min=torch.finfo(p.dtype).tiny))
        # (1 + d) log(1 + d) + (1 - d) log(1 - d), regrouped so that the terms of first order, d - d, do not appear
        near = (counterpart.neg_() + log_ratio).mul_(contrast)
        is_far = _beyond(contrast, 0.5)
        near = near.add_((contrast * contrast).neg_().log1p_().clamp(min=-1)).mul_(total.div_(2))
        return torch.lerp(near, far, is_far).sum(-1).div_(2), log_ratio

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs, output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, gradient, _):
        if gradient is None:
            return None, None
        p, q, log_ratio = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be derived once more
            log_ratio = _against_mean(p, q)
        half = gradient.unsqueeze(-1) / 2
        return half * log_ratio, half * _against_mean(q, p) if ctx.needs_input_grad[1] else None


def _against_mean(p, q):
    """Return log(p / m), m the mean of p and q, to full relative precision: 0 where both are, finite where p is 0."""
    return -((q - p) / (2 * p.clamp(min=torch.finfo(p.dtype).tiny))).log1p()


def gaussian_kl(mean: torch.Tensor, log_variance: torch.Tensor, *, reduction: str = "mean") -> torch.Tensor:
    r"""Kullback-Leibler divergence of a diagonal Gaussian from the standard normal, as in a variational autoencoder.

    For means :math:`\mu` and log-variances :math:`v`, summed over the dimensions of the latent vector,

    .. math:: \ell = D\bigl(\mathcal N(\mu, e^v) \,\|\, \mathcal N(0, 1)\bigr)
              = \tfrac12 \sum_j \bigl(\mu_j^2 + e^{v_j} - 1 - v_j\bigr),
              \qquad \frac{\partial\ell}{\partial\mu_j} = \mu_j,
              \quad \frac{\partial\ell}{\partial v_j} = \tfrac12 \bigl(e^{v_j} - 1\bigr).

    Args:
        mean: the means, shape (..., D).
        log_variance: the logarithms of the variances, of the shape of ``mean``.
        reduction: "none", "sum" or "mean", over the vectors: the mean is per sample, not per dimension, so it adds to
            a reconstruction loss that is summed over the pixels of a sample and averaged over the samples.

    Returns:
        The divergence in nats in the dtype of ``mean`` (computed in float32 where that is a half precision): a scalar,
        or the shape of ``mean`` without D where ``reduction`` is "none".

    Raises:
        TypeError: if ``mean`` or ``log_variance`` is not a floating-point tensor.
        ValueError: if the shapes differ, there is no last dimension or ``reduction`` is unknown.

    Example:
        >>> gaussian_kl(torch.tensor([[1.0, -2.0]]), torch.zeros(1, 2))  # (1 + 4) / 2
        tensor(2.5000)

    Reference:
        D. P. Kingma and M. Welling, Auto-Encoding Variational Bayes (2014), appendix B,
        https://arxiv.org/abs/1312.6114.
    """
    check_reduction(reduction)
    _check_vectors("mean", mean)
    _check_vectors("log_variance", log_variance)
    if mean.shape != log_variance.shape:
        raise ValueError(
            "mean and log_variance must have the same shape, "
            f"got mean {tuple(mean.shape)} and log_variance {tuple(log_variance.shape)}"
        )
    mu = working_precision(mean)
    v = log_variance.to(mu.dtype)
    half_square = WithDerivative.apply(mu, lambda mu: (mu / 2).mul_(mu), lambda mu: mu)
    loss = torch.add(half_square, _excess(v), alpha=0.5).sum(-1)
    return as_result(reduce(loss, reduction), mean.dtype)


def distillation_loss(
    input: torch.Tensor,
    teacher: torch.Tensor,
    target: torch.Tensor,
    *,
    temperature: float = 4.0,
    weight: float = 0.9,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> torch.Tensor:
    r"""Distillation: learn from a teacher's softened probabilities and from the true classes.

    For logits :math:`z` of the student and :math:`t` of the teacher, the true class :math:`y`, the temperature
    :math:`\tau`, :math:`p = \operatorname{softmax}(z / \tau)` and :math:`q = \operatorname{softmax}(t / \tau)`,

    .. math:: \ell = w\,\tau^2 \sum_j q_j \ln\frac{q_j}{p_j} - (1 - w) \ln \operatorname{softmax}(z)_y,
              \qquad \frac{\partial\ell}{\partial z_j}
              = w\,\tau\,(p_j - q_j) + (1 - w) \bigl(\operatorname{softmax}(z)_j - [j = y]\bigr).

    Without :math:`\tau^2` the first gradient would vanish as :math:`1 / \tau^2`. With it, the first term tends to half
    the mean square of :math:`z - t`, each centred, as :math:`\tau \to \infty`; it is computed as
    :math:`\sum_j q_j \tau^2 (p_j / q_j - 1 - \ln(p_j / q_j))`, which is right up to that limit.

    Args:
        input: logits (nats) of the student, shape (C,), (N, C) or (N, C, d1, ..., dK).
        teacher: logits (nats) of the teacher, of the shape of ``input``. A gradient flows to them unless they are
            computed under ``torch.no_grad()``.
        target: class indices :math:`y` or class probabilities, as in ``cross_entropy``.
        temperature: :math:`\tau > 0`, which softens both distributions in the first term.
        weight: the share :math:`w`, in [0, 1], of the first term.
        ignore_index: class index whose rows count in neither term and get no gradient.
        reduction: "none", "sum" or "mean", over the rows that count.

    Returns:
        The loss in nats in the dtype of ``input`` (computed in float32 where that is a half precision): a scalar, or
        the shape of ``input`` without C where ``reduction`` is "none".

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if a shape, a class index, ``temperature``, ``weight`` or ``reduction`` does not fit.

    Example:
        >>> student, teacher = torch.zeros(1, 3), torch.tensor([[6.0, 3.0, 0.0]])
        >>> distillation_loss(student, teacher, torch.tensor([0]))
        tensor(2.4755)

    Reference:
        G. Hinton, O. Vinyals and J. Dean, Distilling the Knowledge in a Neural Network (2015),
        https://arxiv.org/abs/1503.02531.
    """
    check_reduction(reduction)
    check_floating("input", input)
    check_floating("teacher", teacher)
    if teacher.shape != input.shape:
        raise ValueError(
            "input and teacher must have the same shape, "
            f"got input {tuple(input.shape)} and teacher {tuple(teacher.shape)}"
        )
    check_number("temperature", temperature, lambda tau: 0.0 < tau < math.inf, "positive and finite")
    check_number("weight", weight, lambda w: 0.0 <= w <= 1.0, "between 0 and 1")
    class_dim = 0 if input.dim() == 1 else 1
    student = working_precision(input)
    # cross_entropy goes first, for it checks the target
    loss = cross_entropy(student, target, ignore_index=ignore_index, reduction="none")
    counts = None if target.is_floating_point() else target != ignore_index
    if weight > 0:  # 0 * inf would be NaN, and so below
        teacher = teacher.to(student.dtype)
        if counts is not None and any_true(~counts, unknown=True):  # the mask goes before the maths
            student = student.masked_fill(~counts.unsqueeze(class_dim), 0.0)
            teacher = teacher.masked_fill(~counts.unsqueeze(class_dim), 0.0)
        soft = weight * _softened_divergence(student, teacher, temperature, class_dim)
        loss = soft + (1 - weight) * loss if weight < 1 else soft
    if reduction == "mean" and counts is not None:
        return as_result((loss.sum() / counts.sum()), input.dtype)
    return as_result(reduce(loss, reduction), input.dtype)


def _softened_divergence(student, teacher, temperature, class_dim):
    """Return tau^2 KL(softmax(teacher / tau) || softmax(student / tau)) over the class dimension."""
    return _SoftenedDivergence.apply(student, teacher, temperature, class_dim)[0].squeeze(class_dim)


class _SoftenedDivergence(torch.autograd.Function):
    """The divergence of softened probabilities p of a student from q of a teacher, with the class dimension kept.

    Beside it comes p - q, to full relative precision, for the backward pass.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(student, teacher, temperature, class_dim):
        q, log_ratio, difference, near, is_far = _SoftenedDivergence.terms(student, teacher, temperature, class_dim)
        scaled = temperature * near
        agreement = (scaled / 2).mul_(scaled).mul_(_excess_series(near)).mul_(q)
        disagreement = (
            torch.addcmul(difference, q, log_ratio, value=-1).mul_(is_far).mul_(temperature).mul_(temperature)
        )
        return agreement.add_(disagreement).sum(class_dim, keepdim=True), difference

    @staticmethod
    def setup_context(ctx, inputs, output):
        student, teacher, ctx.temperature, ctx.class_dim = inputs
        ctx.save_for_backward(student, teacher, output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, gradient, _):
        if gradient is None:
            return None, None, None, None
        student, teacher, difference = ctx.saved_tensors
        if ctx.needs_input_grad[1] or torch.is_grad_enabled():  # then the gradient is to be derived once more
            q, log_ratio, difference, *_ = _SoftenedDivergence.terms(student, teacher, ctx.temperature, ctx.class_dim)
        gradient = ctx.temperature * gradient
        in_teacher = None
        if ctx.needs_input_grad[1]:
            # log_ratio minus its mean; measured from the likeliest class, which alone is the mean of a sure teacher
            relative = log_ratio - log_ratio.gather(ctx.class_dim, q.detach().argmax(ctx.class_dim, keepdim=True))
            in_teacher = -gradient * q * (relative - (q * relative).sum(ctx.class_dim, keepdim=True))
        return gradient * difference, in_teacher, None, None

    @staticmethod
    def terms(student, teacher, temperature, class_dim):
        """Return q, log p - log q, p - q, and the second once more, 0 where it is far from 0, and 1 there."""
        student_top, p, log_student_sum = _softmax(student, temperature, class_dim)
        teacher_top, q, log_teacher_sum = _softmax(teacher, temperature, class_dim)
        # the difference of the logits comes first, for it is exact where they nearly agree
        log_ratio = ((student - teacher) - (student_top - teacher_top)) / temperature
        log_ratio = log_ratio - (log_student_sum - log_teacher_sum)
        if any_true(q.detach().amin(class_dim) == 0, unknown=True):
            log_ratio = log_ratio.masked_fill(q == 0, 1.0)  # any number far from 0: 0 * inf would be NaN
        is_far = _beyond(log_ratio.detach(), 0.5)
        is_near = 1 - is_far
        far = is_far * (p - q)
        with torch.no_grad():  # the sum of p - q, 0 but for the rounding of the normalisers, corrects the logarithms
            near = log_ratio.clamp(-1, 1).mul_(is_near)
            correction = torch.addcmul(far, q, near.expm1_()).sum(class_dim, keepdim=True).log1p_()
        log_ratio = log_ratio - correction
        near = log_ratio.clamp(-1, 1) * is_near
        return q, log_ratio, torch.addcmul(far, q, near.expm1()), near, is_far


def _softmax(logits, temperature, class_dim):
    """Return the largest logit, softmax(logits / tau), and the log of the sum of exp((logits - largest) / tau)."""
    top = logits.detach().amax(class_dim, keepdim=True)
    odds = ((logits - top) / temperature).exp()
    total = odds.sum(class_dim, keepdim=True)
    return top, odds / total, total.log()


def _beyond(x, limit):
    """Return 1 where x is beyond the limit in either direction, else 0.

    As factors or weights, such numbers choose as torch.where does, but many times faster where the choice is irregular.
    """
    return (x - x.clamp(-limit, limit)).sign_().abs_()


def _excess(v):
    """Return e^v - 1 - v, whose definition would cancel where v is small."""

    def function(v):
        near = v.clamp(-0.5, 0.5)
        # e^(near + rest) - 1 - near - rest: of the rest, 0 where v is small, nothing cancels
        rest = v - near
        half = near / 2
        slope = half.mul_(_excess_series(near))  # (e^near - 1 - near) / near
        growth = torch.addcmul(near, near, slope).add_(1).mul_(rest.expm1())  # e^near (e^rest - 1)
        return near.mul_(slope).add_(growth.sub_(rest))

    return WithDerivative.apply(v, function, torch.expm1)


def _excess_series(u):
    """Return 2 (e^u - 1 - u) / u^2 = 1 + u/3 (1 + u/4 (1 + u/5 (...))) for u between -1/2 and 1/2."""
    one = u.new_ones(())
    series = torch.ones_like(u)
    for k in range(14 if u.dtype == torch.float64 else 9, 2, -1):  # the next term is below the rounding
        series = torch.addcmul(one, series, u, value=1 / k)
    return series


def _check_vectors(name, tensor):
    """Raise TypeError or ValueError unless ``tensor`` holds floating-point vectors along its last dimension."""
    check_floating(name, tensor)
    if tensor.dim() == 0:
        raise ValueError(f"{name} must hold vectors along its last dimension: shape (..., C), got a scalar")


def _check_probabilities(name, tensor):
    """Raise ValueError if an entry is negative or a vector does not sum to 1 within 1 %."""
    values = working_precision(tensor.detach())
    if any_true(values < 0):
        raise ValueError(f"{name} must hold probabilities, got {values.min().item():g}")
    total = values.sum(-1)
    if any_true((total - 1).abs() > 0.01):
        worst = total.flatten()[(total - 1).abs().argmax()].item()
        raise ValueError(f"{name} must sum to 1 over its last dimension (probabilities), got a sum of {worst:g}")
