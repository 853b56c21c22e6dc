"""What batch schedulers call things, as data; the only module that reads the environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def environment() -> dict[str, str]:
    """Return a copy of this process's environment."""
    return dict(os.environ)


def with_variables(environ: Mapping[str, str], **variables: str) -> dict[str, str]:
    """Return an environment with `DDMQ_<NAME>` for each variable."""
    return {
        **environ,
        **{f"DDMQ_{key.upper()}": text for key, text in variables.items()},
    }
