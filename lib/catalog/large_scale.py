"""The entries of what computes a loss where the plain formula does not fit."""

from lib.catalog._entry import Tool
from lib.catalog._symbols import SOFTMAX, TEMPERATURE

TOOLS = (
    Tool(
        name="linear_cross_entropy",
        family="large_scale",
        title="Cross-entropy of a linear layer",
        use_for=("pick one class", "predict a sequence"),
        helps_against=("many classes", "little memory"),
        serves=("a probability", "the likeliest class"),
        because="The classes are so many, the words of a language, that their logits do not fit into memory; the "
        "result is the cross-entropy itself.",
        value=r"-\ln \operatorname{softmax}(W h + b)_y",
        symbols=rf"$h$: what goes into the layer; $W$ and $b$: its weight and bias; $y$: the true class; {SOFTMAX}.",
        purpose="It is the cross-entropy of a last layer with many classes, without the memory for all logits.",
        limits=(
            "It has no second derivative, and no vmap.",
            "Unless reduction is 'none', gradients are computed in the forward pass: an evaluation pays for them, "
            "except under torch.no_grad().",
        ),
        paper="P.-L. Hsu et al., Liger Kernel: Efficient Triton kernels for LLM training (2024)",
        url="https://arxiv.org/abs/2410.10989",
    ),
    Tool(
        name="distributed_nt_xent_loss",
        family="large_scale",
        title="NT-Xent over processes",
        use_for=("compare things",),
        helps_against=("little memory", "few labels", "no negative examples"),
        because="NT-Xent needs more rivals than one device can hold.",
        value=r"-\frac{1}{2N} \sum_i \ln\frac{e^{u_i \cdot u_{i'} / \tau}}{\sum_{j \ne i} e^{u_i \cdot u_j / \tau}}",
        symbols=r"$u_i$: the $2N$ embeddings of all processes, scaled to length 1; $u_{i'}$: the other view of the "
        f"same thing; {TEMPERATURE}.",
        purpose="It is nt_xent_loss of a batch that is spread over processes, with the rivals of all of them.",
        limits=(
            "Each process holds the embeddings of all.",
            "The gradient is right after an average over processes, as DistributedDataParallel takes it.",
        ),
        paper="T. Chen et al., A simple framework for contrastive learning of visual representations (2020)",
        url="https://arxiv.org/abs/2002.05709",
    ),
    Tool(
        name="distributed_clip_loss",
        family="large_scale",
        title="CLIP loss over processes",
        use_for=("compare things",),
        helps_against=("little memory", "no negative examples"),
        because="The CLIP loss needs more rivals than one device can hold.",
        value=r"-\frac{1}{2N} \sum_i \Bigl(\ln\frac{e^{u_i \cdot v_i / \tau}}{\sum_j e^{u_i \cdot v_j / \tau}}"
        r" + \ln\frac{e^{u_i \cdot v_i / \tau}}{\sum_j e^{u_j \cdot v_i / \tau}}\Bigr)",
        symbols="$u_i$, $v_i$: the embeddings of the $N$ pairs of all processes, images and texts, scaled to length 1; "
        f"{TEMPERATURE}.",
        purpose="It is clip_loss of a batch that is spread over processes, with the rivals of all of them.",
        limits=(
            "Each process holds the embeddings of all, and all their similarities.",
            "The gradient is right after an average over processes, as DistributedDataParallel takes it.",
        ),
        paper="A. Radford et al., Learning transferable visual models from natural language supervision (2021)",
        url="https://arxiv.org/abs/2103.00020",
    ),
)
