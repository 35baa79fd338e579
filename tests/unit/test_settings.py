"""Settings: from file and environment, refused as a whole, every field documented."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.errors import UsageError
from holdfast.server import parse_listen
from holdfast.settings import (
    DESCRIPTIONS,
    FILE_NAME,
    OTHER_VARIABLES,
    AgentSettings,
    Settings,
    load_agent_settings,
    load_settings,
)


def test_every_field_is_documented() -> None:
    fields = {*Settings.__struct_fields__, *AgentSettings.__struct_fields__}
    assert set(DESCRIPTIONS) == fields


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('token_seconds = 120\nlog_level = "debug"\n')
    found = load_settings(tmp_path, {"HOLDFAST_TOKEN_SECONDS": "240", "HOLDFAST_GROUP": "rg"})
    assert (found.token_seconds, found.log_level) == (240, "debug")
    assert load_settings(tmp_path / "none", {}) == Settings()


def test_limits_are_azures_unless_an_operator_says_otherwise() -> None:
    of = Settings()
    assert (of.max_vaults, of.max_vault_policies, of.max_vault_items) == (500, 200, 2000)
    assert (of.max_policy_vms, of.max_item_points) == (100, 9999)
    assert (of.max_policy_changes_a_day, of.max_protection_changes_a_day) == (50, 1000)
    assert (of.max_vm_backups_a_day, of.max_vm_restores_a_day) == (9, 20)


@pytest.mark.parametrize(
    ("text", "environment", "named"),
    [
        ("[[[", {}, FILE_NAME),
        ("nonsense = 1", {}, "nonsense"),
        ('token_seconds = "soon"', {}, "token_seconds"),
        ("", {"HOLDFAST_TOKEN_SECONDS": "5"}, "token_seconds must be from 60"),
        ("", {"HOLDFAST_TICK_SECONDS": "nan"}, "tick_seconds"),
        ("", {"HOLDFAST_LOG_LEVEL": "loud"}, "log_level"),
        ("", {"HOLDFAST_TOKEN_SECOND": "240"}, "HOLDFAST_TOKEN_SECOND"),
        ("", {"HOLDFAST_PUBLIC_URL": "http://backup.example"}, "public_url"),
        ("\udcff", {}, FILE_NAME),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, text: str, environment: dict[str, str], named: str
) -> None:
    (tmp_path / FILE_NAME).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError) as raised:
        load_settings(tmp_path, environment)
    assert raised.value.code == "InvalidSettings"
    assert named in raised.value.message


@pytest.mark.parametrize(
    ("text", "environment", "named"),
    [
        ("token_seconds = 120", {}, "token_seconds"),
        ('log_level = "loud"', {}, "log_level"),
        ("", {"HOLDFAST_LOG_LEVEL": "bogus"}, "log_level"),
        ("", {"HOLDFAST_LOGLEVEL": "debug"}, "HOLDFAST_LOGLEVEL"),
    ],
)
def test_what_is_wrong_with_an_agent_is_named(
    tmp_path: Path, text: str, environment: dict[str, str], named: str
) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(UsageError) as raised:
        load_agent_settings(tmp_path, environment)
    assert raised.value.code == "InvalidSettings"
    assert named in raised.value.message


def test_names_of_others_stop_nobody(tmp_path: Path) -> None:
    others = dict.fromkeys([*OTHER_VARIABLES, "HOLDFAST_TEST_CLOCK", "HOLDFASTER"], "x")
    assert load_settings(tmp_path, others) == Settings()
    beside = {**others, "HOLDFAST_TOKEN_SECONDS": "240"}
    assert load_agent_settings(tmp_path, beside) == AgentSettings()


@pytest.mark.parametrize("listen", ["8443", "host", "127.0.0.1:99999", ":1", "127.0.0.1:x", "a:²"])
def test_addresses_that_are_none(listen: str) -> None:
    with pytest.raises(UsageError):
        parse_listen(listen)


def test_addresses() -> None:
    assert parse_listen("127.0.0.1:0") == ("127.0.0.1", 0)
    assert parse_listen("[::1]:8443") == ("::1", 8443)
