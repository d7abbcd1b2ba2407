"""Losses of generative adversarial networks, and their gradients."""

import numpy as np


def _softplus(x):
    return np.logaddexp(0.0, x)


def _sigmoid(x):
    return np.exp(-_softplus(-x))


def discriminator_loss(real, fake, *, kind="non-saturating"):
    """log(1 + e^-r) + log(1 + e^f); lsgan (r - 1)^2 / 2 + f^2 / 2; wgan f - r; hinge max(0, 1 - r) + max(0, 1 + f)."""
    r, f = np.float64(real), np.float64(fake)
    return {
        "minimax": lambda: _softplus(-r) + _softplus(f),
        "non-saturating": lambda: _softplus(-r) + _softplus(f),
        "lsgan": lambda: ((r - 1) ** 2 + f**2) / 2,
        "wgan": lambda: f - r,
        "hinge": lambda: np.maximum(0.0, 1 - r) + np.maximum(0.0, 1 + f),
    }[kind]()


def discriminator_loss_grad(real, fake, *, kind="non-saturating"):
    """(-sigma(-r), sigma(f)); lsgan (r - 1, f); wgan (-1, 1); hinge (-[r < 1], [f > -1])."""
    r, f = np.float64(real), np.float64(fake)
    return {
        "minimax": lambda: (-_sigmoid(-r), _sigmoid(f)),
        "non-saturating": lambda: (-_sigmoid(-r), _sigmoid(f)),
        "lsgan": lambda: (r - 1, f),
        "wgan": lambda: (-np.ones_like(r), np.ones_like(f)),
        "hinge": lambda: (-1.0 * (r < 1), 1.0 * (f > -1)),
    }[kind]()


def generator_loss(fake, *, kind="non-saturating"):
    """log(1 + e^-f); minimax -log(1 + e^f); lsgan (f - 1)^2 / 2; wgan and hinge -f."""
    f = np.float64(fake)
    return {
        "minimax": lambda: -_softplus(f),
        "non-saturating": lambda: _softplus(-f),
        "lsgan": lambda: (f - 1) ** 2 / 2,
        "wgan": lambda: -f,
        "hinge": lambda: -f,
    }[kind]()


def generator_loss_grad(fake, *, kind="non-saturating"):
    """-sigma(-f); minimax -sigma(f); lsgan f - 1; wgan and hinge -1."""
    f = np.float64(fake)
    return {
        "minimax": lambda: -_sigmoid(f),
        "non-saturating": lambda: -_sigmoid(-f),
        "lsgan": lambda: f - 1,
        "wgan": lambda: -np.ones_like(f),
        "hinge": lambda: -np.ones_like(f),
    }[kind]()


def gradient_penalty(gradient, *, target_norm=1.0):
    """(|g| - c)^2 of the critic's gradients g, shape (N, D): NumPy has no critic to derive."""
    return (np.linalg.norm(np.float64(gradient), axis=1) - target_norm) ** 2


def gradient_penalty_grad(gradient, *, target_norm=1.0):
    """2 (|g| - c) g / |g|, in the critic's gradient g; 0 where g = 0."""
    g = np.float64(gradient)
    norm = np.linalg.norm(g, axis=1, keepdims=True)
    return 2 * (norm - target_norm) * g / np.where(norm == 0, 1.0, norm)
