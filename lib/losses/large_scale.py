"""Losses at a scale where the plain formula does not fit: more logits than memory, a batch spread over processes."""

from functools import partial

import torch
import torch.distributed as dist
from torch.nn.functional import pad

from lib.losses._common import (
    check_chunk_size,
    check_class_indices,
    check_embeddings,
    check_floating,
    check_integer,
    check_integers,
    check_number,
    check_reduction,
    check_two_dimensions,
    softplus,
    without_autocast,
)
from lib.losses.metric import clip_loss, nt_xent_loss

# The product of few rows and many classes is a fifth faster on a CPU (MKL) if it is made of products of this many.
CLASSES_AT_ONCE = 2048
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # of which processes have to choose the same


def linear_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    target: torch.Tensor,
    *,
    bias: torch.Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    chunk_size: int | None = None,
) -> torch.Tensor:
    r"""Cross-entropy of the logits of a linear layer, which are never held all at once.

    A language model multiplies each of N hidden vectors by a weight matrix of V words. The N x V logits, and their
    gradient of the same size, are the largest tensors of the whole training step, and nobody looks at them. Here they
    live for one chunk of rows at a time. For the logits :math:`z = Wh + b` and the true class :math:`y`:

    .. math:: \ell = \ln\Bigl(1 + \sum_{j \ne y} e^{z_j - z_y}\Bigr), \qquad g = \operatorname{softmax}(z) - e_y,
              \qquad \frac{\partial\ell}{\partial h} = W^\top g, \quad
              \frac{\partial\ell}{\partial W} = g h^\top, \quad \frac{\partial\ell}{\partial b} = g.

    All that the gradients need of the other rows is a factor, so they are summed while a chunk is at hand: in the
    forward pass, unless ``reduction`` is "none", where the factors come with the backward pass and the chunks are
    computed anew. Where no gradient is wanted, ``torch.no_grad()`` saves two thirds of the work.

    The result is that of ``cross_entropy(hidden @ weight.T + bias, target)``. A second derivative, a ``vmap`` and a
    forward-mode derivative are refused; ``torch.compile`` leaves the loss as it is, a break in the graph.

    Args:
        hidden: what the last layer is applied to, shape (..., D).
        weight: of the last layer, as in ``torch.nn.Linear``, shape (V, D).
        target: class indices in [0, V), an integer tensor of the shape of ``hidden`` without D.
        bias: of the last layer, shape (V,).
        ignore_index: class index whose rows neither count nor get a gradient; no work is spent on them.
        label_smoothing: the share, in [0, 1], of the target that is spread evenly over all classes.
        reduction: "none", "sum" or "mean", which divides by the number of targets that are not ignored. The mean of no
            targets is NaN with gradient zero, as in torch.
        chunk_size: how many rows have their logits in memory at a time. By default so many that the logits take 2
            million numbers (8 MiB in float32), or an eighth of what the weight takes, where that is more; a larger
            chunk is somewhat faster. The result does not depend on it, but for rounding.

    Returns:
        The loss in nats: a scalar, or the shape of ``target`` where ``reduction`` is "none". It is a float32 where all
        inputs are of half precision, as everything is summed in float32 and bfloat16 would keep two digits of that;
        the gradients have the dtypes of what they belong to. What rounding leaves in a logit is a relative error of the
        small loss of a confident right answer.

    Raises:
        TypeError: if a dtype, or the type of an option, does not fit.
        ValueError: if a shape, a device, a class index or an option does not fit.

    Example:
        >>> hidden, weight = torch.zeros(2, 8), torch.zeros(10, 8)  # ten words, and no idea which
        >>> linear_cross_entropy(hidden, weight, torch.tensor([3, 7]))
        tensor(2.3026)

    Reference:
        Hsu et al. 2024, Liger Kernel, https://arxiv.org/abs/2410.10989 (gradients in the forward pass, by chunks);
        Wijmans et al. 2024, Cut Your Losses in Large-Vocabulary Language Models, https://arxiv.org/abs/2411.09009.
    """
    _check_linear(hidden, weight, target, bias, ignore_index, label_smoothing, reduction, chunk_size)
    classes, features = weight.shape
    layer = (hidden.reshape(target.numel(), features), weight, bias)
    wanted = [torch.is_grad_enabled() and x is not None and x.requires_grad for x in layer]
    options = (label_smoothing, chunk_size or max(2**21 // classes, features // 8, 1))
    apply = _LinearCrossEntropy.apply
    if torch.compiler.is_compiling():  # as a decorator it would load the compiler together with this module
        apply = torch.compiler.disable(apply)
    loss = apply(*layer, target.reshape(-1).long(), ignore_index, reduction, wanted, options)
    return loss.reshape(target.shape) if reduction == "none" else loss


class _LinearCrossEntropy(torch.autograd.Function):
    """The loss of each row, or their sum or mean, for which the gradients are computed along with the value.

    Without ``setup_context``, as the forward pass has to know which gradients are wanted. This rules out vmap and
    torch.func, which say so.
    """

    @staticmethod
    def forward(ctx, hidden, weight, bias, target, ignore_index, reduction, wanted, options):
        counted = (target != ignore_index).nonzero().squeeze(1)
        ctx.save_for_backward(hidden, weight, bias, target, counted)
        ctx.wanted, ctx.options = wanted, options
        ctx.divisor = {"none": None, "sum": 1, "mean": len(counted)}[reduction]
        if reduction == "none":  # backward will tell how much each row counts
            loss, _ = _chunk_by_chunk(hidden, weight, bias, target, counted, None, [False] * 3, *options)
            ctx.gradients = None
            return loss
        factor = hidden.new_ones(len(target), dtype=_working_dtype(hidden, weight, bias)) / ctx.divisor
        loss, ctx.gradients = _chunk_by_chunk(hidden, weight, bias, target, counted, factor, wanted, *options)
        return loss.sum() / ctx.divisor

    @staticmethod
    def backward(ctx, grad_output):
        if torch.is_grad_enabled():  # which create_graph asks for
            raise RuntimeError(
                "linear_cross_entropy has no second derivative, got create_graph=True; "
                "cross_entropy(hidden @ weight.T, target) has one"
            )
        # The gradients are handed over without a copy and belong to others then: who asks again has them made anew.
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            inputs = ctx.saved_tensors
            factor = grad_output if ctx.divisor is None else (grad_output / ctx.divisor).expand(len(inputs[0]))
            _, gradients = _chunk_by_chunk(*inputs, factor, ctx.wanted, *ctx.options)
        else:
            for gradient in filter(torch.is_tensor, gradients):
                gradient.mul_(grad_output)
        return (*gradients, None, None, None, None, None)


def _chunk_by_chunk(hidden, weight, bias, target, counted, factor, wanted, label_smoothing, chunk_size):
    """Return the loss of each row, and the gradients of their sum, in which each row counts ``factor`` times."""
    dtype = _working_dtype(hidden, weight, bias)
    weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
    loss = hidden.new_zeros(len(target), dtype=dtype)
    gradients = [
        torch.zeros_like(x, dtype=dtype) if w else None for x, w in zip((hidden, weight, bias), wanted, strict=True)
    ]
    d_hidden, d_weight, d_bias = gradients
    buffer = hidden.new_empty(min(chunk_size, len(counted)), len(weight), dtype=dtype)
    block = CLASSES_AT_ONCE if hidden.is_cpu else len(weight)
    with without_autocast(hidden):
        for rows in counted.split(chunk_size):
            x, index = hidden[rows].to(dtype), target[rows].unsqueeze(1)
            logits = buffer[: len(rows)]
            for some, of_some in zip(logits.split(block, 1), weight.split(block), strict=True):
                torch.mm(x, of_some.T, out=some)
            if bias is not None:
                logits.add_(bias)
            loss[rows], share = _differentiate_(logits, index, label_smoothing)
            if not any(wanted):
                continue
            logits.mul_((share * factor[rows]).unsqueeze(1))  # before the product with the weight, which may overflow
            if d_hidden is not None:
                d_hidden[rows] = logits @ weight
            if d_weight is not None:
                d_weight.addmm_(logits.T, x)
            if d_bias is not None:
                d_bias.add_(logits.sum(0))
    return loss, gradients


def _differentiate_(logits, index, label_smoothing):
    """Return the loss of each row and turn its logits, in place, into its gradient but for the factor also returned."""
    truth = logits.gather(1, index)
    top = logits.scatter_(1, index, -torch.inf).amax(1, keepdim=True)
    top = top.clamp_(min=torch.finfo(logits.dtype).min)  # without a rival it is -inf
    lead = truth - top
    logits.scatter_(1, index, truth).sub_(top)
    average = logits.mean(1, keepdim=True) if label_smoothing else None  # of the logits, over the largest
    rivals = logits.scatter_(1, index, -torch.inf).exp_().sum(1, keepdim=True).clamp_(min=1)
    odds = rivals.log() - lead
    loss, share = softplus(odds), odds.sigmoid() / rivals
    # The true class gets minus the sum of the others: 1 - p would lose the digits of a confident right answer.
    logits.scatter_(1, index, -rivals)
    if label_smoothing:
        spread = torch.logaddexp(lead, rivals.log()) - average  # the mean of -log p over all classes
        loss = (1 - label_smoothing) * loss + label_smoothing * spread
        logits.mul_(share).sub_(label_smoothing / logits.shape[1])
        logits.scatter_add_(1, index, torch.full_like(truth, label_smoothing))
        share = torch.ones_like(share)
    return loss.squeeze(1), share.squeeze(1)


def _working_dtype(*tensors):
    """Return the dtype in which these tensors are computed with: what they promote to, but at least float32."""
    dtype = torch.float32
    for tensor in tensors:
        if tensor is not None:
            dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def _check_linear(hidden, weight, target, bias, ignore_index, label_smoothing, reduction, chunk_size):
    """Raise TypeError or ValueError, saying what was given and what is wanted, where an argument does not fit."""
    check_reduction(reduction)
    check_floating("hidden", hidden)
    check_floating("weight", weight)
    check_integers("target", target, "class indices")
    check_integer("ignore_index", ignore_index)
    check_number("label_smoothing", label_smoothing, lambda share: 0 <= share <= 1, "between 0 and 1")
    check_chunk_size(chunk_size)
    if weight.dim() != 2 or len(weight) == 0:
        raise ValueError(f"weight must have shape (V, D) with at least one class, got {tuple(weight.shape)}")
    if hidden.dim() == 0 or hidden.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"hidden must have shape (..., {weight.shape[1]}) for weight of shape {tuple(weight.shape)}, "
            f"got {tuple(hidden.shape)}"
        )
    if target.shape != hidden.shape[:-1]:
        raise ValueError(
            f"target for hidden of shape {tuple(hidden.shape)} must have shape {tuple(hidden.shape[:-1])}, "
            f"got {tuple(target.shape)}"
        )
    if bias is not None:
        check_floating("bias", bias)
        if bias.shape != weight.shape[:1]:
            raise ValueError(
                f"bias must have one number for each of the {len(weight)} classes, got {tuple(bias.shape)}"
            )
    tensors = {"hidden": hidden, "weight": weight, "target": target, "bias": hidden if bias is None else bias}
    if len({x.device for x in tensors.values()}) > 1:
        places = ", ".join(f"{name} on {x.device}" for name, x in tensors.items())
        raise ValueError(f"hidden, weight, target and bias must be on one device, got {places}")
    check_class_indices(target, len(weight), ignore_index)


def distributed_nt_xent_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    *,
    temperature: float = 0.5,
    chunk_size: int | None = None,
    group: "dist.ProcessGroup | None" = None,
) -> torch.Tensor:
    r"""SimCLR's loss of a batch that is spread over processes: the rivals of an anchor come from all of them.

    It is :func:`nt_xent_loss` of the whole batch, and each process gets that one number, not the loss of its share.
    To lower it, an embedding has to move for the sake of anchors on other processes too. So gradients go back to where
    the embeddings came from and are summed there: with P processes, that of ``input`` is

    .. math:: \sum_{p=1}^{P} \frac{\partial\ell_p}{\partial u} = P\,\frac{\partial\ell}{\partial u}
              \qquad \text{as}\quad \ell_1 = \dots = \ell_P = \ell,

    and the average over processes, which ``DistributedDataParallel`` takes of the gradients of its parameters, is what
    one process with the whole batch would compute. Two shorter ways are wrong: rivals gathered without their gradient
    make it P times too small, and the mean of the losses of the shares is another loss, with fewer rivals.

    Args:
        input: this process's share of the embeddings of one view, shape (N, D). N may differ between processes, and
            may be 0; D and the dtype may not. Where the share of one process needs a gradient, the loss of all has one,
            and all have to call ``backward``.
        target: embeddings of the other view, in the shape of ``input``.
        temperature: the unit of cosine similarity, above 0; the same on all processes.
        chunk_size: as in :func:`nt_xent_loss`.
        group: the processes that share the batch, all of which have to call this function; by default all there are.
            Without an initialised process group the loss is the plain one, so that a script also runs on its own.

    Returns:
        The mean over the anchors of all processes in nats, a scalar in the dtype to which those of the inputs promote
        (computed in float32 where that is a half precision).

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if a shape or an option does not fit, here or on another process (all of them raise then), if the
            processes disagree on what has to be the same, or if this one is not in ``group``.

    Example:
        >>> views = torch.eye(8)  # a process on its own: the plain loss
        >>> distributed_nt_xent_loss(views, views)  # log(1 + 14 exp(-2))
        tensor(1.0629)

    Reference:
        T. Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, 2020,
        https://arxiv.org/abs/2002.05709 (appendix B: the batch of all devices).
    """
    loss = partial(nt_xent_loss, temperature=temperature, chunk_size=chunk_size)
    return _of_all_processes(loss, input, target, temperature, group)


def distributed_clip_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    *,
    temperature: float | torch.Tensor = 0.07,
    group: "dist.ProcessGroup | None" = None,
) -> torch.Tensor:
    """CLIP's loss of a batch that is spread over processes: each image is told from the texts of all of them.

    It is :func:`clip_loss` of the whole batch. What each process gets, and what becomes of the gradients, is as in
    :func:`distributed_nt_xent_loss`; a temperature that learns as a parameter under ``DistributedDataParallel`` gets
    the gradient of one process with the whole batch as well.

    Args:
        input: this process's share of the embeddings of the images, say, shape (N, D), as in
            :func:`distributed_nt_xent_loss`.
        target: embeddings of their texts, in the shape of ``input``.
        temperature: the unit of cosine similarity, above 0: a number, or a tensor of shape () that may learn; the same
            on all processes.
        group: the processes that share the batch, all of which have to call this function; by default all there are.
            Without an initialised process group the loss is the plain one.

    Returns:
        The mean over the pairs of all processes in nats, a scalar in the dtype to which those of the inputs promote
        (computed in float32 where that is a half precision).

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if a shape or an option does not fit, here or on another process (all of them raise then), if the
            processes disagree on what has to be the same, or if this one is not in ``group``.

    Example:
        >>> pairs = torch.eye(8)  # a process on its own: the plain loss
        >>> distributed_clip_loss(pairs, pairs, temperature=0.5)  # log(1 + 7 exp(-2))
        tensor(0.6665)

    Reference:
        A. Radford et al., Learning Transferable Visual Models From Natural Language Supervision, 2021,
        https://arxiv.org/abs/2103.00020.
    """
    return _of_all_processes(partial(clip_loss, temperature=temperature), input, target, temperature, group)


def _of_all_processes(loss, input, target, temperature, group):
    """Return the loss of the pairs of all processes, in the order of their ranks."""
    if not (dist.is_available() and dist.is_initialized()):
        return loss(input, target)
    rank = dist.get_rank(group)
    if rank < 0:
        raise ValueError("group must hold this process, got one that does not")
    counts, needs_gradient = _check_together(loss, input, target, temperature, group)
    # A sum of shares that are padded with zeros is a gather for which shares need not be of one size.
    share = pad(torch.stack([input, target], 1), (0, 0, 0, 0, sum(counts[:rank]), sum(counts[rank + 1 :])))
    if needs_gradient and not share.requires_grad:
        share.requires_grad_()  # the backward pass of the others waits for this process too
    return loss(*_SumOverProcesses.apply(share, group).unbind(1))


def _check_together(loss, input, target, temperature, group):
    """Return the number of pairs of each process, and whether any needs a gradient, or raise on all processes.

    If one raised before it has told the others, they would wait for it.
    """
    device = next((x.device for x in (input, target) if isinstance(x, torch.Tensor)), None)
    facts = torch.zeros(dist.get_world_size(group), 6, dtype=torch.float64, device=device)
    mine = facts[dist.get_rank(group)]
    refusal = None
    try:
        check_embeddings(input=input, target=target)
        check_two_dimensions(input=input)
        needs_gradient = torch.is_grad_enabled() and (input.requires_grad or target.requires_grad)
        with torch.no_grad():
            loss(input[:0], target[:0])  # makes all other checks, and of no pairs is no work
            mine[1] = temperature
        dtype = DTYPES.index(torch.promote_types(input.dtype, target.dtype))
        mine[2:] = mine.new_tensor([*input.shape, dtype, needs_gradient])
        mine[0] = True
    except Exception as error:  # of whatever kind, the others have to hear of it
        refusal = error
    dist.all_reduce(facts, group=group)
    if refusal is not None:
        raise refusal
    fits, temperatures, *integers = facts.T.tolist()
    counts, features, dtypes, gradients = ([int(x) for x in row] for row in integers)
    if not all(fits):
        failing = [rank for rank, fit in enumerate(fits) if not fit]
        raise ValueError(f"the arguments must fit on all processes, got an error on those of rank {failing}")
    if len(set(features)) > 1:
        raise ValueError(f"input must have the same number of components on all processes, got {features}")
    if len(set(dtypes)) > 1:
        raise ValueError(f"input must have the same dtype on all processes, got {[DTYPES[index] for index in dtypes]}")
    if max(temperatures) > 1.01 * min(temperatures):  # less may be due to the rounding of unlike devices
        raise ValueError(f"temperature must be the same on all processes, got {temperatures}")
    return counts, any(gradients)


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over processes; each gets it, so the gradient of a summand is a sum over them too."""

    @staticmethod
    def forward(ctx, summand, group):
        ctx.group = group
        total = summand.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx, gradient):
        return _SumOverProcesses.apply(gradient, ctx.group), None
