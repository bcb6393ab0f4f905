/* SPDX-License-Identifier: MIT */
/*
 * Reading binary logs: the records of any number of files, in the order of time, as text or values.
 *
 *	struct decode *d;
 *	struct dec_record rec;
 *	struct dec_buf line;
 *
 *	dec_buf_init(&line);
 *	r = decode_new(&d, err);
 *	r = r ? r : decode_add(d, "stasis.blog", 0, err);
 *	while (!r && (r = decode_next(d, &rec, err)) > 0) {
 *		line.len = 0;
 *		decode_text(&rec, &line);
 *		...
 *	}
 *	decode_free(d);
 *
 * No globals, nothing printed. One struct decode belongs to one thread at a time. A log may be
 * written while it is read. Errors: -ENOMEM, -EIO and the like from reading; -EBADMSG: the file is
 * no binary log, or its dictionary is not that of its program; -EOPNOTSUPP: a later version of the
 * format. Damage inside a log is not an error: it is skipped, counted (struct dec_counts) and named
 * (dec_note).
 */
#ifndef BINDECODE_DECODE_H
#define BINDECODE_DECODE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "binlog/format.h"
#include "tools/bindecode/decode_buf.h"
#include "tools/bindecode/decode_site.h"

struct decode;
struct dec_log;

enum dec_event {
	DEC_CALL, /* a log call */
	DEC_LOSS, /* the writer says that it lost calls here */
};

struct dec_loss {
	uint64_t records;
	uint64_t bytes;
	uint32_t reason; /* enum binlog_loss */
	uint32_t errnum;
};

/* Valid until the next call of decode_next(). */
struct dec_record {
	enum dec_event event;
	struct dec_log *log;
	struct dec_site *site; /* NULL unless DEC_CALL */
	const uint8_t *args;
	uint32_t level;
	uint32_t stream;
	uint32_t pid;
	uint32_t tid;
	const char *comm; /* the thread's name, may be empty */
	uint64_t len;	  /* bytes it takes in the log */
	uint64_t ticks;
	struct dec_loss loss;
};

/* What was found in one log so far. */
struct dec_counts {
	uint64_t records; /* calls */
	uint64_t bytes;	  /* of calls */
	uint64_t blocks;
	uint64_t chunks;
	uint64_t rings;
	uint64_t sites;
	uint64_t losses; /* LOSS records */

	/* Harmless: what a dying or a newer writer leaves, or a wrong call. */
	uint64_t torn_bytes;  /* of calls that never ended */
	uint64_t pending;     /* calls that never ended */
	uint64_t torn_chunks; /* cut short; their rings had the copy */
	uint64_t later_kinds; /* blocks and records of a later version */
	uint64_t bad_values;  /* calls that printf would have failed at, or may have */

	/* Damage. */
	uint64_t skipped_bytes;	   /* no block, no record */
	uint64_t bad_chunks;	   /* wrong sum, and no copy */
	uint64_t bad_header;	   /* 1: its sum is wrong, and it was read all the same */
	uint64_t bad_dicts;	   /* dictionaries not taken */
	uint64_t bad_sites;	   /* formats that do not fit their types */
	uint64_t doubled_sites;	   /* two entries of one number: whose calls are these? */
	uint64_t unknown_sites;	   /* calls whose site is in no dictionary */
	uint64_t missing_bytes;	   /* of streams */
	uint64_t broken_fragments; /* long records that never became whole */
	uint64_t empty_bytes;	   /* of a closed log: handed out, and no block is there */
	uint64_t cut_bytes;	   /* handed out, and not in the file */
	uint64_t lost_streams;	   /* of a closed log: begun, and no segment is there */
	uint64_t missing_chunks;   /* counted by the writer, not in the file */

	/* The like of a log that was not closed, where a dying writer leaves such. */
	uint64_t unfilled_bytes;
	uint64_t unbegun_streams;

	/* The writer's own account. */
	uint64_t lost_records;
	uint64_t lost_bytes;
};

struct dec_note {
	uint64_t off; /* in the file */
	uint64_t len; /* 0: not about bytes */
	char text[104];
};

enum dec_add_flag {
	DEC_ADD_FORCE = 1,  /* take a damaged file header for what it is worth */
	DEC_ADD_FOLLOW = 2, /* decode_refresh() will be called */
	DEC_ADD_TAIL = 4,   /* only the last two segments of every thread */
};

int decode_new(struct decode **ret, struct err *err);
void decode_free(struct decode *d);

/* Adds a log; before the first decode_next(). A file that is not seekable is read to its end. */
int decode_add(struct decode *d, const char *path, unsigned flags, struct err *err);
/* The same for bytes in memory, which must stay there. */
int decode_add_mem(struct decode *d, const char *name, const void *p, size_t len, unsigned flags,
		   struct err *err);

/* 1 and a record, 0 at the end, -errno. */
int decode_next(struct decode *d, struct dec_record *ret, struct err *err);

/*
 * With DEC_ADD_FOLLOW, after decode_next() said 0: looks for what was written since. 1:
 * decode_next() may have more; 0: nothing new; -errno.
 */
int decode_refresh(struct decode *d, struct err *err);
/* No log can grow any more: closed, or its writers are dead. */
bool decode_ended(const struct decode *d);

/* Appends what printf would have printed. False: it would have failed, or the value is damaged. */
bool decode_text(const struct dec_record *rec, struct dec_buf *b);

/* CLOCK_MONOTONIC since the log was opened, and CLOCK_REALTIME. */
int64_t decode_relative_ns(const struct dec_record *rec);
int64_t decode_real_ns(const struct dec_record *rec);

/* The logs, in the order added; NULL past the last. */
struct dec_log *decode_log(const struct decode *d, unsigned i);
const char *dec_log_name(const struct dec_log *log);
const struct binlog_header *dec_log_header(const struct dec_log *log); /* in host byte order */
const struct dec_world *dec_log_world(const struct dec_log *log);
const struct dec_counts *dec_log_counts(const struct dec_log *log);
/* The @i-th thing worth telling, NULL past the last; of very many only the first are kept. */
const struct dec_note *dec_log_note(const struct dec_log *log, unsigned i);
/* Every site of the dictionary in order of number; NULL past the last. @cookie starts at 0. */
struct dec_site *dec_log_site(const struct dec_log *log, uint32_t *cookie);
/* Name of a level for a person. */
const char *decode_level_name(unsigned level);

/*
 * For a program that failed: appends to @b the last @before lines up to and including the last
 * error of the log at @path, and up to @after lines behind it, each with its time. 0 with nothing
 * appended if there is no error in it.
 */
int decode_last_error(const char *path, unsigned before, unsigned after, struct dec_buf *b,
		      struct err *err);

#endif
