/* SPDX-License-Identifier: MIT */
/* The seccomp filters of a stopped thread. */
#include <errno.h>
#include <linux/filter.h>
#include <string.h>
#include <sys/ptrace.h>

#include "src/target/collect.h"
#include "src/target/gather.h"

/* Linux 4.16; PTRACE_SECCOMP_GET_FILTER is of 4.4. */
struct metadata {
	uint64_t filter_off, flags;
};

static struct sock_filter code[BPF_MAXINSNS];

/* Filter @i, 0 being the oldest, into `code`: bytes, -ENOENT behind the last one. */
static int fetch(pid_t tid, uint32_t i, uint32_t *ret_flags)
{
	struct metadata md = {.filter_off = i};
	long n = ptrace(PTRACE_SECCOMP_GET_FILTER, tid, i, code);

	if (n < 0)
		return -errno;
	*ret_flags = ptrace(PTRACE_SECCOMP_GET_METADATA, tid, sizeof(md), &md) < 0
			     ? 0
			     : (uint32_t)md.flags;
	return (int)n * (int)sizeof(code[0]);
}

/* 1 when the thread has these filters and no other. */
static int has_chain(pid_t tid, const struct m_seccomp_chain *c)
{
	uint32_t flags;
	int len;

	for (uint32_t i = 0; i < c->n; i++) {
		len = fetch(tid, i, &flags);
		if (len < 0)
			return len == -ENOENT ? 0 : len;
		if ((uint32_t)len != c->filters[i].len || flags != c->filters[i].flags ||
		    memcmp(code, c->filters[i].code, (size_t)len) != 0)
			return 0;
	}
	len = fetch(tid, c->n, &flags);
	return len == -ENOENT ? 1 : len < 0 ? len : 0;
}

static int new_chain(struct model *m, pid_t tid)
{
	struct m_seccomp_chain c = {0}, *to;
	uint32_t flags;
	int len;

	while ((len = fetch(tid, c.n, &flags)) >= 0) {
		struct m_seccomp_filter *f = model_push(m, &c.filters, &c.n, sizeof(*f));

		if (f)
			f->code = model_alloc(m, (size_t)len);
		if (!f || !f->code)
			return -ENOMEM;
		f->flags = flags;
		f->len = (uint32_t)len;
		memcpy(f->code, code, (size_t)len);
	}
	if (len != -ENOENT)
		return len;
	to = model_push(m, &m->chains, &m->nchains, sizeof(*to));
	if (!to)
		return -ENOMEM;
	*to = c;
	return 0;
}

/* Most threads have what the one before them has. */
static int find_chain(struct model *m, pid_t tid, uint32_t *ret_id)
{
	int ret = 0;

	for (uint32_t id = m->nchains; id; id--) {
		ret = has_chain(tid, &m->chains[id - 1]);
		if (ret < 0)
			return ret;
		*ret_id = id;
		if (ret)
			return 0;
	}
	ret = new_chain(m, tid);
	*ret_id = m->nchains;
	return ret;
}

int seccomp_collect(struct model *m, const struct m_proc *p, struct m_thread *t, struct err *err)
{
	uint32_t id = 0;
	int ret = find_chain(m, (pid_t)t->tid, &id);

	if (ret == 0) {
		t->seccomp_chain = id;
		return 0;
	}
	if (ret == -ENOMEM || ret == -ESRCH)
		return err_set(err, -ret, "seccomp filters of thread %u", t->tid);
	/* EACCES: no CAP_SYS_ADMIN; EMEDIUMTYPE: not of classic BPF, which is all we could name. */
	if (finding_add(m, p->pid, "seccomp filters of thread %u not read: %s%s", t->tid,
			strerrordesc_np(-ret),
			ret == -EACCES || ret == -EPERM ? " (needs CAP_SYS_ADMIN)" : "") < 0)
		return err_set(err, ENOMEM, "findings of process %u", p->pid);
	return 0;
}
