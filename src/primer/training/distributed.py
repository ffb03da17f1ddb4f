"""Several processes that train one model: who am I, how many are we, and what is the mean of this number.

`torchrun` tells each process its place through the environment (RANK, WORLD_SIZE, LOCAL_RANK …); this file is the
only one that reads it, but for cli/main.py, which knows no torch. One process needs none of this, and every function
here is then the identity.
"""

import gc
import itertools
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class World:
    """This process among its siblings."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    """How many of them share this machine."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def mean(self, value: Tensor) -> Tensor:
        """The mean over all processes of equally shaped tensors."""
        if self.size == 1:
            return value
        total = value.clone()
        dist.all_reduce(total)
        return total / self.size

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes of equally shaped tensors."""
        if self.size > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value

    def first(self, number: int, device: torch.device) -> int:
        """What rank 0 says."""
        if self.size == 1:
            return number
        said = torch.tensor([number], device=device)
        dist.broadcast(said, src=0)
        return int(said.item())

    def gather(self, value: Tensor) -> list[Tensor]:
        """Every process's tensor, by rank."""
        if self.size == 1:
            return [value]
        found = [torch.empty_like(value) for _ in range(self.size)]
        dist.all_gather(found, value)
        return found

    @contextmanager
    def first_goes_ahead(self) -> Iterator[None]:
        """The first process goes through alone, then the others follow: it makes what they only open."""
        if self.size == 1:
            yield
            return
        store = dist.distributed_c10d._get_default_store()
        turn = f"primer_ahead_{next(_TURNS)}"
        if not self.is_first:
            _wait_for(store, turn)
        try:
            yield
        finally:  # also where it failed: the others are to fail as well, and not to wait
            if self.is_first:
                store.set(turn, "passed")


_TURNS = itertools.count()
"""Every process counts how often one has gone ahead, in the same order."""


def _wait_for(store: dist.Store, key: str, at_once: timedelta = timedelta(minutes=5)) -> None:
    """However long it takes (a barrier of torch's gives up after minutes, and preparing FineWeb takes hours).

    Where the first process died, torchrun ends this one.
    """
    while True:
        with suppress(dist.DistStoreError):  # it has waited long enough, for once
            store.wait([key], at_once)
            return


def place() -> World:
    """Where torchrun put this process; alone where there is no torchrun."""
    env = os.environ
    names = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
    return World(*(int(env.get(name, default)) for name, default in names.items()))


def launch() -> str | None:
    """A name for this launch of torchrun, the same after it has restarted its processes; None without torchrun.

    torchrun's own run id will not do: it is "none" unless one is given. So the first process to ask leaves a word.
    """
    store = _agent_store()
    return store.compare_set("primer_launch", "", secrets.token_hex(8)).decode() if store else None


def restarted() -> bool:
    """Whether torchrun has started these processes again, because one of them died (`--max-restarts`)."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def _agent_store() -> dist.Store | None:
    """The store that torchrun keeps as long as it runs."""
    env = os.environ
    if env.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    store: dist.Store = dist.TCPStore(env["MASTER_ADDR"], int(env["MASTER_PORT"]), is_master=False)  # type: ignore[attr-defined]
    return store


def _rendezvous() -> dist.Store | None:
    """Where processes find each other's addresses; None is torch's own way.

    torchrun keeps its store when it starts processes again, and a process that was quick then read the address of
    one that had died: gloo's "connection refused". So every start writes under a prefix of its own.
    """
    store = _agent_store()
    prefix = f"start_{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    return store and dist.PrefixStore(prefix, store)  # type: ignore[attr-defined]


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """Join the other processes: nccl between GPUs, gloo between CPUs.

    By the end nothing may hold the group any more: its threads end with it, and one that still let go of a tensor
    while the interpreter was ending would abort the process ("terminate called without an active exception").
    """
    world = place()
    if world.size == 1:
        yield world
        return
    import torch.distributed.nn  # noqa: F401 - imported later (DDP does), its functions' defaults would hold the group

    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=_rendezvous(), rank=world.rank, world_size=world.size)
    try:
        yield world
    finally:
        _let_go_of_the_group()
        dist.destroy_process_group()


def _let_go_of_the_group() -> None:
    """Make torch's meshes forget the group: caches of DTensor keep them, and a failed run's frames its FSDP states."""
    if "torch.distributed.fsdp" not in sys.modules:
        return
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp._fully_shard._fsdp_common import FSDPMeshInfo

    for found in gc.get_objects():
        if type(found) is DeviceMesh:
            vars(found).get("_pg_registry", {}).clear()
        elif type(found) is FSDPMeshInfo:
            vars(found).pop("shard_process_group", None)
