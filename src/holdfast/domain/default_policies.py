"""The policies every new vault has."""

from __future__ import annotations

from typing import Any

_DAY = "2026-01-01T"


def _days(count: int) -> dict[str, Any]:
    return {"count": count, "durationType": "Days"}


def default_policy(at: str = "22:30") -> dict[str, Any]:
    """DefaultPolicy: daily at ``at`` (UTC), kept 30 days."""
    times = [f"{_DAY}{at}:00Z"]
    return {
        "backupManagementType": "AzureIaasVM",
        "policyType": "V1",
        "instantRPDetails": {},
        "schedulePolicy": {
            "schedulePolicyType": "SimpleSchedulePolicy",
            "scheduleRunFrequency": "Daily",
            "scheduleRunTimes": times,
            "scheduleWeeklyFrequency": 0,
        },
        "retentionPolicy": {
            "retentionPolicyType": "LongTermRetentionPolicy",
            "dailySchedule": {"retentionTimes": times, "retentionDuration": _days(30)},
        },
        "instantRpRetentionRangeInDays": 2,
        "timeZone": "UTC",
    }


def enhanced_policy() -> dict[str, Any]:
    """EnhancedPolicy: every 4 hours from 08:00 for 12 hours (UTC), kept 30 days."""
    times = [f"{_DAY}08:00:00Z"]
    return {
        "backupManagementType": "AzureIaasVM",
        "policyType": "V2",
        "instantRPDetails": {},
        "schedulePolicy": {
            "schedulePolicyType": "SimpleSchedulePolicyV2",
            "scheduleRunFrequency": "Hourly",
            "hourlySchedule": {
                "interval": 4,
                "scheduleWindowStartTime": times[0],
                "scheduleWindowDuration": 12,
            },
        },
        "retentionPolicy": {
            "retentionPolicyType": "LongTermRetentionPolicy",
            "dailySchedule": {"retentionTimes": times, "retentionDuration": _days(30)},
        },
        "instantRpRetentionRangeInDays": 7,
        "timeZone": "UTC",
    }


def hourly_log_backup(at: str = "22:30") -> dict[str, Any]:
    """HourlyLogBackup: full daily, log every hour, both kept 30 days."""
    times = [f"{_DAY}{at}:00Z"]
    return {
        "backupManagementType": "AzureWorkload",
        "workLoadType": "SQLDataBase",
        "settings": {"timeZone": "UTC", "issqlcompression": False, "isCompression": False},
        "subProtectionPolicy": [
            {
                "policyType": "Full",
                "schedulePolicy": {
                    "schedulePolicyType": "SimpleSchedulePolicy",
                    "scheduleRunFrequency": "Daily",
                    "scheduleRunTimes": times,
                    "scheduleWeeklyFrequency": 0,
                },
                "retentionPolicy": {
                    "retentionPolicyType": "LongTermRetentionPolicy",
                    "dailySchedule": {"retentionTimes": times, "retentionDuration": _days(30)},
                },
            },
            {
                "policyType": "Log",
                "schedulePolicy": {
                    "schedulePolicyType": "LogSchedulePolicy",
                    "scheduleFrequencyInMins": 60,
                },
                "retentionPolicy": {
                    "retentionPolicyType": "SimpleRetentionPolicy",
                    "retentionDuration": _days(30),
                },
            },
        ],
    }


def default_policies() -> dict[str, dict[str, Any]]:
    """Name -> ARM properties."""
    return {
        "DefaultPolicy": default_policy(),
        "EnhancedPolicy": enhanced_policy(),
        "HourlyLogBackup": hourly_log_backup(),
    }
