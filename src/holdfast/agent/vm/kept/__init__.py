"""Local copies of machines' disks, one set for each recovery point: ``records`` what is noted of
them, ``taking`` how one is made in a point in time, ``backup_copy`` what a backup does with its
own, ``copies`` all of a host's: found, told, removed when their time is over; ``restoring`` disks
out of them."""
