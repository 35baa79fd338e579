"""What host and process say to each other beyond the appliance's own words."""

from __future__ import annotations

import struct

NEED = b"N"  # NEEDED: of which disk (its number), from where, how many bytes; answered with those
NEEDED = struct.Struct(">BQI")
MAX_READ = 1 << 20
NOT_HERE = b"NotQuick"  # of an END: the appliance is to do it
