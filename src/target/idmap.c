/* SPDX-License-Identifier: MIT */
/* A hash from 64-bit keys to indices: open addressing, linear probing. */
#include "src/target/idmap.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

enum { FIRST_SLOTS = 256 };

static size_t slot_of(const struct idmap *m, uint64_t key)
{
	return (size_t)(idmap_mix(key, key >> 32) >> 7) & (m->nslots - 1);
}

static void insert(struct idmap *m, uint64_t key, uint32_t value)
{
	size_t i = slot_of(m, key);

	while (m->slots[i].used)
		i = (i + 1) & (m->nslots - 1);
	m->slots[i] = (struct idmap_slot){.key = key, .value = value, .used = 1};
	m->n++;
}

static int grow(struct idmap *m)
{
	struct idmap old = *m;
	size_t nslots = old.nslots ? old.nslots * 2 : FIRST_SLOTS;
	void *p = mmap(NULL, nslots * sizeof(*m->slots), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return -ENOMEM;
	*m = (struct idmap){.slots = p, .nslots = nslots};
	for (size_t i = 0; i < old.nslots; i++)
		if (old.slots[i].used)
			insert(m, old.slots[i].key, old.slots[i].value);
	idmap_deinit(&old);
	return 0;
}

void idmap_deinit(struct idmap *m)
{
	if (m->slots)
		munmap(m->slots, m->nslots * sizeof(*m->slots));
	*m = (struct idmap){0};
}

int idmap_put(struct idmap *m, uint64_t key, uint32_t value)
{
	if (m->n * 2 >= m->nslots) {
		int ret = grow(m);

		if (ret < 0)
			return ret;
	}
	insert(m, key, value);
	return 0;
}

size_t idmap_start(const struct idmap *m, uint64_t key)
{
	return m->nslots ? slot_of(m, key) : 0;
}

bool idmap_next(const struct idmap *m, uint64_t key, size_t *pos, uint32_t *ret_value)
{
	/* At most half of the slots are used: an empty one ends every run. */
	while (m->nslots && m->slots[*pos].used) {
		const struct idmap_slot *s = &m->slots[*pos];

		*pos = (*pos + 1) & (m->nslots - 1);
		if (s->key == key) {
			*ret_value = s->value;
			return true;
		}
	}
	return false;
}

bool idmap_get(const struct idmap *m, uint64_t key, uint32_t *ret_value)
{
	size_t pos = idmap_start(m, key);

	return idmap_next(m, key, &pos, ret_value);
}
