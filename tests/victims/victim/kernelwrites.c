/* SPDX-License-Identifier: MIT */
/*
 * A scenario of memory that the kernel or another process writes: no store instruction of its own
 * process does it.
 *
 * Each kind has pages, and a ledger in private memory of what they hold: a page is looked at before
 * it is written again. --disk DIR has a file that is read with O_DIRECT, which means most on a real
 * disk; --kinds is a list of letters: p(ipe) d(irect) m(emfd) v(m).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/victims/victim/victim.h"

enum {
	RW = PROT_READ | PROT_WRITE,
	ANON = MAP_PRIVATE | MAP_ANONYMOUS,
	NPAGES = 1024, /* of each kind */
	FILE_PAGES = 256,
	SOURCES = 64,
	BATCH = 16, /* pages of one call */
};

static struct gate gate;
static uint64_t rate;
static unsigned nthreads;

/* What pages of a kind hold: seeds of fill(), 0 for zeros. */
struct kind {
	const char *name;
	char *pages;
	uint64_t seed[NPAGES];
};

static struct kind *kinds; /* in memory of its own */
enum { PIPE, DIRECT, MEMFD, VM, NKINDS };

static void kind_init(unsigned k, const char *name)
{
	kinds[k].name = name;
	kinds[k].pages = (char *)HOME(1) + ((size_t)k << 28);
}

static bool page_right(const char *p, uint64_t seed)
{
	const volatile uint64_t *w = (const volatile uint64_t *)p;

	if (seed)
		return wrong(p, PAGE, seed) < 0;
	for (unsigned i = 0; i < PAGE / 8; i++)
		if (w[i])
			return false;
	return true;
}

static void page_look(const struct kind *k, unsigned i, const char *p)
{
	if (!page_right(p, k->seed[i]))
		v_bad("kernelwrites: %s: page %u at %p should hold %#llx and begins with %#llx",
		      k->name, i, k->pages + (size_t)i * PAGE, (unsigned long long)k->seed[i],
		      *(const unsigned long long *)p);
}

static void kind_look(const struct kind *k)
{
	for (unsigned i = 0; i < NPAGES; i++)
		page_look(k, i, k->pages + (size_t)i * PAGE);
}

/* BATCH different pages that are right, as a vector. */
static void pick(const struct kind *k, uint64_t *rnd, unsigned *ret_index, struct iovec *ret_iov)
{
	unsigned first = (unsigned)random_next(rnd), stride = (unsigned)random_next(rnd) | 1;

	for (unsigned b = 0; b < BATCH; b++) {
		ret_index[b] = (first + b * stride) % NPAGES;
		ret_iov[b].iov_base = k->pages + (size_t)ret_index[b] * PAGE;
		ret_iov[b].iov_len = PAGE;
	}
}

/* --- pipe: one thread writes or vmsplices, the other reads into its heap */

static int pipe_fd[2];
static char *sources;
static _Atomic uint64_t consumed;

static uint64_t pipe_seed(uint64_t n)
{
	return n * 2 + 1;
}

/* A page that is in the pipe must stay as it is until it was read. */
static void *pipe_source_thread(void *arg)
{
	v_tick();
	for (uint64_t n = 0; !v_quitting(); n++) {
		struct iovec iov = {sources + n % SOURCES * PAGE, PAGE};

		while (n >= atomic_load(&consumed) + SOURCES && !v_quitting())
			sleep_ms(1);
		fill(iov.iov_base, PAGE, pipe_seed(n));
		while (iov.iov_len) {
			ssize_t did = n % 2 ? vmsplice(pipe_fd[1], &iov, 1, 0)
					    : write(pipe_fd[1], iov.iov_base, iov.iov_len);

			if (did < 0 && errno == EINTR)
				continue;
			if (did <= 0) {
				v_bad("kernelwrites: into the pipe: %s", strerrordesc_np(errno));
				return NULL;
			}
			iov.iov_base = (char *)iov.iov_base + did;
			iov.iov_len -= (size_t)did;
		}
	}
	return NULL;
}

static bool pipe_read(char *p, bool splice)
{
	size_t have = 0;

	while (have < PAGE) {
		struct iovec iov = {p + have, PAGE - have};
		ssize_t did = splice ? vmsplice(pipe_fd[0], &iov, 1, 0)
				     : read(pipe_fd[0], iov.iov_base, iov.iov_len);

		if (did < 0 && errno == EINTR)
			continue;
		if (did <= 0) {
			v_bad("kernelwrites: from the pipe: %s", strerrordesc_np(errno));
			return false;
		}
		have += (size_t)did;
	}
	return true;
}

static void *pipe_thread(void *arg)
{
	struct kind *k = &kinds[PIPE];
	uint64_t rnd = 11;
	struct pace p = {};

	v_tick();
	for (uint64_t n = 0; !v_quitting(); n++) {
		unsigned i = (unsigned)(random_next(&rnd) % NPAGES);
		char *page = k->pages + (size_t)i * PAGE;

		gate_pass(&gate);
		page_look(k, i, page);
		if (!pipe_read(page, n % 3 == 2))
			return NULL;
		k->seed[i] = pipe_seed(n);
		page_look(k, i, page);
		atomic_store(&consumed, n + 1);
		pace(&p, rate);
	}
	return NULL;
}

static void pipe_start(void)
{
	map_at((uint64_t)(uintptr_t)kinds[PIPE].pages, NPAGES * PAGE, RW, ANON, -1, 0);
	sources = map_at(HOME(2), SOURCES * PAGE, RW, ANON, -1, 0);
	if (pipe(pipe_fd))
		v_die("pipe");
	start_thread(pipe_source_thread, NULL);
	start_thread(pipe_thread, NULL);
	v_await_ticks(2);
	nthreads++;
}

/* --- direct: O_DIRECT reads, scattered over the heap */

static int direct_fd = -1;

static void direct_open(void)
{
	static char page[PAGE];
	char path[PATH_MAX];
	int fd;

	if (direct_fd >= 0)
		return;
	if (snprintf(path, sizeof(path), "%s/direct.%d", opt_str("disk", v_dir()), getpid()) >=
	    (int)sizeof(path))
		v_die("path too long");
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		v_die("open %s", path);
	for (unsigned i = 0; i < FILE_PAGES; i++) {
		fill(page, PAGE, i + 500);
		if (write(fd, page, PAGE) != PAGE)
			v_die("write %s", path);
	}
	fsync(fd);
	close(fd);
	direct_fd = open(path, O_RDONLY | O_DIRECT);
	if (direct_fd < 0)
		v_skip("no O_DIRECT for %s: %s", path, strerrordesc_np(errno));
}

static void *direct_thread(void *arg)
{
	struct kind *k = &kinds[DIRECT];
	uint64_t rnd = 12;
	struct pace p = {};

	v_tick();
	while (!v_quitting()) {
		unsigned from = (unsigned)(random_next(&rnd) % (FILE_PAGES - BATCH));
		unsigned at[BATCH];
		struct iovec iov[BATCH];
		ssize_t did;

		gate_pass(&gate);
		pick(k, &rnd, at, iov);
		for (unsigned b = 0; b < BATCH; b++)
			page_look(k, at[b], iov[b].iov_base);
		do
			did = preadv(direct_fd, iov, BATCH, (off_t)from * PAGE);
		while (did < 0 && errno == EINTR);
		if (did != BATCH * PAGE) {
			v_bad("kernelwrites: O_DIRECT read of %d bytes: %zd, %s", BATCH * PAGE, did,
			      strerrordesc_np(errno));
			return NULL;
		}
		for (unsigned b = 0; b < BATCH; b++) {
			k->seed[at[b]] = from + b + 500;
			page_look(k, at[b], iov[b].iov_base);
		}
		pace(&p, rate);
	}
	return NULL;
}

static void direct_start(void)
{
	direct_open();
	map_at((uint64_t)(uintptr_t)kinds[DIRECT].pages, NPAGES * PAGE, RW, ANON, -1, 0);
	start_thread(direct_thread, NULL);
	nthreads++;
}

/* --- memfd: written by pwrite, seen through a mapping */

static int memfd = -1;

static void *memfd_thread(void *arg)
{
	struct kind *k = &kinds[MEMFD];
	static char page[PAGE];
	uint64_t rnd = 13;
	struct pace p = {};

	v_tick();
	while (!v_quitting()) {
		unsigned i = (unsigned)(random_next(&rnd) % NPAGES);
		char *at = k->pages + (size_t)i * PAGE;
		uint64_t seed = random_next(&rnd) | 1;
		ssize_t did;

		gate_pass(&gate);
		page_look(k, i, at);
		if (seed & 6) {
			fill(page, PAGE, seed);
			do
				did = pwrite(memfd, page, PAGE, (off_t)i * PAGE);
			while (did < 0 && errno == EINTR);
			if (did != PAGE)
				v_bad("kernelwrites: pwrite to a memfd: %zd", did);
		} else {
			fill(at, PAGE, seed);
		}
		k->seed[i] = seed;
		page_look(k, i, at);
		pace(&p, rate);
	}
	return NULL;
}

static void memfd_start(void)
{
	memfd = memfd_create("kernelwrites", 0);
	if (memfd < 0 || ftruncate(memfd, NPAGES * PAGE))
		v_die("memfd_create");
	map_at((uint64_t)(uintptr_t)kinds[MEMFD].pages, NPAGES * PAGE, RW, MAP_SHARED, memfd, 0);
	start_thread(memfd_thread, NULL);
	nthreads++;
}

/* --- vm: process_vm_writev into a child's memory
 *
 * The kernel holds the child's pages while it faults in what it copies from: a file mapping that
 * was dropped from memory makes that take a while.
 */
static pid_t vm_child;
static int vm_file = -1;

/*
 * BATCH pages between @here, in one piece, and @there, in pieces of a page. A call may end early
 * after some of the pieces, as a read may: the rest is asked for again.
 */
static bool vm_copy(bool out, char *here, struct iovec *there)
{
	unsigned done = 0;

	while (done < BATCH) {
		struct iovec local = {here + (size_t)done * PAGE, (size_t)(BATCH - done) * PAGE};
		ssize_t did =
			out ? process_vm_writev(vm_child, &local, 1, there + done, BATCH - done, 0)
			    : process_vm_readv(vm_child, &local, 1, there + done, BATCH - done, 0);

		if (did < 0 && errno == EINTR)
			continue;
		if (did <= 0 || did % PAGE) {
			v_bad("kernelwrites: process_vm_%s after %u pages: %zd, %s",
			      out ? "writev" : "readv", done, did, strerrordesc_np(errno));
			return false;
		}
		done += (unsigned)(did / PAGE);
	}
	return true;
}

static void vm_look(const struct kind *k, const unsigned *at, struct iovec *there, char *here)
{
	if (!vm_copy(false, here, there))
		return;
	for (unsigned b = 0; b < BATCH; b++)
		page_look(k, at[b], here + (size_t)b * PAGE);
}

static void *vm_thread(void *arg)
{
	struct kind *k = &kinds[VM];
	char *here = arg, *file = here + BATCH * PAGE;
	uint64_t rnd = 14;
	struct pace p = {};

	v_tick();
	while (!v_quitting()) {
		unsigned from = (unsigned)(random_next(&rnd) % (FILE_PAGES - BATCH));
		unsigned at[BATCH];
		struct iovec there[BATCH];

		gate_pass(&gate);
		pick(k, &rnd, at, there);
		vm_look(k, at, there, here);
		madvise(file, FILE_PAGES * PAGE, MADV_DONTNEED);
		posix_fadvise(vm_file, 0, 0, POSIX_FADV_DONTNEED);
		if (!vm_copy(true, file + (size_t)from * PAGE, there))
			return NULL;
		for (unsigned b = 0; b < BATCH; b++)
			k->seed[at[b]] = from + b + 500;
		vm_look(k, at, there, here);
		pace(&p, rate);
	}
	return NULL;
}

static void vm_start(void)
{
	char *here = map_at(HOME(2) + (16 << 20), (BATCH + FILE_PAGES) * PAGE, RW, ANON, -1, 0);
	char path[PATH_MAX];

	direct_open();
	snprintf(path, sizeof(path), "%s/direct.%d", opt_str("disk", v_dir()), getpid());
	vm_file = open(path, O_RDONLY);
	if (vm_file < 0 || mmap(here + BATCH * PAGE, FILE_PAGES * PAGE, PROT_READ,
				MAP_PRIVATE | MAP_FIXED, vm_file, 0) == MAP_FAILED)
		v_die("mmap %s", path);
	map_at((uint64_t)(uintptr_t)kinds[VM].pages, NPAGES * PAGE, RW, ANON, -1, 0);
	vm_child = fork();
	if (vm_child == 0) {
		/* Who has such a descriptor is a special case for a dump; this one is to be none.
		 */
		close(direct_fd);
		while (!v_quitting())
			sleep_ms(50);
		_exit(0);
	}
	if (vm_child < 0)
		v_die("fork");
	start_thread(vm_thread, here);
	nthreads++;
}

static void kernel_setup(void)
{
	const char *want = opt_str("kinds", "pdmv");
	size_t len = (NKINDS * sizeof(*kinds) + PAGE - 1) / PAGE * PAGE;

	rate = opt_u64("rate", 2000);
	kinds = map_at(HOME(2) + (32 << 20), len, RW, ANON, -1, 0);
	kind_init(PIPE, "read from a pipe");
	kind_init(DIRECT, "O_DIRECT read");
	kind_init(MEMFD, "pwrite to a memfd");
	kind_init(VM, "process_vm_writev");
	/* The child before the threads: it is to have none of them on its way. */
	if (strchr(want, 'v'))
		vm_start();
	if (strchr(want, 'd'))
		direct_start();
	if (strchr(want, 'm'))
		memfd_start();
	if (strchr(want, 'p'))
		pipe_start();
}

static void vm_look_all(void)
{
	static char here[BATCH * PAGE];

	for (unsigned i = 0; i < NPAGES; i += BATCH) {
		struct iovec there[BATCH];
		unsigned at[BATCH];

		for (unsigned b = 0; b < BATCH; b++) {
			at[b] = i + b;
			there[b].iov_base = kinds[VM].pages + (size_t)at[b] * PAGE;
			there[b].iov_len = PAGE;
		}
		vm_look(&kinds[VM], at, there, here);
	}
}

static void kernel_check(void)
{
	const char *want = opt_str("kinds", "pdmv");

	if (gate_close(&gate, nthreads)) {
		if (strchr(want, 'p'))
			kind_look(&kinds[PIPE]);
		if (strchr(want, 'd'))
			kind_look(&kinds[DIRECT]);
		if (strchr(want, 'm'))
			kind_look(&kinds[MEMFD]);
		if (strchr(want, 'v'))
			vm_look_all();
	}
	gate_open(&gate);
}

const struct scenario kernel_scenarios[] = {
	{"kernelwrites", "memory that system calls and other processes write", kernel_setup,
	 kernel_check},
	{},
};
