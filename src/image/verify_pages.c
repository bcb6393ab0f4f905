/* SPDX-License-Identifier: MIT */
/* Pages of an image: all there, unchanged, and of memory that the metadata knows. */
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "memdump/sum.h"
#include "src/image/criu_map.h"
#include "src/image/meta.h"
#include "src/image/verify.h"

enum { CHUNK = 1 << 20 };

/* --- whose pages ---------------------------------------------------------------------------- */

/* The first VMA that ends above @addr. */
static uint32_t first_vma(const struct m_mm *mm, uint64_t addr)
{
	uint32_t lo = 0, hi = mm->nvmas;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (mm->vmas[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void check_proc_extent(struct verify *v, uint64_t space, uint64_t addr, uint64_t end)
{
	const struct m_proc *p = model_proc(v->m, (uint32_t)MD_SPACE_ID(space));

	if (!p || p->state == M_DEAD) {
		verify_bad(v, "pages at %#" PRIx64 " of process %" PRIu64 ", which %s", addr,
			   (uint64_t)MD_SPACE_ID(space), p ? "is dead" : "is not in the tree");
		return;
	}
	for (uint32_t i = first_vma(&p->mm, addr); i < p->mm.nvmas && addr < end; i++) {
		if (p->mm.vmas[i].start > addr)
			break;
		addr = p->mm.vmas[i].end;
	}
	if (addr < end)
		verify_bad(v, "pages at %#" PRIx64 " of process %u are in no VMA", addr, p->pid);
}

static void check_shmem_extent(struct verify *v, uint64_t space, uint64_t addr, uint64_t end)
{
	const struct m_shm *s = model_shm(v->m, (uint32_t)MD_SPACE_ID(space));
	uint64_t page = v->m->page_size ? v->m->page_size : 1;

	if (!s || MD_SPACE_KIND(space) != 1)
		verify_bad(v, "pages at %#" PRIx64 " of segment %" PRIu64 ", which is not there",
			   addr, (uint64_t)MD_SPACE_ID(space));
	else if (s->size && end > (s->size + page - 1) / page * page)
		verify_bad(v, "pages at %#" PRIx64 " of segment %u, which has %" PRIu64 " bytes",
			   addr, s->id, s->size);
}

static void check_extent(struct verify *v, uint64_t space, uint64_t addr, uint64_t len)
{
	if (MD_SPACE_KIND(space))
		check_shmem_extent(v, space, addr, addr + len);
	else
		check_proc_extent(v, space, addr, addr + len);
}

/* --- the block file ------------------------------------------------------------------------- */

static void count_line(void *arg, const char *line)
{
	struct verify *v = arg;

	v->ret->bad++;
	if (v->report)
		v->report(v->arg, line);
}

static int check_block_extents(struct verify *v, struct err *err)
{
	struct md_file *f = md_file_open(v->img->dirfd, IMAGE_BLOCK_FILE, 0, err);
	struct md_extent e;
	uint64_t space;

	if (!f) {
		verify_err(v, err);
		return 0;
	}
	if (md_file_page_size(f) != v->m->page_size)
		verify_bad(v, IMAGE_BLOCK_FILE ": pages of %u bytes, the inventory says %u",
			   md_file_page_size(f), v->m->page_size);
	for (size_t i = 0; md_file_space(f, i, &space); i++)
		for (uint64_t at = 0; md_file_extent(f, space, at, &e) > 0; at = e.addr + e.len)
			check_extent(v, space, e.addr, e.len);
	md_file_close(f);
	return 0;
}

static int verify_blocks(struct verify *v, struct err *err)
{
	struct md_verify mem = {0};
	struct err why = {0};
	int ret = md_file_verify(v->img->dirfd, IMAGE_BLOCK_FILE, v->threads, count_line, v, &mem,
				 &why);

	v->ret->mem = mem;
	/* Findings were told one by one; without one the error itself is it. */
	if (ret == -EBADMSG && !mem.bad)
		verify_err(v, &why);
	else if (ret && ret != -EBADMSG && ret != -ENOENT)
		return err_take(err, &why);
	else if (ret == -ENOENT)
		verify_err(v, &why);
	return ret || !v->m ? 0 : check_block_extents(v, err);
}

/* --- CRIU's page files ---------------------------------------------------------------------- */

/* One pages file while it is read. */
struct pages {
	char name[STORE_NAME];
	int fd;
	uint64_t npages;
	uint32_t page_size;
	uint8_t *seen; /* a bit for every page that has a checksum */
	uint8_t *buf;  /* CHUNK bytes */
};

/* Adds @npages from @page on to the running sum. */
static int sum_pages(struct pages *p, struct md_sum_run *run, uint64_t page, uint64_t npages,
		     struct err *err)
{
	uint64_t off = page * p->page_size, left = npages * p->page_size;

	while (left) {
		size_t n = left < CHUNK ? (size_t)left : CHUNK;
		ssize_t got = io_pread(p->fd, p->buf, n, off);

		if (got != (ssize_t)n)
			return err_set(err, got < 0 ? (int)-got : EBADMSG, "read %s at %" PRIu64,
				       p->name, off);
		md_sum_add(run, p->buf, n);
		off += n;
		left -= n;
	}
	return 0;
}

/* True when these pages have no checksum yet; from now on they have. */
static bool mark_seen(struct pages *p, uint64_t page, uint64_t n)
{
	for (uint64_t k = page; k < page + n; k++) {
		uint8_t bit = (uint8_t)(1 << k % 8);

		if (p->seen[k / 8] & bit)
			return false;
		p->seen[k / 8] |= bit;
	}
	return true;
}

/* The runs of a sum must lie in the file, and each page in one: or reading would have no end. */
static bool runs_fit(struct verify *v, struct pages *p, const Im__PageSum *s)
{
	for (size_t i = 0; i < s->n_page; i++) {
		uint64_t page = s->page[i], n = i < s->n_npages ? s->npages[i] : 0;

		if (n && page < p->npages && n <= p->npages - page && mark_seen(p, page, n))
			continue;
		verify_bad(v, "%s: checksum of %" PRIu64 " pages at %" PRIu64 " of %" PRIu64,
			   p->name, n, page, p->npages);
		return false;
	}
	return s->n_page;
}

static int check_sum(struct verify *v, struct pages *p, const Im__PageSum *s, struct err *err)
{
	struct md_sum_run run;
	uint64_t total = 0;
	int ret = 0;

	if (!runs_fit(v, p, s))
		return 0;
	if (!md_sum_begin(&run))
		return meta_nomem(err, p->name);
	for (size_t i = 0; !ret && i < s->n_page; i++) {
		ret = sum_pages(p, &run, s->page[i], s->npages[i], err);
		total += s->npages[i];
	}
	if (md_sum_end(&run) != s->sum && !ret)
		verify_bad(v, "%s: %" PRIu64 " pages at offset %" PRIu64 " have changed", p->name,
			   total, s->page[0] * p->page_size);
	v->ret->mem.blocks++;
	return ret;
}

static int check_zero(struct verify *v, struct pages *p, uint64_t page, struct err *err)
{
	ssize_t n = io_pread(p->fd, p->buf, p->page_size, page * p->page_size);

	if (n != (ssize_t)p->page_size)
		return err_set(err, n < 0 ? (int)-n : EBADMSG, "read %s", p->name);
	for (uint32_t i = 0; i < p->page_size; i++) {
		if (p->buf[i]) {
			verify_bad(v, "%s: page at offset %" PRIu64 " should be zero", p->name,
				   page * p->page_size);
			break;
		}
	}
	return 0;
}

static int check_contents(struct verify *v, struct pages *p, const Im__PagemapHead *head,
			  struct err *err)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < head->n_sums; i++)
		ret = check_sum(v, p, head->sums[i], err);
	for (uint64_t page = 0; !ret && page < p->npages; page++)
		if (!(p->seen[page / 8] & 1 << page % 8))
			ret = check_zero(v, p, page, err);
	return ret;
}

static int read_pages(struct verify *v, struct pages *p, const struct criu_map *map,
		      struct err *err)
{
	int ret;

	/* A stock image has no checksums: nothing to compare the bytes with. */
	if (!map->head->has_file_pages)
		return 0;
	p->seen = calloc(1, p->npages / 8 + 1);
	p->buf = malloc(CHUNK);
	if (p->seen && p->buf)
		ret = check_contents(v, p, map->head, err);
	else
		ret = meta_nomem(err, p->name);
	free(p->seen);
	free(p->buf);
	return ret;
}

static int check_pages_file(struct verify *v, const struct criu_map *map, struct err *err)
{
	struct pages p = {.page_size = map->page_size, .npages = map->npages, .fd = -1};
	uint64_t size;
	int ret;

	store_name(p.name, "pages-%u.img", map->pages_id);
	p.fd = store_open(v->img->dirfd, p.name, &size, err);
	if (p.fd < 0) {
		verify_err(v, err);
		return 0;
	}
	v->ret->mem.raw_bytes += size;
	v->ret->mem.packed_bytes += size;
	if (size != map->npages * map->page_size) {
		verify_bad(v, "%s: has %" PRIu64 " bytes, its map says %" PRIu64, p.name, size,
			   map->npages * map->page_size);
		ret = 0;
	} else {
		ret = read_pages(v, &p, map, err);
	}
	close(p.fd);
	return ret;
}

static uint64_t disk_space(const struct model *m, const struct m_shm *s, bool stock)
{
	return MD_SPACE_SHMEM(stock ? s->ino : s->id);
}

/* One space; @must: it has to have a map. */
static int verify_space(struct verify *v, uint64_t space, uint64_t on_disk, bool must,
			struct err *err)
{
	char name[STORE_NAME];
	struct criu_map map;
	int ret;

	criu_map_name(name, on_disk);
	ret = criu_map_load(v->img->dirfd, name, v->m->page_size, &map, err);
	if (ret == -ENOENT && !must) {
		err_clear(err);
		return 0;
	}
	if (ret == -ENOENT || ret == -EBADMSG) {
		verify_err(v, err);
		return 0;
	}
	if (ret)
		return ret;
	for (size_t i = 0; i < map.n; i++)
		check_extent(v, space, map.runs[i].addr, map.runs[i].npages * map.page_size);
	ret = check_pages_file(v, &map, err);
	criu_map_unload(&map);
	return ret;
}

static int verify_criu(struct verify *v, bool stock, struct err *err)
{
	const struct model *m = v->m;
	int ret = 0;

	for (uint32_t i = 0; !ret && i < m->nprocs; i++) {
		const struct m_proc *p = &m->procs[i];

		if (p->state != M_DEAD)
			ret = verify_space(v, MD_SPACE_PROC(p->pid), MD_SPACE_PROC(p->pid),
					   !p->shares_vm, err);
	}
	for (uint32_t i = 0; !ret && i < m->nshms; i++)
		ret = verify_space(v, MD_SPACE_SHMEM(i + 1), disk_space(m, &m->shms[i], stock),
				   false, err);
	return ret;
}

int verify_pages(struct verify *v, struct err *err)
{
	struct store_in inv;
	bool stock;
	int ret;

	if (v->img->format == IMAGE_STASIS)
		return verify_blocks(v, err);
	if (!v->m)
		return 0;
	ret = meta_load_inventory(v->img->dirfd, &inv, err);
	if (ret)
		return ret;
	stock = !meta_inventory(&inv)->stasis;
	store_unload(&inv);
	return verify_criu(v, stock, err);
}
