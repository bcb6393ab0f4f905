/* SPDX-License-Identifier: MIT */
/* Which kernel objects of many tasks are one and the same, by kcmp(2). */
#include "src/target/same.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

void same_deinit(struct same *s)
{
	idmap_deinit(&s->roots);
	free(s->nodes);
	*s = (struct same){0};
}

/* Index of the new node, from 1; 0 without memory. */
static uint32_t node_add(struct same *s, pid_t tid, uint32_t fd, uint32_t value)
{
	if (s->n + 1 >= s->room) {
		uint32_t room = s->room ? 2 * s->room : 256;
		struct same_node *p = realloc(s->nodes, room * sizeof(*p));

		if (!p)
			return 0;
		s->nodes = p;
		s->room = room;
	}
	s->nodes[++s->n] = (struct same_node){.tid = tid, .fd = fd, .value = value};
	return s->n;
}

/* 0 equal, 1 less, 2 more, or -errno. */
static int compare(struct same *s, enum same_kind kind, pid_t tid, uint32_t fd,
		   const struct same_node *n)
{
	long ret;

	if (s->blind)
		return 1;
	s->calls++;
	ret = syscall(SYS_kcmp, tid, n->tid, kind, (unsigned long)fd, (unsigned long)n->fd);
	if (ret >= 0)
		return ret == 0 ? 0 : ret == 1 ? 1 : 2;
	if (errno == ENOSYS || errno == EPERM || errno == EACCES) {
		s->blind = true;
		return 1;
	}
	return -errno;
}

int same_find(struct same *s, enum same_kind kind, uint64_t key, pid_t tid, uint32_t fd,
	      uint32_t value, uint32_t *ret_value)
{
	uint64_t root_key = idmap_mix(key, (uint64_t)kind);
	uint32_t at = 0, parent = 0, new;
	int order = 0;

	if (idmap_get(&s->roots, root_key, &at) && !s->blind) {
		while (at) {
			order = compare(s, kind, tid, fd, &s->nodes[at]);
			if (order < 0)
				return order;
			if (order == 0) {
				*ret_value = s->nodes[at].value;
				return 1;
			}
			parent = at;
			at = order == 1 ? s->nodes[at].less : s->nodes[at].more;
		}
	}
	new = node_add(s, tid, fd, value);
	if (!new)
		return -ENOMEM;
	if (!parent)
		return s->blind ? 0 : idmap_put(&s->roots, root_key, new);
	if (order == 1)
		s->nodes[parent].less = new;
	else
		s->nodes[parent].more = new;
	return 0;
}
