"""Every system call of every verb fails in every way, one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from protocol.faults import FAULTS, cases, inject

if TYPE_CHECKING:
    from pathlib import Path

    from protocol.faults import Fault

pytestmark = pytest.mark.campaign


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_whichever_call_fails_no_message_is_lost_and_the_next_try_succeeds(
    fault: Fault, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    injected = 0
    for number, case in enumerate(cases(fault)):
        print(case)  # noqa: T201
        injected += inject(case, tmp_path / str(number))
    with capsys.disabled():
        print(f"\n{fault}: {injected:,} faults injected")  # noqa: T201
    assert injected
