/* SPDX-License-Identifier: MIT */
/* Pre-copy: the one look while the tree is frozen, and the map of what counts. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "src/ops/precopy_priv.h"
#include "src/target/collect.h"

/* --- frozen ----------------------------------------------------------------------------------- */

/* A device may write into the memory of such a process past every page table. */
static bool written_by_devices(const struct model *m, const struct m_proc *p)
{
	const struct m_fdtable *t = model_fdtable(m, p->fdtable_id);

	for (uint32_t i = 0; i < p->mm.nvmas; i++)
		if (p->mm.vmas[i].flags & M_VMF_AIORING)
			return true;
	/* Which is carried by no image: --allow-findings. */
	for (uint32_t i = 0; t && i < t->n; i++) {
		const struct m_file *f = model_file(m, t->fds[i].file_id);

		if (f && f->path && !strcmp(f->path, "anon_inode:[io_uring]"))
			return true;
	}
	return false;
}

/* What is clean and stored counts; what is clean and was never stored is read, as all else. */
static int sort_out(struct precopy *p, uint64_t space, uint64_t addr, uint64_t len)
{
	const struct extents *s = &p->stored;
	uint64_t end = addr + len;
	int ret = 0;

	for (size_t i = extents_find(s, space, addr); ret == 0 && addr < end; i++) {
		uint64_t from = end, to = end;

		if (i < s->n && s->v[i].space == space && s->v[i].addr < end) {
			from = s->v[i].addr > addr ? s->v[i].addr : addr;
			to = s->v[i].addr + s->v[i].len < end ? s->v[i].addr + s->v[i].len : end;
		}
		if (from > addr)
			ret = extents_add(&p->todo, space, addr, from - addr);
		if (ret == 0 && from < to)
			ret = extents_add(&p->clean, space, from, to - from);
		addr = to;
	}
	return ret;
}

static int frozen_emit(void *arg, const struct md_range *range, const struct md_extent *e,
		       enum md_seen seen)
{
	struct precopy *p = arg;

	switch (seen) {
	case MD_SEEN_CLEAN:
		return sort_out(p, range->space, e->addr, e->len);
	case MD_SEEN_GUARD:
		return extents_add(&p->guards, range->space, e->addr, e->len);
	case MD_SEEN_WRITTEN:
		return extents_add(&p->written, range->space, e->addr, e->len);
	case MD_SEEN_OTHER:
		break;
	}
	return extents_add(&p->todo, range->space, e->addr, e->len);
}

static int soft_emit(void *arg, const struct md_range *range, const struct md_extent *e, bool clean)
{
	return frozen_emit(arg, range, e, clean ? MD_SEEN_CLEAN : MD_SEEN_OTHER);
}

static void soft_again(struct precopy *p, void *arg)
{
	p->todo.n = p->clean.n = 0;
}

/* Whether its writes are told, still: pages that somebody else protects look clean, too. */
static bool told(const struct precopy *p, int pid)
{
	return p->soft || target_tracks_pid(p->target, pid);
}

/* The ranges that page tables are asked about first, those to be read as they are behind them. */
static int split_ranges(struct precopy *p, const struct ranges *r, size_t *ret_tracked)
{
	const struct m_proc *proc = NULL;
	bool devices = false;
	size_t n = 0, end = r->n;

	if (p->room < r->n) {
		struct md_range *v = reallocarray(p->ranges, r->n, sizeof(*v));

		if (!v)
			return -ENOMEM;
		p->ranges = v;
		p->room = r->n;
	}
	for (size_t i = 0; i < r->n; i++) {
		struct md_range range = r->v[i];

		/* Pages of others do not go with rounds and maps. */
		range.kin = 0;
		if (range.fd == -1 && range.pick == MD_PICK_PRESENT) {
			if (!proc || proc->pid != (uint32_t)range.pid) {
				proc = model_proc(p->model, (uint32_t)range.pid);
				devices = !p->res->on || !proc || !told(p, range.pid) ||
					  written_by_devices(p->model, proc);
			}
			range.pick = devices ? MD_PICK_PRESENT : MD_PICK_TRACKED;
		}
		if (range.pick == MD_PICK_TRACKED)
			p->ranges[n++] = range;
		else
			p->ranges[--end] = range;
	}
	*ret_tracked = n;
	return 0;
}

static size_t list_extents(struct precopy *p, size_t n, const struct extents *x, enum md_pick pick)
{
	for (size_t i = 0; i < x->n; i++) {
		const struct space_extent *e = &x->v[i];

		p->todo_ranges[n++] = (struct md_range){
			.space = e->space,
			.addr = e->addr,
			.len = e->len,
			.pid = (int)MD_SPACE_ID(e->space),
			.fd = -1,
			.pick = pick,
		};
	}
	return n;
}

/* What the look found to be read, and then the others, in their order. */
static int list_todo(struct precopy *p, const struct ranges *r, size_t ntracked, size_t *ret_n)
{
	size_t n;

	p->todo_ranges = reallocarray(NULL, p->written.n + p->todo.n + r->n - ntracked + 1,
				      sizeof(*p->todo_ranges));
	if (!p->todo_ranges)
		return -ENOMEM;
	n = list_extents(p, 0, &p->written, MD_PICK_OWN);
	n = list_extents(p, n, &p->todo, MD_PICK_ALL);
	for (size_t i = r->n; i > ntracked; i--)
		p->todo_ranges[n++] = p->ranges[i - 1];
	*ret_n = n;
	return 0;
}

static int read_todo(struct precopy *p, size_t n, struct md_writer *writer,
		     const struct md_opts *mopts, struct lost *lost, struct err *err)
{
	struct md_reader *reader = md_reader_vm_new(p->todo_ranges, n, err);
	struct noting_reader noting;
	int ret;

	if (!reader)
		return -err->errnum;
	lost_note(lost, reader);
	noting_reader_init(&noting, reader, &p->taken);
	ret = md_capture_fill(p->capture, &noting.r, err);
	/* More than was made ready for: it goes through the pipe, and the tree waits for it. */
	if (ret > 0)
		ret = precopy_run_parted(p, &noting.r, writer, mopts, false, err);
	p->stats.vanished_bytes = reader->vanished_bytes;
	p->res->frozen_bytes = noting.bytes;
	reader->close(reader);
	return ret;
}

int precopy_ready(struct precopy *p, uint64_t dirty, struct err *err)
{
	enum { REGIONS = 4096, MOST_REGIONS = 1 << 15 };
	uint64_t n = REGIONS + 2 * dirty / 4096;
	struct spare_away away;

	if (p->soft)
		return 0;
	/*
	 * Calls that the tree makes for us meanwhile find the CPU free where who makes them was: a
	 * thread in the middle of a look would have them wait for up to 3 ms.
	 */
	spare_go_aside(&away, p->tracks);
	p->look = md_look_new(p->ranges, p->nranges, away.on ? (unsigned)CPU_COUNT(&away.all) : 0,
			      n < MOST_REGIONS ? n : MOST_REGIONS, err);
	spare_return(&away);
	if (!p->look)
		return -err->errnum;
	md_look_give_way(p->look, &p->tracks->calling);
	p->calls_cpu = away.from;
	return extents_reserve(&p->guards, 1024) < 0 || extents_reserve(&p->written, n) < 0
		       ? err_set(err, ENOMEM, "reserve memory for pre-copy")
		       : 0;
}

/*
 * Nothing of what it sees changes before precopy_frozen(), but by calls made in the target: those
 * map and unmap memory of their own, and write to a stack and to the areas of rseq, where a page
 * that was clean when everything stood still is right as it was stored.
 */
void precopy_look(struct precopy *p)
{
	if (p->look)
		md_look_begin(p->look);
}

/* Nobody makes calls any more: where they were made is a CPU that no other thread looks on. */
static void look_end(struct precopy *p)
{
	struct spare_away stay = {0};

	if (p->calls_cpu >= 0)
		spare_stay(&stay, p->calls_cpu);
	md_look_end(p->look);
	spare_return(&stay);
}

/* What is there, and what of it counts: as long as nobody else has registered it. */
static int look_at_all(struct precopy *p, const struct ranges *r, size_t *ret_n, struct err *err)
{
	size_t ntracked = 0;
	int ret;

	if (split_ranges(p, r, &ntracked) < 0)
		return err_set(err, ENOMEM, "list of %zu memory ranges", r->n);
	if (p->soft)
		ret = precopy_scan(p, p->ranges, ntracked, soft_emit, soft_again, p, err);
	else
		ret = md_look_each(p->look, p->ranges, ntracked, frozen_emit, p, err);
	if (ret == -ENOMEM || (ret == 0 && list_todo(p, r, ntracked, ret_n) < 0))
		return err_set(err, ENOMEM, "list of written memory");
	/* Else they have been collected. */
	if (ret == 0 && !p->soft)
		ret = precopy_guards(p, p->model, ntracked, err);
	return ret;
}

static void forget_all(struct precopy *p)
{
	p->todo.n = p->clean.n = p->written.n = p->guards.n = 0;
	free(p->todo_ranges);
	p->todo_ranges = NULL;
	for (uint32_t i = 0; i < p->model->nprocs; i++)
		p->model->procs[i].mm.nguards = 0;
}

/* Where there are many mappings the guardian finds that out meanwhile. */
static int look_for_sure(struct precopy *p, const struct ranges *r, size_t *ret_n, struct err *err)
{
	int ret = target_sure_begin(p->target, err), pid;

	if (ret == 0)
		ret = look_at_all(p, r, ret_n, err);
	pid = ret < 0 ? 0 : target_sure_end(p->target, err);
	if (ret < 0 || pid <= 0)
		return ret < 0 ? ret : pid;
	if (finding_fatal(p->model, (uint32_t)pid, TARGET_REGISTERED) < 0)
		return err_set(err, ENOMEM, "findings of pid %d", pid);
	forget_all(p);
	return look_at_all(p, r, ret_n, err);
}

int precopy_frozen(struct precopy *p, struct model *m, const struct ranges *r,
		   struct md_writer *writer, const struct md_opts *mopts, struct lost *lost,
		   struct err *err)
{
	uint64_t t0 = precopy_now_ns();
	size_t n = 0;
	int ret;

	p->model = m;
	p->beside = false;
	if (p->look)
		look_end(p);
	ret = look_for_sure(p, r, &n, err);
	p->res->scan_ns = precopy_now_ns() - t0;
	if (ret == 0)
		ret = precopy_budget(p, r, err);
	if (ret < 0)
		return ret;
	precopy_note_rate(p, extents_bytes(&p->written), t0);
	return read_todo(p, n, writer, mopts, lost, err);
}

/* --- finish ----------------------------------------------------------------------------------- */

/* Which pages of @space count, perhaps none. */
static int write_map(struct precopy *p, struct md_writer *writer, uint64_t space,
		     struct md_extent *room, struct err *err)
{
	size_t n = 0;

	for (size_t k = extents_find(&p->clean, space, 0);
	     k < p->clean.n && p->clean.v[k].space == space; k++)
		room[n++] = (struct md_extent){p->clean.v[k].addr, p->clean.v[k].len};
	return md_writer_file_map(writer, space, room, n, err);
}

/* Of every space that has pages here or in the parent. Both lists are in the order of spaces. */
static int write_maps(struct precopy *p, struct md_writer *writer, struct err *err)
{
	struct md_extent *room = reallocarray(NULL, p->clean.n + 1, sizeof(*room));
	const struct extents *a = &p->stored, *b = &p->clean;
	size_t i = 0, k = 0;
	int ret = 0;

	if (!room)
		return err_set(err, ENOMEM, "map of %zu pieces of memory", p->clean.n);
	while (ret == 0 && (i < a->n || k < b->n)) {
		uint64_t space = i == a->n || (k < b->n && b->v[k].space < a->v[i].space)
					 ? b->v[k].space
					 : a->v[i].space;

		ret = write_map(p, writer, space, room, err);
		while (i < a->n && a->v[i].space == space)
			i++;
		while (k < b->n && b->v[k].space == space)
			k++;
	}
	free(room);
	return ret;
}

/* Bytes that count and are not stored here. */
static uint64_t not_own(const struct precopy *p)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < p->clean.n; i++) {
		const struct space_extent *e = &p->clean.v[i];
		uint64_t end = e->addr + e->len;

		sum += e->len;
		for (size_t k = extents_find(&p->own, e->space, e->addr);
		     k < p->own.n && p->own.v[k].space == e->space && p->own.v[k].addr < end; k++) {
			const struct space_extent *o = &p->own.v[k];
			uint64_t from = o->addr > e->addr ? o->addr : e->addr;
			uint64_t to = o->addr + o->len < end ? o->addr + o->len : end;

			sum -= to - from;
		}
	}
	return sum;
}

static int finish(struct precopy *p, struct md_writer *writer, const struct md_opts *mopts,
		  struct md_stats *stats, struct err *err)
{
	struct md_reader *reader = md_capture_reader(p->capture, err);
	int ret;

	if (!reader)
		return -err->errnum;
	extents_settle(&p->own);
	ret = precopy_run_parted(p, reader, writer, mopts, false, err);
	reader->close(reader);
	for (size_t i = 0; ret == 0 && i < p->taken.n; i++)
		if (extents_add(&p->clean, p->taken.v[i].space, p->taken.v[i].addr,
				p->taken.v[i].len) < 0)
			ret = err_set(err, ENOMEM, "map of the memory");
	if (ret < 0)
		return ret;
	extents_settle(&p->clean);
	extents_settle(&p->own);
	for (size_t i = 0; i < p->clean.n; i++)
		p->res->map_bytes += p->clean.v[i].len;
	if (p->parent)
		p->res->parent_bytes = not_own(p);
	ret = write_maps(p, writer, err);
	if (ret == 0)
		ret = writer->flush(writer, err);
	p->stats.file_bytes = writer->file_bytes;
	*stats = p->stats;
	stats->raw_bytes = p->res->map_bytes;
	return ret;
}

int precopy_finish(struct precopy *p, struct md_writer *writer, const struct md_opts *mopts,
		   struct md_stats *stats, struct err *err)
{
	int ret;

	p->beside = p->opts->end == TARGET_RUN;
	if (p->beside)
		precopy_stand_back(p);
	ret = precopy_tell_aio(p, err);
	if (ret == 0)
		ret = finish(p, writer, mopts, stats, err);
	precopy_come_back(p);
	return ret;
}
