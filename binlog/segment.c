/* SPDX-License-Identifier: MIT */
/* What can be done with a segment of a ring when no call writes to it any more. */
#include "binlog/internal.h" /* first */

#include <string.h>

#define HEAD sizeof(struct binlog_block)

/* The record word at @at of @seg; *@next: where the next one stands. */
static uint64_t word_at(const char *seg, size_t at, size_t *next)
{
	uint64_t word;
	size_t len;

	memcpy(&word, seg + at, 8);
	word = binlog_le64(word);
	len = word >> BINLOG_LEN_SHIFT & BINLOG_LEN_MASK;
	*next = at + (len ? len * 8 : 8);
	return word;
}

char *binlog_record_put(char *p, unsigned site, uint64_t ticks, const void *body, size_t len)
{
	uint64_t words = (8 + len + 7) / 8;

	memcpy(p + 8, body, len);
	__atomic_store_n((uint64_t *)(void *)p,
			 binlog_le64((uint64_t)site << BINLOG_SITE_SHIFT |
				     words << BINLOG_LEN_SHIFT | (uint32_t)ticks),
			 __ATOMIC_RELEASE);
	return p + words * 8;
}

char *binlog_record_epoch(char *p, const struct binlog_calib *now)
{
	const struct binlog_calib disk = {binlog_le64(now->ticks), binlog_le64(now->mono_ns),
					  binlog_le64(now->real_ns)};

	return binlog_record_put(p, BINLOG_R_EPOCH, now->ticks, &disk, sizeof(disk));
}

/* Is the long record not in @ids yet? Then it is now. */
static bool is_new(uint32_t ids[4], uint32_t id)
{
	for (unsigned i = 0; i < 4; i++)
		if (ids[i] == id)
			return false;
	memmove(ids + 1, ids, 3 * sizeof(*ids));
	ids[0] = id;
	return true;
}

void binlog_segment_count(const char *seg, uint32_t lost_long[4], struct binlog_contents *ret)
{
	struct binlog_contents c = {0};
	struct binlog_r_fragment piece;
	struct binlog_r_loss told;

	for (size_t at = HEAD, next; at < BINLOG_SEG_LEN; at = next) {
		unsigned site = (unsigned)(word_at(seg, at, &next) >> BINLOG_SITE_SHIFT);

		if (site >= BINLOG_SITE_FIRST || site == BINLOG_R_INLINE) {
			c.calls++;
			c.bytes += next - at;
		} else if (site == BINLOG_R_FRAGMENT) {
			memcpy(&piece, seg + at + 8, sizeof(piece));
			c.calls += is_new(lost_long, binlog_le32(piece.id));
			c.bytes += next - at;
		} else if (site == BINLOG_R_LOSS) {
			memcpy(&told, seg + at + 8, sizeof(told));
			c.told_records += binlog_le64(told.records);
			c.told_bytes += binlog_le64(told.bytes);
		}
	}
	*ret = c;
}

bool binlog_segment_is_unfinished(const char *seg)
{
	for (size_t at = HEAD, next; at < BINLOG_SEG_LEN; at = next)
		if (word_at(seg, at, &next) >> BINLOG_SITE_SHIFT == BINLOG_R_PENDING)
			return true;
	return false;
}

static uint64_t block_len(uint32_t used)
{
	return (HEAD + used + BINLOG_ALIGN - 1) & ~(uint64_t)(BINLOG_ALIGN - 1);
}

bool binlog_chunk_is_whole(uint32_t used)
{
	return block_len(used) == BINLOG_SEG_LEN;
}

void binlog_ring_name(struct binlog_log *log, const struct binlog_chunk *owner, uint64_t off,
		      char *page)
{
	struct {
		struct binlog_block b;
		struct binlog_ring_state state;
	} head = {0};

	head.b.ring.stream = binlog_le32(owner->stream);
	head.b.ring.pid = binlog_le32(owner->pid);
	head.b.ring.tid = binlog_le32(owner->tid);
	head.b.ring.nsegs = binlog_le32(BINLOG_NSEGS);
	head.b.ring.seg_len = binlog_le32(BINLOG_SEG_LEN);
	head.b.ring.data = binlog_le32(BINLOG_ALIGN);
	binlog_block_seal(&head.b, log, BINLOG_BLOCK_RING, off,
			  BINLOG_ALIGN + BINLOG_NSEGS * (uint64_t)BINLOG_SEG_LEN);
	/* By the kernel, whom SIGKILL does not stop within: a header half old would be none. */
	if (binlog_space_put(log, off, &head, sizeof(head)) < 0)
		memcpy(page, &head, sizeof(head));
}

int binlog_chunk_write(struct binlog_log *log, const struct binlog_chunk *c, unsigned n)
{
	struct binlog_block b[BINLOG_NSEGS] = {0};
	struct iovec iov[2 * BINLOG_NSEGS];
	uint64_t len = 0;
	uint64_t off;
	int r;

	for (unsigned i = 0; i < n; i++)
		len += block_len(c[i].used);
	/* A whole segment goes to a multiple of its size: ext4 then takes a third less time. */
	r = binlog_space_take(log, len, len < BINLOG_SEG_LEN ? BINLOG_ALIGN : BINLOG_SEG_LEN, &off);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < n; i++) {
		uint64_t at = off + (uint64_t)i * BINLOG_SEG_LEN;

		b[i].seg.stream = binlog_le32(c[i].stream);
		b[i].seg.pid = binlog_le32(c[i].pid);
		b[i].seg.tid = binlog_le32(c[i].tid);
		b[i].seg.used = binlog_le32(c[i].used);
		b[i].seg.pos = binlog_le64(c[i].pos);
		b[i].seg.sum = binlog_le64(binlog_sum(c[i].records, c[i].used));
		binlog_block_seal(&b[i], log, BINLOG_BLOCK_CHUNK, at, block_len(c[i].used));
		iov[2 * i] = (struct iovec){&b[i], HEAD};
		iov[2 * i + 1] = (struct iovec){(void *)(uintptr_t)c[i].records, c[i].used};
		/* Up to where the next one begins; what lies behind the records is zero. */
		if (i + 1 < n)
			iov[2 * i + 1].iov_len = BINLOG_SEG_LEN - HEAD;
	}
	r = binlog_space_write(log, off, iov, 2 * n);
	if (r < 0)
		binlog_space_untake(log, off, len);
	else
		binlog_add64(&log->hdr->chunks, n);
	return r;
}
