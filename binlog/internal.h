/* SPDX-License-Identifier: MIT */
/*
 * What the files of binlog/ share: the open log, the process, and file space.
 *
 * Life: a struct binlog_log lives from open to close; whoever looks at it outside binlog.c does so
 * between binlog_enter() and binlog_leave(), and close waits for them.
 */
#ifndef BINLOG_INTERNAL_H
#define BINLOG_INTERNAL_H

/* For all of libc. Who builds binlog/ need not say so; it counts before the first header alone. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <signal.h>
#include <stdarg.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/err.h"
#include "binlog/binlog.h"

struct binlog_log {
	/* Immutable while open. */
	int fd;
	dev_t dev;
	ino_t ino;
	uint32_t tag;
	uint32_t generation; /* counts the logs of this process, from 1 */
	uint64_t max_len;
	/* No room for a ring: until when nobody tries again (CLOCK_MONOTONIC), and why. Atomic. */
	uint64_t no_ring_until_ns;
	int no_ring_errnum;
	/* Shared with other processes; fields by the functions below only. */
	struct binlog_header *hdr;
};

struct thread;

/* A page wiped on fork: zero is its state in a new process. */
struct binlog_proc {
	int lock;		/* of modules and dictionaries */
	int users;		/* threads between enter and leave */
	int closing;		/* somebody waits for users to become 0 */
	int pid;		/* of the process, not of one it shares its memory with */
	int attached;		/* this process counts in the header's writers */
	struct thread *threads; /* all that ever had a ring; only grows */
};

/* --- binlog.c --- */

extern int binlog_sink_level;
extern int binlog_file_level;

/* Counts the logs of this process from 1; 0: none is open. */
uint32_t binlog_open_generation(void);

/*
 * The open log, or NULL: then there is nothing to leave. Behind a shield only: who would never come
 * to leave it, by longjmp() or by cancellation, lets binlog_close() wait for ever.
 */
struct binlog_log *binlog_enter(void);
void binlog_leave(void);

/* NULL if there is no memory for a page. */
struct binlog_proc *binlog_proc(void);

/* A zeroed page that a forked child finds zeroed; NULL: no memory. */
void *binlog_wiped_page(void);

/* This process writes from now on. */
void binlog_writer_add(struct binlog_log *log);

/* Passes the line to the sink. */
void binlog_sink(const struct binlog_line *line);

/* Nothing happens to the thread in between: neither a signal handler nor its cancellation. */
struct binlog_shield {
	sigset_t signals;
	int cancel;
};

void binlog_shield(struct binlog_shield *ret);
void binlog_unshield(const struct binlog_shield *s);

/* Modules and dictionaries; behind a shield only. */
void binlog_lock(void);
void binlog_unlock(void);

/* --- space.c: the file --- */

uint64_t binlog_sum(const void *data, size_t len);
void binlog_block_seal(struct binlog_block *b, const struct binlog_log *log, unsigned type,
		       uint64_t off, uint64_t len);

/* Counters of the header, little endian in place. Return what was there. */
uint64_t binlog_add64(uint64_t *v, uint64_t n);
uint32_t binlog_add32(uint32_t *v, uint32_t n);

void binlog_count_lost(struct binlog_log *log, uint64_t records, uint64_t bytes);

/* Hands out @len bytes of file at a multiple of @align. -EFBIG: the bound. */
int binlog_space_take(struct binlog_log *log, uint64_t len, uint64_t align, uint64_t *ret_off);

/* Gives back what could not be filled, if nobody has taken more since. */
void binlog_space_untake(struct binlog_log *log, uint64_t off, uint64_t len);
/* @len bytes of the file at @off, shared; safe in a signal handler. -errno. */
int binlog_space_map(struct binlog_log *log, uint64_t off, size_t len, char **ret);
void binlog_space_unmap(char *p, size_t len);

/*
 * Space for a ring, mapped. Who logs all the time where there is none asks each 10 ms, and not for
 * each call: until then binlog_space_none() says why, -errno.
 */
int binlog_space_ring(struct binlog_log *log, uint64_t len, uint64_t *ret_off, char **ret_map);
int binlog_space_none(const struct binlog_log *log);

/* False: the program has closed it, and may have another file under the number. */
bool binlog_fd_is_ours(const struct binlog_log *log);

/* Makes sure that storing to mapped [off, off+len) cannot fail for want of space. */
int binlog_space_back(struct binlog_log *log, uint64_t off, uint64_t len);

/* Writes all of @iov at @off, if the descriptor is still ours (-EBADF). Changes @iov. */
int binlog_space_write(struct binlog_log *log, uint64_t off, struct iovec *iov, unsigned n);

/* Writes a few bytes in one page where there is file already: all of them or none. -errno. */
int binlog_space_put(struct binlog_log *log, uint64_t off, const void *data, size_t len);

void binlog_calibrate(struct binlog_calib *ret);
/* Takes 0.1 ms since the calibration @since, if the CPU does not say. */
uint64_t binlog_ticks_hz(const struct binlog_calib *since);

/* --- segment.c --- */

struct binlog_contents {
	uint64_t calls;
	uint64_t bytes;
	uint64_t told_records; /* in LOSS records */
	uint64_t told_bytes;
};

/*
 * @lost_long: ids of long records of this stream of which a piece is lost already. Each of them
 * counts as one call, however many pieces it has.
 */
void binlog_segment_count(const char *seg, uint32_t lost_long[4], struct binlog_contents *ret);

/* Stores a record at @p, its word last; returns where the next one goes. */
char *binlog_record_put(char *p, unsigned site, uint64_t ticks, const void *body, size_t len);
char *binlog_record_epoch(char *p, const struct binlog_calib *now);

/* A call that began in it has not come to its end. */
bool binlog_segment_is_unfinished(const char *seg);

struct binlog_chunk {
	uint32_t stream;
	uint32_t pid;
	uint32_t tid;
	uint32_t used; /* bytes of records */
	uint64_t pos;  /* of the segment */
	const char *records;
};

/* So many bytes of records fill a segment but for less than BINLOG_ALIGN. */
bool binlog_chunk_is_whole(uint32_t used);

/* Makes the header at @off of the file, which is mapped at @page, that of a ring of @owner. */
void binlog_ring_name(struct binlog_log *log, const struct binlog_chunk *owner, uint64_t off,
		      char *page);

/*
 * Copies @n segments (up to BINLOG_NSEGS) into chunks by one write: all of them or none. All but
 * the last are whole and lie in their slots, with zeros behind their records.
 */
int binlog_chunk_write(struct binlog_log *log, const struct binlog_chunk *c, unsigned n);

/* --- ring.c --- */

/* Packs rings that nobody writes any more. All threads of the process take the slow path next. */
void binlog_rings_close(struct binlog_log *log);

/* --- dict.c --- */

/* Before the module is given to the two below, and without the lock: what object it lies in. */
void binlog_dict_find(struct binlog_module *mod);

/* These need the lock. Write the dictionary of the program and of every module known so far. */
int binlog_dict_open(struct binlog_log *log, struct binlog_module *mod);

/* Gives the module its numbers and writes its dictionary, once per log, failure included. */
void binlog_dict_add(struct binlog_log *log, struct binlog_module *mod);

int binlog_errno_write(struct binlog_log *log);

/* The type in the dictionary and record, after the format was looked at (binlog_plan()). */
uint8_t binlog_stored_type(const struct binlog_arg *a);
uint8_t binlog_site_flags(const struct binlog_info *info);

/* After a change of the sink level: which sites take the slow path. */
void binlog_dict_words(void);

/* --- fmt.c --- */

/* One conversion of a format. */
struct conv {
	const char *start; /* the % */
	const char *end;   /* behind the conversion letter */
	int arg;	   /* argument printed; -1: none (%%, %m) */
	int width;	   /* number, -1: none */
	int width_arg;	   /* -1: none */
	int prec_arg;	   /* -1: none */
	int prec;	   /* number, -1: none */
	char flags[8];	   /* of "#0- +'I" */
	char length;	   /* 0, 'H' hh, 'h', 'l', 'q' ll, 'j', 'z', 't', 'L' */
	char letter;	   /* 0: malformed */
};

struct conv_iter {
	const char *next;
	int arg; /* next argument of a format without positions */
};

/* false: no further conversion. */
bool binlog_conv_next(struct conv_iter *it, struct conv *ret);

#define BINLOG_PLAN_ERRNO 1 /* the format has %m */

/* Fills use, prec and star of @nargs arguments; returns BINLOG_PLAN_* . */
unsigned binlog_plan(const char *fmt, struct binlog_arg *args, unsigned nargs);

/* Types of the arguments from the format alone; the number of them, or -EINVAL. */
int binlog_types_of(const char *fmt, struct binlog_arg *args, unsigned max);

/* --- encode.c, text.c --- */

struct value {
	union {
		uint64_t word; /* integers and pointers, sign-extended */
		double f64;
		long double ldbl;
		binlog_u128 wide;
	};
};

/* Formats into @buf as snprintf does. */
int binlog_text(char *buf, size_t size, const char *fmt, const struct binlog_arg *args,
		const struct value *values, unsigned nargs, int errnum);

#endif
