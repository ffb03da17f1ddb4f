"""Started by the fixture `primer_process`: forks a `primer` for each request from one process that has torch loaded.

A request is one line of JSON, an order of `Primer.start` in conftest.py; so is the answer. A child lives in the
surroundings that were asked for, runs its commands one after the other, and leaves what they said in files. After
the first command the surroundings are good again, as if someone had freed space.
"""

import ctypes
import errno
import json
import os
import pwd
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import torch

from primer import device
from primer.cli import resume, train  # noqa: F401 - what nearly every child runs
from primer.cli.main import main

Order = dict[str, Any]

torch.set_num_threads(1)
device.matmul_rate = lambda *_: 1e10  # measuring takes longer than these trainings


def starve(order: Order) -> Callable[[], None]:
    """Take away what the order says; returns what gives it back."""
    give_back: list[Callable[[], None]] = []
    for name, kind, present in (
        ("file_size", resource.RLIMIT_FSIZE, 0),
        ("memory", resource.RLIMIT_AS, virtual_memory),
    ):
        if name in order:
            before = resource.getrlimit(kind)
            most = order[name] + (present() if callable(present) else present)
            resource.setrlimit(kind, (most, before[1]))
            give_back.append(lambda kind=kind, before=before: resource.setrlimit(kind, before))
    if "tmpfs" in order:
        mount_small(order["cwd"], order["tmpfs"])
        os.chdir(order["cwd"])
        give_back.append(lambda: remount(order["cwd"]))
    if "deny_after" in order:
        give_back.append(deny_writing(Path(order["cwd"]), order["deny_after"], order["errno"]))
    if order.get("powerless"):
        give_up_capabilities()
    return lambda: [each() for each in give_back] and None


def virtual_memory() -> int:
    """Bytes of address space that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWUSER, MS_REMOUNT = 0x00020000, 0x10000000, 32


def check(result: int) -> None:
    """Raise what a function of libc left in errno."""
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def mount_small(place: str, options: str) -> None:
    """A small file system at `place`, which only this process sees."""
    user, group = os.getuid(), os.getgid()
    check(LIBC.unshare(CLONE_NEWNS | CLONE_NEWUSER))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    check(LIBC.mount(b"none", place.encode(), b"tmpfs", 0, options.encode()))


def remount(place: str) -> None:
    """Make the small file system large."""
    check(LIBC.mount(b"none", place.encode(), b"tmpfs", MS_REMOUNT, b"size=64m,nr_inodes=10000"))


def deny_writing(below: Path, after: int, code: int) -> Callable[[], None]:
    """Refuse every touch of the disk below a folder that would write, all but the first so many."""
    left, full = after, True

    def refuse(path: Any) -> None:
        nonlocal left
        if not full or not os.fsdecode(path).startswith(str(below)):
            return
        left -= 1
        if left < 0:
            raise OSError(code, os.strerror(code), os.fsdecode(path))

    def hook(event: str, about: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(about[0], str) and about[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in ("os.rename", "os.mkdir"):
            refuse(Path(about[0]).absolute())

    def end() -> None:
        nonlocal full
        full = False

    synchronise = os.fsync

    def fsync(handle: int) -> None:
        refuse(os.readlink(f"/proc/self/fd/{handle}"))
        synchronise(handle)

    os.fsync = fsync
    sys.addaudithook(hook)
    return end


def give_up_capabilities() -> None:
    """From here on even the superuser is held to what a file's mode says."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    check(LIBC.capset(header, (ctypes.c_uint32 * 6)()))


def nobody(user: int) -> NoReturn:
    """What a container says of a user that it has no entry for."""
    raise KeyError(f"getpwuid(): uid not found: {user}")


def live(order: Order) -> int:
    """What a child does; the exit code of its last command, 77 where the surroundings cannot be made."""
    for name, value in order["environment"].items():
        os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
    tempfile.tempdir = None  # a library that torch finds (dill) has asked for it here, before TMPDIR was said
    if "HOME" in order["environment"] and "HOME" not in os.environ:
        pwd.getpwuid = nobody
    os.chdir(order["cwd"])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    codes: list[int] = []
    said = [os.open(order["said"] + end, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for end in (".out", ".err")]
    listed = os.open(order["said"] + ".codes", os.O_WRONLY | os.O_CREAT)
    for stream, handle in zip((1, 2), said, strict=True):
        os.dup2(handle, stream)
    try:
        relieve = starve(order)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EINVAL, errno.ENOSPC):
            print(error, file=sys.stderr)
            return 77
        raise
    for number, words in enumerate(order["commands"]):
        if number == 1:
            relieve()
        codes.append(main(words))
        sys.stdout.flush()
        sys.stderr.flush()
        os.pwrite(listed, json.dumps(codes).encode(), 0)
    relieve()
    if "keep" in order:
        shutil.copytree(order["cwd"], order["keep"])
    return codes[-1]


def answer(order: Order) -> dict[str, int]:
    """Start a child, or wait for one; or load modules that children would each load."""
    if "import" in order:
        return {"loaded": len([import_module(name) for name in order["import"]])}
    if "wait" in order:
        return {"code": os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1])}
    child = os.fork()
    if child == 0:
        code = 99
        try:
            code = live(order)
        except KeyboardInterrupt:  # came before or after the command itself
            code = 130
        except BaseException as error:
            print(f"the child broke: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    return {"pid": child}


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for pytest, which then closes our stdin
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
