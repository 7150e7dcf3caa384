//! The default allow-list, by name: what a step may ask of the kernel.
//!
//! The meaning is Docker's default profile for its default capabilities. A name that an
//! architecture does not have is skipped there.

/// Calls allowed whatever their arguments, grouped by what they are about.
pub(crate) const ALLOWED: &[&str] = &[
    // files: open, read, write
    "open openat openat2 creat close close_range dup dup2 dup3 read readv pread64 preadv preadv2",
    "write writev pwrite64 pwritev pwritev2 lseek _llseek sendfile sendfile64 copy_file_range",
    "splice tee vmsplice readahead fadvise64 fadvise64_64 fallocate truncate truncate64 ftruncate",
    "ftruncate64 sync syncfs fsync fdatasync sync_file_range fcntl fcntl64 flock ioctl cachestat",
    // files: names and metadata
    "access faccessat faccessat2 stat stat64 lstat lstat64 fstat fstat64 fstatat64 newfstatat statx",
    "statfs statfs64 fstatfs fstatfs64 chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32",
    "lchown lchown32 fchownat utime utimes futimesat utimensat utimensat_time64 umask",
    "link linkat unlink unlinkat symlink symlinkat readlink readlinkat rename renameat renameat2",
    "mkdir mkdirat rmdir mknod mknodat getdents getdents64 chdir fchdir getcwd name_to_handle_at",
    "getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat listxattr",
    "llistxattr flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat",
    "inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark statmount listmount",
    "landlock_create_ruleset landlock_add_rule landlock_restrict_self chroot",
    // waiting
    "poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 epoll_create epoll_create1",
    "epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2",
    "signalfd signalfd4 timerfd_create timerfd_settime timerfd_settime64 timerfd_gettime",
    "timerfd_gettime64 pause io_setup io_submit io_cancel io_destroy io_getevents io_pgetevents",
    "io_pgetevents_time64 pipe pipe2",
    // memory
    "brk mmap mmap2 munmap mremap mprotect pkey_mprotect pkey_alloc pkey_free madvise mincore mlock",
    "mlock2 mlockall munlock munlockall msync mseal membarrier map_shadow_stack remap_file_pages",
    "memfd_create memfd_secret",
    // processes and threads
    "fork vfork execve execveat exit exit_group wait4 waitid waitpid kill tkill tgkill getpid getppid",
    "gettid getpgid getpgrp setpgid getsid setsid pidfd_open pidfd_send_signal process_mrelease",
    "set_tid_address set_robust_list get_robust_list set_thread_area get_thread_area rseq prctl",
    "arch_prctl modify_ldt futex futex_time64 futex_wait futex_wake futex_requeue futex_waitv",
    "ptrace process_vm_readv process_vm_writev restart_syscall uretprobe seccomp",
    "sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam",
    "sched_setparam sched_getscheduler sched_setscheduler sched_get_priority_max",
    "sched_get_priority_min sched_rr_get_interval sched_rr_get_interval_time64 getcpu getpriority",
    "setpriority ioprio_get ioprio_set getrusage times",
    // signals
    "rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend",
    "rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack sigprocmask sigreturn",
    // identity and limits
    "getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getgroups getgroups32",
    "getresuid getresuid32 getresgid getresgid32 setuid setuid32 setgid setgid32 setreuid setreuid32",
    "setregid setregid32 setresuid setresuid32 setresgid setresgid32 setfsuid setfsuid32 setfsgid",
    "setfsgid32 setgroups setgroups32 capget capset getrlimit ugetrlimit setrlimit prlimit64 uname",
    "sysinfo getrandom",
    // time
    "time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64",
    "clock_nanosleep clock_nanosleep_time64 nanosleep clock_adjtime clock_adjtime64 adjtimex alarm",
    "getitimer setitimer timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64",
    "timer_settime timer_settime64",
    // sockets (`socket` itself depends on the family)
    "socketpair socketcall bind listen accept accept4 connect shutdown getsockname getpeername",
    "getsockopt setsockopt send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg",
    "recvmmsg_time64",
    // System V and POSIX queues, semaphores, shared memory
    "ipc msgget msgsnd msgrcv msgctl semget semop semtimedop semtimedop_time64 semctl shmget shmat",
    "shmdt shmctl mq_open mq_unlink mq_notify mq_getsetattr mq_timedsend mq_timedsend_time64",
    "mq_timedreceive mq_timedreceive_time64",
    // Arm only
    "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
];

/// Calls whose effect a sandbox with a single mapped id can only pretend: they succeed and do nothing.
pub(crate) const PRETENDED: &[&str] = &[
    "chown chown32 lchown lchown32 fchown fchown32 fchownat",
    "setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32 setresuid setresuid32",
    "setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 setgroups setgroups32",
];

/// The numbers that x32 gives to calls whose arguments differ in size from the 64-bit ones.
#[cfg(target_arch = "x86_64")]
pub(crate) const X32_ONLY: &[(u32, &str)] = &[
    (512, "rt_sigaction"),
    (513, "rt_sigreturn"),
    (514, "ioctl"),
    (515, "readv"),
    (516, "writev"),
    (517, "recvfrom"),
    (518, "sendmsg"),
    (519, "recvmsg"),
    (520, "execve"),
    (521, "ptrace"),
    (522, "rt_sigpending"),
    (523, "rt_sigtimedwait"),
    (524, "rt_sigqueueinfo"),
    (525, "sigaltstack"),
    (526, "timer_create"),
    (527, "mq_notify"),
    (529, "waitid"),
    (530, "set_robust_list"),
    (531, "get_robust_list"),
    (532, "vmsplice"),
    (534, "preadv"),
    (535, "pwritev"),
    (536, "rt_tgsigqueueinfo"),
    (537, "recvmmsg"),
    (538, "sendmmsg"),
    (539, "process_vm_readv"),
    (540, "process_vm_writev"),
    (541, "setsockopt"),
    (542, "getsockopt"),
    (543, "io_setup"),
    (544, "io_submit"),
    (545, "execveat"),
    (546, "preadv2"),
    (547, "pwritev2"),
];
