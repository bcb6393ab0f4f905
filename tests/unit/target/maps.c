/* SPDX-License-Identifier: MIT */
/* The address space of real processes: kinds, files, segments, and what is shared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "src/target/files.h"
#include "tests/unit/target/child.h"

/* A multiple of a page. */
#ifdef __powerpc64__
enum { PAGE = 65536 };
#else
enum { PAGE = 4096 };
#endif

/* One child's model. */
struct view {
	struct model *m;
	struct files *f;
	struct m_proc *p;
	struct err err;
};

static void view_open(struct view *v)
{
	*v = (struct view){.m = model_new(0)};
	v->f = files_new(v->m, &v->err);
	assert_non_null(v->f);
}

static int view_collect(struct view *v, pid_t pid)
{
	int ret;

	v->p = model_push(v->m, &v->m->procs, &v->m->nprocs, sizeof(*v->p));
	v->p->pid = (uint32_t)pid;
	ret = proc_collect(v->m, v->p, &v->err);
	if (ret == 0)
		ret = maps_collect(v->m, v->p, v->f, &v->err);
	return ret;
}

static void view_close(struct view *v)
{
	files_free(v->f);
	model_free(v->m);
}

static const struct m_vma *vma_at(const struct view *v, uint64_t addr)
{
	for (uint32_t i = 0; i < v->p->mm.nvmas; i++)
		if (v->p->mm.vmas[i].start <= addr && addr < v->p->mm.vmas[i].end)
			return &v->p->mm.vmas[i];
	fail_msg("no mapping at %#llx", (unsigned long long)addr);
	return NULL;
}

static bool has_finding(const struct view *v, const char *part)
{
	for (uint32_t i = 0; i < v->m->nfindings; i++)
		if (strstr(v->m->findings[i].text, part))
			return true;
	return false;
}

static char dir[] = "/tmp/stasis-maps-XXXXXX";

static int make_file(const char *name, int flags)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	if (fd < 0 || ftruncate(fd, 4 * PAGE))
		_exit(98);
	close(fd);
	return open(path, flags);
}

static uint64_t map(size_t len, int prot, int flags, int fd, off_t off)
{
	void *p = mmap(NULL, len, prot, flags, fd, off);

	return p == MAP_FAILED ? 0 : (uint64_t)(uintptr_t)p;
}

enum {
	AT_MEMFD_SHARED,
	AT_MEMFD_PRIVATE,
	AT_SHARED_ANON,
	AT_SYSV,
	AT_DELETED,
	AT_ODD_NAME,
	AT_FAKE_DELETED,
	AT_READ_ONLY,
	AT_SHARED_RO,
	AT_PROT_NONE,
	AT_GROWSDOWN,
	AT_ADVISED,
	AT_ZERO,
	AT_FAKE_SYSV,
	SYSV_ID,
	MEMFD_INO,
};

static void build_maps(struct child *c)
{
	const int rw = PROT_READ | PROT_WRITE;
	uint64_t *at = c->shared;
	int memfd = memfd_create("a\nb (deleted)", MFD_ALLOW_SEALING);
	int gone = make_file("gone", O_RDWR);
	char path[256];
	struct stat st;

	if (memfd < 0 || ftruncate(memfd, 8 * PAGE) || fcntl(memfd, F_ADD_SEALS, F_SEAL_GROW))
		_exit(98);
	fstat(memfd, &st);
	at[MEMFD_INO] = st.st_ino;
	at[AT_MEMFD_SHARED] = map(2 * PAGE, rw, MAP_SHARED, memfd, PAGE);
	at[AT_MEMFD_PRIVATE] = map(PAGE, rw, MAP_PRIVATE, memfd, 0);
	at[AT_SHARED_ANON] = map(3 * PAGE, rw, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	at[SYSV_ID] = (uint64_t)shmget(IPC_PRIVATE, 2 * PAGE, IPC_CREAT | 0600);
	at[AT_SYSV] = (uint64_t)(uintptr_t)shmat((int)at[SYSV_ID], NULL, 0);
	shmctl((int)at[SYSV_ID], IPC_RMID, NULL);
	at[AT_DELETED] = map(PAGE, PROT_READ, MAP_SHARED, gone, 0);
	snprintf(path, sizeof(path), "%s/gone", dir);
	unlink(path);
	at[AT_ODD_NAME] = map(PAGE, rw, MAP_PRIVATE, make_file("odd\n \\012x", O_RDWR), PAGE);
	at[AT_FAKE_DELETED] = map(PAGE, rw, MAP_SHARED, make_file("x (deleted)", O_RDWR), 0);
	at[AT_READ_ONLY] = map(PAGE, PROT_READ, MAP_PRIVATE, make_file("plain", O_RDONLY), 0);
	at[AT_SHARED_RO] = map(PAGE, PROT_READ, MAP_SHARED, make_file("plain", O_RDONLY), 0);
	at[AT_PROT_NONE] = map(PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	at[AT_GROWSDOWN] = map(PAGE, rw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0);
	at[AT_ADVISED] = map(PAGE, rw | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	madvise((void *)(uintptr_t)at[AT_ADVISED], PAGE, MADV_DONTDUMP);
	madvise((void *)(uintptr_t)at[AT_ADVISED], PAGE, MADV_DONTFORK);
	at[AT_ZERO] = map(PAGE, rw, MAP_PRIVATE, open("/dev/zero", O_RDWR), 0);
	at[AT_FAKE_SYSV] = map(PAGE, rw, MAP_SHARED, make_file("SYSV00000001", O_RDWR), 0);
}

static void check_segments(const struct view *v, const uint64_t *at)
{
	const struct m_vma *a = vma_at(v, at[AT_MEMFD_SHARED]);
	const struct m_shm *s;

	assert_int_equal(a->kind, M_VMA_SHMEM);
	assert_true(a->shared && a->pgoff == PAGE && a->flags & M_VMF_MAYSHARE);
	s = model_shm(v->m, a->shm_id);
	assert_non_null(s);
	assert_string_equal(s->name, "a\nb (deleted)");
	assert_true(s->memfd && !s->sysv && s->seals_known);
	assert_int_equal(s->seals, F_SEAL_GROW);
	assert_int_equal(s->size, 8 * PAGE);
	assert_int_equal(s->ino, at[MEMFD_INO]);
	assert_int_equal(s->pid, v->p->pid);
	assert_int_equal(s->map_len, v->m->shms[a->shm_id - 1].map_len);
	assert_int_equal(model_file(v->m, a->file_id)->type, M_FILE_MEMFD);
	assert_int_equal(model_file(v->m, a->file_id)->flags, O_RDWR);

	a = vma_at(v, at[AT_MEMFD_PRIVATE]);
	assert_int_equal(a->kind, M_VMA_FILE_PRIVATE);
	assert_int_equal(model_file(v->m, a->file_id)->shm_id, s->id);
	assert_int_equal(model_file(v->m, a->file_id)->type, M_FILE_MEMFD);

	a = vma_at(v, at[AT_SHARED_ANON]);
	assert_int_equal(a->kind, M_VMA_SHMEM);
	s = model_shm(v->m, a->shm_id);
	assert_string_equal(s->name, "/dev/zero");
	assert_true(!s->memfd && !s->sysv);
	assert_int_equal(s->size, 3 * PAGE);
	assert_int_equal(s->map_start, a->start);

	a = vma_at(v, at[AT_SYSV]);
	assert_int_equal(a->kind, M_VMA_SHMEM);
	s = model_shm(v->m, a->shm_id);
	assert_true(s->sysv);
	assert_int_equal(s->ino, at[SYSV_ID]);
	assert_int_equal(s->size, 2 * PAGE);
}

static void check_path(const struct view *v, uint64_t addr, enum m_vma_kind kind, const char *name,
		       bool deleted, uint32_t flags)
{
	const struct m_vma *a = vma_at(v, addr);
	const struct m_file *file = model_file(v->m, a->file_id);
	char path[256];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(a->kind, kind);
	assert_non_null(file);
	assert_int_equal(file->type, M_FILE_REG);
	assert_string_equal(file->path, path);
	assert_int_equal(file->deleted, deleted);
	assert_int_equal(file->flags, flags);
	assert_int_equal(file->size, 4 * PAGE);
	if (deleted)
		return;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(file->ino, st.st_ino);
	assert_int_equal(file->dev, st.st_dev);
	assert_int_equal(file->mtime_ns, st.st_mtim.tv_sec * 1000000000LL + st.st_mtim.tv_nsec);
}

static void check_mm(const struct view *v)
{
	const struct m_mm *mm = &v->p->mm;
	const struct m_file *exe = model_file(v->m, mm->exe_file_id);
	char self[256];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	assert_true(n > 0);
	self[n] = '\0';
	assert_string_equal(exe->path, self);
	assert_true(exe->build_id_len >= 8);
	assert_true(mm->start_code && mm->end_code > mm->start_code);
	assert_true(mm->start_stack && mm->arg_start && mm->env_end >= mm->arg_end);
	assert_true(vma_at(v, mm->start_stack)->flags & M_VMF_STACK);
	assert_int_equal(vma_at(v, mm->start_code)->file_id, mm->exe_file_id);
	assert_true(mm->nauxv >= 20 && mm->nauxv % 2 == 0);
	assert_true(mm->auxv[mm->nauxv - 2] != 0);
	for (uint32_t i = 1; i < mm->nvmas; i++)
		assert_true(mm->vmas[i - 1].end <= mm->vmas[i].start);
}

static void kinds_of_mappings(void **state)
{
	struct child c;
	struct view v;
	const uint64_t *at;
	bool vdso = false;

	child_start(&c, build_maps);
	at = c.shared;
	view_open(&v);
	assert_int_equal(view_collect(&v, c.pid), 0);
	check_segments(&v, at);
	check_path(&v, at[AT_DELETED], M_VMA_FILE_SHARED, "gone", true, O_RDWR);
	check_path(&v, at[AT_ODD_NAME], M_VMA_FILE_PRIVATE, "odd\n \\012x", false, O_RDONLY);
	check_path(&v, at[AT_FAKE_DELETED], M_VMA_FILE_SHARED, "x (deleted)", false, O_RDWR);
	check_path(&v, at[AT_READ_ONLY], M_VMA_FILE_PRIVATE, "plain", false, O_RDONLY);
	check_path(&v, at[AT_SHARED_RO], M_VMA_FILE_SHARED, "plain", false, O_RDONLY);
	check_path(&v, at[AT_FAKE_SYSV], M_VMA_FILE_SHARED, "SYSV00000001", false, O_RDWR);
	assert_true(vma_at(&v, at[AT_SHARED_RO])->shared);
	assert_int_equal(vma_at(&v, at[AT_ODD_NAME])->pgoff, PAGE);
	assert_int_equal(vma_at(&v, at[AT_PROT_NONE])->prot, PROT_NONE);
	assert_int_equal(vma_at(&v, at[AT_PROT_NONE])->kind, M_VMA_ANON);
	assert_true(vma_at(&v, at[AT_GROWSDOWN])->flags & M_VMF_GROWSDOWN);
	assert_int_equal(vma_at(&v, at[AT_ADVISED])->flags & (M_VMF_DONTDUMP | M_VMF_DONTFORK),
			 M_VMF_DONTDUMP | M_VMF_DONTFORK);
	assert_non_null(strstr(vma_at(&v, at[AT_ADVISED])->vmflags, "dc"));
	assert_int_equal(vma_at(&v, at[AT_ZERO])->kind, M_VMA_FILE_PRIVATE);
	for (uint32_t i = 0; i < v.p->mm.nvmas; i++)
		vdso |= v.p->mm.vmas[i].kind == M_VMA_VDSO;
	assert_true(vdso);
	check_mm(&v);
	assert_int_equal(v.m->nghosts, 1);
	assert_false(has_finding(&v, "plain"));
	view_close(&v);
	child_end(&c);
}

static void change_maps(struct child *c)
{
	uint64_t addr = map(4 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	c->shared[0] = addr;
	madvise((void *)(uintptr_t)addr, 4 * PAGE, MADV_DONTFORK);
	child_sync(c);
	madvise((void *)(uintptr_t)addr, PAGE, MADV_DONTDUMP);
}

static void survey_then_collect(void **state)
{
	struct child c;
	struct view v;
	const struct m_vma *a;

	child_start(&c, change_maps);
	view_open(&v);
	v.f->survey_worth_ns = 0;
	assert_int_equal(maps_survey(v.f, c.pid, &v.err), 0);
	assert_true(v.f->nbuildids > 0);
	assert_int_equal(view_collect(&v, c.pid), 0);
	a = vma_at(&v, c.shared[0]);
	assert_int_equal(a->end - a->start, 4 * PAGE);
	assert_true(a->flags & M_VMF_DONTFORK && !(a->flags & M_VMF_DONTDUMP));
	assert_non_null(strstr(a->vmflags, "dc"));
	check_mm(&v);
	view_close(&v);

	/* What the survey saw is no more: nothing of it is believed. */
	view_open(&v);
	v.f->survey_worth_ns = 0;
	assert_int_equal(maps_survey(v.f, c.pid, &v.err), 0);
	child_next(&c);
	assert_int_equal(view_collect(&v, c.pid), 0);
	a = vma_at(&v, c.shared[0]);
	assert_int_equal(a->end - a->start, PAGE);
	assert_true(a->flags & M_VMF_DONTFORK && a->flags & M_VMF_DONTDUMP);
	assert_true(vma_at(&v, c.shared[0] + PAGE)->flags & M_VMF_DONTFORK);
	/* A second survey of the same process, and one of nobody. */
	assert_int_equal(maps_survey(v.f, c.pid, &v.err), 0);
	assert_int_equal(v.f->nsurveys, 1);
	child_end(&c);
	assert_int_equal(maps_survey(v.f, c.pid, &v.err), 0);
	assert_int_equal(v.err.errnum, 0);
	view_close(&v);
}

static void give_key_later(struct child *c)
{
	/* Between guards, so that it is a VMA of its own. */
	uint64_t addr = map(3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + PAGE;
	int key;

	c->shared[0] = addr;
	mprotect((void *)(uintptr_t)addr, PAGE, PROT_READ);
	child_sync(c);
	key = (int)syscall(SYS_pkey_alloc, 0, 0);
	c->shared[1] = (uint64_t)key;
	if (key > 0 && syscall(SYS_pkey_mprotect, addr, PAGE, PROT_READ, key))
		_exit(98);
	child_sync(c);
}

/* Nothing in maps tells of a key either; that the process has some is found out later. */
static void first_key_after_survey(void **state)
{
	struct child c;
	struct view v;
	int key;

	child_start(&c, give_key_later);
	view_open(&v);
	v.f->survey_worth_ns = 0;
	assert_int_equal(maps_survey(v.f, c.pid, &v.err), 0);
	child_next(&c);
	key = (int)c.shared[1];
	assert_int_equal(view_collect(&v, c.pid), 0);
	assert_true(v.f->inherited);
	assert_int_equal(vma_at(&v, c.shared[0])->pkey, 0);
	assert_int_equal(maps_keys(v.f, v.p, &v.err), 0);
	assert_int_equal(vma_at(&v, c.shared[0])->pkey, 0);
	v.p->mm.pkeys = 2;
	assert_int_equal(maps_keys(v.f, v.p, &v.err), 0);
	assert_int_equal(vma_at(&v, c.shared[0])->pkey, key > 0 ? key : 0);
	assert_int_equal(vma_at(&v, c.shared[0] - PAGE)->pkey, 0);
	view_close(&v);
	/* Once it has some, a survey is not believed. */
	view_open(&v);
	v.f->survey_worth_ns = 0;
	assert_int_equal(maps_survey(v.f, c.pid, &v.err), 0);
	assert_int_equal(view_collect(&v, c.pid), 0);
	assert_int_equal(v.f->inherited, key <= 0);
	assert_int_equal(vma_at(&v, c.shared[0])->pkey, key > 0 ? key : 0);
	view_close(&v);
	child_end(&c);
	if (key <= 0)
		skip();
}

static void advise_later(struct child *c)
{
	/* Between guards, so that it is a VMA of its own. */
	uint64_t addr = map(3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + PAGE;

	c->shared[0] = addr;
	mprotect((void *)(uintptr_t)addr, PAGE, PROT_READ);
	child_sync(c);
	madvise((void *)(uintptr_t)addr, PAGE, MADV_DONTFORK);
}

/* Nothing in maps tells of it: only a survey too dear to repeat is believed. */
static void survey_is_believed_if_dear(void **state)
{
	for (int dear = 0; dear < 2; dear++) {
		struct child c;
		struct view v;
		uint32_t flags;

		child_start(&c, advise_later);
		view_open(&v);
		v.f->survey_worth_ns = dear ? 0 : UINT64_MAX;
		assert_int_equal(maps_survey(v.f, c.pid, &v.err), 0);
		child_next(&c);
		assert_int_equal(view_collect(&v, c.pid), 0);
		flags = vma_at(&v, c.shared[0])->flags;
		assert_int_equal(flags & M_VMF_DONTFORK, dear ? 0 : M_VMF_DONTFORK);
		view_close(&v);
		child_end(&c);
	}
}

static int sleeper(void *arg)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		pause();
	return 0;
}

static void share_memory(struct child *c)
{
	static char stack[65536] __attribute__((aligned(16)));
	pid_t pid;

	c->shared[0] = (uint64_t)clone(sleeper, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL);
	pid = fork();
	if (!pid)
		sleeper(NULL);
	c->shared[1] = (uint64_t)pid;
}

static void shared_address_space(void **state)
{
	struct child c;
	struct view v;
	uint32_t nvmas;

	child_start(&c, share_memory);
	view_open(&v);
	assert_int_equal(view_collect(&v, c.pid), 0);
	assert_int_equal(v.p->vm_id, 2);
	assert_false(v.p->shares_vm);
	nvmas = v.p->mm.nvmas;
	assert_int_equal(view_collect(&v, (pid_t)c.shared[0]), 0);
	assert_int_equal(v.p->vm_id, 2);
	assert_true(v.p->shares_vm);
	assert_int_equal(v.p->mm.nvmas, nvmas);
	assert_int_equal(view_collect(&v, (pid_t)c.shared[1]), 0);
	assert_int_equal(v.p->vm_id, 3);
	assert_false(v.p->shares_vm);
	/* Files that both map are the same entries. */
	assert_int_equal(v.p->mm.exe_file_id, v.m->procs[0].mm.exe_file_id);
	kill((pid_t)c.shared[0], SIGKILL);
	kill((pid_t)c.shared[1], SIGKILL);
	view_close(&v);
	child_end(&c);
}

static void *survivor(void *arg)
{
	child_sync(arg);
	sleeper(NULL);
	return NULL;
}

static void main_thread_exits(struct child *c)
{
	pthread_t t;

	pthread_create(&t, NULL, survivor, c);
	pthread_exit(NULL);
}

static void wait_for_zombie(pid_t pid)
{
	struct procfs_stat st;

	do {
		sched_yield();
	} while (procfs_stat(pid, 0, &st) == 0 && st.state != 'Z');
}

static void main_thread_gone(void **state)
{
	struct child c;
	struct view v;

	child_start(&c, main_thread_exits);
	wait_for_zombie(c.pid);
	view_open(&v);
	assert_int_equal(view_collect(&v, c.pid), 0);
	assert_int_equal(v.p->state, M_ALIVE);
	assert_true(v.p->mm.nvmas > 10);
	check_mm(&v);
	view_close(&v);
	child_end(&c);
}

static void nothing(struct child *c)
{
}

static void process_gone(void **state)
{
	struct child c;
	struct view v;

	child_start(&c, nothing);
	view_open(&v);
	kill(c.pid, SIGKILL);
	wait_for_zombie(c.pid);
	assert_int_equal(view_collect(&v, c.pid), 0);
	assert_int_equal(v.p->state, M_DEAD);
	v.p->state = M_ALIVE;
	assert_int_equal(maps_collect(v.m, v.p, v.f, &v.err), -ESRCH);
	child_end(&c);
	err_clear(&v.err);
	assert_int_equal(view_collect(&v, c.pid), -ESRCH);
	assert_int_equal(v.err.class, ERR_TARGET_GONE);
	view_close(&v);
}

static int setup(void **state)
{
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	static const char *const names[] = {"odd\n \\012x", "x (deleted)", "plain", "SYSV00000001"};
	char path[256];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kinds_of_mappings),
		cmocka_unit_test(survey_then_collect),
		cmocka_unit_test(survey_is_believed_if_dear),
		cmocka_unit_test(first_key_after_survey),
		cmocka_unit_test(shared_address_space),
		cmocka_unit_test(main_thread_gone),
		cmocka_unit_test(process_gone),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
