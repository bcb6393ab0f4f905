/* SPDX-License-Identifier: MIT */
/*
 * The writer plug that puts blocks into CRIU's page files.
 *
 * Every page has its slot before the first one comes, so blocks may come in any order. A block's
 * extents follow each other in its space and so do their slots: a block is one write.
 */
#include <fcntl.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/io.h"
#include "src/image/criu_map.h"
#include "src/image/meta.h"

enum { OPEN_MAX_FILES = 64 };

/* Pages that one block put in one place of the pages file. */
struct piece {
	uint64_t page;
	uint32_t npages;
};

/* A block that came: its pieces are pieces[first] to the next block's first. */
struct sum {
	uint64_t sum;
	size_t first;
};

struct space {
	uint64_t id;
	uint32_t pages_id;
	int fd; /* -1: not open now */
	bool created;
	uint64_t npages;
	size_t nruns, runs_room;
	struct criu_run *runs;
	size_t nsums, sums_room;
	struct sum *sums;
	size_t npieces, pieces_room;
	struct piece *pieces;
};

struct image_criu_pages {
	struct image *img;
	uint32_t page_size;
	size_t nspaces, room;
	struct space *spaces;
	/* spaces with an open file, the oldest overwritten first */
	size_t open[OPEN_MAX_FILES], next_open;
};

static bool grow(void *array, size_t *room, size_t n, size_t size)
{
	void *old, *p;

	if (n < *room)
		return true;
	memcpy(&old, array, sizeof(old));
	p = realloc(old, (*room ? 2 * *room : 64) * size);
	if (!p)
		return false;
	*room = *room ? 2 * *room : 64;
	memcpy(array, &p, sizeof(p));
	return true;
}

struct image_criu_pages *image_criu_pages_new(struct image *img, uint32_t page_size,
					      struct err *err)
{
	struct image_criu_pages *p = calloc(1, sizeof(*p));

	if (!p) {
		err_set(err, ENOMEM, "page files of image %s", img->path);
		return NULL;
	}
	p->img = img;
	p->page_size = page_size;
	for (unsigned i = 0; i < OPEN_MAX_FILES; i++)
		p->open[i] = SIZE_MAX;
	return p;
}

void image_criu_pages_free(struct image_criu_pages *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->nspaces; i++) {
		struct space *s = &p->spaces[i];

		if (s->fd >= 0)
			close(s->fd);
		free(s->runs);
		free(s->sums);
		free(s->pieces);
	}
	free(p->spaces);
	free(p);
}

/* --- slots ---------------------------------------------------------------------------------- */

static struct space *find_space(struct image_criu_pages *p, uint64_t id)
{
	for (size_t i = p->nspaces; i > 0; i--)
		if (p->spaces[i - 1].id == id)
			return &p->spaces[i - 1];
	return NULL;
}

static struct space *add_space(struct image_criu_pages *p, uint64_t id)
{
	struct space *s;

	if (!grow(&p->spaces, &p->room, p->nspaces, sizeof(*p->spaces)))
		return NULL;
	s = &p->spaces[p->nspaces++];
	*s = (struct space){.id = id, .pages_id = (uint32_t)p->nspaces, .fd = -1};
	return s;
}

int image_criu_add(struct image_criu_pages *p, uint64_t space, const struct md_extent *e, bool lazy,
		   struct err *err)
{
	uint32_t flags = CRIU_PE_PRESENT | (lazy ? CRIU_PE_LAZY : 0);
	struct space *s = find_space(p, space);
	struct criu_run *last;
	uint64_t end = 0;

	if (!s)
		s = add_space(p, space);
	if (!s || !grow(&s->runs, &s->runs_room, s->nruns, sizeof(*s->runs)))
		return err_set(err, ENOMEM, "page map of image %s", p->img->path);
	last = s->nruns ? &s->runs[s->nruns - 1] : NULL;
	end = last ? last->addr + last->npages * p->page_size : 0;
	if ((e->addr | e->len) % p->page_size || !e->len || e->addr < end)
		return err_set(err, EINVAL, "page map: %#" PRIx64 "+%#" PRIx64 " after %#" PRIx64,
			       e->addr, e->len, end);
	if (last && e->addr == end && last->flags == flags)
		last->npages += e->len / p->page_size;
	else
		s->runs[s->nruns++] = (struct criu_run){
			.addr = e->addr,
			.npages = e->len / p->page_size,
			.page = s->npages,
			.flags = flags,
		};
	s->npages += e->len / p->page_size;
	return 0;
}

/* --- the plug ------------------------------------------------------------------------------- */

struct plug {
	struct md_writer w;
	struct image_criu_pages *pages;
};

static struct image_criu_pages *pages_of(struct md_writer *w)
{
	return ((struct plug *)w)->pages;
}

/* The pages file of @s, with no more than OPEN_MAX_FILES open in all. */
static int space_open(struct image_criu_pages *p, struct space *s, struct err *err)
{
	size_t *slot = &p->open[p->next_open];
	char name[STORE_NAME];
	int fd;

	if (s->fd >= 0)
		return 0;
	store_name(name, "pages-%u.img", s->pages_id);
	if (!s->created)
		fd = store_create(p->img, name, err);
	else
		fd = openat(p->img->dirfd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return s->created ? err_set(err, errno, "open %s/%s", p->img->path, name) : fd;
	if (*slot != SIZE_MAX) {
		close(p->spaces[*slot].fd);
		p->spaces[*slot].fd = -1;
	}
	*slot = (size_t)(s - p->spaces);
	p->next_open = (p->next_open + 1) % OPEN_MAX_FILES;
	s->fd = fd;
	s->created = true;
	return 0;
}

static int write_piece(struct image_criu_pages *p, struct space *s, const uint8_t *data,
		       uint64_t page, uint64_t npages, struct err *err)
{
	uint64_t len = npages * p->page_size;
	ssize_t n;

	if (!grow(&s->pieces, &s->pieces_room, s->npieces, sizeof(*s->pieces)))
		return err_set(err, ENOMEM, "checksums of pages-%u.img", s->pages_id);
	n = FAULT("image.write-pages") ? -EIO : io_pwrite(s->fd, data, len, page * p->page_size);
	if (n < 0)
		return err_set(err, (int)-n, "write %s/pages-%u.img", p->img->path, s->pages_id);
	s->pieces[s->npieces++] = (struct piece){page, (uint32_t)npages};
	return 0;
}

/* A block on its way to the file. */
struct cursor {
	const uint8_t *data; /* of the piece that grows */
	uint64_t page, npages;
	uint64_t skipped; /* pages without a slot */
};

/* Adds @npages slots from @page on to the piece, or writes the piece and starts the next. */
static int extend(struct image_criu_pages *p, struct space *s, struct cursor *c,
		  const uint8_t *data, uint64_t page, uint64_t npages, struct err *err)
{
	int ret = 0;

	if (c->npages && page == c->page + c->npages &&
	    data == c->data + c->npages * p->page_size) {
		c->npages += npages;
		return 0;
	}
	if (c->npages)
		ret = write_piece(p, s, c->data, c->page, c->npages, err);
	c->data = data;
	c->page = page;
	c->npages = npages;
	return ret;
}

/*
 * One extent. A page that came to be after the map was made has no slot: what the map says is the
 * older state, in which it was not there.
 */
static int place_extent(struct image_criu_pages *p, struct space *s, struct cursor *c,
			const struct md_extent *e, const uint8_t *data, struct err *err)
{
	const struct criu_map map = {.page_size = p->page_size, .n = s->nruns, .runs = s->runs};
	uint64_t at = e->addr, end = e->addr + e->len;

	for (size_t i = criu_map_find(&map, at); i < map.n && map.runs[i].addr < end; i++) {
		const struct criu_run *r = &map.runs[i];
		uint64_t stop = r->addr + r->npages * p->page_size;
		uint64_t from = at > r->addr ? at : r->addr;
		int ret;

		stop = stop < end ? stop : end;
		c->skipped += (from - at) / p->page_size;
		ret = extend(p, s, c, data + (from - e->addr),
			     r->page + (from - r->addr) / p->page_size,
			     (stop - from) / p->page_size, err);
		if (ret)
			return ret;
		at = stop;
	}
	c->skipped += (end - at) / p->page_size;
	return 0;
}

/* The block's own sum where all of it was written, else one of what was. */
static uint64_t block_sum(const struct image_criu_pages *p, const struct space *s,
			  const struct md_block *b, const struct cursor *c, size_t first)
{
	uint64_t sum = b->sum;

	if (!c->skipped)
		return sum;
	/* Rare enough for reading back: pieces are not kept in memory. */
	uint8_t *buf = malloc(b->raw_len);
	size_t len = 0;

	for (size_t i = first; buf && i < s->npieces; i++) {
		size_t n = s->pieces[i].npages * (size_t)p->page_size;

		if (io_pread(s->fd, buf + len, n, s->pieces[i].page * p->page_size) != (ssize_t)n)
			break;
		len += n;
	}
	sum = buf ? store_sum(buf, len) : 0;
	free(buf);
	return sum;
}

static int put_block(struct image_criu_pages *p, const struct md_block *b, struct err *err)
{
	struct space *s = find_space(p, b->space);
	struct cursor c = {0};
	const uint8_t *data = b->data;
	size_t first;
	int ret;

	/* A zero block is the hole that is there already. */
	if (!s || b->codec == MD_CODEC_ZERO)
		return 0;
	if (b->codec != MD_CODEC_NONE)
		return err_set(err, EINVAL, "CRIU's page files hold no packed blocks");
	ret = space_open(p, s, err);
	if (ret)
		return ret;
	first = s->npieces;
	for (uint32_t i = 0; i < b->nextents; i++) {
		ret = place_extent(p, s, &c, &b->extents[i], data, err);
		if (ret)
			return ret;
		data += b->extents[i].len;
	}
	if (c.npages)
		ret = write_piece(p, s, c.data, c.page, c.npages, err);
	if (ret || s->npieces == first)
		return ret;
	if (!grow(&s->sums, &s->sums_room, s->nsums, sizeof(*s->sums)))
		return err_set(err, ENOMEM, "checksums of pages-%u.img", s->pages_id);
	s->sums[s->nsums++] = (struct sum){block_sum(p, s, b, &c, first), first};
	return 0;
}

static int plug_put(struct md_writer *w, struct md_block *b, struct err *err)
{
	int ret = put_block(pages_of(w), b, err);

	md_block_done(b);
	return ret;
}

/* --- the end -------------------------------------------------------------------------------- */

static bool head_sums(struct arena *a, const struct space *s, Im__PagemapHead *head)
{
	Im__PageSum *items;
	uint64_t *pages = arena_alloc(a, s->npieces * sizeof(*pages));
	uint32_t *counts = arena_alloc(a, s->npieces * sizeof(*counts));

	head->n_sums = s->nsums;
	if (!pages || !counts || !meta_array(a, s->nsums, sizeof(*items), &items, &head->sums))
		return false;
	for (size_t i = 0; i < s->npieces; i++) {
		pages[i] = s->pieces[i].page;
		counts[i] = s->pieces[i].npages;
	}
	for (size_t i = 0; i < s->nsums; i++) {
		size_t first = s->sums[i].first;
		size_t end = i + 1 < s->nsums ? s->sums[i + 1].first : s->npieces;

		im__page_sum__init(&items[i]);
		items[i].n_page = items[i].n_npages = end - first;
		items[i].page = pages + first;
		items[i].npages = counts + first;
		items[i].sum = s->sums[i].sum;
	}
	return true;
}

static void add_entries(struct frame_out *out, const struct space *s, uint32_t page_size)
{
	for (size_t i = 0; i < s->nruns; i++) {
		Im__PagemapEntry e = IM__PAGEMAP_ENTRY__INIT;
		const struct criu_run *r = &s->runs[i];

		e.vaddr = r->addr;
		/* Old readers look here only, new ones below; an entry is never that long. */
		e.compat_nr_pages = r->npages > UINT32_MAX ? UINT32_MAX : (uint32_t)r->npages;
		META_SET(&e, flags, r->flags);
		META_SET(&e, nr_pages, r->npages);
		frame_add(out, &e.base);
	}
}

static int write_map(struct image_criu_pages *p, const struct space *s, struct err *err)
{
	struct arena *a = arena_new((size_t)4 << 30, false);
	Im__PagemapHead head = IM__PAGEMAP_HEAD__INIT;
	char name[STORE_NAME];

	criu_map_name(name, s->id);
	head.pages_id = s->pages_id;
	META_SET(&head, file_pages, s->npages);
	if (!a || !head_sums(a, s, &head)) {
		arena_free(a);
		return meta_nomem(err, name);
	}
	frame_begin(&p->img->out, FRAME_PAGEMAP);
	frame_add(&p->img->out, &head.base);
	arena_free(a);
	add_entries(&p->img->out, s, p->page_size);
	return store_put(p->img, name, err);
}

static int finish_space(struct image_criu_pages *p, struct space *s, struct err *err)
{
	struct store_file f = {.check = IM__FILE_CHECK__CHECK_RUNS};
	int ret = space_open(p, s, err);

	if (ret)
		return ret;
	f.size = s->npages * p->page_size;
	store_name(f.name, "pages-%u.img", s->pages_id);
	if (ftruncate(s->fd, (off_t)f.size) < 0)
		return err_set(err, errno, "finish %s/%s", p->img->path, f.name);
	ret = store_adopt(p->img, &f, err);
	return ret ? ret : write_map(p, s, err);
}

static int plug_flush(struct md_writer *w, struct err *err)
{
	struct image_criu_pages *p = pages_of(w);

	for (size_t i = 0; i < p->nspaces; i++) {
		int ret = finish_space(p, &p->spaces[i], err);

		if (ret)
			return ret;
		w->file_bytes += p->spaces[i].npages * p->page_size;
	}
	return 0;
}

static int plug_sync(struct md_writer *w, struct err *err)
{
	struct image_criu_pages *p = pages_of(w);

	if (FAULT("image.sync-pages"))
		return err_set(err, EIO, "fault injected at image.sync-pages");
	for (size_t i = 0; i < p->nspaces; i++) {
		int ret = space_open(p, &p->spaces[i], err);

		if (ret)
			return ret;
		if (fsync(p->spaces[i].fd) < 0)
			return err_set(err, errno, "fsync %s/pages-%u.img", p->img->path,
				       p->spaces[i].pages_id);
	}
	return 0;
}

static void plug_close(struct md_writer *w)
{
	free(w);
}

struct md_writer *image_criu_writer(struct image_criu_pages *p, struct err *err)
{
	struct plug *plug = calloc(1, sizeof(*plug));

	if (!plug) {
		err_set(err, ENOMEM, "page files of image %s", p->img->path);
		return NULL;
	}
	plug->w.put = plug_put;
	plug->w.flush = plug_flush;
	plug->w.sync = plug_sync;
	plug->w.close = plug_close;
	snprintf(plug->w.io_uring_reason, sizeof(plug->w.io_uring_reason),
		 "CRIU's page files are written with pwrite");
	plug->pages = p;
	return &plug->w;
}
