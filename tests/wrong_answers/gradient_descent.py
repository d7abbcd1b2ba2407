"""Typical wrong answers to the exercises on gradient descent, each with words of the property that should name it."""

import torch


def bound(inputs, penalty, factor=2.0, pick=-1):
    rows, columns = inputs.shape
    hessian = 2 * inputs.T @ inputs / rows + 2 * penalty * torch.eye(columns, dtype=inputs.dtype)
    return factor / torch.linalg.eigvalsh(hessian)[pick]


def largest(inputs):
    return torch.linalg.eigvalsh(inputs.T @ inputs)[-1]


def rolled(curvatures, start, lr, momentum, steps, summed, sign=-1, look_ahead=False):
    path, memory = [start], torch.zeros_like(start)
    for _ in range(steps):
        gradient = curvatures * path[-1]
        memory = summed(memory, gradient, momentum)
        path.append(path[-1] + sign * lr * (gradient + momentum * memory if look_ahead else memory))
    return torch.stack(path)


def last_two_gradients(curvatures, start, lr, momentum, steps):
    path, before = [start], torch.zeros_like(start)
    for _ in range(steps):
        gradient = curvatures * path[-1]
        path.append(path[-1] - lr * (gradient + momentum * before))
        before = gradient
    return torch.stack(path)


def adamw(start, gradients, lr, decay, *, sign=-1, correct=True, l2=False, rate=True, shared=False, last=False):
    path, mean, square = [start], torch.zeros_like(start), torch.zeros_like(start)
    for n, gradient in enumerate(gradients, start=1):
        gradient = gradient + decay * path[-1] if l2 else gradient
        mean = 0.9 * mean + 0.1 * gradient
        squared = gradient**2
        square = 0.999 * square + 0.001 * (squared.mean() if shared else squared)
        first, second = (mean / (1 - 0.9**n), square / (1 - 0.999**n)) if correct else (mean, square)
        kept = 1 - (0 if l2 else decay * (lr if rate else 1))
        step = sign * lr * first / (second.sqrt() + 1e-8)
        path.append((path[-1] + step) * kept if last else path[-1] * kept + step)
    return torch.stack(path)


WRONG = {
    "learning_rate_bound": {
        "sign: penalty subtracted": (lambda x, p: bound(x, -p), "above 0"),
        "factor: 1 over the curvature": (lambda x, p: bound(x, p, factor=1.0), "single feature"),
        "factor: sum for mean": (lambda x, p: 2 / (2 * largest(x) + 2 * p), "twice"),
        "factor: half the penalty": (lambda x, p: 2 / (2 * largest(x) / len(x) + p), "single feature"),
        "factor: penalty forgotten": (lambda x, p: 2 / (2 * largest(x) / len(x)), "single feature"),
        "factor: singular value not squared": (
            lambda x, p: 2 / (2 * torch.linalg.matrix_norm(x, 2) / len(x) ** 0.5 + 2 * p),
            "ten times as large",
        ),
        "axis: divided by the features": (lambda x, p: 2 / (2 * largest(x) / x.shape[1] + 2 * p), "twice"),
        "axis: sum over the directions": (
            lambda x, p: 2 / (2 * (x**2).sum() / len(x) + 2 * p),
            "grow without limit",
        ),
        "flattest direction": (lambda x, p: bound(x, p, pick=0), "never lets the error grow"),
        "features centred": (lambda x, p: bound(x - x.mean(0), p), "single feature"),
    },
    "heavy_ball": {
        "sign": (lambda *a: rolled(*a, lambda s, g, m: m * s + g, sign=1), "plain gradient descent"),
        "factor: running mean in place of the sum": (
            lambda *a: rolled(*a, lambda s, g, m: m * s + (1 - m) * g),
            "plain gradient descent",
        ),
        "factor: momentum on the gradient, too": (
            lambda *a: rolled(*a, lambda s, g, m: m * (s + g)),
            "plain gradient descent",
        ),
        "factor: nothing is forgotten": (lambda *a: rolled(*a, lambda s, g, m: s + g), "momentum of 0"),
        "axis: one column for each step": (
            lambda *a: rolled(*a, lambda s, g, m: m * s + g).T.contiguous(),
            "shape (steps + 1, D)",
        ),
        "start left out": (lambda *a: rolled(*a, lambda s, g, m: m * s + g)[1:], "shape (steps + 1, D)"),
        "Nesterov's": (
            lambda *a: rolled(*a, lambda s, g, m: m * s + g, look_ahead=True),
            "plain gradient descent",
        ),
        "the last two gradients only": (last_two_gradients, "torch.optim.SGD"),
        "momentum ignored": (lambda *a: rolled(*a, lambda s, g, m: g), "rolls on"),
    },
    "adamw_path": {
        "sign": (lambda *a: adamw(*a, sign=1), "against the sign"),
        "factor: no bias correction": (lambda *a: adamw(*a, correct=False), "moves every coordinate by lr"),
        "factor: decay without the learning rate": (lambda *a: adamw(*a, rate=False), "gradients of 0"),
        "axis: one scale for all coordinates": (lambda *a: adamw(*a, shared=True), "moves every coordinate by lr"),
        "axis: one column for each step": (lambda *a: adamw(*a).T.contiguous(), "shape (steps + 1, D)"),
        "penalty in the loss": (lambda *a: adamw(*a, l2=True), "a thousand times"),
        "no decay": (lambda s, g, lr, d: adamw(s, g, lr, 0.0), "gradients of 0"),
        "decay after the step": (lambda *a: adamw(*a, last=True), "torch.optim.AdamW"),
        "plain signs": (
            lambda s, g, lr, d: torch.stack(
                [s * (1 - lr * d) ** n - lr * g[:n].sign().sum(0) for n in range(len(g) + 1)]
            ),
            "torch.optim.AdamW",
        ),
    },
}
