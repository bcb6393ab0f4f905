/* SPDX-License-Identifier: MIT */
/* Places in a process for its first injected call: code that makes system calls, and dead stack. */
#include "src/target/gadget.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include "arch/arch.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "src/target/idmap.h"
#include "src/target/mapquery.h"
#include "src/target/procfs.h"

enum {
	CHUNK = 256 << 10,
	SCAN_MAX = 64 << 20, /* bytes of one file that are searched */
	GADGET_MAX = 16,     /* no pattern is longer */
};

/* What a file's code holds, by device and inode: libc is the same in 500 processes. */
static struct known {
	uint64_t dev, ino, pgoff, len;
	uint64_t syscall_off, sigreturn_off; /* from the mapping's start, UINT64_MAX: none */
} known[64];
static unsigned nknown;

static bool parse_mapping(const char *line, struct mapping *m)
{
	uint64_t major, minor;
	const char *p = line;

	memset(m, 0, sizeof(*m));
	if (!procfs_hex(&p, &m->start) || *p++ != '-' || !procfs_hex(&p, &m->end) || *p++ != ' ')
		return false;
	if (strlen(p) < 5)
		return false;
	m->read = p[0] == 'r';
	m->write = p[1] == 'w';
	m->exec = p[2] == 'x';
	m->shared = p[3] == 's';
	p += 4;
	if (!procfs_hex(&p, &m->pgoff) || !procfs_hex(&p, &major) || *p++ != ':' ||
	    !procfs_hex(&p, &minor) || !procfs_dec(&p, &m->ino))
		return false;
	m->dev = major << 32 | minor;
	while (*p == ' ')
		p++;
	m->name = p;
	return true;
}

static ssize_t peek(pid_t pid, uint64_t addr, void *buf, size_t len)
{
	struct iovec l = {buf, len}, r = {(void *)(uintptr_t)addr, len};

	return process_vm_readv(pid, &l, 1, &r, 1, 0);
}

static void search(const uint8_t *buf, size_t len, uint64_t off, const struct arch_gadget *g,
		   uint64_t *found)
{
	for (; *found == UINT64_MAX && g->len; g++) {
		const uint8_t *at = memmem(buf, len, g->bytes, g->len);

		while (at && arch_inject.code_align &&
		       (off + (uint64_t)(at - buf)) % arch_inject.code_align)
			at = memmem(at + 1, len - (size_t)(at + 1 - buf), g->bytes, g->len);
		if (at)
			*found = off + (uint64_t)(at - buf);
	}
}

/* It may have been another program's mapping that was listed. */
static bool is_of(int fd, const struct mapping *m)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_ino == m->ino &&
	       ((uint64_t)major(st.st_dev) << 32 | minor(st.st_dev)) == m->dev;
}

/*
 * The code as the file has it; a mapping without a file (the vDSO) as memory has it. Whether that
 * is true of the file, whatever the process has done meanwhile.
 */
static bool search_mapping(pid_t pid, const struct mapping *m, struct known *k)
{
	static uint8_t buf[CHUNK + GADGET_MAX];
	uint64_t len = m->end - m->start < SCAN_MAX ? m->end - m->start : SCAN_MAX;
	cleanup_fd int fd = -1;
	char path[96];
	bool ret;

	snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, pid, m->start,
		 m->end);
	if (m->ino)
		fd = open(path, O_RDONLY | O_CLOEXEC);
	ret = is_of(fd, m);
	for (uint64_t off = 0; off < len; off += CHUNK) {
		size_t want = len - off < sizeof(buf) ? len - off : sizeof(buf);
		ssize_t n = fd >= 0 ? io_pread(fd, buf, want, m->pgoff + off)
				    : peek(pid, m->start + off, buf, want);

		if (n <= 0)
			break;
		search(buf, (size_t)n, off, arch_inject.syscall_ret, &k->syscall_off);
		search(buf, (size_t)n, off, arch_inject.sigreturn, &k->sigreturn_off);
		if (k->syscall_off != UINT64_MAX && k->sigreturn_off != UINT64_MAX)
			break;
	}
	return ret;
}

static const struct known *look_up(pid_t pid, const struct mapping *m, bool still)
{
	struct known *k;

	for (unsigned i = 0; i < nknown && m->ino; i++) {
		k = &known[i];
		if (k->dev == m->dev && k->ino == m->ino && k->pgoff == m->pgoff &&
		    k->len == m->end - m->start)
			return k;
	}
	k = &known[nknown < 63 ? nknown++ : 63];
	*k = (struct known){
		.dev = m->dev,
		.ino = m->ino,
		.pgoff = m->pgoff,
		.len = m->end - m->start,
		.syscall_off = UINT64_MAX,
		.sigreturn_off = UINT64_MAX,
	};
	if (!search_mapping(pid, m, k) && !still)
		nknown = (unsigned)(k - known);
	return k;
}

/* What is there now decides, not what the file said. */
static bool verify(pid_t pid, uint64_t addr, const struct arch_gadget *g)
{
	uint8_t bytes[GADGET_MAX];

	for (; g->len; g++)
		if (g->len <= sizeof(bytes) && peek(pid, addr, bytes, g->len) == (ssize_t)g->len &&
		    !memcmp(bytes, g->bytes, g->len))
			return true;
	return false;
}

static void try_mapping(pid_t pid, const struct mapping *m, bool still, struct gadgets *g)
{
	const struct known *k = look_up(pid, m, still);

	if (!g->syscall_pc && k->syscall_off != UINT64_MAX &&
	    verify(pid, m->start + k->syscall_off, arch_inject.syscall_ret))
		g->syscall_pc = m->start + k->syscall_off;
	if (!g->sigreturn_pc && k->sigreturn_off != UINT64_MAX &&
	    verify(pid, m->start + k->sigreturn_off, arch_inject.sigreturn))
		g->sigreturn_pc = m->start + k->sigreturn_off;
}

/* C libraries have both; the second pass looks everywhere. */
static bool likely(const struct mapping *m)
{
	return strstr(m->name, "/libc") || strstr(m->name, "/ld-");
}

static bool find(pid_t pid, bool still, struct gadgets *ret)
{
	struct gadgets g = {0};
	struct procfs_lines l;
	struct mapping m;
	char buf[16384];
	char *line;

	for (int pass = 0; pass < 2; pass++) {
		if (procfs_lines_open(&l, buf, sizeof(buf), "/proc/%d/maps", pid) < 0)
			return false;
		while ((!g.syscall_pc || !g.sigreturn_pc) && (line = procfs_lines_next(&l)))
			if (parse_mapping(line, &m) && m.exec && m.read &&
			    strcmp(m.name, "[vsyscall]") != 0 && likely(&m) == (pass == 0))
				try_mapping(pid, &m, still, &g);
		procfs_lines_close(&l);
	}
	if (!g.syscall_pc || !g.sigreturn_pc)
		return false;
	*ret = g;
	return true;
}

/* What was found while it ran, by pid: what is true of it still need not be searched for. */
static struct {
	struct idmap by_pid;
	struct gadgets *v;
	uint32_t n, room;
} learned;

static bool runs_at(pid_t pid, uint64_t pc, const struct arch_gadget *g)
{
	char name[4096];
	struct mapping m;

	return map_query(pid, pc, &m, name, sizeof(name)) == 0 && m.exec && m.read &&
	       verify(pid, pc, g);
}

bool gadgets_find(pid_t pid, struct gadgets *ret)
{
	uint32_t i;

	if (idmap_get(&learned.by_pid, (uint64_t)pid, &i) &&
	    runs_at(pid, learned.v[i].syscall_pc, arch_inject.syscall_ret) &&
	    runs_at(pid, learned.v[i].sigreturn_pc, arch_inject.sigreturn)) {
		*ret = learned.v[i];
		return true;
	}
	return find(pid, true, ret);
}

void gadgets_learn(pid_t pid)
{
	struct gadgets g;
	uint32_t i;

	if (!find(pid, false, &g))
		return;
	if (idmap_get(&learned.by_pid, (uint64_t)pid, &i)) {
		learned.v[i] = g;
		return;
	}
	if (learned.n == learned.room) {
		uint32_t room = learned.room ? 2 * learned.room : 16;
		struct gadgets *v = realloc(learned.v, room * sizeof(*v));

		if (!v)
			return;
		learned.v = v;
		learned.room = room;
	}
	/* Not remembered, it is searched for. */
	if (idmap_put(&learned.by_pid, (uint64_t)pid, learned.n) == 0)
		learned.v[learned.n++] = g;
}

/* A thread's own stack: the main stack, or one that has the thread's pointer at its upper end. */
static bool own_stack(pid_t pid, const struct mapping *m, const void *prstatus)
{
	uint64_t tp, self = 0;

	if (!strcmp(m->name, "[stack]"))
		return true;
	tp = arch_inject.thread_pointer ? arch_inject.thread_pointer(prstatus) : 0;
	return tp > m->start && tp < m->end &&
	       peek(pid, tp, &self, sizeof(self)) == (ssize_t)sizeof(self) && self == tp;
}

static bool all_zero(pid_t pid, uint64_t addr, size_t len)
{
	uint64_t buf[512];

	for (size_t off = 0; off < len; off += sizeof(buf)) {
		size_t n = len - off < sizeof(buf) ? len - off : sizeof(buf);

		if (peek(pid, addr + off, buf, n) != (ssize_t)n)
			return false;
		for (size_t i = 0; i < n / sizeof(buf[0]); i++)
			if (buf[i])
				return false;
	}
	return true;
}

/* Where the thread's stack is its own beyond doubt, @below is right. */
static bool fits(pid_t pid, const struct mapping *m, const void *prstatus, uint64_t sp,
		 uint64_t below)
{
	return m->read && m->write && !m->shared && sp > m->start && sp <= m->end &&
	       below >= m->start && below < sp && own_stack(pid, m, prstatus);
}

uint64_t gadget_stack(pid_t pid, const void *prstatus, uint64_t sp, size_t len)
{
	uint64_t below = (sp - arch_inject.red_zone - len) & ~63ULL;
	uint64_t unused = 0;
	struct procfs_lines l;
	struct mapping m;
	char buf[16384];
	char *line;

	if (map_query(pid, sp - 1, &m, buf, sizeof(buf)) == 0 && fits(pid, &m, prstatus, sp, below))
		return below;
	if (procfs_lines_open(&l, buf, sizeof(buf), "/proc/%d/maps", pid) < 0)
		return 0;
	while ((line = procfs_lines_next(&l))) {
		if (!parse_mapping(line, &m) || !m.read || !m.write || m.shared)
			continue;
		if (fits(pid, &m, prstatus, sp, below)) {
			procfs_lines_close(&l);
			return below;
		}
		if (!strcmp(m.name, "[stack]") && m.end - m.start >= 4 * len &&
		    (sp < m.start || sp > m.start + 2 * len))
			unused = m.start;
	}
	procfs_lines_close(&l);
	return unused && all_zero(pid, unused, len) ? unused : 0;
}
