"""The exercises of the chapter on gradient descent."""

import math

import torch

from lib.exercises._engine import Exercise

DOUBLE = torch.float64


def features_and_penalties() -> list[tuple[torch.Tensor, float]]:
    """Return 300 pairs of features (N, D), not centred and of unequal sizes, and the weight of a penalty."""
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for number in range(300):
        rows, columns = 3 + number % 5 + number // 60, 1 + number % 3 + number // 100
        features = torch.randn(rows, columns, generator=generator, dtype=DOUBLE) * (1 + number % 4)
        pairs.append((features + number % 3, number % 6 / 5))
    return pairs


def bound_is_one_positive_number(bound, inputs, penalty):
    """One number, above 0 and finite."""
    value = float(bound(inputs, penalty))
    return None if 0 < value < math.inf else f"it is {value} (are the signs of both curvatures right?)"


def bound_of_a_single_feature_is_two_over_the_curvature(bound):
    """For a single feature with the values 1 and 3 and a penalty of 0.5: 2 divided by the curvature, which is 11."""
    value = float(bound(torch.tensor([[1.0], [3.0]], dtype=DOUBLE), 0.5))
    if math.isclose(value, 2 / 11, rel_tol=1e-6):
        return None
    return f"it corresponds to a curvature of {2 / value:.4f} (differentiate both terms of L twice)"


def bound_ignores_copies_of_the_rows(bound, inputs, penalty):
    """Unchanged when every sample is there twice: the loss is a mean."""
    once, twice = float(bound(inputs, penalty)), float(bound(torch.cat([inputs, inputs]), penalty))
    return None if math.isclose(once, twice, rel_tol=1e-6) else f"doubling the rows takes {once:.4f} to {twice:.4f}"


def bound_falls_with_the_square_of_the_features(bound, inputs, penalty):
    """Without a penalty, features ten times as large make it a hundred times smaller."""
    small, large = float(bound(inputs, 0.0)), float(bound(10 * inputs, 0.0))
    return None if math.isclose(small, 100 * large, rel_tol=1e-6) else f"it goes from {small:.4g} to {large:.4g}"


def bound_separates_settling_from_diverging(bound, inputs, penalty):
    """A learning rate 3 % below it never lets the error grow; one 3 % above it makes the error grow without limit."""
    value = float(bound(inputs, penalty))
    hessian = 2 * inputs.T @ inputs / len(inputs) + 2 * penalty * torch.eye(inputs.shape[1], dtype=inputs.dtype)
    start = torch.randn(inputs.shape[1], generator=torch.Generator().manual_seed(1), dtype=inputs.dtype)
    below, above = (
        (torch.linalg.matrix_power(torch.eye(len(start), dtype=DOUBLE) - lr * hessian, 400) @ start).norm()
        / start.norm()
        for lr in (0.97 * value, 1.03 * value)
    )
    if below > 1:
        return f"3 % below it, 400 steps make the error {below:.3g} times as large (which direction is the steepest?)"
    if above < 10:
        return f"3 % above it, 400 steps make the error only {above:.3g} times as large: larger rates still settle"
    return None


def parabolas() -> list[tuple[torch.Tensor, torch.Tensor, float, float, int]]:
    """Return 300 tuples of curvatures (D,), a start (D,), a learning rate, a momentum, and a number of steps."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for number in range(300):
        size, steps = 1 + number % 3 + number // 150, 3 + number % 5 + number // 30
        curvatures = 0.1 + 3 * torch.rand(size, generator=generator, dtype=DOUBLE)
        start = torch.randn(size, generator=generator, dtype=DOUBLE)
        found.append((curvatures, start, 0.05 + 0.1 * (number % 6), (0.9, 0.5, 0.0, 0.8)[number % 4], steps))
    return found


def ball_path_has_a_row_for_each_step(ball, curvatures, start, lr, momentum, steps):
    """A tensor of shape (steps + 1, D) whose first row is the start."""
    path = ball(curvatures, start, lr, momentum, steps)
    return _unlike_a_path(path, start, steps)


def ball_begins_with_a_plain_step(ball, curvatures, start, lr, momentum, steps):
    """The first step is that of plain gradient descent: nothing has been summed yet."""
    found, wanted = ball(curvatures, start, lr, momentum, steps)[1], (1 - lr * curvatures) * start
    return _unequal("the error after one step", found, wanted, "does it go downhill, by lr times the gradient?")


def ball_without_momentum_is_plain(ball, curvatures, start, lr, momentum, steps):
    """With a momentum of 0, each step multiplies each error by one minus lr times its curvature."""
    found = ball(curvatures, start, lr, 0.0, steps)[-1]
    return _unequal("the last error", found, (1 - lr * curvatures) ** steps * start, "is the sum used, or an old one?")


def ball_keeps_its_way_where_there_is_no_slope(ball):
    """On flat ground, after a step d on a slope, it rolls on: momentum times d, then momentum squared times d."""
    path = ball(torch.tensor([1.0], dtype=DOUBLE), torch.tensor([1.0], dtype=DOUBLE), 1.0, 0.5, 2)
    # The first step leads from 1 to the minimum, so the second one meets no slope.
    found = path[2] - path[1]
    return _unequal("the move where the slope is 0", found, torch.tensor([-0.5], dtype=DOUBLE), "what is kept?")


def ball_equals_torchs(ball, curvatures, start, lr, momentum, steps):
    """Every row is what torch.optim.SGD with momentum arrives at."""
    error = start.clone().requires_grad_()
    optimizer = torch.optim.SGD([error], lr=lr, momentum=momentum)
    wanted = [start]
    for _ in range(steps):
        optimizer.zero_grad()
        (curvatures * error**2 / 2).sum().backward()
        optimizer.step()
        wanted.append(error.detach().clone())
    found = ball(curvatures, start, lr, momentum, steps)
    return _unequal("the last row", found[-1], wanted[-1], "does the sum hold all gradients so far?") or _unequal(
        "the path", found, torch.stack(wanted), "is every row a step of its own?"
    )


def noisy_gradients() -> list[tuple[torch.Tensor, torch.Tensor, float, float]]:
    """Return 300 tuples of a start (D,), gradients (steps, D) of unequal sizes, a learning rate, and a decay."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for number in range(300):
        size, steps = 1 + number % 3 + number // 150, 2 + number % 5 + number // 30
        scales = 10.0 ** torch.arange(size, dtype=DOUBLE)
        gradients = (torch.randn(steps, size, generator=generator, dtype=DOUBLE) + 1) * scales
        start = 1 + torch.rand(size, generator=generator, dtype=DOUBLE)
        found.append((start, gradients, 0.01 + 0.05 * (number % 4), (0.1, 0.0, 0.5)[number % 3]))
    return found


def adamw_path_has_a_row_for_each_step(adamw, start, gradients, lr, decay):
    """A tensor of shape (steps + 1, D), with the start in its first row."""
    return _unlike_a_path(adamw(start, gradients, lr, decay), start, len(gradients))


def adamw_begins_with_a_step_of_the_learning_rate(adamw, start, gradients, lr, decay):
    """Without decay the first step moves every coordinate by lr, against the sign of its own gradient."""
    moved = adamw(start, gradients, lr, 0.0)[1] - start
    return _unequal("the first move", moved, -lr * gradients[0].sign(), "is each coordinate scaled by itself?", 1e-4)


def adamw_takes_even_steps_on_an_even_slope(adamw, start, gradients, lr, decay):
    """Without decay, the same gradient at every step gives steps of lr from the first to the last."""
    even = gradients[:1].expand_as(gradients)
    moves = adamw(start, even, lr, 0.0).diff(dim=0)
    return _unequal("a move", moves, (-lr * even.sign()), "are both running means freed of their start at 0?", 1e-4)


def adamw_shrinks_where_there_is_no_gradient(adamw, start, gradients, lr, decay):
    """With gradients of 0, each step multiplies the parameters by one minus lr times decay."""
    found = adamw(start, torch.zeros_like(gradients), lr, decay)[-1]
    return _unequal("the end", found, start * (1 - lr * decay) ** len(gradients), "the decay is no gradient", 1e-6)


def adamw_ignores_the_scale_of_the_loss(adamw, start, gradients, lr, decay):
    """Gradients a thousand times as large give the same path, decay and all."""
    found, wanted = adamw(start, 1000 * gradients, lr, decay)[-1], adamw(start, gradients, lr, decay)[-1]
    return _unequal("the end", found, wanted, "what does the division by the root turn a penalty into?", 1e-5)


def adamw_equals_torchs(adamw, start, gradients, lr, decay):
    """Every row is what torch.optim.AdamW arrives at with these gradients."""
    parameter = start.clone().requires_grad_()
    optimizer = torch.optim.AdamW([parameter], lr=lr, weight_decay=decay)
    wanted = [start]
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
        wanted.append(parameter.detach().clone())
    found = adamw(start, gradients, lr, decay)
    return _unequal("the path", found, torch.stack(wanted), "the betas are 0.9 and 0.999; decay comes first", 1e-7)


EXERCISES = (
    Exercise(
        "learning_rate_bound",
        features_and_penalties,
        (
            bound_is_one_positive_number,
            bound_ignores_copies_of_the_rows,
            bound_falls_with_the_square_of_the_features,
            bound_of_a_single_feature_is_two_over_the_curvature,
            bound_separates_settling_from_diverging,
        ),
    ),
    Exercise(
        "heavy_ball",
        parabolas,
        (
            ball_path_has_a_row_for_each_step,
            ball_begins_with_a_plain_step,
            ball_without_momentum_is_plain,
            ball_keeps_its_way_where_there_is_no_slope,
            ball_equals_torchs,
        ),
    ),
    Exercise(
        "adamw_path",
        noisy_gradients,
        (
            adamw_path_has_a_row_for_each_step,
            adamw_begins_with_a_step_of_the_learning_rate,
            adamw_takes_even_steps_on_an_even_slope,
            adamw_ignores_the_scale_of_the_loss,
            adamw_shrinks_where_there_is_no_gradient,
            adamw_equals_torchs,
        ),
    ),
)


def _unlike_a_path(path, start, steps) -> str | None:
    if not isinstance(path, torch.Tensor):
        return f"it returned {type(path).__name__}, not a tensor"
    if tuple(path.shape) != (steps + 1, len(start)):
        return f"its shape is {tuple(path.shape)}, wanted is {(steps + 1, len(start))}"
    return None if torch.equal(path[0], start) else "the first row is not the start"


def _unequal(what, found, wanted, hint, rtol=1e-6) -> str | None:
    """Compare numbers, and name the pair that is furthest apart."""
    if torch.allclose(found, wanted, rtol=rtol, atol=1e-9):
        return None
    worst = (found - wanted).abs().nan_to_num(math.inf).argmax()
    found, wanted = found.flatten()[worst].item(), wanted.flatten()[worst].item()
    return f"{what} is {found:.5g} where it should be {wanted:.5g} ({hint})"
