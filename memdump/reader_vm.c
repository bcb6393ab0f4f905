/* SPDX-License-Identifier: MIT */
/* The reader plug for the memory of processes: process_vm_readv in large vectored calls. */
#include "memdump/memdump.h"

#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/fault.h"
#include "memdump/kin.h"
#include "memdump/scan.h"
#include "memdump/words.h"

enum {
	QUEUE = 1024, /* pieces looked up ahead, and the most one call takes */
};
static_assert(QUEUE <= IOV_MAX, "one call takes the whole queue");

struct vm_reader {
	struct md_reader r;
	struct md_range *ranges;
	struct md_scanner scanner;
	uint64_t page_size;
	/* pieces found and not yet read: queue[head .. tail) */
	struct md_piece queue[QUEUE];
	unsigned head, tail;
	uint64_t queued_bytes;
	bool ended;
	struct md_piece rest; /* of the last piece found: not looked at page by page */
	struct md_words words, kin_words;
	struct md_kin kin; /* whose pages have been read */
	/* Pages of another process, gathered beside the block that is being filled. */
	struct same {
		uint64_t space;
		uint32_t owner, raw_len, n;
		struct md_extent extents[MD_BLOCK_EXTENTS];
	} same;
	struct iovec remote[QUEUE];
	/* /proc/PID/mem, for pages process_vm_readv refuses, or must not touch */
	int mem_fd, mem_pid;
	/* position in the space that is being read */
	uint64_t space, space_off;
};

/* --- the queue of pieces ------------------------------------------------------------------- */

/*
 * How many of the @n pages at the front of @p, of which @w are the words, its kin has as well. Both
 * are looked at again, first the other and then this one: what was one page then is one page.
 */
static uint64_t kin_front(struct vm_reader *r, const struct md_piece *p, const uint64_t *w,
			  uint64_t n)
{
	uint64_t nkin = 0, i = 0;
	const uint64_t *k =
		p->kin ? md_words_at(&r->kin_words, p->kin, p->addr, p->len, &nkin) : NULL;

	if (!k)
		return 0;
	n = n < nkin ? n : nkin;
	n = n < MD_WORDS_STILL ? n : MD_WORDS_STILL;
	while (i < n && md_word_same(w[i], k[i]))
		i++;
	if (i && (!md_words_still(&r->kin_words, p->addr, w, i) ||
		  !md_words_still(&r->words, p->addr, w, i)))
		return 0;
	return i;
}

/* How many pages at the front of @p its kin does not have. */
static uint64_t own_front(struct vm_reader *r, const struct md_piece *p, const uint64_t *w,
			  uint64_t n)
{
	uint64_t nkin = 0, i = 1;
	const uint64_t *k =
		p->kin ? md_words_at(&r->kin_words, p->kin, p->addr, p->len, &nkin) : NULL;

	n = k && nkin < n ? nkin : n;
	while (i < n && md_word_shared(w[i]) == md_word_shared(w[0]) &&
	       !(k && md_word_same(w[i], k[i])))
		i++;
	return i;
}

/*
 * The front of @p, as far as its pages are all of one kind: those that its kin has as well (kin
 * stays), those that others may have (shared), and its own.
 *
 * A shared page must not be read by process_vm_readv(): that pins it, and the kernel (since Linux
 * 5.19) gives the process a copy of its own first. Who had a GiB in common with 16 children would
 * have 17 when it has been dumped.
 */
static struct md_piece front_of(struct vm_reader *r, const struct md_piece *p)
{
	struct md_piece ret = *p;
	const uint64_t *w = NULL;
	uint64_t n = 0, nkin;

	if (p->fd == -1 && !p->own)
		w = md_words_at(&r->words, p->pid, p->addr, p->len, &n);
	if (!w) {
		ret.kin = 0;
		return ret;
	}
	n = n < p->len / r->page_size ? n : p->len / r->page_size;
	nkin = kin_front(r, p, w, n);
	if (!nkin)
		ret.kin = 0;
	ret.shared = md_word_shared(w[0]);
	ret.len = (nkin ? nkin : own_front(r, p, w, n)) * r->page_size;
	return ret;
}

/* Looks ahead for @want bytes, so that one call can take them all. */
static int refill(struct vm_reader *r, uint64_t want, struct err *err)
{
	if (r->head == r->tail)
		r->head = r->tail = 0;
	while (!r->ended && r->queued_bytes < want && r->tail < QUEUE) {
		/* A piece of a descriptor is read before the scanner goes on and closes it. */
		if (r->tail > r->head && r->queue[r->tail - 1].fd != -1)
			break;
		if (!r->rest.len) {
			int ret =
				md_scanner_next(&r->scanner, want - r->queued_bytes, &r->rest, err);

			if (ret < 0)
				return ret;
			if (ret == 0) {
				r->ended = true;
				break;
			}
		}
		r->queue[r->tail] = front_of(r, &r->rest);
		r->rest.addr += r->queue[r->tail].len;
		r->rest.len -= r->queue[r->tail].len;
		r->queued_bytes += r->queue[r->tail++].len;
	}
	return 0;
}

/* The first @len bytes of the queue are dealt with. */
static void drop(struct vm_reader *r, uint64_t len)
{
	r->queued_bytes -= len;
	while (len) {
		struct md_piece *p = &r->queue[r->head];
		uint64_t n = p->len < len ? p->len : len;

		p->addr += n;
		p->len -= n;
		len -= n;
		if (!p->len)
			r->head++;
	}
}

/* The first @len bytes of the queue, all of one piece, are in the block. */
static void take_piece(struct md_block *b, uint64_t addr, uint64_t len)
{
	struct md_extent *last = b->nextents ? &b->extents[b->nextents - 1] : NULL;

	if (last && last->addr + last->len == addr)
		last->len += len;
	else
		b->extents[b->nextents++] = (struct md_extent){addr, len};
	b->raw_len += (uint32_t)len;
}

static void take(struct vm_reader *r, struct md_block *b, uint64_t len)
{
	uint64_t left = len;

	for (unsigned i = r->head; left; i++) {
		uint64_t n = r->queue[i].len < left ? r->queue[i].len : left;

		take_piece(b, r->queue[i].addr + r->queue[i].shift, n);
		if (MD_SPACE_KIND(b->space) == 0)
			md_kin_note(&r->kin, (uint32_t)b->space, r->queue[i].addr, n,
				    (uint32_t)b->space);
		left -= n;
	}
	drop(r, len);
}

static void tell_vanished(struct vm_reader *r, const struct md_piece *p, uint64_t len)
{
	if (r->r.vanished)
		r->r.vanished(r->r.vanished_arg, p->space, p->addr + p->shift, len);
	r->r.vanished_bytes += len;
}

static void vanish(struct vm_reader *r, uint64_t len)
{
	tell_vanished(r, &r->queue[r->head], len);
	drop(r, len);
}

/* The process of the head of the queue has ended. */
static int pass_over(struct vm_reader *r)
{
	int pid = r->queue[r->head].pid;

	while (r->head < r->tail && r->queue[r->head].pid == pid && r->queue[r->head].fd == -1)
		vanish(r, r->queue[r->head].len);
	if (r->rest.len && r->rest.pid == pid && r->rest.fd == -1) {
		tell_vanished(r, &r->rest, r->rest.len);
		r->rest.len = 0;
	}
	md_scanner_skip(&r->scanner, pid);
	return 0;
}

/* --- reading ------------------------------------------------------------------------------- */

static int open_mem(struct vm_reader *r, int pid, struct err *err)
{
	char path[32];

	if (r->mem_pid == pid)
		return 0;
	if (r->mem_fd >= 0)
		close(r->mem_fd);
	r->mem_pid = 0;
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	r->mem_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (r->mem_fd < 0 && errno == ENOENT)
		return err_set(err, ESRCH, "open %s", path);
	/* Not allowed, when reading was: then the page is left out. */
	r->mem_pid = pid;
	return 0;
}

/* May its process read it? */
static bool is_readable(int pid, uint64_t addr)
{
	char c;
	struct iovec local = {&c, 1}, remote = {(void *)(uintptr_t)addr, 1};

	return process_vm_readv(pid, &local, 1, &remote, 1, 0) == 1;
}

static ssize_t read_mem(const struct vm_reader *r, uint64_t addr, void *buf, uint64_t len)
{
	ssize_t n;

	if (r->mem_fd < 0)
		return -1;
	/* As a kernel does that grants force to the tracing thread alone. */
	if (FAULT("memdump.force") && !is_readable(r->mem_pid, addr))
		return -1;
	do
		n = pread(r->mem_fd, buf, len, (off_t)addr);
	while (n < 0 && errno == EINTR);
	return n;
}

/*
 * The head of the queue could not be read the fast way. /proc/PID/mem reads through PROT_NONE, if
 * the kernel lets us, and where the driver has an access method; what it refuses and nobody else
 * can read is gone.
 */
static int read_slow(struct vm_reader *r, struct md_block *b, uint64_t room, struct err *err)
{
	const struct md_piece *p = &r->queue[r->head];
	uint64_t len = p->len < room ? p->len : room;
	ssize_t n;
	int ret;

	if (b->nextents == MD_BLOCK_EXTENTS)
		return 0; /* the next block's */
	ret = open_mem(r, p->pid, err);
	if (ret < 0)
		return ret;
	n = read_mem(r, p->addr, b->raw + b->raw_len, len);
	if (n < (ssize_t)r->page_size) {
		ret = md_process_alive(p->pid, err);
		if (ret < 0)
			return ret;
		n = r->r.ask
			    ? r->r.ask(r->r.ask_arg, p->pid, p->addr, b->raw + b->raw_len, len, err)
			    : 0;
		if (n < 0)
			return (int)n;
	}
	n -= n % (ssize_t)r->page_size;
	if (n)
		take(r, b, (uint64_t)n);
	else
		vanish(r, r->page_size);
	return 0;
}

static int fill_slow(struct vm_reader *r, struct md_block *b, uint64_t room, struct err *err)
{
	struct err e = {0};
	int ret = read_slow(r, b, room, &e);

	if (ret == -ESRCH && r->scanner.skip_gone)
		return pass_over(r);
	return ret < 0 ? err_take(err, &e) : ret;
}

/* How many pieces from the head on one call can take into @b. */
static unsigned plan(struct vm_reader *r, const struct md_block *b, uint64_t room,
		     uint64_t *ret_len)
{
	const struct md_piece *first = &r->queue[r->head];
	uint64_t end = first->addr + first->shift, left = room;
	unsigned n = 0;

	for (unsigned i = r->head; i < r->tail && left && n + b->nextents < MD_BLOCK_EXTENTS; i++) {
		const struct md_piece *p = &r->queue[i];
		uint64_t len = p->len < left ? p->len : left;

		if (p->pid != first->pid || p->fd != -1 || p->kin || p->shared != first->shared ||
		    p->space != first->space || p->addr + p->shift < end)
			break;
		r->remote[n++] = (struct iovec){(void *)(uintptr_t)p->addr, len};
		end = p->addr + p->shift + len;
		left -= len;
	}
	*ret_len = room - left;
	return n;
}

static int fill_vm(struct vm_reader *r, struct md_block *b, uint64_t room, struct err *err)
{
	int pid = r->queue[r->head].pid;
	uint64_t addr = r->queue[r->head].addr;
	uint64_t len;
	unsigned npieces = plan(r, b, room, &len);
	struct iovec local = {b->raw + b->raw_len, len};
	ssize_t n = process_vm_readv(pid, &local, 1, r->remote, npieces, 0);

	if (n < 0 && errno == ESRCH && r->scanner.skip_gone)
		return pass_over(r);

	if (n < 0 && errno != EFAULT && errno != EINTR)
		return err_set(err, errno, "read %#" PRIx64 "+%#" PRIx64 " of pid %d", addr, len,
			       pid);
	if (n < 0)
		n = 0;
	n -= n % (ssize_t)r->page_size;
	if (n > 0)
		take(r, b, (uint64_t)n);
	/* It stopped at a page it could not read, which is now the head of the queue. */
	if ((uint64_t)n < len)
		return fill_slow(r, b, room - (uint64_t)n, err);
	return 0;
}

/* Without touching it; where nobody lets us, the other way. */
static int fill_shared(struct vm_reader *r, struct md_block *b, uint64_t room, struct err *err)
{
	struct err e = {0};
	int ret = open_mem(r, r->queue[r->head].pid, &e);

	if (ret == -ESRCH && r->scanner.skip_gone)
		return pass_over(r);
	if (ret < 0)
		return err_take(err, &e);
	return r->mem_fd < 0 ? fill_vm(r, b, room, err) : fill_slow(r, b, room, err);
}

static int fill_fd(struct vm_reader *r, struct md_block *b, uint64_t room, struct err *err)
{
	const struct md_piece *p = &r->queue[r->head];
	uint64_t len = p->len < room ? p->len : room;
	ssize_t n;
	uint64_t got;

	do
		n = pread(p->fd, b->raw + b->raw_len, len, (off_t)p->addr);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_set(err, errno, "read %#" PRIx64 "+%#" PRIx64 " of a descriptor",
			       p->addr, len);
	if (n == 0) {
		/* The file became shorter. */
		vanish(r, p->len);
		return 0;
	}
	/* The last page of a file is zero behind its end. */
	got = ((uint64_t)n + r->page_size - 1) / r->page_size * r->page_size;
	memset(b->raw + b->raw_len + n, 0, got - (uint64_t)n);
	take(r, b, got);
	return 0;
}

/* --- pages that another process has as well ------------------------------------------------ */

/* @b, which is empty, becomes what was gathered. */
static void give_same(struct vm_reader *r, struct md_block *b)
{
	struct same *s = &r->same;

	b->space = s->space;
	b->codec = MD_CODEC_SAME;
	b->same_as = s->owner;
	b->raw_len = s->raw_len;
	b->nextents = s->n;
	memcpy(b->extents, s->extents, s->n * sizeof(*s->extents));
	s->n = s->raw_len = 0;
}

static bool same_has_room(const struct same *s, uint64_t space, uint64_t addr, uint32_t owner)
{
	const struct md_extent *last = s->n ? &s->extents[s->n - 1] : NULL;

	if (!last)
		return true;
	return s->space == space && s->owner == owner && s->raw_len < MD_BLOCK_MAX &&
	       addr >= last->addr + last->len &&
	       (s->n < MD_BLOCK_EXTENTS || addr == last->addr + last->len);
}

/* The head of the queue as another's pages: true, or what was gathered has to be given first. */
static bool take_same(struct vm_reader *r)
{
	struct md_piece *p = &r->queue[r->head];
	struct same *s = &r->same;
	uint32_t owner = 0;
	uint64_t len = md_kin_find(&r->kin, (uint32_t)p->kin, p->addr, p->len, &owner);
	struct md_extent *last;

	/* That page has not been read: this one is. */
	if (!len) {
		p->kin = 0;
		return true;
	}
	if (!same_has_room(s, p->space, p->addr, owner))
		return false;
	if (len > MD_BLOCK_MAX - s->raw_len)
		len = MD_BLOCK_MAX - s->raw_len;
	last = s->n ? &s->extents[s->n - 1] : NULL;
	if (last && last->addr + last->len == p->addr)
		last->len += len;
	else
		s->extents[s->n++] = (struct md_extent){p->addr, len};
	s->space = p->space;
	s->owner = owner;
	s->raw_len += (uint32_t)len;
	md_kin_note(&r->kin, (uint32_t)p->space, p->addr, len, owner);
	drop(r, len);
	return true;
}

/* Whether the head of the queue may go into @b. */
static bool fits(const struct vm_reader *r, struct md_block *b)
{
	const struct md_piece *p = &r->queue[r->head];
	const struct md_extent *last;

	if (!b->nextents) {
		b->space = p->space;
		return true;
	}
	last = &b->extents[b->nextents - 1];
	return p->space == b->space && p->addr + p->shift >= last->addr + last->len;
}

static int vm_next(struct md_reader *reader, struct md_block *b, uint32_t block_size,
		   struct err *err)
{
	struct vm_reader *r = (struct vm_reader *)reader;

	while (b->raw_len < block_size && b->nextents < MD_BLOCK_EXTENTS) {
		uint64_t room = block_size - b->raw_len;
		int ret = refill(r, room, err);

		if (ret < 0)
			return ret;
		if (r->head == r->tail)
			break;
		if (r->queue[r->head].kin) {
			if (!take_same(r))
				break;
			continue;
		}
		if (!fits(r, b))
			break;
		ret = r->queue[r->head].fd != -1 ? fill_fd(r, b, room, err)
		      : r->queue[r->head].shared ? fill_shared(r, b, room, err)
						 : fill_vm(r, b, room, err);
		if (ret < 0)
			return ret;
	}
	if (!b->raw_len && r->same.n) {
		give_same(r, b);
		return 1;
	}
	if (!b->raw_len)
		return 0;
	if (b->space != r->space)
		r->space_off = 0;
	r->space = b->space;
	b->space_off = r->space_off;
	r->space_off += b->raw_len;
	return 1;
}

static void vm_close(struct md_reader *reader)
{
	struct vm_reader *r = (struct vm_reader *)reader;

	if (!r)
		return;
	if (r->mem_fd >= 0)
		close(r->mem_fd);
	md_scanner_deinit(&r->scanner);
	md_words_deinit(&r->words);
	md_words_deinit(&r->kin_words);
	md_kin_deinit(&r->kin);
	free(r->ranges);
	free(r);
}

struct md_reader *md_reader_vm_new(const struct md_range *ranges, size_t n, struct err *err)
{
	struct vm_reader *r = calloc(1, sizeof(*r));

	if (r)
		r->ranges = reallocarray(NULL, n ? n : 1, sizeof(*ranges));
	if (!r || !r->ranges) {
		free(r);
		err_set(err, ENOMEM, "reserve memory for %zu ranges", n);
		return NULL;
	}
	memcpy(r->ranges, ranges, n * sizeof(*ranges));
	r->r = (struct md_reader){.next = vm_next, .close = vm_close};
	r->page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	r->mem_fd = -1;
	md_words_init(&r->words);
	md_words_init(&r->kin_words);
	md_kin_init(&r->kin, ranges, n);
	md_scanner_init(&r->scanner, r->ranges, n, false);
	return &r->r;
}

void md_reader_vm_skip_gone(struct md_reader *reader)
{
	((struct vm_reader *)reader)->scanner.skip_gone = true;
}
