"""Several losses at once: how much each term counts, fixed by hand, learned, or balanced by gradients."""

import difflib
import functools
import math
import sys
from collections.abc import Iterable, Mapping

import torch

from lib.losses._common import any_true, as_result, check_floating, check_number, working_precision

Terms = Mapping[str, torch.Tensor]


def weighted_sum(terms: Terms, weights: Mapping[str, float]) -> torch.Tensor:
    r"""Sum of named losses, each with a weight that is fixed by hand.

    For the terms :math:`L_k` and the weights :math:`w_k`,

    .. math:: \ell = \sum_k w_k L_k, \qquad \frac{\partial\ell}{\partial L_k} = w_k.

    A term of weight 0 is left out, so that one that is infinite or NaN does no harm while it is switched off.

    Args:
        terms: the losses by name, scalars, in any units.
        weights: a number for each name, finite and at least 0, in one over the unit of its term.

    Returns:
        A scalar in the dtype to which those of the terms promote (computed in float32 where that is a half
        precision).

    Raises:
        TypeError: if ``terms`` or ``weights`` is no mapping, a term no floating-point tensor, or a weight no number.
        ValueError: if a term is no scalar, the names differ, a weight is negative or not finite, or all are 0.

    Example:
        >>> terms = {"label": torch.tensor(0.5), "depth": torch.tensor(20.0)}
        >>> weighted_sum(terms, {"label": 1.0, "depth": 0.1})
        tensor(2.5000)

    Reference:
        R. Caruana, Multitask Learning, Machine Learning 28 (1997), https://doi.org/10.1023/A:1007379606734.
    """
    _check_terms(terms)
    if not isinstance(weights, Mapping):
        raise TypeError(f"weights must map the name of each term to a number, got {type(weights).__name__}")
    _check_names("weights", weights, "terms", terms)
    for name, weight in weights.items():
        _check_not_negative(f"the weight of {name!r}", weight)
    counting = [name for name in terms if weights[name] != 0]
    if not counting:
        raise ValueError(f"a weight must be positive for anything to be learned, got 0 for {_listed(weights)}")
    dtype = _common_dtype(terms.values())
    total = sum(weights[name] * working_precision(terms[name].to(dtype)) for name in counting)
    return as_result(total, dtype)


class _Balance(torch.nn.Module):
    """What the two modules share: the names of the terms, their order, and that a saved state keeps to it."""

    def __init__(self, names: Iterable[str]):
        super().__init__()
        self.names = _check_list_of_names(names)

    def get_extra_state(self) -> list[str]:
        """Return the names, which go into the ``state_dict`` with the numbers that belong to them."""
        return list(self.names)

    def set_extra_state(self, state: list[str]) -> None:
        """Raise ValueError if a loaded state belongs to other terms, or to these in another order."""
        if tuple(state) != self.names:
            raise ValueError(f"the state to load must be of the terms {_listed(self.names)}, got {_listed(state)}")

    def _load_from_state_dict(self, state_dict, prefix, *arguments):
        """Compare the names before any number is copied; torch would do so afterwards."""
        names = state_dict.get(prefix + "_extra_state")
        if names is not None:
            self.set_extra_state(names)
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def extra_repr(self) -> str:
        """Return the names, for ``print``."""
        return _listed(self.names)

    def _losses(self, terms):
        """Return the terms in the order of the names, shape (K,), and their dtype, or raise TypeError or ValueError."""
        _check_terms(terms)
        _check_names("terms", terms, "this module", self.names)
        dtype = _common_dtype(terms.values())
        losses = torch.stack([working_precision(terms[name].to(dtype)) for name in self.names])
        if any_true(losses < 0):
            name, value = next((name, loss.item()) for name, loss in terms.items() if loss < 0)
            raise ValueError(f"terms must not be negative, got {name!r} of {value:g}")
        return losses, dtype

    def _named(self, values):
        """Return the numbers of a vector by name."""
        return dict(zip(self.names, values.tolist(), strict=True))


class UncertaintyWeighting(_Balance):
    r"""Sum of named losses with learned weights: each divided by the noise that its task turns out to have.

    For the terms :math:`L_k \ge 0` and one learned number each, :math:`s_k`, the logarithm of a variance,

    .. math:: \ell = \tfrac12 \sum_k \bigl(e^{-s_k} L_k + s_k\bigr),
              \qquad \frac{\partial\ell}{\partial L_k} = \tfrac12 e^{-s_k},
              \quad \frac{\partial\ell}{\partial s_k} = \tfrac12 \bigl(1 - e^{-s_k} L_k\bigr).

    Where :math:`L_k` is a mean squared error this is, for each number and up to a constant, the negative log-likelihood
    of a Gaussian whose variance is learned. For given terms the best :math:`s_k` is :math:`\ln L_k`, the weight then
    :math:`1 / 2L_k`, and the sum half of :math:`\sum_k (1 + \ln L_k)`: a term ten times as large counts a tenth, so
    units do not matter. The paper's form for classification, :math:`e^{-s} L + s/2`, and the popular
    :math:`e^{-s} L + s` are no other losses: the first is this one with :math:`s` shifted by :math:`\ln 2`, the second
    is twice this one.

    The :math:`s_k` are parameters, 0 at first: give them to the optimiser together with those of the model, and
    without weight decay, which would pull the variances to 1.

    Args:
        names: of the terms.

    Attributes:
        names: of the terms, in the order of ``log_variance``.
        log_variance: the learned numbers, shape (K,).

    Raises:
        TypeError: if ``names`` is no iterable of strings.
        ValueError: if there is no name, or one twice.

    Example:
        >>> weighting = UncertaintyWeighting(["label", "depth"])
        >>> weighting({"label": torch.tensor(0.5), "depth": torch.tensor(20.0)})
        tensor(10.2500, grad_fn=<DivBackward0>)

    Reference:
        A. Kendall, Y. Gal and R. Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and
        Semantics, CVPR 2018, https://arxiv.org/abs/1705.07115.
    """

    def __init__(self, names: Iterable[str]):
        super().__init__(names)
        self.log_variance = torch.nn.Parameter(torch.zeros(len(self.names)))

    @property
    def weights(self) -> dict[str, float]:
        r"""The present weights :math:`\tfrac12 e^{-s_k}` by name, for a log."""
        return self._named((-working_precision(self.log_variance.detach())).exp() / 2)

    def forward(self, terms: Terms) -> torch.Tensor:
        """Return the weighted sum.

        Args:
            terms: the losses by name, scalars, at least 0 (a negative one would drive its variance to 0 for ever).

        Returns:
            A scalar in the dtype to which those of the terms promote (computed in float32 where that is a half
            precision).

        Raises:
            TypeError: if ``terms`` is no mapping, or a term no floating-point tensor.
            ValueError: if a term is negative or no scalar, or the names are not those of this module.
        """
        losses, dtype = self._losses(terms)
        log_variance = working_precision(self.log_variance).to(losses.device)
        exponent = -log_variance / 2
        # A term that stays 0 drives its weight up until no float can hold it, and 0 * inf would be NaN.
        is_idle = (losses == 0) & exponent.exp().square().isinf()
        # The square of the root over- or underflows where the product need not.
        root = exponent.masked_fill(is_idle, -torch.inf).exp()
        return as_result((root * losses * root + log_variance).sum() / 2, dtype)


class GradNorm(_Balance):
    r"""Sum of named losses whose weights are balanced so that every task pulls on the shared parameters.

    With the terms :math:`L_k`, the norms :math:`G_k = \|\nabla_\theta\, w_k L_k\|` of their gradients in the shared
    parameters :math:`\theta`, and the inverse training rates :math:`r_k`, the share of its first loss that a task has
    left, divided by the mean of these shares over the tasks,

    .. math:: \ell = \sum_k w_k L_k,
              \qquad w_k \leftarrow c\, w_k \Bigl(\frac{\bar G\, r_k^\alpha}{G_k}\Bigr)^{\rho},

    where :math:`\bar G` is the mean norm and :math:`c` keeps the sum of the weights at K. So the norms approach the
    proportions :math:`r_k^\alpha`: all alike for :math:`\alpha = 0`; the larger :math:`\alpha`, the harder a task that
    lags behind may pull.

    The paper moves the weights by gradient descent on :math:`\sum_k |G_k - \bar G\, r_k^\alpha|`. Its steps grow with
    the unit of a loss and can take a weight below 0; around the minimum they go to and fro. The step above has the same
    aim, keeps the weights positive, and covers the share :math:`\rho` of the way (in logarithms) whatever the units.

    In each step of training, with one forward pass and before its graph is freed::

        weighting.balance(terms, model.trunk.parameters())
        weighting(terms).backward()

    Args:
        names: of the terms.
        alpha: :math:`\alpha \ge 0`, how strongly slow tasks are favoured.
        rate: :math:`\rho`, in (0, 1], the share of the way that one call of ``balance`` goes. At 1 the weights follow
            each batch; below, they average over about :math:`1 / \rho` batches.

    Attributes:
        names: of the terms, in the order of the buffers.
        log_weight: logarithms of the weights up to a common summand, shape (K,).
        first_loss: the first positive value of each term that ``balance`` saw (0: none yet), shape (K,). Both buffers
            stay in float32 at least, whatever the module is cast to: a half precision would lose small steps.

    Raises:
        TypeError: if ``names`` is no iterable of strings, or ``alpha`` or ``rate`` no number.
        ValueError: if there is no name, or one twice, or ``alpha`` or ``rate`` is out of its range.

    Example:
        >>> shared = torch.tensor([1.0], requires_grad=True)
        >>> weighting = GradNorm(["metres", "millimetres"], rate=1.0)
        >>> weighting.balance({"metres": shared.sum(), "millimetres": 1000 * shared.sum()}, shared)
        >>> {name: round(weight, 3) for name, weight in weighting.weights.items()}
        {'metres': 1.998, 'millimetres': 0.002}

    Reference:
        Z. Chen, V. Badrinarayanan, C.-Y. Lee and A. Rabinovich, GradNorm: Gradient Normalization for Adaptive Loss
        Balancing in Deep Multitask Networks, ICML 2018, https://arxiv.org/abs/1711.02257.
    """

    def __init__(self, names: Iterable[str], *, alpha: float = 1.5, rate: float = 0.1):
        super().__init__(names)
        _check_not_negative("alpha", alpha)
        check_number("rate", rate, lambda r: 0 < r <= 1, "above 0 and at most 1")
        self.alpha = alpha
        self.rate = rate
        self.register_buffer("log_weight", working_precision(torch.zeros(len(self.names))))
        self.register_buffer("first_loss", working_precision(torch.zeros(len(self.names))))

    def _apply(self, function, recurse=True):
        """Move and cast as every module does, but never below float32, in which a first loss of 1e5 is infinite."""

        def at_least_float32(tensor):
            result = function(tensor)
            return result if result.dtype == working_precision(result).dtype else tensor.to(result.device)

        return super()._apply(at_least_float32, recurse)

    @property
    def weights(self) -> dict[str, float]:
        """The present weights by name, K in sum, for a log."""
        return self._named(self._log_weights().exp())

    def forward(self, terms: Terms) -> torch.Tensor:
        """Return the weighted sum; the weights are constants in it.

        Args:
            terms: the losses by name, scalars, at least 0.

        Returns:
            A scalar in the dtype to which those of the terms promote (computed in float32 where that is a half
            precision).

        Raises:
            TypeError: if ``terms`` is no mapping, or a term no floating-point tensor.
            ValueError: if a term is negative or no scalar, or the names are not those of this module.
        """
        losses, dtype = self._losses(terms)
        root = (self._log_weights().to(losses.device) / 2).exp()  # its square underflows where the product need not
        return as_result((root * losses * root).sum(), dtype)

    @torch.no_grad()
    def balance(self, terms: Terms, shared: torch.Tensor | Iterable[torch.Tensor]) -> None:
        """Move the weights towards balance, by the gradients of the terms in the shared parameters.

        A term that is 0 or not finite, or whose gradient is, neither moves nor counts this time: its weight stays, and
        so does the sum of the others. The ``grad`` of the parameters stays as it is, and the graph of the terms is kept
        for ``backward``.

        Args:
            terms: the losses by name, scalars, at least 0, with the graph that leads to ``shared``.
            shared: the parameters that all tasks use, a tensor or an iterable of them. The last layer that the tasks
                share is enough, and cheapest.

        Raises:
            TypeError: if ``terms`` is no mapping, or a term or a parameter no floating-point tensor.
            ValueError: if a term is negative or no scalar, does not depend on any of the ``shared``, the names are
                not those of this module, or ``shared`` is empty or holds a tensor that needs no gradient.
        """
        losses, _ = self._losses(terms)
        shared = _check_shared(shared)
        norms = torch.stack([_gradient_norm(name, terms[name], shared) for name in self.names]).to(losses)
        seen = losses.to(self.first_loss)
        self.first_loss.copy_(torch.where((self.first_loss == 0) & seen.isfinite(), seen, self.first_loss))
        first = self.first_loss.to(losses)

        counts = (losses > 0) & losses.isfinite() & (norms > 0) & norms.isfinite() & (first > 0)
        log_weight = self.log_weight.to(losses)
        log_norm = log_weight + norms.log()
        log_left = losses.log() - first.log()
        log_target = _log_mean(log_norm, counts) + self.alpha * (log_left - _log_mean(log_left, counts))
        step = self.rate * (log_target - log_norm)
        step += _log_mean(log_weight, counts) - _log_mean(log_weight + step, counts)  # the sum of what moves stays
        self.log_weight.copy_(log_weight + torch.where(counts, step, 0.0))

    def _log_weights(self):
        """Return the logarithms of the weights, shape (K,)."""
        return math.log(len(self.names)) + working_precision(self.log_weight).log_softmax(0)


def _log_mean(logarithms, counts):
    """Return the logarithm of the mean of those numbers that count."""
    return logarithms.masked_fill(~counts, -torch.inf).logsumexp(0) - counts.sum().to(logarithms).log()


def _gradient_norm(name, term, shared):
    """Return the Euclidean norm of the term's gradient in all the shared parameters, as one vector."""
    gradients = torch.autograd.grad(term, shared, retain_graph=True, allow_unused=True) if term.requires_grad else ()
    parts = [working_precision(gradient).flatten() for gradient in gradients if gradient is not None]
    if not parts:
        raise ValueError(
            f"the term {name!r} must depend on the shared parameters through a graph, got one that does not"
        )
    gradient = torch.cat(parts)
    largest = gradient.abs().max().clamp(min=torch.finfo(gradient.dtype).tiny)
    return largest * torch.linalg.vector_norm(gradient / largest)  # its squares neither over- nor underflow


def _check_not_negative(name, number):
    """Raise TypeError or ValueError unless it is a number that is at least 0 and finite; an int may be no float."""
    check_number(name, number, lambda n: 0 <= n <= sys.float_info.max, "finite (as a float) and at least 0")


def _check_shared(shared):
    """Return the shared parameters as a list, or raise TypeError or ValueError."""
    if isinstance(shared, torch.Tensor):
        shared = [shared]
    if not isinstance(shared, Iterable):
        raise TypeError(f"shared must be a tensor or an iterable of tensors, got {type(shared).__name__}")
    shared = list(shared)
    for tensor in shared:
        check_floating("each of the shared parameters", tensor)
        if not tensor.requires_grad:
            raise ValueError("each of the shared parameters must require a gradient, got one that does not")
    if not shared:
        raise ValueError("shared must hold at least one parameter, got none (an iterator is empty after its first use)")
    return shared


def _check_terms(terms):
    """Raise TypeError or ValueError unless ``terms`` maps names to scalar losses."""
    if not isinstance(terms, Mapping):
        raise TypeError(f"terms must map names to scalar losses, got {type(terms).__name__}")
    if not terms:
        raise ValueError("terms must hold at least one loss, got none")
    for name, term in terms.items():
        check_floating(f"the term {name!r}", term)
        if term.dim() != 0:
            raise ValueError(f"the term {name!r} must be a scalar (reduced), got shape {tuple(term.shape)}")


def _check_names(what, given, where, wanted):
    """Raise ValueError unless the names are those wanted; the message says which are missing and which unknown."""
    missing = [name for name in wanted if name not in given]
    unknown = [name for name in given if name not in wanted]
    if not missing and not unknown:
        return
    faults = [f"{_listed(missing)} missing"] if missing else []
    for name in unknown:
        nearest = max(wanted, key=lambda other: difflib.SequenceMatcher(None, str(name), str(other)).ratio())
        if str(name) == str(nearest):
            types = f"{type(name).__name__}, that of {nearest!r} {type(nearest).__name__}"
            faults.append(f"{name!r} unknown (its type is {types})")
        else:
            faults.append(f"{name!r} unknown (the nearest name is {nearest!r})")
    raise ValueError(f"{what} must have the same names as {where}, got {', '.join(faults)}")


def _check_list_of_names(names):
    """Return the names as a tuple, or raise TypeError or ValueError."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"names must be an iterable of strings, got {type(names).__name__}")
    names = tuple(names)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"names must be an iterable of strings, got one of {type(name).__name__}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"names must hold at least one name and none twice, got {_listed(names) or 'none'}")
    return names


def _listed(names):
    """Return the names, quoted, with commas between them."""
    return ", ".join(map(repr, names))


def _common_dtype(tensors):
    """Return the dtype to which those of the tensors promote."""
    return functools.reduce(torch.promote_types, [tensor.dtype for tensor in tensors])
