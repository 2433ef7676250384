#!/bin/bash
# Builds a QEMU of our own into .cache/hyper/qemu: Debian's source of the version that is installed, with the devices
# and features of host/qemu and no others. Installs the packages of debian-packages-qemu.txt that are missing, and
# nothing else; apt's lists of this host stay as they are. Built of the same things already, it is kept.
#
#     tools/qemu.sh [JOBS]    how many compilers at once; one a CPU when left out
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${1:-$(nproc)}
target=$PWD/.cache/hyper/qemu
lists=$PWD/host/qemu
say() { printf 'qemu: %s\n' "$*"; }
die() { say "$*" >&2; exit 1; }

read -r arch program package < <(.venv/bin/python -c '
from hypercontainer.hypervisor.qemu.machines import machine_of
from hypercontainer.model.arch import host
machine = machine_of(host().name)
print(machine.arch, machine.program, machine.package)')
devices=$lists/$arch.mak
[ -e "$devices" ] || die "cannot build one for $arch: there is no list of its devices in host/qemu"
version=$(dpkg-query -W -f '${source:Version}' "$package" 2>/dev/null) ||
    die "cannot tell which version to build: $package is not installed, and its firmware is needed too"

# Every word of a list, without its reason.
words() { sed -n 's/  # .*//p' "$1"; }

tools/packages.sh debian-packages-qemu.txt

mkdir -p "$target"
exec 9>"$target/.lock"
flock 9
key=$( (cat tools/qemu.sh; echo "$version"; gcc --version; ld --version; cat "$devices" "$lists/features") | sha256sum | cut -d' ' -f1)
if [ -x "$target/$program" ] && [ "$(cat "$target/.key" 2>/dev/null)" = "$key" ]; then
    say "$target/$program, of Debian's $version, is here"
    exit
fi
work=$target/.build
trap 'rm -rf "$work"' EXIT
rm -rf "$work"
mkdir -p "$work"/apt/{parts,state/lists/partial,cache/archives/partial}

# The host's own sources, asked for what is compiled in place of what is installed, by lists that are ours. Who is not
# signed is not taken: apt checks the index, and by it what it downloads.
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources}; do
    case $file in
        *.sources) sed -E 's/^Types:.*/Types: deb-src/' "$file" ;;
        *.list) sed -nE 's/^deb(-src)?[[:space:]]/deb-src /p' "$file" ;;
    esac >"$work/apt/parts/$(basename "$file")" 2>/dev/null || true
done
cat >"$work/apt/apt.conf" <<END
APT::Sandbox::User "root";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
#clear Acquire::Languages;
Acquire::Languages { "none"; };
Dir::State "$work/apt/state";
Dir::Cache "$work/apt/cache";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$work/apt/parts";
END
log=$target/build.log
logged() {
    nice -n 10 "$@" >>"$log" 2>&1 9>&- && return
    tail -n 20 "$log" >&2
    die "cannot build $version: $1 failed; all that it said is in $log"
}
: >"$log"
say "downloading Debian's source of $version"
logged apt-get -c "$work/apt/apt.conf" -q update
cd "$work"
logged apt-get -c "$work/apt/apt.conf" -q source --download-only "qemu=$version"
logged dpkg-source -x ./*.dsc source
mkdir build
cd build
words "$devices" >"../source/configs/devices/$arch-softmmu/hyper.mak"

say "configuring $(words "$devices" | wc -l) devices and $(words "$lists/features" | wc -l) features"
export DEB_CFLAGS_MAINT_STRIP=-g  # what Debian compiles with, but for words of debuggers
mapfile -t features < <(words "$lists/features" | sed 's/^/--enable-/')
# With a prefix that nothing is below QEMU looks for firmware where it is, and not at the same place beside itself
logged ../source/configure --target-list="$arch-softmmu" --without-default-features "${features[@]}" \
    --without-default-devices "--with-devices-$arch=hyper" --audio-drv-list= --meson=meson \
    --prefix=/hyper --firmwarepath=/usr/share/qemu:/usr/share/seabios --disable-install-blobs --disable-debug-info \
    --with-git-submodules=ignore --disable-werror --with-pkgversion="HyperContainer, of Debian $version" \
    --extra-cflags="$(dpkg-buildflags --get CFLAGS) $(dpkg-buildflags --get CPPFLAGS)" \
    --extra-ldflags="$(dpkg-buildflags --get LDFLAGS) -Wl,--as-needed"
# QEMU leaves out without a word what lacks what it depends on
for line in $(words "$devices"); do
    grep -qx "$line" "$arch-softmmu-config-devices.mak" || die "cannot build $version: it does not get $line"
done
say "compiling, $jobs at a time"
logged ninja -j "$jobs" "$program"
strip "$program"
"./$program" -device help >/dev/null || die "cannot use what was built: see above"
rm -f "$target/.key"
mv "$program" "$target/"
echo "$key" >"$target/.key"
say "$target/$program, of Debian's $version, is built; docs/howto/qemu.md says how it is used"
