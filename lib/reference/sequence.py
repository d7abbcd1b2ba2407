"""Losses over sequences, in NumPy: the twins of ``lib.losses.sequence``."""

import numpy as np


def sequence_cross_entropy(input, target, *, lengths=None, padding_index=-100, label_smoothing=0.0):
    r"""Return :math:`-\sum_j q_j \ln \operatorname{softmax}(z)_j` of each token, (N, T); 0 for padding.

    The target :math:`q` is the true class, of which label smoothing spreads a share over all classes.
    """
    log_share, target_share, counts = _tokens(input, target, lengths, padding_index, label_smoothing)
    return np.where(counts, -(target_share * log_share).sum(-1), 0.0)


def sequence_cross_entropy_grad(input, target, *, lengths=None, padding_index=-100, label_smoothing=0.0):
    r"""Return :math:`\operatorname{softmax}(z) - q`, (N, T, C); 0 for padding."""
    log_share, target_share, counts = _tokens(input, target, lengths, padding_index, label_smoothing)
    return np.where(counts[..., None], np.exp(log_share) - target_share, 0.0)


def ctc_loss(log_probs, targets, input_lengths, target_lengths, *, blank=0, zero_infinity=False):
    r"""Return :math:`-\ln` of the summed probability of all alignments of each target (N, S) to (T, N, C), (N,)."""
    alignments = _alignments(log_probs, targets, input_lengths, target_lengths, blank)
    losses = -np.array([total for _, _, _, total in alignments])
    return np.where(np.isinf(losses), 0.0, losses) if zero_infinity else losses


def ctc_loss_grad(log_probs, targets, input_lengths, target_lengths, *, blank=0, zero_infinity=False):
    r"""Return minus the posterior :math:`P(\pi_t = k \mid y)`, (T, N, C); 0 where there is no alignment."""
    gradient = np.zeros(np.shape(log_probs))
    alignments = _alignments(log_probs, targets, input_lengths, target_lengths, blank)
    for n, (states, alphas, betas, total) in enumerate(alignments):
        if total == -np.inf:
            continue
        for t, passing in enumerate(np.add(alphas, betas)[1:]):
            np.subtract.at(gradient[t, n], states, np.exp(passing - np.logaddexp.reduce(passing)))
    return gradient


def _tokens(input, target, lengths, padding_index, label_smoothing):
    """Return the log-softmax of the logits, the smoothed targets, and which tokens count."""
    logits, target = np.asarray(input, dtype=np.float64), np.asarray(target)
    samples, steps, classes = logits.shape
    counts = target != padding_index
    if lengths is not None:
        counts &= np.arange(steps) < np.reshape(lengths, (samples, 1))
    one_hot = np.eye(classes)[np.where(counts, target, 0)]
    shifted = logits - logits.max(-1, keepdims=True)
    log_share = shifted - np.logaddexp.reduce(shifted, axis=-1, keepdims=True)
    return log_share, (1 - label_smoothing) * one_hot + label_smoothing / classes, counts


def _alignments(log_probs, targets, input_lengths, target_lengths, blank):
    """Yield for each sequence its states (blank, label, blank, ...), alphas, betas and the log of the sum over all."""
    for n, (frames, labels) in enumerate(zip(input_lengths, target_lengths, strict=True)):
        states = np.full(2 * labels + 1, blank)
        states[1::2] = targets[n][:labels]
        emissions = np.asarray(log_probs, dtype=np.float64)[:frames, n][:, states]
        may_skip = np.zeros(len(states), dtype=bool)
        may_skip[2:] = states[2:] != states[:-2]
        start, end = np.full(len(states), -np.inf), np.full(len(states), -np.inf)
        start[0], end[-2:] = 0.0, 0.0
        alphas, betas = [start], [end]
        for emission in emissions:
            alphas.append(_arrive(alphas[-1], may_skip) + emission)
        for emission in emissions[::-1]:
            betas.append(_depart(betas[-1] + emission, may_skip))
        yield states, alphas, betas[::-1], np.logaddexp.reduce(alphas[-1] + end)


def _arrive(before, may_skip):
    """Return the log of the summed chances to come into each state: to stay, to step or to skip a blank."""
    step, skip = _shift(before, 1), np.where(may_skip, _shift(before, 2), -np.inf)
    return np.logaddexp(np.logaddexp(before, step), skip)


def _depart(after, may_skip):
    """Return the log of the summed chances of all that follows each state: the transpose of ``_arrive``."""
    step, skip = _shift(after[::-1], 1)[::-1], _shift(np.where(may_skip, after, -np.inf)[::-1], 2)[::-1]
    return np.logaddexp(np.logaddexp(after, step), skip)


def _shift(x, places):
    """Return the array moved to the right, with minus infinity where nothing comes from."""
    return np.concatenate([np.full(places, -np.inf), x])[: len(x)]
