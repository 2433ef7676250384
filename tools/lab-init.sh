#!/bin/bash
# The first process of the lab's Debian (tools/lab.py), both disks mounted: what a host is by the time that anybody logs
# in, then the command of .cache/lab/command, then the end. Its parameters come by the kernel's command line.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb

parameter() { sed -n "s/.* $1=\([^ ]*\).*/\1/p" /proc/cmdline; }

# The status, and 1, is a byte at a port of QEMU's, which ends there. Had it no such port, the kernel would panic.
finish() {
    printf "\\x$(printf %x "$1")" | dd of=/dev/port bs=1 seek="$port" conv=notrunc status=none
}

# What Xen's services do on a dom0, and udev on other hosts.
start_xen() {
    modprobe -a xen-evtchn xen-gntdev xen-gntalloc xen-privcmd xen-blkback xen-netback xenfs
    mount -t xenfs xenfs /proc/xen
    mkdir -p /run/xen /run/xenstored /run/lock
    local programs=/usr/lib/xen-4.17/bin
    "$programs/xenstored" --pid-file /run/xenstored.pid
    until [ -S /run/xenstored/socket ]; do sleep 0.1; done
    "$programs/xen-init-dom0" >/dev/null
    "$programs/xenconsoled" --pid-file=/run/xenconsoled.pid
}

start_kvm() {
    modprobe -a kvm_amd vhost_vsock
    chgrp kvm /dev/kvm
    chmod 660 /dev/kvm
}

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
mount -t cgroup2 cgroup /sys/fs/cgroup
ip link set lo up
modprobe -a tun loop
if [ "$(cat /sys/hypervisor/type 2>/dev/null)" = xen ]; then start_xen; else start_kvm; fi

folder=$(parameter lab.folder) port=$(parameter lab.port)
cd "$folder" || exit
PATH=$folder/.cache/lab/bin:$PATH
bash -c "$(cat .cache/lab/command)" </dev/null
status=$?
finish $((status < 126 ? status + 1 : 127))
