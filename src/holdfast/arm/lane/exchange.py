"""One request on a data connection: checked, answered, logged and counted as the API does it.

The calls served here are not written to the audit record one by one: packs are recorded as sums
when their session commits and ends.
"""

from __future__ import annotations

import logging
import time
import uuid
from typing import Any

import msgspec
from prometheus_client import Counter

from holdfast.arm.edge import correlation, count_request
from holdfast.arm.errors import error_body, status_of
from holdfast.arm.failures import defect, headers_of
from holdfast.arm.lane.packs import PackCalls, Reply, pack_path
from holdfast.arm.lane.wire import (
    GONE,
    Body,
    Head,
    Stream,
    answer_head,
    body_deadline,
    read_head,
)
from holdfast.errors import HoldfastError
from holdfast.logs import log_context
from holdfast.services.platform import Platform

log = logging.getLogger("holdfast.http")
bytes_total = Counter("holdfast_data_bytes", "Bytes of packs moved by data lanes", ["direction"])


class Exchange:
    """``perform`` serves one request and says whether another may follow."""

    def __init__(self, platform: Platform, calls: PackCalls, stream: Stream) -> None:
        self._platform = platform
        self._calls = calls
        self._stream = stream
        self._state: dict[str, Any] = {}
        self._headers: dict[str, str] = {}
        self._status = 499  # the client went away before the answer
        self._known = False

    def perform(self, data: bytes | HoldfastError) -> bool:
        """``data``: a head, or why there is none."""
        request_id = str(uuid.UUID(bytes=self._platform.rng.token(16), version=4))
        self._state = {"request_id": request_id}
        self._headers = {"cache-control": "no-store", "x-ms-request-id": request_id}
        with log_context(request_id=request_id):
            if isinstance(data, HoldfastError):
                return self._refuse(data, None)
            try:
                head = read_head(data)
            except HoldfastError as error:
                return self._refuse(error, None)
            return self._counted(head)

    def _counted(self, head: Head) -> bool:
        started = time.perf_counter()
        try:
            return self._answered(head) and head.keep_alive
        finally:
            seconds = time.perf_counter() - started
            count_request(head.method, head.path, self._status, seconds, self._state)

    def _answered(self, head: Head) -> bool:
        request_id = self._state["request_id"]
        given = head.headers.get("x-ms-correlation-request-id", "")
        self._headers["x-ms-correlation-request-id"] = correlation(given, request_id)
        body = head.body(self._stream)
        try:
            reply = self._reply(head, body)
        except HoldfastError as error:
            return self._refuse(error, body)
        except GONE:
            raise
        except Exception as error:  # noqa: BLE001 - shown as a defect
            return self._refuse(defect(head.path, request_id, error), body)
        self._send(reply)
        moved = body.size if head.method == "PUT" else reply.size
        bytes_total.labels("in" if head.method == "PUT" else "out").inc(moved)
        return body.left == 0

    def _reply(self, head: Head, body: Body) -> Reply:
        path = pack_path(head)
        principal = self._platform.authority.authenticate(head.headers.get("authorization"))
        self._state["principal"] = principal
        agent = self._calls.agent(principal, head, path)
        self._known = True
        return self._calls.perform(agent, head, path, body)

    def _send(self, reply: Reply) -> None:
        """What cannot be read any more after the head was sent cuts the connection."""
        self._status = 200
        headers = {"content-type": reply.media_type, **self._headers}
        deadline = body_deadline(reply.size)
        self._stream.send(answer_head(200, headers, reply.size), deadline)
        try:
            for piece in reply.pieces:
                self._stream.send(piece, deadline)
        except HoldfastError as error:
            log.warning("an answer was cut off: %s", error.message, extra={"code": error.code})
            raise ConnectionAbortedError("the answer was cut off") from error

    def _refuse(self, error: HoldfastError, body: Body | None) -> bool:
        """Answer with an error. A body on its way from a known agent is read first, or the agent
        would lose the answer; a stranger's is not."""
        self._status = status_of(error)
        self._state["error_code"] = error.code
        follows = False
        if body is not None and self._known and body.can_be_read:
            body.discard(self._calls.buffer)
            follows = True
        if self._status >= 500:
            log.warning("%s", error.message, extra={"code": error.code}, exc_info=error.__cause__)
        content = msgspec.json.encode(error_body(error))
        headers = {"content-type": "application/json", **self._headers, **headers_of(error)}
        if not follows:
            headers["connection"] = "close"
        self._stream.send(
            answer_head(self._status, headers, len(content)) + content, body_deadline(len(content))
        )
        return follows
