"""Opening a bucket with the credentials that were given, and none of its own finding.

The library underneath also takes credentials, endpoints and switches from the environment and asks
a cloud's metadata service; each of these is set here, so that a store is where its address says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from holdfast.adapters.object_store.rules import check_key
from holdfast.errors import UsageError

if TYPE_CHECKING:
    from holdfast.adapters.object_store.s3 import S3Store

LOOPBACK = ("127.0.0.1", "localhost", "::1")
BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
FIELDS = ("access_key_id", "secret_access_key", "session_token", "endpoint", "region")
ENVIRONMENT = {
    "access_key_id": "AWS_ACCESS_KEY_ID",
    "secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
    "endpoint": "AWS_ENDPOINT_URL",
    "region": "AWS_REGION",
}
REGION = "us-east-1"
CONNECT = timedelta(seconds=10)
SMALL = timedelta(seconds=120)  # for any request but the PUT of an upload
LARGE = timedelta(seconds=1200)  # 64 MiB at half a Mbit/s


def open_s3(
    bucket: str,
    prefix: str,
    credentials: Mapping[str, str],
    environment: Mapping[str, str] = os.environ,
) -> S3Store:
    """The store in ``bucket`` under ``prefix``. Without any credentials those of ``environment``
    are used. Nothing is asked of the service. UsageError (InvalidStoreUrl,
    InvalidStoreCredentials, AdapterMissing)."""
    if not BUCKET.fullmatch(bucket):
        raise UsageError(
            f"{bucket[:80]!r} is no name of a bucket",
            code="InvalidStoreUrl",
            hint="give s3://BUCKET/PREFIX; credentials are given apart",
        )
    if prefix:
        check_key(prefix)
    known = _checked(credentials or _of_environment(environment))
    try:
        from holdfast.adapters.object_store.s3 import S3Store

        return S3Store(
            _bucket(bucket, prefix, known, SMALL),
            _bucket(bucket, prefix, known, LARGE),
            f"s3://{bucket}/{prefix}",
        )
    except ImportError as error:
        raise UsageError(
            "S3 stores need the extra 's3'",
            code="AdapterMissing",
            hint="install it: pipx install 'holdfast[s3]'",
        ) from error


def _of_environment(environment: Mapping[str, str]) -> dict[str, str]:
    found = {field: environment.get(name, "") for field, name in ENVIRONMENT.items()}
    return {field: value for field, value in found.items() if value}


def _checked(credentials: Mapping[str, str]) -> Mapping[str, str]:
    """The credentials; UsageError that names what is wrong with them, without their values."""
    unknown = sorted(set(credentials) - set(FIELDS))
    missing = [name for name in FIELDS[:2] if not credentials.get(name)]
    if unknown:
        raise _refused(f"unknown fields {unknown}")
    if missing:
        raise _refused(f"no {' and no '.join(missing)}")
    if not all(isinstance(value, str) for value in credentials.values()):
        raise _refused("a field is no text")
    _check_endpoint(credentials.get("endpoint", ""))
    return credentials


def _check_endpoint(endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
    except ValueError as error:
        raise _refused("the endpoint is no http(s) address") from error
    if endpoint and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise _refused("the endpoint is no http(s) address")
    if parts.username is not None or parts.query or parts.fragment:
        raise _refused("the endpoint holds more than an address")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise _refused("plain HTTP is for loopback only")


def _refused(why: str) -> UsageError:
    return UsageError(
        f"the S3 credentials cannot be used: {why}",
        code="InvalidStoreCredentials",
        hint=f"give a JSON file with {', '.join(FIELDS)}; the first two are needed",
    )


def _bucket(bucket: str, prefix: str, known: Mapping[str, str], timeout: timedelta) -> Any:
    from obstore.exceptions import BaseError
    from obstore.store import S3Store as Bucket

    region = known.get("region") or REGION
    endpoint = known.get("endpoint") or f"https://s3.{region}.amazonaws.com"
    key: dict[str, Any] = {
        "access_key_id": known["access_key_id"],
        "secret_access_key": known["secret_access_key"],
        "token": known.get("session_token") or None,
        "expires_at": None,
    }
    config: dict[str, Any] = {
        "aws_endpoint_url_s3": endpoint.rstrip("/"),
        "region": region,
        "conditional_put": "etag",
        "skip_signature": False,
        "unsigned_payload": False,
        "virtual_hosted_style_request": False,
    }
    try:
        return Bucket(
            bucket,
            prefix=prefix or None,
            config=config,
            client_options={
                "timeout": timeout,
                "connect_timeout": CONNECT,
                "allow_http": endpoint.startswith("http://"),
            },
            retry_config={"max_retries": 0},  # the retry layer repeats, and settles creates
            credential_provider=lambda: key,
        )
    except BaseError as error:
        raise _refused(type(error).__name__) from error
