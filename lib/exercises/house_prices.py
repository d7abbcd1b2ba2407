"""The exercises of the chapter on house prices."""

import math

import torch

from lib.exercises._answers import unlike_in_shape
from lib.exercises._engine import Exercise


def log_guesses() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return 300 pairs: logarithms that several networks guess (K, N), and their residuals on other houses (K, M)."""
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for number in range(300):
        networks, houses, others = 2 + number % 3, 3 + number % 4, 5 + number % 7
        guess = 12 + 0.5 * torch.randn(networks, houses, generator=generator, dtype=torch.float64)
        spread = 0.2 * torch.arange(1, networks + 1, dtype=torch.float64)[:, None]
        pairs.append((guess, spread * torch.randn(networks, others, generator=generator, dtype=torch.float64)))
    return pairs


def smeared_prices_have_the_shape_of_the_guesses(prices, guess, residuals):
    """One price for each network and house: a tensor of the shape of the guesses."""
    return unlike_in_shape(prices(guess, residuals), guess.shape)


def smeared_prices_of_a_perfect_network_are_plain(prices, guess, residuals):
    """The exponential of the guess, and no more, where all residuals are 0."""
    return _unlike(prices(guess, 0 * residuals), guess.exp(), "without residuals")


def smeared_prices_follow_the_side_of_the_errors(prices, guess, residuals):
    """Twice the exponential of the guess, where every other house cost twice what was guessed."""
    return _unlike(prices(guess, 0 * residuals + math.log(2)), 2 * guess.exp(), "with residuals of ln 2")


def smeared_prices_weigh_dollars_not_logarithms(prices, guess, residuals):
    """1.25 times the exponential of the guess, where half of the houses cost twice and half of them half of it."""
    half = torch.full((len(guess), 3), math.log(2), dtype=torch.float64)
    return _unlike(prices(guess, torch.cat([half, -half], 1)), 1.25 * guess.exp(), "with residuals of +-ln 2")


def smeared_prices_of_a_network_ignore_the_others(prices, guess, residuals):
    """The same for a network whether it stands alone or among others: each has residuals of its own."""
    return _unlike(prices(guess, residuals)[:1], prices(guess[:1], residuals[:1]), "among others,")


def smeared_prices_add_up(prices, guess, residuals):
    """The right total for houses that got one guess all, and whose residuals are the ones given."""
    same = guess[:, :1].expand_as(residuals)
    return _unlike(prices(same, residuals).sum(1), (same + residuals).exp().sum(1), "the total of a network")


def capped_targets() -> list[tuple[torch.Tensor, torch.Tensor, float, float]]:
    """Return 300 quadruples of predictions (N,), targets (N,), some of them at the cap, a cap and a sigma."""
    generator = torch.Generator().manual_seed(0)
    cases = []
    for number in range(300):
        size, cap, sigma = 4 + number % 6, (3.0, 1.0, 5.0)[number % 3], (1.0, 0.5, 2.0, 0.8)[number % 4]
        target = (cap + sigma * torch.randn(size, generator=generator, dtype=torch.float64)).clamp(max=cap)
        target[0], target[1] = cap, cap - sigma
        prediction = cap + 1.5 * sigma * torch.randn(size, generator=generator, dtype=torch.float64)
        cases.append((prediction, target, cap, sigma))
    return cases


def censored_gradient_has_the_shape_of_the_predictions(gradient, prediction, target, cap, sigma):
    """One number for each prediction, a tensor of its shape."""
    return unlike_in_shape(gradient(prediction, target, cap, sigma), prediction.shape)


def censored_gradient_below_the_cap_has_the_sign_of_the_residual(gradient, prediction, target, cap, sigma):
    """Where the price is known, positive for a prediction that is too high and negative for one that is too low."""
    known = target < cap
    slope, residual = gradient(prediction, target, cap, sigma)[known], (prediction - target)[known]
    if (slope * residual >= 0).all() and slope.abs().max() > 0:
        return None
    row = int((slope * residual).argmin())
    return f"for a residual of {residual[row].item():+.4f} it is {slope[row].item():+.4f}"


def censored_gradient_never_pushes_down_at_the_cap(gradient, prediction, target, cap, sigma):
    """Where the price is capped, below zero: a step against it lifts the prediction, however high it is."""
    slope = gradient(prediction, target, cap, sigma)[target >= cap]
    return None if (slope < 0).all() else f"at a capped price it is {slope.max().item():+.4f}"


def censored_gradient_of_known_prices_is_the_residual_over_the_variance(gradient, prediction, target, cap, sigma):
    """Where no price is capped, that of the mean of r^2 / (2 sigma^2)."""
    known = target - 0.5 * sigma
    wanted = (prediction - known) / (sigma**2 * len(target))
    return _unlike(gradient(prediction, known, cap, sigma), wanted, "without a capped price,")


def censored_gradient_fades_above_the_cap(gradient, prediction, target, cap, sigma):
    """At a capped price, almost 0 for a prediction six sigma above the cap."""
    slope = gradient(torch.full_like(prediction, cap + 6 * sigma), torch.full_like(target, cap), cap, sigma)
    worst = slope.abs().max().item() * sigma
    return None if worst < 1e-6 else f"there it is {worst:.2e} over sigma"


def censored_gradient_is_that_of_the_mean(gradient, prediction, target, cap, sigma):
    """The same districts twice over have half the gradient each, as the loss is a mean."""
    once = gradient(prediction, target, cap, sigma)
    twice = gradient(torch.cat([prediction, prediction]), torch.cat([target, target]), cap, sigma)
    return _unlike(twice[: len(once)], once / 2, "twice over,")


def censored_gradient_predicts_the_change_of_the_loss(gradient, prediction, target, cap, sigma):
    """A small step d changes the mean loss by the gradient times d."""

    def loss(guess):
        known, beyond = (guess - target) ** 2 / (2 * sigma**2), -torch.special.log_ndtr((guess - cap) / sigma)
        return torch.where(target < cap, known, beyond).mean()

    point = prediction.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(loss(point), point)
    return _unlike(gradient(prediction, target, cap, sigma), wanted, "")


def censored_gradient_survives_hopeless_predictions(gradient, prediction, target, cap, sigma):
    """At a capped price, finite and near u / sigma over N for a prediction fifty sigma below the cap, u = -50."""
    slope = gradient(torch.full_like(prediction, cap - 50 * sigma), torch.full_like(target, cap), cap, sigma)
    wanted = -50 / sigma / len(target)
    if torch.allclose(slope, torch.full_like(slope, wanted), rtol=1e-3):
        return None
    return f"it is {slope[0].item():.4f}, wanted is about {wanted:.4f} (is 0 divided by 0?)"


def intervals() -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]]:
    """Return 300 quadruples: lower and upper bounds (N,), what turned out (N,), and the share to be covered."""
    generator = torch.Generator().manual_seed(0)
    cases = []
    for number in range(300):
        size, share = 20 + number % 31, (0.83, 0.71, 0.9137, 0.53)[number % 4]
        middle = 3 * torch.randn(size, generator=generator, dtype=torch.float64)
        half = 0.2 + torch.rand(size, generator=generator, dtype=torch.float64) * (1 + number % 3)
        target = (
            middle
            + 0.3 * torch.randn(size, generator=generator, dtype=torch.float64)
            + 0.5 * torch.rand(size, generator=generator, dtype=torch.float64)
        )
        target[::5] += 2 * (number % 2) - 1.0
        cases.append((middle - half, middle + half, target, share))
    return cases


def margin_is_one_number(margin, low, high, target, share):
    """One number: a tensor without a shape, or a float."""
    found = margin(low, high, target, share)
    shape = tuple(getattr(found, "shape", ()))
    return None if shape == () else f"its shape is {shape}"


def margin_ignores_the_order(margin, low, high, target, share):
    """The same when the houses come in another order."""
    return _unlike_number(
        margin(low.flip(0), high.flip(0), target.flip(0), share), margin(low, high, target, share), "backwards"
    )


def margin_follows_the_bounds(margin, low, high, target, share):
    """Less by 1, and negative in the end, when all bounds are moved apart by 1 on either side."""
    wide = 100.0
    return _unlike_number(
        margin(low - wide, high + wide, target, share),
        margin(low, high, target, share) - wide,
        "100 wider on each side,",
    )


def margin_is_alike_for_both_sides(margin, low, high, target, share):
    """The same in the mirror: what is above the upper bound counts like what is below the lower one."""
    return _unlike_number(margin(-high, -low, -target, share), margin(low, high, target, share), "mirrored")


def margin_changes_units(margin, low, high, target, share):
    """A thousand times as large when everything is."""
    found = margin(1000 * low, 1000 * high, 1000 * target, share)
    return _unlike_number(found / 1000, margin(low, high, target, share), "in other units, over 1000,")


def margin_covers_enough(margin, low, high, target, share):
    """With the bounds moved apart by it, at least (N + 1) times the share of the N targets are covered, rounded up."""
    covered, wanted = _covered(margin(low, high, target, share), low, high, target), _wanted(target, share)
    return None if covered >= wanted else f"{covered} of {len(target)} are covered, wanted are {wanted}"


def margin_covers_no_more(margin, low, high, target, share):
    """And it is the least such number: with a little less, fewer are covered."""
    covered, wanted = _covered(margin(low, high, target, share) - 1e-6, low, high, target), _wanted(target, share)
    return None if covered < wanted else f"with a little less, {covered} are still covered, and {wanted} would do"


EXERCISES = (
    Exercise(
        "smeared_prices",
        log_guesses,
        (
            smeared_prices_have_the_shape_of_the_guesses,
            smeared_prices_of_a_perfect_network_are_plain,
            smeared_prices_follow_the_side_of_the_errors,
            smeared_prices_weigh_dollars_not_logarithms,
            smeared_prices_of_a_network_ignore_the_others,
            smeared_prices_add_up,
        ),
    ),
    Exercise(
        "censored_gradient",
        capped_targets,
        (
            censored_gradient_has_the_shape_of_the_predictions,
            censored_gradient_below_the_cap_has_the_sign_of_the_residual,
            censored_gradient_never_pushes_down_at_the_cap,
            censored_gradient_fades_above_the_cap,
            censored_gradient_is_that_of_the_mean,
            censored_gradient_of_known_prices_is_the_residual_over_the_variance,
            censored_gradient_predicts_the_change_of_the_loss,
            censored_gradient_survives_hopeless_predictions,
        ),
    ),
    Exercise(
        "conformal_margin",
        intervals,
        (
            margin_is_one_number,
            margin_ignores_the_order,
            margin_follows_the_bounds,
            margin_is_alike_for_both_sides,
            margin_changes_units,
            margin_covers_enough,
            margin_covers_no_more,
        ),
    ),
)


def _covered(margin, low: torch.Tensor, high: torch.Tensor, target: torch.Tensor) -> int:
    # A hair's breadth more, as the target at the edge may round to either side of it.
    return int(((low - margin - 1e-9 <= target) & (target <= high + margin + 1e-9)).sum())


def _wanted(target: torch.Tensor, share: float) -> int:
    return math.ceil((len(target) + 1) * share)


def _unlike(found: torch.Tensor, wanted: torch.Tensor, when: str) -> str | None:
    found = found.to(wanted.dtype)
    if torch.allclose(found, wanted, rtol=1e-5, atol=1e-8):
        return None
    place = int((found - wanted).abs().nan_to_num(torch.inf).argmax())
    text = f"{when} it is {found.flatten()[place].item():.6g}, wanted is {wanted.flatten()[place].item():.6g}"
    return text.strip()


def _unlike_number(found, wanted, when: str) -> str | None:
    found, wanted = float(found), float(wanted)
    if math.isclose(found, wanted, rel_tol=1e-6, abs_tol=1e-6):
        return None
    return f"{when} it is {found:.4f}, wanted is {wanted:.4f}"
