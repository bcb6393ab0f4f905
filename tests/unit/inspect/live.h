/* SPDX-License-Identifier: MIT */
/*
 * A stopped child of the test in the place of an image: its model filled from ptrace and /proc, its
 * stored pages read from /proc/PID/mem. It stands in for the image reader, so that these tests need
 * nothing but the room they test; what dump and the image make of it is tested end to end.
 */
#ifndef TESTS_UNIT_INSPECT_LIVE_H
#define TESTS_UNIT_INSPECT_LIVE_H

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch/arch.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "src/image/image.h"
#include "src/inspect/elf.h"

enum { LIVE_ARENA = 16 << 20 };

static struct {
	uint8_t *arena;
	size_t used;
	pid_t pid;
	int mem; /* /proc/PID/mem */
	struct model *m;
	/* everything of a private mapping in these ranges is "stored" */
	uint32_t nstored;
	struct md_extent stored[512];
} live;

static bool live_stored(uint64_t addr, struct md_extent *ret)
{
	for (uint32_t i = 0; i < live.nstored; i++) {
		const struct md_extent *e = &live.stored[i];

		if (e->addr + e->len <= addr)
			continue;
		*ret = *e;
		if (ret->addr < addr) {
			ret->len -= addr - ret->addr;
			ret->addr = addr;
		}
		return true;
	}
	return false;
}

/* The image reader's functions, for the linker. */
struct model *image_read_model(struct image *img, struct err *err)
{
	return live.m;
}

struct image_mem *image_mem_open(struct image *img, struct err *err)
{
	return (struct image_mem *)&live;
}

void image_mem_close(struct image_mem *mem)
{
}

int image_mem_extent(struct image_mem *mem, uint64_t space, uint64_t addr,
		     struct md_extent *ret_extent, struct err *err)
{
	return space == MD_SPACE_PROC(live.pid) && live_stored(addr, ret_extent);
}

ssize_t image_mem_read(struct image_mem *mem, uint64_t space, uint64_t addr, void *buf, size_t len,
		       struct err *err)
{
	struct md_extent e;

	if (space != MD_SPACE_PROC(live.pid) || !live_stored(addr, &e) || e.addr > addr)
		return 0;
	return io_pread(live.mem, buf, len < e.len ? len : e.len, addr);
}

/* The model outlives inspect_core() and inspect_bt() here: the test asks more than once. */
void model_free(struct model *m)
{
}

/* Zeroed; all of it goes with live_kill(). */
static void *live_alloc(size_t n)
{
	void *p = live.arena + live.used;

	live.used += (n + 15) & ~(size_t)15;
	if (live.used > LIVE_ARENA)
		abort();
	return p;
}

static char *live_strdup(const char *s)
{
	return strcpy(live_alloc(strlen(s) + 1), s);
}

const struct m_file *model_file(const struct model *m, uint32_t id)
{
	return id && id <= m->nfiles ? &m->files[id - 1] : NULL;
}

const struct m_proc *model_proc(const struct model *m, uint32_t pid)
{
	return m->procs[0].pid == pid ? &m->procs[0] : NULL;
}

const struct m_regset *model_regset(const struct m_thread *t, uint32_t note)
{
	for (uint32_t i = 0; i < t->nregsets; i++)
		if (t->regsets[i].note == note)
			return &t->regsets[i];
	return NULL;
}

static uint32_t live_file(struct model *m, const char *path)
{
	struct m_file *f;
	struct stat st;
	struct elf *e;

	for (uint32_t i = 0; i < m->nfiles; i++)
		if (!strcmp(m->files[i].path, path))
			return i + 1;
	f = &m->files[m->nfiles++];
	f->id = m->nfiles;
	f->path = live_strdup(path);
	if (!stat(path, &st)) {
		f->size = (uint64_t)st.st_size;
		f->mtime_ns = st.st_mtim.tv_sec * 1000000000LL + st.st_mtim.tv_nsec;
	}
	e = elf_open(path, NULL);
	if (e) {
		size_t len;
		const uint8_t *id = elf_build_id(e, &len);

		f->build_id_len = (uint32_t)len;
		f->build_id = id ? memcpy(live_alloc(len), id, len) : NULL;
		elf_close(e);
	}
	return f->id;
}

static enum m_vma_kind live_kind(const char *name)
{
	if (name[0] == '/')
		return M_VMA_FILE_PRIVATE;
	if (!strcmp(name, "[vdso]"))
		return M_VMA_VDSO;
	if (!strncmp(name, "[vvar", 5))
		return M_VMA_VVAR;
	return strcmp(name, "[vsyscall]") ? M_VMA_ANON : M_VMA_VSYSCALL;
}

/* The pages of a private file mapping that were copied on write, as a dump finds them. */
static void live_copied(const struct m_vma *v)
{
	const uint64_t present = 1ULL << 63, of_file = 1ULL << 61, page = live.m->page_size;
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", live.pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	for (uint64_t a = v->start; a < v->end && live.nstored < 512; a += page) {
		struct md_extent *last = &live.stored[live.nstored];
		uint64_t entry = 0;

		if (io_pread(fd, &entry, 8, a / page * 8) != 8 || !(entry & present) ||
		    entry & of_file)
			continue;
		if (live.nstored && last[-1].addr + last[-1].len == a)
			last[-1].len += page;
		else
			live.stored[live.nstored++] = (struct md_extent){a, page};
	}
	close(fd);
}

static void live_vmas(struct model *m, struct m_mm *mm)
{
	char path[64], line[4096];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", live.pid);
	f = fopen(path, "re");
	mm->vmas = live_alloc(512 * sizeof(*mm->vmas));
	m->files = live_alloc(64 * sizeof(*m->files));
	while (f && fgets(line, sizeof(line), f) && mm->nvmas < 512) {
		struct m_vma *v = &mm->vmas[mm->nvmas++];
		char perm[5];
		int at = 0;

		line[strcspn(line, "\n")] = '\0';
		sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*s %*s %n", &v->start,
		       &v->end, perm, &v->pgoff, &at);
		v->prot = (perm[0] == 'r' ? PROT_READ : 0) | (perm[1] == 'w' ? PROT_WRITE : 0) |
			  (perm[2] == 'x' ? PROT_EXEC : 0);
		v->kind = live_kind(line + at);
		v->name = line[at] ? live_strdup(line + at) : NULL;
		if (v->kind == M_VMA_FILE_PRIVATE)
			v->file_id = live_file(m, v->name);
		if (v->kind == M_VMA_FILE_PRIVATE)
			live_copied(v);
		else if (v->kind == M_VMA_VDSO || (v->kind == M_VMA_ANON && v->prot))
			live.stored[live.nstored++] =
				(struct md_extent){v->start, v->end - v->start};
	}
	if (f)
		fclose(f);
}

static void live_regset(struct m_thread *t, uint32_t note)
{
	struct m_regset *r = &t->regsets[t->nregsets];
	struct iovec iov = {.iov_base = live_alloc(16384), .iov_len = 16384};

	if (ptrace(PTRACE_GETREGSET, t->tid, (void *)(uintptr_t)note, &iov) < 0)
		return;
	*r = (struct m_regset){.note = note, .len = (uint32_t)iov.iov_len, .data = iov.iov_base};
	t->nregsets++;
}

static void live_thread(struct m_thread *t, pid_t tid)
{
	const struct arch_desc *arch = arch_host();
	int64_t ret;
	int status;

	t->tid = (uint32_t)tid;
	snprintf(t->comm, sizeof(t->comm), "worker");
	ptrace(PTRACE_SEIZE, tid, NULL, NULL);
	ptrace(PTRACE_INTERRUPT, tid, NULL, NULL);
	waitpid(tid, &status, __WALL);
	t->regsets = live_alloc(4 * sizeof(*t->regsets));
	live_regset(t, NT_PRSTATUS);
	live_regset(t, NT_FPREGSET);
	live_regset(t, NT_X86_XSTATE);
	memcpy(&ret, t->regsets[0].data + arch->ret_off, sizeof(ret));
	if (arch->restart_fixup && arch->restart_fixup(t->regsets[0].data)) {
		t->in_syscall = true;
		t->syscall_ret = ret;
	}
}

static int live_by_number(const void *a, const void *b)
{
	return *(const pid_t *)a < *(const pid_t *)b ? -1 : 1;
}

/* Stops @pid and describes it. */
static void live_open(pid_t pid)
{
	struct model *m;
	struct m_proc *p;
	pid_t tids[64];
	char path[64];
	struct dirent *d;
	DIR *dir;
	ssize_t n;
	int fd;

	live.arena =
		mmap(NULL, LIVE_ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	live.used = 0;
	m = live_alloc(sizeof(*m));
	p = live_alloc(sizeof(*p));
	live.pid = pid;
	live.m = m;
	live.nstored = 0;
	m->elf_machine = arch_host()->elf_machine;
	m->page_size = (uint32_t)sysconf(_SC_PAGESIZE);
	m->nprocs = 1;
	m->procs = p;
	p->pid = (uint32_t)pid;
	p->state = M_ALIVE;
	strcpy(p->comm, "victim");
	p->threads = live_alloc(64 * sizeof(*p->threads));
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir && (d = readdir(dir)))
		if (d->d_name[0] != '.' && p->nthreads < 64)
			tids[p->nthreads++] = atoi(d->d_name);
	if (dir)
		closedir(dir);
	qsort(tids, p->nthreads, sizeof(tids[0]), live_by_number);
	for (uint32_t i = 0; i < p->nthreads; i++)
		live_thread(&p->threads[i], tids[i]);
	live_vmas(m, &p->mm);
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	live.mem = open(path, O_RDONLY | O_CLOEXEC);
	p->mm.auxv = live_alloc(1024);
	snprintf(path, sizeof(path), "/proc/%d/auxv", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd >= 0 ? io_read(fd, p->mm.auxv, 1024) : 0;
	p->mm.nauxv = n > 0 ? (uint32_t)n / 8 : 0;
	close(fd);
}

static void live_kill(void)
{
	int status;
	pid_t pid;

	close(live.mem);
	munmap(live.arena, LIVE_ARENA);
	kill(live.pid, SIGKILL);
	/*
	 * The leader is reported last, after every traced thread. Another test that has failed may
	 * have left a child.
	 */
	do
		pid = waitpid(-1, &status, __WALL);
	while (pid > 0 && (pid != live.pid || WIFSTOPPED(status)));
}

#endif
