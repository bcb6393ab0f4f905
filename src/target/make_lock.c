/* SPDX-License-Identifier: MIT */
/*
 * Locks taken again: those of a description by the tool, which holds it; those of a process by
 * calls in it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "src/target/make_row.h"
#include "src/target/remote.h"

static const char *kind_name(const struct m_lock *l)
{
	return l->kind == M_LOCK_FLOCK ? "flock" : l->kind == M_LOCK_OFD ? "OFD" : "POSIX";
}

static int lock_fail(const struct m_lock *l, const struct m_file *f, int error, struct err *err)
{
	err_set(err, error,
		"take the %s lock (%s, %" PRId64 "+%" PRId64 ") on %s again: pid %u fd %u",
		l->kind == M_LOCK_LEASE ? "lease" : kind_name(l),
		l->type == F_WRLCK ? "write" : "read", l->start, l->len, make_name(f), l->pid,
		l->fd);
	if (error == EAGAIN || error == EACCES)
		err_hint(err, "somebody else has locked the file in the meantime");
	return -error;
}

static struct flock flock_of(const struct m_lock *l)
{
	return (struct flock){
		.l_type = (short)l->type,
		.l_whence = SEEK_SET,
		.l_start = l->start,
		.l_len = l->len,
	};
}

/* Of a description; 0, or -1 with errno. */
static int take(const struct m_lock *l, int fd)
{
	struct flock fl = flock_of(l);

	switch (l->kind) {
	case M_LOCK_FLOCK:
		return flock(fd, (l->type == F_WRLCK ? LOCK_EX : LOCK_SH) | LOCK_NB);
	case M_LOCK_OFD:
		return fcntl(fd, F_OFD_SETLK, &fl);
	case M_LOCK_LEASE:
		return fcntl(fd, F_SETLEASE, l->type);
	case M_LOCK_POSIX:
		return 0;
	}
	/* A lease that was being broken, in an image that is not ours. */
	errno = EOPNOTSUPP;
	return -1;
}

int make_locks(struct make *mk, struct err *err)
{
	for (uint32_t i = 0; i < mk->m->nlocks; i++) {
		const struct m_lock *l = &mk->m->locks[i];
		const struct m_file *f = model_file_at(mk->m, l->pid, l->fd);
		int fd = f ? make_fd(mk, f->id) : -1;

		if (fd >= 0 && take(l, fd) < 0)
			return lock_fail(l, f, errno, err);
	}
	return 0;
}

bool make_lock_inside(const struct make *mk, uint32_t i, const struct m_proc *p)
{
	return mk->m->locks[i].kind == M_LOCK_POSIX && mk->m->locks[i].pid == p->pid;
}

int make_lock_call(const struct make *mk, uint32_t i, const struct m_proc *p, struct batch *b)
{
	const struct m_lock *l = &mk->m->locks[i];
	struct flock fl = flock_of(l);
	uint64_t buf;

	if (!make_lock_inside(mk, i, p))
		return 0;
	buf = b->ncalls == b->max_calls ? 0 : batch_buf(b, sizeof(fl));
	if (!buf)
		return -1;
	memcpy(batch_data(b, buf), &fl, sizeof(fl));
	batch_call(b, SYS_fcntl, l->fd, F_SETLK, buf, 0, 0);
	return 1;
}

int make_lock_failed(const struct make *mk, uint32_t i, int error, struct err *err)
{
	const struct m_lock *l = &mk->m->locks[i];

	return lock_fail(l, model_file_at(mk->m, l->pid, l->fd), error, err);
}
