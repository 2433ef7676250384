# Everything a person runs. `make demo` and `make test` set up what they need themselves and say so;
# a second run skips what is done.
BIN := .venv/bin
PYTEST := $(BIN)/pytest
JOBS ?= auto
# A file of tests is one process's; more processes than four have their guests wait for each other.
AT_ONCE := -n $(JOBS) --maxprocesses 4 --dist loadfile
# pytest with these words; with TRIES=2, as CI has it, whatever failed once more, in new processes. Status 1 alone says
# that all were tried: what pytest itself did not end well is no reason to take the few that had failed by then for all.
again = $(PYTEST) $(AT_ONCE) $(1)$(if $(filter 2,$(TRIES)), || { status=$$?; [ $$status = 1 ] || exit $$status; echo "a second try:"; $(PYTEST) $(AT_ONCE) $(1) --last-failed --last-failed-no-failures none; })
TRIES ?= 1
BY_LIBVIRT := $(addprefix tests/interop/test_libvirt.py::test_,everywhere an_image_runs_and_doctor_proves_it)
LAB ?= ACCELERATOR=kvm $(PYTEST) -v --durations=20 tests/vm/test_kvm.py $(BY_LIBVIRT) $(if $(LKVM),tests/vm/test_kvmtool.py) && \
	MACHINE=microvm ACCELERATOR=kvm $(PYTEST) -v tests/vm/test_everywhere.py
BENCH_KVM ?= $(BIN)/python -m bench --rounds 5 --accelerator kvm --fleet 5 --only starts,fleet
# The emulated SVM resets a guest in some twenty (ADR 80): what failed runs once more.
LAB_XEN ?= $(PYTEST) -v --durations=20 tests/vm/test_xen.py || $(PYTEST) -v --last-failed --last-failed-no-failures none tests/vm/test_xen.py
ARCH ?=
PREFIX ?= /opt/hypercontainer
BINDIR ?= /usr/local/bin
DOCKER_SOCK ?=
SECONDS ?= 60
PODS ?= 100
OCI_QUICK := bad_input exit_codes lifecycle mounts state sysctl

.DEFAULT_GOAL := help
.PHONY: help setup setup-test setup-interop setup-bench setup-arch setup-clients demo install test fresh check style unit vm interop oci kubelet conformance bench density fuzz soak pods guest kernel qemu format clean lab-kvm lab-xen bench-kvm unit-arm64

help:  ## this table
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup  ## set up, then run a real image in a virtual machine and show what happens
	@$(BIN)/python tools/demo.py

test: setup-test style  ## set up, then every check and test, fast to slow, but for those that need other engines (35 minutes on 2 cores)
	$(call again,-v --durations=30 -m "not docker" tests/unit tests/interop tests/vm)

fresh:  ## demo, test and interop of what is committed, in a fresh minimal Debian 12, as CI does (an hour and a quarter on 2 cores)
	@.ci/run

unit-arm64: setup-test  ## the unit tests in a fresh Debian 12 of arm64, whose programs QEMU runs one by one (an hour or more on 2 cores, not in CI; ends red: docs/reach.md)
	@ARCH=arm64 tools/fresh.sh 'make setup-test && $(PYTEST) $(AT_ONCE) -rx --timeout 3600 tests/unit'

setup:  ## only set up: Debian packages, .venv, the C programs, a kernel for the guests
	@tools/setup.sh

setup-test:
	@tools/setup.sh test

setup-interop:
	@tools/setup.sh interop

setup-bench:
	@tools/setup.sh bench

setup-arch: setup-test  ## what guests of other architectures take: QEMU for them, hyperstart, Debian's kernels
	@tools/arch.sh

setup-clients: setup-interop
	@tools/clients.sh

install: setup  ## install for real: PREFIX=/opt/hypercontainer, BINDIR=/usr/local/bin, a systemd unit (DOCKER_SOCK=1: a link where docker's clients look)
	@tools/install.sh $(PREFIX) $(BINDIR) $(DOCKER_SOCK)

check: setup-test style unit  ## style, types, storeys and the unit tests: what to run before a commit

style:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit:
	$(PYTEST) $(AT_ONCE) tests/unit

vm: setup-test  ## the tests that boot guests
	$(PYTEST) $(AT_ONCE) tests/vm

interop: setup-clients  ## set up docker, podman, containerd and their clients, then what they and hyperd say to each other
	$(call again,-v --durations=30 -m docker tests/interop)
	$(call again,--durations=30 $(OCI_QUICK:%=tests/oci/test_%.py))

oci: setup-test setup-interop  ## the black-box suite of OCI runtimes, on runc, crun and runv (RUNTIME=/path/to/another)
	$(PYTEST) tests/oci $(if $(RUNTIME),--runtime $(RUNTIME))

kubelet: setup-test setup-interop  ## a real kubelet whose pods are machines of frakti's (it is built by Go's module proxy: 15 minutes, then 10)
	@tools/clients.sh kubelet
	@test -x .cache/clients/kubelet/kubelet || { echo "make kubelet needs k8s.io/kubernetes from Go's module proxy" >&2; exit 1; }
	$(PYTEST) -v tests/kubelet

conformance: setup-interop  ## tests that others wrote, against hyperd, runv and frakti (25 minutes): docs/conformance.md
	@tools/clients.sh corpus critest
	$(BIN)/python -m tests.conformance.crun
	$(BIN)/python -m tests.conformance.docker_py
	$(BIN)/python -m tests.conformance.critest

bench: setup-bench  ## measure this machine beside docker, containerd, runc and gVisor: one table (half an hour)
	$(BIN)/python -m bench

density: setup-test  ## start virtual machines until memory is used up or 1,000 run: what each costs (20 minutes)
	$(BIN)/python -m bench.density

lab-kvm: setup-test  ## guests under KVM, in an emulated Debian 12 where that works: QEMU's, libvirt's, microvm's (7 minutes on 2 cores, the first time 4 more; 4 GiB of memory, 3 GB of disk); with LKVM=FILE, kvmtool's too
	@$(BIN)/python tools/lab.py $(if $(LKVM),--program '$(LKVM)') '$(LAB)'

bench-kvm: setup-test  ## starts, ours and docker's, under KVM in the lab: ratios; with COUNT=1 its clocks count instructions (5 minutes on 2 cores, the first time 4 more; 4 GiB of memory, 3 GB of disk)
	@$(BIN)/python tools/lab.py --bench --minutes 80 $(if $(COUNT),--count) '$(BENCH_KVM)'

lab-xen: setup-test  ## guests of Xen, on an emulated dom0 (7 minutes on 2 cores, the first time 4 more; 4 GiB of memory, 3 GB of disk)
	@rm -rf .cache/wheel
	@$(BIN)/python -m pip --disable-pip-version-check wheel -q --no-deps --no-build-isolation -w .cache/wheel .
	@$(BIN)/python tools/lab.py --xen --program .cache/wheel/*.whl '$(LAB_XEN)'

fuzz: setup-test  ## what reads foreign bytes, in the guest and here, and both APIs: each target for SECONDS=60
	$(MAKE) -C guest fuzz SECONDS=$(SECONDS)
	$(BIN)/python -m tests.fuzz $(SECONDS) $$(date +%s)
	$(BIN)/python -m tests.fuzz.live $(SECONDS) $$(date +%s)

soak: setup-test  ## random verbs and deaths against a model, full disks too, then deaths in runv's verbs: SECONDS=60 each (SEED=1: the same again)
	$(BIN)/python -m tests.vm.walk --seconds $(SECONDS) --cycles 100000 $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.vm.deaths --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

pods: setup-interop  ## a kubelet's pods: PODS=100 up and down, then hyperd's death in each of its calls for SECONDS=60 (SEED=1: the same again)
	$(BIN)/python -m tests.interop.pod_soak --pods $(PODS) --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

guest:  ## rebuild the C programs that changed (ARCH=…: hyperstart for guests of that)
	$(BIN)/python hatch_build.py $(if $(ARCH),--arch $(ARCH))

kernel: setup  ## build a smaller, faster kernel for the guests (some minutes; JOBS=1: with one compiler)
	@tools/kernel.sh $(filter-out auto,$(JOBS))

qemu: setup  ## build a smaller QEMU of Debian's source, with what guests use and no more (some minutes; JOBS=1; not in CI)
	@tools/qemu.sh $(filter-out auto,$(JOBS))

format:
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove everything that was made in this checkout (the downloads and .venv too)
	rm -rf .venv .cache build dist hypercontainer/_bin guest/build bench/out
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find hypercontainer tests bench tools -name __pycache__ -type d -prune -exec rm -rf {} +
