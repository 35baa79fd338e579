"""Machines that run from the vault.

records   what is kept of them on this host      serving   their disks, over a socket file
restore   starting one, and keeping it going     moving    its disks to local storage
watching  what goes on beside one                in_use     which image of a disk counts
rooms     folders among those of QEMU's user
trial     a recovery point tested by starting it   startable  whether it can be started here
"""
