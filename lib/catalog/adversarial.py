"""The entries of attacks on models, and of the loss that trains against them."""

from lib.catalog._entry import Tool

TOOLS = (
    Tool(
        name="fgsm",
        family="adversarial",
        title="Fast gradient sign method",
        value=r"x + \epsilon \operatorname{sign}\bigl(\nabla_x\, \ell(f(x), y)\bigr)",
        purpose="Makes, in one step, inputs that look alike and mislead a model.",
        limits=(
            "It is the worst input only where the loss is linear in the input; elsewhere a step may leap too far.",
            "Where the slope is 0, as behind a saturated activation or a rounding, it changes and shows nothing.",
        ),
        paper="I. J. Goodfellow, J. Shlens, C. Szegedy, Explaining and harnessing adversarial examples (2015)",
        url="https://arxiv.org/abs/1412.6572",
    ),
    Tool(
        name="pgd",
        family="adversarial",
        title="Projected gradient descent",
        value=r"x' \leftarrow \operatorname{clip}\bigl(x' + \eta \operatorname{sign}(\nabla_{x'}\, \ell(f(x'), y)),"
        r"\; x - \epsilon,\; x + \epsilon\bigr)",
        purpose="Makes, in several steps, inputs that look alike and mislead a model: the usual test of robustness.",
        limits=(
            "A model that withstands it is not proved robust: it climbs one peak, and none where slopes are hidden.",
            "Each step costs a forward and a backward pass.",
        ),
        paper="A. Madry, A. Makelov, L. Schmidt, D. Tsipras, A. Vladu, Towards deep learning models resistant to"
        " adversarial attacks (2018)",
        url="https://arxiv.org/abs/1706.06083",
    ),
    Tool(
        name="trades_loss",
        family="adversarial",
        title="TRADES",
        value=r"\operatorname{cross\_entropy}(f(x), y)"
        r" + \beta \max_{\|x' - x\|_\infty \le \epsilon} \mathrm{KL}(p \,\|\, q),"
        r" \quad p = \operatorname{softmax}(f(x)),\; q = \operatorname{softmax}(f(x'))",
        purpose="Trains a classifier to be right, and to say the same of all inputs near each other.",
        limits=(
            "Robustness is paid for with accuracy on clean inputs; beta sets the price.",
            "A training step costs about ten times as much as without it.",
            "The maximum is sought by a few steps from a random start, so the loss is a lower bound, and a noisy one.",
        ),
        paper="H. Zhang, Y. Yu, J. Jiao, E. P. Xing, L. El Ghaoui, M. I. Jordan, Theoretically principled trade-off"
        " between robustness and accuracy (2019)",
        url="https://arxiv.org/abs/1901.08573",
    ),
)
