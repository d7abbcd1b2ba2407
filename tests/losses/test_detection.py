"""The losses of boxes and masks against 50 digits of mpmath, published formulas, and what theory says of them."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mpf
from torch.autograd import grad, gradcheck, gradgradcheck

from lib.losses import detection as losses
from lib.reference import detection as reference

BOXES = ("iou_loss", "giou_loss", "diou_loss", "ciou_loss")
MASKS = {
    "dice_loss": {"smooth": 0.7},
    "tversky_loss": {"alpha": 0.3, "beta": 0.8, "smooth": 0.4},
}
KINDS = ("masks", "soft masks", "classes")
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12}
DTYPES = list(TOLERANCE)


def value_and_gradient(loss, input, target, **options):
    input = input.clone().requires_grad_()
    value = loss(input, target, **options)
    return value.detach(), grad(value.sum(), input)[0]


def random_boxes(seed=0, count=40, size=1.0):
    """Return predictions and targets in float64: half of them near each other, half anywhere, no two edges equal."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randn(2, count, 2, generator=generator, dtype=torch.float64)
    extent = torch.rand(2, count, 2, generator=generator, dtype=torch.float64) + 0.2
    boxes = torch.cat([corner, corner + extent], -1)
    boxes[1, ::2] = boxes[0, ::2] + 0.1 * torch.rand(boxes[0, ::2].shape, generator=generator, dtype=torch.float64)
    return size * boxes[0], size * boxes[1]


def random_masks(kind, seed=0, samples=2, classes=3, shape=(3, 4), spread=2.0):
    """Return logits and a target of one kind, in float64."""
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(samples, classes, *shape, generator=generator, dtype=torch.float64)
    if kind == "classes":
        return logits, torch.randint(0, classes, (samples, *shape), generator=generator)
    masks = torch.rand(logits.shape, generator=generator, dtype=torch.float64)
    return logits, masks if kind == "soft masks" else masks.round()


# Boxes against mpmath


def box_terms(p, t):
    """Return what the definitions of the four losses consist of, for two boxes of mpmath numbers."""
    size, target_size = [p[2] - p[0], p[3] - p[1]], [t[2] - t[0], t[3] - t[1]]
    shared = [max(mpf(0), min(p[k + 2], t[k + 2]) - max(p[k], t[k])) for k in (0, 1)]
    around = [max(p[k + 2], t[k + 2]) - min(p[k], t[k]) for k in (0, 1)]
    intersection = shared[0] * shared[1]
    union = size[0] * size[1] + target_size[0] * target_size[1] - intersection
    centres = sum((p[k] + p[k + 2] - t[k] - t[k + 2]) ** 2 / 4 for k in (0, 1))
    angle = mpmath.atan2(*target_size) - mpmath.atan2(*size)
    return {
        "iou": 1 - intersection / union,
        "empty": 1 - union / (around[0] * around[1]),
        "distance": centres / (around[0] ** 2 + around[1] ** 2),
        "v": 4 / mpmath.pi**2 * angle**2,
    }


def box_parts(name, p, t, weight=None):
    """Return the summands of one loss; ``weight`` is CIoU's alpha where it counts as a constant."""
    terms = box_terms(p, t)
    if name == "ciou_loss":
        weight = terms["v"] / (terms["iou"] + terms["v"]) if weight is None else weight
        return [terms["iou"], terms["distance"], weight * terms["v"]]
    return [terms[part] for part in {"iou_loss": ["iou"], "giou_loss": ["iou", "empty"]}.get(name, ["iou", "distance"])]


def box_slopes(name, p, t, edge, side):
    """Return the parts of the derivative in one edge, by a one-sided difference quotient in 300 digits."""
    with mpmath.workdps(300):
        terms = box_terms(p, t)
        weight = terms["v"] / (terms["iou"] + terms["v"]) if terms["iou"] + terms["v"] else mpf(0)
        scale = max(abs(a - b) for a, b in zip(p, t, strict=True)) + p[2] - p[0] + p[3] - p[1]
        step = side * scale * mpf(10) ** -120
        moved = [q + step * (k == edge) for k, q in enumerate(p)]
        pairs = zip(box_parts(name, moved, t, weight), box_parts(name, p, t, weight), strict=True)
        return [(after - before) / step for after, before in pairs]


def drawn_boxes(dtype, count=25):
    """Yield pairs of boxes, floats of the dtype: of every size and proportion, apart, nested, nearly equal."""
    generator = np.random.default_rng(7)
    for kind, _ in itertools.product(("plain", "near", "needles", "apart", "nested", "far scales"), range(count)):
        centre, size = generator.standard_normal((2, 2)), generator.uniform(0.2, 1.5, (2, 2))
        if kind == "needles":
            size = 10 ** generator.uniform(-6, 6, (2, 2))
        if kind == "apart":
            centre, size = centre * 1e3, 10 ** generator.uniform(-3, 1, (2, 2))
        if kind == "nested":
            centre, size = centre / 10, np.array([[0.1, 0.2], [9.0, 8.0]]) * generator.uniform(0.9, 1.1, (2, 2))
        boxes = np.concatenate([centre - size / 2, centre + size / 2], 1)
        if kind == "near":
            boxes[0] = boxes[1] + generator.standard_normal(4) * 10 ** generator.uniform(-6, -2)
        if kind == "far scales":
            boxes = boxes * 10 ** generator.uniform(-29, 29)
        pair = torch.tensor(boxes, dtype=dtype)
        if (pair[:, 2:] > pair[:, :2]).all():
            yield pair


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BOXES)
def test_a_box_loss_has_its_digits_at_every_size_proportion_and_distance(name, dtype):
    with mpmath.workdps(200):
        for pair in drawn_boxes(dtype):
            truth = sum(box_parts(name, *([mpf(x) for x in box] for box in pair.tolist())))
            ours = getattr(losses, name)(*pair).item()
            assert abs(ours - truth) <= TOLERANCE[dtype] * truth


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BOXES)
def test_the_gradient_of_a_box_loss_has_its_digits(name, dtype):
    """That of the IoU to full relative precision; the penalties pull against it: relative to the terms of the sum.

    Those terms are, besides the summands: for an edge that grows the box around both, what this costs and what it
    gives; for the centres, the two differences of edges; for the proportions, the two angles.
    """
    with mpmath.workdps(60):
        for pair in drawn_boxes(dtype, 8):
            _, gradient = value_and_gradient(getattr(losses, name), *pair)
            p, t = ([mpf(x) for x in box] for box in pair.tolist())
            for edge in range(4):
                truths = [box_slopes(name, p, t, edge, side) for side in (1, -1)]  # differ where edges coincide
                truth = sum(map(sum, truths)) / 2
                scale = sum(abs(part) for parts in truths for part in parts) / 2 + penalty_terms(name, p, t, edge)
                assert close(gradient[edge].item(), truth, TOLERANCE[dtype] * scale, dtype)


def penalty_terms(name, p, t, edge):
    """Return the sizes of the terms that cancel within the derivative of a penalty."""
    axis = edge % 2
    around = [max(p[k + 2], t[k + 2]) - min(p[k], t[k]) for k in (0, 1)]
    size, target_size = [p[2] - p[0], p[3] - p[1]], [t[2] - t[0], t[3] - t[1]]
    if name == "iou_loss":
        return 0
    if name == "giou_loss":  # U dC and C dU, if the edge grows C
        grows = p[edge] > t[edge] if edge > 1 else p[edge] < t[edge]
        return grows * size[1 - axis] * (around[axis] - size[axis]) / (around[0] * around[1] * around[axis])
    terms, diagonal = box_terms(p, t), around[0] ** 2 + around[1] ** 2
    centres = (abs(p[axis] - t[axis]) + abs(p[axis + 2] - t[axis + 2])) / 2 / diagonal
    centres += 2 * terms["distance"] * around[axis] / diagonal
    if name == "diou_loss":
        return centres
    weight = terms["v"] / (terms["iou"] + terms["v"])
    angles = abs(mpmath.atan2(*target_size)) + abs(mpmath.atan2(*size))
    return centres + weight * angles * size[1 - axis] / (size[0] ** 2 + size[1] ** 2)


def test_iou_of_nearly_equal_boxes_keeps_its_digits_where_one_minus_iou_has_none():
    box, near = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[1e-9, 0.0, 1.0, 1.0]])
    with_one_minus = 1 - (1.0 - near[0, 0]) / torch.tensor(1.0)
    assert with_one_minus.item() == 0
    assert losses.iou_loss(box, near).item() == pytest.approx(1e-9, rel=1e-6)


@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e20, 1e30])
@pytest.mark.parametrize("name", BOXES)
def test_no_unit_makes_an_area_overflow_or_vanish(name, size):
    for seed in range(3):
        boxes, targets = (x.float() for x in random_boxes(seed))
        size_exactly = 2.0 ** round(math.log2(size))
        value, gradient = value_and_gradient(getattr(losses, name), boxes, targets)
        scaled = value_and_gradient(getattr(losses, name), boxes * size_exactly, targets * size_exactly)
        torch.testing.assert_close(scaled[0], value, rtol=1e-6, atol=0)
        torch.testing.assert_close(scaled[1] * size_exactly, gradient, rtol=1e-5, atol=1e-7)


# Boxes: published values and conventions

EXAMPLES = [  # predicted box, true box, intersection, union, box around both, centres' distance^2, its diagonal^2
    ((0, 0, 2, 2), (1, 1, 3, 3), 1, 7, 9, 2, 18),
    ((0, 0, 4, 2), (1, 0, 2, 2), 2, 8, 8, 0.25, 20),
    ((0, 0, 1, 1), (3, 4, 4, 6), 0, 3, 24, 9 + 20.25, 52),
    ((0, 0, 2, 1), (2, 0, 3, 1), 0, 3, 3, 2.25, 10),
]


@pytest.mark.parametrize(("box", "target", "intersection", "union", "around", "distance", "diagonal"), EXAMPLES)
def test_the_losses_are_those_of_the_papers(box, target, intersection, union, around, distance, diagonal):
    iou = intersection / union
    (a, b, c, d), (e, f, g, h) = box, target
    v = 4 / math.pi**2 * (math.atan((g - e) / (h - f)) - math.atan((c - a) / (d - b))) ** 2
    expected = {
        "iou_loss": 1 - iou,
        "giou_loss": 1 - iou + (around - union) / around,
        "diou_loss": 1 - iou + distance / diagonal,
        "ciou_loss": 1 - iou + distance / diagonal + v * v / (1 - iou + v),
    }
    box, target = (torch.tensor([x], dtype=torch.float64) for x in (box, target))
    for name, value in expected.items():
        assert getattr(losses, name)(box, target).item() == pytest.approx(value, rel=1e-14)
        assert getattr(losses, name)(target, box).item() == pytest.approx(value, rel=1e-14)


def formula(name, boxes, targets):
    """The losses as torchvision writes them, without its eps; autograd takes CIoU's alpha as a constant."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = boxes.unbind(-1), targets.unbind(-1)
    width, height = torch.min(x2, u2) - torch.max(x1, u1), torch.min(y2, v2) - torch.max(y1, v1)
    intersection = width.clamp(min=0) * height.clamp(min=0)
    union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - intersection
    around = torch.max(x2, u2) - torch.min(x1, u1), torch.max(y2, v2) - torch.min(y1, v1)
    loss = 1 - intersection / union
    if name == "giou_loss":
        return loss + 1 - union / (around[0] * around[1])
    if name == "iou_loss":
        return loss
    centres = (x1 + x2 - u1 - u2) ** 2 / 4 + (y1 + y2 - v1 - v2) ** 2 / 4
    distance = centres / (around[0] ** 2 + around[1] ** 2)
    if name == "diou_loss":
        return loss + distance
    v = 4 / math.pi**2 * (torch.atan((u2 - u1) / (v2 - v1)) - torch.atan((x2 - x1) / (y2 - y1))) ** 2
    alpha = (v / (loss + v)).detach()
    return loss + distance + alpha * v


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("name", BOXES)
def test_value_and_both_gradients_are_those_of_the_formula(name, reduction):
    boxes, targets = (x.requires_grad_() for x in random_boxes())
    expected = formula(name, boxes, targets)
    expected = expected if reduction == "none" else getattr(expected, reduction)()
    ours = getattr(losses, name)(boxes, targets, reduction=reduction)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)
    gradients = grad(ours.sum(), (boxes, targets))
    torch.testing.assert_close(gradients, grad(expected.sum(), (boxes, targets)), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", BOXES)
def test_the_second_derivative_is_that_of_the_formula(name):
    boxes, targets = random_boxes(count=6)

    def curvature(loss):
        return torch.autograd.functional.hessian(lambda x: loss(x).sum(), boxes)

    ours = curvature(lambda x: getattr(losses, name)(x, targets, reduction="none"))
    if name != "ciou_loss":  # whose formula autograd sees with a constant alpha only once
        torch.testing.assert_close(ours, curvature(lambda x: formula(name, x, targets)), rtol=1e-8, atol=1e-8)
    assert ours.isfinite().all()


def test_the_weight_of_the_proportions_counts_as_a_constant_in_the_gradient():
    box, target = torch.tensor([[1.0, 0, 2, 3]]).double(), torch.tensor([[0.0, 1, 3, 2]]).double()
    _, gradient = value_and_gradient(losses.ciou_loss, box, target)
    step = torch.tensor([[0.0, 0, 1e-6, 0]]).double()
    quotient = (losses.ciou_loss(box + step, target) - losses.ciou_loss(box - step, target)) / 2e-6
    assert abs(quotient - gradient[0, 2]) > 0.01


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("box", [(0, 0, 0, 0), (1, 2, 3, 4), (5, 5, 5, 9), (-1, 2, 7, 2), (1e30, 0, 2e30, 1e-30)])
def test_a_box_that_equals_its_target_costs_exactly_nothing_even_without_an_area(name, box):
    box = torch.tensor([box], dtype=torch.float32)
    value, gradient = value_and_gradient(getattr(losses, name), box, box)
    assert value.item() == 0
    assert gradient.eq(0).all()


DEGENERATE = [  # without area: what the loss is in the limit where both boxes grow by the same hair's breadth
    ((0, 0, 0, 0), (1, 1, 1, 1), 1, 1 + 1),  # two points
    ((0, 0, 2, 0), (1, 0, 4, 0), 3 / 4, 3 / 4),  # two segments on one line, compared by their lengths
    ((0, 0, 0, 1), (0, 3, 0, 5), 1, 1 + 2 / 5),  # apart on one line
    ((0, 1, 2, 1), (1, 0, 1, 2), 1, 1 + 1),  # crossing
    ((0, 0, 0, 0), (-1, -1, 1, 1), 1, 1),  # a point in a box
    ((3, 0, 3, 1), (0, 0, 1, 1), 1, 1 + 2 / 3),  # a segment and a box apart
]


@pytest.mark.parametrize(("box", "target", "iou", "giou"), DEGENERATE)
def test_boxes_without_an_area_cost_what_both_cost_grown_by_a_hairs_breadth(box, target, iou, giou):
    box, target = (torch.tensor([x], dtype=torch.float64) for x in (box, target))
    assert losses.iou_loss(box, target).item() == pytest.approx(iou, rel=1e-14)
    assert losses.giou_loss(box, target).item() == pytest.approx(giou, rel=1e-14)
    hair = 1e-9 * torch.tensor([-1, -1, 1, 1])
    for name in ("iou_loss", "giou_loss", "diou_loss"):
        grown = getattr(losses, name)(box + hair, target + hair)
        torch.testing.assert_close(getattr(losses, name)(box, target), grown, rtol=0, atol=1e-8)
    for name in BOXES:
        for first, second in ((box, target), (target, box)):
            assert value_and_gradient(getattr(losses, name), first, second)[1].isfinite().all()


def test_a_point_has_no_proportions():
    point, box = torch.tensor([[0.5, 0.5, 0.5, 0.5]]), torch.tensor([[0.0, 0.0, 1.0, 3.0]])
    for first, second in ((point, box), (box, point)):
        ours = value_and_gradient(losses.ciou_loss, first, second)
        torch.testing.assert_close(ours, value_and_gradient(losses.diou_loss, first, second), rtol=0, atol=0)
    segment = torch.tensor([[0.5, 0.5, 0.5, 0.9]])
    assert losses.ciou_loss(segment, box) > losses.diou_loss(segment, box)


def test_coinciding_edges_have_the_mean_gradient_of_both_sides_and_touching_boxes_that_of_the_overlap():
    box, target = torch.tensor([[0.0, 0.0, 2.0, 2.0]]).double(), torch.tensor([[1.0, 0.0, 2.0, 2.0]]).double()
    step = torch.tensor([[0.0, 0.0, 1e-7, 0.0]]).double()
    for name in BOXES:
        middle, outside, inside = (
            value_and_gradient(getattr(losses, name), x, target)[1][0, 2] for x in (box, box + step, box - step)
        )
        assert middle.item() == pytest.approx((outside + inside).item() / 2, abs=1e-6)
        assert outside != pytest.approx(inside.item(), abs=0.1)
    touching = target + torch.tensor([[1.0, 0.0, 1.0, 0.0]]).double()  # from x = 2 to 3
    _, gradient = value_and_gradient(losses.iou_loss, touching, target)
    _, overlapping = value_and_gradient(losses.iou_loss, touching - 1e-9, target - 1e-9 * 0)
    assert gradient[0, 0].item() == pytest.approx(overlapping[0, 0].item(), abs=1e-6)
    assert gradient[0, 0] > 0.4


def test_a_box_of_no_width_within_its_target_is_told_to_widen():
    line, target = torch.tensor([[0.5, 0.0, 0.5, 1.0]]), torch.tensor([[0.0, -1.0, 2.0, 2.0]])
    for name in BOXES:
        _, gradient = value_and_gradient(getattr(losses, name), line, target)
        assert gradient[0, 2] < 0 < gradient[0, 0]


def test_boxes_apart_teach_iou_nothing_and_the_others_to_come_together():
    box, target = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[3.0, 0.2, 4.0, 1.2]])
    value, gradient = value_and_gradient(losses.iou_loss, box, target)
    assert (value.item(), gradient.any().item()) == (1, False)
    for name in BOXES[1:]:
        _, gradient = value_and_gradient(getattr(losses, name), box, target)
        assert gradient[0, 2] < 0


def test_a_tall_box_does_not_lose_the_pull_of_an_edge_to_cancellation():
    tall, low = torch.tensor([[0.0, -1e6, 1.0, 1e6]]), torch.tensor([[-0.5, -0.5, 2.0, 0.5]])
    _, gradient = value_and_gradient(losses.iou_loss, tall, low)
    _, exact = value_and_gradient(losses.iou_loss, tall.double(), low.double())
    torch.testing.assert_close(gradient.double(), exact, rtol=2e-6, atol=0)
    assert (gradient != 0).all()


# Masks against mpmath


def exact_counts(probability, rest, masks):
    """Return true positives, false positives and false negatives of one class."""
    pixels = list(zip(probability, rest, masks, strict=True))
    return sum(p * t for p, _, t in pixels), sum(p * (1 - t) for p, _, t in pixels), sum(q * t for _, q, t in pixels)


def exact_tversky(counts, alpha, beta, smooth):
    """Return the loss and its derivative in p where t is 0 and where it is 1; it is linear in t."""
    found, too_much, missed = counts
    right, wrong = found + mpf(smooth), mpf(alpha) * too_much + mpf(beta) * missed
    total = right + wrong
    return wrong / total, mpf(alpha) * right / total**2, -(mpf(beta) * right + wrong) / total**2


def exact_masks(logits, masks, **options):
    """Return loss and gradient of one binary mask, lists of floats."""
    p, q = ([1 / (1 + mpmath.exp(sign * mpf(x))) for x in logits] for sign in (-1, 1))
    t = [mpf(mask) for mask in masks]
    loss, outside, inside = exact_tversky(exact_counts(p, q, t), **options)
    gradient = [a * b * ((1 - mask) * outside + mask * inside) for a, b, mask in zip(p, q, t, strict=True)]
    return loss, gradient


def exact_classes(logits, index, **options):
    """Return losses, gradients and the sums of the sizes of their terms; logits: a list for each class."""
    columns = [[mpmath.exp(mpf(x)) for x in pixel] for pixel in zip(*logits, strict=True)]
    p = list(zip(*([x / sum(column) for x in column] for column in columns), strict=True))
    values, slopes = [], []
    for c, row in enumerate(p):
        t = [mpf(y == c) for y in index]
        value, outside, inside = exact_tversky(exact_counts(row, [1 - x for x in row], t), **options)
        values.append(value)
        slopes.append([inside if y == c else outside for y in index])
    pixels, classes = range(len(index)), range(len(p))

    def total(combine, j, i):
        return p[j][i] * sum(p[k][i] * combine(slopes[j][i], slopes[k][i]) for k in classes if k != j)

    gradient = [[total(lambda a, b: a - b, j, i) for i in pixels] for j in classes]
    terms = [[total(lambda a, b: abs(a) + abs(b), j, i) for i in pixels] for j in classes]
    return values, gradient, terms


PRICES = [
    {"alpha": alpha, "beta": beta, "smooth": smooth}
    for (alpha, beta), smooth in itertools.product([(0.5, 0.5), (0.3, 0.7), (1.0, 0.0), (0.0, 1.0)], [0.0, 1e-5, 1.0])
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("prices", PRICES, ids=str)
def test_a_mask_keeps_its_digits_from_hopeless_to_nearly_perfect(prices, dtype):
    generator = torch.Generator().manual_seed(3)
    largest = 80.0 if dtype == torch.float32 else 600.0
    with mpmath.workdps(400):
        for spread, kind in itertools.product([1e-3, 3.0, 20.0, largest], ["any", "right", "wrong", "soft"]):
            masks = torch.tensor([1.0, 0, 0, 1, 1], dtype=dtype)
            logits = spread * torch.rand(5, generator=generator, dtype=dtype) * torch.tensor([1, 1, -1, -1, 1])
            if kind in ("right", "wrong"):
                logits = logits.abs() * (2 * masks - 1) * (1 if kind == "right" else -1)
            if kind == "soft":
                masks = masks * 0.5 + 0.25
            shaped = logits.reshape(1, 1, 5), masks.reshape(1, 1, 5)
            value, gradient = value_and_gradient(losses.tversky_loss, *shaped, **prices)
            loss, slopes = exact_masks(logits.tolist(), masks.tolist(), **prices)
            assert close(value.item(), loss, TOLERANCE[dtype] * abs(loss), dtype)
            # The derivative of a soft mask is a sum of two signs.
            scale = max(map(abs, slopes)) if kind == "soft" else 0
            for ours, truth in zip(gradient.flatten().tolist(), slopes, strict=True):
                assert close(ours, truth, TOLERANCE[dtype] * max(scale, abs(truth)), dtype)


def close(ours, truth, tolerance, dtype):
    """Whether a result is right: within the tolerance, or where the truth underflows."""
    return abs(ours - truth) <= tolerance + 10 * torch.finfo(dtype).tiny


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("prices", PRICES[:6], ids=str)
def test_classes_keep_their_digits_from_hopeless_to_nearly_perfect(prices, dtype):
    """The logits are multiples of 1/64, so that their differences, of which the softmax is made, are exact floats."""
    generator = torch.Generator().manual_seed(4)
    with mpmath.workdps(200):
        for spread, kind in itertools.product([0.1, 3.0, 20.0, 40.0], ["any", "right", "wrong"]):
            index = torch.tensor([[0, 1, 2, 1]])
            logits = spread * torch.rand(1, 3, 4, generator=generator, dtype=dtype)
            if kind != "any":
                shift = 2 * spread if kind == "right" else -2 * spread
                logits = logits.scatter_add(1, index[:, None], torch.full((1, 1, 4), shift, dtype=dtype))
            logits = (logits * 64).round() / 64
            options = prices | {"reduction": "none"}
            value, gradient = value_and_gradient(losses.tversky_loss, logits, index, **options)
            losses_, slopes, terms = exact_classes(logits[0].tolist(), index[0].tolist(), **prices)
            for ours, truth in zip(value[0].tolist(), losses_, strict=True):
                assert close(ours, truth, TOLERANCE[dtype] * abs(truth), dtype)
            for row in zip(gradient[0].tolist(), slopes, terms, strict=True):
                for ours, truth, scale in zip(*row, strict=True):
                    assert close(ours, truth, TOLERANCE[dtype] * scale, dtype)


def test_a_large_half_precision_mask_is_a_number_where_a_sum_in_float16_is_not():
    logits, masks = torch.full((1, 1, 512, 512), 5.0).half(), torch.ones(1, 1, 512, 512).half()
    probability = logits.sigmoid()
    overlap, sizes = (probability * masks).sum(), probability.sum() + masks.sum()
    assert (2 * overlap / sizes).isnan()
    assert losses.dice_loss(logits, masks).item() == pytest.approx(0.00336, rel=2e-3)  # (1 - p) / (1 + p)


@pytest.mark.parametrize("kind", ["masks", "classes"])
def test_a_nearly_perfect_prediction_keeps_its_small_loss_where_one_minus_dice_has_none(kind):
    target = torch.tensor([[[1.0, 0.0]]]) if kind == "masks" else torch.tensor([[1, 0]])
    truth = target if kind == "masks" else torch.nn.functional.one_hot(target).movedim(-1, 1)
    logits = 30.0 * (2 * truth.float() - 1)
    value, gradient = value_and_gradient(losses.dice_loss, logits, target)
    error = math.exp(-30.0 if kind == "masks" else -60.0)
    assert value.item() == pytest.approx(2 * error / 3, rel=1e-5)
    assert (gradient != 0).all()


# Masks: published values and conventions


def written_out(logits, target, smooth, power=1):
    """Dice as most libraries write it."""
    if target.shape == logits.shape:
        probability, masks = logits.sigmoid(), target
    else:
        probability = logits.softmax(1)
        masks = torch.nn.functional.one_hot(target, logits.shape[1]).movedim(-1, 1)
    pixels = tuple(range(2, logits.dim()))
    overlap = (probability * masks).sum(pixels)
    return 1 - (2 * overlap + smooth) / ((probability**power).sum(pixels) + (masks**power).sum(pixels) + smooth)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("smooth", [0.0, 1e-5, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_dice_and_its_gradient_are_those_of_the_formula(kind, smooth, reduction):
    logits, target = random_masks(kind)
    logits.requires_grad_()
    expected = written_out(logits, target, smooth)
    expected = expected if reduction == "none" else getattr(expected, reduction)()
    ours = losses.dice_loss(logits, target, smooth=smooth, reduction=reduction)
    torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(grad(ours.sum(), logits), grad(expected.sum(), logits), rtol=1e-10, atol=1e-13)


def test_dice_has_linear_sizes_in_the_denominator_not_squares():
    logits, target = random_masks("soft masks")
    squared = written_out(logits, target, 1.0, power=2)
    assert not torch.allclose(losses.dice_loss(logits, target, reduction="none"), squared, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_tversky_with_equal_halves_is_dice_with_twice_the_smooth(kind):
    logits, target = random_masks(kind)
    for smooth in (0.0, 0.3, 1.0):
        dice = losses.dice_loss(logits, target, smooth=2 * smooth, reduction="none")
        tversky = losses.tversky_loss(logits, target, alpha=0.5, beta=0.5, smooth=smooth, reduction="none")
        torch.testing.assert_close(tversky, dice, rtol=1e-14, atol=0)


def test_tversky_with_full_prices_is_the_soft_intersection_over_union():
    logits, masks = random_masks("masks")
    overlap = (logits.sigmoid() * masks).sum((2, 3))
    union = (logits.sigmoid() + masks).sum((2, 3)) - overlap
    ours = losses.tversky_loss(logits, masks, alpha=1.0, beta=1.0, smooth=0.0, reduction="none")
    torch.testing.assert_close(ours, 1 - overlap / union)


def test_alpha_prices_what_is_too_much_and_beta_what_is_missed():
    sure = torch.tensor([[[99.0, 99.0, 99.0, -99.0]]])
    target = torch.tensor([[[1.0, 0.0, 0.0, 1.0]]])  # one found, two too much, one missed
    ours = losses.tversky_loss(sure, target, alpha=0.25, beta=0.75, smooth=0.0)
    assert ours.item() == pytest.approx(1 - 1 / (1 + 2 * 0.25 + 0.75))


def test_the_defaults_are_those_of_the_signatures():
    boxes = random_boxes()
    for name in BOXES:
        loss = getattr(losses, name)
        assert loss(*boxes) == loss(*boxes, reduction="mean")
    for kind in KINDS:
        masks = random_masks(kind)
        for module, reduction in ((losses, {"reduction": "mean"}), (reference, {})):
            arguments = masks if module is losses else tuple(x.numpy() for x in masks)
            dice = module.dice_loss(*arguments, smooth=1.0, ignore_index=-100, **reduction)
            np.testing.assert_array_equal(module.dice_loss(*arguments), dice)
            options = {"alpha": 0.5, "beta": 0.5, "smooth": 1.0, "ignore_index": -100} | reduction
            np.testing.assert_array_equal(module.tversky_loss(*arguments), module.tversky_loss(*arguments, **options))


@pytest.mark.parametrize("name", MASKS)
def test_an_absent_class_costs_what_the_docstring_says_and_is_never_nan(name):
    nothing = torch.zeros(1, 1, 4)
    for logits, smooth, expected in [
        (torch.zeros(1, 1, 4), 0.0, 1.0),  # half a mask predicted, nothing there
        (torch.full((1, 1, 4), -50.0), 0.0, 1.0),
        (torch.full((1, 1, 4), -1e4), 0.0, 0.0),  # not even a probability is left
        (torch.full((1, 1, 4), -1e4), 1.0, 0.0),
    ]:
        value, gradient = value_and_gradient(getattr(losses, name), logits, nothing, smooth=smooth)
        assert value.item() == expected
        assert gradient.eq(0).all()
    full = losses.dice_loss(torch.full((1, 1, 4), 1e4), torch.ones(1, 1, 4), smooth=0.0)
    assert full.item() == 0


@pytest.mark.parametrize("name", MASKS)
def test_free_errors_cost_nothing(name):
    logits, masks = random_masks("masks")
    if name == "tversky_loss":
        assert losses.tversky_loss(logits, masks, alpha=0.0, beta=0.0, smooth=0.0) == 0
    assert getattr(losses, name)(logits, masks) > 0


@pytest.mark.parametrize("kind", ["masks", "classes"])
@pytest.mark.parametrize("extreme", [math.inf, 1e30])
def test_infinite_or_huge_logits_leave_no_nan(kind, extreme):
    if kind == "masks":
        logits, target = torch.tensor([[[extreme, -extreme, extreme]]]), torch.tensor([[[1.0, 0.0, 0.0]]])
    else:
        logits, target = torch.tensor([[[0.0, -extreme], [-extreme, 0.0]]]), torch.tensor([[0, 0]])
    value, gradient = value_and_gradient(losses.dice_loss, logits, target)
    assert value.isfinite()
    assert gradient.isfinite().all()


# Ignored pixels


@pytest.mark.parametrize("module", [losses, reference], ids=["torch", "numpy"])
@pytest.mark.parametrize("name", MASKS)
def test_ignored_pixels_equal_removed_pixels(name, module):
    logits, index = random_masks("classes", shape=(6,))
    ignored = index.clone()
    ignored[:, 4:] = 255
    logits[:, :, 5] = math.inf
    kept, kept_index = logits[:, :, :4], index[:, :4]
    options = MASKS[name] | {"ignore_index": 255}
    if module is reference:
        value = reference_of(name)(logits.numpy(), ignored.numpy(), **options)
        gradient = reference_of(name, "_grad")(logits.numpy(), ignored.numpy(), **options)
    else:
        value, gradient = value_and_gradient(getattr(losses, name), logits, ignored, **options, reduction="none")
    expected = value_and_gradient(getattr(losses, name), kept, kept_index, **MASKS[name], reduction="none")
    np.testing.assert_allclose(value, expected[0], rtol=1e-13)
    np.testing.assert_allclose(gradient[:, :, :4], expected[1], rtol=1e-12, atol=1e-16)
    assert not gradient[:, :, 4:].any()


@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_an_image_of_ignored_pixels_costs_nothing(smooth):
    logits, index = random_masks("classes")
    value, gradient = value_and_gradient(losses.dice_loss, logits, torch.full_like(index, -100), smooth=smooth)
    assert value == 0
    assert not gradient.any()


# The NumPy twin


def reference_of(name, suffix=""):
    return getattr(reference, name + suffix)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", BOXES)
def test_the_numpy_twin_of_boxes_has_the_same_value_and_gradient(name, seed):
    boxes, targets = random_boxes(seed)
    boxes[1] = targets[1]
    boxes[4, 2] = targets[4, 2]
    boxes[5] = targets[5] + torch.tensor([1, 0, 1, 0]) * (targets[5, 2] - targets[5, 0])  # they touch
    value, gradient = value_and_gradient(getattr(losses, name), boxes, targets, reduction="none")
    np.testing.assert_allclose(reference_of(name)(boxes.numpy(), targets.numpy()), value, rtol=1e-12, atol=1e-15)
    by_hand = reference_of(name, "_grad")(boxes.numpy(), targets.numpy())
    np.testing.assert_allclose(by_hand, gradient, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MASKS)
def test_the_numpy_twin_of_masks_has_the_same_value_and_gradient(name, kind, seed):
    logits, target = random_masks(kind, seed)
    for options in ({}, MASKS[name]):
        value, gradient = value_and_gradient(getattr(losses, name), logits, target, **options, reduction="none")
        twin = reference_of(name)(logits.numpy(), target.numpy(), **options)
        assert twin.shape == value.shape == (2, 3)
        np.testing.assert_allclose(twin, value, rtol=1e-12)
        by_hand = reference_of(name, "_grad")(logits.numpy(), target.numpy(), **options)
        np.testing.assert_allclose(by_hand, gradient, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("kind", ["masks", "classes"])
def test_the_numpy_twin_of_masks_neither_overflows_nor_warns(kind):
    logits, target = (x.numpy() for x in random_masks(kind, spread=800.0))
    for name in MASKS:
        assert np.isfinite(reference_of(name)(logits, target)).all()
        assert np.isfinite(reference_of(name, "_grad")(logits, target)).all()


# What theory says


@pytest.mark.parametrize("name", [name for name in BOXES if name != "ciou_loss"])
def test_the_gradients_of_a_box_loss_are_the_derivatives_of_its_value_and_can_be_derived_again(name):
    boxes = [x.requires_grad_() for x in random_boxes(count=6)]
    assert gradcheck(getattr(losses, name), boxes)
    assert gradgradcheck(getattr(losses, name), boxes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MASKS)
def test_the_gradient_of_a_mask_loss_is_the_derivative_of_its_value_and_can_be_derived_again(name, kind):
    logits, target = random_masks(kind, shape=(3,))

    def loss(x):
        return getattr(losses, name)(x, target, **MASKS[name], reduction="none")

    assert gradcheck(loss, logits.requires_grad_())
    assert gradgradcheck(loss, logits)


@given(seed=st.integers(0, 2**31), shift=st.floats(-10, 10), scale=st.floats(1e-3, 1e3))
@settings(deadline=None, max_examples=30)
def test_a_box_loss_does_not_depend_on_place_unit_or_the_order_of_boxes_and_axes(seed, shift, scale):
    boxes, targets = random_boxes(seed, count=6)
    for name in BOXES:
        loss = getattr(losses, name)(boxes, targets, reduction="none")
        moved = getattr(losses, name)(scale * (boxes + shift), scale * (targets + shift), reduction="none")
        torch.testing.assert_close(moved, loss, rtol=1e-9, atol=1e-9)
        swapped = getattr(losses, name)(boxes[:, [1, 0, 3, 2]], targets[:, [1, 0, 3, 2]], reduction="none")
        torch.testing.assert_close(swapped, loss, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(getattr(losses, name)(targets, boxes, reduction="none"), loss)
        torch.testing.assert_close(
            getattr(losses, name)(boxes.flip(0), targets.flip(0), reduction="none"), loss.flip(0)
        )


@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=30)
def test_the_box_losses_keep_their_order_and_their_bounds(seed):
    boxes, targets = random_boxes(seed)
    iou, giou, diou, ciou = (getattr(losses, name)(boxes, targets, reduction="none") for name in BOXES)
    assert ((iou >= 0) & (iou <= 1)).all()
    assert ((giou >= iou) & (giou < 2)).all()
    assert ((diou >= iou) & (diou < 2)).all()
    assert ((ciou >= diou) & (ciou < 2.5)).all()


@given(seed=st.integers(0, 2**31), stretch=st.floats(1e-2, 1e2))
@settings(deadline=None, max_examples=30)
def test_iou_and_giou_do_not_change_when_one_axis_is_stretched(seed, stretch):
    boxes, targets = random_boxes(seed, count=6)
    wide = torch.tensor([stretch, 1, stretch, 1])
    for name in BOXES[:2]:
        stretched = getattr(losses, name)(boxes * wide, targets * wide)
        torch.testing.assert_close(stretched, getattr(losses, name)(boxes, targets))


@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=30)
def test_a_mask_loss_depends_on_no_order_of_pixels_samples_or_classes_and_lies_in_the_unit_interval(seed):
    for name, kind in itertools.product(MASKS, KINDS):
        logits, target = random_masks(kind, seed, shape=(5,))
        loss = getattr(losses, name)(logits, target, **MASKS[name], reduction="none")
        assert ((loss >= 0) & (loss <= 1)).all()
        flipped = getattr(losses, name)(logits.flip(2), target.flip(-1), **MASKS[name], reduction="none")
        torch.testing.assert_close(flipped, loss)
        renamed = target.flip(1) if kind != "classes" else 2 - target
        flipped = getattr(losses, name)(logits.flip(1), renamed, **MASKS[name], reduction="none")
        torch.testing.assert_close(flipped, loss.flip(1))


@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=30)
def test_complementary_logits_and_masks_swap_what_is_too_much_and_what_is_missed(seed):
    logits, masks = random_masks("soft masks", seed)
    found = (logits.sigmoid() * masks).sum((2, 3))
    neither = ((-logits).sigmoid() * (1 - masks)).sum((2, 3))
    there = losses.tversky_loss(logits, masks, alpha=0.2, beta=0.9, smooth=0.0, reduction="none")
    not_there = losses.tversky_loss(-logits, 1 - masks, alpha=0.9, beta=0.2, smooth=0.0, reduction="none")
    torch.testing.assert_close(there / (1 - there) * found, not_there / (1 - not_there) * neither)


@given(seed=st.integers(0, 2**31), shift=st.floats(-20, 20))
@settings(deadline=None, max_examples=30)
def test_only_differences_of_logits_matter_for_classes(seed, shift):
    logits, index = random_masks("classes", seed)
    for name in MASKS:
        loss = getattr(losses, name)(logits, index)
        torch.testing.assert_close(getattr(losses, name)(logits + shift, index), loss)
        assert not torch.allclose(
            getattr(losses, name)(logits, one_hot(index)), loss
        )  # masks do not exclude each other


def one_hot(index):
    return torch.nn.functional.one_hot(index, 3).movedim(-1, 1)


@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=30)
def test_two_classes_are_one_mask_and_its_complement(seed):
    logits, index = random_masks("classes", seed, classes=2)
    lead = logits[:, 1:] - logits[:, :1]
    for name in MASKS:
        both = getattr(losses, name)(logits, index, **MASKS[name], reduction="none")
        mask = getattr(losses, name)(lead, index[:, None], **MASKS[name], reduction="none")
        torch.testing.assert_close(both[:, 1:], mask)


# Shapes, dtypes and transformations

CASES = [*((name, "boxes") for name in BOXES), *itertools.product(MASKS, KINDS)]
each_case = pytest.mark.parametrize(("name", "kind"), CASES)


def arguments_of(kind, count=4):
    if kind == "boxes":
        return random_boxes(count=count)
    return random_masks(kind, samples=count)


@each_case
def test_a_batch_of_one_costs_what_its_sample_costs_and_an_empty_batch_nan_or_zero(name, kind):
    loss, (input, target) = getattr(losses, name), arguments_of(kind)
    alone = [loss(input[i : i + 1], target[i : i + 1], reduction="none") for i in range(len(input))]
    torch.testing.assert_close(torch.cat(alone), loss(input, target, reduction="none"))
    value, gradient = value_and_gradient(loss, input[:0], target[:0])
    assert value.isnan()
    assert gradient.shape == input[:0].shape
    assert loss(input[:0], target[:0], reduction="sum") == 0
    assert len(loss(input[:0], target[:0], reduction="none")) == 0


def test_boxes_may_have_any_leading_shape():
    boxes, targets = random_boxes(count=12)
    for name in BOXES:
        flat = getattr(losses, name)(boxes, targets, reduction="none")
        for shape in [(3, 4), (2, 1, 6)]:
            ours = getattr(losses, name)(boxes.reshape(*shape, 4), targets.reshape(*shape, 4), reduction="none")
            torch.testing.assert_close(ours, flat.reshape(shape))
        assert getattr(losses, name)(boxes[0], targets[0], reduction="none") == flat[0]


def test_masks_may_have_any_number_of_spatial_dimensions():
    for kind in KINDS:
        logits, target = random_masks(kind, shape=(24,))
        for shape in [(4, 6), (2, 3, 4)]:
            ours = losses.dice_loss(logits.unflatten(2, shape), target.unflatten(-1, shape), reduction="none")
            torch.testing.assert_close(ours, losses.dice_loss(logits, target, reduction="none"))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.float32])
def test_masks_of_zeros_and_ones_may_have_any_dtype(dtype):
    logits, masks = random_masks("masks")
    expected = value_and_gradient(losses.tversky_loss, logits, masks)
    torch.testing.assert_close(value_and_gradient(losses.tversky_loss, logits, masks.to(dtype)), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_class_indices_may_have_any_integer_dtype(dtype):
    logits, index = random_masks("classes")
    ours = value_and_gradient(losses.dice_loss, logits, index.to(dtype))
    torch.testing.assert_close(ours, value_and_gradient(losses.dice_loss, logits, index))


def test_true_boxes_may_be_integers_and_another_precision_promotes():
    box, target = torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1, 0, 3, 2]])
    for name in BOXES:
        loss = getattr(losses, name)
        torch.testing.assert_close(loss(box, target), loss(box, target.float()))
        assert loss(box, target.double()).dtype == torch.float64


@each_case
def test_strided_input_costs_what_its_contiguous_copy_costs(name, kind):
    input, target = arguments_of(kind)
    strided, strided_target = (x.repeat_interleave(2, -1)[..., ::2] for x in (input, target))
    assert not strided.is_contiguous()
    ours = value_and_gradient(getattr(losses, name), strided, strided_target)
    torch.testing.assert_close(ours, value_and_gradient(getattr(losses, name), input, target))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@each_case
def test_half_precision_is_computed_in_float32_and_rounded_once(name, kind, dtype):
    input, target = arguments_of(kind)
    input, target = input.to(dtype), target.to(dtype) if target.is_floating_point() else target
    for reduction in ("none", "mean", "sum"):
        ours = getattr(losses, name)(input, target, reduction=reduction)
        exact = getattr(losses, name)(
            input.float(), target.float() if target.is_floating_point() else target, reduction=reduction
        )
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, exact.to(dtype), rtol=0, atol=0)


@each_case
def test_under_autocast_half_precision_gives_float32(name, kind):
    input, target = arguments_of(kind)
    input = input.bfloat16()
    target = target.bfloat16() if target.is_floating_point() else target
    expected = value_and_gradient(getattr(losses, name), input.float(), target.float() if kind == "boxes" else target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, gradient = value_and_gradient(getattr(losses, name), input, target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected[0], rtol=0, atol=0)
    torch.testing.assert_close(gradient, expected[1].bfloat16(), rtol=0, atol=0)


@pytest.mark.parametrize("block", [1, 50])
@each_case
def test_working_block_by_block_changes_nothing(name, kind, block, monkeypatch):
    input, target = arguments_of(kind, count=7)
    if kind == "classes":
        target[2, 1] = -100
    whole = value_and_gradient(getattr(losses, name), input, target, reduction="none")
    monkeypatch.setattr(losses, "_BLOCK", block)
    in_blocks = value_and_gradient(getattr(losses, name), input, target, reduction="none")
    torch.testing.assert_close(in_blocks, whole, rtol=1e-14, atol=1e-16)


@each_case
def test_the_loss_can_be_mapped(name, kind):
    input, target = arguments_of(kind, count=6)
    if kind != "boxes":  # over pairs of samples: each call sees a batch
        input, target = input.unflatten(0, (3, 2)), target.unflatten(0, (3, 2))

    def loss(x, y):
        return getattr(losses, name)(x, y, reduction="sum")

    mapped = torch.func.vmap(torch.func.grad(loss))(input, target)
    one_by_one = [value_and_gradient(loss, x, y)[1] for x, y in zip(input, target, strict=True)]
    torch.testing.assert_close(mapped, torch.stack(one_by_one))
    shared = torch.func.vmap(torch.func.grad(loss), in_dims=(0, None))(input, target[0])
    torch.testing.assert_close(shared[1], value_and_gradient(loss, input[1], target[0])[1])


@each_case
def test_the_loss_of_one_input_can_be_mapped_over_targets_block_by_block(name, kind, monkeypatch):
    monkeypatch.setattr(losses, "_BLOCK", 1)
    input, target = arguments_of(kind, count=6)
    targets = torch.stack([target, target.flip(0)])
    mapped = torch.func.vmap(lambda y: getattr(losses, name)(input, y, reduction="none"))(targets)
    one_by_one = [getattr(losses, name)(input, y, reduction="none") for y in targets]
    torch.testing.assert_close(mapped, torch.stack(one_by_one))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while tracing
@each_case
def test_the_loss_compiles_to_one_graph(name, kind):
    input, target = arguments_of(kind)
    input, target = input.float(), target.float() if target.is_floating_point() else target
    compiled = torch.compile(getattr(losses, name), backend="aot_eager", fullgraph=True)
    ours = value_and_gradient(compiled, input, target)
    torch.testing.assert_close(ours, value_and_gradient(getattr(losses, name), input, target))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_losses_treat_the_exceptions_too():
    boxes, targets = arguments_of("boxes")
    boxes[0] = targets[0] = 1.0
    boxes[1, ::2] = targets[1, ::2] = 0.0
    compiled = torch.compile(losses.ciou_loss, backend="aot_eager", fullgraph=True)
    expected = value_and_gradient(losses.ciou_loss, boxes, targets)
    torch.testing.assert_close(value_and_gradient(compiled, boxes, targets), expected)
    logits, index = arguments_of("classes")
    index[0, 0] = -100
    compiled = torch.compile(losses.dice_loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(
        value_and_gradient(compiled, logits, index), value_and_gradient(losses.dice_loss, logits, index)
    )


# Refusals

BOX, MASK, LOGITS, INDEX = torch.tensor([[0.0, 0, 1, 1]]), torch.ones(1, 2, 3), torch.zeros(1, 2, 3), torch.zeros(1, 3)
BAD_BOXES = [
    (([0.0], BOX), {}, TypeError, "input must be a torch.Tensor, got list"),
    ((BOX.long(), BOX), {}, TypeError, "input must be a floating-point tensor, got torch.int64"),
    ((BOX, [0.0]), {}, TypeError, "target must be a torch.Tensor, got list"),
    ((BOX, BOX > 0), {}, TypeError, "target must hold real numbers, got torch.bool"),
    ((BOX, BOX[0]), {}, ValueError, r"same shape, got \(1, 4\) and \(4,\)"),
    ((BOX[:, :3], BOX[:, :3]), {}, ValueError, r"must have shape \(..., 4\), got \(1, 3\)"),
    ((BOX[0, 0], BOX[0, 0]), {}, ValueError, r"must have shape \(..., 4\), got \(\)"),
    ((BOX.flip(1), BOX), {}, ValueError, r"x1 <= x2 and y1 <= y2, got \[1.0, 1.0, 0.0, 0.0\] in input"),
    ((BOX, torch.tensor([[0.0, 2, 1, 1]])), {}, ValueError, r"got \[0.0, 2.0, 1.0, 1.0\] in target"),
    ((BOX, BOX), {"reduction": "average"}, ValueError, "'sum', got 'average'"),
]
BAD_MASKS = [
    (([0.0], MASK), {}, TypeError, "input must be a torch.Tensor, got list"),
    ((LOGITS.long(), MASK), {}, TypeError, "input must be a floating-point tensor, got torch.int64"),
    ((LOGITS, [1.0]), {}, TypeError, "target must be a torch.Tensor, got list"),
    ((LOGITS, MASK.to(torch.complex64)), {}, TypeError, "target must hold real numbers, got torch.complex64"),
    ((LOGITS[0], MASK[0]), {}, ValueError, r"shape \(N, C, d1, ...\) .*, got \(2, 3\)"),
    ((LOGITS, MASK[:, :1]), {}, ValueError, r"\(1, 2, 3\), or class indices in \(1, 3\), got \(1, 1, 3\)"),
    ((LOGITS, MASK[0]), {}, ValueError, r"class indices in \(1, 3\), got \(2, 3\)"),
    ((LOGITS, INDEX), {}, TypeError, r"^target must hold class indices \(integers\), got torch.float32"),
    ((LOGITS[:, :1], INDEX.long()), {}, ValueError, "at least two classes"),
    ((LOGITS, INDEX.long() + 2), {}, ValueError, r"in \[0, 2\) or ignore_index \(-100\), got 2"),
    ((LOGITS, INDEX.long() - 1), {"ignore_index": 255}, ValueError, r"or ignore_index \(255\), got -1"),
    ((LOGITS, MASK * 1.5), {}, ValueError, r"in \[0, 1\], got 1.5"),
    ((LOGITS, MASK.long() * 255), {}, ValueError, r"in \[0, 1\], got 255"),
    ((LOGITS, -MASK), {}, ValueError, r"in \[0, 1\], got -1.0"),
    ((LOGITS, torch.arange(6.0).view_as(MASK) * 0.4), {}, ValueError, r"in \[0, 1\], got 1.2"),  # the first outside
    ((LOGITS, MASK), {"smooth": -1.0}, ValueError, "smooth must be finite and at least 0, got -1.0"),
    ((LOGITS, MASK), {"smooth": math.inf}, ValueError, "smooth must be finite and at least 0, got inf"),
    ((LOGITS, MASK), {"smooth": "1"}, TypeError, "smooth must be a number, got str"),
    ((LOGITS, MASK), {"reduction": "average"}, ValueError, "'sum', got 'average'"),
]
REFUSALS = [
    *((name, *case) for name, case in itertools.product(BOXES, BAD_BOXES)),
    *((name, *case) for name, case in itertools.product(MASKS, BAD_MASKS)),
    ("tversky_loss", (LOGITS, MASK), {"alpha": -0.1}, ValueError, "alpha must be finite and at least 0, got -0.1"),
    ("tversky_loss", (LOGITS, MASK), {"beta": math.nan}, ValueError, "beta must be finite and at least 0, got nan"),
]


@pytest.mark.parametrize(("name", "arguments", "options", "error", "message"), REFUSALS)
def test_bad_input_is_refused_with_what_was_given_and_what_is_wanted(name, arguments, options, error, message):
    with pytest.raises(error, match=message):
        getattr(losses, name)(*arguments, **options)
