"""The entries of attacks on models, and of the loss that trains against them."""

from lib.catalog._entry import Tool
from lib.catalog._symbols import SOFTMAX

MODEL = r"$f$: the model; $x$ and $y$: an input and its target"
RADIUS = r"$\varepsilon$: by how much each number of the input may change"

TOOLS = (
    Tool(
        name="fgsm",
        family="adversarial",
        title="Fast gradient sign method (FGSM)",
        use_for=("withstand attacks",),
        because="It shows how fragile a model is, at the price of one backward pass; to withstand it proves little.",
        value=r"x + \varepsilon \operatorname{sign}\bigl(\nabla_x\, \ell(f(x), y)\bigr)",
        symbols=rf"{MODEL}; $\ell$: the loss; {RADIUS}.",
        purpose="Makes, in one step, inputs that look the same and mislead a model.",
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
        title="Projected gradient descent (PGD)",
        use_for=("withstand attacks",),
        because="It is the least that a model called robust has to withstand, and the attack to train against.",
        value=r"x' \leftarrow \operatorname{clip}\bigl(x' + \eta \operatorname{sign}(\nabla_{x'}\, \ell(f(x'), y)),"
        r"\; x - \varepsilon,\; x + \varepsilon\bigr)",
        symbols=rf"{MODEL}; $x'$: the input that misleads, at first a random one near $x$; $\eta$: the step, the "
        rf"option step_size; $\ell$: the loss; {RADIUS}; clip: each number is moved to the nearest one in between.",
        purpose="Makes, in several steps, inputs that look the same and mislead a model: the usual test of robustness.",
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
        use_for=("withstand attacks",),
        first_choice_for=("withstand attacks",),
        serves=("the likeliest class",),
        because="A classifier is to be trained to withstand small changes of its input, and one number is to set how "
        "much accuracy that may cost.",
        value=r"-\ln p_y + \beta \max_{\|x' - x\|_\infty \le \varepsilon} \sum_j p_j \ln\frac{p_j}{q_j},"
        r" \quad p = \operatorname{softmax}(f(x)),\; q = \operatorname{softmax}(f(x'))",
        symbols=rf"{MODEL}, a class; $x'$: an input near $x$; $\|\cdot\|_\infty$: the largest difference of a number; "
        rf"$\beta$: the price of robustness; {RADIUS}; {SOFTMAX}.",
        purpose="Trains a classifier to be right, and to say the same of all inputs near each other.",
        limits=(
            "Robustness is paid for with accuracy on clean inputs; beta sets the price.",
            "With the default of ten steps, a training step costs about ten times as much as one without it.",
            "The maximum is sought by a few steps from a random start, so the loss is a lower bound, and a noisy one.",
        ),
        paper="H. Zhang, Y. Yu, J. Jiao, E. P. Xing, L. El Ghaoui, M. I. Jordan, Theoretically principled trade-off"
        " between robustness and accuracy (2019)",
        url="https://arxiv.org/abs/1901.08573",
    ),
)
