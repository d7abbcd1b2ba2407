"""Penalties on the size of a model's parameters, to be added to a loss: ``loss + 1e-4 * l2_penalty(model)``."""

import difflib
import functools
import operator
import re
from collections.abc import Iterable

import torch

from lib.losses._common import check_floating, check_number, working_precision

Parameters = torch.nn.Module | Iterable[tuple[str, torch.Tensor]]


def l1_penalty(parameters: Parameters, *, exclude: str | Iterable[str] = ()) -> torch.Tensor:
    r"""Sum of the absolute values of the parameters (lasso), which drives many of them to exactly 0.

    .. math:: \ell = \sum_j |w_j|, \qquad \frac{\partial\ell}{\partial w_j} = \operatorname{sign}(w_j),
              \quad \text{0 where } w_j = 0.

    Args:
        parameters: a module, or (name, tensor) pairs of any shapes, such as ``model.named_parameters()``. A tensor
            under several names (tied weights) counts once.
        exclude: names to leave out, or patterns in which ``*`` stands for any characters and ``?`` for one:
            ``"*bias"``, ``["head.*", "0.weight"]``. A tensor is left out if any of its names is.

    Returns:
        A scalar; 0 where no parameter is left. Half precision is summed, and returned, in float32: the sum over a
        model would overflow it.

    Raises:
        TypeError: if ``parameters`` or ``exclude`` is not what is said above, or a tensor is not floating-point.
        ValueError: if a name or pattern in ``exclude`` fits none of the parameters.

    Example:
        >>> l1_penalty([("weight", torch.tensor([3.0, -4.0])), ("bias", torch.tensor([9.0]))], exclude="bias")
        tensor(7.)

    Reference:
        R. Tibshirani, Regression Shrinkage and Selection via the Lasso, J. R. Stat. Soc. B 58 (1996),
        https://doi.org/10.1111/j.2517-6161.1996.tb02080.x.
    """
    return _total(torch.abs, _select(parameters, exclude))


def l2_penalty(parameters: Parameters, *, exclude: str | Iterable[str] = ()) -> torch.Tensor:
    r"""Sum of the squares of the parameters (ridge), which shrinks each in proportion to its size.

    .. math:: \ell = \sum_j w_j^2, \qquad \frac{\partial\ell}{\partial w_j} = 2 w_j.

    There is no factor 1/2: under plain SGD, :math:`\lambda \ell` in the loss is ``weight_decay`` :math:`= 2 \lambda` in
    the optimiser.

    Args:
        parameters: a module, or (name, tensor) pairs of any shapes, as in ``l1_penalty``.
        exclude: names or patterns to leave out, as in ``l1_penalty``.

    Returns:
        A scalar, as in ``l1_penalty``.

    Raises:
        TypeError: if ``parameters`` or ``exclude`` is not what is said above, or a tensor is not floating-point.
        ValueError: if a name or pattern in ``exclude`` fits none of the parameters.

    Example:
        >>> l2_penalty([("weight", torch.tensor([3.0, -4.0])), ("bias", torch.tensor([9.0]))], exclude="bias")
        tensor(25.)

    Reference:
        A. E. Hoerl and R. W. Kennard, Ridge Regression, Technometrics 12 (1970),
        https://doi.org/10.1080/00401706.1970.10488634.
    """
    return _total(torch.square, _select(parameters, exclude))


def elastic_net_penalty(
    parameters: Parameters, *, l1_ratio: float = 0.5, exclude: str | Iterable[str] = ()
) -> torch.Tensor:
    r"""Mixture of the two penalties (elastic net): sparse as L1, and steady among correlated features as L2.

    For the share :math:`\rho` of L1,

    .. math:: \ell = \sum_j \bigl(\rho\,|w_j| + (1 - \rho)\,w_j^2\bigr),
              \qquad \frac{\partial\ell}{\partial w_j} = \rho \operatorname{sign}(w_j) + 2 (1 - \rho)\,w_j.

    As in the paper, the square has no factor 1/2; scikit-learn's ``ElasticNet`` has it.

    Args:
        parameters: a module, or (name, tensor) pairs of any shapes, as in ``l1_penalty``.
        l1_ratio: the share :math:`\rho` of L1, in [0, 1].
        exclude: names or patterns to leave out, as in ``l1_penalty``.

    Returns:
        A scalar, as in ``l1_penalty``.

    Raises:
        TypeError: if ``parameters``, ``exclude`` or ``l1_ratio`` is not what is said above, or a tensor is not
            floating-point.
        ValueError: if ``l1_ratio`` is outside [0, 1], or a name or pattern in ``exclude`` fits none of the parameters.

    Example:
        >>> elastic_net_penalty([("weight", torch.tensor([3.0, -4.0]))])  # (7 + 25) / 2
        tensor(16.)

    Reference:
        H. Zou and T. Hastie, Regularization and Variable Selection via the Elastic Net, J. R. Stat. Soc. B 67 (2005),
        https://doi.org/10.1111/j.1467-9868.2005.00503.x.
    """
    check_number("l1_ratio", l1_ratio, lambda share: 0 <= share <= 1, "between 0 and 1")
    if l1_ratio == 1:  # 0 * inf, where a square overflows, would be NaN
        return l1_penalty(parameters, exclude=exclude)
    return _total(lambda w: l1_ratio * w.abs() + (1 - l1_ratio) * w.square(), _select(parameters, exclude))


def _total(penalty, tensors):
    """Return the sum of the penalty over all entries of all tensors, at least in float32."""
    sums = [penalty(working_precision(tensor)).sum() for tensor in tensors]
    if not sums:
        return torch.zeros(())
    return functools.reduce(operator.add, [value.to(sums[0].device) for value in sums])


def _select(parameters, exclude):
    """Return the tensors to penalise, each once, without those that ``exclude`` names."""
    named = _named(parameters)
    excluded = _excluded([name for name, _ in named], _patterns(exclude))
    kept, left_out = [], []
    for name, tensor in named:
        (left_out if name in excluded else kept).append(tensor)
    unique = []
    for tensor in kept:
        if not any(tensor is other for other in left_out) and not any(tensor is other for other in unique):
            unique.append(tensor)
    return unique


def _excluded(names, patterns):
    """Return the names that fit a pattern, or raise ValueError where none fits: a typing error would pass unseen."""
    excluded = set()
    for pattern in patterns:
        # not fnmatch, which torch.compile cannot trace
        regex = re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."))
        fitting = [name for name in names if regex.fullmatch(name)]
        if not fitting:
            nearest = difflib.get_close_matches(pattern, names, cutoff=0)
            raise ValueError(f"exclude must name parameters, got {pattern!r}; the nearest names are {nearest}")
        excluded.update(fitting)
    return excluded


def _patterns(exclude):
    """Return ``exclude`` as a list of strings, or raise TypeError."""
    if isinstance(exclude, str):
        return [exclude]
    patterns = list(exclude) if isinstance(exclude, Iterable) else [exclude]
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"exclude must be a name or an iterable of names, got {type(pattern).__name__}")
    return patterns


def _named(parameters):
    """Return the (name, tensor) pairs of a module or an iterable, or raise TypeError."""
    wanted = "parameters must be a torch.nn.Module or an iterable of (name, tensor) pairs"
    if isinstance(parameters, torch.nn.Module):
        parameters = parameters.named_parameters(remove_duplicate=False)
    if isinstance(parameters, torch.Tensor) or not isinstance(parameters, Iterable):
        raise TypeError(f"{wanted}, got {type(parameters).__name__}")
    named = list(parameters)
    for pair in named:
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
            raise TypeError(f"{wanted}, got an iterable of {type(pair).__name__}")
        check_floating(pair[0], pair[1])
    return named
