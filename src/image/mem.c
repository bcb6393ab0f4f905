/* SPDX-License-Identifier: MIT */
/* Pages of either home, for random access. */
#include <stdlib.h>

#include "base/io.h"
#include "src/image/criu_map.h"
#include "src/image/meta.h"

enum { MAPS = 32 }; /* CRIU page maps kept unfolded, each with its pages file open */

struct mem_space {
	bool used;
	uint64_t id;
	int fd; /* -1: it has no pages */
	struct criu_map map;
};

struct image_mem {
	struct image *img;
	struct md_file *file; /* NULL: CRIU's page files */
	uint32_t page_size;
	/* CRIU's: the spaces looked at last, and the numbers of a stock image's segments */
	unsigned next;
	struct mem_space spaces[MAPS];
	struct model *stock;
};

/* What the page files do not say: how long a page is, and which segment is which. */
static int look_at_inventory(struct image_mem *mem, struct err *err)
{
	const Im__Inventory *inv;
	struct store_in in;
	int ret = meta_load_inventory(mem->img->dirfd, &in, err);

	if (ret)
		return ret;
	inv = meta_inventory(&in);
	mem->page_size = inv->stasis ? META_GET(inv->stasis, page_size) : 0;
	if (!inv->stasis) {
		mem->stock = image_read_model(mem->img, err);
		ret = mem->stock ? 0 : -EBADMSG;
		mem->page_size = mem->stock ? mem->stock->page_size : 0;
	}
	if (!ret && (!mem->page_size || mem->page_size & (mem->page_size - 1)))
		ret = err_fail(err, EBADMSG, ERR_IMAGE, INVENTORY_FILE ": page size %u",
			       mem->page_size);
	store_unload(&in);
	return ret;
}

struct image_mem *image_mem_open(struct image *img, struct err *err)
{
	struct image_mem *mem = calloc(1, sizeof(*mem));
	int ret = 0;

	if (!mem) {
		err_set(err, ENOMEM, "image %s", img->path);
		return NULL;
	}
	mem->img = img;
	if (img->format == IMAGE_STASIS) {
		mem->file = md_file_open(img->dirfd, IMAGE_BLOCK_FILE, 0, err);
		ret = mem->file ? 0 : -EBADMSG;
	} else {
		ret = look_at_inventory(mem, err);
	}
	if (ret) {
		image_mem_close(mem);
		return NULL;
	}
	return mem;
}

static void drop_space(struct mem_space *s)
{
	if (!s->used)
		return;
	criu_map_unload(&s->map);
	if (s->fd >= 0)
		close(s->fd);
	s->used = false;
}

void image_mem_close(struct image_mem *mem)
{
	if (!mem)
		return;
	md_file_close(mem->file);
	for (unsigned i = 0; i < MAPS; i++)
		drop_space(&mem->spaces[i]);
	model_free(mem->stock);
	free(mem);
}

/* --- CRIU's page files ---------------------------------------------------------------------- */

static int load_space(struct image_mem *mem, uint64_t id, struct mem_space *s, struct err *err)
{
	uint64_t disk = id, size;
	char name[STORE_NAME];
	int ret;

	if (mem->stock && MD_SPACE_KIND(id)) {
		const struct m_shm *shm = model_shm(mem->stock, (uint32_t)MD_SPACE_ID(id));

		disk = MD_SPACE_SHMEM(shm ? shm->ino : 0);
	}
	s->fd = -1;
	criu_map_name(name, disk);
	ret = criu_map_load(mem->img->dirfd, name, mem->page_size, &s->map, NULL);
	/* Without a single page there is no page map: a segment never written to. */
	if (ret == -ENOENT)
		return 0;
	if (ret)
		return criu_map_load(mem->img->dirfd, name, mem->page_size, &s->map, err);
	if (!s->map.npages)
		return 0;
	store_name(name, "pages-%u.img", s->map.pages_id);
	s->fd = store_open(mem->img->dirfd, name, &size, err);
	ret = s->fd < 0 ? s->fd : 0;
	if (!ret && size / mem->page_size < s->map.npages)
		ret = err_fail(err, EBADMSG, ERR_IMAGE,
			       "%s: ends at %" PRIu64 ", its map has %" PRIu64 " pages", name, size,
			       s->map.npages);
	if (ret) {
		s->used = true;
		drop_space(s);
	}
	return ret;
}

static int get_space(struct image_mem *mem, uint64_t id, struct mem_space **ret, struct err *err)
{
	struct mem_space *s;
	int e;

	for (unsigned i = 0; i < MAPS; i++) {
		if (mem->spaces[i].used && mem->spaces[i].id == id) {
			*ret = &mem->spaces[i];
			return 0;
		}
	}
	s = &mem->spaces[mem->next];
	mem->next = (mem->next + 1) % MAPS;
	drop_space(s);
	memset(s, 0, sizeof(*s));
	e = load_space(mem, id, s, err);
	if (e)
		return e;
	s->used = true;
	s->id = id;
	*ret = s;
	return 0;
}

/* Reading a page that lies elsewhere as a hole would be a lie. */
static int elsewhere(const struct criu_run *r, struct err *err)
{
	return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
			"pages at %#" PRIx64 " are %s, not in this image", r->addr,
			r->flags & CRIU_PE_PARENT ? "in its parent" : "with a page server");
}

/* Merged with its neighbours, or the first run alone. */
static int criu_extent(struct image_mem *mem, uint64_t space, uint64_t addr, bool merged,
		       struct md_extent *ret, struct err *err)
{
	const struct criu_map *map;
	struct mem_space *s;
	uint64_t end = 0;
	size_t first;
	int e = get_space(mem, space, &s, err);

	if (e)
		return e;
	map = &s->map;
	first = map->n ? criu_map_find(map, addr) : 0;
	if (first == map->n)
		return 0;
	if (!(map->runs[first].flags & CRIU_PE_PRESENT))
		return elsewhere(&map->runs[first], err);
	ret->addr = map->runs[first].addr > addr ? map->runs[first].addr : addr;
	end = ret->addr;
	for (size_t i = first; i < map->n; i++) {
		const struct criu_run *r = &map->runs[i];

		if (!(r->flags & CRIU_PE_PRESENT) || r->addr > end || (i > first && !merged))
			break;
		end = r->addr + r->npages * map->page_size;
	}
	ret->len = end - ret->addr;
	return 1;
}

static ssize_t criu_read(struct image_mem *mem, uint64_t space, uint64_t addr, uint8_t *buf,
			 size_t len, struct err *err)
{
	struct mem_space *s;
	size_t done = 0;
	int e = get_space(mem, space, &s, err);

	if (e)
		return e;
	for (size_t i = s->map.n ? criu_map_find(&s->map, addr) : 0; i < s->map.n && done < len;
	     i++) {
		const struct criu_run *r = &s->map.runs[i];
		uint64_t at = addr + done, in_run, n;
		ssize_t got;

		if (r->addr > at)
			break;
		if (!(r->flags & CRIU_PE_PRESENT))
			return done ? (ssize_t)done : elsewhere(r, err);
		in_run = at - r->addr;
		n = r->npages * mem->page_size - in_run;
		n = n < len - done ? n : len - done;
		got = io_pread(s->fd, buf + done, n, r->page * mem->page_size + in_run);
		if (got != (ssize_t)n)
			return err_set(err, got < 0 ? (int)-got : EBADMSG,
				       "read pages-%u.img at page %" PRIu64, s->map.pages_id,
				       r->page);
		done += n;
	}
	return (ssize_t)done;
}

/* --- either --------------------------------------------------------------------------------- */

int image_mem_extent(struct image_mem *mem, uint64_t space, uint64_t addr,
		     struct md_extent *ret_extent, struct err *err)
{
	if (mem->file)
		return md_file_extent(mem->file, space, addr, ret_extent);
	return criu_extent(mem, space, addr, true, ret_extent, err);
}

int image_mem_origin(struct image_mem *mem, uint64_t space, uint64_t addr,
		     struct md_extent *ret_extent, uint64_t *ret_space, struct err *err)
{
	if (mem->file)
		return md_file_origin(mem->file, space, addr, ret_extent, ret_space);
	*ret_space = space;
	return criu_extent(mem, space, addr, false, ret_extent, err);
}

ssize_t image_mem_read(struct image_mem *mem, uint64_t space, uint64_t addr, void *buf, size_t len,
		       struct err *err)
{
	if (mem->file)
		return md_file_read(mem->file, space, addr, buf, len, err);
	return criu_read(mem, space, addr, buf, len, err);
}
