/* SPDX-License-Identifier: MIT */
/* Options that every kind of socket has. */
#include <linux/filter.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "src/target/sockets.h"

/* Linux 5.14 */
#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif

int sk_int(int sk, int level, int name)
{
	int v = 0;
	socklen_t len = sizeof(v);

	return getsockopt(sk, level, name, &v, &len) < 0 ? 0 : v;
}

bool sk_has_error(int sk)
{
	struct pollfd p = {.fd = sk};

	return poll(&p, 1, 0) == 1 && p.revents & POLLERR;
}

int sk_error_finding(struct files *f, uint32_t pid, uint32_t fd, int dup, struct err *err)
{
	return sk_has_error(dup) &&
			       finding_passing(f->m, pid,
					       "fd %u: socket: an error that the program has not "
					       "seen yet (SO_ERROR, or its error queue): not "
					       "supported: try again when it has",
					       fd) < 0
		       ? err_set(err, ENOMEM, "findings of pid %u", pid)
		       : 0;
}

static uint32_t sk_u32(int sk, int name)
{
	return (uint32_t)sk_int(sk, SOL_SOCKET, name);
}

static void read_timeouts(int sk, struct m_sk_opts *ret)
{
	struct timeval snd = {0}, rcv = {0};
	socklen_t len = sizeof(snd);

	getsockopt(sk, SOL_SOCKET, SO_SNDTIMEO, &snd, &len);
	len = sizeof(rcv);
	getsockopt(sk, SOL_SOCKET, SO_RCVTIMEO, &rcv, &len);
	ret->snd_tmo_sec = (uint64_t)snd.tv_sec;
	ret->snd_tmo_usec = (uint64_t)snd.tv_usec;
	ret->rcv_tmo_sec = (uint64_t)rcv.tv_sec;
	ret->rcv_tmo_usec = (uint64_t)rcv.tv_usec;
}

/* The kernel counts instructions, not bytes; an eBPF program is not shown: EACCES. */
static int read_filter(struct files *f, const struct proc_at *at, uint32_t fd, int sk,
		       struct m_sk_opts *ret, struct err *err)
{
	struct sock_filter *insns;
	socklen_t n = 0;

	if (getsockopt(sk, SOL_SOCKET, SO_GET_FILTER, NULL, &n) < 0)
		return errno == EACCES && finding_fatal(f->m, at->pid,
							"fd %u: socket with an eBPF filter: not "
							"supported",
							fd) < 0
			       ? err_set(err, ENOMEM, "findings of pid %u", at->pid)
			       : 0;
	if (!n)
		return 0;
	insns = calloc(n, sizeof(*insns));
	ret->filter = model_alloc(f->m, n * sizeof(*ret->filter));
	if (!insns || !ret->filter) {
		free(insns);
		return err_set(err, ENOMEM, "filter of fd %u of pid %u", fd, at->pid);
	}
	if (getsockopt(sk, SOL_SOCKET, SO_GET_FILTER, insns, &n) == 0) {
		ret->nfilter = n;
		for (socklen_t i = 0; i < n; i++)
			ret->filter[i] = (uint64_t)insns[i].code << 48 |
					 (uint64_t)insns[i].jt << 40 | (uint64_t)insns[i].jf << 32 |
					 insns[i].k;
	}
	free(insns);
	return 0;
}

int sk_opts_read(struct files *f, const struct proc_at *at, uint32_t fd, int dup,
		 struct m_sk_opts *ret, struct err *err)
{
	struct linger linger = {0};
	socklen_t len = sizeof(linger);
	char dev[32] = "";

	*ret = (struct m_sk_opts){
		.sndbuf = sk_u32(dup, SO_SNDBUF),
		.rcvbuf = sk_u32(dup, SO_RCVBUF),
		.buf_lock = sk_u32(dup, SO_BUF_LOCK),
		.priority = sk_u32(dup, SO_PRIORITY),
		.rcvlowat = sk_u32(dup, SO_RCVLOWAT),
		.mark = sk_u32(dup, SO_MARK),
		.reuseaddr = sk_u32(dup, SO_REUSEADDR) != 0,
		.reuseport = sk_u32(dup, SO_REUSEPORT) != 0,
		.passcred = sk_u32(dup, SO_PASSCRED) != 0,
		.passsec = sk_u32(dup, SO_PASSSEC) != 0,
		.dontroute = sk_u32(dup, SO_DONTROUTE) != 0,
		.no_check = sk_u32(dup, SO_NO_CHECK) != 0,
		.broadcast = sk_u32(dup, SO_BROADCAST) != 0,
		.keepalive = sk_u32(dup, SO_KEEPALIVE) != 0,
		.oobinline = sk_u32(dup, SO_OOBINLINE) != 0,
		.peek_off = -1,
	};
	read_timeouts(dup, ret);
	if (getsockopt(dup, SOL_SOCKET, SO_LINGER, &linger, &len) == 0 && linger.l_onoff) {
		ret->linger_on = true;
		ret->linger = (uint32_t)linger.l_linger;
	}
	len = sizeof(ret->peek_off);
	if (getsockopt(dup, SOL_SOCKET, SO_PEEK_OFF, &ret->peek_off, &len) < 0)
		ret->peek_off = -1;
	len = sizeof(dev) - 1;
	if (getsockopt(dup, SOL_SOCKET, SO_BINDTODEVICE, dev, &len) == 0 && *dev) {
		ret->bound_dev = model_strdup(f->m, dev);
		if (!ret->bound_dev)
			return err_set(err, ENOMEM, "device of fd %u of pid %u", fd, at->pid);
	}
	if (sk_more_read(f, dup, ret) < 0)
		return err_set(err, ENOMEM, "options of fd %u of pid %u", fd, at->pid);
	return read_filter(f, at, fd, dup, ret, err);
}
