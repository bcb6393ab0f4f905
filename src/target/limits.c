/* SPDX-License-Identifier: MIT */
/* Room for our scratch area in a process that is at its limit of memory. */
#include "src/target/limits.h"

#include <stdbool.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/fault.h"
#include "src/target/procfs.h"

/* In bytes: all mappings; what may be written and is private, with stacks. */
static bool sizes(pid_t pid, uint64_t *ret_all, uint64_t *ret_data)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), v[6];
	const char *p;
	char text[256];

	if (procfs_read(text, sizeof(text), "/proc/%d/statm", pid) <= 0)
		return false;
	p = text;
	for (int i = 0; i < 6; i++)
		if (!procfs_dec(&p, &v[i]))
			return false;
	*ret_all = v[0] * page;
	*ret_data = v[5] * page;
	return true;
}

static bool is_short(const struct rlimit *has, uint64_t size, uint64_t len)
{
	return has->rlim_cur != RLIM_INFINITY &&
	       (size > has->rlim_cur || len > has->rlim_cur - size);
}

static void raise_one(struct target_limits *l, pid_t pid, int which, const struct rlimit *was)
{
	struct rlimit up = {RLIM_INFINITY, RLIM_INFINITY};

	l->v[l->n].which = which;
	l->v[l->n++].was = *was;
	__atomic_store_n(&l->pid, pid, __ATOMIC_RELEASE);
	if (prlimit(pid, (enum __rlimit_resource)which, &up, NULL) == 0)
		return;
	/* Without CAP_SYS_RESOURCE: as far as it goes. */
	up = (struct rlimit){was->rlim_max, was->rlim_max};
	prlimit(pid, (enum __rlimit_resource)which, &up, NULL);
}

void limits_raise(struct target_limits *l, pid_t pid, uint64_t len)
{
	struct rlimit all, data;
	uint64_t size = 0, size_data = 0;
	bool known = false;

	if (!l || l->pid || prlimit(pid, RLIMIT_AS, NULL, &all) < 0 ||
	    prlimit(pid, RLIMIT_DATA, NULL, &data) < 0)
		return;
	if (all.rlim_cur != RLIM_INFINITY || data.rlim_cur != RLIM_INFINITY)
		known = sizes(pid, &size, &size_data);
	if (known && is_short(&all, size, len))
		raise_one(l, pid, RLIMIT_AS, &all);
	if (known && is_short(&data, size_data, len))
		raise_one(l, pid, RLIMIT_DATA, &data);
	/* For tests that kill the guardian here. */
	if (l->pid && FAULT("target.limits_raised"))
		limits_put_back(l);
}

void limits_put_back(struct target_limits *l)
{
	pid_t pid = l ? __atomic_load_n(&l->pid, __ATOMIC_ACQUIRE) : 0;

	for (unsigned i = 0; pid && i < l->n && i < 2; i++)
		prlimit(pid, (enum __rlimit_resource)l->v[i].which, &l->v[i].was, NULL);
	if (!pid)
		return;
	l->n = 0;
	__atomic_store_n(&l->pid, 0, __ATOMIC_RELEASE);
}
