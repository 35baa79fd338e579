"""What the appliance and the host say to each other, byte by byte.

Host to appliance: a length (u32) and fields joined by NUL: ``volumes``; ``list``, path, after,
limit; ``read``, path, path ... . Appliance to host: frames of a kind (one letter), a length (u32)
and that many bytes. Every answer ends with END. A path begins with the name of its volume.
"""

from __future__ import annotations

import struct

HEAD = struct.Struct(">cI")
LENGTH = struct.Struct(">I")
ROW = struct.Struct(">cIIIqQ")  # type, mode, uid, gid, mtime in ns, size; then name NUL link target
SIZE = struct.Struct(">Q")
READY = b"G"  # it is up
VOLUME = b"V"  # name, file system, label, size, problem code, problem; joined by NUL
ENTRY = b"R"  # a row: its name in a list, its whole path in what is read
DATA = b"D"  # bytes of the file whose row was last
HOLE = b"Z"  # so many zero bytes of it (u64)
FINISH = b"F"  # the file is complete
PROBLEM = b"P"  # code, path, message: of one entry; the answer goes on
END = b"E"  # "", "more", or code NUL message
MAX_REQUEST = 1 << 20
MAX_FRAME = 1 << 18
PIECE = 1 << 17
