"""What a model was made with: libraries, interpreter and machine, for its card."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

LIBRARIES = (
    "numpy", "scikit-learn", "lightgbm", "torch", "chronos-forecasting", "pytorch-forecasting",
    "onnx", "onnxruntime",
)  # fmt: skip
_CPUINFO = Path("/proc/cpuinfo")


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that shape a model; those not installed are left out."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def training_environment() -> dict[str, str]:
    """Return interpreter and machine: another CPU may give other last bits."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cpus": str(os.cpu_count() or 1),
    }


def cpu_features() -> list[str]:
    """Return what the processor can do, sorted: the last bits of a number depend on it."""
    return sorted((_cpuinfo("flags", "Features") or platform.processor()).split())


def _cpu() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(*names: str) -> str:
    """The first processor's value of a field; empty where Linux does not tell."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(names)), "")
