/* SPDX-License-Identifier: MIT */
/* CRIU's page map of one space: which pages are stored, and where. */
#include "src/image/criu_map.h"

#include <stdlib.h>

const char *criu_map_name(char buf[STORE_NAME], uint64_t space)
{
	return store_name(buf,
			  MD_SPACE_KIND(space) ? "pagemap-shmem-%" PRIu64 ".img"
					       : "pagemap-%" PRIu64 ".img",
			  (uint64_t)MD_SPACE_ID(space));
}

static uint32_t flags_of(const Im__PagemapEntry *e)
{
	if (e->has_flags)
		return e->flags | (e->has_in_parent && e->in_parent ? CRIU_PE_PARENT : 0);
	return e->has_in_parent && e->in_parent ? CRIU_PE_PARENT : CRIU_PE_PRESENT;
}

static int add_run(struct criu_map *map, const char *name, const Im__PagemapEntry *e, size_t *room,
		   struct err *err)
{
	const struct criu_run *last = map->n ? &map->runs[map->n - 1] : NULL;
	struct criu_run run = {
		.addr = e->vaddr,
		.npages = e->has_nr_pages ? e->nr_pages : e->compat_nr_pages,
		.page = map->npages,
		.flags = flags_of(e),
	};

	if (e->n_compressed_size || e->has_total_compressed_size)
		return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
				"%s: entry %zu: compressed pages of CRIU", name, map->n);
	if (run.addr % map->page_size || run.npages > (UINT64_MAX - run.addr) / map->page_size ||
	    (last && run.addr < last->addr + last->npages * map->page_size))
		return err_fail(err, EBADMSG, ERR_IMAGE,
				"%s: entry %zu: %" PRIu64 " pages at %#" PRIx64 " are out of order",
				name, map->n, run.npages, run.addr);
	if (!run.npages)
		return 0;
	if (map->n == *room) {
		struct criu_run *runs;

		*room = *room ? 2 * *room : 64;
		runs = realloc(map->runs, *room * sizeof(*runs));
		if (!runs)
			return err_set(err, ENOMEM, "%s", name);
		map->runs = runs;
	}
	map->runs[map->n++] = run;
	if (run.flags & CRIU_PE_PRESENT)
		map->npages += run.npages;
	return 0;
}

static int unfold(struct criu_map *map, const char *name, struct err *err)
{
	ProtobufCMessage *msg;
	size_t room = 0;
	int ret;

	ret = frame_next(&map->in.f, &msg, NULL, err);
	if (ret < 0)
		return ret;
	if (!ret)
		return err_fail(err, EBADMSG, ERR_IMAGE, "%s: has no entry", name);
	map->head = (const Im__PagemapHead *)msg;
	map->pages_id = map->head->pages_id;
	while ((ret = frame_next(&map->in.f, &msg, NULL, err)) > 0) {
		ret = add_run(map, name, (const Im__PagemapEntry *)msg, &room, err);
		if (ret < 0)
			return ret;
	}
	return ret;
}

int criu_map_load(int dirfd, const char *name, uint32_t page_size, struct criu_map *ret,
		  struct err *err)
{
	struct criu_map map = {.page_size = page_size};
	int e = store_load(dirfd, FRAME_PAGEMAP, name, &map.in, err);

	if (!e)
		e = unfold(&map, name, err);
	if (e)
		criu_map_unload(&map);
	else
		*ret = map;
	return e;
}

void criu_map_unload(struct criu_map *map)
{
	free(map->runs);
	map->runs = NULL;
	map->n = 0;
	store_unload(&map->in);
}

size_t criu_map_find(const struct criu_map *map, uint64_t addr)
{
	size_t lo = 0, hi = map->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct criu_run *r = &map->runs[mid];

		if (r->addr + r->npages * map->page_size <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}
