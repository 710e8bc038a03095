"""Opening a network in ONNX Runtime, the same way everywhere."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ModelError, OptionError
from .runtime import ort

__all__ = ["open_session", "usable_cpus"]

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_SILENT_BELOW_ERROR = 3


def usable_cpus() -> int:
    """Return how many CPUs this process may use: its affinity, and a container's quota where there is one."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text(encoding="ascii").split()
        return max(1, min(count, int(quota) // int(period)))
    except (OSError, ValueError):
        # No such file outside Linux containers; the word "max" where there is no limit.
        return count


def open_session(model: bytes | Path, *, threads: int = 0) -> ort.InferenceSession:
    """Open a network for the CPU.

    Parameters
    ----------
    model
        The bytes of an ONNX file, or its path.
    threads
        Threads that one call may use; 0 takes as many as the process may use CPUs.

    Returns
    -------
    onnxruntime.InferenceSession
        ``run`` may be called from several threads at once.

    Raises
    ------
    OptionError
        If ``threads`` is negative.
    ModelError
        If the bytes are not a network that ONNX Runtime can run.
    """
    if threads < 0:
        msg = f"threads is {threads}; give 0 for as many as there are CPUs, or a positive number"
        raise OptionError(msg)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cpus()
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT_BELOW_ERROR
    # A waiting thread that spins takes a CPU from whatever else the process does.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = model if isinstance(model, bytes) else str(model)
    try:
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the errors of ONNX Runtime share no narrower base
        what = "the network in memory" if isinstance(model, bytes) else model
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        msg = f"{what}: ONNX Runtime cannot open it ({reason}); install the package again or fetch the file anew"
        raise ModelError(msg) from error
