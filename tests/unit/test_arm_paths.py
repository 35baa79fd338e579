"""Paths: one form for every spelling a client may use; names stay as they are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdfast.arm.app import build_routes
from holdfast.arm.paths import PathForms

ROUTES = [route.path_components for route in build_routes(None, None).routes]  # type: ignore[arg-type]
FORMS = PathForms(ROUTES)
VAULT = "/subscriptions/S/resourceGroups/RG/providers/Microsoft.RecoveryServices/vaults/V"


def test_fixed_words_match_in_any_case_and_slashes_collapse() -> None:
    spelled = "//SUBSCRIPTIONS/S/resourcegroups//RG/Providers/microsoft.recoveryservices/VAULTS/V/"
    assert FORMS.normalise(spelled) == VAULT


def test_names_that_equal_fixed_words_stay_names() -> None:
    path = "/subscriptions/S/resourcegroups/Providers/providers/microsoft.recoveryservices/vaults"
    path += "/VaultConfig"
    assert FORMS.normalise(path) == (
        "/subscriptions/S/resourceGroups/Providers/providers/Microsoft.RecoveryServices/vaults"
        "/VaultConfig"
    )


def test_an_item_in_the_case_clients_send() -> None:
    path = VAULT.lower().replace("/v", "/V") + (
        "/backupfabrics/azure/protectioncontainers/Linux;Web1/protecteditems/FileFolder;Docs"
        "/recoverypoints/1/restore"
    )
    found = FORMS.normalise(path)
    assert "/backupFabrics/azure/protectionContainers/Linux;Web1/protectedItems/" in found
    assert found.endswith("FileFolder;Docs/recoveryPoints/1/restore")


def test_an_empty_policy_name_is_the_list() -> None:
    assert FORMS.normalise(VAULT + "/backupPolicies/") == VAULT + "/backupPolicies"


def test_unknown_addresses_stay_as_they_are() -> None:
    assert FORMS.normalise("/a//b/C/") == "/a/b/C"
    assert FORMS.normalise("/" + "x/" * 5000).count("x") == 5000
    assert FORMS.normalise("") == "/"


NAMES = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1)


@given(st.sampled_from(ROUTES), st.data())
def test_every_route_in_any_case_comes_to_its_own_form(
    route: list[object], data: st.DataObject
) -> None:
    words, sent, wanted = [], [], []
    for part in route:
        if isinstance(part, str):
            words.append(part)
            wanted.append(part)
            sent.append(data.draw(st.sampled_from([part, part.lower(), part.upper()])))
        else:
            name = data.draw(st.sampled_from(["n1", "Web;1", "a b", "é", "..", "%2F"]))
            wanted.append(name)
            sent.append(name)
    slashes = data.draw(st.sampled_from(["/", "//"]))
    assert FORMS.normalise(slashes + slashes.join(sent)) == "/" + "/".join(wanted)


@given(st.lists(NAMES, max_size=12))
def test_normalising_twice_changes_nothing(parts: list[str]) -> None:
    once = FORMS.normalise("/" + "/".join(parts))
    assert FORMS.normalise(once) == once
