#!/bin/busybox sh
# The first program of a guest: its root is the host's, read-only, with Debian's NFS tools and
# a layer in memory above it. The kernel hands us NODE, SHARED and the like from its command line.
/bin/busybox --install -s /bin
export PATH=/bin
mkdir -p /proc /sys /dev /host /tools /memory /root
mount -t devtmpfs dev /dev
while read -r module; do insmod "/modules/$module"; done < /modules/order

share() { mount -t 9p -o "trans=virtio,version=9p2000.L,msize=262144,$3" "$1" "$2"; }
share host /host ro,cache=loose
share tools /tools ro,cache=loose
mount -t tmpfs memory /memory
mkdir /memory/upper /memory/work
mount -t overlay root /root \
    -o lowerdir=/tools:/host,upperdir=/memory/upper,workdir=/memory/work
mount -t proc proc /root/proc
mount -t sysfs sys /root/sys
mount --move /dev /root/dev
mkdir -p /root/dev/shm
mount -t tmpfs shm /root/dev/shm
mount -t tmpfs run /root/run
# What a guest writes here is the host's at once: it survives the guest's power.
mkdir -p "/root$SHARED"
share shared "/root$SHARED" cache=none
exec switch_root /root /bin/sh "$HERE/guest.sh"
