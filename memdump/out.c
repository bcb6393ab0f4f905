/* SPDX-License-Identifier: MIT */
/* Bytes to offsets of one descriptor: io_uring with several writes in flight, else pwrite. */
#include "memdump/out.h"

#include <assert.h>
#include <inttypes.h>
#include <sched.h>
#include <string.h>

#include "base/fault.h"

static void fail(struct md_out *o, const struct md_out_write *w, int errnum)
{
	err_set(&o->err, errnum, "write %zu bytes at offset %#" PRIx64 " of %s", w->len, w->off,
		o->name);
}

/* Accounts for @n bytes written; true when some are left to do. */
static bool advance(struct md_out *o, struct md_out_write *w, size_t n)
{
	struct iovec *v;

	if (n >= w->len)
		return false;
	/* O_DIRECT goes on from an aligned place only: what lies between is written again. */
	n -= n % o->align;
	if (!n) {
		fail(o, w, ENOSPC);
		return false;
	}
	w->len -= n;
	w->off += n;
	for (v = &w->iov[w->first]; n >= v->iov_len; v = &w->iov[++w->first])
		n -= v->iov_len;
	v->iov_base = (uint8_t *)v->iov_base + n;
	v->iov_len -= n;
	return true;
}

static void release(struct md_block *b)
{
	if (b)
		md_block_done(b);
}

/* The write in @slot is over, well or not. */
static void finish(struct md_out *o, unsigned slot)
{
	const struct md_out_write *w = &o->writes[slot];

	for (unsigned i = 0; i < w->npieces; i++)
		release(w->block[i]);
	o->pieces -= w->npieces;
	o->free[o->nfree++] = slot;
}

/* --- pwrite -------------------------------------------------------------------------------- */

static void write_now(struct md_out *o, struct md_out_write *w)
{
	for (;;) {
		ssize_t n = pwritev(o->fd, &w->iov[w->first], (int)(w->npieces - w->first),
				    (off_t)w->off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			fail(o, w, n < 0 ? errno : ENOSPC);
			break;
		}
		if (!advance(o, w, (size_t)n))
			break;
	}
}

/* --- io_uring ------------------------------------------------------------------------------ */

static void ring_queue(struct md_out *o, unsigned slot)
{
	struct md_out_write *w = &o->writes[slot];
	const struct iovec *v = &w->iov[w->first];
	const uint8_t *buf = v->iov_base;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&o->ring);

	assert(sqe); /* the ring has a place per slot */
	if (w->npieces - w->first > 1)
		io_uring_prep_writev(sqe, o->fd, v, w->npieces - w->first, w->off);
	else if (o->fixed_mem && buf >= o->fixed_mem && buf + w->len <= o->fixed_mem + o->fixed_len)
		io_uring_prep_write_fixed(sqe, o->fd, buf, (unsigned)w->len, w->off,
					  (int)((size_t)(buf - o->fixed_mem) / o->piece_len));
	else
		io_uring_prep_write(sqe, o->fd, buf, (unsigned)w->len, w->off);
	io_uring_sqe_set_data64(sqe, slot);
	o->queued[o->nqueued++] = slot;
}

static void landed(struct md_out *o, unsigned slot)
{
	o->inflight--;
	finish(o, slot);
}

static void complete(struct md_out *o, unsigned slot, int res)
{
	struct md_out_write *w = &o->writes[slot];

	bool again = res == -EINTR || res == -EAGAIN;

	if (res > 0)
		again = advance(o, w, (size_t)res);
	else if (!again)
		fail(o, w, res ? -res : ENOSPC);
	if (again && !o->err.errnum)
		ring_queue(o, slot);
	else
		landed(o, slot);
}

/*
 * The kernel no longer lets us into the ring. What it has not taken is ours again; what it has
 * taken completes without us, and memory is all we need to see that.
 */
static void ring_broken(struct md_out *o, int errnum)
{
	err_set(&o->err, errnum, "io_uring for %s", o->name);
	while (o->nqueued)
		landed(o, o->queued[--o->nqueued]);
	o->broken = true;
}

/* Hands over what is queued; waits for one completion when @wait. */
static void ring_enter(struct md_out *o, bool wait)
{
	int ret = wait ? io_uring_submit_and_wait(&o->ring, 1) : io_uring_submit(&o->ring);

	if (ret >= 0) {
		o->nqueued -= (unsigned)ret;
		memmove(o->queued, o->queued + ret, o->nqueued * sizeof(o->queued[0]));
	} else if (ret != -EINTR && ret != -EAGAIN && ret != -EBUSY) {
		/* EAGAIN, EBUSY: short of requests until some complete; asked again by then. */
		ring_broken(o, -ret);
	}
}

/* Takes what has completed, after waiting for one completion when @wait. */
static void ring_reap(struct md_out *o, bool wait)
{
	struct io_uring_cqe *cqe;

	if (o->broken)
		sched_yield();
	else if (o->nqueued || wait)
		ring_enter(o, wait);
	/* Not io_uring_peek_cqe(): it may enter the kernel. */
	while (io_uring_cq_ready(&o->ring)) {
		unsigned slot;
		int res;

		cqe = &o->ring.cq.cqes[*o->ring.cq.khead & *o->ring.cq.kring_mask];
		slot = (unsigned)io_uring_cqe_get_data64(cqe);
		res = cqe->res;
		io_uring_cq_advance(&o->ring, 1);
		complete(o, slot, res);
	}
}

/* --- gathering ----------------------------------------------------------------------------- */

/* What is gathered goes its way. */
static void gathered(struct md_out *o)
{
	unsigned slot = (unsigned)o->open;

	if (o->open < 0)
		return;
	o->open = -1;
	if (o->err.errnum) {
		finish(o, slot);
	} else if (!o->uring || o->now) {
		write_now(o, &o->writes[slot]);
		finish(o, slot);
	} else {
		o->inflight++;
		ring_queue(o, slot);
		ring_reap(o, false);
	}
}

static bool continues(const struct md_out *o, uint64_t off)
{
	const struct md_out_write *w = &o->writes[o->open];

	return w->off + w->len == off;
}

/* O_DIRECT has several short writes under way, from registered memory. */
static bool complete_write(const struct md_out *o, const struct md_out_write *w)
{
	return o->align > 1 || w->npieces == MD_OUT_GATHER || w->len >= MD_OUT_GATHER_LEN;
}

static void gather(struct md_out *o, struct md_block *b, const uint8_t *buf, size_t len,
		   uint64_t off)
{
	struct md_out_write *w;

	if (o->open >= 0 && (!continues(o, off) || o->pieces == MD_OUT_DEPTH))
		gathered(o);
	while (o->pieces == MD_OUT_DEPTH)
		ring_reap(o, true);
	if (o->open < 0) {
		o->open = (int)o->free[--o->nfree];
		o->writes[o->open] = (struct md_out_write){.off = off};
	}
	w = &o->writes[o->open];
	w->block[w->npieces] = b;
	w->iov[w->npieces++] = (struct iovec){(void *)(uintptr_t)buf, len};
	w->len += len;
	o->pieces++;
	if (complete_write(o, w))
		gathered(o);
}

/* --- life ---------------------------------------------------------------------------------- */

static bool uring_sysctl_off(void)
{
	char c = '0';
	FILE *f = fopen("/proc/sys/kernel/io_uring_disabled", "re"); /* Linux 6.6 */

	if (f) {
		c = (char)fgetc(f);
		fclose(f);
	}
	return c == '1' || c == '2';
}

static void no_uring_because(struct md_out *o, int errnum)
{
	const char *why = strerrordesc_np(errnum);

	if (errnum == ENOSYS)
		why = "this kernel has no io_uring";
	else if (uring_sysctl_off())
		why = "kernel.io_uring_disabled forbids it";
	else if (errnum == EPERM || errnum == EACCES)
		why = "forbidden (seccomp or a security module)";
	snprintf(o->uring_reason, sizeof(o->uring_reason), "%s", why);
}

/* A filter may let us make a ring, but not enter it: better known before the first write. */
static int ring_try(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	int ret;

	io_uring_prep_nop(io_uring_get_sqe(ring));
	do
		ret = io_uring_submit_and_wait(ring, 1);
	while (ret == -EINTR);
	if (ret < 0)
		return ret;
	while ((ret = io_uring_wait_cqe(ring, &cqe)) == -EINTR)
		;
	if (ret == 0)
		io_uring_cqe_seen(ring, cqe);
	return ret;
}

void md_out_init(struct md_out *o, int fd, const char *name, uint32_t align, bool no_uring)
{
	int ret;

	*o = (struct md_out){.fd = fd, .align = align, .open = -1};
	snprintf(o->name, sizeof(o->name), "%s", name);
	for (unsigned i = 0; i < MD_OUT_DEPTH; i++)
		o->free[o->nfree++] = i;
	if (no_uring) {
		snprintf(o->uring_reason, sizeof(o->uring_reason), "not asked for");
		return;
	}
	ret = io_uring_queue_init(MD_OUT_DEPTH, &o->ring, 0);
	if (ret == 0) {
		ret = ring_try(&o->ring);
		if (ret < 0)
			io_uring_queue_exit(&o->ring);
	}
	if (ret < 0)
		no_uring_because(o, -ret);
	o->uring = ret == 0;
}

void md_out_deinit(struct md_out *o)
{
	assert(!o->inflight);
	if (o->uring)
		io_uring_queue_exit(&o->ring);
}

void md_out_register(struct md_out *o, void *mem, size_t len, size_t buf_size)
{
	enum { PIECES = 64 };
	struct iovec iov[PIECES];
	/* The kernel takes at most 1 GiB per buffer, and a write may not straddle two. */
	size_t piece = ((size_t)1 << 30) / buf_size * buf_size;
	unsigned n = 0;

	if (!o->uring)
		return;
	for (size_t off = 0; off < len; off += piece) {
		if (n == PIECES)
			return;
		iov[n++] =
			(struct iovec){(uint8_t *)mem + off, len - off < piece ? len - off : piece};
	}
	/* ENOMEM: RLIMIT_MEMLOCK is too low. Writes work without, they pin page by page. */
	if (io_uring_register_buffers(&o->ring, iov, n) < 0)
		return;
	o->fixed_mem = mem;
	o->fixed_len = len;
	o->piece_len = piece;
}

void md_out_unregister(struct md_out *o)
{
	assert(!o->inflight);
	if (!o->fixed_mem)
		return;
	io_uring_unregister_buffers(&o->ring);
	o->fixed_mem = NULL;
	o->fixed_len = 0;
}

int md_out_write(struct md_out *o, struct md_block *b, const uint8_t *buf, size_t len, uint64_t off,
		 struct err *err)
{
	if (FAULT("memdump.write"))
		fail(o, &(struct md_out_write){.len = len, .off = off}, EIO);
	if (o->err.errnum)
		release(b);
	else
		gather(o, b, buf, len, off);
	return err_take(err, &o->err);
}

int md_out_drain(struct md_out *o, struct err *err)
{
	gathered(o);
	while (o->inflight)
		ring_reap(o, true);
	return err_take(err, &o->err);
}

void md_out_abandon(struct md_out *o)
{
	if (o->open >= 0)
		finish(o, (unsigned)o->open);
	o->open = -1;
	md_out_drain(o, NULL);
}
