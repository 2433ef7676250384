#!/bin/bash
# The first process of the lab's Debian (tools/lab.py), both disks mounted: what a host is by the time that anybody logs
# in, then the command of .cache/lab/command, then the end. Its parameters come by the kernel's command line.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb

parameter() { sed -n "s/.* $1=\([^ ]*\).*/\1/p" /proc/cmdline; }

# The status, and 1, is a byte at a port of QEMU's, which ends there. Had it no such port, the kernel would panic.
finish() {
    printf "\\x$(printf %x "$1")" | dd of=/dev/port bs=1 seek="$port" conv=notrunc status=none
}

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
ln -s /proc/self/fd /dev/fd
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
mount -t cgroup2 cgroup /sys/fs/cgroup
ip link set lo up
modprobe -a kvm_amd vhost_vsock tun loop

folder=$(parameter lab.folder) port=$(parameter lab.port)
cd "$folder" || exit
PATH=$folder/.cache/lab/bin:$PATH
bash -c "$(cat .cache/lab/command)" </dev/null
status=$?
finish $((status < 126 ? status + 1 : 127))
