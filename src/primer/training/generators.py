"""Every random generator's state as plain data, so that a resumed run draws the numbers that it would have drawn."""

import base64

import torch
from jaxtyping import UInt8
from torch import Tensor

from primer.training.distributed import World

State = dict[str, str]


def encode(state: UInt8[Tensor, " n"]) -> str:
    """A generator's state as text."""
    return base64.b64encode(state.cpu().numpy().tobytes()).decode("ascii")


def decode(text: str) -> UInt8[Tensor, " n"]:
    """The inverse of `encode`."""
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)


def capture(device: torch.device) -> dict[str, Tensor]:
    """This process's generators: dropout draws from the one of the device it runs on."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore(states: dict[str, Tensor], device: torch.device) -> None:
    """Put this process's generators back."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])


def capture_all(device: torch.device, world: World) -> list[State]:
    """All processes' generators as text, by rank; every process must call this."""
    gathered: list[State] = [{} for _ in range(world.size)]
    for name, state in capture(device).items():
        carrier = state.to(device) if world.size > 1 and device.type == "cuda" else state
        for rank, each in enumerate(world.gather(carrier)):
            gathered[rank][name] = encode(each)
    return gathered


def restore_mine(states: list[State], device: torch.device, world: World) -> None:
    """Restore what this rank saved. On another number of processes dropout starts anew from the rank's seed."""
    if len(states) == world.size:
        restore({name: decode(text) for name, text in states[world.rank].items()}, device)
