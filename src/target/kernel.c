/* SPDX-License-Identifier: MIT */
/* What this kernel and these privileges allow, probed once by doing it. */
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <linux/kcmp.h>
#include <linux/membarrier.h>
#include <linux/sched.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "src/target/netlock.h"
#include "src/target/target.h"

/* Newer than the headers of Debian 12 (Linux 6.1). */
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1 /* Linux 5.11 */
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15) /* Linux 6.7 */
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00) /* Linux 6.1, /dev/userfaultfd */
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif
#define ARCH_SHSTK_STATUS_X86	     0x5005   /* Linux 6.6, Documentation/arch/x86/shstk.rst */
#define MEMBARRIER_GET_REGISTRATIONS (1 << 9) /* Linux 6.3 */

struct pm_scan { /* struct pm_scan_arg, Linux 6.7, Documentation/admin-guide/mm/pagemap.rst */
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define PAGEMAP_SCAN_IOC _IOWR('f', 16, struct pm_scan)

enum feature {
	F_SEIZE,
	F_VM_READV,
	F_PAGEMAP,
	F_PAGEMAP_SCAN,
	F_MAP_FILES,
	F_PIDFD_GETFD,
	F_KCMP,
	F_RSEQ_CONF,
	F_IO_URING,
	F_UFFD_WP_ASYNC,
	F_SOFT_DIRTY,
	F_SET_TID,
	F_MEMBARRIER,
	F_GUARD,
#if defined(__x86_64__) || defined(__aarch64__)
	F_SHSTK,
#endif
	F_NFTABLES,
	F_CAP_PTRACE,
	F_CAP_ADMIN,
	F_CAP_CHECKPOINT,
	F_CAP_RESOURCE,
	F_END,
};

static struct target_feature features[F_END + 1] = {
	[F_SEIZE] = {"ptrace seize", .required = true, .since = "Linux 3.4",
		     .without = "nothing can be stopped: no dump"},
	[F_VM_READV] = {"process_vm_readv", .required = true, .since = "Linux 3.2",
			.without = "memory cannot be read: no dump"},
	[F_PAGEMAP] = {"/proc/PID/pagemap", .required = true, .since = "Linux 2.6.25",
		       .without = "nobody tells which pages are there: no dump"},
	[F_PAGEMAP_SCAN] =
		{"PAGEMAP_SCAN", .since = "Linux 6.7",
		 .without = "pagemap is read word by word: slower with sparse memory, and zero "
			    "pages are read"},
	[F_MAP_FILES] =
		{"/proc/PID/map_files", .since = "Linux 3.3",
		 .without = "shared memory is read through a mapping, deleted files are known by "
			    "name only"},
	[F_PIDFD_GETFD] = {"pidfd_getfd", .since = "Linux 5.6",
			   .without = "socket types and pipe sizes are not recorded"},
	[F_KCMP] = {"kcmp", .since = "Linux 3.5 with CONFIG_KCMP",
		    .without = "descriptors that share one open file are recorded as separate"},
	[F_RSEQ_CONF] = {"ptrace rseq configuration", .since = "Linux 5.13",
			 .without = "restartable sequences are not recorded"},
	[F_IO_URING] = {"io_uring", .since = "Linux 5.1",
			.without = "pages are written with pwrite, one at a time"},
	[F_UFFD_WP_ASYNC] = {"userfaultfd WP_ASYNC", .since = "Linux 6.7",
			     .without = "pre-copy by soft-dirty marks; without them none: the "
					"target is stopped while its memory is read"},
	[F_SOFT_DIRTY] = {"soft-dirty", .since = "Linux 3.11 with CONFIG_MEM_SOFT_DIRTY",
			  .without = "pre-copy by userfaultfd WP_ASYNC alone"},
	[F_SET_TID] = {"clone3 set_tid", .restores = true, .since = "Linux 5.5",
		       .without = "a restore cannot choose pids: no restore"},
	[F_MEMBARRIER] = {"membarrier registrations", .since = "Linux 6.3",
			  .without = "membarrier registrations are not recorded"},
	[F_GUARD] = {"guard pages by madvise", .since = "Linux 6.13",
		     .without = "nothing: no program on this kernel has any"},
#ifdef __x86_64__
	[F_SHSTK] = {"x86 user shadow stack", .since = "Linux 6.6 on a CPU with CET",
		     .without = "nothing: no program on this machine has one"},
#elif defined(__aarch64__)
	[F_SHSTK] = {"guarded control stacks", .since = "Linux 6.13 on a CPU with FEAT_GCS",
		     .without = "nothing: no program on this machine has one"},
#endif
	[F_NFTABLES] = {"nf_tables", .since = "Linux 5.12, with CAP_NET_ADMIN",
			.without = "packets of TCP connections with others cannot be held back "
				   "between dump and restore: --network-lock skip"},
	[F_CAP_PTRACE] = {"CAP_SYS_PTRACE", .since = "always",
			  .without = "only our own user's processes can be dumped"},
	[F_CAP_ADMIN] = {"CAP_SYS_ADMIN", .since = "always",
			 .without = "seccomp filters cannot be put to sleep or read"},
	[F_CAP_CHECKPOINT] = {"CAP_CHECKPOINT_RESTORE", .since = "Linux 5.9",
			      .without = "map_files needs CAP_SYS_ADMIN instead"},
	[F_CAP_RESOURCE] = {"CAP_SYS_RESOURCE", .since = "always",
			    .without = "limits are read in the target's own context (done anyway)"},
};

static void have(enum feature f, bool yes, int errnum)
{
	features[f].have = yes;
	if (!yes && errnum)
		snprintf(features[f].detail, sizeof(features[f].detail), "%s",
			 strerrordesc_np(errnum));
}

static void have_result(enum feature f, long ret)
{
	have(f, ret >= 0, ret < 0 ? errno : 0);
}

/* What needs another process: a child that waits to be killed. */
static void probe_child(pid_t pid)
{
	char buf[8], path[64];
	struct iovec l = {buf, sizeof(buf)}, r = {&features, sizeof(buf)};
	long conf[4];
	int status, pidfd;

	have_result(F_VM_READV, process_vm_readv(pid, &l, 1, &r, 1, 0));
	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	cleanup_fd int pagemap = open(path, O_RDONLY | O_CLOEXEC);
	have_result(F_PAGEMAP, pagemap);
	have_result(F_KCMP, syscall(SYS_kcmp, getpid(), pid, KCMP_VM, 0, 0));
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd >= 0) {
		cleanup_fd int fd = (int)syscall(SYS_pidfd_getfd, pidfd, 0, 0);

		/* EBADF: the call is there and permitted, the child just has no descriptor 0 */
		have(F_PIDFD_GETFD, fd >= 0 || errno == EBADF, errno);
		close(pidfd);
	} else {
		have_result(F_PIDFD_GETFD, -1);
	}
	have_result(F_SEIZE, ptrace(PTRACE_SEIZE, pid, 0, 0));
	if (!features[F_SEIZE].have)
		return;
	if (ptrace(PTRACE_INTERRUPT, pid, 0, 0) == 0 && waitpid(pid, &status, __WALL) == pid)
		have_result(F_RSEQ_CONF,
			    ptrace(PTRACE_GET_RSEQ_CONFIGURATION, pid, sizeof(conf), conf));
}

static void probe_with_child(void)
{
	pid_t pid = fork();

	if (pid < 0) {
		have_result(F_SEIZE, -1);
		return;
	}
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	probe_child(pid);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, __WALL);
}

static void probe_scan(void)
{
	cleanup_fd int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct pm_scan arg = {.size = sizeof(arg), .return_mask = 1};

	arg.start = (uint64_t)(uintptr_t)&features & ~(page - 1);
	arg.end = arg.start + page;
	have_result(F_PAGEMAP_SCAN, fd < 0 ? -1 : ioctl(fd, PAGEMAP_SCAN_IOC, &arg));
}

/* Opening needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE, looking does not. */
static void probe_map_files(void)
{
	char path[64], line[256];
	cleanup_file FILE *maps = fopen("/proc/self/maps", "re");

	if (!maps || !fgets(line, sizeof(line), maps)) {
		have_result(F_MAP_FILES, -1);
		return;
	}
	snprintf(path, sizeof(path), "/proc/self/map_files/%.*s", (int)strcspn(line, " "), line);
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	have_result(F_MAP_FILES, fd);
}

static void probe_uring(void)
{
	struct io_uring_params p = {0};
	cleanup_fd int fd = (int)syscall(SYS_io_uring_setup, 4, &p);

	have_result(F_IO_URING, fd);
}

static void probe_uffd(void)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC};
	cleanup_fd int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	cleanup_fd int fd = -1;
	int why;

	/* As the process is made to call it: that needs no right. */
	fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	why = errno;
	if (fd < 0 && dev >= 0)
		fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	/* The device is a second try: without it the call is what could not be had. */
	errno = why;
	have_result(F_UFFD_WP_ASYNC, fd < 0 ? -1 : ioctl(fd, UFFDIO_API, &api));
}

/* Bit 55 of a page that was just written; a kernel without the feature leaves it clear. */
static void probe_soft_dirty(void)
{
	cleanup_fd int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	volatile char touched[1] = {1};
	uint64_t word = 0, page = (uint64_t)sysconf(_SC_PAGESIZE);

	touched[0]++;
	if (fd < 0 || io_pread(fd, &word, 8, (uint64_t)(uintptr_t)touched / page * 8) != 8) {
		have_result(F_SOFT_DIRTY, -1);
		return;
	}
	have(F_SOFT_DIRTY, word >> 55 & 1, 0);
	if (!features[F_SOFT_DIRTY].have)
		snprintf(features[F_SOFT_DIRTY].detail, sizeof(features[F_SOFT_DIRTY].detail),
			 "not built into this kernel");
}

/* With a pid that is surely taken: EEXIST says that choosing is allowed. */
static void probe_set_tid(void)
{
	pid_t tid = getpid();
	struct clone_args args = {
		.exit_signal = SIGCHLD, .set_tid = (uint64_t)(uintptr_t)&tid, .set_tid_size = 1};
	long ret = syscall(SYS_clone3, &args, sizeof(args));

	if (ret == 0)
		_exit(0);
	if (ret > 0)
		waitpid((pid_t)ret, NULL, 0);
	have(F_SET_TID, ret > 0 || errno == EEXIST, errno);
}

static void probe_memory(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *p = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		have_result(F_GUARD, -1);
		return;
	}
	have_result(F_GUARD, madvise(p, page, MADV_GUARD_INSTALL));
	munmap(p, page);
}

static void probe_shstk(void)
{
#ifdef __x86_64__
	unsigned long status;

	have_result(F_SHSTK, syscall(SYS_arch_prctl, ARCH_SHSTK_STATUS_X86, &status));
#elif defined(__aarch64__)
	have(F_SHSTK, getauxval(AT_HWCAP) >> 32 & 1 /* HWCAP_GCS */, ENOSYS);
#endif
}

static void probe_caps(void)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct d[2] = {0};
	static const struct {
		enum feature f;
		unsigned cap;
	} caps[] = {
		{F_CAP_PTRACE, CAP_SYS_PTRACE},
		{F_CAP_ADMIN, CAP_SYS_ADMIN},
		{F_CAP_CHECKPOINT, 40 /* CAP_CHECKPOINT_RESTORE, Linux 5.9 */},
		{F_CAP_RESOURCE, CAP_SYS_RESOURCE},
	};

	if (syscall(SYS_capget, &h, d) < 0)
		return;
	for (size_t i = 0; i < sizeof(caps) / sizeof(*caps); i++)
		have(caps[i].f, d[caps[i].cap / 32].effective >> (caps[i].cap % 32) & 1, 0);
}

bool target_has_wp_async(void)
{
	probe_uffd();
	return features[F_UFFD_WP_ASYNC].have;
}

const char *target_no_wp_async(void)
{
	return features[F_UFFD_WP_ASYNC].detail;
}

const struct target_feature *target_features(void)
{
	static bool probed;

	if (probed)
		return features;
	probed = true;
	probe_with_child();
	probe_scan();
	probe_map_files();
	probe_uring();
	probe_uffd();
	probe_soft_dirty();
	probe_set_tid();
	probe_memory();
	probe_shstk();
	probe_caps();
	errno = -netlock_probe();
	have_result(F_NFTABLES, errno ? -1 : 0);
	have_result(F_MEMBARRIER, syscall(SYS_membarrier, MEMBARRIER_GET_REGISTRATIONS, 0, 0));
	return features;
}
