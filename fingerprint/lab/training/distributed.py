"""Data-parallel training under torchrun, so that mining sees the whole batch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist


@dataclass(frozen=True, slots=True)
class World:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1


def local_device(device: torch.device) -> torch.device:
    """This process's own GPU under torchrun; the device itself otherwise."""
    if device.type == "cuda" and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device


@contextmanager
def world(device: torch.device) -> Iterator[World]:
    """Join the processes that torchrun started (NCCL on CUDA, gloo on CPU); alone without it."""
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        yield World()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size())
        # Threads of gloo may still hold tensors of the last exchange, and an interpreter that ends
        # meanwhile dies of it. After one that holds none, they do not.
        dist.barrier()
    finally:
        dist.destroy_process_group()


def gather(embeddings: Tensor, tracks: Tensor, world: World) -> tuple[Tensor, Tensor]:
    """Every rank's embeddings (C, ...) and tracks (C,), in the order of ranks, with gradients."""
    if world.size == 1:
        return embeddings, tracks
    everyone = [torch.empty_like(tracks) for _ in range(world.size)]
    dist.all_gather(everyone, tracks)
    return _Gather.apply(embeddings, world), torch.cat(everyone)  # type: ignore[no-untyped-call]


class _Gather(torch.autograd.Function):
    """All-gather whose gradient is the sum over ranks of what each computed for this rank's rows.

    Every rank computes the whole batch's loss, and data-parallel training then averages over
    ranks; the sum makes that average the gradient of the whole batch's loss.
    """

    @staticmethod
    def forward(context: torch.autograd.function.FunctionCtx, x: Tensor, world: World) -> Tensor:
        context.world = world  # type: ignore[attr-defined]
        own = x.contiguous()
        parts = [torch.empty_like(own) for _ in range(world.size)]
        dist.all_gather(parts, own)
        return torch.cat(parts)

    @staticmethod
    def backward(
        context: torch.autograd.function.FunctionCtx, *gradients: Tensor
    ) -> tuple[Tensor, None]:
        world: World = context.world  # type: ignore[attr-defined]
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return total.chunk(world.size)[world.rank], None
