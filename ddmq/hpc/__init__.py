"""ddmq in cluster jobs: the worker and what it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddmq.hpc.executor.calls import CallFailed
    from ddmq.hpc.executor.executor import Executor
    from ddmq.hpc.functions.library import Worker
    from ddmq.hpc.functions.serving import Reject, Release, serve

__all__ = ["CallFailed", "Executor", "Reject", "Release", "Worker", "serve"]


def __getattr__(name: str) -> Any:
    """Import what a program of the user's needs, which no worker does."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in ("CallFailed", "Executor"):
        from ddmq.hpc.executor import calls, executor

        return getattr(executor if name == "Executor" else calls, name)
    if name == "Worker":
        from ddmq.hpc.functions.library import Worker

        return Worker
    from ddmq.hpc.functions import serving

    return getattr(serving, name)
