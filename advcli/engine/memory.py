"""How much memory there is: what a batch and the number of lanes are bounded by."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["free", "installed"]

_ASSUMED = 4 * 2**30  # where a system does not say
_CGROUPS = Path("/sys/fs/cgroup")


def installed(device: str = "cpu") -> int:
    """Bytes that this process may use at most: the machine's, or its container's limit.

    The same from run to run on one machine; of a GPU, what TensorFlow was given.
    """
    if device.startswith("gpu"):
        return _gpu() or _ASSUMED
    return min([_physical(), *(limit for limit, _ in _limits())])


def free(device: str = "cpu") -> int:
    """Bytes that are left of it at this moment; of a GPU, all that TensorFlow was given."""
    if device.startswith("gpu"):
        return _gpu() or _ASSUMED
    found = re.search(r"MemAvailable:\s+(\d+) kB", _text(Path("/proc/meminfo")))
    available = int(found[1]) * 1024 if found else _physical()
    return max(0, min([available, *(limit - used for limit, used in _limits())]))


def _physical() -> int:
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not on Windows
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return _ASSUMED


def _limits() -> Iterator[tuple[int, int]]:
    """(limit, used) of the control groups that this process is in, Linux's containers."""
    own = re.search(r"^0::/(.*)$", _text(Path("/proc/self/cgroup")), re.MULTILINE)
    for folder in {_CGROUPS, _CGROUPS / (own[1] if own else "")}:
        limit = _text(folder / "memory.max").strip()
        if limit.isdecimal():
            used = _text(folder / "memory.current").strip()
            cached = re.search(r"^inactive_file (\d+)$", _text(folder / "memory.stat"), re.M)
            yield int(limit), int(used or 0) - (int(cached[1]) if cached else 0)
    folder = _CGROUPS / "memory"  # the first version
    limit = _text(folder / "memory.limit_in_bytes").strip()
    if limit.isdecimal():
        yield int(limit), int(_text(folder / "memory.usage_in_bytes").strip() or 0)


def _gpu() -> int | None:
    """Bytes of the GPU that TensorFlow computes on; None where it does not say."""
    from tensorflow.errors import AlreadyExistsError
    from tensorflow.python.client import device_lib

    try:
        devices = device_lib.list_local_devices()
    except AlreadyExistsError:  # one GPU of several was chosen, and this list numbers them all
        return None
    found = [device.memory_limit for device in devices if device.device_type == "GPU"]
    return int(found[0]) if found else None


def _text(file: Path) -> str:
    with contextlib.suppress(OSError):
        return file.read_text()
    return ""
