"""What the checks of several chapters say of an answer."""

import torch


def unlike_in_shape(answer, wanted: tuple[int, ...]) -> str | None:
    """Say what is wrong if an answer is not a tensor of the wanted shape."""
    if not isinstance(answer, torch.Tensor):
        return f"it returned {type(answer).__name__}, not a tensor"
    wanted = tuple(wanted)
    return None if tuple(answer.shape) == wanted else f"its shape is {tuple(answer.shape)}, wanted is {wanted}"


def few(values: torch.Tensor) -> list[float]:
    """The first six values, with four digits each."""
    return [float(f"{value:.4g}") for value in values.flatten()[:6].tolist()]
