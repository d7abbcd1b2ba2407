"""Losses for finding objects: boxes that should coincide, and masks that should overlap."""

import math
from typing import NamedTuple

import torch

from lib.losses._common import (
    any_true,
    as_result,
    check_class_indices,
    check_floating,
    check_integers,
    check_number,
    check_real,
    check_reduction,
    check_same_shape,
    reduce,
    working_precision,
)


def iou_loss(input: torch.Tensor, target: torch.Tensor, *, reduction: str = "mean") -> torch.Tensor:
    r"""One minus the intersection over the union of two boxes.

    For the boxes :math:`A` and :math:`B`, their intersection :math:`I` and their union :math:`U` (all areas),

    .. math:: \ell = 1 - \frac{I}{U} = \frac{(A - I) + (B - I)}{U},
              \qquad \frac{\partial\ell}{\partial x_2} = \begin{cases} I h_A / U^2 & x_2 \text{ sticks out of } B \\
              -h_I\,(B + h_A (w_A - w_I)) / U^2 & x_2 \text{ lies within,} \end{cases}

    with widths :math:`w` and heights :math:`h`; for :math:`x_1` with the opposite sign, for :math:`y_1, y_2` with the
    axes swapped. The right-hand forms are the ones computed: none of their terms is negative, and nothing cancels.

    Where two edges coincide the gradient is the mean of both sides, so that of equal boxes is 0; where boxes just
    touch, it is that of the side on which they overlap. Boxes apart all cost 1, with gradient 0: see
    :func:`giou_loss`. Boxes without area count as if both were grown by the same hair's breadth: a box costs nothing
    if it equals its target, two segments on one line are compared by their lengths, and other boxes without area
    cost 1. The loss depends on no unit, and no area overflows.

    Args:
        input: predicted boxes (x1, y1, x2, y2) with x1 <= x2 and y1 <= y2, shape (..., 4), in pixels or any unit.
        target: true boxes in the same unit, shape of ``input``.
        reduction: "none", "sum" or "mean" (over all boxes; of no boxes it is NaN).

    Returns:
        The loss, in [0, 1], in the dtype to which those of both arguments promote (computed in float32 where that is a
        half precision): a scalar, or the shape (...) where ``reduction`` is "none".

    Raises:
        TypeError: if ``input`` is not floating-point, or ``target`` is not a tensor of real numbers.
        ValueError: if the shapes differ or do not end in 4, a box has x2 < x1 or y2 < y1, or ``reduction`` is unknown.

    Example:
        >>> box, moved = torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0]])
        >>> iou_loss(box, moved)  # intersection 2, union 6
        tensor(0.6667)

    Reference:
        The index: P. Jaccard, The Distribution of the Flora in the Alpine Zone, New Phytologist 11 (1912),
        https://doi.org/10.1111/j.1469-8137.1912.tb05611.x. One minus it as a loss: H. Rezatofighi et al., Generalized
        Intersection over Union (2019), https://arxiv.org/abs/1902.09630.
    """
    return _box_loss(input, target, reduction, _iou, _iou_slopes)


def giou_loss(input: torch.Tensor, target: torch.Tensor, *, reduction: str = "mean") -> torch.Tensor:
    r"""Generalised IoU loss: boxes that lie apart are drawn together by the box that encloses both.

    With :math:`C` the area of the smallest box around both, and the rest as in :func:`iou_loss`,

    .. math:: \ell = 1 - \frac{I}{U} + \frac{C - U}{C},
              \qquad d\ell = d\Bigl(1 - \frac{I}{U}\Bigr) + \frac{U\,dC}{C^2} - \frac{dU}{C}.

    The loss is 0 for equal boxes and approaches 2 for small boxes far apart. :math:`C - U`, too, is summed from terms
    of which none is negative. Ties and boxes without area are treated as in :func:`iou_loss`.

    Args:
        input: predicted boxes (x1, y1, x2, y2) with x1 <= x2 and y1 <= y2, shape (..., 4), in pixels or any unit.
        target: true boxes in the same unit, shape of ``input``.
        reduction: "none", "sum" or "mean" (over all boxes; of no boxes it is NaN).

    Returns:
        The loss, in [0, 2], in the dtype to which those of both arguments promote (computed in float32 where that is a
        half precision): a scalar, or the shape (...) where ``reduction`` is "none".

    Raises:
        TypeError: if ``input`` is not floating-point, or ``target`` is not a tensor of real numbers.
        ValueError: if the shapes differ or do not end in 4, a box has x2 < x1 or y2 < y1, or ``reduction`` is unknown.

    Example:
        >>> box, apart = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[3.0, 0.0, 4.0, 1.0]])
        >>> giou_loss(box, apart)  # no intersection; half of the enclosing box is empty
        tensor(1.5000)

    Reference:
        H. Rezatofighi et al., Generalized Intersection over Union: A Metric and a Loss for Bounding Box Regression
        (2019), https://arxiv.org/abs/1902.09630.
    """
    return _box_loss(input, target, reduction, _giou, _giou_slopes)


def diou_loss(input: torch.Tensor, target: torch.Tensor, *, reduction: str = "mean") -> torch.Tensor:
    r"""Distance IoU loss: the centres of the boxes are drawn together.

    With the distance :math:`\rho` of the centres and the diagonal :math:`c` of the smallest box around both,

    .. math:: \ell = 1 - \frac{I}{U} + \frac{\rho^2}{c^2},
              \qquad d\ell = d\Bigl(1 - \frac{I}{U}\Bigr) + \frac{d\rho^2}{c^2} - \frac{\rho^2\,dc^2}{c^4}.

    The loss is 0 for equal boxes and approaches 2 for small boxes far apart. Ties and boxes without area are treated
    as in :func:`iou_loss`; the penalty of two equal points is 0.

    Args:
        input: predicted boxes (x1, y1, x2, y2) with x1 <= x2 and y1 <= y2, shape (..., 4), in pixels or any unit that
            is the same in both axes.
        target: true boxes in the same unit, shape of ``input``.
        reduction: "none", "sum" or "mean" (over all boxes; of no boxes it is NaN).

    Returns:
        The loss, in [0, 2], in the dtype to which those of both arguments promote (computed in float32 where that is a
        half precision): a scalar, or the shape (...) where ``reduction`` is "none".

    Raises:
        TypeError: if ``input`` is not floating-point, or ``target`` is not a tensor of real numbers.
        ValueError: if the shapes differ or do not end in 4, a box has x2 < x1 or y2 < y1, or ``reduction`` is unknown.

    Example:
        >>> box, apart = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[3.0, 0.0, 4.0, 1.0]])
        >>> diou_loss(box, apart)  # no intersection; 1 + 3^2 / (4^2 + 1^2)
        tensor(1.5294)

    Reference:
        Z. Zheng et al., Distance-IoU Loss: Faster and Better Learning for Bounding Box Regression (2020),
        https://arxiv.org/abs/1911.08287.
    """
    return _box_loss(input, target, reduction, _diou, _diou_slopes)


def ciou_loss(input: torch.Tensor, target: torch.Tensor, *, reduction: str = "mean") -> torch.Tensor:
    r"""Complete IoU loss: the distance IoU loss, and a penalty where the proportions of the boxes differ.

    With :math:`\rho` and :math:`c` as in :func:`diou_loss`,

    .. math:: \ell = 1 - \frac{I}{U} + \frac{\rho^2}{c^2} + \alpha v,
              \qquad v = \frac{4}{\pi^2}\Bigl(\arctan\frac{w_B}{h_B} - \arctan\frac{w_A}{h_A}\Bigr)^2,
              \qquad \alpha = \frac{v}{1 - I/U + v},

    .. math:: d\ell = d\Bigl(1 - \frac{I}{U} + \frac{\rho^2}{c^2}\Bigr) + \alpha\,dv.

    As in the paper the weight :math:`\alpha` counts as a constant in the gradient, which is therefore not the
    derivative of the value. (The paper's code also drops the denominator :math:`w_A^2 + h_A^2` of :math:`dv`;
    torchvision and this function keep it.) Ties and boxes without area are treated as in :func:`diou_loss`; a point has
    no proportions, and :math:`v` is 0.

    Args:
        input: predicted boxes (x1, y1, x2, y2) with x1 <= x2 and y1 <= y2, shape (..., 4), in pixels or any unit that
            is the same in both axes.
        target: true boxes in the same unit, shape of ``input``.
        reduction: "none", "sum" or "mean" (over all boxes; of no boxes it is NaN).

    Returns:
        The loss, in [0, 2.5), in the dtype to which those of both arguments promote (computed in float32 where that is
        a half precision): a scalar, or the shape (...) where ``reduction`` is "none".

    Raises:
        TypeError: if ``input`` is not floating-point, or ``target`` is not a tensor of real numbers.
        ValueError: if the shapes differ or do not end in 4, a box has x2 < x1 or y2 < y1, or ``reduction`` is unknown.

    Example:
        >>> tall, wide = torch.tensor([[1.0, 0.0, 2.0, 3.0]]), torch.tensor([[0.0, 1.0, 3.0, 2.0]])
        >>> diou_loss(tall, wide), ciou_loss(tall, wide)  # one centre, different proportions
        (tensor(0.8000), tensor(0.9057))

    Reference:
        Z. Zheng et al., Distance-IoU Loss: Faster and Better Learning for Bounding Box Regression (2020),
        https://arxiv.org/abs/1911.08287.
    """
    return _box_loss(input, target, reduction, _ciou, _ciou_slopes)


def dice_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    *,
    smooth: float = 1.0,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> torch.Tensor:
    r"""Soft Dice loss of logits: one minus twice the overlap over the sum of both sizes.

    For the probabilities :math:`p_i` and the mask :math:`y_i` of one class in one sample, with sums over its pixels,
    and :math:`s` for ``smooth``:

    .. math:: \ell = 1 - \frac{2\sum p_i y_i + s}{\sum p_i + \sum y_i + s}
                   = \frac{\sum p_i (1 - y_i) + \sum (1 - p_i)\, y_i}{\sum p_i + \sum y_i + s},
              \qquad \frac{\partial\ell}{\partial p_i} = \frac{1 - \ell - 2 y_i}{\sum p_i + \sum y_i + s}.

    The right-hand form is the one computed, with :math:`1 - p` taken from the logits: a nearly perfect mask keeps its
    small loss. The sums are in float32 for half precision, where :math:`\sum p_i` of a large image overflows.

    What ``target`` holds decides how logits become probabilities: masks in the shape of ``input`` stand for
    themselves, so each logit goes through a sigmoid; class indices exclude each other, so the logits go through a
    softmax over the classes. Milletari et al. have squares in the denominator, :math:`\sum p_i^2 + \sum y_i^2`; this
    is the linear one, as in Sudre et al. and most libraries.

    Args:
        input: logits (nats), shape (N, C, d1, ..., dK) with K at least 1; one binary mask has C = 1.
        target: masks, numbers in [0, 1] or booleans, in the shape of ``input``; or class indices in [0, C), integers
            of shape (N, d1, ..., dK), for C of at least 2.
        smooth: what is added above and below, in pixels, at least 0. With 0 a class that is absent costs 1 whatever is
            predicted, and teaches nothing; where not even a probability is left of it (all underflow), it costs 0.
        ignore_index: class index whose pixels neither count nor get a gradient (class-index targets only).
        reduction: "none", "sum" or "mean" (over all samples and classes; of none it is NaN).

    Returns:
        The loss, in [0, 1], in the dtype of ``input`` (computed in float32 where that is a half precision): a scalar,
        or the shape (N, C) where ``reduction`` is "none".

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if a shape, a mask's number, a class index, ``smooth`` or ``reduction`` does not fit.

    Example:
        >>> logits = torch.tensor([[[99.0, 99.0, -99.0, -99.0]]])  # one sample, one class, four pixels in a row
        >>> dice_loss(logits, torch.tensor([[[1.0, 0.0, 0.0, 0.0]]]))  # 1 - (2 + 1) / (2 + 1 + 1)
        tensor(0.2500)

    Reference:
        F. Milletari, N. Navab and S.-A. Ahmadi, V-Net (2016), https://arxiv.org/abs/1606.04797; C. H. Sudre et al.,
        Generalised Dice Overlap as a Deep Learning Loss Function for Highly Unbalanced Segmentations (2017),
        https://arxiv.org/abs/1707.03237.
    """
    _check_price("smooth", smooth)
    return tversky_loss(input, target, smooth=smooth / 2, ignore_index=ignore_index, reduction=reduction)


def tversky_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    smooth: float = 1.0,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> torch.Tensor:
    r"""Tversky loss of logits: Dice with a price of its own for what is too much and for what is missed.

    For the probabilities :math:`p_i` and the mask :math:`y_i` of one class in one sample, with sums over its pixels,
    and :math:`s` for ``smooth``:

    .. math:: \ell = 1 - \frac{T + s}{T + \alpha F_+ + \beta F_- + s},
              \qquad T = \sum p_i y_i, \quad F_+ = \sum p_i (1 - y_i), \quad F_- = \sum (1 - p_i)\, y_i,

    .. math:: \frac{\partial\ell}{\partial p_i} = \frac{(T + s)\,(\alpha (1 - y_i) - \beta y_i)
              - (\alpha F_+ + \beta F_-)\, y_i}{(T + \alpha F_+ + \beta F_- + s)^2}.

    With :math:`\alpha = \beta = 1/2` it is :func:`dice_loss` with twice the ``smooth``, with
    :math:`\alpha = \beta = 1` the soft intersection over union (Jaccard, Tanimoto). A :math:`\beta` above
    :math:`\alpha` finds more at the price of false alarms.

    Args:
        input: logits (nats), shape (N, C, d1, ..., dK) with K at least 1; one binary mask has C = 1.
        target: masks, numbers in [0, 1] or booleans, in the shape of ``input`` (then each logit goes through a
            sigmoid); or class indices in [0, C), integers of shape (N, d1, ..., dK), for C of at least 2 (then the
            logits go through a softmax over the classes).
        alpha: the price of false positives, at least 0.
        beta: the price of false negatives, at least 0.
        smooth: what is added above and below, in pixels, at least 0. With 0 a class that is absent costs 1 whatever is
            predicted, and teaches nothing; where not even a priced error is left (``alpha`` is 0, or all probabilities
            underflow), it costs 0.
        ignore_index: class index whose pixels neither count nor get a gradient (class-index targets only).
        reduction: "none", "sum" or "mean" (over all samples and classes; of none it is NaN).

    Returns:
        The loss, in [0, 1], in the dtype of ``input`` (computed in float32 where that is a half precision): a scalar,
        or the shape (N, C) where ``reduction`` is "none".

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if a shape, a mask's number, a class index, ``alpha``, ``beta``, ``smooth`` or ``reduction`` does
            not fit.

    Example:
        >>> logits = torch.tensor([[[99.0, 99.0, -99.0, -99.0]]])  # of two pixels found, one is right
        >>> tversky_loss(logits, torch.tensor([[[1.0, 0.0, 0.0, 0.0]]]), alpha=0.3, beta=0.7, smooth=0.0)
        tensor(0.2308)

    Reference:
        S. S. M. Salehi, D. Erdogmus and A. Gholipour, Tversky Loss Function for Image Segmentation Using 3D Fully
        Convolutional Deep Networks (2017), https://arxiv.org/abs/1706.05721.
    """
    _check_masks(input, target, ignore_index, reduction)
    _check_price("alpha", alpha)
    _check_price("beta", beta)
    _check_price("smooth", smooth)
    logits = working_precision(input)
    if target.shape == input.shape:
        right, wrong, _ = _MaskSums.apply(logits, target, alpha, beta)
    else:
        right, wrong = _ClassSums.apply(_probabilities(logits, target, ignore_index), target, alpha, beta)
    right = right + smooth
    total = (right + wrong).clamp(min=torch.finfo(logits.dtype).tiny)
    # Two ways to write one loss. Where nearly all is right the second cancels, where nearly all is wrong the
    # derivative of the first.
    loss = torch.where(wrong <= right, wrong / total, 1 - right / total)
    return as_result(reduce(loss, reduction), input.dtype)


class _Pair(NamedTuple):
    """Two boxes (4, ...), compared axis by axis: tensors of shape (2, ...), x before y.

    The fields from ``input`` on are in units of the box around both, so that no area overflows. In an axis in which
    both boxes are one point there is no such unit: there both sizes and what is shared count as 1.
    """

    boxes: tuple[torch.Tensor, torch.Tensor]  # input and target
    extent: torch.Tensor  # size of the box around both
    unit: torch.Tensor  # the same, but infinite where it is 0, so that nothing has a slope there
    input: torch.Tensor  # size of the input
    target: torch.Tensor  # size of the target
    shared: torch.Tensor  # size of the intersection
    input_only: torch.Tensor  # input - shared
    target_only: torch.Tensor  # target - shared

    @property
    def low(self) -> torch.Tensor:
        """How far the lower edge of the input sticks out of the target, negative where it lies within."""
        return self.boxes[1][:2] - self.boxes[0][:2]

    @property
    def high(self) -> torch.Tensor:
        """How far the upper edge of the input sticks out of the target, negative where it lies within."""
        return self.boxes[0][2:] - self.boxes[1][2:]

    @property
    def gap(self) -> torch.Tensor:
        """Distance of the boxes, 0 where they meet, in units of the box around both."""
        return (-_overlap(*self.boxes)).relu() / self.unit

    @property
    def meet(self) -> torch.Tensor:
        """1 where the boxes overlap or touch, else 0."""
        return (_overlap(*self.boxes).sign() + 1).clamp(max=1)

    @property
    def intersection(self) -> torch.Tensor:
        """Area of the intersection."""
        return self.shared[0] * self.shared[1]

    @property
    def input_rest(self) -> torch.Tensor:
        """Area of the input outside the intersection."""
        return self.input[0] * self.input_only[1] + self.input_only[0] * self.shared[1]

    @property
    def target_rest(self) -> torch.Tensor:
        """Area of the target outside the intersection."""
        return self.target[0] * self.target_only[1] + self.target_only[0] * self.shared[1]


def _size(box):
    """Return width and height of a box."""
    return box[2:] - box[:2]


def _overlap(input, target):
    """Return width and height of the intersection; for boxes apart minus the gap."""
    return torch.minimum(input[2:], target[2:]) - torch.maximum(input[:2], target[:2])


def _sticking_out(box, other):
    """Return by how much, on both sides together, a box sticks out of another."""
    return (other[:2] - box[:2]).relu() + (box[2:] - other[2:]).relu()


def _compare(*boxes):
    """Return what two boxes, tensors of shape (4, ...), have to do with each other."""
    (input, target), (input_out, target_out) = map(_size, boxes), (_sticking_out(*boxes), _sticking_out(*boxes[::-1]))
    extent = input + target_out
    point = extent == 0
    degenerate = any_true(point, unknown=True)
    unit = extent.masked_fill(point, torch.inf) if degenerate else extent
    rest = torch.minimum(input, input_out) / unit, torch.minimum(target, target_out) / unit
    input, target, shared = input / unit, target / unit, _overlap(*boxes).relu() / unit
    if degenerate:
        input, target, shared = (length.masked_fill(point, 1.0) for length in (input, target, shared))
    return _Pair(boxes, extent, unit, input, target, shared, *rest)


class _BoxLoss(torch.autograd.Function):
    """A loss of boxes (N, 4), with the derivative in which no terms cancel that need not.

    ``value`` and ``slopes`` take a _Pair. The slopes are, for each axis, what moving an edge of the input outwards
    costs where it sticks out of the target, what it gains where it lies within, and what moving the whole box costs.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(input, target, value, slopes):
        return _by_blocks(lambda *boxes: (value(_compare(*map(_edges, boxes))),), input, target)[0]

    @staticmethod
    def setup_context(ctx, inputs, output):
        input, target, _, ctx.slopes = inputs
        ctx.save_for_backward(input, target)

    @staticmethod
    def backward(ctx, gradient):
        def derivative(gradient, *boxes):
            cost, gain, drift = ctx.slopes(pair := _compare(*map(_edges, boxes)))
            low, high = (torch.lerp(-gain, cost, _sign_share(sticks_out)) for sticks_out in (pair.low, pair.high))
            return (torch.stack([*(gradient * (drift - low)), *(gradient * (drift + high))], -1),)

        input, target = ctx.saved_tensors
        in_input, in_target, _, _ = ctx.needs_input_grad  # all losses are symmetric
        return (
            _by_blocks(derivative, gradient, input, target)[0] if in_input else None,
            _by_blocks(derivative, gradient, target, input)[0] if in_target else None,
            None,
            None,
        )


def _edges(boxes):
    """Return boxes (N, 4) as (4, N): one contiguous row for each of x1, y1, x2, y2."""
    return torch.stack(boxes.unbind(-1))


def _sign_share(x):
    """Return 1 where x is positive, 0 where it is negative, 1/2 where it is 0: several times faster than ``where``."""
    return x.sign() / 2 + 0.5


def _iou(pair):
    """Return (union - intersection) / union; 1 where no area is left."""
    rest = pair.input_rest + pair.target_rest
    union = pair.intersection + rest
    empty = union == 0
    if any_true(empty, unknown=True):
        rest, union = rest.masked_fill(empty, 1.0), union.masked_fill(empty, 1.0)
    return rest / union


def _iou_slopes(pair):
    intersection, target_rest = pair.intersection, pair.target_rest
    union = (intersection + pair.input_rest + target_rest).clamp(min=_tiny(intersection))
    across, shared_across = pair.input.flip(0), pair.shared.flip(0)
    cost = (intersection / union) * (across / union) / pair.unit
    gain = (shared_across / union) * ((intersection + target_rest + across * pair.input_only) / union) / pair.unit
    return cost, gain * pair.meet, 0.0


def _giou(pair):
    """Return the loss of IoU plus the empty share of the box around both: gaps, and corners that neither box fills."""
    gap, joint_width = pair.gap, pair.input[0] + pair.target_only[0]
    corners = pair.input_only[0] * pair.target_only[1] + pair.target_only[0] * pair.input_only[1]
    return _iou(pair) + (gap[0] + joint_width * gap[1] + corners)


def _giou_slopes(pair):
    cost, gain, drift = _iou_slopes(pair)
    across = pair.input.flip(0)
    target_beyond = pair.target_only + pair.gap  # extent - input
    filled = pair.input_only.flip(0) + (1 - pair.meet) * pair.shared.flip(0)  # what a step outwards adds to the union
    emptied = pair.target_rest - across * target_beyond  # union - extent * across
    return cost + emptied / pair.unit, gain + filled / pair.unit, drift


def _diou(pair):
    return _iou(pair) + _centres(pair)[0]


def _diou_slopes(pair):
    cost, gain, drift = _iou_slopes(pair)
    _, pull, relief = _centres(pair)
    return cost - relief, gain, drift + pull


def _centres(pair):
    """Return rho^2 / c^2, and its slopes: of moving the whole box, and the relief where the diagonal grows."""
    scale = pair.extent.amax(0).detach().clamp(min=_tiny(pair.extent))  # the ratio does not depend on it
    offset, sides = (pair.high - pair.low) / 2 / scale, pair.extent / scale
    diagonal = sides.square().sum(0).clamp(min=1)  # less only where both boxes are one point
    penalty = offset.square().sum(0) / diagonal
    return penalty, offset / diagonal / scale, 2 * penalty * (sides / diagonal / scale)


def _ciou(pair):
    weight, penalty, _ = _proportions(pair)
    return _diou(pair) + weight * penalty


def _ciou_slopes(pair):
    cost, gain, drift = _diou_slopes(pair)
    weight, _, slope = _proportions(pair)
    return cost + weight * slope, gain - weight * slope, drift


def _proportions(pair):
    """Return alpha, v, and the derivative of v in width and height of the input."""
    (angle, turn, exists), (target_angle, _, target_exists) = map(_angle, pair.boxes)
    difference = (target_angle - angle) * (exists * target_exists) * (2 / math.pi)
    penalty = difference.square()
    weight = penalty / (_iou(pair) + penalty).clamp(min=_tiny(penalty))
    return weight.detach(), penalty, difference * turn * (-4 / math.pi)


def _angle(box):
    """Return arctan(width / height) of a box, its derivative in both, and 0 for a point, which has none, else 1."""
    size = _size(box)
    scale = size.amax(0).detach().clamp(min=_tiny(size))
    sides = size / scale
    diagonal = sides.square().sum(0)
    width, height = sides
    turn = torch.stack([height, -width]) / (diagonal.clamp(min=1) * scale)
    return torch.atan2(width, height), turn, diagonal.clamp(max=1)


def _tiny(x):
    return torch.finfo(x.dtype).tiny


def _box_loss(input, target, reduction, value, slopes):
    """Check the boxes and return their reduced loss."""
    check_reduction(reduction)
    check_floating("input", input)
    check_real("target", target)
    check_same_shape(input, target)
    if input.dim() == 0 or input.shape[-1] != 4:
        raise ValueError(f"boxes (x1, y1, x2, y2) must have shape (..., 4), got {tuple(input.shape)}")
    dtype = torch.promote_types(input.dtype, target.dtype)
    boxes = [working_precision(boxes.to(dtype)).reshape(-1, 4) for boxes in (input, target)]
    _check_edges("input", boxes[0])
    _check_edges("target", boxes[1])
    loss = _BoxLoss.apply(*boxes, value, slopes).reshape(input.shape[:-1])
    return as_result(reduce(loss, reduction), dtype)


def _check_edges(name, boxes):
    """Raise ValueError if a box ends before it begins."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    backwards = (x2 < x1) | (y2 < y1)
    if any_true(backwards):
        wrong = boxes[backwards][0].tolist()
        raise ValueError(f"boxes (x1, y1, x2, y2) must have x1 <= x2 and y1 <= y2, got {wrong} in {name}")


_BLOCK = 2**16  # numbers for each thread


def _by_blocks(function, *tensors):
    """Return a tuple of tensors, a function of all rows, worked out block by block.

    What comes between then stays in the cache of a core, which is several times faster and takes next to no memory.
    """
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or tensors[0].device.type != "cpu":
        return function(*tensors)
    rows, numbers = len(tensors[0]), max(tensor.numel() for tensor in tensors)
    block = _BLOCK * torch.get_num_threads()
    if numbers <= block:
        return function(*tensors)
    height, results = max(1, rows * block // numbers), None
    for start in range(0, rows, height):
        parts = function(*(tensor[start : start + height] for tensor in tensors))
        if results is None:  # not cat at the end, which would hold all parts beside the whole
            results = tuple(part.new_empty(rows, *part.shape[1:]) for part in parts)
        for result, part in zip(results, parts, strict=True):
            result[start : start + height] = part
    return results


class _MaskSums(torch.autograd.Function):
    """What is right, sum p y, and the price of what is wrong, sum alpha p (1 - y) + beta (1 - p) y, both (N, C).

    Of logits, and masks, (N, C, d1, ...). By hand, so that nothing but the arguments and p (1 - p), which is the third
    result, is kept for the way back.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(logits, masks, alpha, beta):
        def sums(logits, masks):
            yes, no, masks = logits.sigmoid(), logits.neg().sigmoid_(), masks.to(logits.dtype)
            right = _sum_pixels(yes * masks)
            if alpha == beta:  # one price for both is paid faster at the end
                wrong = alpha * _sum_pixels(torch.lerp(yes, no, masks))
            else:
                wrong = _sum_pixels(torch.lerp(alpha * yes, beta * no, masks))
            return right, wrong, yes.mul_(no)

        return _by_blocks(sums, logits, masks)

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.alpha, ctx.beta = inputs
        ctx.save_for_backward(*tensors, output[2])
        ctx.mark_non_differentiable(output[2])
        ctx.set_materialize_grads(False)  # the third result gets none, and zeros in its place would cost time

    @staticmethod
    def backward(ctx, right, wrong, _):
        logits, masks, turn = ctx.saved_tensors
        right, wrong = (logits.new_zeros(logits.shape[:2]) if slope is None else slope for slope in (right, wrong))
        if torch.is_grad_enabled():  # the gradient is to be derived once more
            turn = logits.sigmoid() * logits.neg().sigmoid()
        outside, inside = _slopes(right, wrong, ctx.alpha, ctx.beta, logits)
        step = inside - outside
        # Where a miss has the higher price, the slope inside is the larger one, and outside + step loses no digits.
        inside_is_larger = ctx.alpha <= ctx.beta

        def derivative(outside, inside, step, masks, turn):
            masks = masks.to(turn.dtype)
            slope = (masks * step).add_(outside) if inside_is_larger else torch.lerp(outside, inside, masks)
            return (slope * turn,)

        return *_by_blocks(derivative, outside, inside, step, masks, turn), None, None, None


class _ClassSums(torch.autograd.Function):
    """The same of the probabilities that a softmax gives, (N, C, d1, ...), and class indices (N, d1, ...)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(probability, index, alpha, beta):
        def sums(probability, index):
            elsewhere = _elsewhere(index, probability)
            rivals = probability * elsewhere
            missed = rivals.sum(1, keepdim=True) * (1 - elsewhere)  # 1 - p of the true class, without cancellation
            wrong = alpha * _sum_pixels(rivals) + beta * _sum_pixels(missed)
            return _sum_pixels(probability - rivals), wrong

        return _by_blocks(sums, probability, index)

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.alpha, ctx.beta = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx, right, wrong):
        def derivative(right, wrong, probability, index):
            outside, inside = _slopes(right, wrong, ctx.alpha, ctx.beta, probability)
            elsewhere = _elsewhere(index, probability)
            slope = outside * elsewhere + inside * (1 - elsewhere)
            # A softmax feels only differences of slopes. Taken from that of the class with the majority, its own term,
            # the one that would cancel as its probability nears 1, is 0. (Without a majority nothing cancels.)
            return (slope - (slope * probability.round()).sum(1, keepdim=True),)

        return *_by_blocks(derivative, right, wrong, *ctx.saved_tensors), None, None, None


def _elsewhere(index, like):
    """Return 0 for the class of the index, 1 for the others, in shape and dtype of ``like``; a scatter is slower."""
    classes = torch.arange(like.shape[1], dtype=like.dtype, device=like.device)
    distance = index.unsqueeze(1).to(like.dtype) - classes.reshape(-1, *[1] * (like.dim() - 2))
    return distance.abs().clamp(max=1)


def _sum_pixels(values):
    """Return the sums over the pixels of (N, C, d1, ...)."""
    return values.flatten(2).sum(2)


def _slopes(right, wrong, alpha, beta, like):
    """Return the slope of a probability outside and inside of its mask, in a shape that broadcasts against ``like``."""
    right, wrong = (slope.reshape(*slope.shape, *[1] * (like.dim() - 2)) for slope in (right, wrong))
    return alpha * wrong, right - beta * wrong


def _probabilities(logits, index, ignore_index):
    """Return the probabilities of the classes, 0 in ignored pixels."""
    ignored = index == ignore_index
    if not any_true(ignored, unknown=True):
        return logits.softmax(1)
    ignored = ignored.unsqueeze(1)
    # The mask goes before the maths: an infinite logit in an ignored pixel must not become 0 * inf.
    return logits.masked_fill(ignored, 0.0).softmax(1) * ~ignored


def _check_masks(input, target, ignore_index, reduction):
    """Raise TypeError or ValueError unless ``target`` holds masks or class indices for the logits."""
    check_reduction(reduction)
    check_floating("input", input)
    if not isinstance(target, torch.Tensor):
        raise TypeError(f"target must be a torch.Tensor, got {type(target).__name__}")
    if input.dim() < 3:
        raise ValueError(
            f"input must have shape (N, C, d1, ...) with at least one of d1, ..., got {tuple(input.shape)}"
        )
    if target.shape == input.shape:
        if target.dtype != torch.bool:
            check_real("target", target)
            _check_in_unit_interval(target)
        return
    if target.shape != (input.shape[0], *input.shape[2:]):
        raise ValueError(
            f"target must hold masks in the shape of input, {tuple(input.shape)}, or class indices in "
            f"{(input.shape[0], *input.shape[2:])}, got {tuple(target.shape)}"
        )
    check_integers("target", target, "class indices")
    if input.shape[1] < 2:
        raise ValueError("class indices need at least two classes; give one binary mask in the shape of input")
    check_class_indices(target, input.shape[1], ignore_index)


def _check_in_unit_interval(masks):
    """Raise ValueError unless every number of a mask is in [0, 1]."""
    if masks.numel() and any_true((masks.amin() < 0) | (masks.amax() > 1)):
        outside = masks[(masks < 0) | (masks > 1)]
        raise ValueError(f"masks must hold numbers in [0, 1], got {outside[0].item()}")


def _check_price(name, value):
    check_number(name, value, lambda number: 0 <= number < math.inf, "finite and at least 0")
