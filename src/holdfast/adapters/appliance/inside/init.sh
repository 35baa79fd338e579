#!/bin/busybox sh
# First program of the appliance: what the kernel needs to be seen and reached, then the program
# that answers.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
$b mount -t tmpfs run /run
while read -r module; do $b insmod "/lib/modules/$module"; done </lib/modules/start
cd /holdfast && exec /usr/bin/python3 -I -S -B -c "
import sys
sys.path.insert(0, '/holdfast')
from inside import serve
serve.main()
"
