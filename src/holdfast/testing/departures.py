"""Where answers depart from what Azure publishes (contract.py), each with its reason; nothing else
may. The compatibility page of docs/reference shows them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from holdfast.testing.contract import Deviation

HINT = "what to do next; clients that know Azure's fields alone find it in additionalInfo"
HINT_OF_JOB = "what to do next, as the job says it"
LATER = "of a later version of the API than the description; newer clients send and read it"
TITLED = "the error's code, as the errors of other kinds of jobs have it"
RUNNING = "0001-01-01T00:00:00 while the operation goes on, as Azure writes it; az reads it so"


@dataclass(frozen=True, slots=True)
class Departure:
    """``field`` of the definition (or operation) ``of`` departs: ``what``, and ``why``."""

    of: str
    field: str
    what: str
    why: str

    def covers(self, found: Deviation) -> bool:
        return (
            fnmatchcase(found.of, self.of)
            and found.field == self.field
            and fnmatchcase(found.what, self.what)
        )


ADDED = "is not declared"
DEPARTURES: tuple[Departure, ...] = (
    *(Departure(of, "hint", ADDED, HINT) for of in ("CloudErrorBody", "Error", "*.error")),
    Departure("OperationStatusError", "hint", ADDED, HINT_OF_JOB),
    Departure("MabProtectionPolicy", "timeZone", ADDED, "policies of folders are kept centrally"),
    *(Departure("MabErrorInfo", name, ADDED, TITLED) for name in ("errorCode", "errorTitle")),
    Departure("VaultJobErrorInfo", "errorTitle", ADDED, TITLED),
    *(
        Departure("VaultJobExtendedInfo", name, ADDED, "az goes through it for jobs of every kind")
        for name in ("tasksList", "dynamicErrorMessage")
    ),
    Departure("AzureIaaSComputeVMProtectedItem", "policyType", ADDED, LATER),
    Departure("AzureIaaSVMProtectionPolicy", "restoreTest", ADDED, "ours: when points are tested"),
    Departure("AzureIaaSVMProtectionPolicy", "consistency", ADDED, "ours: the least of backups"),
    Departure("VaultProperties", "costManagementSettings", ADDED, LATER),
    Departure("GetOperationResult", "status", "204 is not declared", "the vault was deleted"),
    Departure("OperationStatus", "endTime", "is no date-time", RUNNING),
)


def added_fields(of: str) -> frozenset[str]:
    """What we add to a definition."""
    return frozenset(one.field for one in DEPARTURES if one.of == of and one.what == ADDED)


def undeparted(found: Iterable[Deviation]) -> list[Deviation]:
    """Those no departure covers."""
    return [one for one in found if not any(known.covers(one) for known in DEPARTURES)]
