/* SPDX-License-Identifier: MIT */
/*
 * One log file being read; private to decode*.c.
 *
 *	file ──dec_index_walk()──▶ blocks: dictionary, errno texts, and per stream its segments
 *	segments ──dec_stream_next()──▶ records of one thread, in order
 *	streams ──dec_log_next()──▶ records of the file, by time
 */
#ifndef BINDECODE_DECODE_LOG_H
#define BINDECODE_DECODE_LOG_H

#include "tools/bindecode/decode.h"
#include "tools/bindecode/decode_source.h"
#include "tools/bindecode/decode_time.h"

enum {
	DEC_SEG_MAX = 64 << 20, /* a longer segment is no segment */
	DEC_NOTES_MAX = 256,
	DEC_FRAGMENTS_MAX = 64, /* unfinished long records of one stream */
};

/* A piece of a stream; found as a chunk, in a ring, or as both. */
struct dec_seg {
	uint64_t pos;	/* in the stream */
	uint64_t chunk; /* offset of the CHUNK, 0: none */
	uint64_t sum;	/* of the chunk */
	uint64_t slot;	/* offset of the SEG, 0: none */
	uint32_t used;	/* bytes of the chunk that are in the file, header included */
	uint32_t len;	/* of the slot */
	uint64_t done;	/* what the slot's ring said before it was looked at, 0: nothing */
	bool cut;	/* the file ends inside the chunk */
	bool timed;	/* its calibration points are known */
	uint32_t pid;
	uint32_t tid;
	struct dec_point epoch; /* its first record, ticks 0: none found */
};

/* An area that was no block so far, and how often that was found. */
struct dec_gap {
	uint64_t from;
	uint64_t to;
	unsigned age;
};

struct dec_fragment {
	uint32_t id;
	uint64_t total;
	struct dec_buf data;
};

struct dec_stream {
	struct dec_log *log;
	uint32_t number;
	struct dec_seg *segs; /* by pos */
	size_t nsegs;
	size_t cap;
	uint64_t done; /* records are complete up to this position at least, 0: unknown */

	/* The segment being walked. */
	uint64_t want; /* stream position of the next segment */
	size_t seg;
	uint8_t *buf;
	size_t buf_cap;
	uint32_t at;
	uint32_t end;
	uint32_t settled; /* bytes seen by an earlier read: complete */
	bool loaded;
	bool begun; /* a segment was loaded before */
	bool from_slot;
	bool newest;  /* no later segment was known when the slot was read */
	bool damaged; /* wrong sum */
	uint32_t skip_from;
	uint32_t skipped;
	uint32_t complete; /* bytes of whole records and of damage so far, header included */
	uint32_t last;	   /* end of the last of them */
	unsigned waits;	   /* refreshes spent before a gap */
	uint64_t gap;

	/* Time. */
	uint64_t anchor;
	uint64_t ticks; /* of the last record */
	uint64_t key;	/* largest so far */
	uint64_t key_before;

	uint32_t pid;
	uint32_t tid;
	char comm[17];
	struct dec_fragment *frags;
	unsigned nfrags;
	uint32_t stray; /* id of the fragments without a beginning that were counted last */
	bool has_stray;
	struct dec_buf whole; /* the long record handed out last */
	struct dec_site *inlined;
	uint8_t *inlined_def;
	size_t inlined_len;

	struct dec_record head;
	bool has_head;
	bool in_heap;
	bool primed; /* key is that of a record, not a guess */
};

struct dec_log {
	char *name;
	struct dec_source src;
	unsigned flags; /* enum dec_add_flag */
	struct binlog_header header;
	uint32_t tag;
	struct dec_world world;
	struct dec_counts counts;
	struct dec_note *notes;
	unsigned nnotes;

	struct dec_site **sites; /* by number */
	uint32_t nsites;
	uint64_t *dicts; /* offsets of those read */
	uint32_t ndicts;

	struct dec_stream **streams; /* by number */
	size_t nstreams;
	struct dec_stream **heap; /* by key, then number */
	size_t nheap;
	struct dec_stream *taken; /* whose head was handed out last */

	uint64_t *rings;
	uint32_t nrings;
	uint32_t ring_seg_len; /* 0: no ring was found */
	uint64_t seg_len;      /* of every segment */
	uint64_t walk_from;    /* blocks before it are known, but for the gaps */
	bool walked;
	uint64_t walked_len; /* of the file, and `next`, when it was walked last */
	uint64_t walked_next;
	struct dec_gap *gaps; /* of a live log: areas not filled yet */
	size_t ngaps;
	unsigned round;
	bool fresh; /* something new was found */

	struct dec_time time;
	bool by_real; /* the clock that is common to all logs of a struct decode */
	int64_t base; /* zero of relative time, on that clock */
};

__attribute__((format(printf, 4, 5))) void dec_log_add_note(struct dec_log *log, uint64_t off,
							    uint64_t len, const char *fmt, ...);

int dec_log_open(struct dec_log **ret, const char *name, struct dec_source src, unsigned flags,
		 struct err *err);
void dec_log_close(struct dec_log *log);
int dec_log_next(struct dec_log *log, struct dec_record *ret, struct err *err);
int dec_log_refresh(struct dec_log *log, struct err *err);
bool dec_log_ended(const struct dec_log *log);
/* The length of the file and what changes in its header. */
int dec_log_reread(struct dec_log *log, struct err *err);
/* Time of @ticks on the clock common to all logs. */
int64_t dec_log_ns(struct dec_log *log, uint64_t ticks);

/* Counts what was handed out and is not there; of a log that is read once, after the walk. */
void dec_log_account(struct dec_log *log);
/* Looks at the slots of all rings, and at every block not known yet. */
int dec_index_walk(struct dec_log *log, struct err *err);
/* Reads a block header at @off into host byte order; false: there is none. */
bool dec_index_header(struct dec_log *log, uint64_t off, struct binlog_block *ret);
int dec_dict_read(struct dec_log *log, uint64_t off, const struct binlog_block *h, struct err *err);
int dec_errno_read(struct dec_log *log, uint64_t off, const struct binlog_block *h,
		   struct err *err);
/* Collects the calibration points that the index knows of. */
int dec_index_time(struct dec_log *log, struct err *err);

/* The segment s->seg into s->buf: 1; 0: it is nowhere (any more). */
int dec_seg_load(struct dec_stream *s, struct err *err);
/* Bytes of records that a slot had, by its ring's count, and that were not found walking it. */
uint32_t dec_seg_short(const struct dec_stream *s);
/* Where the segment begins that holds the last byte below @done. */
uint64_t dec_seg_of(const struct dec_log *log, uint64_t done);

void dec_stream_free(struct dec_stream *s);
/* 1: s->head is the next record, 0: no more for now, -errno. */
int dec_stream_next(struct dec_stream *s, struct err *err);
/* Reads again what is being walked in a live ring. */
int dec_stream_reload(struct dec_stream *s, struct err *err);

#endif
