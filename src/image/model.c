/* SPDX-License-Identifier: MIT */
/* A process tree as plain data: its memory and its look-ups. */
#include "src/image/model.h"

#include <stdlib.h>
#include <string.h>

#include "src/image/arena.h"

/* 32-bit hosts have no room for more than half of this; arena_new() takes less then. */
static const size_t arena_max = (size_t)4 << 30;

struct model *model_new(unsigned flags)
{
	struct arena *a = arena_new(arena_max, flags & MODEL_SHARED);
	struct model *m = a ? arena_alloc(a, sizeof(*m)) : NULL;

	if (m)
		m->arena = a;
	else
		arena_free(a);
	return m;
}

void model_free(struct model *m)
{
	if (m)
		arena_free(m->arena);
}

void *model_alloc(struct model *m, size_t len)
{
	return arena_alloc(m->arena, len);
}

void model_ready(struct model *m, size_t len)
{
	arena_populate(m->arena, len);
}

char *model_strdup(struct model *m, const char *s)
{
	size_t len = strlen(s) + 1;
	char *p = arena_alloc(m->arena, len);

	return p ? memcpy(p, s, len) : NULL;
}

void *model_push(struct model *m, void *array, uint32_t *n, size_t size)
{
	char *old, *p;
	size_t need, room;

	/* @array is a pointer to a typed pointer: copied, not cast, for the sake of aliasing. */
	memcpy(&old, array, sizeof(old));
	if (*n == UINT32_MAX)
		return NULL;
	need = ((size_t)*n + 1) * size;
	room = old ? arena_room(m->arena, old) : 0;
	if (old && !room)
		return NULL;
	p = need <= room ? old : arena_grow(m->arena, old, need + need / 2);
	if (!p)
		return NULL;
	memcpy(array, &p, sizeof(p));
	p += need - size;
	memset(p, 0, size);
	++*n;
	return p;
}

const struct m_file *model_file(const struct model *m, uint32_t id)
{
	return id && id <= m->nfiles ? &m->files[id - 1] : NULL;
}

const struct m_proc *model_proc(const struct model *m, uint32_t pid)
{
	for (uint32_t i = 0; i < m->nprocs; i++)
		if (m->procs[i].pid == pid)
			return &m->procs[i];
	return NULL;
}

const struct m_fdtable *model_fdtable(const struct model *m, uint32_t id)
{
	for (uint32_t i = 0; i < m->nfdtables; i++)
		if (m->fdtables[i].id == id)
			return &m->fdtables[i];
	return NULL;
}

const struct m_shm *model_shm(const struct model *m, uint32_t id)
{
	return id && id <= m->nshms ? &m->shms[id - 1] : NULL;
}

const struct m_seccomp_chain *model_chain(const struct model *m, uint32_t id)
{
	return id && id <= m->nchains ? &m->chains[id - 1] : NULL;
}

const struct m_ghost *model_ghost(const struct model *m, uint32_t id)
{
	return id && id <= m->nghosts ? &m->ghosts[id - 1] : NULL;
}

const struct m_tty *model_tty(const struct model *m, uint32_t tty)
{
	return tty && tty <= m->nttys ? &m->ttys[tty - 1] : NULL;
}

const struct m_pipe *model_pipe(const struct model *m, const struct m_file *f)
{
	for (uint32_t i = 0; i < m->npipes; i++) {
		const struct m_pipe *p = &m->pipes[i];

		/* CRIU's images know no device. */
		if (p->ino == f->ino && (!p->dev || !f->dev || p->dev == f->dev) &&
		    p->fifo == (f->type == M_FILE_FIFO))
			return p;
	}
	return NULL;
}

static int cmp_fd(const void *a, const void *b)
{
	uint32_t x = ((const struct m_fd *)a)->fd, y = ((const struct m_fd *)b)->fd;

	return x < y ? -1 : x > y;
}

const struct m_fd *model_fd(const struct m_fdtable *t, uint32_t fd)
{
	struct m_fd key = {.fd = fd};

	return t->n ? bsearch(&key, t->fds, t->n, sizeof(key), cmp_fd) : NULL;
}

void model_sort_fds(struct m_fdtable *t)
{
	bool sorted = true;

	for (uint32_t i = 1; i < t->n; i++)
		sorted &= t->fds[i - 1].fd <= t->fds[i].fd;
	if (!sorted)
		qsort(t->fds, t->n, sizeof(*t->fds), cmp_fd);
}

const struct m_file *model_file_at(const struct model *m, uint32_t pid, uint32_t fd)
{
	const struct m_proc *p = model_proc(m, pid);
	const struct m_fdtable *t = p ? model_fdtable(m, p->fdtable_id) : NULL;

	const struct m_fd *e = t ? model_fd(t, fd) : NULL;

	return e ? model_file(m, e->file_id) : NULL;
}

const struct m_regset *model_regset(const struct m_thread *t, uint32_t note)
{
	for (uint32_t i = 0; i < t->nregsets; i++)
		if (t->regsets[i].note == note)
			return &t->regsets[i];
	return NULL;
}
