"""The exercises of the chapter that checks the five documents."""

import torch

from lib.exercises._engine import Exercise


def lines_to_be_fitted() -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]]:
    """Return 300 tuples of parameters (2,), features (N, 1), truths (N, 1) and a learning rate."""
    generator = torch.Generator().manual_seed(0)
    tuples = []
    for number in range(300):
        samples = 2 + number % 7
        features = torch.randn(samples, 1, generator=generator, dtype=torch.float64)
        noise = torch.randn(samples, 1, generator=generator, dtype=torch.float64)
        parameters = torch.randn(2, generator=generator, dtype=torch.float64)
        tuples.append((parameters, features, 2 * features + 3 + noise / 2, (0.1, 0.01, 0.05)[number % 3]))
    return tuples


def step_has_two_parameters(step, parameters, features, target, rate):
    """The new weight and the new bias, in one tensor of shape (2,)."""
    answer = step(parameters, features, target, rate)
    if not isinstance(answer, torch.Tensor):
        return f"it returned {type(answer).__name__}, not a tensor"
    return None if answer.shape == (2,) else f"its shape is {tuple(answer.shape)}"


def step_of_a_perfect_line_stands_still(step, parameters, features, target, rate):
    """No movement where the line goes through all points."""
    perfect = parameters[0] * features + parameters[1]
    return _unlike(step(parameters, features, perfect, rate), parameters)


def step_goes_down(step, parameters, features, target, rate):
    """A lower loss after a step with a tiny learning rate."""
    before, after = (
        _loss(parameters, features, target),
        _loss(step(parameters, features, target, 1e-4), features, target),
    )
    return None if after < before else f"the loss goes from {before:.6f} to {after:.6f}"


def step_does_not_depend_on_the_number_of_samples(step, parameters, features, target, rate):
    """The same step when every sample is there twice: the loss is a mean."""
    twice = step(parameters, torch.cat([features, features]), torch.cat([target, target]), rate)
    return _unlike(twice, step(parameters, features, target, rate))


def step_is_the_rate_times_the_slope(step, parameters, features, target, rate):
    """The learning rate times the derivative of the mean squared error, in weight and bias."""
    point = parameters.clone().requires_grad_()
    (slope,) = torch.autograd.grad((point[0] * features + point[1] - target).square().mean(), point)
    return _unlike(step(parameters, features, target, rate), parameters - rate * slope)


def forecasts_and_losses() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return 300 pairs of probabilities of the truth (N,) and of losses stated for them: the article's pair first."""
    generator = torch.Generator().manual_seed(0)
    pairs = [(torch.tensor([0.6, 0.4]), torch.tensor([0.346, 0.064]))]
    for number in range(1, 300):
        samples = 2 + number % 8
        given = torch.randint(1, 20, (samples,), generator=generator) / 20
        noise = torch.randn(samples, generator=generator)
        pairs.append((given, (-given.log() + (0.0, 0.3, 2.0)[number % 3] * noise).round(decimals=1)))
    return pairs


def count_is_one_number(count, given, stated):
    """One number for the whole table."""
    answer = count(given, stated)
    size = answer.numel() if isinstance(answer, torch.Tensor) else 1
    return None if size == 1 else f"it has {size} entries"


def count_of_cross_entropy_is_zero(count, given, stated):
    """0 for the negative logarithm, which no pair contradicts."""
    found = int(count(given, -given.log()))
    return None if found == 0 else f"it is {found}"


def count_of_the_article_is_one(count, given, stated):
    """1 for the article's two focal figures: one pair, counted once."""
    found = int(count(torch.tensor([0.6, 0.4]), torch.tensor([0.346, 0.064])))
    return None if found == 1 else f"it is {found}"


def count_knows_all_pairs(count, given, stated):
    """N (N - 1) / 2 for N different probabilities whose losses are all in the wrong order, neighbours or not."""
    samples = len(given)
    rising = torch.arange(1, samples + 1) / (samples + 1)
    found = int(count(rising, rising.log()))
    wanted = samples * (samples - 1) // 2
    return None if found == wanted else f"for {samples} rows it is {found}, wanted is {wanted}"


def count_does_not_depend_on_the_order_of_rows(count, given, stated):
    """The same when the rows of the table are reversed."""
    there, back = int(count(given, stated)), int(count(given.flip(0), stated.flip(0)))
    return None if there == back else f"it is {there}, and {back} for the reversed rows"


def count_takes_equal_losses_for_a_fault(count, given, stated):
    """Every pair with different probabilities, where all losses are equal: a worse forecast must cost more."""
    found = int(count(given, torch.ones_like(given)))
    wanted = sum(int(a != b) for i, a in enumerate(given.tolist()) for b in given.tolist()[:i])
    return None if found == wanted else f"it is {found}, wanted is {wanted}"


EXERCISES = (
    Exercise(
        "line_step",
        lines_to_be_fitted,
        (
            step_has_two_parameters,
            step_of_a_perfect_line_stands_still,
            step_goes_down,
            step_does_not_depend_on_the_number_of_samples,
            step_is_the_rate_times_the_slope,
        ),
    ),
    Exercise(
        "pairs_out_of_order",
        forecasts_and_losses,
        (
            count_is_one_number,
            count_of_cross_entropy_is_zero,
            count_of_the_article_is_one,
            count_knows_all_pairs,
            count_takes_equal_losses_for_a_fault,
            count_does_not_depend_on_the_order_of_rows,
        ),
    ),
)


def _loss(parameters: torch.Tensor, features: torch.Tensor, target: torch.Tensor) -> float:
    return (parameters[0] * features + parameters[1] - target).square().mean().item()


def _unlike(answer: torch.Tensor, wanted: torch.Tensor) -> str | None:
    if torch.allclose(answer, wanted, rtol=1e-7, atol=1e-10):
        return None
    found, right = ([float(f"{value:.4g}") for value in values.tolist()] for values in (answer, wanted))
    return f"it is {found}, wanted is {right}"
