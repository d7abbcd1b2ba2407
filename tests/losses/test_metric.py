"""The losses on embeddings against torch, against 50 digits of mpmath, and against what theory says of them."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import grad, gradcheck, gradgradcheck

from lib.losses import metric as losses
from lib.reference import metric as reference

PAIRS = {
    "contrastive_loss": {"margin": 1.5},
    "cosine_embedding_loss": {"margin": 0.0},
    "cosine_embedding_loss, margin": {"margin": 0.3},
}
TRIPLETS = {
    f"triplet_margin_loss, p {p}{', swap' * swap}": {"p": p, "swap": swap, "margin": 0.8}
    for p, swap in ((0.5, False), (1, True), (2, False), (2, True), (3, True), (math.inf, False))
}
IN_BATCH = {
    "nt_xent_loss": {"temperature": 0.5},
    "nt_xent_loss, cold": {"temperature": 0.07},
    "nt_xent_loss, in chunks": {"temperature": 0.5, "chunk_size": 5},
    "info_nce_loss": {"temperature": 0.3},
    "clip_loss": {"temperature": 0.3},
}
GIVEN_NEGATIVES = {"info_nce_loss, shared": {"temperature": 0.3}, "info_nce_loss, own": {"temperature": 0.3}}
SUPERVISED = {"supervised_contrastive_loss": {"temperature": 0.3}}
CONTRASTS = IN_BATCH | GIVEN_NEGATIVES | SUPERVISED
OPTIONS = PAIRS | TRIPLETS | CONTRASTS
SEPARATE = PAIRS | TRIPLETS | GIVEN_NEGATIVES  # where the loss of a sample depends on that sample alone
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12}
DTYPES = list(TOLERANCE)
DAMPING = float(np.float32(1e-12))  # torch's constant


def function_of(case, module=losses):
    return getattr(module, case.split(",")[0])


def random_arguments(case, seed=0, samples=6, size=3):
    """Return the embeddings (float64) and, in a list, the labels or classes of a case."""
    generator = torch.Generator().manual_seed(seed)

    def embeddings(*shape):
        return torch.randn(*shape, size, generator=generator, dtype=torch.float64)

    if case in SUPERVISED:
        return [embeddings(samples)], [torch.randint(0, 3, (samples,), generator=generator)]
    inputs = [embeddings(samples), embeddings(samples)]
    if case in PAIRS:
        return inputs, [torch.randint(0, 2, (samples,), generator=generator) * 2.0 - 1]
    if case in TRIPLETS:
        return [*inputs, embeddings(samples)], []
    if case in GIVEN_NEGATIVES:
        return [*inputs, embeddings(4) if "shared" in case else embeddings(samples, 4)], []
    return inputs, []


def value_and_gradients(loss, inputs, labels=(), **options):
    inputs = [x.clone().requires_grad_() for x in inputs]
    value = loss(*inputs, *labels, **options)
    return value.detach(), grad(value.sum(), inputs)


def pick(case, inputs, labels, which):
    """Return the arguments of some samples; shared negatives are everybody's."""
    kept = [x if "shared" in case and i == 2 else x[which] for i, x in enumerate(inputs)]
    return kept, [y[which] for y in labels]


# Against mpmath


def exact_vectors(tensor):
    """Return the rows of a tensor as lists of mpmath numbers, nested as the tensor is."""
    nested = tensor.tolist()
    return [
        [mpmath.mpf(c) for c in row] if isinstance(row[0], float) else exact_vectors(sub)
        for row, sub in zip(nested, tensor, strict=True)
    ]


def dot(x, y):
    return sum((a * b for a, b in zip(x, y, strict=True)), mpmath.mpf(0))


def distance(x, y, p=2, eps=0):
    gaps = [abs(a - b + eps) for a, b in zip(x, y, strict=True)]
    return max(gaps) if p == math.inf else sum(g ** mpmath.mpf(p) for g in gaps) ** (1 / mpmath.mpf(p))


def cosine(x, y, damping=0):
    return dot(x, y) / mpmath.sqrt((dot(x, x) + damping) * (dot(y, y) + damping))


def negative_log_share(truth, rivals):
    return mpmath.log1p(sum((mpmath.exp(r - truth) for r in rivals), mpmath.mpf(0)))


def exact_pair(name, x, y, label, margin):
    if name == "contrastive_loss":
        gap = distance(x, y)
        return (gap if label == 1 else max(mpmath.mpf(0), margin - gap)) ** 2 / 2
    similarity = cosine(x, y, DAMPING)
    return 1 - similarity if label == 1 else max(mpmath.mpf(0), similarity - margin)


def exact_contrasts(case, inputs, labels, temperature):
    """Return the loss of each anchor."""
    if case in SUPERVISED:
        rows, classes, losses_ = inputs[0], labels[0], []
        for i, x in enumerate(rows):
            s = {j: cosine(x, y) / temperature for j, y in enumerate(rows) if j != i}
            positives = [j for j in s if classes[j] == classes[i]]
            each = [negative_log_share(s[p], [v for j, v in s.items() if j != p]) for p in positives]
            losses_.append(sum(each) / len(each) if each else mpmath.mpf(0))
        return losses_
    first, second = inputs[:2]
    if case.startswith("nt_xent"):
        rows, n = first + second, len(first)
        table = [[cosine(x, y) / temperature for y in rows] for x in rows]
        return [
            negative_log_share(table[i][(i + n) % (2 * n)], [v for j, v in enumerate(table[i]) if j % n != i % n])
            for i in range(2 * n)
        ]
    table = [[cosine(x, y) / temperature for y in second] for x in first]
    truth = [row[i] for i, row in enumerate(table)]
    if case in GIVEN_NEGATIVES:
        of = inputs[2] if "own" in case else [inputs[2]] * len(first)
        return [negative_log_share(truth[i], [cosine(x, n) / temperature for n in of[i]]) for i, x in enumerate(first)]
    rows = [negative_log_share(truth[i], [v for j, v in enumerate(table[i]) if j != i]) for i in range(len(truth))]
    columns = [negative_log_share(truth[i], [r[i] for j, r in enumerate(table) if j != i]) for i in range(len(truth))]
    return rows if case.startswith("info") else [(r + c) / 2 for r, c in zip(rows, columns, strict=True)]


def exact_gradient(function, vectors):
    """Return the derivatives of a function of nested lists of vectors, by differences of its many digits."""
    result = []
    for entry in vectors:
        if isinstance(entry, list):
            result.append(exact_gradient(function, entry))
            continue
    if result:
        return result
    for i, old in enumerate(vectors):
        step = mpmath.mpf("1e-20") * max(abs(v) for v in vectors)
        step = step or mpmath.mpf("1e-20")
        vectors[i] = old + step
        above = function()
        vectors[i] = old - step
        below = function()
        vectors[i] = old
        result.append((above - below) / (2 * step))
    return result


def flat(nested):
    return [x for sub in nested for x in flat(sub)] if isinstance(nested, list) else [nested]


SCALES = [1e-30, 1e-18, 1e-3, 1.0, 1e3, 1e18, 1e30]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("label", [1, -1])
def test_contrastive_loss_and_gradient_are_right_at_every_scale(label, scale, dtype):
    # The distance is rounded, in float64 whatever the dtype, before the margin is compared with it.
    generator = torch.Generator().manual_seed(1)
    x, y = (scale * torch.randn(8, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    x, y = x.to(dtype), y.to(dtype)
    y[0] = x[0]
    y[1] = x[1].nextafter(y[1])
    target, margin = torch.full((8,), label), 2 * scale
    ours = value_and_gradients(losses.contrastive_loss, [x, y], [target], margin=margin, reduction="none")
    with mpmath.workdps(50):
        for a, b, value, to_a, to_b in zip(*map(exact_vectors, (x, y)), ours[0].tolist(), *ours[1], strict=True):
            gap = distance(a, b)
            term = gap if label == 1 else max(mpmath.mpf(margin), gap)
            truth = exact_pair("contrastive_loss", a, b, label, mpmath.mpf(margin))
            noise = 4e-16 * term
            if truth > torch.finfo(dtype).max:
                assert value == math.inf
            else:
                bound = TOLERANCE[dtype] * truth + noise * mpmath.sqrt(2 * truth) + noise**2
                assert abs(value - truth) <= bound + torch.finfo(dtype).tiny
            slope = (gap if label == 1 else -max(mpmath.mpf(0), margin - gap)) / (gap or 1)
            for p, q, ours_a, ours_b in zip(a, b, to_a.tolist(), to_b.tolist(), strict=True):
                bound = (TOLERANCE[dtype] * abs(slope) + noise / (gap or 1)) * abs(p - q)
                assert abs(ours_a - slope * (p - q)) <= bound
                assert ours_b == -ours_a


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("size", "margin"), [(2, 0.1), (8, 10.0), (8, 0.7)])
@pytest.mark.parametrize("share", [0.999, 0.9999, 0.99999])
def test_a_dissimilar_pair_just_inside_the_margin_costs_what_is_left_of_it(share, size, margin, dtype):
    generator = torch.Generator().manual_seed(size)
    x = torch.zeros(size, dtype=dtype)
    y = torch.randn(size, generator=generator)
    y = (y / y.norm() * margin * share).to(dtype)
    y *= 1 - 4 * torch.finfo(dtype).eps * (dtype != torch.float32)  # rounding to half may have carried it outside
    target = torch.tensor(-1)
    value, gradients = value_and_gradients(losses.contrastive_loss, [x.float(), y.float()], [target], margin=margin)
    half = losses.contrastive_loss(x, y, target, margin=margin)
    with mpmath.workdps(50):
        vectors = exact_vectors(torch.stack([x, y]))
        gap = distance(*vectors)
        left = margin - gap
        assert left > 0
        assert abs(value.item() - left**2 / 2) <= TOLERANCE[torch.float32] * left**2 / 2
        for component, slope in zip(vectors[1], gradients[1].tolist(), strict=True):
            truth = -left * component / gap
            assert abs(slope - truth) <= TOLERANCE[torch.float32] * abs(truth)
    torch.testing.assert_close(half, value.to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("p", [0.5, 1, 2, 3, 10, math.inf])
def test_triplet_loss_and_gradient_are_right_at_every_scale(p, scale, dtype):
    # Both distances are rounded before they are compared, each by the precision of its dtype.
    generator = torch.Generator().manual_seed(2)
    rows = [(scale * torch.randn(6, 3, generator=generator, dtype=torch.float64)).to(dtype) for _ in range(3)]
    rows[1][0] = rows[0][0]  # distance 0
    options = {"p": p, "margin": scale, "eps": 0.0, "reduction": "none"}
    ours = value_and_gradients(losses.triplet_margin_loss, rows, **options)
    with mpmath.workdps(100):
        vectors = [exact_vectors(x) for x in rows]
        for i, value in enumerate(ours[0].tolist()):
            triplet = [v[i] for v in vectors]

            def loss(triplet=triplet):
                a, b, c = triplet
                return max(mpmath.mpf(0), scale + distance(a, b, p) - distance(a, c, p))

            a, b, c = triplet
            rounding = TOLERANCE[dtype] / 10 * (distance(a, b, p) + distance(a, c, p)) * max(1, 1 / p)
            assert abs(value - loss()) <= TOLERANCE[dtype] * loss() + rounding
            if i == 0:
                continue  # no derivative at distance 0
            for truth, of_ours in zip(
                flat(exact_gradient(loss, triplet)), torch.stack(ours[1])[:, i].flatten().tolist(), strict=True
            ):
                # the derivatives of the two distances may cancel; those for p < 1 exceed 1
                assert abs(of_ours - truth) <= TOLERANCE[dtype] * max(1, abs(truth)) * max(2, p if p < 11 else 2)


@pytest.mark.parametrize(("dtype", "precision"), [(torch.float32, 2e-7), (torch.float64, 2e-16)])
@pytest.mark.parametrize("scale", [1.0, 3e4])
def test_a_triplet_loss_is_off_by_no_more_than_the_documented_share_of_its_distances(scale, dtype, precision):
    generator = torch.Generator().manual_seed(3)
    rows = [(scale * torch.randn(200, 8, generator=generator, dtype=torch.float64)).to(dtype) for _ in range(2)]
    rows.append((rows[0].double() + (rows[1] - rows[0]).double().flip(-1) * (1 + 1e-3 / scale)).to(dtype))
    options = {"margin": 1e-3, "eps": 0.0, "reduction": "none"}
    value, (gradient, *_) = value_and_gradients(losses.triplet_margin_loss, rows, **options)
    with mpmath.workdps(50):
        for a, b, c, ours, slope in zip(*map(exact_vectors, rows), value.tolist(), gradient, strict=True):
            near, far = distance(a, b), distance(a, c)
            excess = options["margin"] + near - far
            assert abs(ours - max(0, excess)) <= precision * (near + far)
            if abs(excess) > precision * (near + far):
                assert slope.any().item() is bool(excess > 0)


def test_triplet_gradient_is_zero_at_a_distance_of_zero_and_finite_for_equal_points():
    x = torch.tensor([[1.0, 2.0]])
    _, gradients = value_and_gradients(losses.triplet_margin_loss, [x, x, x + 0.5], eps=0.0)
    assert gradients[1].eq(0).all()
    torch.testing.assert_close(gradients[0], torch.full((1, 2), math.sqrt(0.5)))
    for p in (1, 2, 3, math.inf):
        _, gradients = value_and_gradients(losses.triplet_margin_loss, [x, x, x], p=p)
        assert all(g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scales", [(1, 1), (1e-3, 1e3), (1e-30, 1), (1e-7, 1e-7), (1e30, 1e30), (1e30, 1e-30)])
@pytest.mark.parametrize("label", [1, -1])
@pytest.mark.parametrize("angle", [0.0, 1e-6, 1e-3, 0.1, 1.0, 1.5, 3.0, math.pi])
def test_cosine_loss_and_gradient_are_right_at_every_angle_and_length(angle, label, scales, dtype):
    # The unit vectors are rounded, in float64 whatever the dtype: that much, next to 1, is the error of a cosine and of
    # the gradient, which is as small as the sine of the angle.
    first = [3.0, -1.0, 2.0]
    across = [1.0, 5.0, 1.0]  # orthogonal to the first
    turned = [
        math.cos(angle) * a / math.sqrt(14) + math.sin(angle) * b / math.sqrt(27)
        for a, b in zip(first, across, strict=True)
    ]
    u = torch.tensor([[scales[0] * a for a in first]], dtype=dtype)
    v = torch.tensor([[scales[1] * a for a in turned]], dtype=dtype)
    margin = -0.5
    options = {"margin": margin, "reduction": "none"}
    value, gradients = value_and_gradients(losses.cosine_embedding_loss, [u, v], [torch.tensor([label])], **options)
    with mpmath.workdps(100):
        pair = exact_vectors(u) + exact_vectors(v)
        truth = exact_pair("cosine_embedding_loss", *pair, label, margin)
        noise = mpmath.mpf("4e-16")
        rounding = noise * mpmath.sqrt(2 * truth) + noise**2 if label == 1 else noise
        assert abs(value.item() - truth) <= TOLERANCE[dtype] * truth + rounding
        slopes = exact_gradient(lambda: exact_pair("cosine_embedding_loss", *pair, label, margin), pair)
        for vector, slope, ours in zip(pair, slopes, gradients, strict=True):
            error = [a - b for a, b in zip(slope, ours[0].tolist(), strict=True)]
            rounding = noise / mpmath.sqrt(dot(vector, vector) + DAMPING)
            subnormal = 2 * torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
            bound = TOLERANCE[dtype] * mpmath.sqrt(dot(slope, slope)) + rounding + subnormal
            assert mpmath.sqrt(dot(error, error)) <= bound


def test_cosine_loss_of_nearly_parallel_vectors_keeps_its_digits_where_one_minus_the_cosine_has_none():
    angle = 1e-4
    u, v = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, angle]])
    one = torch.ones(1)
    assert losses.cosine_embedding_loss(u, v, one).item() == pytest.approx(angle**2 / 2, rel=1e-3)
    assert F.cosine_embedding_loss(u, v, one).item() == pytest.approx(0, abs=1e-12)


def hard_batches(case, dtype):
    """Return batches: random, aligned (small losses), opposed (large losses), with nearly equal embeddings."""
    inputs, labels = random_arguments(case, seed=3, samples=4 if case in SUPERVISED else 3)
    corners = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]], dtype=torch.float64)
    classes = [torch.tensor([0, 0, 1, 1])] if labels else []
    if labels:
        batches = [(inputs, labels), ([corners[[0, 0, 1, 1]] + 0.01 * inputs[0]], classes), ([corners], classes)]
    else:
        others = [0.01 * x - corners[0] for x in inputs[2:]]
        aligned = [corners[:3] + 0.01 * inputs[0], corners[:3], *others]
        opposed = [corners[:3], -corners[:3], *others]
        batches = [(inputs, []), (aligned, []), (opposed, [])]
    return [([x.to(dtype) for x in xs], ys) for xs, ys in batches]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("temperature", [10.0, 0.5, 0.01])
@pytest.mark.parametrize("case", ["nt_xent_loss", "info_nce_loss", "clip_loss", *GIVEN_NEGATIVES, *SUPERVISED])
def test_contrasts_and_their_gradients_are_right_at_every_temperature(case, temperature, dtype):
    # A cosine is rounded to a float's precision and divided by the temperature: that much more is the relative error
    # of a loss. The gradient is a sum that may cancel: its error is relative to the sum of the weights of its terms.
    worse = TOLERANCE[dtype] * (1 + 1 / temperature)
    for inputs, labels in hard_batches(case, dtype):
        options = {"temperature": temperature, "reduction": "none"}
        value, gradients = value_and_gradients(function_of(case), inputs, labels, **options)
        with mpmath.workdps(60):
            vectors, classes = [exact_vectors(x) for x in inputs], [y.tolist() for y in labels]

            def total(vectors=vectors, classes=classes):
                return sum(exact_contrasts(case, vectors, classes, mpmath.mpf(temperature)))

            truths = exact_contrasts(case, vectors, classes, mpmath.mpf(temperature))
            for ours, truth in zip(value.tolist(), truths, strict=True):
                assert abs(ours - truth) <= worse * truth + torch.finfo(dtype).tiny
            weight = sum(-mpmath.expm1(-truth) for truth in truths) / temperature
            slopes = flat(exact_gradient(total, vectors))
            shortest = min(x.flatten(0, -2).norm(dim=-1).min().item() for x in inputs)
            for slope, ours in zip(slopes, torch.cat([g.flatten() for g in gradients]).tolist(), strict=True):
                assert abs(ours - slope) <= worse * weight / shortest + torch.finfo(dtype).tiny


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e10, 1e30])
@pytest.mark.parametrize("case", CONTRASTS)
def test_the_length_of_an_embedding_does_not_matter_however_long_or_short(case, scale, dtype):
    inputs, labels = random_arguments(case)
    inputs = [x.to(dtype) for x in inputs]
    value, gradients = value_and_gradients(function_of(case), inputs, labels, **OPTIONS[case])
    stretched = [(x.double() * scale).to(dtype) for x in inputs]
    value_of_them, their_gradients = value_and_gradients(function_of(case), stretched, labels, **OPTIONS[case])
    tolerance = {"rtol": 50 * TOLERANCE[dtype], "atol": 50 * TOLERANCE[dtype]}
    torch.testing.assert_close(value_of_them, value, **tolerance)
    for theirs, ours in zip(their_gradients, gradients, strict=True):
        torch.testing.assert_close(theirs.double() * scale, ours.double(), **tolerance)


@pytest.mark.parametrize("case", CONTRASTS)
def test_a_row_of_zeros_is_similar_to_nothing_and_gets_no_gradient(case):
    inputs, labels = random_arguments(case)
    for i, x in enumerate(inputs):
        zeroed = [y.clone() for y in inputs]
        zeroed[i][1] = 0
        value, gradients = value_and_gradients(function_of(case), zeroed, labels, **OPTIONS[case])
        assert value.isfinite()
        assert all(g.isfinite().all() for g in gradients)
        assert gradients[i][1].eq(0).all()
        assert gradients[i].any()
        assert x[1].any()


@pytest.mark.parametrize("case", PAIRS)
def test_zero_vectors_leave_no_nan_in_the_losses_of_pairs(case):
    zeros = torch.zeros(2, 3)
    value, gradients = value_and_gradients(
        function_of(case), [zeros, zeros], [torch.tensor([1, -1])], **OPTIONS[case], reduction="none"
    )
    assert value.tolist() == ([0, 1.125] if "contrastive" in case else [1, 0])
    assert all(g.eq(0).all() for g in gradients)


@pytest.mark.parametrize("loss", [losses.nt_xent_loss, losses.info_nce_loss, losses.clip_loss])
def test_at_a_cold_temperature_the_loss_of_opposed_pairs_is_two_hundred_with_a_gradient(loss):
    # One pair points to opposite sides, and its rivals are where its own partner should be.
    ahead = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    behind = torch.tensor([[-1.0, 0.05], [1.0, -0.05]])
    value, (gradient, _) = value_and_gradients(loss, [ahead, behind], temperature=0.01, reduction="none")
    assert value[0].item() == pytest.approx(200 if loss is not losses.clip_loss else 100, rel=0.01)
    assert gradient[0].abs().max() > 1


# Against torch


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("shape", [(3,), (7, 3), (7, 1), (2, 4, 3)])
@pytest.mark.parametrize("case", TRIPLETS)
def test_triplet_loss_equals_torch(case, shape, reduction):
    generator = torch.Generator().manual_seed(4)
    rows = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3)]
    rows[1][-1] = rows[0][-1]
    for eps in (1e-6, 0.1):
        options = OPTIONS[case] | {"reduction": reduction, "eps": eps}
        ours = value_and_gradients(losses.triplet_margin_loss, rows, **options)
        torchs = value_and_gradients(F.triplet_margin_loss, rows, **options)
        torch.testing.assert_close(ours, torchs, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("p", [0.05, 40.0])
def test_triplet_loss_of_an_unusual_norm_equals_torch(p):
    rows, _ = random_arguments("triplet_margin_loss, p 2, swap")
    ours = value_and_gradients(losses.triplet_margin_loss, rows, p=p)
    torch.testing.assert_close(ours, value_and_gradients(F.triplet_margin_loss, rows, p=p), rtol=1e-10, atol=1e-12)


def test_triplet_gradient_at_the_kink_and_of_tied_distances_is_torchs():
    zero, one = torch.tensor([[0.0]]), torch.tensor([[1.0]])
    for rows, options in [
        ((zero, one, 2 * one), {"eps": 0.0}),  # just far enough
        ((zero, 2 * one, one), {"eps": 0.0, "swap": True}),  # the negative is as far from both
    ]:
        ours = value_and_gradients(losses.triplet_margin_loss, rows, **options)
        torchs = value_and_gradients(F.triplet_margin_loss, rows, **options)
        torch.testing.assert_close(ours, torchs)
        arrays = [x.numpy() for x in rows]
        for twin, expected in zip(reference.triplet_margin_loss_grad(*arrays, **options), torchs[1], strict=True):
            np.testing.assert_array_equal(twin, expected)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("margin", [0.0, 0.5, -0.5])
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e-9])
@pytest.mark.parametrize("shape", [(3,), (9, 3)])
def test_cosine_loss_equals_torch_even_where_its_damping_matters(shape, scale, margin, reduction):
    generator = torch.Generator().manual_seed(5)
    rows = [scale * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2)]
    labels = [1, -1, 1, -1, -1, 0, 2, -1, -1] if len(shape) == 2 else -1
    target = torch.tensor(labels)
    rows[1][..., 0] = 0.0
    for y in (target, target.double()):
        options = {"margin": margin, "reduction": reduction}
        ours = value_and_gradients(losses.cosine_embedding_loss, rows, [y], **options)
        torchs = value_and_gradients(F.cosine_embedding_loss, rows, [y], **options)
        torch.testing.assert_close(ours, torchs, rtol=1e-11, atol=1e-13)


def test_cosine_gradient_at_the_kink_is_torchs():
    rows, target = [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])], torch.tensor([-1])
    ours = value_and_gradients(losses.cosine_embedding_loss, rows, [target])
    torch.testing.assert_close(ours, value_and_gradients(F.cosine_embedding_loss, rows, [target]))
    assert ours[1][0].any()


@pytest.mark.parametrize("seed", range(3))
def test_contrasts_are_cross_entropies_of_the_matrix_of_similarities(seed):
    (x, y), _ = random_arguments("clip_loss", seed)
    u, v = F.normalize(x, dim=1), F.normalize(y, dim=1)
    truth = torch.arange(6)
    rows, columns = F.cross_entropy(u @ v.T / 0.2, truth), F.cross_entropy(v @ u.T / 0.2, truth)
    torch.testing.assert_close(losses.info_nce_loss(x, y, temperature=0.2), rows)
    torch.testing.assert_close(losses.clip_loss(x, y, temperature=0.2), (rows + columns) / 2)
    z = torch.cat([u, v])
    both = (z @ z.T / 0.2).fill_diagonal_(-torch.inf)
    expected = F.cross_entropy(both, truth.repeat(2).roll(6) + torch.tensor([6] * 6 + [0] * 6), reduction="none")
    torch.testing.assert_close(losses.nt_xent_loss(x, y, temperature=0.2, reduction="none"), expected)


# The NumPy twin


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("case", OPTIONS)
def test_the_numpy_twin_has_the_same_value_and_its_hand_derived_gradient_is_autograds(case, seed):
    inputs, labels = random_arguments(case, seed)
    value, gradients = value_and_gradients(function_of(case), inputs, labels, **OPTIONS[case], reduction="none")
    arrays = [x.numpy() for x in (*inputs, *labels)]
    options = {name: option for name, option in OPTIONS[case].items() if name != "chunk_size"}
    twin = function_of(case, reference)(*arrays, **options)
    twin_gradients = getattr(reference, case.split(",")[0] + "_grad")(*arrays, **options)
    twin_gradients = twin_gradients if isinstance(twin_gradients, tuple) else (twin_gradients,)
    np.testing.assert_allclose(twin, value, rtol=1e-11, atol=1e-13)
    for ours, theirs in zip(twin_gradients, gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("case", CONTRASTS)
def test_the_numpy_twin_gives_a_row_of_zeros_and_a_lonely_anchor_no_gradient(case):
    inputs, labels = random_arguments(case)
    inputs[0][0] = 0
    labels = [torch.tensor([0, 1, 2, 0, 1, 1])] if labels else []  # the third is alone
    _, gradients = value_and_gradients(function_of(case), inputs, labels, **OPTIONS[case], reduction="none")
    options = {name: option for name, option in OPTIONS[case].items() if name != "chunk_size"}
    arrays = [x.numpy() for x in (*inputs, *labels)]
    twin_gradients = getattr(reference, case.split(",")[0] + "_grad")(*arrays, **options)
    twin_gradients = twin_gradients if isinstance(twin_gradients, tuple) else (twin_gradients,)
    for ours, theirs in zip(twin_gradients, gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-13)
    assert not np.any(twin_gradients[0][0])


def test_twins_of_a_single_pair_have_no_rivals_and_no_loss():
    x, y = np.array([[1.0, 2.0]]), np.array([[2.0, -1.0]])
    for name in ("nt_xent_loss", "info_nce_loss", "clip_loss"):
        assert not getattr(reference, name)(x, y).any()
        assert not np.any(getattr(reference, name + "_grad")(x, y))
    assert reference.supervised_contrastive_loss(x, np.array([0])).tolist() == [0]
    assert not reference.supervised_contrastive_loss_grad(x, np.array([0])).any()


def test_the_twin_of_the_largest_component_shares_the_gradient_of_a_tie():
    rows = [torch.zeros(1, 2), torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 1.5]])]
    options = {"p": math.inf, "eps": 0.0}
    _, gradients = value_and_gradients(losses.triplet_margin_loss, rows, **options)
    twins = reference.triplet_margin_loss_grad(*(x.numpy() for x in rows), **options)
    for ours, twin in zip(gradients, twins, strict=True):
        np.testing.assert_array_equal(ours, twin)
    assert gradients[1].tolist() == [[0.5, 0.5]]


# What theory says


@pytest.mark.parametrize("case", OPTIONS)
def test_gradient_is_the_derivative_of_the_value_and_can_be_derived_again(case):
    inputs, labels = random_arguments(case, samples=4)
    inputs = [x.requires_grad_() for x in inputs]

    def loss(*inputs):
        return function_of(case)(*inputs, *labels, **OPTIONS[case])

    assert gradcheck(loss, inputs)
    assert gradgradcheck(loss, inputs)


def test_the_contrastive_loss_of_similar_pairs_has_a_second_derivative_at_distance_zero():
    x = torch.ones(2, dtype=torch.float64)

    def loss(y):
        return losses.contrastive_loss(x, y, torch.tensor(1))

    torch.testing.assert_close(torch.autograd.functional.hessian(loss, x), torch.eye(2, dtype=torch.float64))


@pytest.mark.parametrize("case", [*PAIRS, *(f"triplet_margin_loss, p {p}" for p in (1.5, 2, 3))])
def test_equal_points_leave_no_nan_in_the_second_derivative(case):
    inputs, labels = random_arguments("triplet_margin_loss, p 2" if case not in PAIRS else case)
    for x in inputs:
        x[0] = x[1] = inputs[0][0]
    labels = [torch.tensor([1.0, -1, 1, -1, 1, -1]) for _ in labels]
    options = {"margin": 0.5} if labels else {"margin": 3.0, "p": float(case.split()[-1]), "eps": 0.0}
    inputs = [x.requires_grad_() for x in inputs]
    slopes = grad(function_of(case)(*inputs, *labels, **options), inputs, create_graph=True)
    curvatures = grad(sum(slope.square().sum() for slope in slopes), inputs)
    assert all(c.isfinite().all() for c in curvatures)
    assert all(c[2:].any() for c in curvatures)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "loss",
    [
        losses.nt_xent_loss,
        losses.info_nce_loss,
        losses.clip_loss,
        lambda x, y, **options: losses.supervised_contrastive_loss(torch.cat([x, y]), Y.abs().repeat(2), **options),
    ],
)
def test_a_temperature_whose_inverse_overflows_is_refused_and_the_least_other_one_leaves_no_nan(loss, dtype):
    eye, least = torch.eye(2, dtype=dtype), torch.finfo(dtype).tiny
    with pytest.raises(
        ValueError, match=r"temperature must be at least .*, or the similarities divided by it overflow"
    ):
        loss(eye, eye, temperature=least / 2)
    value, gradients = value_and_gradients(loss, [eye, eye], temperature=least)
    assert value.isfinite()
    assert all(g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("case", ["info_nce_loss", "clip_loss", *GIVEN_NEGATIVES])
def test_the_temperature_can_learn(case):
    inputs, _ = random_arguments(case)
    temperature = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)

    def loss(temperature):
        return function_of(case)(*inputs, temperature=temperature)

    torch.testing.assert_close(loss(temperature), loss(0.4))
    assert gradcheck(loss, temperature)
    assert gradgradcheck(loss, temperature)


@given(order=st.permutations(range(6)), seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_the_order_of_the_batch_does_not_matter(order, seed):
    for case in OPTIONS:
        inputs, labels = random_arguments(case, seed)
        loss = function_of(case)(*inputs, *labels, **OPTIONS[case])
        inputs, labels = pick(case, inputs, labels, torch.tensor(order))
        torch.testing.assert_close(function_of(case)(*inputs, *labels, **OPTIONS[case]), loss)


@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_rotating_all_embeddings_changes_nothing(seed):
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    for case in [*PAIRS, *CONTRASTS, "triplet_margin_loss, p 2"]:
        inputs, labels = random_arguments(case, seed)
        options = OPTIONS[case] | ({"eps": 0.0} if case in TRIPLETS else {})
        rotated = function_of(case)(*(x @ rotation for x in inputs), *labels, **options)
        torch.testing.assert_close(rotated, function_of(case)(*inputs, *labels, **options))


@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_scaling_embeddings_and_margin_scales_a_loss_of_distances(scale, seed):
    for case in ["contrastive_loss", *TRIPLETS]:
        inputs, labels = random_arguments(case, seed)
        options = OPTIONS[case] | ({} if labels else {"eps": 0.0})
        scaled = options | {"margin": scale * options["margin"]}
        degree = 2 if labels else 1
        torch.testing.assert_close(
            function_of(case)(*(scale * x for x in inputs), *labels, **scaled),
            scale**degree * function_of(case)(*inputs, *labels, **options),
        )


@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_the_two_sides_of_a_symmetric_loss_can_be_exchanged(seed):
    for case in [*PAIRS, "nt_xent_loss", "clip_loss"]:
        (x, y), labels = random_arguments(case, seed)
        exchanged = function_of(case)(y, x, *labels, **OPTIONS[case])
        torch.testing.assert_close(exchanged, function_of(case)(x, y, *labels, **OPTIONS[case]))
    each = losses.nt_xent_loss(x, y, reduction="none")
    torch.testing.assert_close(losses.nt_xent_loss(y, x, reduction="none"), each.roll(6))


@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_clip_is_the_mean_of_info_nce_in_both_directions(seed):
    (x, y), _ = random_arguments("clip_loss", seed)
    for reduction in ("none", "mean", "sum"):
        there, back = (losses.info_nce_loss(*both, reduction=reduction) for both in ((x, y), (y, x)))
        torch.testing.assert_close(losses.clip_loss(x, y, reduction=reduction), (there + back) / 2)


@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_negatives_may_be_in_the_batch_shared_or_everybodys_own(seed):
    (x, y, n), _ = random_arguments("info_nce_loss, shared", seed)
    shared = losses.info_nce_loss(x, y, n)
    torch.testing.assert_close(losses.info_nce_loss(x, y, n.expand(6, 4, 3)), shared)
    others = torch.stack([y[torch.arange(6) != i] for i in range(6)])
    torch.testing.assert_close(losses.info_nce_loss(x, y, others), losses.info_nce_loss(x, y))


@given(seed=st.integers(0, 2**31), temperature=st.floats(0.02, 5))
@settings(deadline=None, max_examples=25)
def test_with_two_of_each_class_the_supervised_contrastive_loss_is_nt_xent(seed, temperature):
    (x, y), _ = random_arguments("nt_xent_loss", seed)
    expected = losses.nt_xent_loss(x, y, temperature=temperature, reduction="none")
    ours = losses.supervised_contrastive_loss(
        torch.cat([x, y]), torch.arange(6).repeat(2), temperature=temperature, reduction="none"
    )
    torch.testing.assert_close(ours, expected)


@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_the_supervised_contrastive_loss_averages_over_the_positives_outside_the_logarithm(seed):
    (x,), (classes,) = random_arguments("supervised_contrastive_loss", seed)
    z = F.normalize(x, dim=1)
    log_chance = (z @ z.T / 0.1).fill_diagonal_(-torch.inf).log_softmax(1)
    positive = (classes == classes[:, None]).fill_diagonal_(False)
    expected = torch.stack(
        [-row[p].mean() if p.any() else row.new_zeros(()) for row, p in zip(log_chance, positive, strict=True)]
    )
    ours = losses.supervised_contrastive_loss(x, classes, reduction="none")
    torch.testing.assert_close(ours, expected)
    counted = positive.any(1)
    torch.testing.assert_close(losses.supervised_contrastive_loss(x, classes), expected[counted].mean())
    torch.testing.assert_close(losses.supervised_contrastive_loss(x, classes, reduction="sum"), expected.sum())
    floor = (positive.sum(1).clamp(min=1)).log()
    assert (ours >= floor - 1e-12).all()


def test_anchors_without_a_positive_are_rivals_but_do_not_count_and_of_none_the_mean_is_nan_without_gradient():
    (x,), _ = random_arguments("supervised_contrastive_loss", samples=3)
    lonely = torch.tensor([5, 5, -7])
    pair = losses.supervised_contrastive_loss(x, lonely, reduction="none")
    assert pair[2] == 0
    assert (pair[:2] > 0).all()
    torch.testing.assert_close(losses.supervised_contrastive_loss(x, lonely), pair[:2].mean())
    value, (gradient,) = value_and_gradients(losses.supervised_contrastive_loss, [x], [torch.arange(3)])
    assert value.isnan()
    assert gradient.eq(0).all()


@pytest.mark.parametrize("n", [2, 5])
def test_orthogonal_pairs_cost_what_the_closed_forms_say(n):
    eye = torch.eye(n, dtype=torch.float64)
    for t in (0.5, 0.1, 0.02):
        small = math.exp(-1 / t)
        expected = torch.tensor(math.log1p((n - 1) * small), dtype=torch.float64)
        torch.testing.assert_close(losses.info_nce_loss(eye, eye, temperature=t), expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(losses.clip_loss(eye, eye, temperature=t), expected, rtol=1e-12, atol=0)
        twice = torch.tensor(math.log1p(2 * (n - 1) * small), dtype=torch.float64)
        torch.testing.assert_close(losses.nt_xent_loss(eye, eye, temperature=t), twice, rtol=1e-12, atol=0)
        triples = losses.supervised_contrastive_loss(eye.repeat(3, 1), torch.arange(n).repeat(3), temperature=t)
        expected = torch.tensor(math.log(2 + 3 * (n - 1) * small), dtype=torch.float64)
        torch.testing.assert_close(triples, expected, rtol=1e-12, atol=0)


def test_nothing_told_apart_costs_the_logarithm_of_the_number_of_candidates():
    same = torch.ones(5, 3)
    for value, candidates in [
        (losses.nt_xent_loss(same, same), 9),
        (losses.info_nce_loss(same, same), 5),
        (losses.info_nce_loss(same, same, same[:3]), 4),
        (losses.clip_loss(same, same), 5),
        (losses.supervised_contrastive_loss(same, torch.tensor([0, 0, 0, 1, 1])), 4),
    ]:
        assert value.item() == pytest.approx(math.log(candidates), rel=1e-6)


def test_a_single_pair_has_no_rivals_and_no_loss():
    x, y = torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, -1.0]])
    for loss in (losses.nt_xent_loss, losses.info_nce_loss, losses.clip_loss):
        value, gradients = value_and_gradients(loss, [x, y])
        assert value == 0
        assert all(g.eq(0).all() for g in gradients)
    assert losses.info_nce_loss(x, y, torch.zeros(0, 2)) == 0


def test_a_descent_pulls_similar_pairs_together_and_dissimilar_ones_apart_to_the_margin():
    y = torch.tensor([1, -1])
    x = torch.tensor([[0.5, 0.0], [0.5, 0.0]])
    for _ in range(200):
        x = x - 0.1 * value_and_gradients(losses.contrastive_loss, [x, 0 * x], [y], reduction="sum")[1][0]
    torch.testing.assert_close(x, torch.tensor([[0.0, 0.0], [1.0, 0.0]]))


@pytest.mark.parametrize("chunk_size", [1, 2, 7, 12, 100, None])
def test_the_size_of_the_chunks_does_not_matter(chunk_size):
    inputs, _ = random_arguments("nt_xent_loss", samples=40)
    options = {"reduction": "none", "temperature": 0.1}
    whole = value_and_gradients(losses.nt_xent_loss, inputs, chunk_size=80, **options)
    ours = value_and_gradients(losses.nt_xent_loss, inputs, chunk_size=chunk_size, **options)
    torch.testing.assert_close(ours, whole, rtol=1e-12, atol=1e-14)


def test_the_similarities_are_never_held_together(monkeypatch):
    held = []
    similarities = losses._similarities

    def watched(*arguments):
        result = similarities(*arguments)
        held.append(len(result))
        return result

    monkeypatch.setattr(losses, "_similarities", watched)
    inputs, _ = random_arguments("nt_xent_loss", samples=2100)
    value_and_gradients(losses.nt_xent_loss, [x[:300] for x in inputs], chunk_size=50)
    assert held == [50] * 24  # 600 rows, forward and backward
    held.clear()
    losses.nt_xent_loss(*inputs)
    assert max(held) == 64
    held.clear()
    losses.nt_xent_loss(*(x[:500] for x in inputs))
    assert max(held) == 2**17 // 501


DEFAULTS = {
    "contrastive_loss": {"margin": 1.0},
    "cosine_embedding_loss": {"margin": 0.0},
    "triplet_margin_loss, p 2": {"margin": 1.0, "p": 2.0, "eps": 1e-6, "swap": False},
    "nt_xent_loss": {"temperature": 0.5, "chunk_size": None},
    "info_nce_loss": {"temperature": 0.07, "negatives": None},
    "clip_loss": {"temperature": 0.07},
    "supervised_contrastive_loss": {"temperature": 0.1},
}


@pytest.mark.parametrize("case", DEFAULTS)
def test_the_defaults_are_the_documented_ones(case):
    inputs, labels = random_arguments(case)
    mean = function_of(case)(*inputs, *labels)
    assert mean == function_of(case)(*inputs, *labels, **DEFAULTS[case], reduction="mean")
    options = {name: option for name, option in DEFAULTS[case].items() if name != "chunk_size"}
    arrays = [x.numpy() for x in (*inputs, *labels)]
    twin, twin_grad = function_of(case, reference), getattr(reference, case.split(",")[0] + "_grad")
    np.testing.assert_array_equal(twin(*arrays), twin(*arrays, **options))
    np.testing.assert_array_equal(twin_grad(*arrays), twin_grad(*arrays, **options))


@pytest.mark.parametrize("temperature", [0.01, 0.1, 10.0])
def test_two_embeddings_of_one_class_have_no_rivals_and_cost_exactly_nothing(temperature):
    rows = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = losses.supervised_contrastive_loss(rows, torch.zeros(2, dtype=torch.long), temperature=temperature)
    assert loss == 0
    assert grad(loss, rows)[0].eq(0).all()


# Shapes, dtypes and transformations


@pytest.mark.parametrize("case", SEPARATE)
def test_a_batch_of_one_costs_what_its_sample_costs(case):
    inputs, labels = random_arguments(case)
    together = function_of(case)(*inputs, *labels, **OPTIONS[case], reduction="none")
    for i in range(6):
        one, label = pick(case, inputs, labels, slice(i, i + 1))
        torch.testing.assert_close(function_of(case)(*one, *label, **OPTIONS[case]), together[i])
    if case in PAIRS | TRIPLETS:
        bare, label = pick(case, inputs, labels, 2)
        alone = function_of(case)(*bare, *label, **OPTIONS[case], reduction="none")
        torch.testing.assert_close(alone, together[2])


@pytest.mark.parametrize("case", OPTIONS)
def test_an_empty_batch_costs_nan_in_the_mean_and_nothing_in_the_sum(case):
    inputs, labels = pick(case, *random_arguments(case), slice(0, 0))
    loss = function_of(case)
    assert loss(*inputs, *labels, **OPTIONS[case]).isnan()
    assert loss(*inputs, *labels, **OPTIONS[case], reduction="sum") == 0
    assert loss(*inputs, *labels, **OPTIONS[case], reduction="none").shape == (0,)
    gradients = value_and_gradients(loss, inputs, labels, **OPTIONS[case], reduction="sum")[1]
    assert all(g.shape == x.shape and g.eq(0).all() for g, x in zip(gradients, inputs, strict=True))


@pytest.mark.parametrize("case", OPTIONS)
def test_strided_input_costs_what_its_contiguous_copy_costs(case):
    inputs, labels = random_arguments(case)
    strided = [x.repeat_interleave(2, -1)[..., ::2] for x in inputs]
    assert not strided[0].is_contiguous()
    ours = value_and_gradients(function_of(case), strided, labels, **OPTIONS[case])
    torch.testing.assert_close(ours, value_and_gradients(function_of(case), inputs, labels, **OPTIONS[case]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("case", OPTIONS)
def test_half_precision_is_computed_in_float32_and_rounded_once(case, dtype):
    inputs, labels = random_arguments(case)
    inputs = [x.to(dtype) for x in inputs]
    for reduction in ("none", "mean", "sum"):
        options = OPTIONS[case] | {"reduction": reduction}
        ours = function_of(case)(*inputs, *labels, **options)
        exact = function_of(case)(*(x.float() for x in inputs), *labels, **options)
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, exact.to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("case", OPTIONS)
def test_two_dtypes_promote(case):
    inputs, labels = random_arguments(case)
    for i in range(len(inputs)):
        mixed = [x if i == j else x.half() for j, x in enumerate(inputs)]
        assert function_of(case)(*mixed, *labels, **OPTIONS[case]).dtype == torch.float64


@pytest.mark.parametrize("case", OPTIONS)
def test_under_autocast_the_loss_keeps_its_precision(case):
    inputs, labels = random_arguments(case)
    inputs = [x.bfloat16().float().requires_grad_() for x in inputs]
    expected = function_of(case)(*inputs, *labels, **OPTIONS[case])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = function_of(case)(*inputs, *labels, **OPTIONS[case])
        half = function_of(case)(*(x.bfloat16() for x in inputs), *labels, **OPTIONS[case])
    torch.testing.assert_close(ours, expected, rtol=0, atol=0)
    torch.testing.assert_close(grad(ours, inputs), grad(expected, inputs), rtol=0, atol=0)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, expected, rtol=0, atol=0)


@pytest.mark.parametrize("case", OPTIONS)
def test_under_autocast_first_and_second_derivatives_keep_their_precision(case):
    inputs, labels = random_arguments(case)
    inputs = [x.float().requires_grad_() for x in inputs]

    def derivatives():
        slopes = grad(function_of(case)(*inputs, *labels, **OPTIONS[case]), inputs, create_graph=True)
        return slopes, grad(sum(slope.square().sum() for slope in slopes), inputs)

    expected = derivatives()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(derivatives(), expected, rtol=0, atol=0)


@pytest.mark.parametrize(("samples", "size"), [(1500, 100), (3, 70_000)])
@pytest.mark.parametrize("case", PAIRS)
def test_many_pairs_of_float32_cost_what_each_costs_in_float64(case, samples, size):
    inputs, labels = random_arguments(case, samples=samples, size=size)
    inputs = [x.float() for x in inputs]
    # about a fifth more than the usual distance, which is the root of 2 * size
    options = {"margin": 1.7 * size**0.5 if case == "contrastive_loss" else -0.3, "reduction": "none"}
    ours = value_and_gradients(function_of(case), inputs, labels, **options)
    exact = value_and_gradients(function_of(case), [x.double() for x in inputs], labels, **options)
    torch.testing.assert_close(ours[0].double(), exact[0], rtol=2e-6, atol=0)
    for theirs, expected in zip(ours[1], exact[1], strict=True):
        assert (theirs - expected).norm() <= 2e-6 * expected.norm()
    assert (exact[0] > 0).double().mean() > 0.9


# torch's own compiler instantiates the autograd functions that it warns against instantiating.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("case", PAIRS)
def test_the_losses_of_pairs_can_be_mapped_and_compiled_in_float32_as_well(case):
    torch.compiler.reset()
    inputs, labels = random_arguments(case)
    inputs = [x.float() for x in inputs]

    def loss(*arguments):
        return function_of(case)(*arguments, **OPTIONS[case], reduction="none")

    expected = value_and_gradients(loss, inputs, labels)
    compiled = value_and_gradients(torch.compile(loss, backend="aot_eager", fullgraph=True), inputs, labels)
    torch.testing.assert_close(compiled, expected)
    gradients, values = torch.func.vmap(torch.func.grad_and_value(loss, argnums=(0, 1)))(*inputs, *labels)
    torch.testing.assert_close((values, gradients), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.uint32, torch.uint64])
@pytest.mark.parametrize("case", PAIRS)
def test_unsigned_labels_say_similar_as_signed_ones_do(case, dtype):
    inputs, _ = random_arguments(case)
    ours = function_of(case)(*inputs, torch.ones(6, dtype=dtype), **OPTIONS[case])
    assert ours == function_of(case)(*inputs, torch.ones(6), **OPTIONS[case])


@pytest.mark.parametrize("case", OPTIONS)
def test_the_loss_can_be_mapped_over_batches(case):
    batches = [random_arguments(case, seed) for seed in range(3)]
    stacked = [torch.stack(xs) for xs in zip(*(xs for xs, _ in batches), strict=True)]
    labels = [torch.stack(ys) for ys in zip(*(ys for _, ys in batches), strict=True)]

    def loss(*arguments):
        return function_of(case)(*arguments, **OPTIONS[case])

    which = tuple(range(len(stacked)))
    mapped = torch.func.vmap(torch.func.grad_and_value(loss, argnums=which))(*stacked, *labels)
    for i, (xs, ys) in enumerate(batches):
        value, gradients = value_and_gradients(function_of(case), xs, ys, **OPTIONS[case])
        torch.testing.assert_close(mapped[1][i], value)
        for ours, expected in zip(mapped[0], gradients, strict=True):
            torch.testing.assert_close(ours[i], expected)


# torch's own compiler instantiates the autograd functions that it warns against instantiating.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("case", [*PAIRS, "triplet_margin_loss, p 2, swap", *CONTRASTS])
def test_the_loss_compiles_to_one_graph(case):
    torch.compiler.reset()
    inputs, labels = random_arguments(case)
    compiled = torch.compile(function_of(case), backend="aot_eager", fullgraph=True)
    ours = value_and_gradients(compiled, inputs, labels, **OPTIONS[case])
    torch.testing.assert_close(ours, value_and_gradients(function_of(case), inputs, labels, **OPTIONS[case]))


# Refusals

X, Y = torch.ones(2, 3), torch.tensor([1, -1])
BAD_PAIRS = [
    (([0.0], X, Y), {}, TypeError, "input1 must be a torch.Tensor, got list"),
    ((X, X.long(), Y), {}, TypeError, "input2 must be a floating-point tensor, got torch.int64"),
    ((X, X, [1, -1]), {}, TypeError, "target must be a torch.Tensor, got list"),
    ((X, X, Y > 0), {}, TypeError, r"numbers -1 and \+1 .*, got torch.bool"),
    ((X, X, Y.to(torch.complex64)), {}, TypeError, "got torch.complex64"),
    ((X, X[:1], Y), {}, ValueError, r"input1 and input2 must have the same shape, got \(2, 3\) and \(1, 3\)"),
    ((X, X, Y[:1]), {}, ValueError, r"\(N, D\) and \(N,\), or \(D,\) and \(\), got \(2, 3\) and \(1,\)"),
    ((X[None], X[None], Y[None]), {}, ValueError, r"got \(1, 2, 3\) and \(1, 2\)"),
    ((X[:, :0], X[:, :0], Y), {}, ValueError, r"at least one component, got shape \(2, 0\)"),
    ((X[0, 0], X[0, 0], Y[0]), {}, ValueError, r"at least one component, got shape \(\)"),
    ((X, X, Y), {"margin": "1"}, TypeError, "margin must be a number, got str"),
    ((X, X, Y), {"margin": math.nan}, ValueError, "margin must be finite.*, got nan"),
    ((X, X, Y), {"reduction": "average"}, ValueError, "'sum', got 'average'"),
]
BAD_TRIPLETS = [
    (([0.0], X, X), {}, TypeError, "anchor must be a torch.Tensor, got list"),
    ((X, X.long(), X), {}, TypeError, "positive must be a floating-point tensor, got torch.int64"),
    ((X, X, X.bool()), {}, TypeError, "negative must be a floating-point tensor, got torch.bool"),
    ((X, X, X[0]), {}, ValueError, r"anchor, positive and negative .* got \(2, 3\), \(2, 3\) and \(3,\)"),
    ((X, X, X), {"margin": 0.0}, ValueError, "margin must be finite and above 0, got 0.0"),
    ((X, X, X), {"margin": math.inf}, ValueError, "margin must be finite and above 0, got inf"),
    ((X, X, X), {"p": 0}, ValueError, "p must be above 0, got 0"),
    ((X, X, X), {"eps": math.nan}, ValueError, "eps must be finite, got nan"),
    ((X, X, X), {"swap": "no"}, TypeError, "swap must be True or False, got 'no'"),
    ((X[:, :0],) * 3, {}, ValueError, r"at least one component, got shape \(2, 0\)"),
    ((X, X, X), {"reduction": "average"}, ValueError, "'sum', got 'average'"),
]
BAD_VIEWS = [
    (([0.0], X), {}, TypeError, "must be a torch.Tensor, got list"),
    ((X, X.long()), {}, TypeError, "must be a floating-point tensor, got torch.int64"),
    ((X, X[:1]), {}, ValueError, r"must have the same shape, got \(2, 3\) and \(1, 3\)"),
    ((X[0], X[0]), {}, ValueError, r"must have shape \(N, D\), got \(3,\)"),
    ((X[:, :0], X[:, :0]), {}, ValueError, r"at least one component, got shape \(2, 0\)"),
    ((X, X), {"temperature": 0.0}, ValueError, "temperature must be finite and above 0, got 0.0"),
    ((X, X), {"temperature": math.inf}, ValueError, "temperature must be finite and above 0, got inf"),
    ((X, X), {"temperature": "cold"}, TypeError, "temperature must be a number, got str"),
    ((X, X), {"reduction": "average"}, ValueError, "'sum', got 'average'"),
]
BAD_LEARNED_TEMPERATURES = [
    ((X, X), {"temperature": torch.tensor(0.0)}, ValueError, "finite and above 0, got 0.0"),
    ((X, X), {"temperature": torch.tensor(math.nan)}, ValueError, "finite and above 0, got nan"),
    ((X, X), {"temperature": torch.tensor(math.inf)}, ValueError, "finite and above 0, got inf"),
    ((X, X), {"temperature": torch.ones(1)}, ValueError, r"tensor of shape \(\), got \(1,\)"),
    ((X, X), {"temperature": torch.tensor(1)}, TypeError, "temperature must be a floating-point tensor"),
    ((X, X), {"temperature": torch.tensor(1e-39)}, ValueError, r"temperature must be at least 1.175e-38, .*, got 1"),
]
BAD_CLASSES = [
    (([0.0], Y), {}, TypeError, "input must be a torch.Tensor, got list"),
    ((X[0], Y), {}, ValueError, r"input must have shape \(N, D\), got \(3,\)"),
    ((X[:, :0], Y), {}, ValueError, r"input must have at least one component, got shape \(2, 0\)"),
    ((X, Y.float()), {}, TypeError, r"target must hold classes \(integers\), got torch.float32"),
    ((X, Y[:1]), {}, ValueError, r"input of shape \(2, 3\) must have shape \(2,\), got \(1,\)"),
    ((X, Y[:, None]), {}, ValueError, r"must have shape \(2,\), got \(2, 1\)"),
    ((X, Y), {"temperature": -0.1}, ValueError, "temperature must be finite and above 0, got -0.1"),
    ((X, Y), {"temperature": math.inf}, ValueError, "temperature must be finite and above 0, got inf"),
    ((X, Y), {"reduction": "average"}, ValueError, "'sum', got 'average'"),
]
REFUSALS = [
    *((name, *case) for name, case in itertools.product(("contrastive_loss", "cosine_embedding_loss"), BAD_PAIRS)),
    ("contrastive_loss", (X, X, torch.tensor([1, 0])), {}, ValueError, r"got 0; 2 \* target - 1 turns 0 and 1 into"),
    ("contrastive_loss", (X, X, torch.tensor([1, 2], dtype=torch.uint16)), {}, ValueError, "dissimilar.*, got 2"),
    ("contrastive_loss", (X, X, 2 * Y), {}, ValueError, r"must be \+1 \(similar\) or -1 \(dissimilar\), got 2"),
    ("contrastive_loss", (X, X, Y), {"margin": -1.0}, ValueError, "margin must be finite and at least 0, got -1.0"),
    ("contrastive_loss", (X, X, Y), {"margin": math.inf}, ValueError, "finite and at least 0, got inf"),
    ("cosine_embedding_loss", (X, X, Y), {"margin": math.inf}, ValueError, "margin must be finite, got inf"),
    *(("triplet_margin_loss", *case) for case in BAD_TRIPLETS),
    *((name, *case) for name, case in itertools.product(("nt_xent_loss", "info_nce_loss", "clip_loss"), BAD_VIEWS)),
    ("nt_xent_loss", (X, X), {"temperature": torch.tensor(0.5)}, TypeError, "must be a number, got Tensor"),
    ("supervised_contrastive_loss", (X, Y), {"temperature": torch.tensor(0.5)}, TypeError, "a number, got Tensor"),
    ("nt_xent_loss", (X, X), {"chunk_size": 0}, ValueError, "chunk_size must be at least 1, got 0"),
    ("nt_xent_loss", (X, X), {"chunk_size": 2.0}, TypeError, "chunk_size must be an integer or None, got float"),
    ("nt_xent_loss", (X, X), {"chunk_size": True}, TypeError, "chunk_size must be an integer or None, got bool"),
    *((name, *case) for name, case in itertools.product(("info_nce_loss", "clip_loss"), BAD_LEARNED_TEMPERATURES)),
    ("info_nce_loss", (X, X, [0.0]), {}, TypeError, "negatives must be a torch.Tensor, got list"),
    ("info_nce_loss", (X, X, X[0]), {}, ValueError, r"must have shape \(M, 3\) or \(2, M, 3\), got \(3,\)"),
    ("info_nce_loss", (X, X, X[:, :2]), {}, ValueError, r"got \(2, 2\)"),
    ("info_nce_loss", (X, X, torch.ones(1, 4, 3)), {}, ValueError, r"got \(1, 4, 3\)"),
    ("info_nce_loss", (X, X, torch.ones(2, 4, 2)), {}, ValueError, r"got \(2, 4, 2\)"),
    *(("supervised_contrastive_loss", *case) for case in BAD_CLASSES),
]


@pytest.mark.parametrize(("name", "arguments", "options", "error", "message"), REFUSALS)
def test_bad_input_is_refused_with_what_was_given_and_what_is_wanted(name, arguments, options, error, message):
    with pytest.raises(error, match=message):
        function_of(name)(*arguments, **options)
