"""What the kernel says of a process: CPU time and memory, from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Sizes in MiB: the largest resident set so far, and the proportional share now."""

    peak_mib: float
    pss_mib: float


def cpu_us(pid: int) -> float:
    """CPU time of a process and its finished threads so far, user and system, in microseconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_US


def memory(pid: int) -> Memory:
    """Memory of a process."""
    peak = _kib(Path(f"/proc/{pid}/status").read_text(), "VmHWM")
    pss = _kib(Path(f"/proc/{pid}/smaps_rollup").read_text(), "Pss")
    return Memory(peak_mib=peak / 1024, pss_mib=pss / 1024)


def _kib(text: str, key: str) -> int:
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{key}:"))
