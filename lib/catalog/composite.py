"""The entries of what adds several losses up."""

from lib.catalog._entry import Tool

TOOLS = (
    Tool(
        name="weighted_sum",
        family="composite",
        title="Weighted sum of losses",
        value=r"\sum_k w_k L_k",
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
        title="Weighting by learned uncertainty",
        value=r"\tfrac12 \sum_k \bigl(e^{-s_k} L_k + s_k\bigr)",
        purpose="Learns to divide each loss by its own size, so that the units of the terms do not matter.",
        limits=(
            "A term that reaches 0, as by overfitting, drives its weight up without bound.",
            "A term must not be negative: its variance would shrink for ever.",
            "Weight decay on the log-variances pulls every weight towards one half.",
            "An easy task, whose loss is small, gets a large weight, whether or not it matters.",
        ),
        paper="A. Kendall, Y. Gal, R. Cipolla, Multi-task learning using uncertainty to weigh losses (2018)",
        url="https://arxiv.org/abs/1705.07115",
    ),
    Tool(
        name="GradNorm",
        family="composite",
        title="Balancing of gradient norms (GradNorm)",
        value=r"w_k \leftarrow c\, w_k \Bigl(\frac{\bar G\, r_k^\alpha}{G_k}\Bigr)^{\rho},"
        r" \quad G_k = \|\nabla_\theta\, w_k L_k\|",
        purpose="Adapts the weights of several losses until every task pulls on the shared parameters as it should.",
        limits=(
            "It costs one more backward pass through the shared parameters for each term.",
            "It balances lengths, not directions: gradients that point against each other still cancel.",
            "The training rates lean on the first loss seen, which is an accident of the first batch.",
            "Each process of a distributed training would balance for itself.",
        ),
        paper="Z. Chen, V. Badrinarayanan, C.-Y. Lee, A. Rabinovich, GradNorm (2018)",
        url="https://arxiv.org/abs/1711.02257",
    ),
)
