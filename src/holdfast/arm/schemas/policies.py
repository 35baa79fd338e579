"""The grammar of policies. It documents them, and says of what kind every field is:
``domain/policy*.py`` reads what decides, and refuses it with codes of Azure's own."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from holdfast.arm.schemas.kinds import Id, Shape, Text, Workload

Day = Literal["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
Month = Literal[
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
]  # fmt: skip
Week = Literal["First", "Second", "Third", "Fourth", "Last"]
Count = Annotated[int, msgspec.Meta(ge=1, le=9999)]
_ISO = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})?$"
Time = Annotated[
    str, msgspec.Meta(max_length=40, pattern=_ISO, extra_json_schema={"format": "date-time"})
]


class Duration(Shape):
    count: Count
    duration_type: Literal["Days", "Weeks", "Months", "Years"]


class Hours(Shape):
    interval: Literal[4, 6, 8, 12, 24]
    schedule_window_start_time: Time
    schedule_window_duration: Annotated[int, msgspec.Meta(ge=4, le=24)]


class Days(Shape):
    schedule_run_times: list[Time]


class Weeks(Shape):
    schedule_run_days: list[Day]
    schedule_run_times: list[Time]


class SchedulePolicy(Shape):
    schedule_policy_type: (
        Literal["SimpleSchedulePolicy", "SimpleSchedulePolicyV2", "LogSchedulePolicy"] | None
    ) = None
    schedule_run_frequency: Literal["Daily", "Weekly", "Hourly"] | None = None
    schedule_run_days: list[Day] | None = None
    schedule_run_times: list[Time] | None = None
    schedule_weekly_frequency: Annotated[int, msgspec.Meta(ge=0, le=4)] | None = None
    hourly_schedule: Hours | None = None
    daily_schedule: Days | None = None
    weekly_schedule: Weeks | None = None
    schedule_frequency_in_mins: Annotated[int, msgspec.Meta(ge=15, le=1440)] | None = None


class DayOfMonth(Shape):
    """1 to 28, or the last, beside which clients send any date."""

    date: Annotated[int, msgspec.Meta(ge=0, le=31)] | None = None
    is_last: bool | None = None


class DailyFormat(Shape):
    days_of_the_month: list[DayOfMonth] | None = None


class WeeklyFormat(Shape):
    days_of_the_week: list[Day] | None = None
    weeks_of_the_month: list[Week] | None = None


class Kept(Shape, kw_only=True):
    retention_times: list[Time] | None = None
    retention_duration: Duration


class KeptWeekly(Kept, kw_only=True):
    days_of_the_week: list[Day]


class KeptMonthly(Kept, kw_only=True):
    retention_schedule_format_type: Literal["Daily", "Weekly"]
    retention_schedule_daily: DailyFormat | None = None
    retention_schedule_weekly: WeeklyFormat | None = None


class KeptYearly(KeptMonthly, kw_only=True):
    months_of_year: list[Month]


class RetentionPolicy(Shape):
    retention_policy_type: Literal["LongTermRetentionPolicy", "SimpleRetentionPolicy"] | None = None
    daily_schedule: Kept | None = None
    weekly_schedule: KeptWeekly | None = None
    monthly_schedule: KeptMonthly | None = None
    yearly_schedule: KeptYearly | None = None
    retention_duration: Duration | None = None


class Tier(Shape):
    """Where points move to, and after which time; there is one tier here."""

    tiering_mode: Text | None = None
    duration: Annotated[int, msgspec.Meta(ge=0)] | None = None
    duration_type: Literal["Invalid", "Days", "Weeks", "Months", "Years"] | None = None


class SnapshotGroups(Shape):
    """Azure's resource groups of snapshots; kept for clients, without effect."""

    prefix: Text | None = msgspec.field(default=None, name="azureBackupRGNamePrefix")
    suffix: Text | None = msgspec.field(default=None, name="azureBackupRGNameSuffix")


class SnapshotDetails(Shape):
    """Of database snapshots."""

    instant_rp_retention_range_in_days: Annotated[int, msgspec.Meta(ge=1, le=30)] | None = None
    instant_rp_details: Text | None = msgspec.field(default=None, name="instantRPDetails")
    user_assigned_managed_identity_details: dict[str, Any] | None = None


class SubPolicy(Shape):
    policy_type: Literal[
        "Full", "Differential", "Incremental", "Log", "CopyOnlyFull", "SnapshotFull",
        "SnapshotCopyOnlyFull",
    ]  # fmt: skip
    schedule_policy: SchedulePolicy | None = None
    retention_policy: RetentionPolicy | None = None
    tiering_policy: dict[str, Tier] | None = None
    snapshot_backup_additional_details: SnapshotDetails | None = None


class VaultRetention(Shape):
    vault_retention: RetentionPolicy
    snapshot_retention_in_days: Annotated[int, msgspec.Meta(ge=1, le=30)]


class PolicyProperties(Shape):
    backup_management_type: Literal["AzureIaasVM", "MAB", "AzureStorage", "AzureWorkload"]
    work_load_type: Workload | None = None
    policy_type: Literal["V1", "V2"] | None = None
    time_zone: Annotated[str, msgspec.Meta(max_length=100, examples=["UTC"])] | None = None
    instant_rp_retention_range_in_days: Annotated[int, msgspec.Meta(ge=1, le=30)] | None = None
    schedule_policy: SchedulePolicy | None = None
    retention_policy: RetentionPolicy | None = None
    vault_retention_policy: VaultRetention | None = None
    sub_protection_policy: list[SubPolicy] | None = None
    settings: dict[str, Any] | None = None
    make_policy_consistent: bool | None = None
    snapshot_consistency_type: Literal["OnlyCrashConsistent"] | None = None
    instant_rp_details: SnapshotGroups | None = msgspec.field(default=None, name="instantRPDetails")
    tiering_policy: dict[str, Tier] | None = None
    restore_test: dict[str, Any] | None = None
    consistency: dict[str, Any] | None = None
    protected_items_count: int | None = None
    resource_guard_operation_requests: list[Id] | None = None


class PolicyAsked(Shape):
    properties: PolicyProperties


class PreviewAsked(PolicyAsked, kw_only=True):
    """``name``: the policy the draft would replace; all items without it."""

    name: Text | None = None


class PlanAsked(Shape):
    """``properties`` for ``policy``; or ``policy`` for an ``item`` of a ``container``."""

    policy: Text
    properties: PolicyProperties | None = None
    container: Text | None = None
    item: Text | None = None
