/* SPDX-License-Identifier: MIT */
/*
 * Locks on files, from the "lock:" lines of fdinfo.
 *
 * The kernel prints a lock there only for the description that it was taken through, and a POSIX
 * lock only in the process that owns it. Lines with an arrow are somebody waiting.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/target/files.h"

static enum m_lock_kind kind_of(const char *name)
{
	if (!strcmp(name, "POSIX"))
		return M_LOCK_POSIX;
	if (!strcmp(name, "FLOCK"))
		return M_LOCK_FLOCK;
	if (!strcmp(name, "OFDLCK"))
		return M_LOCK_OFD;
	return !strcmp(name, "LEASE") ? M_LOCK_LEASE : 0;
}

/* "1: POSIX  ADVISORY  WRITE 22087 08:01:1966 10 EOF" */
static bool take_lock(const char *p, struct m_lock *l, char ret_state[16])
{
	char kind[16], type[16], end[32];
	long long start;

	if (sscanf(p, " %*d: %15s %15s %15s %*d %*x:%*x:%*u %lld %31s", kind, ret_state, type,
		   &start, end) != 5)
		return false;
	l->kind = kind_of(kind);
	l->type = !strcmp(type, "WRITE") ? F_WRLCK : !strcmp(type, "READ") ? F_RDLCK : F_UNLCK;
	l->start = start;
	l->len = !strcmp(end, "EOF") ? 0 : strtoll(end, NULL, 10) - start + 1;
	return l->kind != 0 && l->type != F_UNLCK;
}

/* Several numbers of one description show the same lock. */
static bool lock_known(const struct files *f, const struct m_lock *l, uint32_t file_id)
{
	for (uint32_t i = 0; i < f->nlock_files; i++) {
		const struct m_lock *e = &f->m->locks[i];

		if (f->lock_files[i] == file_id && e->kind == l->kind && e->start == l->start &&
		    e->len == l->len && (l->kind != M_LOCK_POSIX || e->pid == l->pid))
			return true;
	}
	return false;
}

static int lock_add(struct files *f, const struct m_lock *l, uint32_t file_id)
{
	uint32_t *file =
		files_push(&f->lock_files, &f->nlock_files, &f->lock_files_room, sizeof(*file));
	struct m_lock *e = model_push(f->m, &f->m->locks, &f->m->nlocks, sizeof(*e));

	if (!file || !e)
		return -ENOMEM;
	*file = file_id;
	*e = *l;
	return 0;
}

int files_locks(struct files *f, const struct proc_at *at, uint32_t fd, uint32_t file_id,
		const char *text, struct err *err)
{
	const char *p = text;
	int ret = 0;

	while (ret == 0 && (p = strstr(p, "\nlock:"))) {
		struct m_lock l = {.pid = at->pid, .fd = fd};
		char state[16];

		p += 6;
		if (!take_lock(p, &l, state) || lock_known(f, &l, file_id))
			continue;
		if (l.kind == M_LOCK_LEASE && strcmp(state, "ACTIVE") != 0)
			ret = finding_fatal(f->m, at->pid,
					    "fd %u: a lease that is being broken is not carried",
					    fd);
		else
			ret = lock_add(f, &l, file_id);
	}
	return ret < 0 ? err_set(err, ENOMEM, "locks of pid %u", at->pid) : 0;
}
