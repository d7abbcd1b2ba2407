"""The exercises of the chapter on linear regression and its broken listing."""

import torch

from lib.exercises._engine import Exercise

DOUBLE = torch.float64


def targets_and_predictions() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return 300 pairs of targets and predictions (N,): an easy pair first."""
    generator = torch.Generator().manual_seed(0)
    pairs = [(torch.tensor([0.0, 2.0], dtype=DOUBLE), torch.tensor([1.0, 3.0], dtype=DOUBLE))]
    for number in range(1, 300):
        target, prediction = 2 * torch.randn(2, 2 + number % 6, generator=generator, dtype=DOUBLE)
        pairs.append((target + number % 4, prediction - number % 3))
    return pairs


def pairs_give_one_number(mean_of, target, prediction):
    """One number: a tensor without a shape."""
    return _unlike_a_number(mean_of(target, prediction))


def pairs_of_equal_constants_cost_nothing(mean_of, target, prediction):
    """Zero where all targets and all predictions are the same number."""
    found = mean_of(torch.full_like(target, 3), torch.full_like(target, 3)).item()
    return None if abs(found) < 1e-9 else f"for all of them 3 it is {found:.4g}"


def pairs_do_not_know_who_belongs_to_whom(mean_of, target, prediction):
    """Unchanged when the predictions are put in another order: every truth meets every prediction."""
    once, turned = mean_of(target, prediction).item(), mean_of(target, prediction.flip(0)).item()
    return None if abs(once - turned) < 1e-9 * (1 + abs(once)) else f"it goes from {once:.4g} to {turned:.4g}"


def pairs_see_only_differences(mean_of, target, prediction):
    """Unchanged when 5 is added to all targets and all predictions."""
    once, moved = mean_of(target, prediction).item(), mean_of(target + 5, prediction + 5).item()
    return None if abs(once - moved) < 1e-8 * (1 + abs(once)) else f"it goes from {once:.4g} to {moved:.4g}"


def pairs_have_the_mean_of_the_table(mean_of, target, prediction):
    """Equal to the mean of the table of all squared differences."""
    found = mean_of(target, prediction).item()
    wanted = (target[:, None] - prediction).square().mean().item()
    return None if abs(found - wanted) < 1e-9 * (1 + wanted) else f"it is {found:.6g}, the table says {wanted:.6g}"


def samples_of_a_line() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return 300 pairs of x and y (N,), a line with noise: an easy pair first."""
    generator = torch.Generator().manual_seed(0)
    pairs = [(torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=DOUBLE), torch.tensor([0.0, 1.0, 2.0, 4.0], dtype=DOUBLE))]
    for number in range(1, 300):
        count = 4 + number % 7
        x = torch.arange(count, dtype=DOUBLE) + 0.8 * torch.rand(count, generator=generator, dtype=DOUBLE)
        noise = torch.randn(count, generator=generator, dtype=DOUBLE)
        pairs.append((x - number % 5, 2 * x + 3 + (0.5, 2.0, 0.1)[number % 3] * noise))
    return pairs


def left_out_gives_one_number(loss_of, x, y):
    """One number: a tensor without a shape."""
    return _unlike_a_number(loss_of(x, y))


def left_out_is_nothing_on_a_line(loss_of, x, y):
    """Zero where all samples lie on one line: then none of them is missed."""
    found = loss_of(x, 2 * x + 3).item()
    return None if abs(found) < 1e-9 else f"for y = 2 x + 3 it is {found:.4g} (is there an intercept?)"


def left_out_does_not_see_a_line(loss_of, x, y):
    """Unchanged when a line is added to y: every fit takes it out again."""
    once, tilted = loss_of(x, y).item(), loss_of(x, y - 5 * x + 1).item()
    return None if abs(once - tilted) < 1e-7 * (1 + once) else f"it goes from {once:.6g} to {tilted:.6g}"


def left_out_does_not_see_the_unit_of_x(loss_of, x, y):
    """Unchanged when x is measured in another unit and from another zero."""
    once, other = loss_of(x, y).item(), loss_of(10 * x - 7, y).item()
    return None if abs(once - other) < 1e-7 * (1 + once) else f"it goes from {once:.6g} to {other:.6g}"


def left_out_costs_more_than_training(loss_of, x, y):
    """Above the training loss: a line that has not seen a sample misses it by more."""
    found, trained = loss_of(x, y).item(), (_line(x, y, x) - y).square().mean().item()
    return None if found > trained else f"it is {found:.6g}, the training loss is {trained:.6g}"


def left_out_is_what_many_fits_find(loss_of, x, y):
    """Equal to what N fits find, each without one sample."""
    errors = []
    for place in range(len(x)):
        others = torch.arange(len(x)) != place
        errors.append((_line(x[others], y[others], x[place]) - y[place]).square())
    found, wanted = loss_of(x, y).item(), torch.stack(errors).mean().item()
    return None if abs(found - wanted) < 1e-7 * wanted else f"it is {found:.6g}, the fits find {wanted:.6g}"


EXERCISES = (
    Exercise(
        "all_pairs_mse",
        targets_and_predictions,
        (
            pairs_give_one_number,
            pairs_of_equal_constants_cost_nothing,
            pairs_do_not_know_who_belongs_to_whom,
            pairs_see_only_differences,
            pairs_have_the_mean_of_the_table,
        ),
    ),
    Exercise(
        "leave_one_out_mse",
        samples_of_a_line,
        (
            left_out_gives_one_number,
            left_out_is_nothing_on_a_line,
            left_out_does_not_see_a_line,
            left_out_does_not_see_the_unit_of_x,
            left_out_costs_more_than_training,
            left_out_is_what_many_fits_find,
        ),
    ),
)


def _line(x: torch.Tensor, y: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Return what the least-squares line of x and y predicts elsewhere."""
    design = torch.stack([torch.ones_like(x), x], 1)
    intercept, slope = torch.linalg.lstsq(design, y[:, None]).solution[:, 0]
    return intercept + slope * at


def _unlike_a_number(found) -> str | None:
    if not isinstance(found, torch.Tensor):
        return f"it returned {type(found).__name__}, not a tensor"
    return None if found.shape == () else f"its shape is {tuple(found.shape)}"
