/* SPDX-License-Identifier: MIT */
/*
 * Terminals of a tree: which, in what mode, whose controlling terminal.
 *
 * All is asked through a duplicate of the descriptor. TIOCGSID and TIOCGPGRP answer only for one's
 * own controlling terminal, but /proc/PID/stat has its number and the foreground group for each
 * process: no call inside of the target is needed.
 */
#include <asm/termbits.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "src/target/procfs.h"
#include "src/target/sockets.h"

enum {
	ID_CONSOLE = 1002,
	ID_VT = 1004,
	ID_CURRENT = 1006,
	ID_SERIAL = 1010,
	ID_OTHER = 1012, /* and up */
	MAJOR_VT = 4,
	MAJOR_TTYAUX = 5,
	MAJOR_PTY = 136, /* to 143 */
};

static int nomem(uint32_t pid, uint32_t fd, struct err *err)
{
	return err_set(err, ENOMEM, "terminal fd %u of pid %u", fd, pid);
}

static int get_int(int tty, unsigned long what)
{
	int v = 0;

	return ioctl(tty, what, &v) < 0 ? 0 : v;
}

static void take_termios(const struct termios *from, struct m_termios *to)
{
	to->known = true;
	to->iflag = from->c_iflag;
	to->oflag = from->c_oflag;
	to->cflag = from->c_cflag;
	to->lflag = from->c_lflag;
	to->line = from->c_line;
	memcpy(to->cc, from->c_cc,
	       sizeof(from->c_cc) < sizeof(to->cc) ? sizeof(from->c_cc) : sizeof(to->cc));
}

static void read_modes(int dup, struct m_tty *t)
{
	struct pollfd p = {.fd = dup};
	struct winsize size;
	struct termios tio;

	t->hung = t->master && poll(&p, 1, 0) == 1 && p.revents & POLLHUP;
	t->locked = t->master && get_int(dup, TIOCGPTLCK);
	t->exclusive = get_int(dup, TIOCGEXCL) != 0;
	t->packet_mode = t->master && get_int(dup, TIOCGPKT);
	if (ioctl(dup, TCGETS, &tio) == 0)
		take_termios(&tio, &t->termios);
	if (ioctl(dup, TIOCGLCKTRMIOS, &tio) == 0)
		take_termios(&tio, &t->locked_termios);
	if (ioctl(dup, TIOCGWINSZ, &size) < 0)
		return;
	t->has_winsize = true;
	t->row = size.ws_row;
	t->col = size.ws_col;
	t->xpixel = size.ws_xpixel;
	t->ypixel = size.ws_ypixel;
}

/* The number of a pty whose master it is. Of a tree that runs fdinfo tells. */
static bool read_master(const struct files *f, int dup, uint32_t *ret)
{
	return f->hands_off ? holders_tty_index(f->text.data, ret) : ioctl(dup, TIOCGPTN, ret) == 0;
}

static void read_kind(const struct files *f, const struct m_file *file, int dup, struct m_tty *t)
{
	uint32_t major_nr = major(file->rdev), minor_nr = minor(file->rdev);
	uint32_t n = 0;

	if (read_master(f, dup, &n)) {
		t->kind = M_TTY_PTY;
		t->master = true;
		t->index = n;
		t->id = n << 1 | 1;
	} else if (major_nr >= MAJOR_PTY && major_nr < MAJOR_PTY + 8) {
		t->kind = M_TTY_PTY;
		t->index = (major_nr - MAJOR_PTY) << 20 | minor_nr;
		t->id = t->index << 1;
	} else if (major_nr == MAJOR_TTYAUX) {
		t->kind = minor_nr ? M_TTY_CONSOLE : M_TTY_CURRENT;
		t->id = minor_nr ? ID_CONSOLE : ID_CURRENT;
	} else if (major_nr == MAJOR_VT) {
		t->kind = minor_nr < 64 ? M_TTY_VT : M_TTY_SERIAL;
		t->id = minor_nr < 64 ? ID_VT : ID_SERIAL;
	} else {
		t->kind = M_TTY_EXTERNAL;
		t->id = ID_OTHER + 2 * f->m->nttys;
	}
}

/* One end may be open more than once. */
static uint32_t tty_find(const struct model *m, const struct m_tty *t)
{
	for (uint32_t i = 0; i < m->nttys; i++)
		if (m->ttys[i].id == t->id && m->ttys[i].dev == t->dev)
			return i + 1;
	return 0;
}

int tty_look(struct files *f, const struct proc_at *at, uint32_t fd, int dup, struct m_file *file,
	     struct err *err)
{
	struct m_tty t = {.rdev = file->rdev, .dev = file->dev, .mode = file->mode}, *e;
	struct stat st;
	int n = 0;

	if (dup < 0 && !f->hands_off)
		return 0;
	read_kind(f, file, dup, &t);
	file->tty = tty_find(f->m, &t);
	if (file->tty)
		return 0;
	if (fstat(dup, &st) == 0) {
		t.uid = st.st_uid;
		t.gid = st.st_gid;
	}
	if (dup >= 0)
		read_modes(dup, &t);
	if (dup >= 0 && ioctl(dup, FIONREAD, &n) == 0 && n > 0)
		t.unread = (uint32_t)n;
	e = model_push(f->m, &f->m->ttys, &f->m->nttys, sizeof(*e));
	if (!e)
		return nomem(at->pid, fd, err);
	*e = t;
	file->tty = f->m->nttys;
	return 0;
}

/* --- all of the tree has been seen ---------------------------------------------------------- */

static bool has_master(const struct model *m, const struct m_tty *slave)
{
	for (uint32_t i = 0; i < m->nttys; i++)
		if (m->ttys[i].master && m->ttys[i].index == slave->index)
			return true;
	return false;
}

/* A terminal of somebody else's: the restored tree gets the one of the tool instead. */
static int tty_outside(struct files *f, const struct m_proc *p, uint32_t fd, const char *path,
		       struct m_tty *t, struct err *err)
{
	char holder[HOLDER_TEXT];

	t->inherited = true;
	if (f->hands_off && t->kind == M_TTY_PTY &&
	    !holders_outside(f, holders_master(t->index), true, holder))
		return 0;
	return !f->shell_job && finding_fatal(
					f->m, p->pid,
					"fd %u: terminal %s belongs to somebody outside of the "
					"tree: --shell-job takes that of the restoring tool "
					"instead",
					fd, path) < 0
		       ? nomem(p->pid, fd, err)
		       : 0;
}

/*
 * There is no way to look at them without taking them. Of a terminal that is somebody else's they
 * stay where they are.
 */
static int unread(struct files *f, const struct m_proc *p, uint32_t fd, struct m_tty *t,
		  struct err *err)
{
	uint32_t n = t->unread;
	bool ours = t->kind == M_TTY_PTY && (t->master || has_master(f->m, t));
	int ret;

	if (!n)
		return 0;
	t->unread = 0;
	if (ours)
		ret = finding_passing(
			f->m, p->pid,
			"fd %u: terminal /dev/pts/%u: %u bytes that nobody has read yet: "
			"not supported: try again when they have been",
			fd, t->index, n);
	else
		ret = finding_add(f->m, p->pid,
				  "fd %u: terminal: %u bytes that nobody has read are not carried",
				  fd, n);
	return ret < 0 ? nomem(p->pid, fd, err) : 0;
}

int tty_finish(struct files *f, const struct m_proc *p, uint32_t fd, uint32_t id, struct err *err)
{
	const struct m_file *file = &f->m->files[id - 1];
	struct m_tty *t = file->tty ? &f->m->ttys[file->tty - 1] : NULL;

	if (t && unread(f, p, fd, t, err) < 0)
		return -err->errnum;
	if (!t || t->master || t->inherited || t->kind == M_TTY_CURRENT)
		return 0;
	if (t->kind == M_TTY_PTY && has_master(f->m, t))
		return 0;
	return tty_outside(f, p, fd, file->path, t, err);
}

/* Fields 7 and 8 of /proc/PID/stat: the controlling terminal and its foreground group. */
static bool controlling(uint32_t pid, uint64_t *ret_rdev, int *ret_group)
{
	char text[1024];
	const char *p;
	int tty = 0;

	if (procfs_read(text, sizeof(text), "/proc/%u/stat", pid) < 0)
		return false;
	p = strrchr(text, ')');
	if (!p || sscanf(p + 1, " %*c %*d %*d %*d %d %d", &tty, ret_group) != 2 || !tty)
		return false;
	*ret_rdev = makedev((unsigned)tty >> 8 & 0xfff,
			    ((unsigned)tty & 0xff) | ((unsigned)tty >> 12 & 0xfff00));
	return true;
}

static struct m_tty *slave_of(struct model *m, uint64_t rdev)
{
	for (uint32_t i = 0; i < m->nttys; i++)
		if (!m->ttys[i].master && m->ttys[i].rdev == rdev)
			return &m->ttys[i];
	return NULL;
}

/* No descriptor leads to it, but the session has it all the same. */
static struct m_tty *slave_add(struct model *m, uint64_t rdev)
{
	struct m_tty *t = model_push(m, &m->ttys, &m->nttys, sizeof(*t));

	if (!t)
		return NULL;
	t->rdev = rdev;
	t->kind = M_TTY_PTY;
	t->index = (major(rdev) - MAJOR_PTY) << 20 | minor(rdev);
	t->id = t->index << 1;
	t->inherited = !has_master(m, t);
	return t;
}

int ttys_finish(struct files *f, struct err *err)
{
	for (uint32_t i = 0; i < f->m->nprocs; i++) {
		const struct m_proc *p = &f->m->procs[i];
		uint64_t rdev;
		struct m_tty *t;
		int group = 0;

		if (p->state == M_DEAD || !controlling(p->pid, &rdev, &group))
			continue;
		t = slave_of(f->m, rdev);
		if (!t && major(rdev) >= MAJOR_PTY && major(rdev) < MAJOR_PTY + 8)
			t = slave_add(f->m, rdev);
		if (!t)
			continue;
		t->sid = p->sid;
		t->pgrp = group > 0 ? (uint32_t)group : 0;
		if (model_proc(f->m, p->sid) || f->shell_job)
			continue;
		if (finding_fatal(f->m, p->pid,
				  "session %u, whose terminal is /dev/pts/%u, began outside of the "
				  "tree: --shell-job lets it be restored into that of the tool",
				  p->sid, t->index) < 0)
			return nomem(p->pid, 0, err);
		return 0;
	}
	return 0;
}
