"""Names, roles, states and overdue items."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.domain import names
from holdfast.domain.access import (
    AGENT,
    CONTRIBUTOR,
    EXPORT_KEY,
    OPERATOR,
    OWNER,
    READER,
    RESTORE_ELSEWHERE,
    RESTORER,
    Assignment,
    Role,
    allowed,
    check_access,
)
from holdfast.domain.default_policies import default_policy, hourly_log_backup
from holdfast.domain.lifecycle import (
    ENDED,
    check_item_step,
    check_job_step,
    may_cancel,
    resumed_state,
)
from holdfast.domain.overdue import is_overdue
from holdfast.domain.policy import parse_policy
from holdfast.errors import AccessError, ConflictError, UsageError

RS = "Microsoft.RecoveryServices/vaults"
ITEMS = f"{RS}/backupFabrics/protectionContainers/protectedItems"
VAULT = "/subscriptions/S/resourceGroups/Home/providers/Microsoft.RecoveryServices/vaults/office"


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "docs ",
        "a;b",
        "a/b",
        "a\\b",
        "a?b",
        "a#b",
        'a"b',
        "a\nb",
        "a\0b",
        "\ud800",
        "x" * 151,
    ],
)
def test_bad_item_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        names.check_item(name)
    assert caught.value.code == "InvalidName"


@settings(deadline=None)
@given(st.text(max_size=160))
def test_item_names_that_pass_are_safe_in_an_address_and_come_back(name: str) -> None:
    try:
        full = names.item_name(name)
    except UsageError:
        return
    assert not set(full) & set('<>%&:\\?/#"\n\0')
    assert names.friendly(full) == name
    assert names.full_item_name(full) == names.full_item_name(name) == full
    assert names.check_full_item(full) == full
    full.encode()


def test_the_first_part_of_a_full_name_has_one_spelling() -> None:
    assert names.full_item_name("filefolder;docs") == "FileFolder;docs"
    assert names.full_container_name("LINUX;web1") == "Linux;web1"
    assert names.full_container_name("windows;pc") == "Windows;pc"
    assert names.full_container_name("web1") == names.container_name("web1") == "Linux;web1"
    assert names.container_name("pc", "Windows") == "Windows;pc"
    for name in ("VM;docs", "FileFolder", "FileFolder;", "FileFolder;a;b"):
        with pytest.raises(UsageError):
            names.check_full_item(name)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (
            names.check_vault,
            ["office", "a1", "A-b-9"],
            ["o", "1office", "of fice", "a" * 51, "a\n"],
        ),
        (names.check_group, ["home", "a.b(c)_d-e", "1"], ["", "home.", "a/b", "x" * 91]),
        (names.check_policy, ["DefaultPolicy", "a-1"], ["ab", "1abc", "a b c", "x" * 151]),
        (names.check_host, ["web1", "web1.example.org", "a"], ["", "-a", "a_b", "a;b", "a" * 300]),
        (names.check_region, ["local", "eu-1"], ["", "-x", "a/b"]),
    ],
)
def test_resource_names(check: object, good: list[str], bad: list[str]) -> None:
    assert callable(check)
    for name in good:
        assert check(name) == name
    for name in bad:
        with pytest.raises(UsageError):
            check(name)


def may(role: Role, action: str, scope: str = "/", at: str = VAULT) -> bool:
    return allowed([Assignment(role.id, scope)], action, at)


@pytest.mark.parametrize(
    ("action", "roles"),
    [
        (f"{RS}/read", {OWNER, CONTRIBUTOR, OPERATOR, READER}),
        (f"{RS}/write", {OWNER, CONTRIBUTOR}),
        (f"{RS}/delete", {OWNER}),
        (f"{RS}/backupPolicies/write", {OWNER, CONTRIBUTOR}),
        (f"{RS}/backupPolicies/delete", {OWNER, CONTRIBUTOR}),
        (f"{ITEMS}/write", {OWNER, CONTRIBUTOR, OPERATOR}),
        (f"{ITEMS}/delete", {OWNER, CONTRIBUTOR}),
        (f"{ITEMS}/backup/action", {OWNER, CONTRIBUTOR, OPERATOR}),
        (f"{ITEMS}/recoveryPoints/restore/action", {OWNER, CONTRIBUTOR, OPERATOR}),
        (f"{RS}/backupJobs/cancel/action", {OWNER, CONTRIBUTOR, OPERATOR}),
        (f"{RS}/backupFabrics/protectionContainers/delete", {OWNER, CONTRIBUTOR}),
        (RESTORE_ELSEWHERE, {OWNER, RESTORER}),
        (EXPORT_KEY, {OWNER}),
        ("Holdfast.Backup/vaults/createVaultCredentials/action", {OWNER, CONTRIBUTOR, OPERATOR}),
        ("Holdfast.Backup/vaults/collect/action", {OWNER, CONTRIBUTOR}),
        ("Holdfast.Backup/regions/write", {OWNER}),
        ("Holdfast.Backup/audit/read", {OWNER}),
        ("Holdfast.Backup/clients/write", {OWNER}),
        ("Microsoft.Authorization/roleAssignments/write", {OWNER}),
        ("Holdfast.Backup/agents/call/action", {OWNER, AGENT}),
    ],
)
def test_the_table_of_roles(action: str, roles: set[Role]) -> None:
    every = (OWNER, CONTRIBUTOR, OPERATOR, READER, RESTORER, AGENT)
    assert {role.name for role in every if may(role, action)} == {role.name for role in roles}
    assert {role for role in every if may(role, action.upper())} == roles


def test_an_assignment_reaches_what_is_below_its_scope_only() -> None:
    read = f"{RS}/read"
    group = "/subscriptions/S/resourceGroups/home"
    assert may(READER, read, "/subscriptions/s") and may(READER, read, group + "/")
    assert may(READER, read, VAULT.upper(), VAULT + "/backupJobs/1")
    assert not may(READER, read, group, group + "2/x")
    assert not may(READER, read, "/subscriptions/T")
    assert not may(READER, read, VAULT, group)
    assert not allowed([Assignment("no-such-role", "/")], read, VAULT)
    with pytest.raises(AccessError) as caught:
        check_access([], read, VAULT, "ann")
    assert caught.value.code == "AuthorizationFailed" and "ann" in caught.value.message


@pytest.mark.parametrize("ended", sorted(ENDED))
def test_ended_jobs_stay_ended_and_running_ones_may_end(ended: str) -> None:
    check_job_step("InProgress", ended)
    check_job_step("Cancelling", ended)
    check_job_step(ended, ended)
    for after in ("InProgress", "Cancelling", *(ENDED - {ended})):
        with pytest.raises(ConflictError):
            check_job_step(ended, after)
    with pytest.raises(ConflictError):
        check_job_step("Cancelling", "InProgress")
    assert may_cancel("Backup", "InProgress")
    assert not may_cancel("Backup", ended) and not may_cancel("Purge", "InProgress")


def test_stopped_items_are_resumed_before_they_are_suspended() -> None:
    check_item_step("Protected", "BackupsSuspended")
    check_item_step("BackupsSuspended", "ProtectionStopped")
    check_item_step("ProtectionStopped", "Protected")
    with pytest.raises(ConflictError) as caught:
        check_item_step("ProtectionStopped", "BackupsSuspended")
    assert caught.value.code == "UserErrorInvalidProtectionState"
    assert (resumed_state(True), resumed_state(False)) == ("Protected", "IRPending")


def test_an_item_is_overdue_a_day_after_a_slot_without_success() -> None:
    policy = parse_policy(default_policy("22:30"))
    made = datetime(2026, 3, 1, 12, tzinfo=UTC)
    slot = datetime(2026, 3, 1, 22, 30, tzinfo=UTC)
    soon, late = slot + timedelta(hours=23), slot + timedelta(hours=24)
    assert not is_overdue(policy, "IRPending", None, made, soon)
    assert is_overdue(policy, "IRPending", None, made, late)
    assert not is_overdue(policy, "Protected", slot + timedelta(minutes=5), made, late)
    assert is_overdue(policy, "Protected", slot - timedelta(minutes=5), made, late)
    assert not is_overdue(policy, "ProtectionStopped", None, made, late)
    assert not is_overdue(policy, "IRPending", None, slot, late)
    assert not is_overdue(parse_policy(hourly_log_backup()), "Protected", None, made, late)
