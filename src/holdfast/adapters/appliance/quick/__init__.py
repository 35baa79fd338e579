"""The short way to files of plain ext file systems: read by The Sleuth Kit in a process that is
shut in, without starting a machine. What it does not know for certain is left to the appliance.

sandbox     what the process gives up before it reads   partitions  where volumes lie, as Linux
ext         which file systems it may read              counts them
process     the process: the appliance's answers        looker      the port, with the appliance
                                                        behind it
"""

from holdfast.adapters.appliance.quick.looker import QuickLooker

__all__ = ["QuickLooker"]
