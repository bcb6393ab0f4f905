/* SPDX-License-Identifier: MIT */
/*
 * Text of /proc: reading it, and the parsers of stat and status.
 *
 * The text is the kernel's, but a thread's name inside it is the target's own: every parser takes
 * any bytes without harm. No allocation. Any thread.
 */
#ifndef TARGET_PROCFS_H
#define TARGET_PROCFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * A file under /proc, whole, with a NUL behind it. Length, or -errno; what is longer than @room - 1
 * is cut. A task that has gone is -ESRCH or -ENOENT.
 */
__attribute__((format(printf, 3, 4))) ssize_t procfs_read(char *buf, size_t room, const char *fmt,
							  ...);

/* As readlink(2) with a NUL; length or -errno. */
__attribute__((format(printf, 3, 4))) ssize_t procfs_link(char *buf, size_t room, const char *fmt,
							  ...);

/* A text file read line by line, however long it is. */
struct procfs_lines {
	int fd; /* -1: text in memory */
	char *buf;
	size_t room, len, pos;
	bool end;
	int error; /* positive errno of a failed read */
};

/*
 * @buf is the caller's and must hold the longest line twice; what is longer is cut in pieces.
 * -errno when the file cannot be opened.
 */
__attribute__((format(printf, 4, 5))) int procfs_lines_open(struct procfs_lines *l, char *buf,
							    size_t room, const char *fmt, ...);
/* The same over @len bytes at @text, which is changed; one byte behind them must be there, too. */
void procfs_lines_text(struct procfs_lines *l, char *text, size_t len);
/* The next line without its newline, NUL-terminated, valid until the next call; NULL at the end. */
char *procfs_lines_next(struct procfs_lines *l);
void procfs_lines_close(struct procfs_lines *l);

/* /proc/PID/stat. */
struct procfs_stat {
	char comm[16];
	char state; /* R S D T t Z X I ... */
	pid_t pid, ppid, pgid, sid;
	uint32_t flags; /* PF_* */
	uint64_t utime_ticks, stime_ticks;
	uint32_t nthreads;
	uint64_t start_time; /* ticks since boot */
	uint64_t start_code, end_code, start_stack;
	uint64_t start_data, end_data, start_brk, arg_start, arg_end, env_start, env_end;
	uint32_t exit_signal; /* 0: none */
	uint32_t cpu;	      /* that it is on, or was last */
	uint32_t exit_code;
};

enum { PROCFS_PF_KTHREAD = 0x00200000 };

/* -EBADMSG when it is not such a line. */
int procfs_parse_stat(const char *text, struct procfs_stat *ret);
/* /proc/@pid/stat, or /proc/@pid/task/@tid/stat when @tid is not 0. */
int procfs_stat(pid_t pid, pid_t tid, struct procfs_stat *ret);

/* /proc/PID/status, what of it we need. */
struct procfs_status {
	char state;
	pid_t tgid, pid, ppid, tracer;
	pid_t ns_tgid, ns_pid, ns_pgid, ns_sid; /* innermost pid namespace */
	uint32_t uid[4], gid[4];		/* real, effective, saved, file system */
	uint32_t umask;
	uint64_t cap_inh, cap_prm, cap_eff, cap_bnd, cap_amb;
	uint64_t sig_pending, sig_shared, sig_blocked, sig_ignored, sig_caught;
	uint32_t no_new_privs, seccomp;
	uint64_t nvcsw;			/* voluntary_ctxt_switches */
	uint32_t shadow, shadow_locked; /* bits of x86-64's shadow stack features, Linux 6.6 */
	uint64_t ignored;   /* address bits that the CPU is to ignore (untag_mask, Linux 6.4) */
	const char *groups; /* the rest of the Groups line in the text, NULL: none */
};

int procfs_parse_status(const char *text, struct procfs_status *ret);
/*
 * The process has asked for addresses with bits that do not count: LAM of x86-64. Those of aarch64
 * never count, and a mask is there always.
 */
bool procfs_masks_addresses(const struct procfs_status *st, uint16_t machine);
/* @text receives the file; @ret->groups points into it. */
int procfs_status(pid_t tid, char *text, size_t room, struct procfs_status *ret);

/* Unsigned numbers of a text; false and *@p untouched when there is none there. */
bool procfs_dec(const char **p, uint64_t *ret);
bool procfs_hex(const char **p, uint64_t *ret);

#endif
