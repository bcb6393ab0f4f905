/* SPDX-License-Identifier: MIT */
/*
 * Options of a socket that are plain values, as far as the program has changed them: those that a
 * new socket of the same kind, ours, has not.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "src/target/sk_table.h"
#include "src/target/sockets.h"

enum { KINDS = 16 };

/* What a new socket has; a length of 0: not readable. */
struct kind {
	int family, type, proto;
	struct m_sk_opt opts[SK_ROWS_MAX];
};

static const struct kind *kind_of(int family, int type, int proto)
{
	static struct kind kinds[KINDS];
	static unsigned n, next;
	struct kind *k;
	cleanup_fd int sk = -1;
	size_t nrows;
	const struct sk_row *rows = sk_rows(&nrows);

	for (unsigned i = 0; i < n; i++)
		if (kinds[i].family == family && kinds[i].type == type && kinds[i].proto == proto)
			return &kinds[i];
	k = &kinds[next++ % KINDS];
	n = n < KINDS ? n + 1 : n;
	*k = (struct kind){.family = family, .type = type, .proto = proto};
	sk = socket(family, type | SOCK_CLOEXEC, proto);
	for (size_t i = 0; sk >= 0 && i < nrows; i++)
		if (!sk_row_fits(&rows[i], family, type, proto) ||
		    !sk_row_read(&rows[i], sk, &k->opts[i]))
			k->opts[i].len = 0;
	return k;
}

/* As the program made it: listening, or never connected. */
static bool is_unmade(int sk)
{
	struct pollfd p = {.fd = sk, .events = POLLRDHUP};
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);

	if (getsockopt(sk, SOL_TCP, TCP_INFO, &info, &len) < 0)
		return false;
	if (info.tcpi_state == TCP_LISTEN)
		return true;
	return info.tcpi_state == TCP_CLOSE && poll(&p, 1, 0) >= 0 && !(p.revents & POLLRDHUP);
}

int sk_more_read(struct files *f, int sk, struct m_sk_opts *ret)
{
	int family = sk_int(sk, SOL_SOCKET, SO_DOMAIN), type = sk_int(sk, SOL_SOCKET, SO_TYPE);
	int proto = sk_int(sk, SOL_SOCKET, SO_PROTOCOL);
	const struct kind *k = kind_of(family, type, proto);
	bool unmade = proto != IPPROTO_TCP || is_unmade(sk);
	struct m_sk_opt changed[SK_ROWS_MAX];
	uint32_t n = 0;
	size_t nrows;
	const struct sk_row *rows = sk_rows(&nrows);

	for (size_t i = 0; i < nrows; i++) {
		struct m_sk_opt *o = &changed[n];

		if (!sk_row_fits(&rows[i], family, type, proto) ||
		    (rows[i].when & SK_UNMADE && !unmade) || !sk_row_read(&rows[i], sk, o))
			continue;
		n += o->len != k->opts[i].len || memcmp(o->value, k->opts[i].value, o->len) != 0;
	}
	if (!n)
		return 0;
	ret->more = model_alloc(f->m, n * sizeof(*ret->more));
	if (!ret->more)
		return -ENOMEM;
	memcpy(ret->more, changed, n * sizeof(*ret->more));
	ret->nmore = n;
	return 0;
}
