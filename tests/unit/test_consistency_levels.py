"""Which consistency a point in time is said to have, and when a backup is refused for it."""

from __future__ import annotations

import pytest

from holdfast.adapters.hypervisor.qemu.levels import FreezeRecord, Report, judge, read_report
from holdfast.errors import SourceError
from holdfast.ports.hypervisor import Consistency, Wish

CRASH, FILES, APPLICATION = Consistency
HOOK = "hook has failed: fsfreeze hook has failed with status"
NO_SCRIPTS = Report()
GOOD = Report(pre="ok", post="ok")
PRE_FAILED = Report(pre="failed", code="Pre-ScriptTimeout", detail="/x took longer than 5 s")
POST_FAILED = Report(pre="ok", post="failed", code="Post-ScriptExecutionFailed", detail="/y failed")


def _froze(report: Report | None = NO_SCRIPTS, **changes: object) -> FreezeRecord:
    record = FreezeRecord(frozen=2, thawed=2, listed=2, report=report)
    for name, value in changes.items():
        setattr(record, name, value)
    return record


@pytest.mark.parametrize(
    ("record", "level", "code", "said"),
    [
        (_froze(), FILES, "", "no pre- and post-scripts"),
        (_froze(GOOD), APPLICATION, "", "scripts ran before and after"),
        (_froze(Report(hooks="ok")), APPLICATION, "", "scripts ran before and after"),
        (_froze(PRE_FAILED), FILES, "Pre-ScriptTimeout", "/x took longer than 5 s"),
        (_froze(POST_FAILED), FILES, "Post-ScriptExecutionFailed", "/y failed"),
        (_froze(None), FILES, "", "hook is not Holdfast's"),
        (_froze(None, windows=True), APPLICATION, "", "VSS"),
        (_froze(GOOD, thawed=0), CRASH, "FreezeBroken", "2 file systems were frozen and 0"),
        (_froze(GOOD, thawed=1), CRASH, "FreezeBroken", "and 1 still were"),
        (_froze(GOOD, thawed=None), CRASH, "FreezeBroken", "did not say"),
        (_froze(GOOD, listed=3), APPLICATION, "", "2 of 3 file systems"),
        (_froze(frozen=0, thawed=0), CRASH, "", "no file system that can be frozen"),
        (
            FreezeRecord(why_not="no agent", code="GuestAgentMissing"),
            CRASH,
            "GuestAgentMissing",
            "",
        ),
        (FreezeRecord(refused="Input/output error"), CRASH, "UserErrorFsFreezeFailed", "Input/out"),
        (FreezeRecord(refused=f"{HOOK} 1"), CRASH, "HookFailed", "freeze hook failed"),
        (FreezeRecord(refused=f"{HOOK} 4", report=GOOD), APPLICATION, "", "fsFreezeEnabled"),
        (FreezeRecord(refused=f"{HOOK} 4", report=POST_FAILED), FILES, "Post-Script", "/y failed"),
    ],
)
def test_levels(record: FreezeRecord, level: Consistency, code: str, said: str) -> None:
    outcome = judge(record, Wish(), 2, 5.0)
    assert outcome.level is level
    assert outcome.code.startswith(code)
    assert bool(outcome.code) == bool(code)
    assert said in outcome.reason


def test_no_more_than_what_was_asked_for() -> None:
    outcome = judge(_froze(GOOD), Wish(best=FILES), 2, 5.0)
    assert outcome.level is FILES


@pytest.mark.parametrize("least", [FILES, APPLICATION])
def test_too_low_a_level_fails_the_backup(least: Consistency) -> None:
    record = FreezeRecord(why_not="no guest agent runs in the guest")
    with pytest.raises(SourceError) as caught:
        judge(record, Wish(at_least=least), 2, 5.0)
    assert caught.value.code == "ConsistencyNotReached"
    assert "no guest agent runs" in caught.value.message


REFUSED = Report(pre="failed", code="Pre-ScriptExecutionFailed", detail="exit 7", go_on=False)


@pytest.mark.parametrize(
    ("record", "code"),
    [
        (FreezeRecord(refused=f"{HOOK} 3", report=REFUSED), "Pre-ScriptExecutionFailed"),
        (FreezeRecord(refused=f"{HOOK} 3"), "Pre-ScriptExecutionFailed"),
        (
            _froze(Report(post="failed", code="Post-ScriptTimeout", go_on=False)),
            "Post-ScriptTimeout",
        ),
    ],
)
def test_scripts_can_stop_a_backup(record: FreezeRecord, code: str) -> None:
    with pytest.raises(SourceError) as caught:
        judge(record, Wish(), 2, 5.0)
    assert caught.value.code == code


def test_a_machine_of_one_disk_is_backed_up_all_the_same() -> None:
    record = FreezeRecord(refused=f"{HOOK} 3", report=REFUSED)
    outcome = judge(record, Wish(), 1, 5.0)
    assert (outcome.level, outcome.code) == (CRASH, "Pre-ScriptExecutionFailed")
    assert "exit 7" in outcome.reason


def test_reports_of_other_freezes_do_not_count() -> None:
    text = b"nonce=abc\npre=ok\npost=ok\n"
    assert read_report(text, "abc") == Report(nonce="abc", pre="ok", post="ok")
    assert read_report(text, "abd") is None
    assert read_report(b"", "abc") is None
    assert read_report(b"\xff\x00nonsense\n=\nnonce", "abc") is None
    long = read_report(b"nonce=abc\ndetail=" + b"x" * 100_000, "abc")
    assert long is not None
    assert len(long.detail) == 500
