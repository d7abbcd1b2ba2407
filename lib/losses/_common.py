"""What every loss shares: the reductions, the working precision and the checks of its arguments."""

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


def softplus(x: torch.Tensor) -> torch.Tensor:
    r"""Return :math:`\log(1 + e^x)`, elementwise, with full relative precision for every x.

    Above its threshold torch returns x itself: at the default, 20, that is 1e-10 off, at 40 less than float64 can tell.
    """
    return torch.nn.functional.softplus(x, threshold=40)
