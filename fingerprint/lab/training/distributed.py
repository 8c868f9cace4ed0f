"""Data-parallel training under torchrun, so that mining sees the whole batch."""

import os
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

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
    dist.init_process_group("nccl" if device.type == "cuda" else GLOO)
    try:
        yield World(dist.get_rank(), dist.get_world_size())
        if device.type != "cuda":
            _wait_until_released()
    finally:
        dist.destroy_process_group()


def _wait_until_released() -> None:
    """Exchange one more number, and wait until gloo has released it and all before it.

    Gloo's thread releases an exchange, and the Python objects that came with it, some time after
    the exchange is over. If Python has begun to exit by then, the process is aborted
    (https://github.com/pytorch/pytorch/pull/179291).
    """
    last = torch.zeros(1)
    alive = weakref.ref(last)
    dist.all_reduce(last)
    del last
    deadline = time.monotonic() + 60
    while alive() is not None and time.monotonic() < deadline:
        time.sleep(0.001)


def _gloo_of_one_thread(store: Any, rank: int, size: int, timeout: timedelta) -> Any:
    """Gloo with one thread instead of two, so that an exchange is released before the next."""
    gloo: Any = dist.ProcessGroupGloo  # whose types in PyTorch lack what is needed here
    options = gloo._Options()
    options._threads = 1
    options._timeout = timeout
    options._devices = [gloo.create_default_device()]
    return gloo(store, rank, size, options)


GLOO = "gloo_of_one_thread"
if dist.is_available():
    dist.Backend.register_backend(GLOO, _gloo_of_one_thread, devices=["cpu"])


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
