/* SPDX-License-Identifier: MIT */
/*
 * A process tree as plain data: the vocabulary shared by target, image and inspect.
 *
 * No protobuf, no ptrace. Pointers point into the model's own arena, which one model_free()
 * releases; nothing in a model is freed alone. An arena may be shared memory (MODEL_SHARED), so
 * that a child process, the guardian, fills it and the parent reads it; it is mapped before the
 * fork, so the addresses agree.
 *
 * Lists are arrays with a count. Pids and tids are those of the innermost pid namespace of the
 * dumped tree. Times are in the unit the name says. Strings end with NUL and may be NULL only where
 * said. Threads: one thread at a time.
 */
#ifndef IMAGE_MODEL_H
#define IMAGE_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "src/image/model_sk.h"

struct m_regset {
	uint32_t note; /* NT_* */
	uint32_t len;
	uint8_t *data; /* verbatim, as GETREGSET gave it */
};

struct m_siginfo {
	uint8_t data[128]; /* siginfo_t of the dumping CPU */
};

struct m_sigqueue {
	uint32_t n;
	struct m_siginfo *info; /* in order of delivery */
};

struct m_creds {
	uint32_t uid, gid, euid, egid, suid, sgid, fsuid, fsgid;
	uint64_t cap_inh, cap_prm, cap_eff, cap_bnd, cap_amb;
	uint32_t securebits;
	uint32_t no_new_privs;
	uint32_t ngroups;
	uint32_t *groups;
	char *lsm_profile; /* NULL: none, or unconfined */
};

struct m_rseq {
	uint64_t addr; /* 0: not registered */
	uint32_t len;
	uint32_t signature;
	uint32_t flags;
};

/* An entry of the GDT of x86-64 that is the thread's own; all 0: empty. */
enum { M_TLS = 3 };
struct m_tls {
	uint32_t base, limit;
	uint32_t flags; /* struct user_desc's, from seg_32bit (bit 0) to lm (bit 7) */
};

/* Nodes of memory; what PR_SET_SPECULATION_CTRL knows. */
enum { M_NODES = 1024, M_NSPEC = 3 };

struct m_thread {
	uint32_t tid;
	char comm[16];
	uint32_t nregsets;
	struct m_regset *regsets;  /* the first is NT_PRSTATUS, made ready for restart */
	bool in_syscall;	   /* stopped inside a system call that was to be restarted */
	int64_t syscall_ret;	   /* the ERESTART code then, negative */
	uint64_t sleep_left_ns;	   /* of an interrupted sleep's time, where the kernel tells the
				      program nothing; 0: not known */
	uint64_t sigmask;	   /* bit n-1: signal n blocked */
	struct m_sigqueue pending; /* thread-directed */
	uint64_t altstack_addr, altstack_len;
	uint32_t altstack_flags;
	struct m_rseq rseq;
	uint64_t robust_addr, robust_len;
	uint64_t clear_tid_addr;
	int32_t nice;
	uint32_t policy,
		rt_priority; /* SCHED_*, with SCHED_RESET_ON_FORK as the kernel returns it */
	uint64_t sched_runtime_ns, sched_deadline_ns, sched_period_ns; /* SCHED_DEADLINE */
	uint32_t affinity_len;					       /* bytes of affinity */
	uint8_t *affinity; /* CPU mask, little endian bits */
	uint64_t timerslack_ns;
	uint32_t pdeath_sig;
	uint32_t ioprio;	      /* IOPRIO_PRIO_VALUE, 0: by the nice value */
	uint32_t mempolicy;	      /* MPOL_* with its flags */
	uint64_t nodes[M_NODES / 64]; /* of it; bit n of word n/64 */
	uint32_t mce_kill;	      /* PR_MCE_KILL_LATE or _EARLY, plus 1; 0: the default */
	bool io_flusher;
	uint32_t tsc;		       /* PR_TSC_SIGSEGV, or 0 */
	uint32_t speculation[M_NSPEC]; /* PR_SPEC_*, by what; 0: the default */
	/* ARCH_SHSTK_* bits that are on and that stay as they are; AArch64 has them in NT_ARM_GCS
	 */
	uint32_t shadow, shadow_locked;
	struct m_tls tls[M_TLS]; /* entries 12 to 14 */
	uint32_t seccomp_mode;	 /* 0 off, 1 strict, 2 filter */
	uint32_t seccomp_chain;	 /* model chain, 0: none, or not known */
	struct m_creds creds;
	/* for backtraces and core files without a decoder: copies from NT_PRSTATUS */
	uint64_t pc, sp;
	uint64_t utime_us, stime_us;
};

/* SECCOMP_FILTER_FLAG_*, as far as the kernel tells them or CRIU writes them. */
enum {
	M_SECCOMP_TSYNC = 1 << 0, /* all threads of the process have it */
	M_SECCOMP_LOG = 1 << 1,
	M_SECCOMP_SPEC_ALLOW = 1 << 2,
};

struct m_seccomp_filter {
	uint32_t flags;
	uint32_t len;  /* bytes */
	uint8_t *code; /* struct sock_filter */
};

/* The filters of a thread; those of threads with equal ones are one chain. */
struct m_seccomp_chain {
	uint32_t n;
	struct m_seccomp_filter *filters; /* the oldest first */
};

enum m_vma_kind {
	M_VMA_ANON,	    /* private anonymous */
	M_VMA_FILE_PRIVATE, /* private mapping of a file */
	M_VMA_FILE_SHARED,  /* shared mapping of a file that has a path */
	M_VMA_SHMEM,	    /* shared anonymous memory, memfd, SysV: contents in a segment */
	M_VMA_VDSO,
	M_VMA_VVAR,
	M_VMA_VSYSCALL,
	M_VMA_DEVICE, /* VM_IO or VM_PFNMAP: contents cannot be saved */
	M_VMA_OTHER,  /* [uprobes] and what we do not know */
};

/* VmFlags of /proc/PID/smaps that matter, as bits of m_vma.flags. On disk: never renumber. */
enum m_vma_flag {
	M_VMF_GROWSDOWN = 1 << 0,  /* gd */
	M_VMF_LOCKED = 1 << 1,	   /* lo */
	M_VMF_SEQ = 1 << 2,	   /* sr */
	M_VMF_RAND = 1 << 3,	   /* rr */
	M_VMF_DONTFORK = 1 << 4,   /* dc */
	M_VMF_MERGEABLE = 1 << 5,  /* mg */
	M_VMF_HUGEPAGE = 1 << 6,   /* hg */
	M_VMF_NOHUGEPAGE = 1 << 7, /* nh */
	M_VMF_DONTDUMP = 1 << 8,   /* dd */
	M_VMF_WIPEONFORK = 1 << 9, /* wf */
	M_VMF_HUGETLB = 1 << 10,   /* ht */
	M_VMF_IO = 1 << 11,	   /* io */
	M_VMF_PFNMAP = 1 << 12,	   /* pf */
	M_VMF_NORESERVE = 1 << 13, /* nr */
	M_VMF_ACCOUNT = 1 << 14,   /* ac */
	M_VMF_SOFTDIRTY = 1 << 15, /* sd */
	M_VMF_SHSTK = 1 << 16,	   /* ss */
	M_VMF_UFFD = 1 << 17,	   /* um, uw or ui */
	M_VMF_SEALED = 1 << 18,	   /* sl */
	M_VMF_DROPPABLE = 1 << 19, /* dp */
	M_VMF_HEAP = 1 << 20,	   /* [heap] */
	M_VMF_STACK = 1 << 21,	   /* [stack] */
	M_VMF_MAYSHARE = 1 << 22,  /* ms: MAP_SHARED at creation */
	M_VMF_AIORING = 1 << 23,   /* /[aio] */
	M_VMF_TAGS = 1 << 24,	   /* mt: arch_desc.tags */
};

/* Protection keys, as many as ppc64 has; x86-64 has 16, aarch64 8. */
enum { M_PKEYS = 32 };

struct m_vma {
	uint64_t start, end;
	uint64_t pgoff; /* bytes */
	uint32_t prot;	/* PROT_* */
	uint32_t flags; /* M_VMF_* */
	bool shared;	/* MAP_SHARED */
	enum m_vma_kind kind;
	uint32_t file_id;	     /* model file, 0: none */
	uint32_t shm_id;	     /* model segment for M_VMA_SHMEM, 0: none */
	uint32_t hugetlb_page_shift; /* for M_VMF_HUGETLB */
	uint8_t pkey;		     /* protection key, below M_PKEYS; 0: the one that all have */
	char vmflags[96];	     /* the VmFlags line verbatim */
	char *name;		     /* as /proc/PID/maps prints it, NULL: none */
};

/* Numbers are CRIU's fd_types. */
enum m_file_type {
	M_FILE_UND = 0,
	M_FILE_REG = 1, /* regular files, directories, devices: everything opened by path */
	M_FILE_PIPE = 2,
	M_FILE_FIFO = 3,
	M_FILE_INETSK = 4,
	M_FILE_UNIXSK = 5,
	M_FILE_EVENTFD = 6,
	M_FILE_EVENTPOLL = 7,
	M_FILE_INOTIFY = 8,
	M_FILE_SIGNALFD = 9,
	M_FILE_PACKETSK = 10,
	M_FILE_TTY = 11,
	M_FILE_FANOTIFY = 12,
	M_FILE_NETLINKSK = 13,
	M_FILE_NS = 14,
	M_FILE_TUN = 15,
	M_FILE_EXT = 16,
	M_FILE_TIMERFD = 17,
	M_FILE_MEMFD = 18,
	M_FILE_BPFMAP = 19,
	M_FILE_PIDFD = 20,
};

struct m_epoll_target {
	uint32_t fd;
	uint32_t events;
	uint64_t data;
	uint64_t pos;
	uint64_t ino;
	uint32_t dev;
	uint32_t file_id; /* what is watched, 0: not known; the number may be another's by now */
};

/* One watch of an inotify instance. */
struct m_watch {
	uint32_t wd, mask, ignored_mask;
	uint64_t ino;
	uint32_t dev; /* the kernel's number of it: major << 20 | minor */
	uint32_t handle_type, handle_len;
	uint8_t handle[128]; /* for open_by_handle_at() */
	char *path;	     /* NULL: not found */
};

/* Numbers on disk: never renumber. */
enum m_checksum {
	M_CHECKSUM_NONE = 0,
	M_CHECKSUM_FIRST = 1,  /* CRC32C of the first N bytes */
	M_CHECKSUM_FULL = 2,   /* of all */
	M_CHECKSUM_PERIOD = 3, /* of every Nth byte, from the first on */
};

struct m_fown {
	uint32_t uid, euid, signum, pid_type;
	int32_t pid;
};

/* One open file description, or one mapped, executed or current-directory file. */
struct m_file {
	uint32_t id; /* from 1, unique in the model */
	enum m_file_type type;
	char *path;	/* what readlink says: a path, or "pipe:[123]" */
	bool deleted;	/* the path is gone */
	uint32_t flags; /* open flags from fdinfo, without O_CLOEXEC */
	uint64_t pos;
	uint64_t dev, ino, rdev;
	uint32_t mode;
	uint64_t size;
	int64_t mtime_ns;
	int32_t mnt_id; /* -1: not known */
	uint32_t build_id_len;
	uint8_t *build_id; /* of an ELF file that is mapped executable */
	enum m_checksum checksum_kind;
	uint32_t checksum, checksum_n;
	uint32_t ghost_id; /* what the path led to before it was gone, 0: nothing kept */
	char *link_path;   /* another name of the file when its path is gone; NULL */
	bool link_made;	   /* which the dump gave it (--link-remap): a restore takes it away */
	struct m_fown fown;
	char *fdinfo; /* /proc/PID/fdinfo/FD verbatim, NULL for mapped files */
	/* by type */
	uint64_t eventfd_count;
	bool eventfd_semaphore;
	uint64_t signalfd_mask;
	uint32_t ntargets; /* epoll */
	struct m_epoll_target *targets;
	uint32_t nwatches; /* inotify */
	struct m_watch *watches;
	struct {
		uint32_t clockid, settime_flags;
		uint64_t ticks, value_ns, interval_ns;
	} timerfd;
	int32_t pidfd_pid;  /* pidfd: target, -1 dead */
	uint32_t shm_id;    /* memfd: its segment, 0: none */
	uint32_t pipe_size; /* pipe, FIFO: F_GETPIPE_SZ, 0: not known */
	struct m_unix *usk;
	struct m_inet *isk;
	struct m_netlink *nlsk;
	struct m_packet_sk *psk;
	uint32_t tty; /* place in the model's ttys, from 1 */
};

struct m_fd {
	uint32_t fd;
	uint32_t file_id;
	bool cloexec;
};

/* A pipe or FIFO with what is in it; all descriptions of its inode share it. */
struct m_pipe {
	uint64_t dev, ino;
	bool fifo;
	uint32_t size; /* F_GETPIPE_SZ, 0: not known */
	uint32_t len;
	uint8_t *data;
	uint32_t npackets;
	uint32_t *packets; /* packet mode: lengths of what was written at once; together len */
};

/* Bytes of a file; between extents are holes. */
struct m_extent {
	uint64_t off, len;
	uint8_t *data;
};

/* An extended attribute of a file; access control lists are such. */
struct m_xattr {
	char *name;
	uint32_t len;
	uint8_t *value;
};

/* An inode that no path leads to any more. */
struct m_ghost {
	uint32_t id; /* from 1 */
	uint64_t dev, ino, rdev;
	uint32_t mode, uid, gid;
	uint64_t size;
	int64_t atime_ns, mtime_ns;
	uint32_t nextents;
	struct m_extent *extents; /* ascending */
	char *target;		  /* of a symbolic link, else NULL */
	uint32_t nxattrs;
	struct m_xattr *xattrs;
};

/* Numbers are CRIU's. */
enum m_lock_kind {
	M_LOCK_POSIX = 1, /* belongs to a process */
	M_LOCK_FLOCK = 2, /* these to a description */
	M_LOCK_OFD = 4,
	M_LOCK_LEASE = 8,
};

/* A lock that is held on what descriptor @fd of process @pid refers to. */
struct m_lock {
	enum m_lock_kind kind;
	uint32_t type; /* F_RDLCK, F_WRLCK */
	uint32_t pid, fd;
	int64_t start, len; /* len 0: to the end, however far */
};

/* One descriptor table; processes made with CLONE_FILES share it. */
struct m_fdtable {
	uint32_t id; /* from 2: 1 is the dumping tool's own in CRIU's numbering */
	uint32_t n;
	struct m_fd *fds; /* ascending */
};

/* One object of shared memory; its pages are in MD_SPACE_SHMEM(id). */
struct m_shm {
	uint32_t id; /* from 1 */
	char *name; /* memfd name without "memfd:", "/dev/zero" for plain shared anonymous memory */
	uint64_t dev, ino;
	uint64_t size;
	uint32_t uid, gid, mode;
	uint32_t seals;
	bool seals_known;
	bool memfd; /* made by memfd_create */
	bool sysv;  /* SysV segment: ino is its id */
	bool hugetlb;
	/* while dumping only: where the contents can be read from */
	int fd;		    /* of @pid: found in a queue; -1: not open there */
	uint32_t pid;	    /* a process that maps it, or has it open */
	uint64_t map_start; /* its mapping there */
	uint64_t map_len, map_pgoff;
};

struct m_sigaction {
	uint64_t handler, flags, restorer, mask;
};

struct m_itimer {
	uint64_t interval_us, value_us;
};

struct m_posix_timer {
	int32_t id;
	int32_t clock_id;
	uint32_t signo, notify; /* SIGEV_* */
	uint64_t sigval;
	uint32_t overrun;
	int32_t notify_tid;
	uint64_t interval_ns, value_ns;
};

struct m_rlimit {
	uint64_t cur, max; /* UINT64_MAX: infinity */
};

/* Tags of memory, of whole pages in one mapping with M_VMF_TAGS. What is in none has only zeros. */
enum {
	M_TAGS_PAGE = 4096,	/* addresses and lengths are multiples of it */
	M_TAGS_BYTE = 32,	/* bytes of memory whose tags are in one byte */
	M_TAGS_MOST = 64 << 10, /* bytes of tags */
};

struct m_tags {
	uint64_t start, len;
	uint8_t *data; /* len / M_TAGS_BYTE bytes, the lower tag in the lower half */
};

struct m_mm {
	uint64_t start_code, end_code, start_data, end_data, start_stack, start_brk, brk;
	uint64_t arg_start, arg_end, env_start, env_end;
	uint32_t exe_file_id;
	uint32_t nauxv;
	uint64_t *auxv; /* words: pairs, without the AT_NULL pair that ends them */
	int32_t dumpable;
	bool thp_disabled;
	bool thp_except_advised; /* but for where it was asked for, Linux 6.18 */
	uint32_t nvmas;
	struct m_vma *vmas; /* ascending */
	uint32_t nguards;
	struct m_guard {
		uint64_t start, end;
	} * guards; /* MADV_GUARD_INSTALL ranges, Linux 6.13 */
	uint32_t ntags;
	struct m_tags *tags; /* ascending; of a segment that several map: where the first one is */
	uint32_t pkeys;	     /* protection keys that the process has allocated: bit n is key n */
};

enum m_state {
	M_ALIVE = 1,
	M_DEAD = 2,    /* zombie: no threads; only ids, comm and exit_code matter */
	M_STOPPED = 3, /* by job control */
};

enum { M_NSIG = 64, M_NRLIMITS = 16 };

struct m_ns {
	/* inode numbers of /proc/PID/ns/NAME, 0: not there */
	uint64_t pid, net, ipc, uts, mnt, user, cgroup, time;
};

struct m_proc {
	uint32_t pid, ppid, pgid, sid;
	enum m_state state;
	uint32_t exit_code; /* wait status */
	uint32_t stop_signo;
	char comm[16];
	uint32_t personality;
	uint32_t pf_flags;   /* PF_*, field 9 of /proc/PID/stat */
	uint64_t start_time; /* field 22, clock ticks since boot */
	uint32_t nthreads;
	struct m_thread *threads; /* the leader first */
	struct m_mm mm;
	struct m_sigaction sigactions[M_NSIG]; /* [n-1]: signal n; SIGKILL, SIGSTOP: zero */
	struct m_sigqueue pending;	       /* process-wide */
	struct m_itimer itimers[3];	       /* real, virtual, prof */
	uint32_t nposix_timers;
	struct m_posix_timer *posix_timers;
	struct m_rlimit rlimits[M_NRLIMITS];
	uint32_t cwd_file_id, root_file_id;
	uint32_t umask;
	uint32_t fdtable_id, vm_id, fs_id, sighand_id; /* from 2; equal: shared */
	struct m_ns ns;
	int32_t oom_score_adj;
	uint32_t loginuid;
	bool child_subreaper;
	bool has_coredump_filter;
	uint32_t coredump_filter;
	uint32_t mdwe;			  /* PR_MDWE_* */
	bool memory_merge;		  /* PR_SET_MEMORY_MERGE */
	bool mlock_future, mlock_onfault; /* MCL_FUTURE, MCL_ONFAULT */
	bool keyrings;			  /* while dumping only: it has some of its own */
	uint32_t exit_signal;		  /* what its end tells the parent, 0: nothing */
	uint32_t oddities;		  /* while dumping only: bits of arch_inject.oddities */
	uint64_t membarrier;		  /* MEMBARRIER_CMD_REGISTER_* bits */
	uint64_t permitted; /* registers, as arch_permits.get tells them, 0: not asked */
	char *cgroups;	    /* /proc/PID/cgroup verbatim, NULL: not read */
	char *cmdline;	    /* arguments joined by spaces, for people */
	bool shares_vm;	    /* same address space as an earlier process: no pages of its own */
};

/* Something that this version does not carry; all are listed, not only the first. */
struct m_finding {
	uint32_t pid;
	char text[200]; /* "fd 7: io_uring instance: not supported" */
	bool fatal;	/* the dump is refused */
	bool passing;	/* of a moment: may be over when looked at again */
};

enum { M_CPU_WORDS = 16 };

struct model {
	uint16_t elf_machine;
	uint32_t page_size;
	uint32_t ncpu_words;		 /* 0: not known */
	uint32_t cpu_words[M_CPU_WORDS]; /* instructions of the CPU: arch_desc.ins */
	uint32_t nprocs;
	struct m_proc *procs; /* parents before children; [0] is the root */
	uint32_t nfiles;
	struct m_file *files; /* [i].id == i + 1 */
	uint32_t nfdtables;
	struct m_fdtable *fdtables;
	uint32_t nshms;
	struct m_shm *shms; /* [i].id == i + 1 */
	uint32_t nchains;
	struct m_seccomp_chain *chains; /* m_thread.seccomp_chain is an index from 1 */
	uint32_t npipes;
	struct m_pipe *pipes;
	uint32_t nghosts;
	struct m_ghost *ghosts; /* [i].id == i + 1 */
	uint32_t nlocks;
	struct m_lock *locks;
	uint32_t npackets;
	struct m_packet *packets; /* of one socket: in the order of its queue */
	uint32_t nttys;
	struct m_tty *ttys;
	uint32_t nfindings;
	struct m_finding *findings;
	struct m_ns tool_ns; /* the namespaces of the dumping tool */
	uint64_t uptime_us;  /* at the freeze */
	uint64_t monotonic_ns, boottime_ns, realtime_ns;
	char kernel[96]; /* uname: release and version of the dumping kernel */
	char hostname[65];
	char run_id[40]; /* of the dump, a UUID as text; "": none */
	enum m_net_lock net_lock;
	struct arena *arena;
};

enum {
	MODEL_SHARED = 1, /* the arena is shared with children forked after model_new() */
};

/* NULL when the address space is not to be had. An arena grows on touch, to at most 4 GiB. */
struct model *model_new(unsigned flags);
void model_free(struct model *m);

/* Zeroed, aligned to 16. NULL only when the arena is full. */
void *model_alloc(struct model *m, size_t len);
char *model_strdup(struct model *m, const char *s);
/* The next @len bytes are touched now: later nobody has the time to wait for page faults. A hint.
 */
void model_ready(struct model *m, size_t len);
/*
 * Appends one zeroed element to the array at *@array with *@n elements of @size bytes; the array
 * may move. Pointer to the new element, NULL when the arena is full.
 */
void *model_push(struct model *m, void *array, uint32_t *n, size_t size);

const struct m_file *model_file(const struct model *m, uint32_t id);
const struct m_proc *model_proc(const struct model *m, uint32_t pid);
const struct m_fdtable *model_fdtable(const struct model *m, uint32_t id);
const struct m_shm *model_shm(const struct model *m, uint32_t id);
const struct m_seccomp_chain *model_chain(const struct model *m, uint32_t id);
const struct m_ghost *model_ghost(const struct model *m, uint32_t id);
const struct m_tty *model_tty(const struct model *m, uint32_t tty);
/* What is in the pipe or FIFO that @f is an end of; NULL when that is not kept. */
const struct m_pipe *model_pipe(const struct model *m, const struct m_file *f);
/* Entry @fd of a table, NULL. */
const struct m_fd *model_fd(const struct m_fdtable *t, uint32_t fd);
/* Puts the entries in their order. */
void model_sort_fds(struct m_fdtable *t);
/* What a descriptor of a process refers to. */
const struct m_file *model_file_at(const struct model *m, uint32_t pid, uint32_t fd);
/* By note type; NULL if the thread has none. */
const struct m_regset *model_regset(const struct m_thread *t, uint32_t note);

#endif
