/* SPDX-License-Identifier: MIT */
/* Packets of TCP connections held back, by a table of nf_tables. */
#include "src/target/netlock.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"

/* --- messages ------------------------------------------------------------------------------- */

/* A batch of requests, which the kernel does all or none of. */
struct nl {
	uint8_t *buf;
	size_t len, room;
	size_t msg; /* where the last message begins */
	uint32_t seq;
	bool failed;
};

static void *nl_more(struct nl *b, size_t len)
{
	size_t padded = NLMSG_ALIGN(len);
	void *p;

	if (b->room - b->len < padded) {
		size_t room = 2 * (b->room + padded) + 4096;

		p = realloc(b->buf, room);
		if (!p) {
			b->failed = true;
			return NULL;
		}
		b->buf = p;
		b->room = room;
	}
	p = b->buf + b->len;
	memset(p, 0, padded);
	b->len += padded;
	return p;
}

static void nl_begin(struct nl *b, unsigned type, unsigned flags, uint8_t family, uint16_t res_id)
{
	struct {
		struct nlmsghdr h;
		struct nfgenmsg g;
	} head = {
		.h = {.nlmsg_type = (uint16_t)type,
		      .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags),
		      .nlmsg_seq = ++b->seq},
		.g = {.nfgen_family = family, .version = NFNETLINK_V0, .res_id = htons(res_id)},
	};
	void *p;

	b->msg = b->len;
	p = nl_more(b, sizeof(head));
	if (p)
		memcpy(p, &head, sizeof(head));
}

/* Lengths are known when all is there. */
static void nl_end(struct nl *b)
{
	uint32_t len = (uint32_t)(b->len - b->msg);

	if (!b->failed)
		memcpy(b->buf + b->msg + offsetof(struct nlmsghdr, nlmsg_len), &len, sizeof(len));
}

static void nl_put(struct nl *b, unsigned type, const void *data, size_t len)
{
	struct nlattr a = {.nla_len = (uint16_t)(NLA_HDRLEN + len), .nla_type = (uint16_t)type};
	uint8_t *p = nl_more(b, NLA_HDRLEN + len);

	if (!p)
		return;
	memcpy(p, &a, sizeof(a));
	if (len)
		memcpy(p + NLA_HDRLEN, data, len);
}

static void nl_text(struct nl *b, unsigned type, const char *text)
{
	nl_put(b, type, text, strlen(text) + 1);
}

static void nl_u32(struct nl *b, unsigned type, uint32_t v)
{
	v = htonl(v);
	nl_put(b, type, &v, sizeof(v));
}

static size_t nl_nest(struct nl *b, unsigned type)
{
	size_t at = b->len;

	nl_put(b, type | NLA_F_NESTED, NULL, 0);
	return at;
}

static void nl_close(struct nl *b, size_t at)
{
	uint16_t len = (uint16_t)(b->len - at);

	if (!b->failed)
		memcpy(b->buf + at, &len, sizeof(len));
}

static void nft_begin(struct nl *b, unsigned what, unsigned flags)
{
	nl_begin(b, NFNL_SUBSYS_NFTABLES << 8 | what, flags, NFPROTO_INET, 0);
}

/* Every answer is there when the request has been sent: the first that is an error counts. */
static int take_answers(int sk)
{
	_Alignas(struct nlmsghdr) char buf[16384];
	int ret = 0;

	for (;;) {
		const struct nlmsghdr *h = (const struct nlmsghdr *)buf;
		ssize_t n = recv(sk, buf, sizeof(buf), MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN || ret ? ret : -errno;
		for (int left = (int)n; NLMSG_OK(h, (unsigned)left); h = NLMSG_NEXT(h, left))
			if (h->nlmsg_type == NLMSG_ERROR &&
			    h->nlmsg_len >= NLMSG_LENGTH(sizeof(struct nlmsgerr)) && !ret)
				ret = ((const struct nlmsgerr *)NLMSG_DATA(h))->error;
	}
}

/* A netlink socket, with the batch done by it: what it owns goes when it is closed. */
static int nl_run(struct nl *b)
{
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	cleanup_fd int sk = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	int room = (int)(b->len + (1 << 16)), one = 1, ret;

	if (sk < 0)
		return -errno;
	if (b->failed)
		return -ENOMEM;
	if (bind(sk, (void *)&kernel, sizeof(kernel)) < 0)
		return -errno;
	/* An answer need not repeat the question. */
	setsockopt(sk, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one));
	if (setsockopt(sk, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) < 0)
		setsockopt(sk, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	if (sendto(sk, b->buf, b->len, 0, (void *)&kernel, sizeof(kernel)) < 0)
		return -errno;
	ret = take_answers(sk);
	return ret ? ret : take_fd(&sk);
}

/* --- the table ------------------------------------------------------------------------------ */

enum {
	KEY4 = 16, /* address, port and padding, address, port and padding */
	KEY6 = 40,
	KEY_MAX = KEY6,
	/* nft(8) shows a set's keys by these: 6 bits for each part */
	SHOW_ADDR4 = 7,
	SHOW_ADDR6 = 8,
	SHOW_PORT = 13,
};

/* What is different between the four sets. */
struct way {
	const char *set, *chain;
	uint8_t family;
	bool in; /* their address comes first */
	unsigned addr_len, src_at, dst_at;
};

static const struct way ways[] = {
	{"in4", "input", NFPROTO_IPV4, true, 4, 12, 16},
	{"in6", "input", NFPROTO_IPV6, true, 16, 8, 24},
	{"out4", "output", NFPROTO_IPV4, false, 4, 12, 16},
	{"out6", "output", NFPROTO_IPV6, false, 16, 8, 24},
};

enum { NWAYS = sizeof(ways) / sizeof(ways[0]) };

static unsigned key_len(const struct way *w)
{
	return 2 * (w->addr_len + 4);
}

/* IPv4 inside IPv6 is IPv4 on the wire. */
static const uint8_t *wire_addr(const struct m_inet *i, const uint8_t addr[16], unsigned *ret_len)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	*ret_len = i->family == AF_INET ? 4 : 16;
	if (i->family == AF_INET || memcmp(addr, mapped, sizeof(mapped)) != 0)
		return addr;
	*ret_len = 4;
	return addr + 12;
}

static uint8_t *put_end(uint8_t *to, const uint8_t *addr, unsigned len, uint32_t port)
{
	memcpy(to, addr, len);
	to += len;
	to[0] = (uint8_t)(port >> 8);
	to[1] = (uint8_t)port;
	return to + 4;
}

/* False when the connection is not one of @w's family. */
static bool key_of(const struct way *w, const struct m_inet *i, uint8_t ret[KEY_MAX])
{
	unsigned own_len, their_len;
	const uint8_t *own = wire_addr(i, i->src_addr, &own_len);
	const uint8_t *their = wire_addr(i, i->dst_addr, &their_len);

	if (own_len != w->addr_len || their_len != w->addr_len)
		return false;
	memset(ret, 0, KEY_MAX);
	if (w->in)
		put_end(put_end(ret, their, their_len, i->dst_port), own, own_len, i->src_port);
	else
		put_end(put_end(ret, own, own_len, i->src_port), their, their_len, i->dst_port);
	return true;
}

static void add_table(struct nl *b, const char *table, uint32_t flags)
{
	/* The one message that is answered when all is well. */
	nft_begin(b, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK);
	nl_text(b, NFTA_TABLE_NAME, table);
	nl_u32(b, NFTA_TABLE_FLAGS, flags);
	nl_end(b);
}

static void add_chain(struct nl *b, const char *table, const char *chain, uint32_t hook)
{
	enum { BEFORE_FILTERS = -300 };
	size_t at;

	nft_begin(b, NFT_MSG_NEWCHAIN, NLM_F_CREATE);
	nl_text(b, NFTA_CHAIN_TABLE, table);
	nl_text(b, NFTA_CHAIN_NAME, chain);
	at = nl_nest(b, NFTA_CHAIN_HOOK);
	nl_u32(b, NFTA_HOOK_HOOKNUM, hook);
	nl_u32(b, NFTA_HOOK_PRIORITY, (uint32_t)BEFORE_FILTERS);
	nl_close(b, at);
	nl_text(b, NFTA_CHAIN_TYPE, "filter");
	nl_end(b);
}

static void add_set(struct nl *b, const char *table, const struct way *w)
{
	uint32_t addr = w->addr_len == 4 ? SHOW_ADDR4 : SHOW_ADDR6;

	nft_begin(b, NFT_MSG_NEWSET, NLM_F_CREATE);
	nl_text(b, NFTA_SET_TABLE, table);
	nl_text(b, NFTA_SET_NAME, w->set);
	nl_u32(b, NFTA_SET_ID, 1 + (uint32_t)(w - ways));
	nl_u32(b, NFTA_SET_KEY_TYPE, addr << 18 | SHOW_PORT << 12 | addr << 6 | SHOW_PORT);
	nl_u32(b, NFTA_SET_KEY_LEN, key_len(w));
	nl_end(b);
}

/* One message is not longer than the length of an attribute can say. */
static uint32_t add_some(struct nl *b, const char *table, const struct way *w,
			 const struct m_inet *const *conns, uint32_t from, uint32_t n)
{
	enum { MOST = 512 };
	size_t list, elem, key;
	uint32_t k, done = 0;

	nft_begin(b, NFT_MSG_NEWSETELEM, NLM_F_CREATE);
	nl_text(b, NFTA_SET_ELEM_LIST_TABLE, table);
	nl_text(b, NFTA_SET_ELEM_LIST_SET, w->set);
	list = nl_nest(b, NFTA_SET_ELEM_LIST_ELEMENTS);
	for (k = from; k < n && done < MOST; k++) {
		uint8_t bytes[KEY_MAX];

		if (!key_of(w, conns[k], bytes))
			continue;
		elem = nl_nest(b, NFTA_LIST_ELEM);
		key = nl_nest(b, NFTA_SET_ELEM_KEY);
		nl_put(b, NFTA_DATA_VALUE, bytes, key_len(w));
		nl_close(b, key);
		nl_close(b, elem);
		done++;
	}
	nl_close(b, list);
	nl_end(b);
	/* A message without an element would be refused. */
	if (!done)
		b->len = b->msg;
	return k;
}

/* The parts of a rule: an expression is a name and what it is told. */
struct expr {
	size_t elem, data;
};

static struct expr expr_begin(struct nl *b, const char *name)
{
	struct expr e = {.elem = nl_nest(b, NFTA_LIST_ELEM)};

	nl_text(b, NFTA_EXPR_NAME, name);
	e.data = nl_nest(b, NFTA_EXPR_DATA);
	return e;
}

static void expr_end(struct nl *b, struct expr e)
{
	nl_close(b, e.data);
	nl_close(b, e.elem);
}

/* Goes on only where the packet's @what is @value. */
static void add_match(struct nl *b, uint32_t what, uint8_t value)
{
	struct expr e = expr_begin(b, "meta");
	size_t at;

	nl_u32(b, NFTA_META_DREG, NFT_REG_1);
	nl_u32(b, NFTA_META_KEY, what);
	expr_end(b, e);
	e = expr_begin(b, "cmp");
	nl_u32(b, NFTA_CMP_SREG, NFT_REG_1);
	nl_u32(b, NFTA_CMP_OP, NFT_CMP_EQ);
	at = nl_nest(b, NFTA_CMP_DATA);
	nl_put(b, NFTA_DATA_VALUE, &value, 1);
	nl_close(b, at);
	expr_end(b, e);
}

/* Registers are words, one after the other, as the parts of a key are. */
static uint32_t add_load(struct nl *b, uint32_t reg, uint32_t base, uint32_t at, uint32_t len)
{
	struct expr e = expr_begin(b, "payload");

	nl_u32(b, NFTA_PAYLOAD_DREG, reg);
	nl_u32(b, NFTA_PAYLOAD_BASE, base);
	nl_u32(b, NFTA_PAYLOAD_OFFSET, at);
	nl_u32(b, NFTA_PAYLOAD_LEN, len);
	expr_end(b, e);
	return reg + (len + 3) / 4;
}

static void add_drop(struct nl *b)
{
	struct expr e = expr_begin(b, "immediate");
	size_t data, verdict;

	nl_u32(b, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
	data = nl_nest(b, NFTA_IMMEDIATE_DATA);
	verdict = nl_nest(b, NFTA_DATA_VERDICT);
	nl_u32(b, NFTA_VERDICT_CODE, NF_DROP);
	nl_close(b, verdict);
	nl_close(b, data);
	expr_end(b, e);
}

static void add_rule(struct nl *b, const char *table, const struct way *w)
{
	uint32_t reg = NFT_REG32_00;
	struct expr e;
	size_t list;

	nft_begin(b, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
	nl_text(b, NFTA_RULE_TABLE, table);
	nl_text(b, NFTA_RULE_CHAIN, w->chain);
	list = nl_nest(b, NFTA_RULE_EXPRESSIONS);
	add_match(b, NFT_META_NFPROTO, w->family);
	add_match(b, NFT_META_L4PROTO, IPPROTO_TCP);
	reg = add_load(b, reg, NFT_PAYLOAD_NETWORK_HEADER, w->src_at, w->addr_len);
	reg = add_load(b, reg, NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2);
	reg = add_load(b, reg, NFT_PAYLOAD_NETWORK_HEADER, w->dst_at, w->addr_len);
	add_load(b, reg, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2);
	e = expr_begin(b, "lookup");
	nl_text(b, NFTA_LOOKUP_SET, w->set);
	nl_u32(b, NFTA_LOOKUP_SET_ID, 1 + (uint32_t)(w - ways));
	nl_u32(b, NFTA_LOOKUP_SREG, NFT_REG32_00);
	expr_end(b, e);
	add_drop(b);
	nl_close(b, list);
	nl_end(b);
}

static void batch_begin(struct nl *b)
{
	nl_begin(b, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	nl_end(b);
}

static void batch_end(struct nl *b)
{
	nl_begin(b, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	nl_end(b);
}

static int make_table(const char *table, uint32_t flags, const struct m_inet *const *conns,
		      uint32_t n)
{
	struct nl b = {0};
	int ret;

	batch_begin(&b);
	add_table(&b, table, flags);
	add_chain(&b, table, "input", NF_INET_LOCAL_IN);
	add_chain(&b, table, "output", NF_INET_LOCAL_OUT);
	for (uint32_t i = 0; i < NWAYS; i++) {
		add_set(&b, table, &ways[i]);
		for (uint32_t k = 0; k < n;)
			k = add_some(&b, table, &ways[i], conns, k, n);
		add_rule(&b, table, &ways[i]);
	}
	batch_end(&b);
	ret = nl_run(&b);
	free(b.buf);
	return ret;
}

static int delete_table(const char *table)
{
	struct nl b = {0};
	int ret;

	batch_begin(&b);
	nft_begin(&b, NFT_MSG_DELTABLE, NLM_F_ACK);
	nl_text(&b, NFTA_TABLE_NAME, table);
	nl_end(&b);
	batch_end(&b);
	ret = nl_run(&b);
	free(b.buf);
	if (ret >= 0)
		close(ret);
	/* A kernel without nf_tables has none, either. */
	return ret > 0 || ret == -ENOENT || ret == -EPROTONOSUPPORT || ret == -EOPNOTSUPP ? 0 : ret;
}

/* --- what is asked for ---------------------------------------------------------------------- */

void netlock_name(const struct model *m, char ret[NETLOCK_NAME_MAX])
{
	*ret = '\0';
	if (m->net_lock != M_NET_LOCK_NFTABLES)
		return;
	/* CRIU before 4.1 had no run ids. */
	if (m->run_id[0])
		snprintf(ret, NETLOCK_NAME_MAX, "CRIU-%.40s", m->run_id);
	else if (m->nprocs)
		snprintf(ret, NETLOCK_NAME_MAX, "CRIU-%u", m->procs[0].pid);
}

static int fail(struct err *err, int error, const char *table)
{
	err_set(err, -error, "hold back packets of TCP connections by nf_tables (table inet %s)",
		table);
	if (error == -EPERM)
		err_hint(err, "run as root or with CAP_NET_ADMIN");
	else
		err_hint(err, "--network-lock skip goes on without: what a peer sends before the "
			      "restore ends its connection");
	return error;
}

int netlock_hold(const struct model *m, const struct m_inet *const *conns, uint32_t n,
		 struct err *err)
{
	char table[NETLOCK_NAME_MAX + 8], name[NETLOCK_NAME_MAX];
	int ret;

	netlock_name(m, name);
	snprintf(table, sizeof(table), "%s-hold", name);
	ret = make_table(table, NFT_TABLE_F_OWNER, conns, n);
	return ret < 0 ? fail(err, ret, table) : ret;
}

int netlock_keep(const struct model *m, const struct m_inet *const *conns, uint32_t n,
		 struct err *err)
{
	char table[NETLOCK_NAME_MAX];
	int ret;

	netlock_name(m, table);
	ret = make_table(table, 0, conns, n);
	if (ret < 0)
		return fail(err, ret, table);
	close(ret);
	return 0;
}

int netlock_release(const struct model *m, struct err *err)
{
	char table[NETLOCK_NAME_MAX];
	int ret;

	netlock_name(m, table);
	ret = *table ? delete_table(table) : 0;
	if (ret < 0) {
		err_set(err, -ret, "let packets through again (nf_tables, table inet %s)", table);
		err_hint(err, "run as root or with CAP_NET_ADMIN");
	}
	return ret;
}

int netlock_probe(void)
{
	char table[NETLOCK_NAME_MAX];
	int ret;

	snprintf(table, sizeof(table), "stasis-probe-%d", (int)getpid());
	ret = make_table(table, NFT_TABLE_F_OWNER, NULL, 0);
	if (ret < 0)
		return ret;
	close(ret);
	return 0;
}
