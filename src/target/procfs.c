/* SPDX-License-Identifier: MIT */
/* Text of /proc: reading it, and the parsers of stat and status. */
#include "src/target/procfs.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"

enum { PATH_ROOM = 128 };

ssize_t procfs_read(char *buf, size_t room, const char *fmt, ...)
{
	char path[PATH_ROOM];
	cleanup_fd int fd = -1;
	va_list ap;
	ssize_t n;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = io_read(fd, buf, room - 1);
	if (n < 0)
		return n;
	buf[n] = '\0';
	return n;
}

ssize_t procfs_link(char *buf, size_t room, const char *fmt, ...)
{
	char path[PATH_ROOM];
	va_list ap;
	ssize_t n;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	n = readlink(path, buf, room - 1);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return n;
}

int procfs_lines_open(struct procfs_lines *l, char *buf, size_t room, const char *fmt, ...)
{
	char path[PATH_ROOM];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	*l = (struct procfs_lines){.buf = buf, .room = room};
	l->fd = open(path, O_RDONLY | O_CLOEXEC);
	return l->fd < 0 ? -errno : 0;
}

void procfs_lines_text(struct procfs_lines *l, char *text, size_t len)
{
	*l = (struct procfs_lines){.fd = -1, .buf = text, .room = len + 1, .len = len, .end = true};
}

static void lines_fill(struct procfs_lines *l)
{
	ssize_t n;

	memmove(l->buf, l->buf + l->pos, l->len - l->pos);
	l->len -= l->pos;
	l->pos = 0;
	/* One byte stays free for the NUL of a last line without newline. */
	do {
		n = read(l->fd, l->buf + l->len, l->room - 1 - l->len);
	} while (n < 0 && errno == EINTR);
	if (n <= 0) {
		l->error = n < 0 ? errno : 0;
		l->end = true;
	} else {
		l->len += (size_t)n;
	}
}

char *procfs_lines_next(struct procfs_lines *l)
{
	for (;;) {
		char *line = l->buf + l->pos;
		char *nl = memchr(line, '\n', l->len - l->pos);

		if (nl) {
			*nl = '\0';
			l->pos = (size_t)(nl - l->buf) + 1;
			return line;
		}
		if (!l->end && (l->pos || l->len < l->room - 1)) {
			lines_fill(l);
			continue;
		}
		if (l->pos == l->len)
			return NULL;
		/* No newline: the end of the file, or a line longer than the buffer. */
		l->buf[l->len] = '\0';
		l->pos = l->len;
		return *line ? line : NULL;
	}
}

void procfs_lines_close(struct procfs_lines *l)
{
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
}

bool procfs_dec(const char **p, uint64_t *ret)
{
	const char *s = *p;
	uint64_t v = 0;

	while (*s == ' ' || *s == '\t')
		s++;
	if (*s < '0' || *s > '9')
		return false;
	for (; *s >= '0' && *s <= '9'; s++)
		v = v * 10 + (uint64_t)(*s - '0');
	*p = s;
	*ret = v;
	return true;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

bool procfs_hex(const char **p, uint64_t *ret)
{
	const char *s = *p;
	uint64_t v = 0;

	while (*s == ' ' || *s == '\t')
		s++;
	if (s[0] == '0' && s[1] == 'x' && hex_digit(s[2]) >= 0)
		s += 2;
	if (hex_digit(*s) < 0)
		return false;
	for (; hex_digit(*s) >= 0; s++)
		v = v << 4 | (uint64_t)hex_digit(*s);
	*p = s;
	*ret = v;
	return true;
}

/* A number that may have a minus sign, as the fields of stat do. */
static bool signed_dec(const char **p, int64_t *ret)
{
	const char *s = *p;
	uint64_t v;
	bool minus;

	while (*s == ' ')
		s++;
	minus = *s == '-';
	s += minus;
	if (!procfs_dec(&s, &v))
		return false;
	*ret = (int64_t)(minus ? -v : v);
	*p = s;
	return true;
}

int procfs_parse_stat(const char *text, struct procfs_stat *ret)
{
	/* The name may hold anything, also ") R 1": the last parenthesis ends it. */
	const char *open = strchr(text, '('), *close = strrchr(text, ')');
	int64_t f[53] = {0}; /* by field number of proc(5) */
	const char *p = text;
	size_t len;
	int n;

	if (!open || !close || close < open || !signed_dec(&p, &f[1]))
		return -EBADMSG;
	memset(ret, 0, sizeof(*ret));
	len = (size_t)(close - open) - 1;
	if (len > sizeof(ret->comm) - 1)
		len = sizeof(ret->comm) - 1;
	memcpy(ret->comm, open + 1, len);
	if (close[1] != ' ' || !close[2])
		return -EBADMSG;
	ret->state = close[2];
	p = close + 3;
	for (n = 4; n <= 52 && signed_dec(&p, &f[n]); n++)
		;
	if (n < 23)
		return -EBADMSG;
	ret->pid = (pid_t)f[1];
	ret->ppid = (pid_t)f[4];
	ret->pgid = (pid_t)f[5];
	ret->sid = (pid_t)f[6];
	ret->flags = (uint32_t)f[9];
	ret->utime_ticks = (uint64_t)f[14];
	ret->stime_ticks = (uint64_t)f[15];
	ret->nthreads = (uint32_t)f[20];
	ret->start_time = (uint64_t)f[22];
	ret->start_code = (uint64_t)f[26];
	ret->end_code = (uint64_t)f[27];
	ret->start_stack = (uint64_t)f[28];
	ret->exit_signal = (uint32_t)f[38];
	ret->cpu = (uint32_t)f[39];
	ret->start_data = (uint64_t)f[45];
	ret->end_data = (uint64_t)f[46];
	ret->start_brk = (uint64_t)f[47];
	ret->arg_start = (uint64_t)f[48];
	ret->arg_end = (uint64_t)f[49];
	ret->env_start = (uint64_t)f[50];
	ret->env_end = (uint64_t)f[51];
	ret->exit_code = (uint32_t)f[52];
	return 0;
}

int procfs_stat(pid_t pid, pid_t tid, struct procfs_stat *ret)
{
	char text[1024];
	ssize_t n;

	n = tid ? procfs_read(text, sizeof(text), "/proc/%d/task/%d/stat", pid, tid)
		: procfs_read(text, sizeof(text), "/proc/%d/stat", pid);
	if (n < 0)
		return (int)n;
	return procfs_parse_stat(text, ret);
}

/* Up to four numbers; the last one is also that of the innermost namespace. */
static uint32_t numbers(const char *p, uint32_t out[4])
{
	uint32_t n = 0, last = 0;
	uint64_t v;

	while (procfs_dec(&p, &v)) {
		if (n < 4)
			out[n] = (uint32_t)v;
		last = (uint32_t)v;
		n++;
	}
	return last;
}

static uint64_t number(const char *p)
{
	uint64_t v = 0;

	procfs_dec(&p, &v);
	return v;
}

static uint64_t hex(const char *p)
{
	uint64_t v = 0;

	procfs_hex(&p, &v);
	return v;
}

static uint32_t octal(const char *p)
{
	uint32_t v = 0;

	while (*p == ' ' || *p == '\t')
		p++;
	for (; *p >= '0' && *p <= '7'; p++)
		v = v << 3 | (uint32_t)(*p - '0');
	return v;
}

/* Words of ARCH_SHSTK_*, each followed by a space. */
static uint32_t shadow_bits(const char *v)
{
	static const char *const names[] = {"shstk", "wrss"};
	uint32_t bits = 0;

	for (v += strspn(v, " \t"); *v && *v != '\n'; v += strspn(v, " \t")) {
		size_t len = strcspn(v, " \t\n");

		for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			if (len == strlen(names[i]) && !memcmp(v, names[i], len))
				bits |= 1u << i;
		v += len;
	}
	return bits;
}

static void status_line(const char *key, size_t len, const char *v, struct procfs_status *r)
{
	uint32_t four[4] = {0};

#define KEY(s) (len == sizeof(s) - 1 && !memcmp(key, s, sizeof(s) - 1))
	if (KEY("State")) {
		while (*v == ' ' || *v == '\t')
			v++;
		r->state = *v;
	} else if (KEY("Tgid")) {
		r->tgid = (pid_t)number(v);
	} else if (KEY("Pid")) {
		r->pid = (pid_t)number(v);
	} else if (KEY("PPid")) {
		r->ppid = (pid_t)number(v);
	} else if (KEY("TracerPid")) {
		r->tracer = (pid_t)number(v);
	} else if (KEY("Uid")) {
		numbers(v, r->uid);
	} else if (KEY("Gid")) {
		numbers(v, r->gid);
	} else if (KEY("Groups")) {
		r->groups = v;
	} else if (KEY("Umask")) {
		r->umask = octal(v);
	} else if (KEY("NStgid")) {
		r->ns_tgid = (pid_t)numbers(v, four);
	} else if (KEY("NSpid")) {
		r->ns_pid = (pid_t)numbers(v, four);
	} else if (KEY("NSpgid")) {
		r->ns_pgid = (pid_t)numbers(v, four);
	} else if (KEY("NSsid")) {
		r->ns_sid = (pid_t)numbers(v, four);
	} else if (KEY("CapInh")) {
		r->cap_inh = hex(v);
	} else if (KEY("CapPrm")) {
		r->cap_prm = hex(v);
	} else if (KEY("CapEff")) {
		r->cap_eff = hex(v);
	} else if (KEY("CapBnd")) {
		r->cap_bnd = hex(v);
	} else if (KEY("CapAmb")) {
		r->cap_amb = hex(v);
	} else if (KEY("SigPnd")) {
		r->sig_pending = hex(v);
	} else if (KEY("ShdPnd")) {
		r->sig_shared = hex(v);
	} else if (KEY("SigBlk")) {
		r->sig_blocked = hex(v);
	} else if (KEY("SigIgn")) {
		r->sig_ignored = hex(v);
	} else if (KEY("SigCgt")) {
		r->sig_caught = hex(v);
	} else if (KEY("NoNewPrivs")) {
		r->no_new_privs = (uint32_t)number(v);
	} else if (KEY("Seccomp")) {
		r->seccomp = (uint32_t)number(v);
	} else if (KEY("voluntary_ctxt_switches")) {
		r->nvcsw = number(v);
	} else if (KEY("untag_mask")) {
		r->ignored = ~hex(v);
	} else if (KEY("x86_Thread_features")) {
		r->shadow = shadow_bits(v);
	} else if (KEY("x86_Thread_features_locked")) {
		r->shadow_locked = shadow_bits(v);
	}
#undef KEY
}

int procfs_parse_status(const char *text, struct procfs_status *ret)
{
	memset(ret, 0, sizeof(*ret));
	/* The kernel escapes newlines in the name, so that lines are lines. */
	for (const char *line = text; line && *line;) {
		const char *nl = strchr(line, '\n');
		const char *colon = strchr(line, ':');

		if (colon && (!nl || colon < nl))
			status_line(line, (size_t)(colon - line), colon + 1, ret);
		line = nl ? nl + 1 : NULL;
	}
	return ret->tgid && ret->pid ? 0 : -EBADMSG;
}

bool procfs_masks_addresses(const struct procfs_status *st, uint16_t machine)
{
	return machine == EM_X86_64 && st->ignored;
}

int procfs_status(pid_t tid, char *text, size_t room, struct procfs_status *ret)
{
	ssize_t n = procfs_read(text, room, "/proc/%d/status", tid);

	return n < 0 ? (int)n : procfs_parse_status(text, ret);
}
