/* SPDX-License-Identifier: MIT */
/* md_file_verify(): every byte of a block file and of its parents is looked at. */
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "memdump/chain.h"
#include "memdump/cpus.h"

enum {
	LINES_MAX = 64, /* findings told one by one; the rest is counted */
	LINE_LEN = 960, /* where, what and what to do */
	THREADS_MAX = 256,
};

struct verify {
	/* immutable while threads run */
	struct md_raw_file file;
	struct md_index_list list;
	uint32_t raw_max;
	char where[MD_WHERE_LEN];    /* begins what is found: the file itself "", or which parent */
	bool stored;		     /* the list is the file's own index */
	struct md_index_wants wants; /* of the parent */
	uint64_t stale_bytes;
	/* next block to check, atomic */
	size_t next;
	/* protected by lock */
	pthread_mutex_t lock;
	unsigned bad, nlines;
	char (*lines)[LINE_LEN];
	struct err fatal; /* not damage: no memory, EIO */
};

__attribute__((format(printf, 2, 3))) static void finding(struct verify *v, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	pthread_mutex_lock(&v->lock);
	v->bad++;
	if (v->nlines < LINES_MAX) {
		char *line = v->lines[v->nlines++];
		int n = snprintf(line, LINE_LEN, "%s", v->where);

		vsnprintf(line + n, LINE_LEN - (size_t)n, fmt, ap);
	}
	pthread_mutex_unlock(&v->lock);
	va_end(ap);
}

/* Damage is a finding; everything else ends the run. 0: go on. */
static int judge(struct verify *v, int ret, const struct err *e)
{
	if (ret == 0)
		return 0;
	if (ret == -EBADMSG) {
		finding(v, "%s%s%s", e->msg, e->hint[0] ? ": " : "", e->hint);
		return 0;
	}
	pthread_mutex_lock(&v->lock);
	err_take(&v->fatal, e);
	pthread_mutex_unlock(&v->lock);
	return ret;
}

/* --- blocks, on every thread --------------------------------------------------------------- */

static int check_map(struct md_block_reader *br, const struct verify *v,
		     const struct md_index_entry *e, struct err *err)
{
	unsigned n = e->packed_len / MD_EXTENT_LEN;
	cleanup_free struct md_extent *map = reallocarray(NULL, n + 1, sizeof(*map));
	const uint8_t *payload;
	int ret;

	if (!map)
		return err_set(err, ENOMEM, "reserve memory for a map");
	ret = md_block_fetch(br, &v->file, e, NULL, &payload, err);
	if (ret < 0)
		return ret;
	return md_take_map(payload, e->packed_len, e->off + md_head_span(0, v->file.head.align),
			   v->file.head.page_size, n, map, err);
}

static int check_block(struct md_block_reader *br, const struct verify *v,
		       const struct md_index_block *b, uint8_t *raw, struct err *err)
{
	if (md_index_is_map(&b->entry))
		return check_map(br, v, &b->entry, err);
	return md_block_read(br, &v->file, &b->entry, v->list.extents + b->first, raw, err);
}

static void *check_blocks(void *arg)
{
	struct verify *v = arg;
	struct md_block_reader br = {0};
	uint8_t *raw = malloc(v->raw_max ? v->raw_max : 1);
	struct err e = {0};

	if (!raw)
		judge(v, err_set(&e, ENOMEM, "reserve %u bytes for a block", v->raw_max), &e);
	while (raw) {
		size_t i = __atomic_fetch_add(&v->next, 1, __ATOMIC_RELAXED);
		if (i >= v->list.nblocks)
			break;
		err_clear(&e);
		if (judge(v, check_block(&br, v, &v->list.blocks[i], raw, &e), &e) < 0)
			break;
	}
	md_block_reader_deinit(&br);
	free(raw);
	return NULL;
}

static void check_all_blocks(struct verify *v, unsigned threads)
{
	pthread_t tid[THREADS_MAX];
	unsigned n = 0;

	if (!threads)
		threads = md_cpus_allowed();
	if (threads > THREADS_MAX)
		threads = THREADS_MAX;
	/* The calling thread is one of them, so that none has to come to life. */
	while (n + 1 < threads && !pthread_create(&tid[n], NULL, check_blocks, v))
		n++;
	check_blocks(v);
	for (unsigned i = 0; i < n; i++)
		pthread_join(tid[i], NULL);
}

/* --- what lies between the blocks ---------------------------------------------------------- */

static int zero_between(struct verify *v, uint64_t from, uint64_t to, const char *what)
{
	uint8_t buf[4096];

	while (from < to) {
		size_t len = to - from < sizeof(buf) ? (size_t)(to - from) : sizeof(buf);
		ssize_t n = io_pread(v->file.fd, buf, len, from);
		struct err e = {0};

		if (n < 0)
			return judge(v, err_set(&e, (int)-n, "read at offset %#" PRIx64, from), &e);
		for (ssize_t i = 0; i < n; i++) {
			if (!buf[i])
				continue;
			finding(v, "block file damaged at offset %#" PRIx64 ": %s is not zero",
				from + (uint64_t)i, what);
			return 0;
		}
		if ((size_t)n < len)
			break;
		from += len;
	}
	return 0;
}

static int by_offset(const void *va, const void *vb)
{
	const struct md_index_block *a = va, *b = vb;

	return a->entry.off < b->entry.off ? -1 : a->entry.off > b->entry.off;
}

/* Head, blocks, index and trailer cover the file: no byte is nobody's, none belongs to two. */
static int check_tiling(struct verify *v, const struct md_trailer *t)
{
	uint32_t align = v->file.head.align;
	uint64_t at = align, raw = 0;

	for (size_t i = 0; i < v->list.nblocks; i++) {
		const struct md_index_entry *e = &v->list.blocks[i].entry;

		if (e->off != at)
			finding(v,
				"block file damaged at offset %#" PRIx64
				": a block should begin here, the index has one at %#" PRIx64,
				at, e->off);
		at = e->off + md_record_len(e, align);
		raw += e->raw_len;
	}
	if (at != t->index_off)
		finding(v,
			"block file damaged at offset %#" PRIx64
			": the index should begin here, the trailer has it at %#" PRIx64,
			at, t->index_off);
	if (raw != t->raw_bytes)
		finding(v,
			"block file damaged: blocks hold %" PRIu64
			" raw bytes, the trailer says %" PRIu64,
			raw, t->raw_bytes);
	if (v->file.len - (t->index_off + t->index_len) >= MD_HEAD_LEN + (uint64_t)align)
		finding(v, "block file damaged: more padding before the trailer than %u bytes",
			align);
	return zero_between(v, t->index_off + t->index_len, v->file.len - MD_HEAD_LEN,
			    "padding before the trailer");
}

/* --- one file ------------------------------------------------------------------------------ */

/* The stored index, or, when that is damaged, one from the block heads, to check those at least. */
static int get_list(struct verify *v, struct md_trailer *ret_t)
{
	struct md_block_reader br = {0};
	struct err e = {0};
	int ret = md_raw_file_trailer(&v->file, ret_t, &e);

	if (ret == 0)
		ret = md_raw_file_index(&v->file, ret_t, &v->list, &e);
	v->stored = ret == 0;
	if (ret == 0)
		return 0;
	ret = judge(v, ret, &e);
	if (ret < 0)
		return ret;
	err_clear(&e);
	ret = md_raw_file_rebuild(&v->file, &br, &v->list, &e);
	md_block_reader_deinit(&br);
	return judge(v, ret, &e);
}

/* The maps of a rebuilt list are there; those of a stored one are read from their records. */
static int get_maps(struct verify *v)
{
	struct md_block_reader br = {0};
	struct err e = {0};
	int ret = v->stored ? md_raw_file_maps(&v->file, &br, &v->list, &e) : 0;

	md_block_reader_deinit(&br);
	if (ret < 0)
		v->stored = false;
	/* A record's own damage is found again with the other blocks, and told there. */
	return ret == -EBADMSG ? 0 : judge(v, ret, &e);
}

/* Rounds, maps and pages of others; what is left for the parent. The list comes back sorted by file
 * offset. */
static int check_addresses(struct verify *v)
{
	const struct md_index_file f = {.list = &v->list, .where = "", .torn = !v->stored};
	struct err e = {0};
	int ret = 0;

	for (size_t i = 0; i < v->list.nblocks; i++)
		if (v->list.blocks[i].entry.codec != MD_CODEC_SAME &&
		    v->list.blocks[i].entry.raw_len > v->raw_max)
			v->raw_max = v->list.blocks[i].entry.raw_len;
	if (v->stored || !v->list.layered)
		ret = md_index_wants(&f, &v->wants, &v->stale_bytes, &e);
	if (ret < 0)
		v->stored = false;
	if (v->stored && v->wants.n && !(v->file.head.flags & MD_FLAG_PARENT))
		finding(v,
			"block file damaged: the page at %#" PRIx64 " of space %#" PRIx64
			" is named by a map, but not stored, and there is no parent",
			v->wants.v[0].extent.addr, v->wants.v[0].space);
	return judge(v, ret, &e);
}

static void sort_by_offset(struct verify *v)
{
	if (v->list.nblocks)
		qsort(v->list.blocks, v->list.nblocks, sizeof(*v->list.blocks), by_offset);
}

/* Everything that one file tells by itself. */
static int check_file(struct verify *v, unsigned threads)
{
	struct md_trailer t;
	int ret = get_list(v, &t);
	bool index = v->stored;

	if (ret == 0)
		ret = zero_between(v, MD_HEAD_LEN, v->file.head.align, "padding of the file head");
	if (ret == 0)
		ret = get_maps(v);
	if (ret == 0)
		ret = check_addresses(v);
	sort_by_offset(v);
	if (ret == 0 && index)
		ret = check_tiling(v, &t);
	if (ret == 0)
		check_all_blocks(v, threads);
	return -v->fatal.errnum;
}

/* --- parents ------------------------------------------------------------------------------- */

/* Whether the file at hand has what its child wants; nothing to be said when either is damaged. */
static int check_wants(struct verify *v, const struct md_index_wants *wants)
{
	const struct md_index_file f = {.list = &v->list, .where = ""};
	struct err e = {0};
	int ret = v->stored ? md_index_has(&f, wants, &e) : 0;

	return judge(v, ret, &e);
}

/* The file at hand is done with; what it wanted stays with the caller. */
static struct md_index_wants drop_file(struct verify *v)
{
	struct md_index_wants wants = v->wants;

	md_index_list_deinit(&v->list);
	v->wants = (struct md_index_wants){0};
	v->raw_max = 0;
	v->next = 0;
	return wants;
}

/* The parent of the file at hand takes its place, and in @dirfd its directory, held in @own. */
static int next_file(struct verify *v, int *dirfd, int *own, const char *name, unsigned depth,
		     unsigned threads)
{
	struct md_index_wants wants = drop_file(v);
	struct md_raw_file child = v->file, parent = {.fd = -1};
	char where[MD_WHERE_LEN] = "";
	struct err e = {0};
	int fd = md_parent_dir(*dirfd, name, depth, where, &e);
	int ret = fd < 0 ? fd : md_parent_open(&parent, fd, name, &child, "", &e);

	if (*own >= 0)
		close(*own);
	*own = *dirfd = fd;
	md_raw_file_close(&child);
	v->file = parent;
	memcpy(v->where, where, sizeof(where));
	if (ret == 0)
		ret = check_file(v, threads);
	else
		ret = judge(v, ret, &e);
	if (ret == 0 && parent.fd >= 0)
		ret = check_wants(v, &wants);
	free(wants.v);
	return ret;
}

/* As in a chain, no file comes twice. */
static int check_parents(struct verify *v, int dirfd, const char *name, unsigned threads,
			 unsigned *ret_parents)
{
	uint64_t ids[MD_CHAIN_MAX];
	cleanup_fd int own = -1;
	unsigned n = 0;
	int ret = 0;

	while (ret == 0 && v->file.fd >= 0 && (v->file.head.flags & MD_FLAG_PARENT)) {
		bool circle = false;

		ids[n++] = v->file.head.file_id;
		for (unsigned i = 0; i < n; i++)
			circle |= ids[i] == v->file.head.parent_id;
		if (circle) {
			finding(v, "the parents go round in a circle");
			break;
		}
		ret = next_file(v, &dirfd, &own, name, n, threads);
		*ret_parents += ret == 0 && v->file.fd >= 0;
	}
	return ret;
}

/* --- all of it ----------------------------------------------------------------------------- */

static void count(const struct md_index_list *l, struct md_verify *ret)
{
	for (size_t i = 0; i < l->nblocks; i++) {
		const struct md_index_entry *e = &l->blocks[i].entry;

		if (md_index_is_map(e)) {
			ret->maps++;
			continue;
		}
		ret->blocks++;
		ret->raw_bytes += e->raw_len;
		ret->packed_bytes += e->packed_len;
		ret->blocks_by_codec[e->codec]++;
	}
}

int md_file_verify(int dirfd, const char *name, unsigned threads,
		   void (*report)(void *arg, const char *line), void *arg, struct md_verify *ret,
		   struct err *err)
{
	struct verify v = {.lock = PTHREAD_MUTEX_INITIALIZER};
	cleanup_free void *lines = calloc(LINES_MAX, LINE_LEN);
	struct md_verify sum = {0};
	struct err e = {0};
	int r;

	if (!lines)
		return err_set(err, ENOMEM, "verify %s", name);
	v.lines = lines;
	r = md_raw_file_open(&v.file, dirfd, name, &e);
	if (r == 0) {
		r = check_file(&v, threads);
		count(&v.list, &sum);
		sum.stale_bytes = v.stale_bytes;
		if (r == 0)
			r = check_parents(&v, dirfd, name, threads, &sum.parents);
		free(drop_file(&v).v);
		md_raw_file_close(&v.file);
	} else {
		r = judge(&v, r, &e);
	}
	pthread_mutex_destroy(&v.lock);
	for (unsigned i = 0; report && i < v.nlines; i++)
		report(arg, v.lines[i]);
	if (report && v.bad > v.nlines) {
		char more[64];

		snprintf(more, sizeof(more), "and %u more", v.bad - v.nlines);
		report(arg, more);
	}
	sum.bad = v.bad;
	*ret = sum;
	if (r < 0)
		return err_take(err, &v.fatal);
	if (v.bad)
		return err_fail(err, EBADMSG, ERR_IMAGE, "%s is damaged: %s%s", name, v.lines[0],
				v.bad > 1 ? " (and more)" : "");
	return 0;
}
