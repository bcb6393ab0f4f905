/* SPDX-License-Identifier: MIT */
/* Contents that only the thread which traces a process may write: kept until it does. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "src/target/fill.h"

struct piece {
	struct piece *next;
	uint64_t addr, len;
	bool zeros;
	uint8_t data[];
};

struct fill_late {
	pthread_mutex_t lock;
	struct piece *first; /* protected by lock */
};

int fill_late_open(struct fill *f, struct err *err)
{
	f->late = calloc(1, sizeof(*f->late));
	if (!f->late)
		return err_set(err, ENOMEM, "contents of process %u", f->p->pid);
	pthread_mutex_init(&f->late->lock, NULL);
	return 0;
}

static struct piece *take_all(struct fill_late *l)
{
	struct piece *all;

	pthread_mutex_lock(&l->lock);
	all = l->first;
	l->first = NULL;
	pthread_mutex_unlock(&l->lock);
	return all;
}

void fill_late_close(struct fill *f)
{
	struct piece *next;

	if (!f->late)
		return;
	for (struct piece *p = take_all(f->late); p; p = next) {
		next = p->next;
		free(p);
	}
	pthread_mutex_destroy(&f->late->lock);
	free(f->late);
	f->late = NULL;
}

int fill_keep(const struct fill *f, uint64_t addr, const void *buf, uint64_t len, struct err *err)
{
	struct piece *p = malloc(sizeof(*p) + (buf ? len : 0));

	if (!p)
		return err_set(err, ENOMEM, "contents of process %u", f->p->pid);
	*p = (struct piece){.addr = addr, .len = len, .zeros = !buf};
	if (buf)
		memcpy(p->data, buf, len);
	pthread_mutex_lock(&f->late->lock);
	p->next = f->late->first;
	f->late->first = p;
	pthread_mutex_unlock(&f->late->lock);
	return 0;
}

int fill_late(const struct fill *f, struct err *err)
{
	struct piece *next;
	int ret = 0;

	for (struct piece *p = f->late ? take_all(f->late) : NULL; p; p = next) {
		next = p->next;
		if (ret == 0)
			ret = fill_write(f, p->addr, p->zeros ? NULL : p->data, p->len, err);
		free(p);
	}
	return ret;
}
