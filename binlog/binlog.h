/* SPDX-License-Identifier: MIT */
/*
 * A log of raw arguments, decoded offline: all a caller includes.
 *
 *	binlog_open("run.blog", NULL, NULL);	a struct err of base/err.h says why it failed
 *	BINLOG(BINLOG_INFO, "read %zu bytes of %s in %.3f s\n", n, path, seconds);
 *	...
 *	binlog_close();
 *
 * and `bindecode run.blog` prints what printf would have printed. The file is described in
 * docs/BINLOG.md.
 *
 * Calls are safe at any time: before main, before binlog_open and after binlog_close (they do
 * nothing then), in signal handlers, in any thread, in a child after fork or a raw clone.
 * A child with its own memory gets a ring of its own in the same file. A raw clone that shares
 * memory needs a thread control block of its own (CLONE_SETTLS), as it does for errno; one that
 * shares it (vfork) may log while its parent waits, and speaks with the parent's tid if that has
 * logged before. Neither opens nor closes a log. Calls in a process that shares memory take some
 * system calls each, a microsecond or two.
 *
 * A call is no cancellation point, and a handler may leave it by longjmp(). Only a handler that
 * both interrupts a call and forks must not return in the child, which would end the call in the
 * ring of its parent. Shared objects with calls of their own may be loaded and unloaded.
 *
 * A unit that includes this needs nothing defined; -std=c11 -pedantic has nothing to say, from
 * gnu99 on it compiles. A child of a raw clone is told from its parent by MADV_WIPEONFORK, of Linux
 * 4.14; on an older kernel that works for fork() alone.
 *
 * A call that has returned is in the file, whatever happens to the process afterwards. What happens
 * to the machine is another matter: binlog_sync().
 */
#ifndef BINLOG_BINLOG_H
#define BINLOG_BINLOG_H

#ifdef __cplusplus
#error "binlog.h is for C: put calls of C++ behind a function that has a va_list, see binlog_vlog()"
#endif

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#include "binlog/call.h"

struct err; /* base/err.h; NULL will do */

/*
 * BINLOG(level, fmt, ...): one line of the log; use it as you use printf, newline included.
 *
 * @level: BINLOG_MSG, _ERR, _WARN, _INFO or _DEBUG, or any int below 255 that is not negative.
 * @fmt: checked against the arguments by the compiler. If it is no literal the whole format goes
 * into the record, which takes longer. %n does not compile. At most 32 arguments behind it: more
 * do not compile either.
 *
 * Every argument is evaluated exactly once, in order, whether the level is wanted or not. errno is
 * preserved, and %m prints what it was. Numbers come out as in the C locale. What %s points to is
 * copied, up to its precision, so nothing of the caller's is kept. A literal costs nothing at run
 * time. strerror() is stored as the number. An __int128 goes under %lld, %llu, %llx and is printed
 * in full.
 *
 * Never blocks, allocates or makes a system call, but once per 64 KiB of records, with all signals
 * blocked; every second time 128 KiB are written out. Where a thread begins and the file has no
 * room for its ring, each lost call takes two (a microsecond), and room is asked for each 10 ms. An
 * expression without value.
 */
#define BINLOG(level, ...) BINLOG_CALL(level, __VA_ARGS__)

/* For wrapping macros: the format of @..., and what is behind it with its comma, if anything is. */
#define BINLOG_FORMAT(...) BINLOG_PP_FIRST(__VA_ARGS__)
#define BINLOG_ARGS(...)   BINLOG_PP_REST(__VA_ARGS__)

/*
 * As BINLOG() for functions that have a va_list: the format is read at run time and stored in the
 * record with @file and @func. Nothing is kept, @ap may be used further. Of a format with more than
 * 32 arguments only its own text is stored.
 */
void binlog_vlog(int level, const char *file, unsigned line, const char *func, const char *fmt,
		 va_list ap) __attribute__((format(printf, 5, 0)));

struct binlog_opts {
	int level;	  /* highest level stored, -1: none */
	bool keep;	  /* fail with -EEXIST if the file exists; else it is replaced */
	unsigned mode;	  /* permissions of the file, before umask */
	uint64_t max_len; /* bound of the file in bytes, 0: none. When it is reached, each thread
			   * that has a ring (128 KiB) keeps the newest in it, a new one takes
			   * that of a thread that has ended or none, and what is dropped is
			   * counted */
};

#define BINLOG_OPTS_DEFAULT                         \
	{                                           \
		.level = BINLOG_DEBUG, .mode = 0600 \
	}

/*
 * Creates the log at @path and starts recording. @opts NULL: the default. Neither they nor @path
 * are kept. Any thread, one at a time; not for signal handlers.
 *
 * 0, or -errno with the reason in @err, and then nothing is recorded; a file that was made is left.
 * One log per process at a time: -EBUSY. -EEXIST: @path is no regular file, or is there and
 * opts.keep is set; another file is unlinked first, so a process that still writes it is not
 * disturbed. -ENOMEM; else what open, write or mmap says. The descriptor is CLOEXEC; if the program
 * closes it behind our back, it is noticed before each write, and the log goes on without: the
 * newest records stay in the rings, the rest is counted as lost. Where RLIMIT_FSIZE ends it goes on
 * likewise; the SIGXFSZ of its own writes reaches nobody. The file must not be cut by others while
 * it is open: SIGBUS.
 */
#define binlog_open(path, opts, err) binlog_open_module(path, opts, &binlog_module, err)
int binlog_open_module(const char *path, const struct binlog_opts *opts, struct binlog_module *mod,
		       struct err *err);

/*
 * Ends recording. The caller's ring, and rings of threads that have ended, are packed; rings of
 * other threads stay in the file as they are, and a call one of them is just making may or may not
 * be recorded. Unused file space (up to 4 MiB) is cut off if no other process writes; one that has
 * ended without this call counts as writing, so a program that calls daemon() opens its log after
 * that. Does nothing if no log is open. Not for signal handlers.
 */
void binlog_close(void);

/*
 * Waits until what is recorded so far, by all threads and processes, is on the disk: fdatasync(2).
 * 0, or -errno; -EBADF if no log is open, or the program closed its descriptor. Any thread; the
 * others go on logging.
 */
int binlog_sync(void);

/* The log's descriptor, for a child that closes all others; -1: no log is open. It stays ours. */
int binlog_fd(void);

/*
 * Records above @level are not stored; -1 stores none. Any thread, any time. binlog_open() sets it
 * to opts.level. A call of another thread that has looked at the level before may still be stored.
 */
void binlog_set_level(int level);
int binlog_level(void);

/* What a sink is given. The strings are the library's, and good until the sink returns. */
struct binlog_line {
	int level;
	unsigned line; /* in @file */
	const char *file;
	const char *func;
	const char *text; /* formatted, NUL-terminated; ends with a newline if the format does */
	size_t len;	  /* of @text, in bytes, without the NUL */
};

/*
 * Calls @sink at once, on the calling thread, for every line of @level or below, open log or not:
 * errors and warnings for the terminal. NULL: no sink. The sink may not call BINLOG. Lines are
 * formatted with vsnprintf; in a signal handler that is as safe as vsnprintf is. Any thread, but
 * not while another one sets a sink; @ctx must live until a moment after the sink was replaced.
 */
void binlog_set_sink(void (*sink)(void *ctx, const struct binlog_line *line), void *ctx, int level);

/*
 * A sink: writes the text to the descriptor that @ctx points to (an int), by write(2), and waits
 * where that does. Errors are nobody's.
 */
void binlog_sink_fd(void *ctx, const struct binlog_line *line);

/* The descriptor of that sink, for a child that closes all others; -1: another sink, or none. */
int binlog_sink_descriptor(void);

struct binlog_stats {
	uint64_t lost_records; /* by all threads and processes of this log, since it was opened */
	uint64_t lost_bytes;   /* of these records */
	uint64_t file_len;     /* bytes of the file handed out so far */
	uint32_t streams;      /* handed out so far: one or more per thread (docs/BINLOG.md, 4) */
	uint32_t sites;	       /* call sites in the dictionary, of all modules */
};

/* 0, or -EBADF if no log is open. The numbers are of one moment each. Any thread. */
int binlog_stats(struct binlog_stats *ret);

#endif
