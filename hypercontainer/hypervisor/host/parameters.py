"""What the kernel of every guest is told, whatever machine that has."""

# Millions are guest instructions until the agent's port is open (885 without the ones
# marked: 1,785).
PARAMETERS = (
    "quiet",  # panics and hyperstart's words are on the console, and nothing else: a serial line costs an exit a byte
    "panic=-1",  # a dead guest ends at once
    "cryptomgr.notests",  # 880 million: that each cipher is right is the build machine's business
    # 80 million: a file system for tracing the guest's kernel, which is not mounted, and what else it prepares
    "initcall_blacklist=trace_eval_init,tracer_init_tracefs",
    # Those that a kernel of ours has. Debian's has TOMOYO and AppArmor besides, without a rule for either: what they
    # are asked at each exec and open, a walk of the path again, goes through a share
    "lsm=landlock,yama",
    # An idle guest woke its host 9 times a second, by 2.3 timers (each is followed by ticks); without these 4 times
    "sysctl.vm.compaction_proactiveness=0",  # twice a second: are there huge pages to be made?
    "sysctl.vm.stat_interval=600",  # once a second: sums of counters that are read exactly when somebody asks
    "psi=0",  # every other second: averages of pressure; and work at each switch of tasks
    "audit=0",  # nobody reads it, and without a reader it goes to the console
    "init_on_free=0",  # else free pages are taken for zeros: a clone may find the bytes of its template there
    "swiotlb=noforce",  # devices reach all memory: from 4 GiB of it, 64 MiB of bounce buffers are saved
    # What is added is used at once; three quarters of it for what can be moved, so that it can be given back, and the
    # rest as more comes, so that the kernel has room for what cannot
    "memhp_default_state=online",
    "memory_hotplug.online_policy=auto-movable",
    "scsi_mod.scan=manual",  # targets are scanned when a container needs one (to a module, /modules/order says it)
)
# Not here: mitigations=off. Of TCG's CPU "max" a guest says, in /sys/devices/system/cpu/vulnerabilities, that it has
# barriers against Spectre 1, retpolines and RSB filling against Spectre 2, and is not affected by all else; without
# these no start is faster beyond noise (8 %), and under KVM it would be wrong. Nor pci=lastbus=0, nokaslr: nothing to
# gain either, emulated. (Under KVM the first would save 16,400 exits of a boot, which looks for 255 buses by ports.)
