"""The exercises of the chapter "What is a loss?"."""

import math

import torch

from lib.exercises._engine import Exercise


def nights_with_prices() -> list[tuple[torch.Tensor, torch.Tensor, float, float]]:
    """Return 300 tuples of predictions (N,), truths (N,), and the prices of one too many and of one too few."""
    generator = torch.Generator().manual_seed(0)
    tuples = []
    for number in range(300):
        nights = 2 + number % 5 + number // 30
        needs = torch.poisson(torch.full((nights,), 8.0), generator=generator)
        plans = torch.randint(4, 13, (nights,), generator=generator).float()
        tuples.append((plans, needs, 1.0 + number % 3, 0.5 + number % 7))
    return tuples


def cost_is_one_number(cost, prediction, target, too_many, too_few):
    """One number for all nights together."""
    return _unlike_one_number(cost(prediction, target, too_many, too_few))


def cost_of_a_right_prediction_is_zero(cost, prediction, target, too_many, too_few):
    """Zero where every prediction is the truth."""
    value = float(cost(target, target, too_many, too_few))
    return None if abs(value) < 1e-6 else f"it is {value:.4f}"


def cost_is_never_negative(cost, prediction, target, too_many, too_few):
    """Never negative: no error earns anything, whatever its sign."""
    value = float(cost(prediction, target, too_many, too_few))
    return None if value >= 0 else f"it is {value:.4f} (is each error's sign taken away?)"


def cost_of_one_too_many_is_its_price(cost, prediction, target, too_many, too_few):
    """The price `too_many` where every prediction is one above the truth; two above cost twice as much."""
    return _unlike_prices(cost, target, too_many, too_few, sign=1, price=too_many)


def cost_of_one_too_few_is_its_price(cost, prediction, target, too_many, too_few):
    """The price `too_few` where every prediction is one below the truth; two below cost twice as much."""
    return _unlike_prices(cost, target, too_many, too_few, sign=-1, price=too_few)


def cost_is_the_mean_over_the_nights(cost, prediction, target, too_many, too_few):
    """The mean of what the nights cost one by one, so that errors of opposite sign do not cancel."""
    each = [float(cost(prediction[i : i + 1], target[i : i + 1], too_many, too_few)) for i in range(len(target))]
    value, mean = float(cost(prediction, target, too_many, too_few)), sum(each) / len(each)
    if math.isclose(value, mean, rel_tol=1e-4, abs_tol=1e-5):
        return None
    return f"the nights cost {mean:.4f} on average, taken one by one, and {value:.4f} together"


def predictions_and_truths() -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Return 300 tuples of predictions (N,), truths (N,), and the truths of the training data (M,)."""
    generator = torch.Generator().manual_seed(0)
    tuples = []
    for number in range(300):
        tests, trains = 3 + number % 5 + number // 30, 4 + number % 7 + number // 20
        train_target = 8 + 3 * torch.randn(trains, generator=generator)
        target = 9 + 3 * torch.randn(tests, generator=generator)
        prediction = target + (0.5 + number % 4) * torch.randn(tests, generator=generator)
        tuples.append((prediction, target, train_target))
    return tuples


def skill_is_one_number(skill, prediction, target, train_target):
    """One number for the whole data set."""
    return _unlike_one_number(skill(prediction, target, train_target))


def skill_of_a_perfect_prediction_is_one(skill, prediction, target, train_target):
    """1 where every prediction is the truth: all of the loss of the constant is saved."""
    value = float(skill(target, target, train_target))
    return None if abs(value - 1) < 1e-4 else f"it is {value:.4f}"


def skill_of_the_best_training_constant_is_zero(skill, prediction, target, train_target):
    """0 for the constant that is best on the training data under the squared loss."""
    constant = train_target.mean().expand_as(target).clone()
    value = float(skill(constant, target, train_target))
    if abs(value) < 1e-4:
        return None
    return f"it is {value:.4f} (which constant is best under the squared loss, and on which data is it chosen?)"


def skill_below_the_constant_is_negative(skill, prediction, target, train_target):
    """Negative for a prediction with a larger loss than the constant's."""
    worse = target + 2 * (train_target.mean() - target)
    value = float(skill(worse, target, train_target))
    return None if value < 0 else f"errors twice as large as the constant's give {value:.4f}"


def skill_falls_with_the_square_of_the_errors(skill, prediction, target, train_target):
    """The loss is squared: with errors half as large, a quarter of what was missing to 1 is still missing."""
    missing = 1 - float(skill(prediction, target, train_target))
    halved = 1 - float(skill((prediction + target) / 2, target, train_target))
    if math.isclose(halved, missing / 4, rel_tol=1e-3, abs_tol=1e-5):
        return None
    return f"with half the errors {halved:.4f} is missing to 1, where {missing:.4f} was"


def skill_does_not_depend_on_the_unit(skill, prediction, target, train_target):
    """The same in another unit: multiplied by 24, as from days to hours, nothing changes."""
    value = float(skill(prediction, target, train_target))
    other = float(skill(24 * prediction, 24 * target, 24 * train_target))
    return (
        None if math.isclose(value, other, rel_tol=1e-3, abs_tol=1e-4) else f"it goes from {value:.4f} to {other:.4f}"
    )


def skill_is_the_share_of_the_loss_that_is_saved(skill, prediction, target, train_target):
    """The share of the constant's mean loss that the prediction saves."""
    loss = (prediction - target).double().square().mean()
    constant = (train_target.double().mean() - target).square().mean()
    value, wanted = float(skill(prediction, target, train_target)), float((constant - loss) / constant)
    if math.isclose(value, wanted, rel_tol=1e-3, abs_tol=1e-4):
        return None
    return f"the constant's loss is {constant:.4f}, the prediction's {loss:.4f}, and the answer {value:.4f}"


EXERCISES = (
    Exercise(
        "mean_staffing_cost",
        nights_with_prices,
        (
            cost_is_one_number,
            cost_of_a_right_prediction_is_zero,
            cost_is_never_negative,
            cost_of_one_too_many_is_its_price,
            cost_of_one_too_few_is_its_price,
            cost_is_the_mean_over_the_nights,
        ),
    ),
    Exercise(
        "skill_over_constant",
        predictions_and_truths,
        (
            skill_is_one_number,
            skill_of_a_perfect_prediction_is_one,
            skill_of_the_best_training_constant_is_zero,
            skill_below_the_constant_is_negative,
            skill_falls_with_the_square_of_the_errors,
            skill_does_not_depend_on_the_unit,
            skill_is_the_share_of_the_loss_that_is_saved,
        ),
    ),
)


def _unlike_one_number(answer) -> str | None:
    shape = tuple(getattr(answer, "shape", ()))
    return None if shape == () else f"its shape is {shape}, wanted is a single number"


def _unlike_prices(cost, target, too_many, too_few, *, sign: int, price: float) -> str | None:
    """Compare the cost of errors of 1 and 2, all of one sign, with their price."""
    for error in (1, 2):
        value = float(cost(target + sign * error, target, too_many, too_few))
        if not math.isclose(value, error * price, rel_tol=1e-4):
            side = "many" if sign > 0 else "few"
            return f"at a price of {price:g} each, {error} too {side} in {len(target)} nights cost {value:.4f}"
    return None
