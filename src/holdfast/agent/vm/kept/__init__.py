"""Local copies of machines' disks, one set for each recovery point: ``records`` what is noted of
them, ``taking`` how one is made in a point in time, ``copies`` all of a host's: found, told,
removed when their time is over."""
