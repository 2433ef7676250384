#!/bin/bash
# Lets clients that look for docker at /var/run/docker.sock find hyperd there: a link to its socket for docker's API.
#
#     tools/docker-sock.sh check    fail, in words, where a docker is: who asks for that one is to find it
#     tools/docker-sock.sh link     the same; else make the link, now, and at each boot where systemd runs
#     tools/docker-sock.sh offer    say how to have it, where no docker is
#
# DESTDIR stands before each path that is made.
set -euo pipefail
cd "$(dirname "$0")/.."

target=/run/hyper-docker.sock # the setting `docker_socket`, as it is by default
link=${DESTDIR:-}/run/docker.sock
conf=${DESTDIR:-}/etc/tmpfiles.d/hyper-docker.conf

other() { # what there is of docker; fails where there is nothing
    [ "$(readlink "$link" || true)" != "$target" ] || return 1
    if [ -e "$link" ] || [ -L "$link" ]; then echo "$link"; else command -v dockerd; fi
}

check() {
    local found
    ! found=$(other) || {
        echo "docker-sock: cannot link $link: a docker is here ($found); use DOCKER_HOST=unix://$target beside it" >&2
        exit 1
    }
}

case ${1:-} in
check) check ;;
link)
    check
    install -D -m 644 packaging/hyper-docker.conf "$conf"
    mkdir -p "$(dirname "$link")"
    ln -sfn "$target" "$link"
    echo "docker-sock: /var/run/docker.sock is $target, also after a boot ($conf, where systemd reads it)"
    ;;
offer)
    [ -L "$link" ] || other >/dev/null ||
        echo "docker-sock: no docker is here; for clients that look for it: make install DOCKER_SOCK=1"
    ;;
*)
    sed -n '2,8s/^# \?//p' "$0" >&2
    exit 2
    ;;
esac
