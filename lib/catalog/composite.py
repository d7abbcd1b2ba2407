"""The entries of what adds several losses up."""

from lib.catalog._entry import Tool

TOOLS = (
    Tool(
        name="weighted_sum",
        family="composite",
        title="Weighted sum of losses",
        use_for=("combine losses",),
        first_choice_for=("combine losses",),
        because="The terms are few, and what each of them is worth is known or can be tried out.",
        value=r"\sum_k w_k L_k",
        symbols="$L_k$: the losses, the terms; $w_k$: their weights.",
        purpose="Adds named losses up, each with a weight that is fixed by hand.",
        limits=(
            "The right weights depend on the units of the terms, and change as the terms shrink at different speeds.",
            "Where the trade-off between two terms is not convex, no weights reach the solutions in its hollow.",
        ),
        paper="R. Caruana, Multitask learning (1997)",
        url="https://doi.org/10.1023/A:1007379606734",
    ),
    Tool(
        name="UncertaintyWeighting",
        family="composite",
        title="Uncertainty weighting",
        use_for=("combine losses",),
        helps_against=("terms of different size",),
        because="The terms have different units, and nobody can say what each is worth.",
        value=r"\tfrac12 \sum_k \bigl(e^{-s_k} L_k + s_k\bigr)",
        symbols="$L_k$: the losses, the terms; $s_k$: learned numbers, the logarithms of variances.",
        purpose="Learns to divide each loss by its own size, so that the units of the terms do not matter.",
        limits=(
            "A term that reaches 0, as by overfitting, drives its weight up without bound.",
            "A term must not be negative: its variance would shrink for ever.",
            "Weight decay on the log-variances pulls every weight towards one half.",
            "An easy task, whose loss is small, gets a large weight, whether or not it matters.",
        ),
        paper="A. Kendall, Y. Gal, R. Cipolla, Multi-task learning using uncertainty to weigh losses for scene "
        "geometry and semantics (2018)",
        url="https://arxiv.org/abs/1705.07115",
    ),
    Tool(
        name="GradNorm",
        family="composite",
        title="GradNorm (balancing of gradient norms)",
        use_for=("combine losses",),
        helps_against=("terms of different size",),
        because="The terms share most of their parameters and fall at different speeds, and the slow ones should "
        "catch up.",
        value=r"w_k \leftarrow c\, w_k \Bigl(\frac{\bar G\, r_k^\alpha}{G_k}\Bigr)^{\rho},"
        r" \quad G_k = \|\nabla_\theta\, w_k L_k\|",
        symbols=r"$L_k$: the losses, the terms; $w_k$: their weights; $\theta$: the shared parameters; $\bar G$: the "
        r"mean of the $G_k$; $r_k$: the share of its first loss that a task has left, divided by the mean of these "
        r"shares; $\alpha$: how strongly slow tasks are favoured; $\rho$: the share of the way that one step goes, the "
        r"option rate; $c$ makes the weights add up to their number.",
        purpose="Adapts the weights of several losses until each pulls on the shared parameters in proportion to "
        r"$r_k^\alpha$: tasks that lag behind pull harder.",
        limits=(
            "It costs one more backward pass through the shared parameters for each term.",
            "It balances lengths, not directions: gradients that point against each other still cancel.",
            "The training rates compare with the first loss seen, which is an accident of the first batch.",
            "Each process of a distributed training would balance for itself.",
        ),
        paper="Z. Chen, V. Badrinarayanan, C.-Y. Lee, A. Rabinovich, GradNorm (2018)",
        url="https://arxiv.org/abs/1711.02257",
    ),
)
