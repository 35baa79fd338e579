"""Virtual machines of this host, backed up and restored: what keeps ``VmWork`` (agent/vm_work.py).

executor    the three calls       seen      what the server is told of machines
backup      one recovery point    watch     progress, and the room for what the guest overwrites
restore     disks as files        replace   the disks of a machine that is off
recovery    a host without machines   files     files out of a point
definition  a machine as files        staging   a folder that appears whole
keys        of encrypted volumes
"""
