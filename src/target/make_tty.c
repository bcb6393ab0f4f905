/* SPDX-License-Identifier: MIT */
/*
 * Terminals made again: masters with their old numbers, slaves, modes and sizes.
 *
 * devpts gives the lowest free number, so others are opened and closed again until the wanted one
 * comes. A terminal that was somebody else's is replaced by the one that the tool has.
 */
#include <asm/termbits.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/target/make_row.h"
#include "src/target/remote.h"

enum { INDEX_MAX = 4096 };

/* --- masters -------------------------------------------------------------------------------- */

static int no_number(const struct m_file *f, uint32_t index, struct err *err)
{
	err_fail(err, EBUSY, ERR_OTHER, "%s: /dev/pts/%u is in use", make_name(f), index);
	err_hint(err, "end the program that has it (fuser /dev/pts/%u names it)", index);
	return -EBUSY;
}

/* The others, lower ones that were free, are held until the right one has come. */
static int master_open(const struct m_file *f, uint32_t index, struct err *err)
{
	int *held = index < INDEX_MAX ? calloc(index + 1, sizeof(*held)) : NULL;
	uint32_t n = 0, got = 0;
	int fd = -1;

	if (!held)
		return no_number(f, index, err);
	for (;;) {
		fd = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
		if (fd < 0 || ioctl(fd, TIOCGPTN, &got) < 0 || got >= index || n == index)
			break;
		held[n++] = fd;
	}
	if (fd < 0)
		err_set(err, errno, "open /dev/ptmx for %s", make_name(f));
	while (n > 0)
		close(held[--n]);
	free(held);
	if (fd < 0 || got == index)
		return fd < 0 ? -err->errnum : fd;
	close(fd);
	return no_number(f, index, err);
}

static uint32_t tty_master(const struct make *mk, uint32_t index)
{
	for (uint32_t i = 0; i < mk->m->nttys; i++)
		if (mk->m->ttys[i].kind == M_TTY_PTY && mk->m->ttys[i].master &&
		    mk->m->ttys[i].index == index)
			return i + 1;
	return 0;
}

static const struct m_file *file_of(const struct make *mk, uint32_t tty)
{
	for (uint32_t i = 0; tty && i < mk->m->nfiles; i++)
		if (mk->m->files[i].tty == tty && mk->made[i].wanted)
			return &mk->m->files[i];
	return NULL;
}

static int make_master(struct make *mk, const struct m_file *f, const struct m_tty *t,
		       struct err *err)
{
	int fd, unlock = 0, ret;

	if (make_fd(mk, f->id) >= 0)
		return 0;
	fd = master_open(f, t->index, err);
	if (fd < 0)
		return fd;
	ret = make_put(mk, f->id, fd, err);
	if (ret == 0 && ioctl(make_fd(mk, f->id), TIOCSPTLCK, &unlock) < 0)
		ret = err_set(err, errno, "unlock %s", make_name(f));
	return ret;
}

/* --- slaves --------------------------------------------------------------------------------- */

static int open_flags(const struct m_file *f)
{
	return (int)(f->flags & ~(unsigned)(O_CREAT | O_EXCL | O_TRUNC | O_ASYNC)) | O_NOCTTY |
	       O_CLOEXEC;
}

static int open_slave(struct make *mk, const struct m_tty *t, int flags, struct err *err)
{
	const struct m_file *m = file_of(mk, tty_master(mk, t->index));
	int fd, ret;

	if (!m)
		return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
				"/dev/pts/%u: its other end is not in the image", t->index);
	ret = make_master(mk, m, model_tty(mk->m, m->tty), err);
	if (ret < 0)
		return ret;
	/* Unlike open(2) it leaves O_CLOEXEC among the flags of the description, for all to see. */
	fd = ioctl(make_fd(mk, m->id), TIOCGPTPEER, flags & ~O_CLOEXEC);
	if (fd < 0)
		return err_set(err, errno, "open /dev/pts/%u", t->index);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	return fd;
}

/* A terminal of the tool, for one that was somebody else's. */
static int open_own(const struct m_file *f, int flags, struct err *err)
{
	char path[32];
	int fd;

	for (int i = 0; i < 3; i++) {
		if (!isatty(i))
			continue;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", i);
		fd = open(path, flags);
		return fd < 0 ? err_set(err, errno, "open the terminal of descriptor %d for %s", i,
					make_name(f))
			      : fd;
	}
	err_fail(err, ENOTTY, ERR_OTHER,
		 "%s: was the terminal of somebody outside of the tree, and there is none here",
		 make_name(f));
	err_hint(err, "restore from a terminal");
	return -ENOTTY;
}

/* /dev/tty led to the terminal of the session that opened it. */
static const struct m_tty *current(const struct make *mk)
{
	for (uint32_t i = 0; i < mk->m->nttys; i++)
		if (mk->m->ttys[i].sid && mk->m->ttys[i].kind == M_TTY_PTY)
			return &mk->m->ttys[i];
	return NULL;
}

static int tty_open(struct make *mk, const struct m_file *f, bool late, struct err *err)
{
	const struct m_tty *t = model_tty(mk->m, f->tty);
	int fd;

	if (t && t->kind == M_TTY_PTY && t->master)
		return make_master(mk, f, t, err);
	if (t && t->kind == M_TTY_CURRENT)
		t = current(mk);
	if (!t)
		return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
				"%s: a terminal of which the image has no state", make_name(f));
	if (t->inherited || t->kind != M_TTY_PTY)
		fd = open_own(f, open_flags(f), err);
	else
		fd = open_slave(mk, t, open_flags(f), err);
	return fd < 0 ? fd : make_put(mk, f->id, fd, err);
}

/* --- modes ---------------------------------------------------------------------------------- */

static void give_termios(const struct m_termios *from, struct termios *to)
{
	to->c_iflag = from->iflag;
	to->c_oflag = from->oflag;
	to->c_cflag = from->cflag;
	to->c_lflag = from->lflag;
	to->c_line = (cc_t)from->line;
	memcpy(to->c_cc, from->cc,
	       sizeof(to->c_cc) < sizeof(from->cc) ? sizeof(to->c_cc) : sizeof(from->cc));
}

static int set_modes(const struct m_file *f, const struct m_tty *t, int fd, struct err *err)
{
	struct winsize size = {(uint16_t)t->row, (uint16_t)t->col, (uint16_t)t->xpixel,
			       (uint16_t)t->ypixel};
	struct termios tio = {0};

	if (t->termios.known) {
		give_termios(&t->termios, &tio);
		if (ioctl(fd, TCSETS, &tio) < 0)
			return err_set(err, errno, "set the modes of %s", make_name(f));
	}
	if (t->locked_termios.known) {
		give_termios(&t->locked_termios, &tio);
		/* CAP_SYS_ADMIN; most often nothing is locked. */
		if (ioctl(fd, TIOCSLCKTRMIOS, &tio) < 0 && errno != EPERM)
			return err_set(err, errno, "lock the modes of %s", make_name(f));
	}
	if (t->has_winsize && !t->inherited && ioctl(fd, TIOCSWINSZ, &size) < 0)
		return err_set(err, errno, "set the size of %s", make_name(f));
	return 0;
}

static int set_owner(const struct m_file *f, const struct m_tty *t, int fd, struct err *err)
{
	struct stat st;

	if (t->master || t->inherited || t->kind != M_TTY_PTY || !t->mode || fstat(fd, &st) < 0)
		return 0;
	if ((st.st_uid != t->uid || st.st_gid != t->gid) && fchown(fd, t->uid, t->gid) < 0)
		return err_set(err, errno, "give %s to user %u, group %u", make_name(f), t->uid,
			       t->gid);
	if ((st.st_mode ^ t->mode) & 0777 && fchmod(fd, t->mode & 0777) < 0)
		return err_set(err, errno, "set mode %#o of %s", t->mode & 0777, make_name(f));
	return 0;
}

/* The last slave is closed: one is opened and closed again. */
static int hang_up(const struct m_file *f, int fd, struct err *err)
{
	int slave = ioctl(fd, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (slave < 0)
		return err_set(err, errno, "open the other end of %s", make_name(f));
	close(slave);
	return 0;
}

static int tty_late(struct make *mk, const struct m_file *f, int fd, struct err *err)
{
	const struct m_tty *t = model_tty(mk->m, f->tty);
	int on = 1, ret;

	if (!t || t->kind == M_TTY_CURRENT)
		return 0;
	ret = set_modes(f, t, fd, err);
	if (ret == 0)
		ret = set_owner(f, t, fd, err);
	if (ret == 0 && t->master && t->hung)
		ret = hang_up(f, fd, err);
	if (ret == 0 && t->packet_mode && ioctl(fd, TIOCPKT, &on) < 0)
		ret = err_set(err, errno, "packet mode of %s", make_name(f));
	return ret ? ret : make_set_flags(fd, f, err);
}

/* What would be in the way of opening it. */
static int tty_finish(struct make *mk, const struct m_file *f, int fd, struct err *err)
{
	const struct m_tty *t = model_tty(mk->m, f->tty);
	int on = 1;

	if (t && t->master && t->locked && ioctl(fd, TIOCSPTLCK, &on) < 0)
		return err_set(err, errno, "lock %s", make_name(f));
	if (t && t->exclusive && !t->inherited && ioctl(fd, TIOCEXCL) < 0)
		return err_set(err, errno, "exclusive use of %s", make_name(f));
	return 0;
}

const struct make_row make_tty = {.open = tty_open, .late = tty_late, .finish = tty_finish};

/* --- controlling terminals ------------------------------------------------------------------ */

static uint32_t tty_of_session(const struct make *mk, uint32_t sid)
{
	for (uint32_t i = 0; sid && i < mk->m->nttys; i++)
		if (mk->m->ttys[i].sid == sid && !mk->m->ttys[i].inherited &&
		    mk->m->ttys[i].kind == M_TTY_PTY)
			return i + 1;
	return 0;
}

int make_ctty(struct make *mk, const struct m_proc *p, int *ret_fd, struct err *err)
{
	uint32_t tty = p->pid == p->sid ? tty_of_session(mk, p->sid) : 0;
	int fd;

	*ret_fd = -1;
	if (!tty)
		return 0;
	if (mk->ttys[tty - 1] < 0) {
		const struct m_tty *t = model_tty(mk->m, tty);

		fd = open_slave(mk, t, O_RDWR | O_NOCTTY | O_CLOEXEC, err);
		if (fd < 0)
			return fd;
		mk->ttys[tty - 1] = fcntl(fd, F_DUPFD_CLOEXEC, mk->first_fd);
		close(fd);
		if (mk->ttys[tty - 1] < 0)
			return err_set(err, errno, "keep /dev/pts/%u open", t->index);
	}
	*ret_fd = mk->ttys[tty - 1];
	return 0;
}

int make_ctty_take(struct batch *b, uint64_t fd)
{
	return batch_call(b, SYS_ioctl, fd, TIOCSCTTY, 0, 0, 0);
}

int make_ctty_group(const struct make *mk, const struct m_proc *p, struct batch *b, uint64_t fd)
{
	uint32_t tty = p->pid == p->sid ? tty_of_session(mk, p->sid) : 0;
	const struct m_tty *t = model_tty(mk->m, tty);
	uint64_t addr;

	if (!t || !t->pgrp || t->pgrp == p->pid)
		return -EALREADY;
	addr = batch_buf(b, 8);
	if (!addr)
		return -ENOSPC;
	memcpy(batch_data(b, addr), &t->pgrp, sizeof(t->pgrp));
	return batch_call(b, SYS_ioctl, fd, TIOCSPGRP, addr, 0, 0);
}
