"""What any VMM of this host needs, whichever it is: jail, cgroup, run directory, tap, disks, virtiofsd, reaper."""
