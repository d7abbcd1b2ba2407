"""Inputs that mislead a model though they look alike, and a loss that trains a model to resist them."""

import contextlib
import math
import sys
from collections.abc import Callable

import torch

from lib.losses._common import (
    any_true,
    as_result,
    check_floating,
    check_integer,
    check_number,
    check_reduction,
    double_precision,
    rounded_off,
    working_precision,
)
from lib.losses.classification import cross_entropy
from lib.losses.divergence import distillation_loss

Model = Callable[[torch.Tensor], torch.Tensor]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Bounds = tuple[float, float] | None

IGNORED = -100  # the class index that cross_entropy ignores


def fgsm(
    model: Model,
    input: torch.Tensor,
    target: torch.Tensor,
    *,
    epsilon: float,
    loss: Loss | None = None,
    bounds: Bounds = (0.0, 1.0),
) -> torch.Tensor:
    r"""Fast gradient sign method: the input that one step uphill makes of ``input``.

    For the model :math:`f`, the input :math:`x` with the target :math:`y` and the radius :math:`\varepsilon`,

    .. math:: x' = x + \varepsilon \operatorname{sign}\bigl(\nabla_x\, \ell(f(x), y)\bigr),

    clipped to the bounds. Of all inputs that differ from :math:`x` by at most :math:`\varepsilon` in each number, this
    one has the largest loss where the loss is linear in the input; ``pgd`` goes in smaller steps where it bends.

    Each sample is attacked by itself, so any increasing function of its loss may be climbed instead. The slope of the
    cross-entropy is smaller than any float where a model is confident, and an attack that does not move would take
    confidence for robustness. So the default climbs the log-odds of the rivals of the true class, of which the
    cross-entropy is the softplus,

    .. math:: \ln\frac{1 - p_y}{p_y} = \ln\sum_{j \ne y} e^{f(x)_j} - f(x)_y,

    or, for an output of several places or class probabilities, the cross-entropy in units of its own slope. A ``loss``
    that is given is climbed as it is.

    The model is used in the mode it is in. In training mode dropout is drawn and batch normalisation updates its
    running statistics: call ``model.eval()`` before.

    Args:
        model: takes the input and returns what ``loss`` takes; its parameters get no gradient.
        input: any floating-point tensor within the bounds, such as images, shape (N, ...).
        target: what ``loss`` takes; of the default, class indices or class probabilities.
        epsilon: :math:`\varepsilon \ge 0`, in the unit of ``input``.
        loss: called as ``loss(model(input), target)``; a result that is no scalar is summed. None is the cross-entropy,
            as said above.
        bounds: the least and the largest valid number of an input (in its dtype), or None where all are valid.

    Returns:
        The adversarial input, of the shape and dtype of ``input``, without a graph. No number of it is further than
        ``epsilon`` from that of ``input``, not even by a rounding, and none is outside the bounds.

    Raises:
        TypeError: if ``model`` or ``loss`` is not callable, ``input`` is not floating-point, or a number is none.
        ValueError: if ``epsilon`` or ``bounds`` does not fit, ``input`` is outside the bounds, the loss of the model's
            output does not depend on it, or its slope is not finite.
        RuntimeError: under ``torch.inference_mode()``, which keeps no graph to take a slope from.

    Example:
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> _ = model.load_state_dict({"weight": torch.tensor([[1.0, -1.0], [0.0, 0.0]])})
        >>> fgsm(model, torch.tensor([[0.5, 0.5]]), torch.tensor([0]), epsilon=0.25)  # against class 0
        tensor([[0.2500, 0.7500]])

    Reference:
        I. J. Goodfellow, J. Shlens and C. Szegedy, Explaining and Harnessing Adversarial Examples, ICLR 2015,
        https://arxiv.org/abs/1412.6572.
    """
    _check_attack(model, input, epsilon, bounds)
    _check_loss(loss)
    _check_graphs_are_kept()
    limits = _limits(input, epsilon, bounds)
    return _climb(_objective(model, target, loss), input, *limits, epsilon, steps=1)


def pgd(
    model: Model,
    input: torch.Tensor,
    target: torch.Tensor,
    *,
    epsilon: float,
    step_size: float | None = None,
    steps: int = 10,
    random_start: bool = True,
    generator: torch.Generator | None = None,
    loss: Loss | None = None,
    bounds: Bounds = (0.0, 1.0),
) -> torch.Tensor:
    r"""Projected gradient descent: the input that several steps uphill make of ``input``, never leaving its ball.

    For the model :math:`f`, the input :math:`x` with the target :math:`y`, the radius :math:`\varepsilon` and the step
    :math:`\eta`, from a random point of the ball or from :math:`x` itself,

    .. math:: x' \leftarrow \operatorname{clip}\Bigl(x' + \eta \operatorname{sign}\bigl(\nabla_{x'}\,
              \ell(f(x'), y)\bigr),\; x - \varepsilon,\; x + \varepsilon\Bigr),

    clipped to the bounds as well. One step of size :math:`\varepsilon` from :math:`x` itself is ``fgsm``, and as there
    the model is used in the mode it is in, and a confident model is climbed where its cross-entropy is flat.

    Args:
        model: takes the input and returns what ``loss`` takes; its parameters get no gradient.
        input: any floating-point tensor within the bounds, such as images, shape (N, ...).
        target: what ``loss`` takes; of the default, class indices or class probabilities.
        epsilon: :math:`\varepsilon \ge 0`, in the unit of ``input``.
        step_size: :math:`\eta > 0`, in the unit of ``input``; None is ``epsilon / 4``.
        steps: how many steps, at least 1.
        random_start: whether to start from a point drawn evenly from the ball (then clipped to the bounds).
        generator: of the random start. On the CPU, it draws the same numbers whatever the device of ``input``.
        loss: called as ``loss(model(input), target)``, as in ``fgsm``.
        bounds: the least and the largest valid number of an input (in its dtype), or None where all are valid.

    Returns:
        The adversarial input, the point of the last step, as in ``fgsm``.

    Raises:
        TypeError: if ``model`` or ``loss`` is not callable, ``input`` is not floating-point, ``generator`` is none, or
            a number is none.
        ValueError: if ``epsilon``, ``step_size``, ``steps`` or ``bounds`` does not fit, ``input`` is outside the
            bounds, the loss of the model's output does not depend on it, or its slope is not finite.
        RuntimeError: under ``torch.inference_mode()``, which keeps no graph to take a slope from.

    Example:
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> _ = model.load_state_dict({"weight": torch.tensor([[1.0, -1.0], [0.0, 0.0]])})
        >>> pgd(model, torch.tensor([[0.5, 0.5]]), torch.tensor([0]), epsilon=0.25)
        tensor([[0.2500, 0.7500]])

    Reference:
        A. Madry, A. Makelov, L. Schmidt, D. Tsipras and A. Vladu, Towards Deep Learning Models Resistant to Adversarial
        Attacks, ICLR 2018, https://arxiv.org/abs/1706.06083.
    """
    _check_attack(model, input, epsilon, bounds)
    step_size = _check_steps(input, epsilon, step_size, steps)
    _check_generator(generator)
    _check_loss(loss)
    _check_graphs_are_kept()
    limits = _limits(input, epsilon, bounds)
    start = input + epsilon * (2 * _draw(torch.rand, input, generator) - 1) if random_start else input
    return _climb(_objective(model, target, loss), start, *limits, step_size, steps)


def trades_loss(
    model: Model,
    input: torch.Tensor,
    target: torch.Tensor,
    *,
    epsilon: float,
    beta: float = 6.0,
    step_size: float | None = None,
    steps: int = 10,
    generator: torch.Generator | None = None,
    bounds: Bounds = (0.0, 1.0),
    reduction: str = "mean",
) -> torch.Tensor:
    r"""TRADES: be right on the input, and say the same of all inputs near it.

    For the model :math:`f`, whose output are logits, the input :math:`x` with the target :math:`y`,
    :math:`p = \operatorname{softmax}(f(x))`, :math:`q = \operatorname{softmax}(f(x'))` and their Kullback-Leibler
    divergence :math:`D(p \,\|\, q) = \sum_j p_j \ln (p_j / q_j)`,

    .. math:: \ell = \operatorname{cross\_entropy}(f(x), y)
                     + \beta \max_{\|x' - x\|_\infty \le \varepsilon} D(p \,\|\, q).

    The maximum is sought by the steps of ``pgd``, from :math:`x` plus a little noise, for at :math:`x` itself the
    divergence has no slope; of several peaks, the noise decides which is climbed. As each sample is sought by itself,
    its divergence is climbed in units of its own slope, which would vanish where the model is confident. A gradient
    flows to the parameters through both :math:`f(x)` and :math:`f(x')`:

    .. math:: \frac{\partial\ell}{\partial f(x)_j}
              = p_j - [j = y] + \beta\,p_j \Bigl(\ln\frac{p_j}{q_j} - D(p \,\|\, q)\Bigr),
              \qquad \frac{\partial\ell}{\partial f(x')} = \beta\,(q - p).

    The search puts a module that is in training mode into evaluation mode, and then back: dropout would hide the slope,
    and its steps would enter the running statistics of batch normalisation. Only a ``torch.nn.Module`` has a mode to
    change: around one, a function hides it. With the defaults, robustness costs twelve forward passes (one in
    evaluation mode, ten steps, and :math:`f(x')`) and eleven backward passes (ten steps, and through :math:`f(x')`)
    more.

    Args:
        model: takes the input and returns logits (nats), shape (C,), (N, C) or (N, C, d1, ..., dK).
        input: any floating-point tensor within the bounds, such as images, shape (N, ...).
        target: class indices or class probabilities, as in ``cross_entropy``.
        epsilon: :math:`\varepsilon \ge 0`, in the unit of ``input``.
        beta: :math:`\beta \ge 0`, the weight of robustness. At 0 nothing is sought: the loss is the cross-entropy.
        step_size: of the search, above 0, in the unit of ``input``; None is ``epsilon / 4``.
        steps: of the search, at least 1.
        generator: of the noise. On the CPU, it draws the same numbers whatever the device of ``input``.
        bounds: the least and the largest valid number of an input (in its dtype), or None where all are valid.
        reduction: "none", "sum" or "mean", over the samples, as in ``cross_entropy``.

    Returns:
        The loss in nats in the dtype of the logits (computed in float32 where that is a half precision): a scalar, or
        the shape of the logits without C where ``reduction`` is "none".

    Raises:
        TypeError: if ``model`` is not callable, ``input`` or the logits are not floating-point, ``generator`` is none,
            or a number is none.
        ValueError: if an option does not fit, ``input`` is outside the bounds, the logits do not depend on it or their
            slope is not finite, or ``target`` does not fit the logits.
        RuntimeError: under ``torch.inference_mode()``, unless ``beta`` is 0.

    Example:
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> _ = model.load_state_dict({"weight": torch.tensor([[4.0, -4.0], [0.0, 0.0]])})
        >>> image, label = torch.tensor([[0.75, 0.25]]), torch.tensor([0])
        >>> round(trades_loss(model, image, label, epsilon=0.1, beta=0.0).item(), 3)
        0.127
        >>> noise = torch.Generator().manual_seed(4)
        >>> round(trades_loss(model, image, label, epsilon=0.1, generator=noise).item(), 3)
        0.373

    Reference:
        H. Zhang, Y. Yu, J. Jiao, E. P. Xing, L. El Ghaoui and M. I. Jordan, Theoretically Principled Trade-off between
        Robustness and Accuracy, ICML 2019, https://arxiv.org/abs/1901.08573.
    """
    check_reduction(reduction)
    check_number("beta", beta, lambda b: 0 <= b <= sys.float_info.max, "finite (as a float) and at least 0")
    _check_attack(model, input, epsilon, bounds)
    step_size = _check_steps(input, epsilon, step_size, steps)
    _check_generator(generator)
    if beta > 0:
        _check_graphs_are_kept()
    limits = _limits(input, epsilon, bounds)
    logits = model(input)
    check_floating("model(input)", logits)
    clean = working_precision(logits)
    natural = cross_entropy(clean, target, reduction=reduction)  # it checks the target
    if beta == 0:
        return as_result(natural, logits.dtype)

    with _evaluation_mode(model):
        with torch.no_grad():
            wanted = double_precision(model(input)).log_softmax(_class_dim(logits))

        def divergence(x):
            logits = model(x)
            return _along(_scaled_slope(logits, wanted, target), logits)

        start = input + 0.001 * _draw(torch.randn, input, generator)
        adversarial = _climb(divergence, start, *limits, step_size, steps)
    robust = _divergence(model(adversarial), clean, target, reduction)
    return as_result(natural + beta * robust, logits.dtype)


def _objective(model, target, loss):
    """Return the function of the input that an attack climbs."""
    if loss is not None:
        return lambda x: loss(model(x), target)

    def cross_entropies(x):
        logits = model(x)
        cross_entropy(logits.detach(), target)  # it checks both
        return _along(_scaled_slope(logits, _log_of_target(target, logits), target), logits)

    return cross_entropies


def _along(slope, logits):
    """Return a number whose slope in the logits is the given one."""
    working = working_precision(logits)
    return (slope.to(working.dtype) * working).sum()


def _log_of_target(target, logits):
    """Return the logarithms of class probabilities, or of the certainty that class indices stand for."""
    if target.is_floating_point():
        return double_precision(target).log()
    class_dim = _class_dim(logits)
    index = target.long().unsqueeze(class_dim).clamp(min=0)  # of ignored places too
    return torch.full_like(logits, -torch.inf).scatter(class_dim, index, 0.0)


def _scaled_slope(logits, log_wanted, target):
    """Return softmax(logits) minus the wanted probabilities in the unit of its largest number, sample by sample.

    It is the slope in the logits of both the cross-entropy and the divergence, and no float can hold it where a model
    is confident. So each difference is taken as a logarithm and scaled before it is one no more; that of the likeliest
    class, which would be lost next to 1, is minus the sum of the others. Where those wanted add up to another number
    than 1, as in a row of zeros, the cross-entropy multiplies the slope by it.
    """
    class_dim = _class_dim(logits)
    log_q = double_precision(logits.detach()).log_softmax(class_dim)
    log_total = log_wanted.logsumexp(class_dim, keepdim=True)
    log_p = log_wanted - log_total.clamp(min=torch.finfo(log_total.dtype).min)
    gain = (log_q - log_p).masked_fill((log_q == -torch.inf) & (log_p == -torch.inf), 0.0)
    log_size = log_total + torch.maximum(log_q, log_p) + (-(-gain.abs()).expm1()).log()
    likeliest = log_p.argmax(class_dim, keepdim=True)
    log_size = log_size.scatter(class_dim, likeliest, -torch.inf)
    if not target.is_floating_point():
        log_size = log_size.masked_fill((target.long() == IGNORED).unsqueeze(class_dim), -torch.inf)
    largest = log_size.amax(_dims_of_sample(logits), keepdim=True)
    slope = gain.sign() * (log_size - largest.masked_fill(largest == -torch.inf, 0.0)).exp()
    return slope.scatter(class_dim, likeliest, -slope.sum(class_dim, keepdim=True))


def _class_dim(logits):
    """Return the dimension of logits in which the classes stand."""
    return 0 if logits.dim() == 1 else 1


def _dims_of_sample(logits):
    """Return the dimensions of logits that belong to one sample."""
    return tuple(range(1, logits.dim())) or (0,)


def _divergence(logits, wanted, target, reduction):
    """Return KL(softmax(wanted) || softmax(logits)) over the samples that count: what distillation is at weight 1."""
    logits = working_precision(logits)
    return distillation_loss(logits, wanted, target, temperature=1.0, weight=1.0, reduction=reduction)


def _climb(objective, start, lowest, highest, step_size, steps):
    """Return where signed gradient steps of the objective lead from ``start``, within the limits and in their dtype."""
    x = torch.clamp(working_precision(start.detach()), lowest, highest)
    for _ in range(steps):
        slope = _slope(objective, x.to(lowest.dtype))
        x = torch.clamp(x + step_size * slope.sign().to(x.dtype), lowest, highest)
    return x.to(lowest.dtype)


def _slope(objective, x):
    """Return the gradient of the objective in its input, and leave those of the parameters as they are."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        value = objective(x)
        check_floating("the loss of the model's output", value)
        value = working_precision(value).sum()
    gradient = torch.autograd.grad(value, x, allow_unused=True)[0] if value.requires_grad else None
    if gradient is None:
        raise ValueError("the loss of the model's output must depend on input through a graph, got one that does not")
    if any_true(~gradient.isfinite()):  # its sign would be 0, and the model look robust
        raise ValueError("the slope of the model's output in input must be finite, got NaN or infinity")
    return gradient


def _draw(draw, input, generator):
    """Return random numbers in the shape and the working precision of the input, drawn where the generator lives."""
    like = working_precision(input)
    device = like.device if generator is None else generator.device
    return draw(like.shape, generator=generator, device=device, dtype=like.dtype).to(like.device)


@contextlib.contextmanager
def _evaluation_mode(model):
    """Put those modules of a model that are in training mode into evaluation mode, for a while."""
    training = [m for m in model.modules() if m.training] if isinstance(model, torch.nn.Module) else []
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _limits(input, epsilon, bounds):
    """Return the least and the largest input that the ball and the bounds allow."""
    finite = torch.finfo(input.dtype)
    low, high = (finite.min, finite.max) if bounds is None else bounds
    low, high = (torch.tensor(bound, dtype=input.dtype, device="cpu").item() for bound in (low, high))
    x = input.detach()
    if any_true(~((x >= low) & (x <= high))):  # NaN too
        raise ValueError(f"input must lie within the bounds {low} and {high}, got {x.min().item()} to {x.max().item()}")
    return -_highest(-x, epsilon, -low), _highest(x, epsilon, high)


def _highest(x, epsilon, high):
    """Return the largest number in the dtype of x that is at most x + epsilon, without any rounding, and ``high``."""
    centre = working_precision(x)
    radius = _rounded_down(torch.tensor(epsilon, dtype=torch.float64, device="cpu"), centre.dtype)
    total = centre + radius
    too_large = rounded_off(total, centre, -radius) < 0
    total = torch.where(too_large, total.nextafter(torch.full_like(total, -torch.inf)), total)
    return _rounded_down(total, x.dtype).clamp(max=high)


def _rounded_down(number, dtype):
    """Return the largest number of the dtype that is not above ``number``."""
    if number.dtype == dtype:
        return number
    nearest = number.to(dtype)
    below = nearest.nextafter(torch.full_like(nearest, -torch.inf))
    return torch.where(nearest.to(number.dtype) > number, below, nearest)


def _check_attack(model, input, epsilon, bounds):
    """Raise TypeError or ValueError unless the model can be called, and the numbers are fit to be a ball and bounds."""
    if not callable(model):
        raise TypeError(f"model must be callable, got {type(model).__name__}")
    check_floating("input", input)
    largest = torch.finfo(input.dtype).max
    check_number("epsilon", epsilon, lambda e: 0 <= e <= largest, f"at least 0 and at most {largest:g}")
    if bounds is None:
        return
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise TypeError(f"bounds must be a pair of numbers or None, got {bounds!r}")
    for name, bound in zip(("the lower bound", "the upper bound"), bounds, strict=True):
        check_number(name, bound, math.isfinite, "finite")
    if not bounds[0] < bounds[1]:
        raise ValueError(f"the lower bound must be less than the upper one, got {bounds[0]} and {bounds[1]}")


def _check_steps(input, epsilon, step_size, steps):
    """Return the step size, or raise TypeError or ValueError unless it is positive and there is at least one step."""
    check_integer("steps", steps)
    check_number("steps", steps, lambda n: n >= 1, "at least 1")
    if step_size is None:
        return epsilon / 4
    largest = torch.finfo(input.dtype).max
    check_number("step_size", step_size, lambda s: 0 < s <= largest, f"positive and at most {largest:g}")
    return step_size


def _check_generator(generator):
    """Raise TypeError unless it is a generator or None."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator or None, got {type(generator).__name__}")


def _check_loss(loss):
    """Raise TypeError unless it can be called or is None."""
    if loss is not None and not callable(loss):
        raise TypeError(f"loss must be callable or None, got {type(loss).__name__}")


def _check_graphs_are_kept():
    """Raise RuntimeError under inference mode, in which not even ``torch.enable_grad`` brings a graph."""
    if torch.is_inference_mode_enabled():
        raise RuntimeError("an attack needs a gradient, and torch.inference_mode() keeps no graph: use torch.no_grad()")
