"""Accounts of people, alerts and deleted vaults: what is asked for. Values are checked by the
handlers."""

from __future__ import annotations

from typing import Any

from holdfast.arm.schemas.kinds import AnyCount, AnyText, AnyTexts, Shape


class DefinitionAsked(Shape):
    """A custom role, whatever it holds: it is refused."""

    properties: Any = None


class IdsAsked(Shape):
    """Whose names are wanted."""

    ids: AnyTexts = None
    types: AnyTexts = None


class ProviderAsked(Shape):
    """Who the OpenID provider says it is."""

    subject: AnyText = None


class UserProperties(Shape):
    """Either a password or a provider that vouches."""

    display_name: AnyText = None
    password: AnyText = None
    external: Any = None
    provider: ProviderAsked | None = None


class UserAsked(Shape):
    properties: UserProperties | None = None


class PasswordProperties(Shape):
    password: AnyText = None


class PasswordAsked(Shape):
    properties: PasswordProperties | None = None


class OwnPasswordProperties(Shape):
    old: AnyText = None
    new: AnyText = None


class OwnPasswordAsked(Shape):
    properties: OwnPasswordProperties | None = None


class CommentAsked(Shape):
    comments: AnyText = None


class AlertSettingsProperties(Shape, forbid_unknown_fields=True):
    emails: AnyTexts = None
    webhooks: AnyTexts = None
    severity: AnyCount = None


class AlertSettingsAsked(Shape):
    properties: AlertSettingsProperties | None = None


class UndeleteProperties(Shape):
    recovery_resource_group_id: AnyText = None


class UndeleteAsked(Shape):
    properties: UndeleteProperties | None = None
