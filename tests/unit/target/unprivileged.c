/* SPDX-License-Identifier: MIT */
/* What a user without capabilities finds out of a process of his own: no map_files, no robust list.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "src/target/collect.h"
#include "tests/unit/target/child.h"

#define PAGE ((size_t)sysconf(_SC_PAGESIZE))

enum { NOBODY = 65534 };

static char dir[] = "/tmp/stasis-user-XXXXXX";

enum { PLAIN, GONE, ODD, MEMFD, SHARED, MEMFD_FD };

static void *map_file(const char *name)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	if (fd < 0 || ftruncate(fd, PAGE))
		_exit(98);
	return mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
}

static void build(struct child *c)
{
	char path[256];
	int fd = memfd_create("mine", MFD_ALLOW_SEALING);

	c->shared[PLAIN] = (uint64_t)(uintptr_t)map_file("plain");
	c->shared[GONE] = (uint64_t)(uintptr_t)map_file("gone");
	c->shared[ODD] = (uint64_t)(uintptr_t)map_file("od\nd");
	snprintf(path, sizeof(path), "%s/gone", dir);
	unlink(path);
	if (ftruncate(fd, 2 * PAGE))
		_exit(98);
	c->shared[MEMFD_FD] = (uint64_t)fd;
	c->shared[MEMFD] = (uint64_t)(uintptr_t)mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	c->shared[SHARED] = (uint64_t)(uintptr_t)mmap(NULL, 3 * PAGE, PROT_READ,
						      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static const struct m_vma *vma_at(const struct m_proc *p, uint64_t addr)
{
	for (uint32_t i = 0; i < p->mm.nvmas; i++)
		if (p->mm.vmas[i].start == addr)
			return &p->mm.vmas[i];
	fail_msg("no mapping at %#llx", (unsigned long long)addr);
	return NULL;
}

static void check_path(const struct model *m, const struct m_proc *p, uint64_t addr,
		       const char *name, bool deleted)
{
	const struct m_vma *v = vma_at(p, addr);
	const struct m_file *file = model_file(m, v->file_id);
	char path[256];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_non_null(file);
	assert_int_equal(v->kind, M_VMA_FILE_SHARED);
	assert_string_equal(file->path, path);
	assert_int_equal(file->deleted, deleted);
	assert_true(file->ino && file->dev);
	if (deleted)
		return;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(file->ino, st.st_ino);
	assert_int_equal(file->size, PAGE);
}

static void own_process(void **state)
{
	struct model *m = model_new(0);
	struct err err = {0};
	struct files *f = files_new(m, &err);
	struct m_proc *p = model_push(m, &m->procs, &m->nprocs, sizeof(*p));
	struct m_thread *t;
	const struct m_vma *v;
	struct child c;

	child_start(&c, build);
	p->pid = (uint32_t)c.pid;
	assert_int_equal(maps_survey(f, c.pid, &err), 0);
	assert_int_equal(proc_collect(m, p, &err), 0);
	assert_int_equal(maps_collect(m, p, f, &err), 0);
	assert_false(model_shm(m, vma_at(p, c.shared[MEMFD])->shm_id)->seals_known);
	assert_int_equal(files_collect(f, p, &err), 0);
	t = model_push(m, &p->threads, &p->nthreads, sizeof(*t));
	t->tid = p->pid;
	assert_int_equal(proc_collect_thread(m, p, t, &err), 0);
	assert_int_equal(err.errnum, 0);

	check_path(m, p, c.shared[PLAIN], "plain", false);
	check_path(m, p, c.shared[ODD], "od\nd", false);
	check_path(m, p, c.shared[GONE], "gone", true);
	v = vma_at(p, c.shared[MEMFD]);
	assert_int_equal(v->kind, M_VMA_SHMEM);
	assert_string_equal(model_shm(m, v->shm_id)->name, "mine");
	assert_true(model_shm(m, v->shm_id)->memfd);
	/* The descriptor tells what the mapping could not. */
	assert_int_equal(model_shm(m, v->shm_id)->size, 2 * PAGE);
	assert_true(model_shm(m, v->shm_id)->seals_known);
	v = vma_at(p, c.shared[SHARED]);
	assert_int_equal(v->kind, M_VMA_SHMEM);
	assert_string_equal(model_shm(m, v->shm_id)->name, "/dev/zero");
	assert_int_equal(model_shm(m, v->shm_id)->size, 3 * PAGE);
	assert_true(p->mm.exe_file_id);
	assert_int_equal(t->creds.uid, NOBODY);
	assert_int_equal(t->timerslack_ns, 0);
	files_free(f);
	model_free(m);
	child_end(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(own_process),
	};
	char path[256];
	int ret;

	/* With capabilities this test would see other answers. */
	if (geteuid() != 0)
		return 77;
	if (setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY) ||
	    prctl(PR_SET_DUMPABLE, 1) || !mkdtemp(dir))
		return 77;
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(path, sizeof(path), "%s/plain", dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/od\nd", dir);
	unlink(path);
	rmdir(dir);
	return ret;
}
