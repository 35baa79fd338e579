"""The HTTP protocol of the server: uvicorn's, with more of a body taken in at a time.

uvicorn stops reading a connection at 64 KiB and starts again when the application has taken them;
a pack of 32 MiB would be stopped and started five hundred times.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HELD_BYTES = 1024 * 1024  # of a body, before reading stops until the application has taken them


class BulkProtocol(HttpToolsProtocol):
    """For bodies of many megabytes."""

    def on_body(self, body: bytes) -> None:
        """Called by the parser with each piece of a body."""
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HELD_BYTES:
            self.flow.pause_reading()
        cycle.message_event.set()
