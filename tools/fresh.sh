#!/bin/bash
# Runs what a new user would run, where a new user would: on a Debian 12 that holds git, make, python3, ca-certificates.
#
#     [ARCH=arm64] tools/fresh.sh COMMAND...    for bash, in a fresh clone of what is committed
#
# ARCH is an architecture of Debian's: each program in there is that one's, run by QEMU where it is not this machine's.
# As root, on a Debian with apt. The new root is a folder in .cache/fresh, entered by pivot_root (in a chroot user
# namespaces are refused) in namespaces of its own: when this ends, whatever fails, its mounts and processes go with
# the namespaces, and then the folder. What was downloaded stays for the next run: packages, wheels, zig's C library.
set -euo pipefail

die() { printf 'fresh: %s\n' "$*" >&2; exit 1; }

# In the namespaces, as their first process ------------------------------------------------------------------------

mount_kept() {  # NAME TARGET: what is kept between runs
    mkdir -p "$kept/$1" "$root$2"
    mount --bind "$kept/$1" "$root$2"
}

enter() {
    mount --make-rprivate /
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /sys "$root/sys"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs -o mode=755 tmpfs "$root/run"
    mount_kept apt /var/cache/apt/archives
    mount_kept pip /root/.cache/pip
    mount_kept zig "$home/.cache/zig"
    mkdir -p "$root/.outside"
    cd "$root"
    pivot_root . .outside
    umount -l /.outside
    rmdir /.outside
}

inside() {
    root=$1 kept=$2 home=$3
    shift 3
    enter
    cd "$home"
    bash -c "$*"  # no exec: the first process of a namespace reaps whatever loses its parent
}

# Outside ----------------------------------------------------------------------------------------------------------

copy() {  # FILE OR FOLDER...: those that are here, to the same place in there
    local each
    for each; do
        [ ! -e "$each" ] || { mkdir -p "$root$(dirname "$each")"; cp -RLT "$each" "$root$each"; }
    done
}

make_root() {
    tools/debian-root.sh "$root" git,make,python3,ca-certificates "${ARCH:-}"
    copy /etc/resolv.conf /etc/hosts /etc/apt/auth.conf /etc/apt/auth.conf.d /etc/apt/keyrings /etc/apt/trusted.gpg.d \
        /etc/pip.conf /root/.config/pip /root/.pip /root/.npmrc /root/.config/go /usr/local/share/ca-certificates \
        /etc/ssl/certs/ca-certificates.crt
    [ ! -d "${PIP_FIND_LINKS:-}" ] || copy "$PIP_FIND_LINKS"
    git clone --quiet "file://$PWD" "$root$home"
    # Of another architecture, zig would take an hour for its C library: it is this machine's, and makes the same.
    [ -z "${ARCH:-}" ] || cp -r .venv/lib/python3*/site-packages/ziglang "$root/opt"
}

# Of our variables those that lead to a registry, and nothing else that only a developer has.
environment() {
    local words='[a-z]+_proxy|PIP_[A-Z_]+|NPM_CONFIG_[A-Z_]+|GO[A-Z]*(PROXY|SUMDB)|SSL_CERT_[A-Z]+|[A-Z_]*CA_(BUNDLE|CERTS)|TERM|CI'
    env | grep -iE "^($words)=" || true
    [ -z "${ARCH:-}" ] || printf '%s\n' EMULATED=1 ZIG=/opt/ziglang/zig
}

cleanup() {
    trap '' INT TERM
    if [ -n "$namespaces" ] && kill -INT -- "-$namespaces" 2>/dev/null; then
        for _ in $(seq 600); do kill -0 "$namespaces" 2>/dev/null || break; sleep 0.1; done  # it removes its networks
        kill -KILL -- "-$namespaces" 2>/dev/null || true
        wait "$namespaces" 2>/dev/null || true
    fi
    rm -rf --one-file-system "$work"
}

outside() {
    cd "$(dirname "$0")/.."
    [ "$(id -u)" = 0 ] || die "cannot make a new root: only root can"
    kept=$PWD/.cache/fresh/kept home=/root/hypercontainer namespaces=
    mkdir -p "$kept"
    exec 9>.cache/fresh/lock
    flock -n 9 || die "cannot make a new root: another run in this checkout has one"
    rm -rf --one-file-system .cache/fresh/root.*  # of a run that was killed
    work=$(mktemp -d "$PWD/.cache/fresh/root.XXXXXX")
    root=$work/root
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    echo "fresh: making a Debian 12${ARCH:+ of $ARCH} in $root"
    make_root
    local variables
    mapfile -t variables < <(environment)
    echo "fresh: in there: $*"
    set -m  # a group of its own, so that it gets the signals that we send, and no others
    env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "${variables[@]}" \
        unshare --mount --pid --fork --kill-child "$0" --inside "$root" "$kept" "$home" "$@" 9>&- </dev/null &
    namespaces=$!
    set +m
    local status=0
    wait "$namespaces" || status=$?
    namespaces=
    exit $status
}

if [ "${1:-}" = --inside ]; then shift; inside "$@"; else outside "${@:?there is no COMMAND}"; fi
