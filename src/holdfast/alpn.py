"""Names of the protocols that share the server's one port; a client offers them in its TLS hello.

Both are HTTP/1.1 over TLS. ``DATA`` asks for a connection of its own for packs and frames, which
the server gives a thread and no framework; where it cannot, it answers with ``HTTP`` and the same
calls work there.
"""

from __future__ import annotations

DATA = "holdfast-data/1"
HTTP = "http/1.1"
