"""Losses that learn an order: what was chosen, or is more relevant, should score higher."""

import torch

from lib.losses._common import (
    any_true,
    as_result,
    check_floating,
    check_real,
    check_reduction,
    check_same_shape,
    double_precision,
    reduce,
    rounded_off,
    softplus,
    working_precision,
)


def bpr_loss(input: torch.Tensor, target: torch.Tensor, *, reduction: str = "mean") -> torch.Tensor:
    r"""Bayesian personalised ranking: the chosen item should score higher than one that was not chosen.

    For the scores :math:`z_i` of the chosen item and :math:`z_j` of the other:

    .. math:: \ell = -\ln\sigma(z_i - z_j) = \ln(1 + e^{z_j - z_i}),
       \qquad \frac{\partial\ell}{\partial z_j} = -\frac{\partial\ell}{\partial z_i} = \sigma(z_j - z_i).

    Args:
        input: scores of the chosen items (log-odds, nats), shape (N,).
        target: scores of items that were not chosen, shape (N,) or, for K of them beside each chosen one, (N, K).
        reduction: "none", "sum" or "mean" (over all pairs; of no pairs it is NaN).

    Returns:
        The loss in nats in the dtype to which those of the two arguments promote (computed in float32 where that is a
        half precision): a scalar, or the shape of ``target`` where ``reduction`` is "none".

    Raises:
        TypeError: if an argument is not a floating-point tensor.
        ValueError: if a shape does not fit or ``reduction`` is unknown.

    Example:
        >>> chosen, not_chosen = torch.tensor([2.0, 0.5]), torch.tensor([[0.0, 2.0], [1.0, -3.0]])
        >>> bpr_loss(chosen, not_chosen, reduction="none")
        tensor([[0.1269, 0.6931],
                [0.9741, 0.0298]])

    Reference:
        S. Rendle, C. Freudenthaler, Z. Gantner and L. Schmidt-Thieme, BPR: Bayesian Personalized Ranking from Implicit
        Feedback, UAI 2009, https://arxiv.org/abs/1205.2618.
    """
    check_reduction(reduction)
    check_floating("input", input)
    check_floating("target", target)
    if input.dim() != 1 or target.dim() not in (1, 2) or target.shape[:1] != input.shape:
        raise ValueError(
            f"input must have shape (N,) and target (N,) or (N, K), got {tuple(input.shape)} and {tuple(target.shape)}"
        )
    chosen, other, dtype = _promoted(input, target)
    if other.dim() == 2:
        chosen = chosen.unsqueeze(1)
    deficit = other - chosen
    loss = softplus(deficit)
    if _rounding_shows(deficit):
        loss = loss + rounded_off(deficit.detach(), other.detach(), chosen.detach()) * deficit.sigmoid()
    return as_result(reduce(loss, reduction), dtype)


def sampled_softmax_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    *,
    input_log_q: torch.Tensor | None = None,
    target_log_q: torch.Tensor | None = None,
    accidental_hits: torch.Tensor | None = None,
    reduction: str = "mean",
) -> torch.Tensor:
    r"""Cross-entropy of the true item against a sample of the others, for catalogues too large for all of them.

    For the logit :math:`z_y` of the true item, the logits :math:`z_j` of :math:`K` sampled ones, and the counts
    :math:`c_y` and :math:`c_j` in which these items are expected in the sample:

    .. math:: \ell = \ln\Bigl(1 + \sum_j e^{d_j}\Bigr),
       \quad d_j = (z_j - \ln c_j) - (z_y - \ln c_y),
       \qquad \frac{\partial\ell}{\partial z_j} = \frac{e^{d_j}}{1 + \sum_k e^{d_k}},
       \quad \frac{\partial\ell}{\partial z_y} = -\sum_j \frac{\partial\ell}{\partial z_j}.

    The correction makes up for the sampler's taste. Where :math:`K` items are drawn from :math:`Q` over all items but
    the true one, and :math:`c_j = K\,Q(j)`, the expected :math:`\sum_j e^{z_j - \ln c_j}` is the sum of :math:`e^z`
    over all of them, and ``input_log_q`` is not given: the true item was not drawn. The loss itself, a concave function
    of an unbiased sum, is on average too small by an amount that vanishes as :math:`K` grows. Where the other rows'
    items are the sample (in-batch negatives), ``input`` is the diagonal of the scores, ``target`` all of them, the
    diagonal is an accidental hit, and both log-frequencies are subtracted; a factor common to all :math:`c` then
    cancels.

    Args:
        input: logits :math:`z_y` (nats) of the true items, shape (N,).
        target: logits :math:`z_j` (nats) of the sampled items, shape (N, K) with at least one sample.
        input_log_q: :math:`\ln c_y`, shape (N,). None: no correction.
        target_log_q: :math:`\ln c_j`, shape (K,) where all rows share the sample, else (N, K). None: no correction.
        accidental_hits: booleans, shape (N, K), True where a sample does not count, above all where it is the true
            item. None: all count. A row of hits only has loss 0.
        reduction: "none", "sum" or "mean" (over the rows; of no rows it is NaN).

    Returns:
        The loss in nats in the dtype to which those of ``input`` and ``target`` promote (computed in float32 where
        that is a half precision): a scalar, or shape (N,) where ``reduction`` is "none".

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if a shape does not fit, a logarithm is not finite or ``reduction`` is unknown.

    Example:
        >>> true, sampled = torch.zeros(1), torch.zeros(1, 9)  # nine items out of 1000, and no idea which
        >>> sampled_softmax_loss(true, sampled)  # ln 10
        tensor(2.3026)
        >>> sampled_softmax_loss(true, sampled, target_log_q=torch.full((9,), 9 / 999).log())  # ln 1000
        tensor(6.9078)

    Reference:
        Y. Bengio and J.-S. Senecal, Adaptive Importance Sampling to Accelerate Training of a Neural Probabilistic
        Language Model, IEEE Trans. Neural Netw. 19 (2008), https://doi.org/10.1109/TNN.2007.912312. Large
        vocabularies: Jean et al. 2015, https://arxiv.org/abs/1412.2007. In-batch negatives: Yi et al. 2019,
        https://doi.org/10.1145/3298689.3346996.
    """
    _check_samples(input, target, input_log_q, target_log_q, accidental_hits, reduction)
    truth, samples, dtype = _promoted(input, target)
    precision = samples.dtype
    if input_log_q is not None or target_log_q is not None:
        # Next to a score of 1e4, float32 has no room for log q.
        truth, samples = double_precision(truth), double_precision(samples)
    if input_log_q is not None:
        truth = truth - input_log_q.to(truth.dtype)
    if target_log_q is not None:
        samples = samples - target_log_q.to(samples.dtype)
    if accidental_hits is not None:
        samples = samples.masked_fill(accidental_hits, -torch.inf)
    # A true item that is ruled out, at -inf, must not reach the gradient as inf - inf; nor one at inf.
    ruled_out = truth == -torch.inf
    truth = truth.masked_fill(ruled_out, 0.0).clamp(max=torch.finfo(truth.dtype).max)
    # Measured from the highest score, not from the true one: what counts keeps its digits, however far that one is.
    top = torch.maximum(samples.detach().amax(1), truth.detach())
    own = truth.detach() - top
    shift = top + (truth - truth.detach())  # the derivative of each lead: that of a sample minus the true item
    odds, _ = _exponential(samples, shift.unsqueeze(1), precision)
    # log(e^own + sum) as log1p(expm1(own) + sum): where the truth leads, own is 0 and a small loss keeps its digits.
    loss = torch.log1p(torch.expm1(own) + odds.sum(1)) - own
    return as_result(reduce(loss.masked_fill(ruled_out, torch.inf), reduction), dtype)


def listwise_softmax_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    softmax_target: bool = True,
    reduction: str = "mean",
) -> torch.Tensor:
    r"""ListNet's loss: cross-entropy between the chances to be ranked first by relevance and by score.

    For the logits :math:`z` of the items of a list and their relevance grades :math:`y`, with
    :math:`p = \operatorname{softmax}(z)` and :math:`q = \operatorname{softmax}(y)`, the chances to be first:

    .. math:: \ell = -\sum_j q_j \ln p_j, \qquad \frac{\partial\ell}{\partial z_j} = p_j - q_j.

    Its least value is the entropy of :math:`q`, not 0. Where the two probabilities nearly agree, the gradient is as
    exact as their rounding allows.

    Args:
        input: logits :math:`z` (nats), the scores, shape (..., L): lists of L places.
        target: relevances :math:`y`, floats or integers in the shape of ``input``: grades (nats) or, where not
            ``softmax_target``, non-negative amounts such as clicks. They get no gradient.
        mask: booleans in the shape of ``input``, True where there is an item. Places without one do not count,
            whatever they hold, and get no gradient. None: every place has an item.
        softmax_target: whether the target is grades, as in ListNet: :math:`q = \operatorname{softmax}(y)`. Otherwise
            :math:`q_j = y_j / \sum_k y_k`, so that an item of no relevance has no chance to be first.
        reduction: "none", "sum" or "mean". The mean divides by the number of lists that count; a list without items,
            or without any relevance where not ``softmax_target``, has loss 0 and does not. Of no lists it is NaN.

    Returns:
        The loss in nats in the dtype of ``input`` (computed in float32 where that is a half precision): a scalar, or
        the shape of ``input`` without L where ``reduction`` is "none".

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if a shape does not fit, a relevance is negative or NaN where not ``softmax_target``, or
            ``reduction`` is unknown.

    Example:
        >>> scores, grades = torch.zeros(1, 3), torch.tensor([[2.0, 1.0, 0.0]])
        >>> listwise_softmax_loss(scores, grades)  # ln 3: no opinion
        tensor(1.0986)
        >>> listwise_softmax_loss(scores, grades, mask=torch.tensor([[True, True, False]]))  # ln 2
        tensor(0.6931)

    Reference:
        Z. Cao, T. Qin, T.-Y. Liu, M.-F. Tsai and H. Li, Learning to Rank: From Pairwise Approach to Listwise Approach,
        ICML 2007, https://doi.org/10.1145/1273496.1273513. Shares in place of grades: Bruch et al. 2019,
        https://doi.org/10.1145/3341981.3344221.
    """
    _check_lists(input, target, mask, softmax_target, reduction)
    scores = working_precision(input)
    relevance = target.detach().to(scores.dtype)  # a fact, not a result: it gets no gradient
    if mask is not None:  # before the maths: padding may hold anything
        nobody = ~mask.any(-1, keepdim=True)
        scores = scores.masked_fill(~mask, -torch.inf).masked_fill(nobody, 0.0)
        relevance = relevance.masked_fill(~mask, -torch.inf if softmax_target else 0.0).masked_fill(nobody, 0.0)
    # The root of q rather than q: next to a score of -1e30 even a chance of e^-100 counts.
    root = _odds(relevance / 2)[0] if softmax_target else _relative(relevance).sqrt()
    norm = root.norm(dim=-1)
    counts = norm != 0 if mask is None else (norm != 0) & mask.any(-1)
    root = root / norm.masked_fill(~counts, 1.0).unsqueeze(-1)
    odds, shifted = _odds(scores)
    if any_true(shifted.detach().amin(-1) == -torch.inf, unknown=True):
        # Two scores may be further apart than a float can hold; half of that can be held. And an item that is ruled
        # out (score -inf) and never first (probability 0) costs nothing, not 0 * inf.
        half = (scores / 2 - scores.detach().amax(-1, keepdim=True) / 2).masked_fill(root == 0, 0.0)
        expected = 2 * (root * half * root).sum(-1)
    else:
        expected = (root * shifted * root).sum(-1)
    loss = (_log_of_sum(odds, shifted) - expected).masked_fill(~counts, 0.0)
    if reduction == "mean":
        loss = loss.sum() / counts.sum()
    elif reduction == "sum":
        loss = loss.sum()
    return as_result(loss, input.dtype)


def _odds(scores):
    """Return the odds of each item against the highest of its list, and their logarithms."""
    return _exponential(scores, scores.detach().amax(-1, keepdim=True), scores.dtype)


def _relative(amounts):
    """Return non-negative amounts as multiples of the largest of their list, so that their squares can be summed."""
    largest = amounts.amax(-1, keepdim=True)
    return amounts / largest.masked_fill(largest == 0, 1.0)


def _log_of_sum(odds, shifted):
    """Return log(1 + the odds of all but the highest); where that is small, without adding the 1 first."""
    total = odds.sum(-1)
    if not any_true(total < 1.1, unknown=True):
        return total.log()
    place = shifted.argmax(-1, keepdim=True)
    others = odds.scatter(-1, place, 0.0).sum(-1)
    # The highest itself adds expm1(0) = 0, and its derivative.
    return torch.log1p(others + shifted.gather(-1, place).squeeze(-1).expm1())


def _rounding_shows(exponent):
    """Return whether the rounding of any exponent shows in its exponential.

    It does in float32 below -16, and no more below -104, where the exponential is 0.
    """
    exponent = exponent.detach()
    if exponent.dtype == torch.float64 or exponent.numel() == 0:
        return False
    return any_true(exponent.amin() < -16, unknown=True) and any_true((exponent + 60).abs().amin() < 44, unknown=True)


def _exponential(a, b, dtype):
    """Return the exponential of a - b in ``dtype`` as if nothing had been rounded before it, and the exponent."""
    difference = a - b
    exponent = difference.to(dtype)
    power = exponent.exp()
    if _rounding_shows(exponent):
        difference = difference.detach()
        rest = rounded_off(difference, a.detach(), b.detach()) + (difference - exponent.detach())
        power = power * (1 + rest.nan_to_num(nan=0.0).to(dtype))
    return power, exponent


def _promoted(input, target):
    """Return both scores in the precision in which to compute, and the dtype of the result."""
    dtype = torch.promote_types(input.dtype, target.dtype)
    return working_precision(input.to(dtype)), working_precision(target.to(dtype)), dtype


def _check_samples(input, target, input_log_q, target_log_q, accidental_hits, reduction):
    """Raise TypeError or ValueError unless each row has a true score, sampled ones, and what else is given of them."""
    check_reduction(reduction)
    check_floating("input", input)
    check_floating("target", target)
    if input.dim() != 1 or target.dim() != 2 or target.shape[0] != input.shape[0] or target.shape[1] == 0:
        raise ValueError(
            "input must have shape (N,) and target (N, K) with at least one sample, "
            f"got {tuple(input.shape)} and {tuple(target.shape)}"
        )
    if input_log_q is not None:
        _check_log_q("input_log_q", input_log_q, [input.shape])
    if target_log_q is not None:
        _check_log_q("target_log_q", target_log_q, [target.shape[1:], target.shape])
    if accidental_hits is not None:
        _check_mask("accidental_hits", accidental_hits, target.shape)


def _check_log_q(name, log_q, shapes):
    """Raise TypeError or ValueError unless ``log_q`` holds finite logarithms in one of the shapes."""
    check_floating(name, log_q)
    if log_q.shape not in shapes:
        wanted = " or ".join(str(tuple(shape)) for shape in shapes)
        raise ValueError(f"{name} must have shape {wanted}, got {tuple(log_q.shape)}")
    if any_true(~log_q.isfinite()):
        raise ValueError(f"{name} must be finite, got {log_q[~log_q.isfinite()][0].item()}")


def _check_lists(input, target, mask, softmax_target, reduction):
    """Raise TypeError or ValueError unless each place of each list has a score and a relevance."""
    check_reduction(reduction)
    check_floating("input", input)
    check_real("target", target)
    check_same_shape(input, target)
    if input.dim() == 0 or input.shape[-1] == 0:
        raise ValueError(f"input must have shape (..., L) with at least one place, got {tuple(input.shape)}")
    if mask is not None:
        _check_mask("mask", mask, input.shape)
    if not isinstance(softmax_target, bool):
        raise TypeError(f"softmax_target must be True or False, got {softmax_target!r}")
    if not softmax_target:
        wrong = ~(target >= 0) if mask is None else ~(target >= 0) & mask
        if any_true(wrong):
            raise ValueError(f"without softmax, relevances must be at least 0, got {target[wrong][0].item()}")


def _check_mask(name, mask, shape):
    """Raise TypeError or ValueError unless ``mask`` holds a boolean for each entry."""
    if not isinstance(mask, torch.Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(mask).__name__}")
    if mask.dtype != torch.bool:
        raise TypeError(f"{name} must hold booleans, got {mask.dtype}")
    if mask.shape != shape:
        raise ValueError(f"{name} must have shape {tuple(shape)}, got {tuple(mask.shape)}")
