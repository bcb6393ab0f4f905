/* SPDX-License-Identifier: MIT */
/*
 * Unix sockets made again: all at once, for they refer to each other.
 *
 *	1  those that listen, or are bound, or are alone; first those whose path is not theirs any
 *	   more
 *	2  pairs: by socketpair(), or where an end has a name, connected and accepted like the first
 *	   time; half a pair, of which one end has let go of the other
 *	3  datagram sockets are connected to their peers' names
 *	4  those that wait to be accepted, in the order of their queue
 *
 * What they had received, options and shutdowns come when all descriptions are there (late). To
 * getsockopt(SO_PEERCRED) they are of the users that they were of; the process is the tool.
 */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/target/make_row.h"

static bool is_made(const struct make *mk, uint32_t id)
{
	return mk->made[id - 1].fd >= 0;
}

static bool is_wanted(const struct make *mk, const struct m_file *f)
{
	return f->usk && f->type == M_FILE_UNIXSK && mk->made[f->id - 1].wanted;
}

static const struct m_file *by_ino(const struct make *mk, uint32_t ino)
{
	for (uint32_t i = 0; ino && i < mk->m->nfiles; i++)
		if (is_wanted(mk, &mk->m->files[i]) && (uint32_t)mk->m->files[i].ino == ino)
			return &mk->m->files[i];
	return NULL;
}

/* The other end, when it is the other end of it. */
static const struct m_file *partner(const struct make *mk, const struct m_file *f)
{
	const struct m_file *p = by_ino(mk, f->usk->peer_ino);

	return p && p != f && p->usk->peer_ino == (uint32_t)f->ino && p->usk->type == f->usk->type
		       ? p
		       : NULL;
}

static int new_socket(const struct m_file *f, struct err *err)
{
	int sk = socket(AF_UNIX, (int)f->usk->type | SOCK_CLOEXEC, 0);

	return sk < 0 ? err_set(err, errno, "make %s", make_name(f)) : sk;
}

static bool same_name(const struct m_unix *a, const struct m_unix *b)
{
	return a->name_len == b->name_len && !memcmp(a->name, b->name, a->name_len);
}

static bool is_stream(const struct m_file *f)
{
	return f->usk->type != SOCK_DGRAM;
}

/* To be accepted. CRIU tells no place among those that do: they come in the order of their files.
 */
static bool waits(const struct make *mk, const struct m_file *f)
{
	const struct m_file *l = by_ino(mk, f->usk->peer_ino);

	return f->usk->place || (l && l->usk->state == M_SK_LISTEN && is_stream(f) &&
				 f->usk->state == M_SK_ESTABLISHED);
}

/* --- who is seen by the other end ----------------------------------------------------------- */

/* As whom the other end of @seen is known to it; not known: a stock image, or nobody's. */
static struct make_user peer_of(const struct m_file *seen)
{
	const struct m_unix *u = seen->usk;

	return (struct make_user){
		.known = u->cred_pid != 0, .uid = u->cred_uid, .gid = u->cred_gid};
}

/* Nobody has seen @f yet: as one of those who have it. */
static struct make_user holder_of(const struct model *m, const struct m_file *f)
{
	for (uint32_t i = 0; i < m->nprocs; i++) {
		const struct m_proc *p = &m->procs[i];
		const struct m_fdtable *t = model_fdtable(m, p->fdtable_id);

		for (uint32_t k = 0; t && p->nthreads && k < t->n; k++)
			if (t->fds[k].file_id == f->id)
				return (struct make_user){.known = true,
							  .uid = p->threads[0].creds.euid,
							  .gid = p->threads[0].creds.egid};
	}
	return (struct make_user){0};
}

/* --- alone ---------------------------------------------------------------------------------- */

static int make_bound(struct make *mk, const struct m_file *f, struct err *err)
{
	cleanup_fd int sk = new_socket(f, err);
	int ret = sk < 0 ? sk : make_unix_bind(mk, f, sk, false, err);

	if (ret == 0 && f->usk->state == M_SK_LISTEN &&
	    make_user_listen(peer_of(f), sk, (int)f->usk->backlog) < 0)
		ret = err_set(err, errno, "listen on %s", make_name(f));
	return ret < 0 ? ret : make_put(mk, f->id, take_fd(&sk), err);
}

/* The other end is closed: ours stands for it until the queue is full again. */
static int make_widow(struct make *mk, const struct m_file *f, struct err *err)
{
	int pair[2], ret;

	if (make_user_pair(peer_of(f), (int)f->usk->type, pair) < 0)
		return err_set(err, errno, "make %s", make_name(f));
	mk->peers[f->id - 1] = pair[1];
	ret = make_put(mk, f->id, pair[0], err);
	/* An accepted one has the name of another socket, which it cannot take. */
	return ret || is_stream(f) ? ret : make_unix_bind(mk, f, make_fd(mk, f->id), false, err);
}

static bool has_messages(const struct make *mk, const struct m_file *f)
{
	for (uint32_t i = 0; i < mk->m->npackets; i++)
		if (mk->m->packets[i].file_id == f->id)
			return true;
	return false;
}

static int make_single(struct make *mk, const struct m_file *f, struct err *err)
{
	const struct m_unix *u = f->usk;

	if (is_made(mk, f->id) || partner(mk, f) || waits(mk, f))
		return 0;
	if (is_stream(f) && u->state == M_SK_ESTABLISHED) {
		if (u->peer_ino)
			return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
					"%s: the socket it is connected to is not in the image",
					make_name(f));
		return make_widow(mk, f, err);
	}
	if (!is_stream(f) && !u->name_len && !u->peer_ino && has_messages(mk, f))
		return make_widow(mk, f, err);
	return make_bound(mk, f, err);
}

/* Its path may be another's by now, which is not to be in the way of it. */
static int make_removed(struct make *mk, const struct m_file *f, struct err *err)
{
	return f->usk->deleted ? make_single(mk, f, err) : 0;
}

/* --- pairs ---------------------------------------------------------------------------------- */

static int make_plain_pair(struct make *mk, const struct m_file *a, const struct m_file *b,
			   struct err *err)
{
	int pair[2], ret;

	if (make_user_pair(peer_of(a), (int)a->usk->type, pair) < 0)
		return err_set(err, errno, "make %s", make_name(a));
	ret = make_put(mk, a->id, pair[0], err);
	if (ret < 0) {
		close(pair[1]);
		return ret;
	}
	ret = make_put(mk, b->id, pair[1], err);
	if (ret < 0 || is_stream(a))
		return ret;
	ret = make_unix_bind(mk, a, make_fd(mk, a->id), false, err);
	return ret ? ret : make_unix_bind(mk, b, make_fd(mk, b->id), false, err);
}

/*
 * One end has let go of the other, or has turned to somebody else: it takes messages of the first
 * one all the same, which only socketpair() can bring about where it has no name.
 */
static int make_half(struct make *mk, const struct m_file *f, struct err *err)
{
	const struct m_file *p = by_ino(mk, f->usk->peer_ino);
	struct sockaddr nobody = {.sa_family = AF_UNSPEC};
	int ret;

	if (is_stream(f) || !p || p == f || is_stream(p) || p->usk->name_len || partner(mk, f) ||
	    is_made(mk, f->id) || is_made(mk, p->id))
		return 0;
	ret = make_plain_pair(mk, f, p, err);
	if (ret == 0 && connect(make_fd(mk, p->id), &nobody, sizeof(nobody)) < 0)
		ret = err_set(err, errno, "disconnect %s", make_name(p));
	return ret;
}

/* The socket that listens on the name of @server: of the tree, or NULL. */
static const struct m_file *listener_of(const struct make *mk, const struct m_file *server)
{
	for (uint32_t i = 0; i < mk->m->nfiles; i++) {
		const struct m_file *f = &mk->m->files[i];

		if (is_wanted(mk, f) && f->usk->state == M_SK_LISTEN && is_made(mk, f->id) &&
		    f->usk->type == server->usk->type && same_name(f->usk, server->usk))
			return f;
	}
	return NULL;
}

/* @server was accepted: it has the name of @listener, or of one that is gone. */
static int make_accepted(struct make *mk, const struct m_file *server, const struct m_file *client,
			 const struct m_file *listener, struct err *err)
{
	cleanup_fd int own = -1;
	cleanup_fd int c = new_socket(client, err);
	int s, ret = c < 0 ? c : make_unix_bind(mk, client, c, false, err);

	if (ret == 0 && !listener) {
		own = new_socket(server, err);
		ret = own < 0 ? own : make_unix_bind(mk, server, own, true, err);
		if (ret == 0 && make_user_listen(peer_of(client), own, 1) < 0)
			ret = err_set(err, errno, "listen for %s", make_name(server));
	}
	if (ret == 0)
		ret = make_unix_connect(client, server->usk,
					mk->paths[(listener ? listener : server)->id - 1],
					peer_of(server), c, err);
	if (ret < 0)
		return ret;
	s = accept4(listener ? make_fd(mk, listener->id) : own, NULL, NULL, SOCK_CLOEXEC);
	if (s < 0)
		return err_set(err, errno, "accept %s", make_name(server));
	ret = make_put(mk, server->id, s, err);
	return ret ? ret : make_put(mk, client->id, take_fd(&c), err);
}

static int make_pair(struct make *mk, const struct m_file *f, struct err *err)
{
	const struct m_file *p = partner(mk, f);
	bool swap;

	if (!p || is_made(mk, f->id))
		return 0;
	if (!is_stream(f) && f->usk->name_len && p->usk->name_len)
		return 0; /* bound, and connected by name */
	if (!is_stream(f) || (!f->usk->name_len && !p->usk->name_len))
		return make_plain_pair(mk, f, p, err);
	/* Who accepted has a name; so may have the other one. */
	swap = !f->usk->name_len || (p->usk->name_len && !listener_of(mk, f));
	if (swap) {
		const struct m_file *other = f;

		f = p;
		p = other;
	}
	return make_accepted(mk, f, p, listener_of(mk, f), err);
}

/* --- datagram sockets, and who waits -------------------------------------------------------- */

static bool is_connected(int sk)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);

	return getpeername(sk, (struct sockaddr *)&a, &len) == 0;
}

static int connect_named(struct make *mk, const struct m_file *f, struct err *err)
{
	const struct m_unix *u = f->usk;
	const struct m_file *p = by_ino(mk, u->peer_ino);
	struct m_unix outside = {
		.type = u->type, .name = u->peer_name, .name_len = u->peer_name_len};

	if (is_stream(f) || !u->peer_ino || (partner(mk, f) && !(u->name_len && p->usk->name_len)))
		return 0;
	if (u->peer_name_len)
		return make_unix_connect(f, &outside, -1, (struct make_user){0}, make_fd(mk, f->id),
					 err);
	if (p && !p->usk->name_len && is_made(mk, f->id) && is_connected(make_fd(mk, f->id)))
		return 0; /* half a pair */
	if (!p || !p->usk->name_len)
		return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
				"%s: the socket it sends to has no name to connect it by",
				make_name(f));
	return make_unix_connect(f, p->usk, mk->paths[p->id - 1], (struct make_user){0},
				 make_fd(mk, f->id), err);
}

/* Both are bound before either is connected: then each takes only what its peer sends. */
static int bind_named(struct make *mk, const struct m_file *f, struct err *err)
{
	return is_made(mk, f->id) || is_stream(f) || !partner(mk, f) ? 0 : make_bound(mk, f, err);
}

static int by_place(const void *a, const void *b)
{
	const struct m_file *x = *(const struct m_file *const *)a;
	const struct m_file *y = *(const struct m_file *const *)b;

	return (x->usk->place > y->usk->place) - (x->usk->place < y->usk->place);
}

static int make_waiting(struct make *mk, const struct m_file *f, struct err *err)
{
	const struct m_file *l = by_ino(mk, f->usk->peer_ino);
	cleanup_fd int sk = new_socket(f, err);
	int ret = sk < 0 ? sk : make_unix_bind(mk, f, sk, false, err);

	if (ret == 0 && (!l || l->usk->state != M_SK_LISTEN))
		return err_fail(err, EBADMSG, ERR_IMAGE, "%s: nobody listens where it waits",
				make_name(f));
	if (ret == 0)
		ret = make_unix_connect(f, l->usk, mk->paths[l->id - 1], holder_of(mk->m, f), sk,
					err);
	return ret < 0 ? ret : make_put(mk, f->id, take_fd(&sk), err);
}

static int make_all_waiting(struct make *mk, struct err *err)
{
	const struct m_file **list = calloc(mk->m->nfiles + 1, sizeof(const struct m_file *));
	uint32_t n = 0;
	int ret = 0;

	if (!list)
		return err_set(err, ENOMEM, "list of sockets");
	for (uint32_t i = 0; i < mk->m->nfiles; i++)
		if (is_wanted(mk, &mk->m->files[i]) && waits(mk, &mk->m->files[i]))
			list[n++] = &mk->m->files[i];
	qsort(list, n, sizeof(const struct m_file *), by_place);
	for (uint32_t i = 0; ret == 0 && i < n; i++)
		ret = make_waiting(mk, list[i], err);
	free(list);
	return ret;
}

/* --- the row -------------------------------------------------------------------------------- */

static int for_all(struct make *mk,
		   int (*fn)(struct make *mk, const struct m_file *f, struct err *err),
		   struct err *err)
{
	int ret = 0;

	for (uint32_t i = 0; ret == 0 && i < mk->m->nfiles; i++)
		if (is_wanted(mk, &mk->m->files[i]))
			ret = fn(mk, &mk->m->files[i], err);
	return ret;
}

static int unix_open(struct make *mk, const struct m_file *f, bool late, struct err *err)
{
	int ret;

	if (!f->usk)
		return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
				"%s: a unix socket of which the image has no state", make_name(f));
	if (mk->unix_opened)
		return err_set(err, EINVAL, "make %s", make_name(f));
	mk->unix_opened = true;
	ret = for_all(mk, make_half, err);
	if (ret == 0)
		ret = for_all(mk, make_removed, err);
	if (ret == 0)
		ret = for_all(mk, make_single, err);
	if (ret == 0)
		ret = for_all(mk, make_pair, err);
	if (ret == 0)
		ret = for_all(mk, bind_named, err);
	if (ret == 0)
		ret = for_all(mk, connect_named, err);
	if (ret == 0)
		ret = make_all_waiting(mk, err);
	return ret;
}

static int shut(struct make *mk, const struct m_file *f, struct err *err)
{
	static const int how[] = {0, SHUT_RD, SHUT_WR, SHUT_RDWR};
	uint32_t down = f->usk->shutdown & (M_SK_SHUT_READ | M_SK_SHUT_WRITE);

	if (f->usk->state == M_SK_LISTEN || !down || mk->peers[f->id - 1] >= 0)
		return 0;
	if (shutdown(make_fd(mk, f->id), how[down]) < 0 && errno != ENOTCONN)
		return err_set(err, errno, "shut down %s", make_name(f));
	return 0;
}

static int set_opts(struct make *mk, const struct m_file *f, struct err *err)
{
	int ret = make_sk_opts(make_fd(mk, f->id), f, &f->usk->opts, err);

	return ret ? ret : make_set_flags(make_fd(mk, f->id), f, err);
}

/*
 * The other end is closed after all has been said. It says ECONNRESET when it had something that it
 * had not read.
 */
static int close_peer(struct make *mk, const struct m_file *f, struct err *err)
{
	int peer = mk->peers[f->id - 1], ret = 0;

	if (peer >= 0 && f->usk->reset &&
	    send(make_fd(mk, f->id), "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		ret = err_set(err, errno, "make %s one that was reset", make_name(f));
	if (peer >= 0)
		close(peer);
	mk->peers[f->id - 1] = -1;
	return ret;
}

/* The first one does it for all. */
static int unix_late(struct make *mk, const struct m_file *f, int fd, struct err *err)
{
	int ret;

	if (mk->unix_fed)
		return 0;
	mk->unix_fed = true;
	ret = make_unix_feed(mk, err);
	if (ret == 0)
		ret = for_all(mk, set_opts, err);
	if (ret == 0)
		ret = for_all(mk, shut, err);
	return ret ? ret : for_all(mk, close_peer, err);
}

const struct make_row make_unix = {.open = unix_open, .late = unix_late};
