/* SPDX-License-Identifier: MIT */
/* Options that every kind of socket has, set again. */
#include <linux/filter.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "src/target/make_row.h"
#include "src/target/sk_table.h"

/* Linux 5.14 */
#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif

int make_sk_int(int sk, int level, int name, int value)
{
	return setsockopt(sk, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int sk_get(int sk, int name)
{
	int v = 0;
	socklen_t len = sizeof(v);

	return getsockopt(sk, SOL_SOCKET, name, &v, &len) < 0 ? -1 : v;
}

static int fail(const struct m_file *f, int error, const char *what, struct err *err)
{
	return err_set(err, -error, "set %s of %s", what, make_name(f));
}

/* The kernel doubles what it is given; the limit for everybody does not bind root. */
static int set_buf(int sk, int force, int name, uint32_t doubled)
{
	int ret;

	if (sk_get(sk, name) == (int)doubled)
		return 0;
	ret = make_sk_int(sk, SOL_SOCKET, force, (int)(doubled / 2));
	return ret == -EPERM ? make_sk_int(sk, SOL_SOCKET, name, (int)(doubled / 2)) : ret;
}

void make_sk_room(int sk, int name, uint64_t len)
{
	uint64_t want = 4 * len + (1 << 20);
	int force = name == SO_SNDBUF ? SO_SNDBUFFORCE : SO_RCVBUFFORCE;

	if (want > INT32_MAX / 4)
		want = INT32_MAX / 4;
	if (make_sk_int(sk, SOL_SOCKET, force, (int)want) < 0)
		make_sk_int(sk, SOL_SOCKET, name, (int)want);
}

/* Those of the table, @early or not. */
static int set_more(int sk, const struct m_file *f, const struct m_sk_opts *o, bool early,
		    struct err *err)
{
	for (uint32_t i = 0; i < o->nmore; i++) {
		const struct m_sk_opt *want = &o->more[i];
		const struct sk_row *row = sk_row_find(want->level, want->name);
		struct m_sk_opt now;

		if (!row || want->len > row->len)
			return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
					"%s: option %u of level %u is not known", make_name(f),
					want->name, want->level);
		if (early != ((row->when & SK_EARLY) != 0))
			continue;
		if (sk_row_read(row, sk, &now) && now.len == want->len &&
		    !memcmp(now.value, want->value, want->len))
			continue;
		if (setsockopt(sk, row->level, row->name, want->value, want->len) < 0)
			return err_set(err, errno, "set option %u of level %u of %s", want->name,
				       want->level, make_name(f));
	}
	return 0;
}

int make_sk_early(int sk, const struct m_file *f, const struct m_sk_opts *o, struct err *err)
{
	int ret = 0;

	if (o->reuseport)
		ret = make_sk_int(sk, SOL_SOCKET, SO_REUSEPORT, 1);
	if (ret == 0 && o->mark)
		ret = make_sk_int(sk, SOL_SOCKET, SO_MARK, (int)o->mark);
	if (ret < 0)
		return fail(f, ret, "options", err);
	if (o->bound_dev && setsockopt(sk, SOL_SOCKET, SO_BINDTODEVICE, o->bound_dev,
				       (socklen_t)strlen(o->bound_dev)) < 0)
		return err_set(err, errno, "bind %s to device %s", make_name(f), o->bound_dev);
	return set_more(sk, f, o, true, err);
}

static int set_filter(int sk, const struct m_file *f, const struct m_sk_opts *o, struct err *err)
{
	struct sock_filter *insns;
	struct sock_fprog prog;
	int ret = 0;

	if (!o->nfilter)
		return 0;
	if (o->nfilter > UINT16_MAX)
		return fail(f, -EINVAL, "filter", err);
	insns = calloc(o->nfilter, sizeof(*insns));
	if (!insns)
		return fail(f, -ENOMEM, "filter", err);
	for (uint32_t i = 0; i < o->nfilter; i++)
		insns[i] = (struct sock_filter){
			(uint16_t)(o->filter[i] >> 48), (uint8_t)(o->filter[i] >> 40),
			(uint8_t)(o->filter[i] >> 32), (uint32_t)o->filter[i]};
	prog = (struct sock_fprog){.len = (uint16_t)o->nfilter, .filter = insns};
	if (setsockopt(sk, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) < 0)
		ret = fail(f, -errno, "filter", err);
	free(insns);
	return ret;
}

static int set_times(int sk, const struct m_file *f, const struct m_sk_opts *o, struct err *err)
{
	struct timeval snd = {(time_t)o->snd_tmo_sec, (suseconds_t)o->snd_tmo_usec};
	struct timeval rcv = {(time_t)o->rcv_tmo_sec, (suseconds_t)o->rcv_tmo_usec};
	struct linger linger = {.l_onoff = o->linger_on, .l_linger = (int)o->linger};

	if (((snd.tv_sec || snd.tv_usec) &&
	     setsockopt(sk, SOL_SOCKET, SO_SNDTIMEO, &snd, sizeof(snd)) < 0) ||
	    ((rcv.tv_sec || rcv.tv_usec) &&
	     setsockopt(sk, SOL_SOCKET, SO_RCVTIMEO, &rcv, sizeof(rcv)) < 0))
		return fail(f, -errno, "time limits", err);
	if (o->linger_on && setsockopt(sk, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) < 0)
		return fail(f, -errno, "linger time", err);
	return 0;
}

/* Only what is not as it is anyway: some options do not exist for some kinds. */
static int set_number(int sk, const struct m_file *f, int name, uint32_t value, struct err *err)
{
	int now = sk_get(sk, name), ret;

	if (now == (int)value || (now < 0 && !value))
		return 0;
	ret = make_sk_int(sk, SOL_SOCKET, name, (int)value);
	return ret < 0 ? fail(f, ret, "options", err) : 0;
}

int make_sk_opts(int sk, const struct m_file *f, const struct m_sk_opts *o, struct err *err)
{
	const struct {
		int name;
		uint32_t value;
	} numbers[] = {
		{SO_PRIORITY, o->priority},   {SO_RCVLOWAT, o->rcvlowat},
		{SO_MARK, o->mark},	      {SO_REUSEADDR, o->reuseaddr},
		{SO_REUSEPORT, o->reuseport}, {SO_PASSCRED, o->passcred},
		{SO_PASSSEC, o->passsec},     {SO_DONTROUTE, o->dontroute},
		{SO_NO_CHECK, o->no_check},   {SO_BROADCAST, o->broadcast},
		{SO_KEEPALIVE, o->keepalive}, {SO_OOBINLINE, o->oobinline},
	};
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < sizeof(numbers) / sizeof(numbers[0]); i++)
		ret = set_number(sk, f, numbers[i].name, numbers[i].value, err);
	if (ret == 0)
		ret = set_times(sk, f, o, err);
	if (ret == 0)
		ret = set_filter(sk, f, o, err);
	if (ret == 0)
		ret = set_more(sk, f, o, false, err);
	if (ret < 0)
		return ret;
	if (o->peek_off >= 0)
		make_sk_int(sk, SOL_SOCKET, SO_PEEK_OFF, o->peek_off);
	ret = set_buf(sk, SO_SNDBUFFORCE, SO_SNDBUF, o->sndbuf);
	if (ret == 0)
		ret = set_buf(sk, SO_RCVBUFFORCE, SO_RCVBUF, o->rcvbuf);
	/* Whether a buffer still grows by itself; kernels without it have no way to say so. */
	make_sk_int(sk, SOL_SOCKET, SO_BUF_LOCK, (int)o->buf_lock);
	return ret < 0 ? fail(f, ret, "buffer sizes", err) : 0;
}
