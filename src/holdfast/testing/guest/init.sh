#!/bin/busybox sh
# First and only program of the test guest: mounts its disks, starts the guest agent, says it is up.
/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
words=" $(cat /proc/cmdline) "
for module in $(cat /lib/modules/order); do insmod "/lib/modules/$module" 2>/dev/null; done

waited=0
while [ ! -b /dev/vda ] && [ $waited -lt 50 ]; do sleep 0.1; waited=$((waited + 1)); done
for name in a b c d; do
  disk=/dev/vd$name
  [ -b "$disk" ] || continue
  [ -b "${disk}1" ] && disk=${disk}1
  mkdir -p "/mnt/$name"
  mount "$disk" "/mnt/$name" 2>/dev/null
done

port='' waited=0
while [ -z "$port" ] && [ $waited -lt 50 ]; do
  for name in /sys/class/virtio-ports/*/name; do
    [ -f "$name" ] && [ "$(cat "$name")" = org.qemu.guest_agent.0 ] &&
      port=/dev/$(basename "$(dirname "$name")")
  done
  [ -n "$port" ] || sleep 0.1
  waited=$((waited + 1))
done
case $words in
  *" agent=no "*) ;;
  *)
    [ -n "$port" ] && qemu-ga -m virtio-serial -p "$port" -F/etc/qemu/fsfreeze-hook -t /run \
      -f /run/qga.pid -l /run/qga.log &
    ;;
esac

# A counter on the first disk: shows that a restored machine boots and goes on from there.
[ -d /mnt/a ] && echo $(($(cat /mnt/a/boots 2>/dev/null || echo 0) + 1)) >/mnt/a/boots

# A writer that never stops: numbered lines on the last disk, so that a stalled guest shows.
case $words in
  *" writer=yes "*)
    (
      number=0
      while true; do
        number=$((number + 1))
        echo "$number" >/mnt/b/tick
        usleep 50000
      done
    ) &
    ;;
esac
echo "GUEST-READY boots=$(cat /mnt/a/boots 2>/dev/null)" >/dev/console
while true; do sleep 3600; done
