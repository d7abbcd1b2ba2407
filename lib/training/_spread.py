"""One gradient, worked out in parts: by several processes, in several turns, or in fewer bits.

Whoever computes a part of the outputs, the loss is taken of the outputs of the whole batch. So it need not be a mean
over the samples: one with ignored targets, weighted classes or negatives from the batch is the same in parts.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}


def device() -> torch.device:
    """Return where training happens: CUDA where it is present, this process's own under torchrun, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", torch.cuda.current_device())))


@contextmanager
def processes() -> Iterator[None]:
    """Join the processes that torchrun has started, for as long as the block lasts; without torchrun, do nothing.

    Within it ``fit`` shares each batch out among them. They talk by NCCL where each has a GPU, else by gloo.
    """
    if not distributed.is_torchelastic_launched():
        yield
        return
    where = device()
    # After a restart torchrun's store still holds the addresses of the processes that are gone: use other keys.
    store, number, count = next(distributed.rendezvous("env://"))
    store = distributed.PrefixStore(f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    backend = "nccl" if where.type == "cuda" else "gloo"
    distributed.init_process_group(backend, store=store, rank=number, world_size=count)
    if where.type == "cuda":
        torch.cuda.set_device(where)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Return the number of this process among those that train together, 0 where it is alone."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """Return how many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def spread(model: nn.Module, micro_batches: int, precision: str) -> nn.Module:
    """Return a model with the same parameters and outputs that works them out in parts.

    Args:
        model: lies on ``device()``. With several processes, all take the weights of the first.
        micro_batches: the number of parts into which each process cuts its share of a batch.
        precision: one of ``PRECISIONS``: what linear layers and convolutions compute in.

    Raises:
        ValueError: if the model has a batch normalisation, whose outputs depend on the whole batch, and works in parts.
    """
    if max(micro_batches, world_size()) > 1 and any(isinstance(part, _BatchNorm) for part in model.modules()):
        raise ValueError(
            "batch normalisation takes its statistics from what it sees at a time, so that a batch in parts gives "
            "another result than a whole one: use nn.GroupNorm or nn.LayerNorm, or one process and one micro-batch"
        )
    if micro_batches > 1 or precision != "float32":
        model = _InTurns(model, micro_batches, PRECISIONS[precision])
    return _Shared(model) if world_size() > 1 else model


class _InTurns(nn.Module):
    """Keeps what the backward pass needs of one micro-batch at a time, and computes it a second time for that."""

    def __init__(self, model, micro_batches, dtype):
        super().__init__()
        self.model, self.micro_batches, self.dtype = model, micro_batches, dtype

    def forward(self, input):
        with torch.autocast(input.device.type, self.dtype, enabled=self.dtype is not None):
            if self.micro_batches == 1:
                output = self.model(input)
            else:
                parts = input.chunk(self.micro_batches)
                output = torch.cat([checkpoint(self.model, part, use_reentrant=False) for part in parts])
        return output if self.dtype is None else output.float()  # the loss is not computed in half precision


class _Shared(nn.Module):
    """Computes this process's share of the outputs, and fetches the rest, through which no gradient flows."""

    def __init__(self, model):
        super().__init__()
        self.model = DistributedDataParallel(model)
        self.model.register_comm_hook(None, _sum_of_the_shares)

    def forward(self, input):
        own = _share(len(input))
        output = self.model(input[own])
        whole = output.new_zeros((len(input), *output.shape[1:]))
        whole[own] = output.detach()
        distributed.all_reduce(whole)
        return torch.cat([whole[: own.start], output, whole[own.stop :]])


def _share(length: int) -> slice:
    """Return which rows of a batch are this process's; shares differ by one row at most."""
    return slice(length * rank() // world_size(), length * (rank() + 1) // world_size())


def _sum_of_the_shares(_, bucket) -> torch.futures.Future[Tensor]:
    """Add up the gradients of all processes. DistributedDataParallel on its own would take their mean."""
    future = distributed.all_reduce(bucket.buffer(), async_op=True).get_future()
    return future.then(lambda done: done.value()[0])
