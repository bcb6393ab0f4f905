/* SPDX-License-Identifier: MIT */
/* The log file as bytes: space, blocks, sums and clocks. */
#include "binlog/internal.h" /* first */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__powerpc64__)
#include <sys/platform/ppc.h>
#endif

#include "base/clock.h"

/* File space is backed in steps of this, so that ext4 allocates it in one piece. */
#define STEP (4u << 20)

#define K 0x9E3779B97F4A7C15ull

static uint64_t mix(uint64_t x)
{
	x ^= x >> 32;
	x *= K;
	x ^= x >> 29;
	return x;
}

/* Two lanes at once, which every CPU we know can; wider ones come out slower without -mavx2. */
typedef uint64_t pair __attribute__((vector_size(16)));

static inline pair pair_at(const unsigned char *p)
{
	pair w;

	memcpy(&w, p, sizeof(w));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	w = (pair){__builtin_bswap64(w[0]), __builtin_bswap64(w[1])};
#endif
	return w;
}

/* docs/BINLOG.md 1.1. */
uint64_t binlog_sum(const void *data, size_t len)
{
	const unsigned char *p = data;
	const unsigned char *end = p + len / 32 * 32;
	pair a01 = {K, K * 2};
	pair a23 = {K * 3, K * 4};
	pair b01 = {0, 0};
	pair b23 = {0, 0};
	unsigned char last[32] = {0};
	uint64_t h = len;

	for (; p < end; p += 32) {
		a01 += pair_at(p);
		b01 += a01;
		a23 += pair_at(p + 16);
		b23 += a23;
	}
	if (len % 32) {
		memcpy(last, p, len % 32);
		a01 += pair_at(last);
		b01 += a01;
		a23 += pair_at(last + 16);
		b23 += a23;
	}
	h = mix(mix(h ^ a01[0]) ^ b01[0]);
	h = mix(mix(h ^ a01[1]) ^ b01[1]);
	h = mix(mix(h ^ a23[0]) ^ b23[0]);
	return mix(mix(h ^ a23[1]) ^ b23[1]);
}

/* Takes the fields by type as little endian already; fills the rest. */
void binlog_block_seal(struct binlog_block *b, const struct binlog_log *log, unsigned type,
		       uint64_t off, uint64_t len)
{
	b->magic = binlog_le32(BINLOG_BLOCK_MAGIC);
	b->type = binlog_le16((uint16_t)type);
	b->tag = binlog_le32(log->tag);
	b->check = 0;
	b->offset = binlog_le64(off);
	b->len = binlog_le64(len);
	b->check = binlog_le32((uint32_t)binlog_sum(b, sizeof(*b)));
}

uint64_t binlog_add64(uint64_t *v, uint64_t n)
{
	uint64_t old = __atomic_load_n(v, __ATOMIC_RELAXED);

	while (!__atomic_compare_exchange_n(v, &old, binlog_le64(binlog_le64(old) + n), false,
					    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		;
	return binlog_le64(old);
}

uint32_t binlog_add32(uint32_t *v, uint32_t n)
{
	uint32_t old = __atomic_load_n(v, __ATOMIC_RELAXED);

	while (!__atomic_compare_exchange_n(v, &old, binlog_le32(binlog_le32(old) + n), false,
					    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		;
	return binlog_le32(old);
}

void binlog_count_lost(struct binlog_log *log, uint64_t records, uint64_t bytes)
{
	binlog_add64(&log->hdr->lost_records, records);
	binlog_add64(&log->hdr->lost_bytes, bytes);
}

int binlog_space_take(struct binlog_log *log, uint64_t len, uint64_t align, uint64_t *ret_off)
{
	uint64_t old = __atomic_load_n(&log->hdr->next, __ATOMIC_RELAXED);
	uint64_t off;

	assert(len % BINLOG_ALIGN == 0);
	do {
		off = (binlog_le64(old) + align - 1) & ~(align - 1);
		if (log->max_len && off + len > log->max_len)
			return -EFBIG;
	} while (!__atomic_compare_exchange_n(&log->hdr->next, &old, binlog_le64(off + len), false,
					      __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
	*ret_off = off;
	return 0;
}

void binlog_space_untake(struct binlog_log *log, uint64_t off, uint64_t len)
{
	uint64_t end = binlog_le64(off + len);

	__atomic_compare_exchange_n(&log->hdr->next, &end, binlog_le64(off), false,
				    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* Bytes from the beginning of its page, which may be longer than what blocks are aligned to. */
static size_t in_page(uint64_t v)
{
	return v & ((uint64_t)sysconf(_SC_PAGESIZE) - 1);
}

int binlog_space_map(struct binlog_log *log, uint64_t off, size_t len, char **ret)
{
	size_t skip = in_page(off);
	char *map = mmap(NULL, skip + len, PROT_READ | PROT_WRITE, MAP_SHARED, log->fd,
			 (off_t)(off - skip));

	if (map == MAP_FAILED)
		return -errno;
	*ret = map + skip;
	return 0;
}

void binlog_space_unmap(char *p, size_t len)
{
	size_t skip = in_page((uintptr_t)p);

	munmap(p - skip, skip + len);
}

bool binlog_fd_is_ours(const struct binlog_log *log)
{
	struct stat st;

	return fstat(log->fd, &st) == 0 && st.st_dev == log->dev && st.st_ino == log->ino;
}

/*
 * At RLIMIT_FSIZE the kernel sends SIGXFSZ beside EFBIG; signals are blocked here, and what waits
 * is ours. The program is not to end for its log.
 */
static int write_failed(int errnum)
{
	const struct timespec none = {0, 0};
	sigset_t set;

	if (errnum == EFBIG) {
		sigemptyset(&set);
		sigaddset(&set, SIGXFSZ);
		(void)!sigtimedwait(&set, NULL, &none);
	}
	return -errnum;
}

/*
 * By writing zeros, which reserves the space and brings the pages into the cache. With fallocate()
 * and no write the first store to the mapping takes 0.8 ms on ext4 since large folios (6.16): the
 * fault reads, that is zeroes, megabytes around it.
 */
int binlog_space_back(struct binlog_log *log, uint64_t off, uint64_t len)
{
	static const char zero[BINLOG_ALIGN];
	struct iovec iov[64];

	assert(len % sizeof(zero) == 0);
	if (!binlog_fd_is_ours(log))
		return -EBADF;
	while (len) {
		int n = 0;

		for (; n < 64 && (uint64_t)n * sizeof(zero) < len; n++)
			iov[n] = (struct iovec){(void *)(uintptr_t)zero, sizeof(zero)};
		ssize_t done = pwritev(log->fd, iov, n, (off_t)off);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done < 0 ? write_failed(errno) : -ENOSPC;
		/* A write that ends within a page is repeated from its start. */
		done &= ~(ssize_t)(sizeof(zero) - 1);
		if (!done)
			return -ENOSPC;
		off += (uint64_t)done;
		len -= (uint64_t)done;
	}
	return 0;
}

/* Allocates ahead; a failure will show, or not, in the write itself. */
static void back_ahead(struct binlog_log *log, uint64_t end)
{
	uint64_t old = __atomic_load_n(&log->hdr->preallocated, __ATOMIC_RELAXED);
	uint64_t start = binlog_le64(old);
	uint64_t stop;

	if (end <= start)
		return;
	if (start > end || end - start > STEP)
		start = end - BINLOG_SEG_LEN;
	stop = (end + STEP) & ~(uint64_t)(STEP - 1);
	if (log->max_len && stop > log->max_len)
		stop = end;
	/* Who changes the number allocates; another thread's write does not wait for it. */
	if (!__atomic_compare_exchange_n(&log->hdr->preallocated, &old, binlog_le64(stop), false,
					 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		return;
	if (fallocate(log->fd, 0, (off_t)start, (off_t)(stop - start)) < 0)
		(void)write_failed(errno);
}

/* Part of a block must not be taken for a block that was damaged. */
static void unwrite(int fd, uint64_t off, uint64_t len)
{
	static const char zero[BINLOG_ALIGN];

	if (!len ||
	    !fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len))
		return;
	for (uint64_t done = 0; done < len; done += sizeof(zero)) {
		size_t n = len - done < sizeof(zero) ? (size_t)(len - done) : sizeof(zero);

		if (pwrite(fd, zero, n, (off_t)(off + done)) < 0)
			return;
	}
}

int binlog_space_write(struct binlog_log *log, uint64_t off, struct iovec *iov, unsigned n)
{
	uint64_t start = off;
	uint64_t len = 0;

	if (!binlog_fd_is_ours(log))
		return -EBADF;
	for (unsigned i = 0; i < n; i++)
		len += iov[i].iov_len;
	back_ahead(log, off + len);
	while (n) {
		ssize_t done = pwritev(log->fd, iov, (int)n, (off_t)off);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0) {
			int r = done < 0 ? write_failed(errno) : -ENOSPC;

			unwrite(log->fd, start, off - start);
			return r;
		}
		off += (uint64_t)done;
		while (n && (size_t)done >= iov->iov_len) {
			done -= (ssize_t)iov->iov_len;
			iov++;
			n--;
		}
		if (n) {
			iov->iov_base = (char *)iov->iov_base + done;
			iov->iov_len -= (size_t)done;
		}
	}
	return 0;
}

int binlog_space_put(struct binlog_log *log, uint64_t off, const void *data, size_t len)
{
	ssize_t n;

	if (!binlog_fd_is_ours(log))
		return -EBADF;
	n = pwrite(log->fd, data, len, (off_t)off);
	if (n < 0)
		return write_failed(errno);
	return n == (ssize_t)len ? 0 : -ENOSPC;
}

int binlog_space_none(const struct binlog_log *log)
{
	uint64_t until = __atomic_load_n(&log->no_ring_until_ns, __ATOMIC_ACQUIRE);

	return until && clock_ns(CLOCK_MONOTONIC) < until
		       ? -__atomic_load_n(&log->no_ring_errnum, __ATOMIC_RELAXED)
		       : 0;
}

int binlog_space_ring(struct binlog_log *log, uint64_t len, uint64_t *ret_off, char **ret_map)
{
	int r = binlog_space_none(log);

	if (r < 0)
		return r;
	r = binlog_space_take(log, len, BINLOG_ALIGN, ret_off);
	if (r == 0) {
		r = binlog_space_back(log, *ret_off, len);
		if (r == 0)
			r = binlog_space_map(log, *ret_off, len, ret_map);
		if (r < 0)
			binlog_space_untake(log, *ret_off, len);
	}
	if (r < 0) {
		__atomic_store_n(&log->no_ring_errnum, -r, __ATOMIC_RELAXED);
		__atomic_store_n(&log->no_ring_until_ns, clock_ns(CLOCK_MONOTONIC) + 10000000,
				 __ATOMIC_RELEASE);
	}
	return r;
}

/* The tightest of a few tries: an interrupt may fall between the clocks. */
void binlog_calibrate(struct binlog_calib *ret)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 3; i++) {
		uint64_t t0 = binlog_ticks();
		uint64_t mono = clock_ns(CLOCK_MONOTONIC);
		uint64_t t1 = binlog_ticks();
		uint64_t real = clock_ns(CLOCK_REALTIME);
		uint64_t t2 = binlog_ticks();

		if (t2 - t0 < best) {
			best = t2 - t0;
			*ret = (struct binlog_calib){t0 + (t1 - t0) / 2, mono, real};
		}
	}
}

/* Ticks per second: what the CPU says of itself, else measured since @since. */
uint64_t binlog_ticks_hz(const struct binlog_calib *since)
{
	struct binlog_calib now;
	uint64_t hz = 0;

#if defined(__x86_64__)
	unsigned a;
	unsigned b;
	unsigned c;
	unsigned d;

	if (__get_cpuid(0x15, &a, &b, &c, &d) && a && b && c)
		hz = (uint64_t)c * b / a;
#elif defined(__aarch64__)
	__asm__("mrs %0, cntfrq_el0" : "=r"(hz));
#elif defined(__powerpc64__)
	hz = __ppc_get_timebase_freq();
#elif defined(__s390x__)
	hz = 4096000000u;
#endif
	if (hz)
		return hz >> BINLOG_SHIFT;
	/* A reading is 50 ns off or so; the reader wants one in a thousand. */
	do {
		binlog_calibrate(&now);
	} while (now.mono_ns - since->mono_ns < 100000);
	return (uint64_t)((double)(now.ticks - since->ticks) * 1e9 /
			  (double)(now.mono_ns - since->mono_ns));
}
