"""What the losses share: reductions, working precision, checks of arguments, and sums that do not lose their digits."""

from collections.abc import Callable
from numbers import Integral, Real

import torch

REDUCTIONS = ("none", "mean", "sum")


def check_reduction(reduction: str) -> None:
    """Raise ValueError unless ``reduction`` is one that every loss knows."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(map(repr, REDUCTIONS))}, got {reduction!r}")


def check_floating(name: str, tensor: torch.Tensor) -> None:
    """Raise TypeError unless ``tensor`` is a tensor of real floating-point numbers."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor, got {tensor.dtype}")


def check_same_shape(input: torch.Tensor, target: torch.Tensor) -> None:
    """Raise ValueError unless both have one shape: (N, 1) and (N,) would broadcast to (N, N) in silence."""
    if input.shape != target.shape:
        raise ValueError(
            f"input and target must have the same shape, got {tuple(input.shape)} and {tuple(target.shape)}"
        )


def check_real(name: str, tensor: torch.Tensor) -> None:
    """Raise TypeError unless ``tensor`` is a tensor of real numbers: floats or, as torch takes them too, integers."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name} must hold real numbers, got {tensor.dtype}")


def check_number(name: str, value: float, fits: Callable[[float], bool], wanted: str) -> None:
    """Raise TypeError unless ``value`` is a real number, ValueError unless it fits; ``wanted`` says what would."""
    if torch.compiler.is_compiling():  # there a number may be a symbol
        return
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not fits(value):
        raise ValueError(f"{name} must be {wanted}, got {value}")


def check_integer(name: str, value: int) -> None:
    """Raise TypeError unless ``value`` is an integer, of Python or NumPy; a bool is none."""
    if torch.compiler.is_compiling():  # there a number may be a symbol
        return
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")


def check_integers(name: str, tensor: torch.Tensor, meaning: str) -> None:
    """Raise TypeError unless ``tensor`` is a tensor of integers; ``meaning`` says what they stand for."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name} must hold {meaning} (integers), got {tensor.dtype}")


def check_class_indices(target: torch.Tensor, classes: int, ignore_index: int | None = None) -> None:
    """Raise ValueError unless the integers of ``target`` are indices of classes, or ``ignore_index``."""
    index = target.long()  # in a narrow dtype, the number of classes could wrap around
    unknown = (index < 0) | (index >= classes)
    if ignore_index is not None:
        unknown = unknown & (index != ignore_index)
    if any_true(unknown):
        allowed = f"[0, {classes})" if ignore_index is None else f"[0, {classes}) or ignore_index ({ignore_index})"
        raise ValueError(f"class indices must be in {allowed}, got {index[unknown][0].item()}")


def check_embeddings(**tensors: torch.Tensor) -> None:
    """Raise TypeError or ValueError unless all hold vectors, and in one shape."""
    for name, tensor in tensors.items():
        check_floating(name, tensor)
    shapes = [tuple(tensor.shape) for tensor in tensors.values()]
    if len(set(shapes)) > 1:
        raise ValueError(f"{_enumerate(tensors)} must have the same shape, got {_enumerate(map(str, shapes))}")
    if not shapes[0] or shapes[0][-1] == 0:
        raise ValueError(f"{_enumerate(tensors)} must have at least one component, got shape {shapes[0]}")


def check_two_dimensions(**tensors: torch.Tensor) -> None:
    """Raise ValueError unless each has shape (N, D)."""
    for name, tensor in tensors.items():
        if tensor.dim() != 2:
            raise ValueError(f"{name} must have shape (N, D), got {tuple(tensor.shape)}")


def check_chunk_size(chunk_size: int | None) -> None:
    """Raise TypeError or ValueError unless the chunk size is None or a positive integer."""
    if chunk_size is None:
        return
    if not isinstance(chunk_size, int) or isinstance(chunk_size, bool):
        raise TypeError(f"chunk_size must be an integer or None, got {type(chunk_size).__name__}")
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")


def any_true(condition: torch.Tensor, *, unknown: bool = False) -> bool:
    """Return whether any entry is true, or ``unknown`` where values cannot be read: when compiling, and under vmap."""
    if torch.compiler.is_compiling():
        return unknown
    try:
        return bool(condition.any())
    except RuntimeError:
        return unknown


def reduce(loss: torch.Tensor, reduction: str) -> torch.Tensor:
    """Return the losses as they are, their mean or their sum, as ``reduction`` says."""
    if reduction == "none":
        return loss
    total = loss.sum()
    # Not loss.mean(), whose backward fills a whole tensor where that of a sum makes a view.
    return total / loss.numel() if reduction == "mean" else total


def working_precision(tensor: torch.Tensor) -> torch.Tensor:
    """Return half-precision input as float32, in which the losses compute; float32 and float64 stay as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def double_precision(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor as float64 where its device has that (Apple's has not), else as float32."""
    return tensor.float() if tensor.device.type == "mps" else tensor.double()


def as_result(loss: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return a loss in the dtype of its input; under autocast, as in torch, half precision stays in float32."""
    if dtype in (torch.float16, torch.bfloat16) and torch.is_autocast_enabled(loss.device.type):
        return loss.float()
    return loss.to(dtype)


def without_autocast(tensor: torch.Tensor) -> torch.autocast:
    """Return a context in which a product of matrices keeps the precision of its factors; sums need no such care."""
    return torch.autocast(tensor.device.type, enabled=False)


def softplus(x: torch.Tensor) -> torch.Tensor:
    r"""Return :math:`\ln(1 + e^x)`, elementwise, with full relative precision for every x.

    Above its threshold torch returns x itself: at the default, 20, that is 1e-10 off, at 40 less than float64 can tell.
    """
    return torch.nn.functional.softplus(x, threshold=40)


def margin_excess(rival: torch.Tensor, truth: torch.Tensor, margin: float) -> torch.Tensor:
    """Return margin - truth + rival, to full relative precision also where the three nearly cancel.

    Summed as they stand, a margin of 1 vanishes next to scores of 1e8, and close to the kink only noise is left.
    """
    leading, rest = split_float(margin, truth.dtype)
    needed = leading - truth
    rest = rounded_off(needed.detach(), leading, truth.detach()) + rest
    return (rival + needed) + rest


def rounded_off(total: torch.Tensor, a: torch.Tensor | float, b: torch.Tensor) -> torch.Tensor:
    """Return what rounding took from ``total = a - b``, exactly (Knuth's two-sum); 0 where the total is infinite."""
    b_kept = a - total
    return ((a - (total + b_kept)) - (b - b_kept)).nan_to_num(nan=0.0)


def split_float(number: float, dtype: torch.dtype) -> tuple[float, float]:
    """Return ``number``, a Python float, as two numbers of ``dtype`` that sum to it: 0.1 is no float32."""
    if dtype == torch.float64:
        return number, 0.0
    shifted = number * (2**29 + 1)  # Veltkamp: leaves the 24 leading of 53 bits
    leading = shifted - (shifted - number)
    return leading, number - leading


class WithDerivative(torch.autograd.Function):
    """An elementwise function with its derivative, where autograd would be slow or lose precision.

    ``WithDerivative.apply(x, function, derivative)``. The derivative is itself written in differentiable functions of
    torch, so that second derivatives work as well. It returns x or a new tensor, no view of x: that is written into.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x, function, derivative):
        return function(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, _, ctx.derivative = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        slope = ctx.derivative(x)
        if slope is x or torch.is_grad_enabled():
            return gradient * slope, None, None
        try:
            return slope.mul_(gradient), None, None  # a second tensor of this size would cost more than the product
        except RuntimeError:  # vmap maps over the gradient alone
            return gradient * slope, None, None


def _enumerate(names):
    """Return "a, b and c"."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
