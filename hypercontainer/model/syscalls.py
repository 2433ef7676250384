"""System calls: their numbers, by architecture, as of Linux 6.13. Facts of the kernel, which never change.

What comes after them is unknown to us: `seccomp` answers ENOSYS to it, so that a C library takes the older way.
"""

from functools import cache

ARCHITECTURES = ("x86_64", "i386", "aarch64", "s390x", "ppc64le")


@cache
def numbers(arch: str) -> dict[str, int]:
    """Name -> number on `arch`, for those that it has."""
    column = 1 + ARCHITECTURES.index(arch)
    words = TABLE.split()
    rows = zip(*(words[n::6] for n in range(6)), strict=True)
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}


# name x86_64 i386 aarch64 s390x ppc64le
TABLE = """
_llseek - 140 - - 140  _newselect - 142 - - 142  _sysctl 156 149 - 149 149  accept 43 - 202 - 330
accept4 288 364 242 364 344  access 21 33 - 33 33  acct 163 51 89 51 51  add_key 248 286 217 278 269
adjtimex 159 124 171 124 124  afs_syscall 183 137 - 137 137  alarm 37 27 - 27 27  arch_prctl 158 384 - - -
bdflush - 134 - 134 134  bind 49 361 200 361 327  bpf 321 357 280 351 361  break - 17 - - 17  brk 12 45 214 45 45
cachestat 451 451 451 451 451  capget 125 184 90 184 183  capset 126 185 91 185 184  chdir 80 12 49 12 12
chmod 90 15 - 15 15  chown 92 182 - 212 181  chown32 - 212 - - -  chroot 161 61 51 61 61
clock_adjtime 305 343 266 337 347  clock_adjtime64 - 405 - - -  clock_getres 229 266 114 261 247
clock_getres_time64 - 406 - - -  clock_gettime 228 265 113 260 246  clock_gettime64 - 403 - - -
clock_nanosleep 230 267 115 262 248  clock_nanosleep_time64 - 407 - - -  clock_settime 227 264 112 259 245
clock_settime64 - 404 - - -  clone 56 120 220 120 120  clone3 435 435 435 435 435  close 3 6 57 6 6
close_range 436 436 436 436 436  connect 42 362 203 362 328  copy_file_range 326 377 285 375 379  creat 85 8 - 8 8
create_module 174 127 - 127 127  delete_module 176 129 106 129 129  dup 32 41 23 41 41  dup2 33 63 - 63 63
dup3 292 330 24 326 316  epoll_create 213 254 - 249 236  epoll_create1 291 329 20 327 315  epoll_ctl 233 255 21 250 237
epoll_ctl_old 214 - - - -  epoll_pwait 281 319 22 312 303  epoll_pwait2 441 441 441 441 441
epoll_wait 232 256 - 251 238  epoll_wait_old 215 - - - -  eventfd 284 323 - 318 307  eventfd2 290 328 19 323 314
execve 59 11 221 11 11  execveat 322 358 281 354 362  exit 60 1 93 1 1  exit_group 231 252 94 248 234
faccessat 269 307 48 300 298  faccessat2 439 439 439 439 439  fadvise64 221 250 223 253 233  fadvise64_64 - 272 - - -
fallocate 285 324 47 314 309  fanotify_init 300 338 262 332 323  fanotify_mark 301 339 263 333 324
fchdir 81 133 50 133 133  fchmod 91 94 52 94 94  fchmodat 268 306 53 299 297  fchmodat2 452 452 452 452 452
fchown 93 95 55 207 95  fchown32 - 207 - - -  fchownat 260 298 54 291 289  fcntl 72 55 25 55 55  fcntl64 - 221 - - -
fdatasync 75 148 83 148 148  fgetxattr 193 231 10 229 214  finit_module 313 350 273 344 353
flistxattr 196 234 13 232 217  flock 73 143 32 143 143  fork 57 2 - 2 2  fremovexattr 199 237 16 235 220
fsconfig 431 431 431 431 431  fsetxattr 190 228 7 226 211  fsmount 432 432 432 432 432  fsopen 430 430 430 430 430
fspick 433 433 433 433 433  fstat 5 108 80 108 108  fstat64 - 197 - - -  fstatat64 - 300 - - -
fstatfs 138 100 44 100 100  fstatfs64 - 269 - 266 253  fsync 74 118 82 118 118  ftime - 35 - - 35
ftruncate 77 93 46 93 93  ftruncate64 - 194 - - -  futex 202 240 98 238 221  futex_requeue 456 456 456 456 456
futex_time64 - 422 - - -  futex_wait 455 455 455 455 455  futex_waitv 449 449 449 449 449
futex_wake 454 454 454 454 454  futimesat 261 299 - 292 290  get_kernel_syms 177 130 - 130 130
get_mempolicy 239 275 236 269 260  get_robust_list 274 312 100 305 299  get_thread_area 211 244 - - -
getcpu 309 318 168 311 302  getcwd 79 183 17 183 182  getdents 78 141 - 141 141  getdents64 217 220 61 220 202
getegid 108 50 177 202 50  getegid32 - 202 - - -  geteuid 107 49 175 201 49  geteuid32 - 201 - - -
getgid 104 47 176 200 47  getgid32 - 200 - - -  getgroups 115 80 158 205 80  getgroups32 - 205 - - -
getitimer 36 105 102 105 105  getpeername 52 368 205 368 332  getpgid 121 132 155 132 132  getpgrp 111 65 - 65 65
getpid 39 20 172 20 20  getpmsg 181 188 - 188 187  getppid 110 64 173 64 64  getpriority 140 96 141 96 96
getrandom 318 355 278 349 359  getresgid 120 171 150 211 170  getresgid32 - 211 - - -  getresuid 118 165 148 209 165
getresuid32 - 209 - - -  getrlimit 97 76 163 191 76  getrusage 98 77 165 77 77  getsid 124 147 156 147 147
getsockname 51 367 204 367 331  getsockopt 55 365 209 365 340  gettid 186 224 178 236 207  gettimeofday 96 78 169 78 78
getuid 102 24 174 199 24  getuid32 - 199 - - -  getxattr 191 229 8 227 212  getxattrat 464 464 464 464 464
gtty - 32 - - 32  idle - 112 - 112 112  init_module 175 128 105 128 128  inotify_add_watch 254 292 27 285 276
inotify_init 253 291 - 284 275  inotify_init1 294 332 26 324 318  inotify_rm_watch 255 293 28 286 277
io_cancel 210 249 3 247 231  io_destroy 207 246 1 244 228  io_getevents 208 247 4 245 229
io_pgetevents 333 385 292 382 388  io_pgetevents_time64 - 416 - - -  io_setup 206 245 0 243 227
io_submit 209 248 2 246 230  io_uring_enter 426 426 426 426 426  io_uring_register 427 427 427 427 427
io_uring_setup 425 425 425 425 425  ioctl 16 54 29 54 54  ioperm 173 101 - - 101  iopl 172 110 - - 110
ioprio_get 252 290 31 283 274  ioprio_set 251 289 30 282 273  ipc - 117 - 117 117  kcmp 312 349 272 343 354
kexec_file_load 320 - 294 381 382  kexec_load 246 283 104 277 268  keyctl 250 288 219 280 271  kill 62 37 129 37 37
landlock_add_rule 445 445 445 445 445  landlock_create_ruleset 444 444 444 444 444
landlock_restrict_self 446 446 446 446 446  lchown 94 16 - 198 16  lchown32 - 198 - - -  lgetxattr 192 230 9 228 213
link 86 9 - 9 9  linkat 265 303 37 296 294  listen 50 363 201 363 329  listmount 458 458 458 458 458
listxattr 194 232 11 230 215  listxattrat 465 465 465 465 465  llistxattr 195 233 12 231 216  lock - 53 - - 53
lookup_dcookie 212 253 18 110 235  lremovexattr 198 236 15 234 219  lseek 8 19 62 19 19  lsetxattr 189 227 6 225 210
lsm_get_self_attr 459 459 459 459 459  lsm_list_modules 461 461 461 461 461  lsm_set_self_attr 460 460 460 460 460
lstat 6 107 - 107 107  lstat64 - 196 - - -  madvise 28 219 233 219 205  map_shadow_stack 453 453 453 453 453
mbind 237 274 235 268 259  membarrier 324 375 283 356 365  memfd_create 319 356 279 350 360
memfd_secret 447 447 447 447 -  migrate_pages 256 294 238 287 258  mincore 27 218 232 218 206  mkdir 83 39 - 39 39
mkdirat 258 296 34 289 287  mknod 133 14 - 14 14  mknodat 259 297 33 290 288  mlock 149 150 228 150 150
mlock2 325 376 284 374 378  mlockall 151 152 230 152 152  mmap 9 90 222 90 90  mmap2 - 192 - - -
modify_ldt 154 123 - - 123  mount 165 21 40 21 21  mount_setattr 442 442 442 442 442  move_mount 429 429 429 429 429
move_pages 279 317 239 310 301  mprotect 10 125 226 125 125  mpx - 56 - - 56  mq_getsetattr 245 282 185 276 267
mq_notify 244 281 184 275 266  mq_open 240 277 180 271 262  mq_timedreceive 243 280 183 274 265
mq_timedreceive_time64 - 419 - - -  mq_timedsend 242 279 182 273 264  mq_timedsend_time64 - 418 - - -
mq_unlink 241 278 181 272 263  mremap 25 163 216 163 163  mseal 462 462 462 462 462  msgctl 71 402 187 402 402
msgget 68 399 186 399 399  msgrcv 70 401 188 401 401  msgsnd 69 400 189 400 400  msync 26 144 227 144 144
multiplexer - - - - 201  munlock 150 151 229 151 151  munlockall 152 153 231 153 153  munmap 11 91 215 91 91
name_to_handle_at 303 341 264 335 345  nanosleep 35 162 101 162 162  newfstatat 262 - 79 293 291
nfsservctl 180 169 42 169 168  nice - 34 - 34 34  oldfstat - 28 - - 28  oldlstat - 84 - - 84  oldolduname - 59 - - 59
oldstat - 18 - - 18  olduname - 109 - - 109  open 2 5 - 5 5  open_by_handle_at 304 342 265 336 346
open_tree 428 428 428 428 428  openat 257 295 56 288 286  openat2 437 437 437 437 437  pause 34 29 - 29 29
pciconfig_iobase - - - - 200  pciconfig_read - - - - 198  pciconfig_write - - - - 199
perf_event_open 298 336 241 331 319  personality 135 136 92 136 136  pidfd_getfd 438 438 438 438 438
pidfd_open 434 434 434 434 434  pidfd_send_signal 424 424 424 424 424  pipe 22 42 - 42 42  pipe2 293 331 59 325 317
pivot_root 155 217 41 217 203  pkey_alloc 330 381 289 385 384  pkey_free 331 382 290 386 385
pkey_mprotect 329 380 288 384 386  poll 7 168 - 168 167  ppoll 271 309 73 302 281  ppoll_time64 - 414 - - -
prctl 157 172 167 172 171  pread64 17 180 67 180 179  preadv 295 333 69 328 320  preadv2 327 378 286 376 380
prlimit64 302 340 261 334 325  process_madvise 440 440 440 440 440  process_mrelease 448 448 448 448 448
process_vm_readv 310 347 270 340 351  process_vm_writev 311 348 271 341 352  prof - 44 - - 44  profil - 98 - - 98
pselect6 270 308 72 301 280  pselect6_time64 - 413 - - -  ptrace 101 26 117 26 26  putpmsg 182 189 - 189 188
pwrite64 18 181 68 181 180  pwritev 296 334 70 329 321  pwritev2 328 379 287 377 381  query_module 178 167 - 167 166
quotactl 179 131 60 131 131  quotactl_fd 443 443 443 443 443  read 0 3 63 3 3  readahead 187 225 213 222 191
readdir - 89 - 89 89  readlink 89 85 - 85 85  readlinkat 267 305 78 298 296  readv 19 145 65 145 145
reboot 169 88 142 88 88  recv - - - - 336  recvfrom 45 371 207 371 337  recvmmsg 299 337 243 357 343
recvmmsg_time64 - 417 - - -  recvmsg 47 372 212 372 342  remap_file_pages 216 257 234 267 239
removexattr 197 235 14 233 218  removexattrat 466 466 466 466 466  rename 82 38 - 38 38  renameat 264 302 38 295 293
renameat2 316 353 276 347 357  request_key 249 287 218 279 270  restart_syscall 219 0 128 7 0  rmdir 84 40 - 40 40
rseq 334 386 293 383 387  rt_sigaction 13 174 134 174 173  rt_sigpending 127 176 136 176 175
rt_sigprocmask 14 175 135 175 174  rt_sigqueueinfo 129 178 138 178 177  rt_sigreturn 15 173 139 173 172
rt_sigsuspend 130 179 133 179 178  rt_sigtimedwait 128 177 137 177 176  rt_sigtimedwait_time64 - 421 - - -
rt_tgsigqueueinfo 297 335 240 330 322  rtas - - - - 255  s390_guarded_storage - - - 378 -
s390_pci_mmio_read - - - 353 -  s390_pci_mmio_write - - - 352 -  s390_runtime_instr - - - 342 -  s390_sthyi - - - 380 -
sched_get_priority_max 146 159 125 159 159  sched_get_priority_min 147 160 126 160 160
sched_getaffinity 204 242 123 240 223  sched_getattr 315 352 275 346 356  sched_getparam 143 155 121 155 155
sched_getscheduler 145 157 120 157 157  sched_rr_get_interval 148 161 127 161 161
sched_rr_get_interval_time64 - 423 - - -  sched_setaffinity 203 241 122 239 222  sched_setattr 314 351 274 345 355
sched_setparam 142 154 118 154 154  sched_setscheduler 144 156 119 156 156  sched_yield 24 158 124 158 158
seccomp 317 354 277 348 358  security 185 - - - -  select 23 82 - 142 82  semctl 66 394 191 394 394
semget 64 393 190 393 393  semop 65 - 193 - -  semtimedop 220 - 192 392 392  semtimedop_time64 - 420 - - -
send - - - - 334  sendfile 40 187 71 187 186  sendfile64 - 239 - - -  sendmmsg 307 345 269 358 349
sendmsg 46 370 211 370 341  sendto 44 369 206 369 335  set_mempolicy 238 276 237 270 261
set_mempolicy_home_node 450 450 450 450 450  set_robust_list 273 311 99 304 300  set_thread_area 205 243 - - -
set_tid_address 218 258 96 252 232  setdomainname 171 121 162 121 121  setfsgid 123 139 152 216 139
setfsgid32 - 216 - - -  setfsuid 122 138 151 215 138  setfsuid32 - 215 - - -  setgid 106 46 144 214 46
setgid32 - 214 - - -  setgroups 116 81 159 206 81  setgroups32 - 206 - - -  sethostname 170 74 161 74 74
setitimer 38 104 103 104 104  setns 308 346 268 339 350  setpgid 109 57 154 57 57  setpriority 141 97 140 97 97
setregid 114 71 143 204 71  setregid32 - 204 - - -  setresgid 119 170 149 210 169  setresgid32 - 210 - - -
setresuid 117 164 147 208 164  setresuid32 - 208 - - -  setreuid 113 70 145 203 70  setreuid32 - 203 - - -
setrlimit 160 75 164 75 75  setsid 112 66 157 66 66  setsockopt 54 366 208 366 339  settimeofday 164 79 170 79 79
setuid 105 23 146 213 23  setuid32 - 213 - - -  setxattr 188 226 5 224 209  setxattrat 463 463 463 463 463
sgetmask - 68 - - 68  shmat 30 397 196 397 397  shmctl 31 396 195 396 396  shmdt 67 398 197 398 398
shmget 29 395 194 395 395  shutdown 48 373 210 373 338  sigaction - 67 - 67 67  sigaltstack 131 186 132 186 185
signal - 48 - 48 48  signalfd 282 321 - 316 305  signalfd4 289 327 74 322 313  sigpending - 73 - 73 73
sigprocmask - 126 - 126 126  sigreturn - 119 - 119 119  sigsuspend - 72 - 72 72  socket 41 359 198 359 326
socketcall - 102 - 102 102  socketpair 53 360 199 360 333  splice 275 313 76 306 283  spu_create - - - - 279
spu_run - - - - 278  ssetmask - 69 - - 69  stat 4 106 - 106 106  stat64 - 195 - - -  statfs 137 99 43 99 99
statfs64 - 268 - 265 252  statmount 457 457 457 457 457  statx 332 383 291 379 383  stime - 25 - - 25  stty - 31 - - 31
subpage_prot - - - - 310  swapcontext - - - - 249  swapoff 168 115 225 115 115  swapon 167 87 224 87 87
switch_endian - - - - 363  symlink 88 83 - 83 83  symlinkat 266 304 36 297 295  sync 162 36 81 36 36
sync_file_range 277 314 84 307 -  sync_file_range2 - - - - 308  syncfs 306 344 267 338 348
sys_debug_setcontext - - - - 256  sysfs 139 135 - 135 135  sysinfo 99 116 179 116 116  syslog 103 103 116 103 103
tee 276 315 77 308 284  tgkill 234 270 131 241 250  time 201 13 - - 13  timer_create 222 259 107 254 240
timer_delete 226 263 111 258 244  timer_getoverrun 225 262 109 257 243  timer_gettime 224 261 108 256 242
timer_gettime64 - 408 - - -  timer_settime 223 260 110 255 241  timer_settime64 - 409 - - -  timerfd - - - 317 -
timerfd_create 283 322 85 319 306  timerfd_gettime 287 326 87 321 312  timerfd_gettime64 - 410 - - -
timerfd_settime 286 325 86 320 311  timerfd_settime64 - 411 - - -  times 100 43 153 43 43  tkill 200 238 130 237 208
truncate 76 92 45 92 92  truncate64 - 193 - - -  tuxcall 184 - - - 225  ugetrlimit - 191 - - 190  ulimit - 58 - - 58
umask 95 60 166 60 60  umount - 22 - 22 22  umount2 166 52 39 52 52  uname 63 122 160 122 122  unlink 87 10 - 10 10
unlinkat 263 301 35 294 292  unshare 272 310 97 303 282  uselib 134 86 - 86 86  userfaultfd 323 374 282 355 364
ustat 136 62 - 62 62  utime 132 30 - 30 30  utimensat 280 320 88 315 304  utimensat_time64 - 412 - - -
utimes 235 271 - 313 251  vfork 58 190 - 190 189  vhangup 153 111 58 111 111  vm86 - 166 - - 113  vm86old - 113 - - -
vmsplice 278 316 75 309 285  vserver 236 273 - - -  wait4 61 114 260 114 114  waitid 247 284 95 281 272
waitpid - 7 - - 7  write 1 4 64 4 4  writev 20 146 66 146 146
"""
