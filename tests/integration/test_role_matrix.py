"""Every route, called by every role given at every kind of scope: who is refused, and who is not.

The table below was written from Azure's table of operations and roles, not from our patterns. A
route that is not in it fails the test: whoever adds one says here who may call it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from holdfast.testing.api_routes import Route, all_routes
from holdfast.testing.in_process import InProcess, in_process

# who                    may
EVERYBODY = "everybody"  # log in
READ = "read"  # look
ASK = "ask"  # a question that is a POST, which Azure's Reader (*/read) may not send
OPERATE = "operate"  # enrol, protect, back up, restore, cancel
MANAGE = "manage"  # policies, configuration, ending protection, making vaults
CONTRIBUTE = "contribute"  # the end of vaults, groups, regions
OWN = "own"  # access, people, keys, the audit record
NOBODY = "nobody"  # (agents, by their own key)

MAY: dict[str, set[str]] = {
    "Owner": {EVERYBODY, READ, ASK, OPERATE, MANAGE, CONTRIBUTE, OWN},
    "Contributor": {EVERYBODY, READ, ASK, OPERATE, MANAGE, CONTRIBUTE},
    "Reader": {EVERYBODY, READ},
    "Backup Contributor": {EVERYBODY, READ, ASK, OPERATE, MANAGE},
    "Backup Operator": {EVERYBODY, READ, ASK, OPERATE},
    "Backup Reader": {EVERYBODY, READ, ASK},
    "Holdfast Restore To Other Containers": {EVERYBODY},
    "": {EVERYBODY},
}

# "list" behind the right: somebody with the right anywhere below gets the part they may see
TABLE = """
read       GET    /metrics
own        GET    /providers/Holdfast.Backup/audit
own        GET    /providers/Holdfast.Backup/clients
own        GET    /providers/Holdfast.Backup/clients/{client}
own        PUT    /providers/Holdfast.Backup/clients/{client}
own        DELETE /providers/Holdfast.Backup/clients/{client}
own        POST   /providers/Holdfast.Backup/clients/{client}/renewSecret
read       GET    /providers/Holdfast.Backup/regions
read       GET    /providers/Holdfast.Backup/regions/{region}
contribute PUT    /providers/Holdfast.Backup/regions/{region}
contribute DELETE /providers/Holdfast.Backup/regions/{region}
contribute POST   /providers/Holdfast.Backup/regions/{region}/adoptDisk
contribute POST   /providers/Holdfast.Backup/regions/{region}/failOver
own        GET    /providers/Holdfast.Backup/users
own        GET    /providers/Holdfast.Backup/users/{user}
own        PUT    /providers/Holdfast.Backup/users/{user}
own        DELETE /providers/Holdfast.Backup/users/{user}
own        POST   /providers/Holdfast.Backup/users/{user}/setPassword
own        POST   /providers/Holdfast.Backup/users/{user}/enableTotp
own        POST   /providers/Holdfast.Backup/users/{user}/disableTotp
own        POST   /providers/Holdfast.Backup/users/{user}/endSessions
own        POST   /providers/Holdfast.Backup/users/{user}/unlock
everybody  POST   /providers/Holdfast.Backup/changePassword
everybody  GET    /providers/Microsoft.Authorization/roleDefinitions
everybody  GET    /providers/Microsoft.Authorization/roleDefinitions/{role}
read       GET    /providers/Microsoft.RecoveryServices/operations
everybody  GET    /subscriptions
everybody  GET    /tenants
everybody  GET    /v1.0/me
own        GET    /v1.0/users
own        GET    /v1.0/users/{user}
own        GET    /v1.0/servicePrincipals
read list  POST   /v1.0/directoryObjects/getByIds
read list  GET    {S}
read list  GET    {S}/locations
read list  GET    {S}/providers/Holdfast.Backup
read list  GET    {S}/providers/Microsoft.Authorization
read list  GET    {S}/providers/Microsoft.RecoveryServices
read list  GET    {S}/providers/{namespace}
contribute POST   {S}/providers/Microsoft.RecoveryServices/register
contribute POST   {S}/providers/Microsoft.Authorization/register
contribute POST   {S}/providers/Microsoft.AlertsManagement/register
contribute POST   {S}/providers/Microsoft.Compute/register
contribute POST   {S}/providers/Microsoft.Storage/register
contribute POST   {S}/providers/Holdfast.Backup/register
read       GET    {S}/{RS}/locations/{location}/deletedVaults
read       GET    {S}/{RS}/locations/{location}/deletedVaults/{deleted}
read       GET    {S}/{RS}/locations/{location}/deletedVaults/{deleted}/operations/{operation}
manage     POST   {S}/{RS}/locations/{location}/deletedVaults/{deleted}/undelete
read list  GET    {S}/providers/Microsoft.AlertsManagement
ask        POST   {S}/{RS}/locations/{location}/backupStatus
ask        POST   {S}/{RS}/locations/{location}/backupPreValidateProtection
ask        POST   {S}/{RS}/locations/{location}/backupValidateFeatures
read list  GET    {S}/{RS}/vaults
read list  GET    {S}/resourceGroups
read       GET    {G}
read       HEAD   {G}
contribute PUT    {G}
contribute DELETE {G}
manage     POST   {G}/providers/Holdfast.Backup/importVault
read       GET    {G}/providers/Microsoft.ClassicStorage/storageAccounts/{name}
read       GET    {G}/providers/Microsoft.Compute/virtualMachines/{machine}
read list  GET    {G}/providers/Microsoft.Compute/virtualMachines
read list  GET    {S}/providers/Microsoft.Compute/virtualMachines
read list  GET    {S}/providers/Microsoft.Compute
read list  GET    {S}/providers/Microsoft.Storage
read       GET    {V}/providers/Holdfast.Backup/virtualMachines
read       GET    {V}/providers/Holdfast.Backup/virtualMachines/{machine}
operate    POST   {V}/providers/Holdfast.Backup/virtualMachines/{machine}/instantRestore
operate    POST   {V}/providers/Holdfast.Backup/virtualMachines/{machine}/migrate
operate    POST   {V}/providers/Holdfast.Backup/virtualMachines/{machine}/testRestore
read       GET    {V}/providers/Holdfast.Backup/virtualMachines/{machine}/restoreTests/{point}
read       GET    {G}/providers/Microsoft.Network/virtualNetworks/{name}
read list  GET    {S}/providers/Microsoft.Storage/storageAccounts
read list  GET    {G}/providers/Microsoft.Storage/storageAccounts
read       GET    {G}/providers/Microsoft.Storage/storageAccounts/{account}
contribute PUT    {G}/providers/Microsoft.Storage/storageAccounts/{account}
contribute DELETE {G}/providers/Microsoft.Storage/storageAccounts/{account}
operate    POST   {G}/{RS}/locations/{location}/checkNameAvailability
read list  GET    {G}/{RS}/vaults
read       GET    {V}
manage     PUT    {V}
manage     PATCH  {V}
contribute DELETE {V}
read       GET    {V}/backupDeletedProtectionContainers
read       GET    {V}/backupEncryptionConfigs/backupResourceEncryptionConfig
manage     PUT    {V}/backupEncryptionConfigs/backupResourceEncryptionConfig
read       GET    {V}/backupEngines
read       GET    {F}/operationResults/{operation}
read       GET    {F}/operationsStatus/{operation}
read       GET    {F}/protectableContainers
operate    POST   {F}/refreshContainers
read       GET    {C}
operate    PUT    {C}
manage     DELETE {C}
operate    POST   {C}/inquire
read       GET    {C}/items
read       GET    {C}/operationResults/{operation}
read       GET    {C}/operationsStatus/{operation}
read       GET    {I}
operate    PUT    {I}
manage     DELETE {I}
operate    POST   {I}/backup
read       GET    {I}/operationResults/{operation}
read       GET    {I}/operationsStatus/{operation}
read       GET    {I}/recoveryPoints
read       GET    {I}/recoveryPoints/{point}
operate    POST   {I}/recoveryPoints/{point}/restore
read       GET    {I}/recoveryPoints/{point}/providers/Holdfast.Backup/files
operate    POST   {I}/recoveryPoints/{point}/providers/Holdfast.Backup/listFiles
operate    POST   {I}/recoveryPoints/{point}/providers/Holdfast.Backup/restoreFiles
operate    POST   {I}/recoveryPoints/{point}/provisionInstantItemRecovery
operate    POST   {I}/recoveryPoints/{point}/listInstantItemRecoveryOperationResult
operate    POST   {I}/recoveryPoints/{point}/revokeInstantItemRecovery
read       GET    {V}/backupJobs
ask        POST   {V}/backupJobsExport
read       GET    {V}/backupJobs/operationResults/{operation}
read       GET    {V}/backupJobs/operationsStatus/{operation}
read       GET    {V}/providers/Holdfast.Backup/jobExports/{operation}
read       GET    {V}/providers/Holdfast.Backup/report
read       GET    {V}/providers/Holdfast.Backup/alertSettings
manage     PUT    {V}/providers/Holdfast.Backup/alertSettings
read       GET    {V}/backupJobs/{job}
operate    POST   {V}/backupJobs/{job}/cancel
read       GET    {V}/backupJobs/{job}/operationResults/{operation}
read       GET    {V}/backupJobs/{job}/operationsStatus/{operation}
read       GET    {V}/backupOperationResults/{operation}
read       GET    {V}/backupOperations/{operation}
read       GET    {V}/backupPolicies
read       GET    {V}/backupPolicies/{policy}
manage     PUT    {V}/backupPolicies/{policy}
manage     DELETE {V}/backupPolicies/{policy}
read       GET    {V}/backupPolicies/{policy}/operationResults/{operation}
read       GET    {V}/backupPolicies/{policy}/operations/{operation}
read       GET    {V}/backupProtectableItems
read       GET    {V}/backupProtectedItems
read       GET    {V}/backupProtectionContainers
read       GET    {V}/backupProtectionIntents
read       GET    {V}/backupResourceGuardProxies
read       GET    {V}/backupResourceGuardProxies/{proxy}
read       GET    {V}/backupUsageSummaries
read       GET    {V}/backupconfig/vaultconfig
manage     PUT    {V}/backupconfig/vaultconfig
manage     PATCH  {V}/backupconfig/vaultconfig
read       GET    {V}/backupstorageconfig/vaultstorageconfig
manage     PUT    {V}/backupstorageconfig/vaultstorageconfig
manage     PATCH  {V}/backupstorageconfig/vaultstorageconfig
read       GET    {V}/operationResults/{operation}
read       GET    {V}/operationStatus/{operation}
read       GET    {V}/operationsStatus/{operation}
read       GET    {V}/privateLinkResources
manage     DELETE {V}/registeredIdentities/{name}
read       GET    {V}/replicationUsages
read       GET    {V}/usages
operate    POST   {V}/providers/Holdfast.Backup/createVaultCredentials
operate    POST   {V}/providers/Holdfast.Backup/previewPolicy
operate    POST   {V}/providers/Holdfast.Backup/planPolicyChange
operate    POST   {V}/providers/Holdfast.Backup/verify
operate    POST   {V}/providers/Holdfast.Backup/scrub
manage     POST   {V}/providers/Holdfast.Backup/repair
manage     POST   {V}/providers/Holdfast.Backup/expire
manage     POST   {V}/providers/Holdfast.Backup/collect
manage     POST   {V}/providers/Holdfast.Backup/confirmClock
own        POST   {V}/providers/Holdfast.Backup/exportKey
own        POST   {V}/providers/Holdfast.Backup/acceptHead
read       GET    {V}/providers/Holdfast.Backup/logAudit
"""
# the same at a subscription, a group and a vault
AT_SCOPES = """
read       GET    /providers/Microsoft.Authorization/roleDefinitions
read       GET    /providers/Microsoft.Authorization/roleDefinitions/{role}
own        PUT    /providers/Microsoft.Authorization/roleDefinitions/{role}
own        DELETE /providers/Microsoft.Authorization/roleDefinitions/{role}
read       GET    /providers/Microsoft.Authorization/roleAssignments
read       GET    /providers/Microsoft.Authorization/roleAssignments/{assignment}
own        PUT    /providers/Microsoft.Authorization/roleAssignments/{assignment}
own        DELETE /providers/Microsoft.Authorization/roleAssignments/{assignment}
read       GET    /providers/Microsoft.AlertsManagement/alerts
read       GET    /providers/Microsoft.AlertsManagement/alerts/{alert}
read       GET    /providers/Microsoft.AlertsManagement/alerts/{alert}/history
operate    POST   /providers/Microsoft.AlertsManagement/alerts/{alert}/changestate
"""
RS = "providers/Microsoft.RecoveryServices"
SHORT = {
    "{S}": "/subscriptions/{sub}",
    "{G}": "/subscriptions/{sub}/resourceGroups/{group}",
    "{RS}": RS,
    "{V}": "{G}/{RS}/vaults/{vault}",
    "{F}": "{V}/backupFabrics/{fabric}",
    "{C}": "{F}/protectionContainers/{container}",
    "{I}": "{C}/protectedItems/{item}",
}
AGENTS = "/providers/Holdfast.Backup/agents"


@dataclass(frozen=True)
class Expected:
    """Who may call a route, and whether a right below is enough."""

    right: str
    is_list: bool


def spelt(path: str) -> str:
    while any(short in path for short in SHORT):
        for short, long in SHORT.items():
            path = path.replace(short, long)
    return path


def lines() -> Iterator[str]:
    yield from TABLE.strip().splitlines()
    for line in AT_SCOPES.strip().splitlines():
        for scope in ("{S}", "{G}", "{V}"):
            yield line.replace(" /providers", f" {scope}/providers")


def table() -> dict[tuple[str, str], Expected]:
    found: dict[tuple[str, str], Expected] = {}
    for line in lines():
        right, *more = line.split()
        method, path = more[-2:]
        key = (method, spelt(path))
        assert key not in found, line
        found[key] = Expected(right, "list" in more)
    return found


EXPECTED = table()
ROUTES = [route for route in all_routes() if not route.is_public]


def expected(route: Route) -> Expected:
    if route.path.startswith(AGENTS):
        return Expected(NOBODY, False)
    return EXPECTED[route.method, route.path]


def test_the_table_names_exactly_what_is_served() -> None:
    served = {(one.method, one.path) for one in ROUTES if not one.path.startswith(AGENTS)}
    assert served - EXPECTED.keys() == set(), "say in the table who may call these"
    assert EXPECTED.keys() - served == set(), "these are gone"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    """The vaults v1 in rg1 and other in rg-other. The walk goes to places that do not exist, so
    that nobody's call changes what the next one meets."""
    with in_process(tmp_path_factory.mktemp("roles") / "server") as made:
        admin = made.holder("Owner", made.subscription)
        for vault, group in (("v1", "rg1"), ("other", "rg-other")):
            home = f"{made.subscription}/resourceGroups/{group}"
            assert made.call("PUT", home, {"location": "local"}, token=admin).status == 201
            body = {"location": "local", "properties": {}}
            assert made.call("PUT", made.vault(vault, group), body, token=admin).status == 201
        yield made


WHERE = ("subscription", "group", "vault", "elsewhere")
MEANINGLESS = {"properties": 0, "location": 0}  # so that nothing is made or ended on the way
NAMES = {"group": "rg9", "vault": "v9", "fabric": "Azure", "location": "local"}


def scope_of(server: InProcess, where: str) -> str:
    group = f"{server.subscription}/resourceGroups/rg9"
    return {
        "subscription": server.subscription,
        "group": group,
        "vault": server.vault("v9", "rg9"),
        "elsewhere": server.vault("other", "rg-other"),
    }[where]


def reaches(where: str, route: Route, *, is_list: bool) -> bool:
    """Whether a role given at ``where`` counts for the route's address, v9 in rg9."""
    about = (
        "vault" if "/vaults/{vault}" in route.path else
        "group" if "/resourceGroups/{group}" in route.path else
        "subscription"
    )  # fmt: skip
    if is_list:
        return where != "elsewhere" or about == "subscription"
    return WHERE.index(where) <= WHERE.index(about)


@pytest.mark.parametrize("role", MAY)
def test_every_route_by_a_role_at_every_scope(server: InProcess, role: str) -> None:
    """Refused with 403 and Azure's code, or answered in another way."""
    wrong, counted = [], Counter[bool]()
    names = NAMES | {"sub": server.subscription.rpartition("/")[2]}
    asked = [
        (route.method, route.filled(**names), None if route.reads else MEANINGLESS)
        for route in ROUTES
    ]
    for where in WHERE if role else WHERE[:1]:
        answers = server.walk(asked, server.holder(role, scope_of(server, where)))
        for route, answer in zip(ROUTES, answers, strict=True):
            says = expected(route)
            may = says.right == EVERYBODY or (
                says.right in MAY[role] and reaches(where, route, is_list=says.is_list)
            )
            refused = answer.status == 403 and (
                route.method == "HEAD" or answer.code == "AuthorizationFailed"
            )
            if refused == may or answer.status >= 500 or answer.status == 401:
                wrong.append(f"{where}: {route}: {answer.status} {answer.code}")
            counted[refused] += 1
    assert wrong == []
    assert min(counted[True], counted[False]) > 0


def test_an_agents_token_opens_nothing_of_the_rest(server: InProcess) -> None:
    """Not even with its role at the widest scope."""
    names = NAMES | {"sub": server.subscription.rpartition("/")[2]}
    token = server.holder("", "/", kind="agent")
    rest = [route for route in ROUTES if not route.path.startswith(AGENTS)]
    asked = [(one.method, one.filled(**names), None if one.reads else MEANINGLESS) for one in rest]
    answers = zip(rest, server.walk(asked, token), strict=True)
    opened = {(route.method, route.path) for route, answer in answers if answer.status != 403}
    assert opened == {key for key, one in EXPECTED.items() if one.right == EVERYBODY}
