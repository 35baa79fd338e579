"""Which consistency a point in time has, from what the guest did. Decides; asks nobody."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from holdfast.errors import SourceError
from holdfast.ports.hypervisor import Consistency, SnapshotOutcome, Wish

HOOK_STATUS = re.compile(r"fsfreeze hook has failed with status (\d+)")
REFUSED, NO_FREEZE, HOOK_FAILED = 3, 4, 5  # what our hook's exit codes say
SCRIPT_FAILED = ("Pre-Script", "Post-Script")


@dataclass(frozen=True, slots=True)
class Report:
    """What our hook left in the guest: lines ``key=value``. ``pre``, ``post``, ``hooks``: ok,
    failed or empty (none there). ``go_on``: continueBackupOnFailure."""

    nonce: str = ""
    pre: str = ""
    post: str = ""
    hooks: str = ""
    code: str = ""
    detail: str = ""
    go_on: bool = True


def read_report(text: bytes, nonce: str) -> Report | None:
    """None when it is another freeze's, or nobody's. Unknown keys are passed over."""
    values: dict[str, str] = {}
    for line in text.decode(errors="replace").splitlines():
        key, _, value = line.partition("=")
        values[key] = value[:500]
    if values.get("nonce") != nonce:
        return None
    known = {key: values.get(key, "") for key in ("pre", "post", "hooks", "code", "detail")}
    return Report(nonce=nonce, go_on=values.get("go_on") != "false", **known)


@dataclass(slots=True)
class FreezeRecord:
    """What happened around a freeze. ``why_not``, ``code``: why it was not tried. ``refused``: the
    agent's words. ``frozen``, ``thawed``: file systems by its count; ``thawed`` None when it did
    not say. ``listed``: how many it knows."""

    why_not: str = ""
    code: str = ""
    refused: str = ""
    frozen: int = 0
    thawed: int | None = None
    listed: int = 0
    windows: bool = False
    report: Report | None = None
    freeze_ms: float = 0.0
    errors: list[str] = field(default_factory=list)


Verdict = tuple[Consistency, str, str]  # level, reason, code


def judge(record: FreezeRecord, wish: Wish, disks: int, stop_ms: float) -> SnapshotOutcome:
    """SourceError with a code of Azure's when a script failed and the configuration says that the
    backup fails then (a machine of one disk gets a crash-consistent point all the same), or
    (ConsistencyNotReached) when the level is below ``wish.at_least``."""
    _refuse_if_asked(record, disks)
    level, reason, code = _verdict(record)
    if level > wish.best:
        level, reason = wish.best, f"no more than {wish.best.azure_name} was asked for"
    if level < wish.at_least:
        raise SourceError(
            f"the point in time would be {level.azure_name} only ({reason}), and {wish.asker} asks "
            f"for at least {wish.at_least.azure_name}",
            code="ConsistencyNotReached",
            hint="correct the cause in the guest, or ask for less: for this machine with holdfast "
            "vm protect NAME --at-least LEVEL, for all of a policy in its consistency",
            retry="later",
        )
    thawed = record.thawed or 0
    return SnapshotOutcome(level, reason, code, record.frozen, thawed, record.freeze_ms, stop_ms)


def _refuse_if_asked(record: FreezeRecord, disks: int) -> None:
    report = record.report
    failed = report is not None and not report.go_on and "failed" in (report.pre, report.post)
    if disks > 1 and (failed or hook_status(record.refused) == REFUSED):
        raise SourceError(
            "a script in the guest failed, and its configuration stops the backup then: "
            + (report.detail if report is not None else "see the guest's log"),
            code=report.code if report is not None and report.code else "Pre-ScriptExecutionFailed",
            hint="correct the script, or set continueBackupOnFailure in the guest's "
            "VMSnapshotScriptPluginConfig.json",
            retry="later",
        )


def hook_status(said: str) -> int | None:
    """The exit code in the agent's words, or None when it was no hook that failed."""
    found = HOOK_STATUS.search(said)
    return int(found.group(1)) if found else None


def _verdict(record: FreezeRecord) -> Verdict:
    if record.why_not:
        return Consistency.CRASH, record.why_not, record.code
    status = hook_status(record.refused)
    if status == NO_FREEZE:
        return _by_scripts(record, "the scripts ran; fsFreezeEnabled is false")
    if record.refused:
        return _not_frozen(record, status)
    if record.thawed is None:
        reason = "the guest agent did not say whether the file systems stayed frozen"
        return Consistency.CRASH, reason, "FreezeBroken"
    if record.thawed < record.frozen:
        reason = (
            f"the freeze did not last: {record.frozen} file systems were frozen and "
            f"{record.thawed} still were at the end"
        )
        return Consistency.CRASH, reason, "FreezeBroken"
    if record.frozen == 0:
        return Consistency.CRASH, "the guest has no file system that can be frozen", ""
    if record.windows:
        return Consistency.APPLICATION, "VSS froze the guest's applications", ""
    return _by_scripts(record, _counted(record))


def _not_frozen(record: FreezeRecord, status: int | None) -> Verdict:
    report = record.report
    if status is None:
        reason = f"the guest could not freeze its file systems: {record.refused}"
        return Consistency.CRASH, reason, "UserErrorFsFreezeFailed"
    reason = report.detail if report and report.detail else "the guest's freeze hook failed"
    code = report.code if report and report.code else "HookFailed"
    return Consistency.CRASH, reason, code


def _by_scripts(record: FreezeRecord, done: str) -> Verdict:
    """The file systems are good; did the applications take part?"""
    report = record.report
    if report is None:
        reason = f"{done}; the guest's freeze hook is not Holdfast's, so scripts do not count"
        return Consistency.FILE_SYSTEM, reason, ""
    if "failed" in (report.pre, report.post, report.hooks):
        return Consistency.FILE_SYSTEM, f"{done}; {report.detail}", report.code
    if report.pre == "ok" or report.hooks == "ok":
        return Consistency.APPLICATION, f"{done}; the guest's scripts ran before and after", ""
    return Consistency.FILE_SYSTEM, f"{done}; the guest has no pre- and post-scripts", ""


def _counted(record: FreezeRecord) -> str:
    if record.listed > record.frozen:
        return f"{record.frozen} of {record.listed} file systems were frozen"
    return f"{record.frozen} file systems were frozen"
