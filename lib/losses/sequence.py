"""Losses over sequences: one label for each token, or labels of which nobody says where they are."""

from collections.abc import Sequence

import torch

from lib.losses._common import (
    any_true,
    as_result,
    check_class_indices,
    check_floating,
    check_integer,
    check_integers,
    check_reduction,
    double_precision,
    reduce,
    working_precision,
)
from lib.losses.classification import cross_entropy

Lengths = torch.Tensor | Sequence[int]


def sequence_cross_entropy(
    input: torch.Tensor,
    target: torch.Tensor,
    *,
    lengths: Lengths | None = None,
    padding_index: int = -100,
    label_smoothing: float = 0.0,
    average: str = "token",
    reduction: str = "mean",
) -> torch.Tensor:
    r"""Cross-entropy of every token of a padded batch of sequences.

    For the logits :math:`z_{nt}` of token t of sequence n and its true class :math:`y_{nt}`:

    .. math:: \ell_{nt} = -\ln\operatorname{softmax}(z_{nt})_{y_{nt}},
       \qquad \frac{\partial\ell_{nt}}{\partial z_{ntj}} = \operatorname{softmax}(z_{nt})_j - [j = y_{nt}].

    Padding has loss 0, gets no gradient and is not counted: however long the batch is padded, nothing changes.

    Args:
        input: logits (nats), shape (N, T, C).
        target: class indices in [0, C), shape (N, T); anything beyond the length of a sequence.
        lengths: how many tokens each sequence has, N integers in [0, T], as a tensor, an array or a list. None: T
            each.
        padding_index: the target of tokens that do not count, wherever they are; ``cross_entropy`` calls it
            ``ignore_index``.
        label_smoothing: the share, in [0, 1], of the target that is spread evenly over all classes.
        average: what "mean" is the mean of. "token": of all tokens that count, so long sequences weigh more, and
            batches of one size in sequences may differ in weight. "sequence": of the means of the sequences, each
            over its own tokens; a sequence without any does not count.
        reduction: "none", "sum" (over all tokens) or "mean" (of nothing it is NaN).

    Returns:
        The loss in nats in the dtype of ``input`` (computed in float32 where that is a half precision): a scalar, or
        shape (N, T) where ``reduction`` is "none".

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if a shape, a length, a class index, ``label_smoothing``, ``average`` or ``reduction`` does not
            fit.

    Example:
        >>> logits = torch.zeros(2, 3, 10)  # ten classes, and no idea which
        >>> target = torch.tensor([[3, 1, 4], [1, 0, 0]])
        >>> sequence_cross_entropy(logits, target, lengths=[3, 1], reduction="none")
        tensor([[2.3026, 2.3026, 2.3026],
                [2.3026, 0.0000, 0.0000]])
        >>> sequence_cross_entropy(logits, target, lengths=[3, 1])  # over four tokens
        tensor(2.3026)

    Reference:
        I. Sutskever, O. Vinyals and Q. V. Le, Sequence to Sequence Learning with Neural Networks, NIPS 2014,
        https://arxiv.org/abs/1409.3215.
    """
    _check_tokens(input, target, padding_index, average, reduction)
    samples, steps, classes = input.shape
    target = target.long()  # in a narrow dtype, the padding index could wrap around to a class
    counts = target != padding_index
    if lengths is not None:
        lengths = _lengths("lengths", lengths, samples, steps, input.device)
        counts = counts & (torch.arange(steps, device=input.device) < lengths.unsqueeze(1))
        target = target.masked_fill(~counts, padding_index)
    # Working precision: with half-precision tokens, the mean of a sequence is rounded once.
    loss = cross_entropy(
        working_precision(input).reshape(-1, classes),
        target.reshape(-1),
        ignore_index=padding_index,
        label_smoothing=label_smoothing,
        reduction="none",
    ).reshape(samples, steps)
    if reduction == "sum":
        loss = loss.sum()
    elif reduction == "mean" and average == "token":
        loss = loss.sum() / counts.sum()
    elif reduction == "mean":
        tokens = counts.sum(1)
        loss = (loss.sum(1) / tokens.clamp(min=1)).sum() / (tokens > 0).sum()
    return as_result(loss, input.dtype)


def ctc_loss(
    log_probs: torch.Tensor,
    targets: torch.Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    *,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> torch.Tensor:
    r"""Connectionist temporal classification: the labels are known, the frames they belong to are not.

    An alignment :math:`\pi` gives each of the T frames a label or the blank; it spells the target if the target is
    left after merging repeats and then removing blanks. The probability of the target is the sum over all of them:

    .. math:: \ell = -\ln \sum_{\pi \text{ spells } y} \prod_t p_t(\pi_t),
              \qquad \frac{\partial\ell}{\partial \ln p_t(k)} = -P(\pi_t = k \mid y).

    The sum runs over the states of :math:`\varnothing\, y_1 \varnothing\, y_2 \dots y_S \varnothing`: from one frame to
    the next an alignment stays, takes one step, or skips a blank between two different labels.

    The gradient is the derivative of the value. torch's adds :math:`p_t(k)` to it, which is right only if ``log_probs``
    come out of ``log_softmax``; behind it both give the logits the same gradient.

    Args:
        log_probs: log-probabilities (nats), shape (T, N, C), or (T, C) for one sequence.
        targets: class indices without the blank, integers of shape (N, S), anything beyond the length of a target, or
            all of them one after the other, shape (sum of ``target_lengths``,).
        input_lengths: how many frames each sequence has, N integers in [0, T], as a tensor, an array or a list.
        target_lengths: how many labels each target has, N integers, as a tensor, an array or a list.
        blank: the class that stands for no label.
        reduction: "none", "sum" or "mean". The mean divides the loss of each sequence by the length of its target (an
            empty one by 1), then by N; of no sequences it is NaN.
        zero_infinity: whether a target that has no alignment, because there are too few frames or because all are ruled
            out by log-probabilities of -inf, costs 0 instead of infinity. Its gradient is 0 in both cases; torch's is
            NaN where the loss is infinite.

    Returns:
        The loss in nats in the dtype of ``log_probs``: a scalar, or shape (N,) where ``reduction`` is "none" (a scalar
        for one sequence). It is computed in float64, because next to the log-probability of a long alignment the
        difference between two of them is small.

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if a shape, a length, a class index, ``blank`` or ``reduction`` does not fit.

    Example:
        >>> log_probs = torch.full((3, 1, 2), 0.5).log()  # three frames, one label and the blank
        >>> ctc_loss(log_probs, torch.tensor([[1]]), [3], [1])  # 6 of 8 alignments: ln(8 / 6)
        tensor(0.2877)
        >>> ctc_loss(log_probs, torch.tensor([[1, 1]]), [3], [2], reduction="sum")  # 1 of 8, label blank label
        tensor(2.0794)

    Reference:
        A. Graves, S. Fernandez, F. Gomez and J. Schmidhuber, Connectionist Temporal Classification: Labelling
        Unsegmented Sequence Data with Recurrent Neural Networks, ICML 2006, https://doi.org/10.1145/1143844.1143891.
    """
    _check_frames(log_probs, targets, blank, reduction, zero_infinity)
    frames = working_precision(log_probs if log_probs.dim() == 3 else log_probs.unsqueeze(1))
    steps, samples, classes = frames.shape
    input_lengths = _lengths("input_lengths", input_lengths, samples, steps, frames.device)
    longest = targets.shape[1] if targets.dim() == 2 else targets.numel()
    target_lengths = _lengths("target_lengths", target_lengths, samples, longest, frames.device)
    labels = _labels(targets.to(frames.device), target_lengths, classes, blank)
    before_each = torch.stack([torch.full_like(labels, blank), labels], 2).flatten(1)
    states = torch.nn.functional.pad(before_each, (0, 1), value=blank)
    loss, _ = _AlignmentLoss.apply(frames, states, input_lengths, target_lengths)
    if zero_infinity:
        loss = loss.masked_fill(loss == torch.inf, 0.0)
    if reduction == "mean":
        loss = loss / target_lengths.clamp(min=1)
    loss = loss if log_probs.dim() == 3 else loss.squeeze(0)
    return as_result(reduce(loss, reduction), log_probs.dtype)


class _AlignmentLoss(torch.autograd.Function):
    """The negative log of the sum over all alignments, by the forward algorithm; by the backward one, its gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(log_probs, states, input_lengths, target_lengths):
        emissions = _emissions(log_probs, states, input_lengths)
        alphas = _alphas(emissions, _barriers(states, emissions))
        at_end = alphas[input_lengths, torch.arange(len(states), device=alphas.device)]
        total = (at_end + _ends(states, target_lengths, alphas)).logsumexp(1)
        # In the dtype of the recursion: there, infinity says that there is no alignment, not that one is very unlikely.
        return (-total).masked_fill(total < _impossible(total.dtype) / 2, torch.inf), alphas

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs, *output)

    @staticmethod
    def backward(ctx, gradient, _):
        log_probs, states, input_lengths, target_lengths, loss, alphas = ctx.saved_tensors
        emissions = _emissions(log_probs, states, input_lengths)
        barriers = _barriers(states, emissions)
        if torch.is_grad_enabled():  # a second derivative is wanted, and the saved ones do not remember their origin
            alphas = _alphas(emissions, barriers)
        betas = _betas(emissions, barriers, _ends(states, target_lengths, alphas), input_lengths)
        counts = _inside(input_lengths, len(log_probs)) & (loss != torch.inf)
        posterior = (alphas[1:] + betas[1:]).softmax(2) * counts.unsqueeze(2)
        # Summed over the states of each class: all blanks first, then the labels.
        parts = torch.cat([posterior[..., ::2].sum(2, keepdim=True), posterior[..., 1::2]], 2).to(log_probs.dtype)
        index = torch.cat([states[:, :1], states[:, 1::2]], 1).expand_as(parts)
        slope = torch.zeros_like(log_probs).scatter_add(2, index, -parts)
        return gradient.to(slope.dtype).unsqueeze(1) * slope, None, None, None


def _inside(lengths, steps):
    """Return which of ``steps`` frames each sequence has, shape (T, N)."""
    return torch.arange(steps, device=lengths.device).unsqueeze(1) < lengths


def _emissions(log_probs, states, input_lengths):
    """Return the log-probability with which each frame emits the class of each state, shape (T, N, 2S + 1)."""
    emissions = double_precision(log_probs.gather(2, states.expand(len(log_probs), *states.shape)))
    beyond = ~_inside(input_lengths, len(log_probs)).unsqueeze(2)  # there may be anything
    return emissions.clamp(min=_impossible(emissions.dtype)).masked_fill(beyond, 0.0)


def _barriers(states, like):
    """Return what it costs to skip into each state: 0 from one label to a different one, else it is impossible."""
    allowed = torch.zeros_like(states, dtype=torch.bool)
    allowed[:, 2:] = states[:, 2:] != states[:, :-2]
    return like.new_zeros(states.shape).masked_fill(~allowed, _impossible(like.dtype))


def _ends(states, target_lengths, like):
    """Return what it costs to end in each state: 0 in the last label and the blank behind it, else it is impossible."""
    state = torch.arange(states.shape[1], device=states.device)
    last = 2 * target_lengths.unsqueeze(1)
    allowed = (state == last) | (state == last - 1)
    return like.new_zeros(states.shape).masked_fill(~allowed, _impossible(like.dtype))


def _alphas(emissions, barriers):
    """Return the log-probability of each state, summed over all ways into it: before any frame, after the first, ..."""
    alpha = torch.full_like(barriers, _impossible(barriers.dtype))
    alpha[:, 0] = 0.0  # from the first blank, the first frame stays there or steps to the first label
    alphas = [alpha]
    for emission in emissions:
        before = torch.nn.functional.pad(alphas[-1], (2, 0), value=_impossible(barriers.dtype))
        stay, step, skip = before[:, 2:], before[:, 1:-1], before[:, :-2] + barriers
        alphas.append(torch.logaddexp(torch.logaddexp(stay, step), skip) + emission)
    return torch.stack(alphas)


def _betas(emissions, barriers, ends, input_lengths):
    """Return the log-probability, from each state, of all that is still to come, at the same times as ``_alphas``."""
    betas = [ends]
    for time in range(len(emissions) - 1, -1, -1):
        arrival = betas[-1] + emissions[time]
        after = torch.nn.functional.pad(arrival, (0, 2), value=_impossible(barriers.dtype))
        skips = torch.nn.functional.pad(arrival + barriers, (0, 2), value=_impossible(barriers.dtype))
        beta = torch.logaddexp(torch.logaddexp(after[:, :-2], after[:, 1:-1]), skips[:, 2:])
        betas.append(torch.where((time < input_lengths).unsqueeze(1), beta, ends))
    return torch.stack(betas[::-1])


def _impossible(dtype):
    """Return the log-probability of what cannot be: finite, so that nothing becomes NaN, also as a sum over frames."""
    return torch.finfo(dtype).min / 2**30


def _labels(targets, target_lengths, classes, blank):
    """Return the class indices, shape (N, S), with the blank beyond the length of a target."""
    if targets.dim() == 1:
        if any_true(target_lengths.sum() != targets.numel()):
            raise ValueError(
                f"targets in one row must hold the sum of target_lengths ({target_lengths.sum().item()}) labels, "
                f"got {targets.numel()}"
            )
        first = target_lengths.cumsum(0) - target_lengths
        place = torch.arange(_longest(target_lengths, targets.numel()), device=targets.device)
        targets = targets[(first.unsqueeze(1) + place).clamp(max=targets.numel() - 1)]
    beyond = torch.arange(targets.shape[1], device=targets.device) >= target_lengths.unsqueeze(1)
    labels = targets.long()
    check_class_indices(labels.masked_fill(beyond, 0), classes)
    if any_true((labels == blank) & ~beyond):
        raise ValueError(f"targets must not hold the blank ({blank}): it stands between labels, not for one")
    return labels.masked_fill(beyond, blank)


def _longest(lengths, total):
    """Return the greatest length, or the sum of all where values cannot be read: when compiling, and under vmap."""
    if torch.compiler.is_compiling() or lengths.numel() == 0:
        return total
    try:
        return int(lengths.max())
    except RuntimeError:
        return total


def _lengths(name, lengths, samples, longest, device):
    """Return the lengths as a tensor of shape (N,); raise unless they are N integers in [0, longest]."""
    if not isinstance(lengths, torch.Tensor):
        lengths = _as_tensor(name, lengths)
    check_integers(name, lengths, "lengths")
    if lengths.numel() != samples:
        raise ValueError(f"{name} must hold {samples} lengths, one for each sequence, got {lengths.numel()}")
    lengths = lengths.reshape(-1).long().to(device)
    wrong = (lengths < 0) | (lengths > longest)
    if any_true(wrong):
        raise ValueError(f"{name} must be in [0, {longest}], got {lengths[wrong][0].item()}")
    return lengths


def _as_tensor(name, lengths):
    """Return a list, an array or another sequence of numbers as a tensor; raise TypeError for anything else."""
    numbers = lengths.tolist() if hasattr(lengths, "tolist") else lengths
    try:
        if isinstance(numbers, Sequence):
            return torch.tensor(list(numbers)) if numbers else torch.zeros(0, dtype=torch.long)
    except (TypeError, ValueError, RuntimeError):  # what torch says of them depends on what they hold
        pass
    raise TypeError(f"{name} must be a tensor, an array or a list of integers, got {lengths!r}")


def _check_tokens(input, target, padding_index, average, reduction):
    """Raise TypeError or ValueError unless ``target`` holds a class index for each token of ``input``."""
    check_reduction(reduction)
    if average not in ("token", "sequence"):
        raise ValueError(f"average must be 'token' or 'sequence', got {average!r}")
    check_floating("input", input)
    check_integers("target", target, "class indices")
    check_integer("padding_index", padding_index)
    if input.dim() != 3 or target.shape != input.shape[:2] or input.shape[2] == 0:
        raise ValueError(
            "input must have shape (N, T, C) with at least one class and target (N, T), "
            f"got {tuple(input.shape)} and {tuple(target.shape)}"
        )


def _check_frames(log_probs, targets, blank, reduction, zero_infinity):
    """Raise TypeError or ValueError unless there are log-probabilities, class indices and a blank."""
    check_reduction(reduction)
    check_floating("log_probs", log_probs)
    check_integers("targets", targets, "class indices")
    if not isinstance(zero_infinity, bool):
        raise TypeError(f"zero_infinity must be True or False, got {zero_infinity!r}")
    if log_probs.dim() not in (2, 3) or log_probs.shape[-1] == 0:
        raise ValueError(
            f"log_probs must have shape (T, N, C) or (T, C) with at least one class, got {tuple(log_probs.shape)}"
        )
    samples = log_probs.shape[1] if log_probs.dim() == 3 else 1
    if targets.dim() not in (1, 2) or (targets.dim() == 2 and targets.shape[0] != samples):
        raise ValueError(
            f"targets for {samples} sequences must have shape ({samples}, S) or (sum of target_lengths,), "
            f"got {tuple(targets.shape)}"
        )
    check_integer("blank", blank)
    if not 0 <= blank < log_probs.shape[-1]:
        raise ValueError(f"blank must be a class index in [0, {log_probs.shape[-1]}), got {blank}")
