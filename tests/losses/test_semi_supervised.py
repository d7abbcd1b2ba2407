"""The losses without labels against 50 digits of mpmath, their NumPy twins, and what theory says of them."""

import math

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mpf
from torch.autograd import grad, gradcheck, gradgradcheck

from lib.losses import semi_supervised as losses
from lib.losses.semi_supervised import consistency_loss, entropy_loss, pseudo_label_loss
from lib.reference import semi_supervised as reference

INF = torch.inf
OPTIONS = {
    "entropy_loss": {},
    "pseudo_label_loss": {"threshold": 0.6},
    "consistency_loss, mse": {"kind": "mse"},
    "consistency_loss, kl": {"kind": "kl"},
}
PRECISIONS = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-12)])
every_loss = pytest.mark.parametrize("case", OPTIONS)
every_kind = pytest.mark.parametrize("kind", ["mse", "kl"])


def random(*shape, seed=0):
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def function_of(case, module=losses, suffix=""):
    return getattr(module, case.partition(",")[0] + suffix)


def logits_for(case, *shape, seed=0):
    """Return the logits to learn from and, where the loss takes them, those to believe."""
    return [random(*shape, seed=seed + k) for k in range(1 if case == "entropy_loss" else 2)]


def value_and_gradient(loss, input, *target, **options):
    input = input.detach().clone().requires_grad_()
    value = loss(input, *target, **options)
    return value.detach(), grad(value.sum(), input)[0]


def softmax(logits):
    weights = [mpmath.exp(mpf(z) - mpf(max(logits))) for z in logits]
    return [weight / mpmath.fsum(weights) for weight in weights]


def truth_of(case, logits, target=None):
    """Return value and gradient of the loss of one row, in mpmath."""
    q = softmax(logits)
    if case == "entropy_loss":
        entropy = -mpmath.fsum(a * mpmath.log(a) for a in q)
        return entropy, [-a * (mpmath.log(a) + entropy) for a in q]
    p = softmax(target)
    difference = [a - b for a, b in zip(q, p, strict=True)]
    if case == "consistency_loss, kl":
        return mpmath.fsum(b * mpmath.log(b / a) for a, b in zip(q, p, strict=True)), difference
    mean = mpmath.fsum(a * d for a, d in zip(q, difference, strict=True))
    gradient = [2 * a * (d - mean) / len(q) for a, d in zip(q, difference, strict=True)]
    return mpmath.fsum(d * d for d in difference) / len(q), gradient


def assert_right(case, dtype, tolerance, logits, *target):
    """Assert that value and gradient are within the tolerance; the gradient's entries relative to the largest."""
    value, gradient = value_and_gradient(function_of(case), logits, *target, **OPTIONS[case])
    with mpmath.workdps(250):  # next to 1, a probability of 1e-80 needs them
        truth, slopes = truth_of(case, logits.tolist(), *(t.tolist() for t in target))
        tiny = torch.finfo(dtype).tiny
        assert abs(value.item() - truth) <= tolerance * abs(truth) + tiny
        largest = max(map(abs, slopes))
        for ours, slope in zip(gradient.tolist(), slopes, strict=True):
            assert abs(ours - slope) <= tolerance * largest + tiny


# Entropy


@PRECISIONS
@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e-4, 0.1, 1.0, 5.0, 20.0, 80.0, 1e4, 1e30, 1e38])
@pytest.mark.parametrize(
    "logits", [[1.0, 0.25], [0.25, 1.0, -0.5], [1.0, 1.0, 0.0], [0.5] * 4, [0.0, -1.0, -1.0, 1.0, -0.75]], ids=str
)
def test_entropy_is_right_from_undecided_to_nearly_certain(dtype, tolerance, scale, logits):
    assert_right("entropy_loss", dtype, tolerance, torch.tensor(logits, dtype=dtype) * scale)


def test_entropy_keeps_the_small_value_and_gradient_of_a_certain_prediction_where_the_plain_formula_has_noise():
    logits = torch.tensor([[25.0, 0.0]])
    plain = -(logits.softmax(1) * logits.log_softmax(1)).sum()
    value, gradient = value_and_gradient(entropy_loss, logits)
    rival = math.exp(-25)
    assert value.item() == pytest.approx(26 * rival, rel=2e-6)
    assert abs(plain.item() - 26 * rival) > 0.01 * 26 * rival
    assert gradient.tolist()[0] == pytest.approx([-25 * rival, 25 * rival], rel=2e-6)


@given(seed=st.integers(0, 2**31), classes=st.integers(2, 8))
@settings(deadline=None)
def test_entropy_is_between_0_and_log_c_which_only_the_undecided_have(seed, classes):
    logits = random(5, classes, seed=seed)
    value = entropy_loss(logits, reduction="none")
    assert (value > 0).all()
    assert (value < math.log(classes)).all()
    undecided, gradient = value_and_gradient(entropy_loss, torch.full((classes,), 3.0, dtype=torch.float64))
    assert undecided.item() == pytest.approx(math.log(classes), rel=1e-15)
    assert gradient.abs().max() < 1e-15


def test_entropy_is_the_cross_entropy_of_a_prediction_with_itself():
    logits = random(6, 4, 3)
    expected = F.cross_entropy(logits, logits.softmax(1))
    torch.testing.assert_close(entropy_loss(logits), expected)
    torch.testing.assert_close(entropy_loss(logits), torch.distributions.Categorical(logits=logits.mT).entropy().mean())


def test_descending_the_entropy_makes_a_prediction_certain_of_the_class_it_favoured():
    logits = torch.tensor([[0.3, 0.0, 0.2], [0.0, 0.1, -0.1]], dtype=torch.float64)
    favoured = logits.argmax(1)
    for _ in range(300):
        logits = logits - value_and_gradient(entropy_loss, logits, reduction="sum")[1]
    assert (logits.argmax(1) == favoured).all()
    assert (logits.softmax(1).amax(1) > 0.95).all()


# Pseudo-labels


def believed(logits, threshold):
    """Return which rows cost something when the other view knows nothing."""
    loss = pseudo_label_loss(torch.zeros_like(logits), logits, threshold=threshold, reduction="none")
    assert ((loss == 0) | ((loss - math.log(logits.shape[1])).abs() < 1e-6)).all()
    return (loss > 0).tolist()


def test_above_the_threshold_the_loss_is_the_cross_entropy_with_the_guess_and_below_it_is_zero():
    strong, weak = random(200, 4), random(200, 4, seed=1)
    confidence, label = weak.softmax(1).max(1)
    sure = confidence >= 0.6
    assert 0 < sure.sum() < 200
    value, gradient = value_and_gradient(pseudo_label_loss, strong, weak, threshold=0.6, reduction="none")
    expected, slope = value_and_gradient(F.cross_entropy, strong, label, reduction="none")
    torch.testing.assert_close(value, expected * sure)
    torch.testing.assert_close(gradient, slope * sure[:, None])
    torch.testing.assert_close(pseudo_label_loss(strong, weak, threshold=0.6), (expected * sure).mean())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.9, 0.95, 1 - 1e-4, 1 - 1e-9, 1 - 1e-15])
def test_the_threshold_is_compared_to_the_probability_as_if_nothing_were_rounded(threshold, dtype):
    with mpmath.workdps(50):
        odds = float(mpmath.log(2 * mpf(threshold) / (1 - mpf(threshold))))  # against each of two equal rivals
    margin = 4 * torch.finfo(dtype).eps * max(1.0, abs(odds))
    rows = [[odds + margin, 0.0, 0.0], [odds - margin, 0.0, 0.0]]
    if odds < 0:  # the likeliest of three has at least a third
        return
    assert believed(torch.tensor(rows, dtype=dtype), threshold) == [True, False]


def test_two_equal_classes_reach_the_threshold_of_one_half():
    assert believed(torch.tensor([[1.0, 1.0]]), 0.5) == [True]
    assert believed(torch.tensor([[1.0, 1.0]]), 0.5 + 1e-7) == [False]


def test_at_threshold_0_every_guess_is_believed_and_at_1_only_one_that_rules_all_others_out():
    rows = torch.tensor([[0.0, 0.0, 0.0], [1e30, 0.0, 0.0], [200.0, 0.0, -INF], [0.0, -INF, -INF]])
    assert rows.softmax(1).amax(1).tolist()[1:] == [1, 1, 1]
    assert believed(rows, 0) == believed(rows, 0.0) == [True] * 4
    assert believed(rows, 1) == believed(rows, 1.0) == [False, False, False, True]
    arrays = [rows[[0, 3]].double().numpy()] * 2
    assert (reference.pseudo_label_loss(*arrays, threshold=1.0) == 0).all()
    np.testing.assert_allclose(reference.pseudo_label_loss(*arrays, threshold=0.0), [math.log(3), 0], rtol=1e-15)


def test_the_mean_counts_the_rows_that_cost_nothing():
    strong, weak = torch.zeros(4, 2), torch.tensor([[9.0, 0.0], [0.0, 0.1], [0.1, 0.0], [0.0, 0.0]])
    assert pseudo_label_loss(strong, weak).item() == pytest.approx(math.log(2) / 4)
    assert pseudo_label_loss(strong, weak, reduction="sum").item() == pytest.approx(math.log(2))
    assert pseudo_label_loss(strong[1:], weak[1:]).item() == 0


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("row", [[math.nan, 0, 0], [0, 0, math.nan], [-INF] * 3, [INF] * 3, [INF, 0, 0]], ids=str)
def test_a_broken_teacher_costs_nan_and_not_what_a_sure_or_an_unsure_one_does(row, threshold):
    student = torch.tensor([[1.0, 2.0, 0.0]] * 2, dtype=torch.float64)
    teacher = torch.tensor([row, [9.0, 0.0, 0.0]], dtype=torch.float64)
    options = {"threshold": threshold}
    value, gradient = value_and_gradient(pseudo_label_loss, student, teacher, reduction="none", **options)
    assert value.isnan().tolist() == [True, False]
    assert gradient.isnan().tolist() == [[True] * 3, [False] * 3]
    assert pseudo_label_loss(student, teacher, **options).isnan()
    arrays = student.numpy(), teacher.numpy()
    np.testing.assert_allclose(reference.pseudo_label_loss(*arrays, **options), value)
    np.testing.assert_allclose(reference.pseudo_label_loss_grad(*arrays, **options), gradient)


def test_a_broken_teacher_of_a_single_class_costs_nan():
    assert pseudo_label_loss(torch.zeros(1), torch.tensor([math.nan])).isnan()


def test_unbelieved_rows_cost_nothing_even_where_the_other_view_has_no_finite_logits():
    strong, weak = torch.tensor([[INF, -INF], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [5.0, 0.0]])
    value, gradient = value_and_gradient(pseudo_label_loss, strong, weak, reduction="sum")
    assert value.item() == pytest.approx(math.log(2))
    assert gradient.tolist() == [[0, 0], [-0.5, 0.5]]


# Consistency


@PRECISIONS
@every_kind
@pytest.mark.parametrize("gap", [1e-6, 1e-4, 0.01, 1.0, 2.0, 8.0, 64.0])
@pytest.mark.parametrize("spread", [0.0, 0.01, 1.0, 4.0, 16.0, 32.0])
@pytest.mark.parametrize("classes", [2, 5, 30])
def test_consistency_is_right_however_near_or_far_student_and_teacher_are(dtype, tolerance, kind, gap, spread, classes):
    # multiples of 1/8 keep the differences of large logits exact, which rounding would take from the inputs
    teacher = (random(classes).mul(8).round().div(8) * spread).to(dtype)
    student = teacher + (random(classes, seed=1).mul(8).round().div(8) * gap).to(dtype)
    assert_right(f"consistency_loss, {kind}", dtype, 2 * tolerance if kind == "kl" else tolerance, student, teacher)


@pytest.mark.parametrize("gap", [0.3, 1.0, 5.0, 100.0])
def test_rounding_of_logits_about_100_costs_the_divergence_what_its_documentation_says(gap):
    teacher = random(500, 3).mul(50).clamp(-100, 100).float()
    student = (teacher + gap * random(500, 3, seed=1)).clamp(-100, 100).float()
    value = consistency_loss(student, teacher, kind="kl", reduction="none")
    exact = consistency_loss(student.double(), teacher.double(), kind="kl", reduction="none")
    assert ((value - exact).abs() <= 1e-4 * exact + torch.finfo(torch.float32).tiny).all()


@PRECISIONS
@every_kind
@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ([20.0, 0.0], [25.0, 0.0]),
        ([40.0, 0.0], [0.0, 40.0]),
        ([40.0, 0.0, 0.0], [40.0, 1.0, 0.0]),
        ([0.0, 40.0, 3.0], [0.0, 40.0, 1.0]),
        ([0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]),
        ([0.0, 200.0, 0.0], [0.0, -200.0, 0.0]),
        ([1e30, 0.0], [1e30, 0.0]),
    ],
    ids=str,
)
def test_consistency_and_its_gradient_are_right_where_one_class_has_nearly_all(
    dtype, tolerance, kind, student, teacher
):
    rows = torch.tensor(student, dtype=dtype), torch.tensor(teacher, dtype=dtype)
    assert_right(f"consistency_loss, {kind}", dtype, tolerance, *rows)


@pytest.mark.parametrize("logit", [1e30, 3e38])
def test_logits_at_the_limit_of_the_range_leave_no_nan(logit):
    rows = torch.tensor([[logit, -logit], [0.0, 1.0]]), torch.tensor([[logit, -logit], [-logit, logit]])
    for kind in ("mse", "kl"):
        value, gradient = value_and_gradient(consistency_loss, *rows, kind=kind, reduction="none")
        assert value[0] == 0
        assert not value.isnan().any()
        assert gradient.isfinite().all()
    value, gradient = value_and_gradient(entropy_loss, torch.tensor([logit, -logit]))
    assert value == 0 == gradient.abs().max()


def test_a_small_disagreement_is_kept_where_the_plain_formula_rounds_it_away():
    teacher = torch.tensor([[3.0, 1.0, 0.0]])
    student = teacher + torch.tensor([[0.0, 2**-20, 0.0]])
    plain = (student.softmax(1) - teacher.softmax(1)).square().mean()
    exact = (student.double().softmax(1) - teacher.double().softmax(1)).square().mean()
    assert abs(plain - exact) > 0.05 * exact
    torch.testing.assert_close(consistency_loss(student, teacher).double(), exact, rtol=2e-6, atol=0)


def test_consistency_is_the_mean_square_or_the_divergence_of_the_probabilities_as_torch_has_them():
    z, t = random(6, 4, 3), random(6, 4, 3, seed=1)
    ours = value_and_gradient(consistency_loss, z, t)
    expected = value_and_gradient(lambda z: F.mse_loss(z.softmax(1), t.softmax(1)), z)
    torch.testing.assert_close(ours, expected)
    ours = value_and_gradient(consistency_loss, z, t, kind="kl")
    kl = value_and_gradient(lambda z: F.kl_div(z.log_softmax(1), t.softmax(1), reduction="none").sum(1).mean(), z)
    torch.testing.assert_close(ours, kl)


@given(seed=st.integers(0, 2**31))
@settings(deadline=None)
def test_only_agreement_costs_nothing_and_the_mean_square_is_symmetric_and_bounded(seed):
    z, t = random(5, 4, seed=seed), random(5, 4, seed=seed + 1)
    for kind in ("mse", "kl"):
        assert (consistency_loss(z, t, kind=kind, reduction="none") > 0).all()
        value, gradient = value_and_gradient(consistency_loss, t, t, kind=kind)
        assert value == 0 == gradient.abs().max()
    torch.testing.assert_close(consistency_loss(z, t), consistency_loss(t, z))
    assert (consistency_loss(100 * z, -100 * t, reduction="none") <= 2 / 4).all()


def test_the_bound_of_the_mean_square_is_reached_where_both_are_certain_of_something_else():
    z, t = torch.tensor([200.0, 0.0, 0.0, 0.0]), torch.tensor([0.0, 200.0, 0.0, 0.0])
    assert consistency_loss(z, t).item() == 0.5
    assert consistency_loss(z, t, kind="kl").item() == 200


@every_kind
def test_both_views_learn_what_the_undetached_loss_teaches_when_the_roles_are_exchanged_and_added(kind):
    z, t = (x.requires_grad_() for x in (random(5, 4), random(5, 4, seed=1)))
    one_way = grad(consistency_loss(z, t, kind=kind), (z, t), allow_unused=True)
    assert one_way[1] is None
    both = grad(consistency_loss(z, t, kind="mse") + consistency_loss(t, z, kind="mse"), (z, t))
    torch.testing.assert_close(both, grad(F.mse_loss(z.softmax(1), t.softmax(1)), (z, t)))


def test_no_gradient_flows_to_the_view_that_is_believed():
    strong, weak = (x.requires_grad_() for x in (random(5, 4), random(5, 4, seed=1)))
    assert grad(pseudo_label_loss(strong, weak, threshold=0.0), (strong, weak), allow_unused=True)[1] is None


# What holds for all


def test_the_defaults_are_those_documented():
    for case in ("entropy_loss", "pseudo_label_loss", "consistency_loss, mse"):
        logits = logits_for(case, 40, 3)
        assert function_of(case)(*logits) == function_of(case)(*logits, reduction="mean")
    logits = [3 * x for x in logits]
    arrays = [x.numpy() for x in logits]
    for name, options, other in [
        ("pseudo_label_loss", {"threshold": 0.95}, {"threshold": 0.9}),
        ("consistency_loss", {"kind": "mse"}, {"kind": "kl"}),
    ]:
        assert getattr(losses, name)(*logits) == getattr(losses, name)(*logits, **options)
        assert getattr(losses, name)(*logits) != getattr(losses, name)(*logits, **other)
        for twin in (getattr(reference, name), getattr(reference, f"{name}_grad")):
            np.testing.assert_array_equal(twin(*arrays), twin(*arrays, **options))
            assert (twin(*arrays) != twin(*arrays, **other)).any()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 10.0, 200.0])
@every_loss
def test_the_numpy_twin_has_the_same_value_and_its_hand_derived_gradient_is_autograds(case, scale):
    logits = [scale * x for x in logits_for(case, 40, 5)]
    options = {"threshold": 0.3 if scale > 0.1 else 0.1} if case == "pseudo_label_loss" else OPTIONS[case]
    value, gradient = value_and_gradient(function_of(case), *logits, **options, reduction="none")
    arrays = [x.numpy() for x in logits]
    twin, twin_gradient = (function_of(case, reference, suffix)(*arrays, **options) for suffix in ("", "_grad"))
    np.testing.assert_allclose(twin, value, rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(twin_gradient, gradient, rtol=1e-12, atol=1e-14 * gradient.abs().max().item())


@pytest.mark.parametrize("case", ["entropy_loss", "pseudo_label_loss"])
def test_the_numpy_twin_lets_a_class_be_ruled_out(case):
    logits = logits_for(case, 6, 4)
    for x in logits:
        x[0, 1] = x[1, 2] = -INF
    value, gradient = value_and_gradient(function_of(case), *logits, **OPTIONS[case], reduction="none")
    arrays = [x.numpy() for x in logits]
    np.testing.assert_allclose(function_of(case, reference)(*arrays, **OPTIONS[case]), value, rtol=1e-12)
    twin_gradient = function_of(case, reference, "_grad")(*arrays, **OPTIONS[case])
    np.testing.assert_allclose(twin_gradient, gradient, rtol=1e-12, atol=1e-14)


@every_loss
def test_a_class_that_is_ruled_out_costs_nothing_and_gets_no_gradient(case):
    logits = logits_for(case, 3, 4)
    for x in logits:
        x[:, 1] = -INF
    options = OPTIONS[case] | {"reduction": "none"}
    value, gradient = value_and_gradient(function_of(case), *logits, **options)
    without, slope = value_and_gradient(function_of(case), *(x[:, [0, 2, 3]] for x in logits), **options)
    factor = 3 / 4 if "mse" in case else 1  # the mean over the classes counts it
    torch.testing.assert_close(value, factor * without)
    torch.testing.assert_close(gradient[:, [0, 2, 3]], factor * slope)
    assert gradient[:, 1].eq(0).all()


@every_loss
def test_gradient_is_the_derivative_of_the_value_and_can_be_derived_again(case):
    input, *target = logits_for(case, 6, 4)

    def loss(input):
        return function_of(case)(input, *target, **OPTIONS[case])

    for z in (input, 1e-2 * input):
        assert gradcheck(loss, z.clone().requires_grad_())
        assert gradgradcheck(loss, z.clone().requires_grad_())


@given(seed=st.integers(0, 2**31), shift=st.floats(-50, 50), order=st.permutations(range(4)))
@settings(deadline=None, max_examples=30)
def test_a_constant_added_to_all_logits_and_new_names_of_the_classes_change_nothing(seed, shift, order):
    for case in OPTIONS:
        input, *target = logits_for(case, 5, 4, seed=seed)
        loss = function_of(case)(input, *target, **OPTIONS[case], reduction="none")
        shifted = function_of(case)(input + shift, *(t - shift for t in target), **OPTIONS[case], reduction="none")
        torch.testing.assert_close(shifted, loss)
        renamed = (x[:, order] for x in (input, *target))
        torch.testing.assert_close(function_of(case)(*renamed, **OPTIONS[case], reduction="none"), loss)


@pytest.mark.parametrize("shape", [(4,), (5, 4), (5, 4, 3), (5, 4, 3, 2)], ids=str)
@every_loss
def test_classes_are_the_second_dimension_of_a_batch_and_every_row_is_a_loss(case, shape):
    logits = logits_for(case, *shape)
    loss = function_of(case)
    unreduced = loss(*logits, **OPTIONS[case], reduction="none")
    class_dim = 0 if len(shape) == 1 else 1
    rows = [x.movedim(class_dim, -1).reshape(-1, 4) for x in logits]
    assert unreduced.shape == shape[:class_dim] + shape[class_dim + 1 :]
    torch.testing.assert_close(unreduced.flatten(), loss(*rows, **OPTIONS[case], reduction="none"))
    torch.testing.assert_close(loss(*logits, **OPTIONS[case]), unreduced.mean())
    torch.testing.assert_close(loss(*logits, **OPTIONS[case], reduction="sum"), unreduced.sum())


@every_loss
def test_one_class_leaves_nothing_to_decide(case):
    logits = logits_for(case, 3, 1)
    value, gradient = value_and_gradient(function_of(case), *logits, **OPTIONS[case])
    assert value == 0 == gradient.abs().max()


@every_loss
def test_a_batch_of_one_costs_what_its_sample_costs_and_an_empty_batch_nan_or_zero(case):
    logits = logits_for(case, 5, 4)
    loss, options = function_of(case), OPTIONS[case]
    alone = [loss(*(x[i : i + 1] for x in logits), **options) for i in range(5)]
    torch.testing.assert_close(torch.stack(alone), loss(*logits, **options, reduction="none"))
    empty = [x[:0] for x in logits]
    assert loss(*empty, **options).isnan()
    assert loss(*empty, **options, reduction="sum") == 0
    assert loss(*empty, **options, reduction="none").shape == (0,)
    assert value_and_gradient(loss, *empty, **options)[1].shape == (0, 4)


@every_loss
def test_strided_logits_cost_what_their_contiguous_copies_cost(case):
    logits = [x.T for x in logits_for(case, 4, 6)]
    assert not logits[0].is_contiguous()
    ours = value_and_gradient(function_of(case), *logits, **OPTIONS[case])
    copies = [x.contiguous() for x in logits]
    torch.testing.assert_close(ours, value_and_gradient(function_of(case), *copies, **OPTIONS[case]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_loss
def test_half_precision_is_computed_in_float32_and_rounded_once(case, dtype):
    logits = [(3 * x).to(dtype) for x in logits_for(case, 40, 5)]
    for reduction in ("none", "mean", "sum"):
        options = OPTIONS[case] | {"reduction": reduction}
        exact = function_of(case)(*(x.float() for x in logits), **options)
        ours = function_of(case)(*logits, **options)
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, exact.to(dtype), rtol=0, atol=0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(function_of(case)(*logits, **options), exact, rtol=0, atol=0)


@pytest.mark.parametrize("case", list(OPTIONS)[1:])
def test_the_view_that_is_believed_may_have_another_dtype(case):
    input, target = (x.half() for x in logits_for(case, 6, 4))
    exact = function_of(case)(input.float(), target.float(), **OPTIONS[case])
    assert function_of(case)(input.float(), target, **OPTIONS[case]) == exact
    assert function_of(case)(input, target.double(), **OPTIONS[case]) == exact.half()


@every_loss
def test_the_loss_can_be_mapped_over_samples(case):
    logits = logits_for(case, 6, 4)
    one_by_one = torch.vmap(torch.func.grad(lambda *row: function_of(case)(*row, **OPTIONS[case])))(*logits)
    together = value_and_gradient(function_of(case), *logits, **OPTIONS[case], reduction="sum")[1]
    torch.testing.assert_close(one_by_one, together)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own, while tracing
@every_loss
def test_the_loss_compiles_to_one_graph(case):
    logits = [x.float() for x in logits_for(case, 6, 4)]
    compiled = torch.compile(function_of(case), backend="aot_eager", fullgraph=True)
    ours = value_and_gradient(compiled, *logits, **OPTIONS[case])
    torch.testing.assert_close(ours, value_and_gradient(function_of(case), *logits, **OPTIONS[case]))


# Refusals

X = torch.zeros(2, 3)
BAD_INPUT = [
    (([0.0], X), {}, TypeError, "^input must be a torch.Tensor, got list"),
    ((X.long(), X), {}, TypeError, "^input must be a floating-point tensor, got torch.int64"),
    ((X[0, 0], X[0, 0]), {}, ValueError, r"^input must have a class dimension: shape \(C,\), .*, got a scalar"),
    ((X[:, :0], X[:, :0]), {}, ValueError, r"^input must have at least one class, got shape \(2, 0\)"),
    ((X[0, :0], X[0, :0]), {}, ValueError, r"^input must have at least one class, got shape \(0,\)"),
    ((X, X), {"reduction": "average"}, ValueError, "'sum', got 'average'"),
]
BAD_TARGET = [
    ((X, None), {}, TypeError, "^target must be a torch.Tensor, got NoneType"),
    ((X, torch.tensor([0, 1])), {}, TypeError, "^target must be a floating-point tensor, got torch.int64"),
    ((X, X[0, 0]), {}, ValueError, "^target must have a class dimension"),
    ((X, X[:1]), {}, ValueError, r"same shape, got \(2, 3\) and \(1, 3\)"),
]
REFUSALS = [
    *((entropy_loss, (input,), *rest) for (input, _), *rest in BAD_INPUT),
    *((loss, *case) for loss in (pseudo_label_loss, consistency_loss) for case in BAD_INPUT + BAD_TARGET),
    (pseudo_label_loss, (X, X), {"threshold": 1.01}, ValueError, "^threshold must be between 0 and 1, got 1.01"),
    (pseudo_label_loss, (X, X), {"threshold": -0.1}, ValueError, "^threshold must be between 0 and 1, got -0.1"),
    (pseudo_label_loss, (X, X), {"threshold": math.nan}, ValueError, "^threshold must be between 0 and 1, got nan"),
    (pseudo_label_loss, (X, X), {"threshold": "high"}, TypeError, "^threshold must be a number, got str"),
    (consistency_loss, (X, X), {"kind": "l1"}, ValueError, "^kind must be 'mse' or 'kl', got 'l1'"),
]


@pytest.mark.parametrize(("loss", "arguments", "options", "error", "message"), REFUSALS)
def test_bad_input_is_refused_with_what_was_given_and_what_is_wanted(loss, arguments, options, error, message):
    with pytest.raises(error, match=message):
        loss(*arguments, **options)
