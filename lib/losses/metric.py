"""Losses on embeddings: vectors of what belongs together shall be near, the others far."""

import math

import torch

from lib.losses._common import (
    any_true,
    as_result,
    check_chunk_size,
    check_embeddings,
    check_floating,
    check_integers,
    check_number,
    check_reduction,
    check_two_dimensions,
    double_precision,
    margin_excess,
    reduce,
    softplus,
    without_autocast,
    working_precision,
)


def contrastive_loss(
    input1: torch.Tensor,
    input2: torch.Tensor,
    target: torch.Tensor,
    *,
    margin: float = 1.0,
    reduction: str = "mean",
) -> torch.Tensor:
    r"""Contrastive loss: pull similar pairs together, push dissimilar ones apart until they are a margin away.

    For the distance :math:`d = \lVert u - v \rVert` of a pair, the label :math:`y` (+1 similar, -1 dissimilar) and
    the margin :math:`m`:

    .. math:: \ell = \begin{cases} \tfrac12 d^2 & y = +1 \\ \tfrac12 \max(0, m - d)^2 & y = -1 \end{cases}
              \qquad \frac{\partial\ell}{\partial u} = -\frac{\partial\ell}{\partial v}
              = \begin{cases} u - v & y = +1 \\ -\max(0, m - d)\,(u - v) / d & y = -1 \end{cases}

    A dissimilar pair at :math:`d = 0` has no direction in which to part: its gradient is 0.

    Args:
        input1: the first embeddings, shape (N, D), or (D,) for one pair.
        input2: the second embeddings, in the shape of ``input1``.
        target: +1 for a similar, -1 for a dissimilar pair, integers or floats, shape (N,) (or () for one pair).
        margin: the distance from which on dissimilar pairs cost nothing, in the unit of the embeddings, at least 0.
        reduction: "none", "sum" or "mean" (over the pairs; of no pairs it is NaN).

    Returns:
        The loss in the squared unit of the embeddings, in the dtype to which those of the two inputs promote: a scalar,
        or the shape of ``target`` where ``reduction`` is "none". Distances are compared with the margin in float64,
        whatever the dtype: next to the margin, a distance in float32 would keep few digits of what is left.

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if a shape, a label, ``margin`` or ``reduction`` does not fit.

    Example:
        >>> here, there = torch.zeros(3, 2), torch.tensor([[0.6, 0.8], [0.3, 0.4], [3.0, 4.0]])
        >>> contrastive_loss(here, there, torch.tensor([1, -1, -1]), reduction="none")  # d = 1, 0.5, 5
        tensor([0.5000, 0.1250, 0.0000])

    Reference:
        R. Hadsell, S. Chopra and Y. LeCun, Dimensionality Reduction by Learning an Invariant Mapping, CVPR 2006,
        https://doi.org/10.1109/CVPR.2006.100. (The paper writes Y = 0 for similar pairs and 1 for dissimilar ones.)
    """
    _check_labelled_pairs(input1, input2, target, reduction)
    check_number("margin", margin, lambda m: 0 <= m < math.inf, "finite and at least 0")
    wrong = double_precision(target).abs() != 1  # torch has no abs of most unsigned integers
    if any_true(wrong):
        raise ValueError(
            f"target must be +1 (similar) or -1 (dissimilar), got {target[wrong][0].item()}; "
            "2 * target - 1 turns 0 and 1 into -1 and +1"
        )
    dtype = torch.promote_types(input1.dtype, input2.dtype)
    input1, input2 = (working_precision(x.to(dtype)) for x in (input1, input2))
    difference = input1 - input2
    similar = (difference * (difference / 2)).sum(-1)  # D^2 / 2, and its gradient is right at 0 and where it overflows
    dissimilar = (margin - _distance(input1, input2)).relu().square() / 2
    return as_result(reduce(torch.where(target == 1, similar, dissimilar), reduction), dtype)


def triplet_margin_loss(
    anchor: torch.Tensor,
    positive: torch.Tensor,
    negative: torch.Tensor,
    *,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> torch.Tensor:
    r"""Triplet loss: the anchor shall be nearer to the positive than to the negative, by a margin.

    For an anchor :math:`a`, its positive :math:`b` and a negative :math:`c`, with
    :math:`d(u, v) = \lVert u - v + \varepsilon \rVert_p` and the margin :math:`m`:

    .. math:: \ell = \max\bigl(0,\; m + d(a, b) - d(a, c)\bigr),
              \qquad \frac{\partial\ell}{\partial a} = [m + d(a, b) \ge d(a, c)]\,\Bigl(\frac{a - b}{d(a, b)}
              - \frac{a - c}{d(a, c)}\Bigr)

    for the Euclidean distance (with :math:`\varepsilon` added to each difference). At the kink, where the loss reaches
    0, the gradient is, as torch's, that of the side that costs; of two equally far negatives (``swap``) each has half.
    torch adds :math:`\varepsilon` to the difference, not to the distance, and so do we: it keeps equal points off the
    kink of the norm, and makes the distance depend a little on the order of its arguments. At a distance of exactly 0
    the gradient is 0.

    Args:
        anchor: embeddings, shape (N, D), or (..., D), with at least one component (torch takes none, too).
        positive: embeddings of what the anchors belong with, in the shape of ``anchor``.
        negative: embeddings of what they do not belong with, in the shape of ``anchor``.
        margin: by how much the negative has to be farther away than the positive, above 0.
        p: which norm, above 0; 2 is the Euclidean one, ``math.inf`` the largest component. (torch also takes 0, which
            counts components and teaches nothing, and negative numbers, which are no norms.)
        eps: what is added to each component of a difference.
        swap: whether the negative's distance is the smaller of those to the anchor and to the positive.
        reduction: "none", "sum" or "mean" (over the triplets; of no triplets it is NaN).

    Returns:
        The loss in the unit of the embeddings, in the dtype to which those of the inputs promote (computed in float32
        where that is a half precision): a scalar, or the shape of ``anchor`` without D where ``reduction`` is "none".
        Distances are rounded before they are compared: in float32 a Euclidean loss is off by up to 2e-7 of their sum,
        and closer to the kink than that it may be found on the wrong side. Embeddings in float64 cost more time and
        have it 1e9 times smaller.

    Raises:
        TypeError: if a dtype or ``swap`` does not fit.
        ValueError: if the shapes differ (they would broadcast) or an option does not fit.

    Example:
        >>> anchor, near, far = torch.zeros(1, 2), torch.tensor([[0.3, 0.4]]), torch.tensor([[0.6, 0.8]])
        >>> triplet_margin_loss(anchor, near, far)  # 1 + 0.5 - 1
        tensor(0.5000)

    Reference:
        V. Balntas et al., Learning Local Feature Descriptors with Triplets and Shallow Convolutional Neural Networks,
        BMVC 2016, https://doi.org/10.5244/C.30.119 (with the swap); F. Schroff et al., FaceNet, 2015,
        https://arxiv.org/abs/1503.03832 (with squared distances).
    """
    check_reduction(reduction)
    check_embeddings(anchor=anchor, positive=positive, negative=negative)
    _check_positive("margin", margin)
    check_number("p", p, lambda p: p > 0, "above 0")
    check_number("eps", eps, math.isfinite, "finite")
    if not isinstance(swap, bool):
        raise TypeError(f"swap must be True or False, got {swap!r}")
    dtype = torch.promote_types(torch.promote_types(anchor.dtype, positive.dtype), negative.dtype)
    anchor, positive, negative = (working_precision(x.to(dtype)) for x in (anchor, positive, negative))
    near = _norm(anchor - positive + eps, p)
    far = _norm(anchor - negative + eps, p)
    if swap:
        far = torch.minimum(far, _norm(positive - negative + eps, p))
    loss = margin_excess(near, far, float(margin)).clamp(min=0)
    return as_result(reduce(loss, reduction), dtype)


def cosine_embedding_loss(
    input1: torch.Tensor,
    input2: torch.Tensor,
    target: torch.Tensor,
    *,
    margin: float = 0.0,
    reduction: str = "mean",
) -> torch.Tensor:
    r"""Cosine loss: similar pairs shall point the same way, dissimilar ones shall not; lengths do not matter.

    For :math:`\cos(u, v) = u \cdot v / \sqrt{(|u|^2 + \varepsilon)(|v|^2 + \varepsilon)}`, where torch's
    :math:`\varepsilon = 10^{-12}` keeps zero vectors from dividing by 0, the label :math:`y` and the margin :math:`m`:

    .. math:: \ell = \begin{cases} 1 - \cos(u, v) & y = +1 \\ \max(0, \cos(u, v) - m) & y = -1 \end{cases}
              \qquad \frac{\partial\cos}{\partial u}
              = \frac{1}{\sqrt{|u|^2 + \varepsilon}}\Bigl(\hat v - \cos(u, v)\,\hat u\Bigr)

    with :math:`\hat u = u / \sqrt{|u|^2 + \varepsilon}` and :math:`\hat v` likewise. Both are computed in float64,
    whatever the dtype. The difference :math:`1 - \cos` of nearly parallel vectors keeps none of its digits even there;
    computed instead is the same number as a sum without a minus,

    .. math:: 1 - \cos(u, v) = \tfrac12\Bigl(|\hat u - \hat v|^2 + \frac{\varepsilon}{|u|^2 + \varepsilon}
              + \frac{\varepsilon}{|v|^2 + \varepsilon}\Bigr).

    Args:
        input1: the first embeddings, shape (N, D), or (D,) for one pair.
        input2: the second embeddings, in the shape of ``input1``.
        target: +1 for a similar, -1 for a dissimilar pair, integers or floats, shape (N,) (or () for one pair). As in
            torch a pair with any other number costs nothing: 0 is not a label. (torch also takes booleans, whose False
            is none either, and embeddings of integers.)
        margin: the cosine up to which dissimilar pairs cost nothing, from -1 to 1 (0 to 0.5 are usual).
        reduction: "none", "sum" or "mean" (over the pairs; of no pairs it is NaN).

    Returns:
        The loss, from 0 to 2 for similar pairs, in the dtype to which those of the two inputs promote: a scalar, or the
        shape of ``target`` where ``reduction`` is "none". Scaling to length 1 rounds in float64: at a small angle
        between the two, the relative error is 1e-16 divided by the angle.

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if a shape, ``margin`` or ``reduction`` does not fit.

    Example:
        >>> east, other = torch.tensor([[1.0, 0.0]] * 3), torch.tensor([[3.0, 4.0], [0.0, 5.0], [3.0, 4.0]])
        >>> cosine_embedding_loss(east, other, torch.tensor([1, 1, -1]), reduction="none")  # cos = 0.6, 0, 0.6
        tensor([0.4000, 1.0000, 0.6000])

    Reference:
        J. Bromley et al., Signature Verification using a "Siamese" Time Delay Neural Network, Int. J. Pattern Recognit.
        Artif. Intell. 7 (1993), https://doi.org/10.1142/S0218001493000339 (cosines of +1 and -1 as targets). torch:
        ``torch.nn.functional.cosine_embedding_loss``.
    """
    _check_labelled_pairs(input1, input2, target, reduction)
    check_number("margin", margin, math.isfinite, "finite")
    dtype = torch.promote_types(input1.dtype, input2.dtype)
    cosine, apart = _cosine(input1.to(dtype), input2.to(dtype))
    overlap = (cosine - margin).clamp(min=0)
    loss = torch.where(target == 1, apart, torch.where(target == -1, overlap, 0.0))
    return as_result(reduce(loss, reduction), dtype)


def nt_xent_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    *,
    temperature: float = 0.5,
    chunk_size: int | None = None,
    reduction: str = "mean",
) -> torch.Tensor:
    r"""SimCLR's loss: of all other embeddings in the batch, which one is the other view of the same thing?

    ``input`` and ``target`` are two views of N things. Each of the 2N embeddings, scaled to length 1, is an anchor
    :math:`u_i`, the other view of the same thing its positive :math:`u_{i'}`, and the 2N - 2 others are its rivals.
    With the temperature :math:`\tau`, each anchor pays the cross-entropy of picking its positive:

    .. math:: \ell_i = -\ln\frac{e^{u_i \cdot u_{i'} / \tau}}{\sum_{j \ne i} e^{u_i \cdot u_j / \tau}}
              = \ln\Bigl(1 + \sum_{j \ne i, i'} e^{(u_i \cdot u_j - u_i \cdot u_{i'}) / \tau}\Bigr),
              \qquad \frac{\partial\sum_i\ell_i}{\partial u_k}
              = \frac1\tau\sum_{j \ne k} (P_{kj} + P_{jk} - 2\,[j = k'])\,u_j,

    where :math:`P_{ij}` is the probability that anchor i gives to j. The right-hand form of the loss is the one
    computed. The 2N x 2N similarities are never held together: the rows are worked through in chunks, and again in the
    backward pass, so that memory grows with N and not with its square.

    Args:
        input: embeddings of one view, shape (N, D). A row of zeros has no direction: its cosine with every other
            is 0, and so is its gradient.
        target: embeddings of the other view, in the shape of ``input``.
        temperature: the unit of cosine similarity, above 0; the smaller, the more the nearest rivals count.
        chunk_size: how many rows of the similarity matrix are held at a time. None takes as many as fit a CPU's
            cache (at least 64). A second derivative holds all of them.
        reduction: "none", "sum" or "mean" (over the 2N anchors; of none it is NaN).

    Returns:
        The loss in nats, in the dtype to which those of the inputs promote (computed in float32 where that is a half
        precision): a scalar, or the shape (2N,) where ``reduction`` is "none", first the rows of ``input``. Rounding
        of the cosines counts 1 / temperature times.

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if the shapes differ or an option does not fit.

    Example:
        >>> views = torch.eye(8)  # eight things, no two alike
        >>> nt_xent_loss(views, views)  # log(1 + 14 exp(-2))
        tensor(1.0629)

    Reference:
        T. Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, 2020,
        https://arxiv.org/abs/2002.05709.
    """
    check_reduction(reduction)
    check_embeddings(input=input, target=target)
    check_two_dimensions(input=input)
    check_chunk_size(chunk_size)
    dtype = torch.promote_types(input.dtype, target.dtype)
    _check_temperature(temperature, dtype)
    things = len(input)
    unit = torch.cat([_unit(input, dtype), _unit(target, dtype)])
    positive = (unit * unit.roll(things, 0)).sum(1) / temperature
    itself = torch.arange(2 * things, device=input.device)
    no_rivals = torch.stack([itself, itself.roll(things)], 1)
    rivals = _LogSumExpOfSimilarities.apply(unit, no_rivals, temperature, chunk_size or max(64, 2**17 // (things + 1)))
    return as_result(reduce(softplus(rivals - positive), reduction), dtype)


def info_nce_loss(
    query: torch.Tensor,
    positive: torch.Tensor,
    negatives: torch.Tensor | None = None,
    *,
    temperature: float | torch.Tensor = 0.07,
    reduction: str = "mean",
) -> torch.Tensor:
    r"""InfoNCE: pick the positive of a query from among negatives.

    For a query :math:`a`, its positive :math:`b` and negatives :math:`c_j`, all scaled to length 1, and the
    temperature :math:`\tau`:

    .. math:: \ell = -\ln\frac{e^{a \cdot b / \tau}}{e^{a \cdot b / \tau} + \sum_j e^{a \cdot c_j / \tau}}
              = \ln\Bigl(1 + \sum_j e^{(a \cdot c_j - a \cdot b) / \tau}\Bigr),
              \qquad \frac{\partial\ell}{\partial a} = \frac1\tau \sum_j P_j\,(c_j - b),

    where :math:`P_j` is the probability given to negative j. Minus the loss, plus the logarithm of the number of
    candidates, is on average a lower bound of the mutual information of query and positive.

    Args:
        query: embeddings, shape (N, D). A row of zeros has no direction: its cosine with every other is 0, and so is
            its gradient.
        positive: embeddings of what belongs with each query, in the shape of ``query``.
        negatives: embeddings that belong with no query, shape (M, D); or each query's own, shape (N, M, D). None
            takes the positives of the other queries.
        temperature: the unit of cosine similarity, above 0: a number, or a tensor of shape () that may learn.
        reduction: "none", "sum" or "mean" (over the queries; of none it is NaN).

    Returns:
        The loss in nats, in the dtype to which those of the embeddings promote (computed in float32 where that is a
        half precision): a scalar, or the shape (N,) where ``reduction`` is "none". Rounding of the cosines counts
        1 / temperature times.

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if a shape or an option does not fit.

    Example:
        >>> keys = torch.eye(8)
        >>> info_nce_loss(keys, keys, temperature=0.5)  # log(1 + 7 exp(-2))
        tensor(0.6665)

    Reference:
        A. van den Oord, Y. Li and O. Vinyals, Representation Learning with Contrastive Predictive Coding, 2018,
        https://arxiv.org/abs/1807.03748.
    """
    check_reduction(reduction)
    check_embeddings(query=query, positive=positive)
    check_two_dimensions(query=query)
    dtype = torch.promote_types(query.dtype, positive.dtype)
    if negatives is not None:
        _check_negatives(negatives, query)
        dtype = torch.promote_types(dtype, negatives.dtype)
    _check_temperature(temperature, dtype, may_learn=True)
    query, positive = _unit(query, dtype), _unit(positive, dtype)
    query = query / temperature
    truth = (query * positive).sum(1)
    if negatives is None:
        rivals = _without(_products(query, positive), _diagonal(query)).logsumexp(1)
    elif negatives.dim() == 2:
        rivals = _products(query, _unit(negatives, dtype)).logsumexp(1)
    else:
        rivals = _products(query.unsqueeze(1), _unit(negatives, dtype)).squeeze(1).logsumexp(1)
    return as_result(reduce(softplus(rivals - truth), reduction), dtype)


def clip_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    *,
    temperature: float | torch.Tensor = 0.07,
    reduction: str = "mean",
) -> torch.Tensor:
    r"""CLIP's loss: find each image's text among all texts, and each text's image among all images.

    It is the mean of :func:`info_nce_loss` in both directions. For embeddings :math:`u_i` and :math:`v_i` of N
    pairs, scaled to length 1, and the temperature :math:`\tau`:

    .. math:: \ell_i = -\frac12\ln\frac{e^{u_i \cdot v_i / \tau}}{\sum_j e^{u_i \cdot v_j / \tau}}
              - \frac12\ln\frac{e^{u_i \cdot v_i / \tau}}{\sum_j e^{u_j \cdot v_i / \tau}},
              \qquad \frac{\partial\sum_i\ell_i}{\partial u_i}
              = \frac1\tau\sum_j \Bigl(\frac{P_{ij} + Q_{ij}}2 - [j = i]\Bigr)\,v_j,

    where :math:`P_{ij}` is the probability that image i gives to text j, and :math:`Q_{ij}` that which text j gives to
    image i.

    Args:
        input: embeddings of the images, say, shape (N, D). A row of zeros has no direction: its cosine with every
            other is 0, and so is its gradient.
        target: embeddings of their texts, in the shape of ``input``.
        temperature: the unit of cosine similarity, above 0: a number, or a tensor of shape () that may learn (CLIP
            learns the logarithm of its inverse: pass ``(-log_scale).exp()``).
        reduction: "none", "sum" or "mean" (over the pairs; of none it is NaN).

    Returns:
        The loss in nats, in the dtype to which those of the inputs promote (computed in float32 where that is a half
        precision): a scalar, or the shape (N,) where ``reduction`` is "none". Rounding of the cosines counts
        1 / temperature times.

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if the shapes differ or an option does not fit.

    Example:
        >>> pairs = torch.eye(8)
        >>> clip_loss(pairs, pairs, temperature=0.5)  # log(1 + 7 exp(-2))
        tensor(0.6665)

    Reference:
        A. Radford et al., Learning Transferable Visual Models From Natural Language Supervision, 2021,
        https://arxiv.org/abs/2103.00020.
    """
    check_reduction(reduction)
    check_embeddings(input=input, target=target)
    check_two_dimensions(input=input)
    dtype = torch.promote_types(input.dtype, target.dtype)
    _check_temperature(temperature, dtype, may_learn=True)
    images, texts = _unit(input, dtype) / temperature, _unit(target, dtype)
    truth = (images * texts).sum(1)
    rivals = _without(_products(images, texts), _diagonal(images))
    loss = (softplus(rivals.logsumexp(1) - truth) + softplus(rivals.logsumexp(0) - truth)) / 2
    return as_result(reduce(loss, reduction), dtype)


def supervised_contrastive_loss(
    input: torch.Tensor, target: torch.Tensor, *, temperature: float = 0.1, reduction: str = "mean"
) -> torch.Tensor:
    r"""Supervised contrastive loss: all embeddings of a class are each other's positives.

    The embeddings are scaled to length 1. For the anchor :math:`u_i` with the positives :math:`K(i)` (the others of its
    class) and the temperature :math:`\tau`, with :math:`s_{ij} = u_i \cdot u_j / \tau`:

    .. math:: \ell_i = -\frac{1}{|K(i)|}\sum_{k \in K(i)} \ln\frac{e^{s_{ik}}}{\sum_{j \ne i} e^{s_{ij}}},
              \qquad \frac{\partial\ell_i}{\partial s_{ij}} = P_{ij} - \frac{[j \in K(i)]}{|K(i)|}

    for :math:`j \ne i`, where :math:`P_{ij}` is the probability that anchor i gives to j. This is the paper's
    :math:`L_{out}`, the logarithm inside the sum. It is at least :math:`\ln |K(i)|`: only where each class has two
    embeddings can it vanish, and there it is :func:`nt_xent_loss`.

    Args:
        input: embeddings, shape (N, D). A row of zeros has no direction: its cosine with every other is 0, and so is
            its gradient.
        target: the class of each, integers of any size, shape (N,).
        temperature: the unit of cosine similarity, above 0.
        reduction: "none", "sum" or "mean". An anchor whose class has no other embedding does not count: its loss is 0,
            and the mean divides by the number of anchors that have a positive. Where none has, the mean is NaN with
            gradient zero.

    Returns:
        The loss in nats in the dtype of ``input`` (computed in float32 where that is a half precision): a scalar, or
        the shape (N,) where ``reduction`` is "none". Rounding of the cosines counts 1 / temperature times.

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if a shape or an option does not fit.

    Example:
        >>> embeddings, classes = torch.eye(2).repeat(4, 1), torch.tensor([0, 1]).repeat(4)
        >>> supervised_contrastive_loss(embeddings, classes, temperature=0.5)  # log(3 + 4 exp(-2))
        tensor(1.2645)

    Reference:
        P. Khosla et al., Supervised Contrastive Learning, 2020, https://arxiv.org/abs/2004.11362.
    """
    check_reduction(reduction)
    check_embeddings(input=input)
    check_two_dimensions(input=input)
    check_integers("target", target, "classes")
    if target.shape != input.shape[:1]:
        raise ValueError(
            f"target for input of shape {tuple(input.shape)} must have shape ({len(input)},), got {tuple(target.shape)}"
        )
    _check_temperature(temperature, input.dtype)
    unit = _unit(input, input.dtype)
    similarity = _products(unit / temperature, unit)
    akin = target.unsqueeze(1) == target
    no_positive = (~akin | _diagonal(unit)).to(unit.dtype)
    positives = len(target) - no_positive.sum(1)
    alone = positives == 0
    attraction = (similarity * (1 - no_positive)).sum(1) / positives.clamp(min=1)
    # What does not count is pushed 45 below the lowest similarity there can be: next to e^-45 every sum keeps its
    # digits. It is not sent to -inf, since the exponential of what underflows is 12 times slower.
    below_all = 2 / temperature + 45
    kin = (similarity - below_all * no_positive).logsumexp(1)
    rivals = (similarity - below_all * akin.to(unit.dtype)).logsumexp(1)
    # Of a single positive the spread is exactly 0, derivative included: a small loss keeps its digits.
    spread = (kin - attraction).masked_fill(positives <= 1, 0.0)
    loss = spread + softplus(rivals - kin).masked_fill(alone | akin.all(1), 0.0)
    if reduction == "mean":
        return as_result(loss.sum() / (len(target) - alone.sum()), input.dtype)
    return as_result(reduce(loss, reduction), input.dtype)


class _LogSumExpOfSimilarities(torch.autograd.Function):
    """For each unit vector, log-sum-exp of its similarities to the others, a chunk of rows at a time.

    ``apply(unit, left_out, temperature, chunk_size)``: unit vectors of shape (N, D), and for each the indices of those
    that do not count, shape (N, K). The backward pass computes the similarities again instead of keeping them. As
    they are symmetric, it needs but one product for the gradients of both factors.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(unit, left_out, temperature, chunk_size):
        # What outlives a chunk is written to a place prepared for it: allocated in between, it would keep the allocator
        # from using the place of one chunk for the next, and memory would grow with the square after all.
        log_sum = torch.empty_like(unit[:, 0])
        for start in range(0, len(unit), chunk_size):
            rows = slice(start, start + chunk_size)
            log_sum[rows] = _similarities(rows, unit, left_out, temperature).logsumexp(1)
        return log_sum

    @staticmethod
    def setup_context(ctx, inputs, output):
        unit, left_out, ctx.temperature, ctx.chunk_size = inputs
        ctx.save_for_backward(unit, left_out, output)

    @staticmethod
    def backward(ctx, gradient):
        unit, left_out, log_sum = ctx.saved_tensors
        result = torch.empty_like(gradient.unsqueeze(1) * unit)  # under vmap it has to have the dimensions of both
        for start in range(0, len(unit), ctx.chunk_size):
            rows = slice(start, start + ctx.chunk_size)
            similarity = _similarities(rows, unit, left_out, ctx.temperature)
            weight = (similarity - log_sum[rows, None]).exp_() * gradient[rows, None]  # as anchors
            weight += (similarity - log_sum).exp_() * gradient  # as rivals of others
            result[rows] = _products(weight, unit.T)
        return result / ctx.temperature, None, None, None


def _similarities(rows, unit, left_out, temperature):
    """Return the cosines of some rows with all unit vectors, divided by the temperature, without those left out."""
    return _products(unit[rows] / temperature, unit).scatter(1, left_out[rows], torch.finfo(unit.dtype).min)


def _without(similarity, left_out):
    """Return the similarities with the lowest float for those left out: -inf would leave nothing without derivative."""
    return similarity.masked_fill(left_out, torch.finfo(similarity.dtype).min)


def _products(a, b):
    """Return the scalar product of each row of a with each row of b, in full precision also under autocast."""
    return _Products.apply(a, b)


class _Products(torch.autograd.Function):
    """What ``_products`` returns; autocast, where it is on in the backward pass, does not round that one either."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a, b):
        with without_autocast(a):
            return a @ b.transpose(-1, -2)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        a, b = ctx.saved_tensors
        return _products(gradient, b.transpose(-1, -2)), _products(gradient.transpose(-1, -2), a.transpose(-1, -2))


def _diagonal(rows):
    """Return a mask, shape (N, N), of what each of N rows shares with itself."""
    return torch.eye(len(rows), dtype=torch.bool, device=rows.device)


def _unit(rows, dtype):
    """Return the rows, in the working precision of ``dtype``, divided by their length; a row of zeros stays one."""
    rows = working_precision(rows.to(dtype))
    largest = torch.linalg.vector_norm(rows.detach(), torch.inf, -1, keepdim=True)
    rows = rows / largest.masked_fill(largest == 0, torch.inf)  # so that no square over- or underflows
    return rows / rows.square().sum(-1, keepdim=True).clamp(min=0.5).sqrt()


def _cosine(u, v):
    """Return the cosine of each row of u with that of v, its divisor damped as torch's is, and 1 minus the cosine."""
    size, shape = u.shape[-1], u.shape[:-1]
    return tuple(x.reshape(shape) for x in _Cosine.apply(u.reshape(-1, size), v.reshape(-1, size))[:2])


_DAMPING = 9.999999960041972e-13  # torch's constant: 1e-12, as a float32


class _Cosine(torch.autograd.Function):
    """What ``_cosine`` returns, in float64: float32 loses the digits of small angles in value and gradient.

    Only chunks of the rows are held in float64, and again in the backward pass.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(u, v):
        pieces = []
        for x, y in _chunks(u, v):
            x, y = double_precision(x), double_precision(y)
            squared_x, squared_y = (_row_sums(rows.square()) + _DAMPING for rows in (x, y))
            root_x, root_y = squared_x.sqrt(), squared_y.sqrt()
            difference = torch.addcmul(x / root_x, y, 1 / root_y, value=-1)
            apart = _row_sums(difference.square()) + _DAMPING / squared_x + _DAMPING / squared_y
            pieces.append((_row_sums(x * y) / (root_x * root_y), apart / 2, root_x, root_y))
        cosine, apart, *roots = map(torch.cat, zip(*pieces, strict=True))
        return cosine.squeeze(-1), apart.squeeze(-1), *roots

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs, output[0], *output[2:])
        ctx.mark_non_differentiable(*output[2:])

    @staticmethod
    def backward(ctx, to_cosine, to_apart, *_):
        u, v, cosine, root_u, root_v = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be derived once more
            root_u, root_v = ((_row_sums(double_precision(x).square()) + _DAMPING).sqrt() for x in (u, v))
        slope = (to_cosine - to_apart).unsqueeze(-1) / (root_u * root_v)
        cosine = cosine.unsqueeze(-1)
        of_u, of_v = slope * cosine * root_v / root_u, slope * cosine * root_u / root_v
        pieces = []
        for x, y, cross, own_x, own_y in _chunks(u, v, slope, of_u, of_v):
            wide_x, wide_y = double_precision(x), double_precision(y)
            to_x = torch.addcmul(wide_y * cross, wide_x, own_x, value=-1)
            to_y = torch.addcmul(wide_x * cross, wide_y, own_y, value=-1)
            pieces.append((to_x.to(x.dtype), to_y.to(y.dtype)))
        return tuple(map(torch.cat, zip(*pieces, strict=True)))


def _row_sums(rows):
    """Return the sum of each row, (N, 1): as a product of matrices, since ``sum`` is 20 times slower on short rows."""
    return _products(rows, rows.new_ones(1, rows.shape[-1]))


def _distance(x, y):
    """Return the length of each row of x - y, in float64: what a margin leaves of it keeps its digits.

    The derivative is that of the length in the dtype of x, which is exact enough and faster.
    """
    rough = _norm(x - y, 2)
    if x.dtype == torch.float64 or x.device.type == "mps":  # which has no float64
        return rough
    with torch.no_grad():
        rows = _chunks(x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1]))
        exact = torch.cat([_norm(a.double() - b, 2) for a, b in rows]).reshape(rough.shape)
    return exact + (rough - rough.detach()).nan_to_num(nan=0.0)  # which is 0; NaN where float32 overflows


def _chunks(*tensors):
    """Return the rows of the tensors together, as many at a time as fit a CPU's cache; elsewhere all at once."""
    first = tensors[0]
    whole = first.device.type != "cpu" or torch.compiler.is_compiling()
    rows = max(1, len(first) if whole else 2**16 // first.shape[1])
    return zip(*(x.split(rows) for x in tensors), strict=True)


def _norm(rows, p):
    """Return the p-norm of each row, without over- or underflow of the powers; its derivatives at 0 are 0."""
    norm = torch.linalg.vector_norm(rows, p, -1)
    reach = 2.0 ** min(100 / p, 1000)  # powers of what is larger, or below its inverse, may leave the range of float32
    if not any_true((norm > reach) | (norm < 1 / reach), unknown=True):
        return norm
    wide = double_precision(
        rows
    )  # in which the backward pass can afford to multiply by the largest component and divide again
    largest = torch.linalg.vector_norm(wide.detach(), torch.inf, -1, keepdim=True)
    zero = largest == 0
    # The mask goes before the maths: a norm has no second derivative at 0.
    scaled = (wide / largest.masked_fill(zero, 1.0)).masked_fill(zero, 1.0)
    return (torch.linalg.vector_norm(scaled, p, -1) * largest.squeeze(-1)).to(rows.dtype)


def _check_labelled_pairs(input1, input2, target, reduction):
    """Raise TypeError or ValueError unless there is a number for each pair of vectors."""
    check_reduction(reduction)
    check_embeddings(input1=input1, input2=input2)
    if not isinstance(target, torch.Tensor):
        raise TypeError(f"target must be a torch.Tensor, got {type(target).__name__}")
    if target.dtype == torch.bool or target.is_complex():
        raise TypeError(f"target must hold the numbers -1 and +1 (integers or floats), got {target.dtype}")
    if input1.dim() > 2 or target.shape != input1.shape[:-1]:
        raise ValueError(
            "input1 and target must have the shapes (N, D) and (N,), or (D,) and (), "
            f"got {tuple(input1.shape)} and {tuple(target.shape)}"
        )


def _check_negatives(negatives, query):
    """Raise TypeError or ValueError unless the negatives are shared, (M, D), or each query's own, (N, M, D)."""
    check_floating("negatives", negatives)
    samples, size = query.shape
    shared = negatives.dim() == 2 and negatives.shape[1] == size
    own = negatives.dim() == 3 and negatives.shape[0] == samples and negatives.shape[2] == size
    if not (shared or own):
        raise ValueError(
            f"negatives for a query of shape {tuple(query.shape)} must have shape (M, {size}) or ({samples}, M, "
            f"{size}), got {tuple(negatives.shape)}"
        )


def _check_positive(name, value):
    """Raise TypeError or ValueError unless the value is a positive number."""
    check_number(name, value, lambda number: 0 < number < math.inf, "finite and above 0")


def _check_temperature(temperature, dtype, *, may_learn=False):
    """Raise TypeError or ValueError unless the temperature is a positive number, or such a tensor of shape ().

    Nor may it be subnormal: similarities of embeddings of ``dtype``, divided by it, would overflow.
    """
    least = torch.finfo(torch.promote_types(dtype, torch.float32)).tiny
    wanted = f"at least {least:.4g}, or the similarities divided by it overflow"
    if not (may_learn and isinstance(temperature, torch.Tensor)):
        _check_positive("temperature", temperature)
        check_number("temperature", temperature, lambda number: number >= least, wanted)
        return
    check_floating("temperature", temperature)
    if temperature.dim():
        raise ValueError(f"temperature must be a number or a tensor of shape (), got {tuple(temperature.shape)}")
    if any_true(~(temperature > 0) | temperature.isinf()):
        raise ValueError(f"temperature must be finite and above 0, got {temperature.item()}")
    if any_true(temperature < least):
        raise ValueError(f"temperature must be {wanted}, got {temperature.item()}")
