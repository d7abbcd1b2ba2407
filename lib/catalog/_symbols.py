"""What letters and signs stand for that several families share."""

CONDITION = r"$[\ldots]$: 1 where the condition holds, else 0"
LOGISTIC = r"$\sigma(z) = 1 / (1 + e^{-z})$, the logistic function"
SOFTMAX = r"$\operatorname{softmax}(z)_j = e^{z_j} / \sum_k e^{z_k}$"
TEMPERATURE = r"$\tau$: the temperature"
