"""The exercises of the chapter on likelihood and divergences."""

import math

import torch

from lib import losses
from lib.exercises._answers import few, unlike_in_shape
from lib.exercises._engine import Exercise


def two_gaussians() -> list[tuple[torch.Tensor, ...]]:
    """Return 300 times means and log-variances of two diagonal Gaussians, each of shape (N, D), easy ones first."""
    generator = torch.Generator().manual_seed(0)
    first = torch.tensor([[0.0, 1.0]]).double()
    pairs = [(first, torch.zeros(1, 2).double(), torch.zeros(1, 2).double(), torch.zeros(1, 2).double())]
    for number in range(1, 300):
        shape = ((2, 3), (1, 1), (4, 2), (3, 5))[number % 4]
        pairs.append(tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(4)))
    return pairs


def divergence_is_one_number_per_row(divergence, mean, log_variance, other_mean, other_log_variance):
    """One number for each row, summed over the dimensions: a tensor of shape (N,)."""
    return unlike_in_shape(divergence(mean, log_variance, other_mean, other_log_variance), (len(mean),))


def divergence_from_itself_is_zero(divergence, mean, log_variance, other_mean, other_log_variance):
    """Zero between a Gaussian and itself."""
    worst = divergence(mean, log_variance, mean, log_variance).abs().max().item()
    return None if worst < 1e-9 else f"there it is {worst:.4f} (which constant must be taken off?)"


def divergence_is_never_negative(divergence, mean, log_variance, other_mean, other_log_variance):
    """Never below zero."""
    least = divergence(mean, log_variance, other_mean, other_log_variance).min().item()
    return None if least > -1e-9 else f"it falls to {least:.4f} (is the sign of the logarithms right?)"


def divergence_knows_its_direction(divergence):
    """0.3181 from N(0, 1) to N(0, 4), and 0.8069 back: the first Gaussian takes the average."""
    zero, four = torch.zeros(1, 1).double(), torch.full((1, 1), math.log(4.0)).double()
    there, back = divergence(zero, zero, zero, four).item(), divergence(zero, four, zero, zero).item()
    if math.isclose(there, 0.3181, abs_tol=1e-3) and math.isclose(back, 0.8069, abs_tol=1e-3):
        return None
    return f"it is {there:.4f} and {back:.4f} (whose variance divides?)"


def divergence_is_that_of_a_vae(divergence, mean, log_variance, other_mean, other_log_variance):
    """The library's gaussian_kl where the second Gaussian is the standard normal."""
    zero = torch.zeros_like(mean)
    found, wanted = divergence(mean, log_variance, zero, zero), losses.gaussian_kl(mean, log_variance, reduction="none")
    return None if torch.allclose(found, wanted) else f"it is {few(found)}, wanted is {few(wanted)}"


def divergence_does_not_depend_on_the_unit(divergence, mean, log_variance, other_mean, other_log_variance):
    """Unchanged when everything is measured in a unit ten times smaller."""
    shift = 2 * math.log(10)
    once = divergence(mean, log_variance, other_mean, other_log_variance)
    tenfold = divergence(10 * mean, log_variance + shift, 10 * other_mean, other_log_variance + shift)
    return None if torch.allclose(once, tenfold) else f"it goes from {few(once)} to {few(tenfold)}"


def divergence_is_that_of_torch(divergence, mean, log_variance, other_mean, other_log_variance):
    """What torch.distributions finds for the same two Gaussians."""
    first = torch.distributions.Normal(mean, (log_variance / 2).exp())
    other = torch.distributions.Normal(other_mean, (other_log_variance / 2).exp())
    wanted = torch.distributions.kl_divergence(first, other).sum(1)
    found = divergence(mean, log_variance, other_mean, other_log_variance)
    return None if torch.allclose(found, wanted) else f"it is {few(found)}, wanted is {few(wanted)}"


def scores_of_data_and_noise() -> list[tuple[torch.Tensor, torch.Tensor, float]]:
    """Return 300 times scores of data (N,), scores of noise (M,) and a value of u."""
    generator = torch.Generator().manual_seed(1)
    triples = [(torch.tensor([1.0, 2.0]).double(), torch.tensor([0.0, -1.0, 0.5, -2.0]).double(), 0.0)]
    for number in range(1, 300):
        data, noise = 2 + number % 5, (2 + number % 5) * (1 + number % 3)
        scores = torch.randn(data + noise, generator=generator, dtype=torch.float64)
        triples.append((scores[:data] + 1, scores[data:] - 1, (0.0, -2.0, 0.7, 3.0)[number % 4]))
    return triples


def nce_is_one_number(nce, data_scores, noise_scores, u):
    """One number: a tensor without a shape."""
    return unlike_in_shape(nce(data_scores, noise_scores, u), ())


def nce_of_an_open_question_is_ln_2(nce, data_scores, noise_scores, u):
    """Exactly ln 2 with one noise sample for each of the data and scores of -u: nothing then tells the two apart."""
    even = torch.full_like(data_scores, -u)
    value = nce(even, even, u).item()
    return None if math.isclose(value, math.log(2), abs_tol=1e-9) else f"there it is {value:.4f} (a mean, not a sum?)"


def nce_rewards_the_right_answer(nce, data_scores, noise_scores, u):
    """Smaller when the data get larger scores, and larger when the noise gets larger scores."""
    value = nce(data_scores, noise_scores, u).item()
    better, worse = nce(data_scores + 0.1, noise_scores, u).item(), nce(data_scores, noise_scores + 0.1, u).item()
    if better < value < worse:
        return None
    return f"it is {value:.4f}; with larger scores of the data {better:.4f}, of the noise {worse:.4f}"


def nce_moves_a_constant_into_u(nce, data_scores, noise_scores, u):
    """Unchanged when 3 is added to all scores and taken from u: only their sum counts."""
    value, moved = nce(data_scores, noise_scores, u).item(), nce(data_scores + 3, noise_scores + 3, u - 3).item()
    if math.isclose(value, moved, rel_tol=1e-9):
        return None
    return f"it goes from {value:.4f} to {moved:.4f} (is u added to both kinds of scores?)"


def nce_is_flat_at_the_truth(nce, data_scores, noise_scores, u):
    """Least at u = 0 where all scores are 0, for the model is the noise then, however much of it is drawn."""
    data, noise = torch.zeros_like(data_scores), torch.zeros_like(noise_scores)
    slope = (nce(data, noise, 1e-4).item() - nce(data, noise, -1e-4).item()) / 2e-4
    if abs(slope) < 1e-6:
        return None
    return f"its slope in u is {slope:.4f} there (what must the logit lose when noise is more frequent than data?)"


def nce_is_a_mean_over_all_samples(nce, data_scores, noise_scores, u):
    """The binary cross-entropy of "data or noise", averaged over all samples of both kinds."""
    ratio = math.log(len(noise_scores) / len(data_scores))
    logits = torch.cat([data_scores, noise_scores]) + u - ratio
    labels = torch.cat([torch.ones_like(data_scores), torch.zeros_like(noise_scores)])
    wanted = losses.binary_cross_entropy_with_logits(logits, labels).item()
    value = nce(data_scores, noise_scores, u).item()
    return None if math.isclose(value, wanted, rel_tol=1e-9) else f"it is {value:.4f}, wanted is {wanted:.4f}"


def nce_survives_large_scores(nce, data_scores, noise_scores, u):
    """Finite, and right to nine digits, for scores in the thousands on the wrong side."""
    data, noise = torch.full_like(data_scores, -5000.0), torch.full_like(noise_scores, -5000.0)
    ratio = math.log(len(noise) / len(data))
    wanted = (5000 - u + ratio) * len(data) / (len(data) + len(noise))
    value = nce(data, noise, u).item()
    return None if math.isclose(value, wanted, rel_tol=1e-9) else f"it is {value}, wanted is {wanted:.4f}"


EXERCISES = (
    Exercise(
        "gaussian_divergence",
        two_gaussians,
        (
            divergence_is_one_number_per_row,
            divergence_from_itself_is_zero,
            divergence_is_never_negative,
            divergence_knows_its_direction,
            divergence_is_that_of_a_vae,
            divergence_does_not_depend_on_the_unit,
            divergence_is_that_of_torch,
        ),
    ),
    Exercise(
        "noise_contrastive_loss",
        scores_of_data_and_noise,
        (
            nce_is_one_number,
            nce_of_an_open_question_is_ln_2,
            nce_rewards_the_right_answer,
            nce_moves_a_constant_into_u,
            nce_is_flat_at_the_truth,
            nce_is_a_mean_over_all_samples,
            nce_survives_large_scores,
        ),
    ),
)
