/* SPDX-License-Identifier: MIT */
/*
 * TCP connections of a tree that runs, from the kernel's list: no descriptor of it is touched.
 *
 * Of two ends on this machine, the second may have been opened since the descriptors were listed:
 * it is outside of the tree when somebody else has it. One that nobody has waits to be accepted, or
 * is about to end.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "src/target/procfs.h"
#include "src/target/sockets.h"

struct tcp_line {
	uint64_t ino;
	struct m_inet i;
};

struct tcp_list {
	struct tcp_line *v;
	uint32_t n, room;
};

/* Words as in memory, printed as numbers. */
static bool take_addr(const char *text, size_t words, uint8_t to[16])
{
	for (size_t w = 0; w < words; w++) {
		uint32_t v;

		if (sscanf(text + 8 * w, "%8" SCNx32, &v) != 1)
			return false;
		memcpy(to + 4 * w, &v, 4);
	}
	return true;
}

/* "  0: 0100007F:1F90 0200007F:C350 01 00000000:00000000 00:00000000 00000000  0  0 4711 ..." */
static bool take_line(const char *line, int family, struct tcp_line *ret)
{
	char src[33], dst[33];
	size_t words = family == AF_INET ? 1 : 4;

	*ret = (struct tcp_line){.i = {.family = (uint32_t)family, .proto = IPPROTO_TCP}};
	if (sscanf(line,
		   " %*u: %32[0-9A-F]:%" SCNx32 " %32[0-9A-F]:%" SCNx32 " %" SCNx32
		   " %*x:%*x %*x:%*x %*x %*u %*u %" SCNu64,
		   src, &ret->i.src_port, dst, &ret->i.dst_port, &ret->i.state, &ret->ino) != 6)
		return false;
	return strlen(src) == 8 * words && strlen(dst) == 8 * words &&
	       take_addr(src, words, ret->i.src_addr) && take_addr(dst, words, ret->i.dst_addr);
}

static void read_list(struct tcp_list *l, const char *path, int family)
{
	char buf[8192], *line;
	struct procfs_lines lines;

	if (procfs_lines_open(&lines, buf, sizeof(buf), "%s", path) < 0)
		return;
	while ((line = procfs_lines_next(&lines))) {
		struct tcp_line e, *to;

		if (!take_line(line, family, &e))
			continue;
		to = files_push(&l->v, &l->n, &l->room, sizeof(*to));
		if (!to)
			break;
		*to = e;
	}
	procfs_lines_close(&lines);
}

enum other_end { UNKNOWN, INSIDE, OUTSIDE };

static enum other_end other_end(struct files *f, const struct tcp_list *l, const struct m_inet *i)
{
	char holder[HOLDER_TEXT];
	uint32_t id;

	for (uint32_t k = 0; k < l->n; k++) {
		if (!inet_are_peers(i, &l->v[k].i))
			continue;
		if (l->v[k].ino && idmap_get(&f->by_socket, l->v[k].ino, &id))
			return INSIDE;
		return l->v[k].ino && holders_outside(f, l->v[k].ino, false, holder) ? OUTSIDE
										     : UNKNOWN;
	}
	return OUTSIDE;
}

static int look(struct files *f, const struct tcp_list *l, const struct m_proc *p, uint32_t fd,
		uint64_t ino, struct err *err)
{
	for (uint32_t k = 0; k < l->n; k++) {
		const struct m_inet *i = &l->v[k].i;
		enum other_end end;

		if (l->v[k].ino != ino || i->state == M_SK_LISTEN || i->state == M_SK_CLOSE)
			continue;
		end = other_end(f, l, i);
		return end == UNKNOWN ? 0 : inet_connection(f, p, fd, i, end == INSIDE, err);
	}
	return 0;
}

static bool any_inet(const struct files *f)
{
	for (uint32_t i = 0; i < f->m->nfiles; i++)
		if (f->m->files[i].type == M_FILE_INETSK)
			return true;
	return false;
}

int tcp_list_findings(struct files *f, struct err *err)
{
	struct tcp_list l = {0};
	int ret = 0;

	/* The kernel's list has every hash bucket of the machine: some milliseconds. */
	if (!any_inet(f))
		return 0;

	read_list(&l, "/proc/net/tcp", AF_INET);
	read_list(&l, "/proc/net/tcp6", AF_INET6);
	for (uint32_t i = 0; ret == 0 && i < f->m->nprocs; i++) {
		const struct m_proc *p = &f->m->procs[i];
		const struct m_fdtable *t = model_fdtable(f->m, p->fdtable_id);

		for (uint32_t k = 0; ret == 0 && t && k < t->n; k++) {
			const struct m_file *file = model_file(f->m, t->fds[k].file_id);

			if (file && file->type == M_FILE_INETSK)
				ret = look(f, &l, p, t->fds[k].fd, file->ino, err);
		}
	}
	free(l.v);
	return ret;
}
