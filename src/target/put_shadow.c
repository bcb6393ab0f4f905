/* SPDX-License-Identifier: MIT */
/* Shadow stacks on and locked, where a thread does that by calls of its own. */
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/io.h"
#include "src/target/fill.h"
#include "src/target/put.h"
#include "src/target/put_list.h"

enum { FEATURES = 3 /* shstk, wrss: all that /proc tells of */, MARK_LEN = 32 };

/* At the start of what the kernel has mapped for a thread that has its own. */
static const char mark[MARK_LEN] = "stasis: the kernel's own page";

/* ENOSYS, EOPNOTSUPP: there are none. */
bool put_has_shadow(void)
{
	const size_t len = (size_t)sysconf(_SC_PAGESIZE);
	void *p = (void *)(uintptr_t)syscall(SYS_map_shadow_stack, 0, len, 0);

	if (p == MAP_FAILED)
		return false;
	munmap(p, len);
	return true;
}

/* --- places of an earlier life -------------------------------------------------------------- */

static bool is_place(const struct remote *r, const struct m_vma *v)
{
	char text[MARK_LEN];

	return v->flags & M_VMF_SHSTK && v->end - v->start == (uint64_t)sysconf(_SC_PAGESIZE) &&
	       io_pread(r->mem_fd, text, sizeof(text), v->start) == sizeof(text) &&
	       !memcmp(text, mark, sizeof(text));
}

/* The threads that they belonged to are not these. */
static int drop_places(struct remote *r, const struct m_proc *p, struct err *err)
{
	static struct list l;
	int ret = 0;

	for (uint32_t i = 0; ret == 0 && i < p->mm.nvmas;) {
		list_begin(&l);
		for (; i < p->mm.nvmas && l.n < LIST_CALLS; i++)
			if (is_place(r, &p->mm.vmas[i]))
				list_add(&l, SYS_munmap, p->mm.vmas[i].start,
					 "unmap an old shadow stack")
					->args[1] = p->mm.vmas[i].end - p->mm.vmas[i].start;
		ret = list_run(&l, r, tree_proc_task(r->tree, r->proc, 0), err);
	}
	return ret;
}

/* --- on and locked -------------------------------------------------------------------------- */

static int fill(struct list *l, struct remote *r, const struct m_proc *p, uint32_t i, void *arg,
		struct err *err)
{
	const struct arch_shadow *s = arch_inject.shadow;
	const struct m_thread *t = &p->threads[i];

	for (uint32_t bit = 1; bit <= FEATURES; bit <<= 1)
		if (t->shadow & bit)
			list_add(l, s->nr, s->enable, "switch on the shadow stack")->args[1] = bit;
	if (t->shadow_locked)
		list_add(l, s->nr, s->lock, "lock the shadow stack")->args[1] = t->shadow_locked;
	return 0;
}

/* Empty as it is, its pointer is at the upper end. */
static int done(const struct list *l, struct remote *r, const struct m_proc *p, uint32_t i,
		void *arg, struct err *err)
{
	const struct m_thread *t = &p->threads[i];
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t pointer = 0;
	struct iovec iov = {&pointer, sizeof(pointer)};
	ssize_t n;

	if (!t->shadow)
		return 0;
	if (ptrace(PTRACE_GETREGSET, (pid_t)t->tid, arch_inject.shadow->note, &iov) < 0)
		return err_set(err, errno, "read the shadow stack's pointer of thread %u", t->tid);
	n = io_pwrite(r->mem_fd, mark, sizeof(mark), pointer - page);
	if (n != sizeof(mark))
		return err_set(err, n < 0 ? (int)-n : EIO,
			       "write to the new shadow stack at %#" PRIx64 " of thread %u",
			       pointer - page, t->tid);
	return 0;
}

/* As long as a stack may be, but no longer than that. */
static int limit(const struct remote *r, const struct rlimit *to, struct rlimit *ret_was,
		 struct err *err)
{
	if (prlimit(r->proc->pid, RLIMIT_STACK, to, ret_was) == 0)
		return 0;
	return err_set(err, errno, "limit the stacks of process %d", r->proc->pid);
}

static int check(const struct m_proc *p, bool *ret_any, struct err *err)
{
	const struct arch_shadow *s = arch_inject.shadow;

	for (uint32_t i = 0; i < p->nthreads; i++) {
		const struct m_thread *t = &p->threads[i];

		if (!(t->shadow | t->shadow_locked))
			continue;
		if (!s || !s->nr || (t->shadow | t->shadow_locked) & ~(uint32_t)FEATURES)
			return err_fail(err, EBADMSG, ERR_IMAGE,
					"thread %u: features %#x and %#x of a shadow stack, which "
					"this CPU does not have",
					t->tid, t->shadow, t->shadow_locked);
		*ret_any = true;
	}
	return 0;
}

int put_shadow(struct remote *r, const struct m_proc *p, struct err *err)
{
	const struct list_each each = {fill, done, NULL};
	struct rlimit was, page;
	struct err drop = {0};
	bool any = false;
	int ret = check(p, &any, err), back;

	if (ret < 0 || !any)
		return ret;
	ret = drop_places(r, p, err);
	if (ret == 0)
		ret = limit(r, NULL, &was, err);
	if (ret < 0)
		return ret;
	page = (struct rlimit){(rlim_t)sysconf(_SC_PAGESIZE), was.rlim_max};
	ret = limit(r, &page, NULL, err);
	if (ret < 0)
		return ret;
	ret = list_run_each(&each, r, p, err);
	if (ret < 0)
		err_hint(err, "this takes a CPU with CET, and a kernel since Linux 6.6 that has "
			      "CONFIG_X86_USER_SHADOW_STACK");
	back = limit(r, &was, NULL, ret < 0 ? &drop : err);
	return ret < 0 ? ret : back;
}
