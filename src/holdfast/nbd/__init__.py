"""Network block devices: reading and writing disks of other programs, and serving disks to them.

Blocking sockets and threads, the standard library only. ``client`` and ``server`` are the two
ends, ``device`` puts the client behind the ports, ``wire`` holds the protocol's numbers. Paragraph
names in comments are those of the protocol's public document (doc/proto.md of the NBD project).
"""
