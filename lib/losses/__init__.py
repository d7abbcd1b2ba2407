"""Every loss of the course, written out in PyTorch: ``from lib import losses``.

The conventions are those of ``torch.nn.functional``: ``loss(input, target, *, options, reduction="mean")``, logits
rather than probabilities unless the name says otherwise.
"""

from lib.losses.classification import cross_entropy

__all__ = ["cross_entropy"]
