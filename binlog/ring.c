/* SPDX-License-Identifier: MIT */
/*
 * Rings: a thread gets one, fills a segment, writes it out, opens the next.
 *
 * Why no lock is needed on the fast path, and what the order of its three steps is for. A call
 * reads limit, then ring, then takes a place at pos. Only the thread itself changes these three,
 * but its signal handlers may do so between any two steps:
 *
 *   handler between limit and ring, or ring and take: pos is beyond the limit that was read, so the
 *	place is not used through the wrong ring; binlog_overrun() finds the right one.
 *   handler after the take: place, ring and limit belong together, and the handler cannot recycle
 *	the segment, because `done` lacks the bytes of the unfinished call: the ring is abandoned
 *	as it is, with the unfinished record in it, and the thread gets another.
 *   handler before all of them, but behind the look at binlog_self, on a thread that had no ring
 *	yet: what was read is of `nobody`, where nothing fits; place_in() takes from the new ring.
 *
 * Here all signals are blocked, so nothing here is interrupted by a handler.
 */
#include "binlog/internal.h" /* first */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HEAD	   sizeof(struct binlog_block)
#define RING_BLOCK ((uint64_t)BINLOG_ALIGN + BINLOG_RING_LEN)
#define MAGIC	   0x62726e67u
/* Ticks between calibration points, which come early and then ever more rarely. */
#define SPAN_FIRST (1ull << 18)
#define SPAN_MAX   (1ull << 31)
static_assert(SPAN_MAX <= 1ull << 31, "a stamp is 32 bits with a sign");

struct thread {
	struct binlog_thread t; /* first: binlog_self points here */
	uint32_t magic;		/* 0: new page, or wiped by a fork */
	uint32_t generation;	/* of the log the ring belongs to */
	uint32_t stream;
	uint32_t pid;
	uint32_t tid;
	uint64_t failed;	  /* where the first place that did not fit would have been */
	uint64_t ring_off;	  /* of the RING block */
	bool used[BINLOG_NSEGS];  /* the slot is not all zero */
	bool stuck[BINLOG_NSEGS]; /* the slot holds records that could not be written out */
	uint32_t kept;		  /* bytes of records of the whole segment that waits in its slot
				   * until the open one is full as well; 0: none does */
	bool greeted;		  /* THREAD is written */
	/*
	 * The caller was a process of its own in our memory (vfork(), CLONE_VM), so that this page
	 * may be that of a thread of ours as well. It ends with neither, its limit is 0 between
	 * calls, and in each of them one asks who it is.
	 */
	bool lent;
	uint64_t lent_limit;	   /* what t.limit is within */
	struct binlog_r_loss lost; /* not reported yet */
	uint32_t lost_long[4];	   /* ids of long records counted as lost, the last first */
	struct thread *next;	   /* in binlog_proc.threads; never changes */
};

/* Stands for a thread without a ring: nothing fits. Its pos is nobody's. */
static struct thread nobody;

__thread struct binlog_thread *binlog_self __attribute__((tls_model("initial-exec"))) = &nobody.t;

static char *slot_of(const struct thread *th, uint64_t pos)
{
	return th->t.ring + (pos & (BINLOG_RING_LEN - 1) & ~(uint64_t)(BINLOG_SEG_LEN - 1));
}

static unsigned index_of(uint64_t pos)
{
	return (unsigned)(pos / BINLOG_SEG_LEN % BINLOG_NSEGS);
}

static uint64_t *done_of(const struct thread *th)
{
	return (uint64_t *)(void *)(th->t.ring - BINLOG_DONE_OFFSET);
}

/* The loss of @th: the header counts it now, a LOSS record will say where. */
static void lose(struct binlog_log *log, struct thread *th, uint64_t records, uint64_t bytes,
		 int errnum)
{
	binlog_count_lost(log, records, bytes);
	if (!th)
		return;
	th->lost.records += records;
	th->lost.bytes += bytes;
	th->lost.errnum = (uint32_t)errnum;
	th->lost.reason = errnum == EFBIG ? BINLOG_LOSS_BOUND
			  : th->t.ring	  ? BINLOG_LOSS_WRITE
					  : BINLOG_LOSS_RING;
	if (th->t.ring) {
		struct binlog_ring_state *state = (void *)(th->t.ring - BINLOG_ALIGN + HEAD);

		binlog_add64(&state->lost_records, records);
		binlog_add64(&state->lost_bytes, bytes);
	}
}

/*
 * The segment in @slot is about to be overwritten: counts its calls, and takes back the losses it
 * reports, so that the next LOSS record of the thread reports them again.
 */
static void lose_segment(struct binlog_log *log, struct thread *th, const char *slot)
{
	struct binlog_contents c;

	binlog_segment_count(slot, th->lost_long, &c);
	th->lost.records += c.told_records;
	th->lost.bytes += c.told_bytes;
	lose(log, th, c.calls, c.bytes, (int)th->lost.errnum);
}

static struct binlog_chunk chunk_of(const struct thread *th, uint64_t pos, uint32_t used)
{
	return (struct binlog_chunk){th->stream, th->pid, th->tid,
				     used,	 pos,	  slot_of(th, pos) + HEAD};
}

/* Its slot will be overwritten with the records still in it. */
static void stick(struct thread *th, uint64_t pos, int errnum)
{
	th->stuck[index_of(pos)] = true;
	th->lost.errnum = (uint32_t)errnum;
}

static void write_one(struct binlog_log *log, struct thread *th, uint64_t pos, uint32_t used)
{
	const struct binlog_chunk c = chunk_of(th, pos, used);
	int r = binlog_chunk_write(log, &c, 1);

	if (r < 0)
		stick(th, pos, -r);
}

/* Copies the segment that waits, if one does, into a chunk. */
static void write_kept(struct binlog_log *log, struct thread *th, uint64_t open)
{
	if (th->kept)
		write_one(log, th, open - BINLOG_SEG_LEN, th->kept);
	th->kept = 0;
}

/* Copies the records [64, 64 + used) of the segment at @pos into a chunk, and what waits. */
static void write_out(struct binlog_log *log, struct thread *th, uint64_t pos, uint32_t used)
{
	if (th->kept) {
		const struct binlog_chunk both[] = {chunk_of(th, pos - BINLOG_SEG_LEN, th->kept),
						    chunk_of(th, pos, used)};

		if (binlog_chunk_write(log, both, 2) == 0) {
			th->kept = 0;
			return;
		}
		write_kept(log, th, pos);
	}
	write_one(log, th, pos, used);
}

static char *put_thread(char *p, struct thread *th, uint64_t ticks)
{
	struct binlog_r_thread r = {binlog_le32(th->pid), binlog_le32(th->tid),
				    binlog_le32((uint32_t)getppid()), 0, ""};

	prctl(PR_GET_NAME, r.comm);
	th->greeted = true;
	return binlog_record_put(p, BINLOG_R_THREAD, ticks, &r, sizeof(r));
}

static char *put_loss(char *p, struct thread *th, uint64_t ticks)
{
	struct binlog_r_loss r = {binlog_le64(th->lost.records), binlog_le64(th->lost.bytes),
				  binlog_le32(th->lost.reason), binlog_le32(th->lost.errnum)};

	memset(&th->lost, 0, sizeof(th->lost));
	return binlog_record_put(p, BINLOG_R_LOSS, ticks, &r, sizeof(r));
}

/*
 * Makes the segment at @pos the one that is filled. Its slot is emptied first: records there are
 * in a chunk by now, or lost. The header appears last, so that a slot is a whole segment or none.
 */
static void open_segment(struct binlog_log *log, struct thread *th, uint64_t pos)
{
	char *slot = slot_of(th, pos);
	unsigned i = index_of(pos);
	struct binlog_block b = {0};
	struct binlog_calib now;
	char *p = slot + HEAD;

	if (th->stuck[i]) {
		lose_segment(log, th, slot);
		th->stuck[i] = false;
	}
	if (th->used[i]) {
		/* An exchange, so that nothing below happens before it. */
		__atomic_exchange_n((uint32_t *)(void *)slot, 0, __ATOMIC_SEQ_CST);
		memset(slot, 0, BINLOG_SEG_LEN);
	}
	th->used[i] = true;

	binlog_calibrate(&now);
	p = binlog_record_epoch(p, &now);
	if (!th->greeted)
		p = put_thread(p, th, now.ticks);
	if (th->lost.records)
		p = put_loss(p, th, now.ticks);

	b.seg.stream = binlog_le32(th->stream);
	b.seg.pid = binlog_le32(th->pid);
	b.seg.tid = binlog_le32(th->tid);
	b.seg.pos = binlog_le64(pos);
	binlog_block_seal(&b, log, BINLOG_BLOCK_SEG,
			  th->ring_off + BINLOG_ALIGN + (uint64_t)(slot - th->t.ring),
			  BINLOG_SEG_LEN);
	memcpy(slot + 4, (char *)&b + 4, HEAD - 4);
	__atomic_store_n((uint32_t *)(void *)slot, b.magic, __ATOMIC_RELEASE);

	th->failed = 0;
	__atomic_store_n(&th->t.anchor, now.ticks, __ATOMIC_RELAXED);
	__atomic_store_n(&th->t.pos, pos + (uint64_t)(p - slot), __ATOMIC_RELAXED);
	__atomic_store_n(done_of(th), th->t.pos, __ATOMIC_RELAXED);
	__atomic_store_n(&th->t.limit, pos + BINLOG_SEG_LEN, __ATOMIC_RELEASE);
}

static int new_ring(struct binlog_log *log, struct thread *th)
{
	uint64_t off;
	char *map;
	int r = binlog_space_ring(log, RING_BLOCK, &off, &map);

	if (r < 0)
		return r;
	th->ring_off = off;
	for (unsigned i = 0; i < BINLOG_NSEGS; i++)
		th->used[i] = th->stuck[i] = false;
	__atomic_store_n(&th->t.ring, map + BINLOG_ALIGN, __ATOMIC_RELAXED);
	return 0;
}

/* The header page of the ring says whose it is now. */
static void name_ring(struct binlog_log *log, struct thread *th)
{
	const struct binlog_chunk c = chunk_of(th, 0, 0);

	binlog_ring_name(log, &c, th->ring_off, th->t.ring - BINLOG_ALIGN);
}

/* Is every record of @th complete that was taken below @pos? False when in doubt. */
static bool complete_at(const struct thread *th, uint64_t pos)
{
	return th->t.ring && __atomic_load_n(done_of(th), __ATOMIC_ACQUIRE) == pos;
}

/* Has the thread of @th ended? Asked by a thread of the same process only. */
static bool is_dead(const struct thread *th, pid_t self)
{
	uint32_t tid = __atomic_load_n(&th->tid, __ATOMIC_RELAXED);

	if (__atomic_load_n(&th->lent, __ATOMIC_RELAXED))
		return false;
	/* A page with our own tid and not ours is of a thread that had the number before. */
	return tid == (uint32_t)self ||
	       (syscall(SYS_tgkill, BINLOG_LOAD(th->pid), tid, 0) < 0 && errno == ESRCH);
}

/* Writes out what is open, so that the ring may serve another. */
static void leave_ring(struct binlog_log *log, struct thread *th, uint64_t pos)
{
	uint64_t seg = th->t.limit - BINLOG_SEG_LEN;

	if (th->generation == log->generation && th->t.limit && pos > seg && pos <= th->t.limit &&
	    complete_at(th, pos)) {
		write_out(log, th, seg, (uint32_t)(pos - seg - HEAD));
	} else {
		/* It died in the middle of a call, or in another log: leave that ring. */
		th->t.ring = NULL;
		th->kept = 0;
	}
	th->t.limit = 0;
}

/* The page of a thread that has ended, with its ring written out; NULL: none found quickly. */
static struct thread *adopt(struct binlog_log *log, struct binlog_proc *proc, pid_t tid)
{
	int tries = 8;

	if (getpid() != BINLOG_LOAD(proc->pid))
		return NULL;
	for (struct thread *th = __atomic_load_n(&proc->threads, __ATOMIC_ACQUIRE); th && tries;
	     th = th->next) {
		uint32_t magic = MAGIC;

		if (__atomic_load_n(&th->magic, __ATOMIC_ACQUIRE) != MAGIC)
			continue;
		tries--;
		/* Two new threads may find the same one; the second looks further. */
		if (!is_dead(th, tid) ||
		    !__atomic_compare_exchange_n(&th->magic, &magic, MAGIC + 1, false,
						 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			continue;
		leave_ring(log, th, th->t.pos);
		return th;
	}
	return NULL;
}

static struct thread *new_page(struct binlog_proc *proc)
{
	struct thread *th = binlog_wiped_page();

	if (!th)
		return NULL;
	th->next = __atomic_load_n(&proc->threads, __ATOMIC_RELAXED);
	while (!__atomic_compare_exchange_n(&proc->threads, &th->next, th, false, __ATOMIC_ACQ_REL,
					    __ATOMIC_RELAXED))
		;
	return th;
}

/* A page that is the caller's and is in the list, whatever state it is in. */
static struct thread *find_page(struct binlog_log *log, pid_t tid)
{
	struct thread *th = (struct thread *)(void *)binlog_self;
	struct binlog_proc *proc = binlog_proc();

	if (th == &nobody) {
		th = adopt(log, proc, tid);
		return th ? th : new_page(proc);
	}
	if (th->magic == 0) {
		/* Wiped by a fork: the list of this process does not have it yet. */
		th->next = __atomic_load_n(&proc->threads, __ATOMIC_RELAXED);
		while (!__atomic_compare_exchange_n(&proc->threads, &th->next, th, false,
						    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			;
	}
	return th;
}

/* Drops what @th has of a log that was closed. */
static void forget(struct thread *th, const struct binlog_log *log)
{
	if (th->generation == log->generation)
		return;
	/* A call below us may still be writing to the old ring. */
	if (th->t.ring && complete_at(th, th->t.pos))
		binlog_space_unmap(th->t.ring - BINLOG_ALIGN, RING_BLOCK);
	th->t.ring = NULL;
	th->kept = 0;
	memset(&th->lost, 0, sizeof(th->lost));
	th->generation = log->generation;
}

/* Gives the calling thread a stream, and a ring if it has none. */
static int attach(struct binlog_log *log)
{
	pid_t pid = getpid();
	pid_t tid = (pid_t)syscall(SYS_gettid);
	struct binlog_proc *proc = binlog_proc();
	struct thread *th = find_page(log, tid);
	int r = 0;

	if (!th)
		return -ENOMEM;
	if (!__atomic_exchange_n(&proc->attached, 1, __ATOMIC_ACQ_REL))
		binlog_writer_add(log);
	forget(th, log);
	if (!th->t.ring)
		r = new_ring(log, th);
	if (r < 0) {
		/* No more file, but perhaps a thread that has ended left a ring. */
		struct thread *dead = adopt(log, proc, tid);

		if (dead && dead->t.ring) {
			dead->lost.records += th->lost.records;
			dead->lost.bytes += th->lost.bytes;
			memset(&th->lost, 0, sizeof(th->lost));
			th = dead;
			r = 0;
		}
	}
	__atomic_store_n(&th->lent, pid != BINLOG_LOAD(proc->pid), __ATOMIC_RELAXED);
	__atomic_store_n(&th->pid, (uint32_t)pid, __ATOMIC_RELAXED);
	__atomic_store_n(&th->tid, (uint32_t)tid, __ATOMIC_RELAXED);
	__atomic_store_n(&th->magic, MAGIC, __ATOMIC_RELEASE);
	binlog_self = &th->t;
	if (r < 0)
		return r;
	th->greeted = false;
	th->stream = binlog_add32(&log->hdr->next_stream, 1);
	th->t.span = SPAN_FIRST;
	name_ring(log, th);
	open_segment(log, th, (uint64_t)th->stream << 36);
	return 0;
}

/*
 * The open segment is full: leaves it in its slot, or writes it out with the one that was left, and
 * opens the next. Two in one write are cheaper than one each, for one thread by 1.5 % of all that a
 * call takes; two threads meet half as often in the write, where one file lets in one at a time.
 */
static int next_segment(struct binlog_log *log, struct thread *th)
{
	uint64_t next = th->t.limit;
	uint64_t seg = next - BINLOG_SEG_LEN;
	uint32_t used = (uint32_t)(th->failed - seg - HEAD);
	int r;

	if (th->failed <= seg || !complete_at(th, th->failed)) {
		/* A call below this one is unfinished, and its record in this ring. */
		write_kept(log, th, seg);
		r = new_ring(log, th);
		if (r == 0)
			name_ring(log, th);
		else if (binlog_segment_is_unfinished(slot_of(th, next)))
			return r;
		else
			stick(th, seg, -r);
	} else if (!th->kept && binlog_chunk_is_whole(used)) {
		th->kept = used;
	} else {
		write_out(log, th, seg, used);
	}
	open_segment(log, th, next);
	return 0;
}

static struct binlog_place take_again(struct thread *th, uint64_t len)
{
	uint64_t pos = binlog_take(&th->t.pos, len);

	assert(th->t.limit - (pos + len) < BINLOG_SEG_LEN);
	return (struct binlog_place){th->t.ring + (pos & (BINLOG_RING_LEN - 1)), done_of(th)};
}

/*
 * @t: where @pos was taken. @call: a call wants the place, and is lost if there is none.
 *
 * @t is what the caller found in binlog_self some instructions ago. A handler in between may have
 * been the first on this thread to log, and have got it a page and a ring: that ring is in use, and
 * attaching once more would empty it under a new name. So the place is taken there instead.
 */
static struct binlog_place place_in(struct binlog_log *log, const struct binlog_thread *t,
				    uint64_t pos, uint64_t len, bool call)
{
	struct thread *th = (struct thread *)(void *)binlog_self;
	uint64_t limit;
	uint64_t seg;
	int r = 0;

	if (t != &th->t)
		pos = binlog_take(&th->t.pos, len);
	if (th->lent && th->magic == MAGIC && th->generation == log->generation) {
		th->t.limit = th->lent_limit;
		if (th->tid != (uint32_t)syscall(SYS_gettid))
			leave_ring(log, th, pos);
	}
	limit = th->t.limit;
	seg = limit - BINLOG_SEG_LEN;
	if (th->magic == MAGIC && th->generation == log->generation && !limit && !th->t.ring)
		r = binlog_space_none(log);
	if (r < 0) {
		/* Nor does one that has ended lend its own, so soon. */
	} else if (th == &nobody || th->magic != MAGIC || th->generation != log->generation ||
		   !limit) {
		r = attach(log);
		th = (struct thread *)(void *)binlog_self;
	} else if (pos > seg && pos + len <= limit) {
		/* A handler opened this segment between our look at limit, or self, and our take.
		 */
		return (struct binlog_place){th->t.ring + (pos & (BINLOG_RING_LEN - 1)),
					     done_of(th)};
	} else {
		if (pos > seg && pos <= limit)
			th->failed = pos;
		/* Else a handler has failed here before us, or has opened a new segment. */
		if (limit - (th->t.pos + len) >= BINLOG_SEG_LEN)
			r = next_segment(log, th);
	}
	if (r < 0) {
		if (call)
			lose(log, th == &nobody ? NULL : th, 1, len, -r);
		return (struct binlog_place){NULL, NULL};
	}
	return take_again(th, len);
}

/* The next call on a page that is lent shall come here again. */
static void hide_lent(struct thread *th)
{
	if (!th->lent)
		return;
	th->lent_limit = th->t.limit;
	__atomic_store_n(&th->t.limit, 0, __ATOMIC_RELEASE);
}

static struct binlog_place overrun(struct binlog_thread *t, uint64_t pos, uint64_t len, bool call)
{
	int saved = errno;
	struct binlog_shield shield;
	struct binlog_place place = {NULL, NULL};
	struct binlog_log *log;

	binlog_shield(&shield);
	log = binlog_enter();
	if (log) {
		place = place_in(log, t, pos, len, call);
		hide_lent((struct thread *)(void *)binlog_self);
		binlog_leave();
	}
	binlog_unshield(&shield);
	errno = saved;
	return place;
}

struct binlog_place binlog_overrun(struct binlog_thread *t, uint64_t pos, uint64_t len)
{
	return overrun(t, pos, len, true);
}

/* The anchor is too far away for a stamp, or this thread has none. */
void binlog_epoch(struct binlog_thread *t)
{
	struct binlog_calib now;
	uint64_t limit = BINLOG_LOAD(t->limit);
	char *ring = BINLOG_LOAD(t->ring);
	const uint64_t len = 8 + sizeof(now);
	struct binlog_place place;
	uint64_t pos;

	/* A fresh segment, should there be none or no room, begins with an EPOCH itself. */
	pos = binlog_take(&t->pos, len);
	if (limit - (pos + len) >= BINLOG_SEG_LEN) {
		place = overrun(t, pos, len, false);
		if (!place.at)
			return;
		t = binlog_self;
	} else {
		place = (struct binlog_place){ring + (pos & (BINLOG_RING_LEN - 1)),
					      (uint64_t *)(void *)(ring - BINLOG_DONE_OFFSET)};
	}
	binlog_calibrate(&now);
	binlog_record_epoch(place.at, &now);
	BINLOG_BARRIER();
	binlog_done(place.done, len);
	__atomic_store_n(&t->anchor, now.ticks, __ATOMIC_RELAXED);
	if (t->span < SPAN_MAX)
		__atomic_store_n(&t->span, t->span * 2, __ATOMIC_RELAXED);
}

static bool is_stuck(const struct thread *th)
{
	for (unsigned i = 0; i < BINLOG_NSEGS; i++)
		if (th->stuck[i])
			return true;
	return false;
}

/* Writes out what is left of a ring and empties it. */
static void pack(struct binlog_log *log, struct thread *th)
{
	uint64_t pos = th->t.pos;
	uint64_t seg = th->t.limit - BINLOG_SEG_LEN;

	if (!complete_at(th, pos) || pos <= seg || pos > th->t.limit)
		return;
	if (is_stuck(th))
		return;
	write_out(log, th, seg, (uint32_t)(pos - seg - HEAD));
	if (is_stuck(th))
		return;
	for (unsigned i = 0; i < BINLOG_NSEGS; i++)
		memset(th->t.ring + i * BINLOG_SEG_LEN, 0, HEAD);
	binlog_space_unmap(th->t.ring - BINLOG_ALIGN, RING_BLOCK);
	th->t.ring = NULL;
	if (binlog_fd_is_ours(log))
		(void)!fallocate(log->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				 (off_t)(th->ring_off + BINLOG_ALIGN), BINLOG_RING_LEN);
}

void binlog_rings_close(struct binlog_log *log)
{
	struct binlog_proc *proc = binlog_proc();
	struct thread *self = (struct thread *)(void *)binlog_self;

	for (struct thread *th = __atomic_load_n(&proc->threads, __ATOMIC_ACQUIRE); th;
	     th = th->next) {
		if (th->magic != MAGIC || th->generation != log->generation || !th->t.limit)
			continue;
		if (th == self || is_dead(th, 0))
			pack(log, th);
		__atomic_store_n(&th->t.limit, 0, __ATOMIC_RELEASE);
	}
}
