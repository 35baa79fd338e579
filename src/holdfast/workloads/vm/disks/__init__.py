"""Disks of machines into the vault and back, whatever reads and writes them (ports/block_device).

values      what is asked and what came of it   backup      several disks into one point
disk_run    one disk, leaf by leaf              blocks      reading blocks, zeros left out
parent      the point before, by its pages      audit       whether a dirty bitmap can be true
patched     a source that shows only changes    fetch       chunks of a disk, located and read
point       what a point holds                  restore     a disk of it into a target
point_disk  a disk of it at any offset          raw_file    disks as sparse files
standalone  from a vault's folder and its key   keys        of encrypted volumes, wrapped
"""
