/* SPDX-License-Identifier: MIT */
/* Terminals: tty-info.img, tty-data.img, and the entries of files.img that name one. */
#include <string.h>
#include <sys/sysmacros.h>

#include "src/image/meta.h"

enum { CC_WORDS = 19, CC_BYTES = 32 };

/* --- written -------------------------------------------------------------------------------- */

/* Four characters in a word, host byte order: a copy of memory, as CRIU reads it. */
static void put_termios(const struct m_termios *from, Im__Termios *to, uint32_t cc[CC_WORDS])
{
	im__termios__init(to);
	to->c_iflag = from->iflag;
	to->c_oflag = from->oflag;
	to->c_cflag = from->cflag;
	to->c_lflag = from->lflag;
	to->c_line = from->line;
	memset(cc, 0, CC_WORDS * sizeof(*cc));
	memcpy(cc, from->cc, CC_BYTES);
	to->n_c_cc = CC_WORDS;
	to->c_cc = cc;
}

/* 12 bits and 8 in the middle of 20, as the kernel once did. */
static uint32_t small_dev(uint64_t dev)
{
	return (uint32_t)((minor(dev) & 0xff) | major(dev) << 8 | (minor(dev) & ~0xffu) << 12);
}

/* The slave of master @t that is some session's terminal; NULL. */
static const struct m_tty *slave_of(const struct model *m, const struct m_tty *t)
{
	for (uint32_t i = 0; t->kind == M_TTY_PTY && t->master && !t->sid && i < m->nttys; i++) {
		const struct m_tty *s = &m->ttys[i];

		if (s->kind == M_TTY_PTY && !s->master && s->index == t->index && s->sid)
			return s;
	}
	return NULL;
}

static void put_tty(struct meta_out *o, const struct m_tty *t)
{
	Im__TtyInfo to = IM__TTY_INFO__INIT;
	Im__Termios termios, locked;
	Im__Winsize size = IM__WINSIZE__INIT;
	Im__TtyPty pty = IM__TTY_PTY__INIT;
	uint32_t cc[2][CC_WORDS];
	const struct m_tty *slave;

	to.id = t->id;
	to.type = (Im__TtyType)t->kind;
	to.locked = t->locked;
	to.exclusive = t->exclusive;
	to.packet_mode = t->packet_mode;
	/* CRIU looks for the session at the master, when that is there. */
	slave = slave_of(o->m, t);
	to.sid = slave ? slave->sid : t->sid;
	to.pgrp = slave ? slave->pgrp : t->pgrp;
	to.rdev = small_dev(t->rdev);
	if (t->termios.known) {
		put_termios(&t->termios, &termios, cc[0]);
		to.termios = &termios;
	}
	if (t->locked_termios.known) {
		put_termios(&t->locked_termios, &locked, cc[1]);
		to.termios_locked = &locked;
	}
	if (t->has_winsize) {
		size.ws_row = t->row;
		size.ws_col = t->col;
		size.ws_xpixel = t->xpixel;
		size.ws_ypixel = t->ypixel;
		to.winsize = &size;
	}
	if (t->kind == M_TTY_PTY) {
		pty.index = t->index;
		to.pty = &pty;
	}
	META_SET(&to, dev, small_dev(t->dev));
	META_SET(&to, uid, t->uid);
	META_SET(&to, gid, t->gid);
	META_SET(&to, master, t->master);
	META_SET_NZ(&to, mode, t->mode);
	META_SET_NZ(&to, inherited, t->inherited);
	META_SET_NZ(&to, hung, t->hung);
	META_SET_NZ(&to, st_dev, t->dev);
	META_SET_NZ(&to, st_rdev, t->rdev);
	frame_add(&o->img->out, &to.base);
}

int meta_put_ttys(struct meta_out *o)
{
	uint32_t n = 0;
	int ret;

	if (!o->m->nttys)
		return 0;
	frame_begin(&o->img->out, FRAME_TTY_INFO);
	for (uint32_t i = 0; i < o->m->nttys; i++)
		put_tty(o, &o->m->ttys[i]);
	ret = store_put(o->img, "tty-info.img", o->err);
	frame_begin(&o->img->out, FRAME_TTY_DATA);
	for (uint32_t i = 0; i < o->m->nttys; i++) {
		const struct m_tty *t = &o->m->ttys[i];
		Im__TtyData to = IM__TTY_DATA__INIT;

		if (!t->ndata)
			continue;
		to.tty_id = t->id;
		to.data.data = t->data;
		to.data.len = t->ndata;
		frame_add(&o->img->out, &to.base);
		n++;
	}
	return ret || !n ? ret : store_put(o->img, "tty-data.img", o->err);
}

/* --- read ----------------------------------------------------------------------------------- */

static uint64_t large_dev(uint32_t dev)
{
	return makedev(dev >> 8 & 0xfff, (dev & 0xff) | (dev >> 12 & 0xfff00));
}

static int get_termios(struct meta_in *in, const Im__Termios *from, struct m_termios *to)
{
	if (!from)
		return 0;
	if (from->n_c_cc < CC_BYTES / 4)
		return err_fail(in->err, EBADMSG, ERR_IMAGE,
				"tty-info.img: control characters in %zu words", from->n_c_cc);
	to->known = true;
	to->iflag = from->c_iflag;
	to->oflag = from->c_oflag;
	to->cflag = from->c_cflag;
	to->lflag = from->c_lflag;
	to->line = from->c_line;
	for (unsigned i = 0; i < CC_BYTES / 4; i++) {
		uint32_t w = from->c_cc[i];

		if (in->big_endian != META_HOST_BIG_ENDIAN)
			w = __builtin_bswap32(w);
		memcpy(to->cc + 4 * (size_t)i, &w, 4);
	}
	return 0;
}

static int get_tty(struct meta_in *in, const Im__TtyInfo *from)
{
	struct m_tty *t = model_push(in->m, &in->m->ttys, &in->m->nttys, sizeof(*t));
	int ret;

	if (!t)
		return meta_nomem(in->err, "tty-info.img");
	*t = (struct m_tty){
		.id = from->id,
		.kind = (enum m_tty_kind)from->type,
		.master = from->has_master ? from->master : from->pty && from->id & 1,
		.index = from->pty ? from->pty->index : 0,
		.locked = from->locked,
		.exclusive = from->exclusive,
		.packet_mode = from->packet_mode,
		.hung = META_GET(from, hung),
		.inherited = META_GET(from, inherited),
		.sid = from->sid,
		.pgrp = from->pgrp,
		.rdev = from->has_st_rdev ? from->st_rdev : large_dev(from->rdev),
		.dev = from->has_st_dev ? from->st_dev : large_dev(META_GET(from, dev)),
		.uid = META_GET(from, uid),
		.gid = META_GET(from, gid),
		.mode = META_GET(from, mode),
	};
	if (from->winsize) {
		t->has_winsize = true;
		t->row = from->winsize->ws_row;
		t->col = from->winsize->ws_col;
		t->xpixel = from->winsize->ws_xpixel;
		t->ypixel = from->winsize->ws_ypixel;
	}
	ret = get_termios(in, from->termios, &t->termios);
	return ret ? ret : get_termios(in, from->termios_locked, &t->locked_termios);
}

uint32_t meta_tty(const struct meta_in *in, uint32_t id)
{
	for (uint32_t i = 0; i < in->m->nttys; i++)
		if (in->m->ttys[i].id == id)
			return i + 1;
	return UINT32_MAX;
}

static int get_data(struct meta_in *in)
{
	struct store_in file;
	ProtobufCMessage *msg;
	int ret = meta_load(in, FRAME_TTY_DATA, "tty-data.img", &file);

	if (ret <= 0)
		return ret;
	while ((ret = frame_next(&file.f, &msg, NULL, in->err)) > 0) {
		const Im__TtyData *from = (const Im__TtyData *)msg;
		uint32_t n = meta_tty(in, from->tty_id);
		struct m_tty *t = n <= in->m->nttys ? &in->m->ttys[n - 1] : NULL;

		ret = !t ? err_fail(in->err, EBADMSG, ERR_IMAGE,
				    "tty-data.img: terminal %u is not there", from->tty_id)
			 : meta_get_bytes(in, &from->data, &t->data, &t->ndata);
		if (ret)
			break;
	}
	store_unload(&file);
	return ret;
}

int meta_get_ttys(struct meta_in *in)
{
	struct store_in file;
	ProtobufCMessage *msg;
	int ret = meta_load(in, FRAME_TTY_INFO, "tty-info.img", &file);

	if (ret <= 0)
		return ret;
	while ((ret = frame_next(&file.f, &msg, NULL, in->err)) > 0) {
		ret = get_tty(in, (const Im__TtyInfo *)msg);
		if (ret)
			break;
	}
	store_unload(&file);
	return ret ? ret : get_data(in);
}
