/* SPDX-License-Identifier: MIT */
/* The text of /proc/PID/fdinfo/FD. */
#include "src/target/fdinfo.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "src/target/procfs.h"

static const char *next_line(const char *p)
{
	p = strchr(p, '\n');
	return p && p[1] ? p + 1 : NULL;
}

/* Behind "@key" at the beginning of a line, or NULL. */
static const char *value_of(const char *line, const char *key)
{
	size_t len = strlen(key);

	return strncmp(line, key, len) ? NULL : line + len;
}

static const char *find(const char *text, const char *key)
{
	const char *v;

	for (const char *line = text; line; line = next_line(line)) {
		v = value_of(line, key);
		if (v)
			return v;
	}
	return NULL;
}

static bool take_octal(const char *p, uint64_t *ret)
{
	uint64_t v = 0;

	while (*p == ' ' || *p == '\t')
		p++;
	if (*p < '0' || *p > '7')
		return false;
	for (; *p >= '0' && *p <= '7'; p++)
		v = v << 3 | (uint64_t)(*p - '0');
	*ret = v;
	return true;
}

static bool take_signed(const char *p, int64_t *ret)
{
	uint64_t v;
	bool minus;

	while (*p == ' ' || *p == '\t')
		p++;
	minus = *p == '-';
	p += minus;
	if (!procfs_dec(&p, &v))
		return false;
	*ret = (int64_t)(minus ? -v : v);
	return true;
}

int fdinfo_parse(const char *text, struct fdinfo *ret)
{
	const char *p = find(text, "pos:");
	uint64_t flags;
	int64_t v;

	*ret = (struct fdinfo){.mnt_id = -1};
	if (p && take_signed(p, &v))
		ret->pos = (uint64_t)v;
	p = find(text, "mnt_id:");
	if (p && take_signed(p, &v))
		ret->mnt_id = (int32_t)v;
	p = find(text, "eventfd-id:");
	if (p && take_signed(p, &v))
		ret->object = (uint64_t)v;
	p = find(text, "flags:");
	if (!p || !take_octal(p, &flags))
		return -EBADMSG;
	ret->flags = (uint32_t)flags;
	return 0;
}

static void fill_eventfd(const char *text, struct m_file *file)
{
	const char *p = find(text, "eventfd-count:");
	uint64_t v;

	if (p && procfs_hex(&p, &v))
		file->eventfd_count = v;
	/* Linux 6.5 */
	p = find(text, "eventfd-semaphore:");
	if (p && procfs_dec(&p, &v))
		file->eventfd_semaphore = v != 0;
}

static void fill_signalfd(const char *text, struct m_file *file)
{
	const char *p = find(text, "sigmask:");
	uint64_t v;

	if (p && procfs_hex(&p, &v))
		file->signalfd_mask = v;
}

/* "it_value: (0, 49406829)" */
static void take_timespec(const char *p, uint64_t *ret_ns)
{
	uint64_t sec, nsec;

	if (!p)
		return;
	while (*p == ' ' || *p == '(')
		p++;
	if (!procfs_dec(&p, &sec) || *p++ != ',' || !procfs_dec(&p, &nsec))
		return;
	*ret_ns = sec * 1000000000ULL + nsec;
}

static void fill_timerfd(const char *text, struct m_file *file)
{
	const char *p = find(text, "clockid:");
	uint64_t v;

	if (p && procfs_dec(&p, &v))
		file->timerfd.clockid = (uint32_t)v;
	p = find(text, "ticks:");
	if (p && procfs_dec(&p, &v))
		file->timerfd.ticks = v;
	p = find(text, "settime flags:");
	if (p && take_octal(p, &v))
		file->timerfd.settime_flags = (uint32_t)v;
	take_timespec(find(text, "it_value:"), &file->timerfd.value_ns);
	take_timespec(find(text, "it_interval:"), &file->timerfd.interval_ns);
}

/* Moves @p behind "@key" if that stands on the same line. */
static bool seek_key(const char **p, const char *key)
{
	const char *at = memmem(*p, strcspn(*p, "\n"), key, strlen(key));

	if (!at)
		return false;
	*p = at + strlen(key);
	return true;
}

/* "tfd:        5 events:       19 data:  5  pos:0 ino:45 sdev:f" */
static bool take_target(const char *p, struct m_epoll_target *t)
{
	uint64_t fd, events, data, v;

	if (!procfs_dec(&p, &fd) || !seek_key(&p, "events:") || !procfs_hex(&p, &events) ||
	    !seek_key(&p, "data:") || !procfs_hex(&p, &data))
		return false;
	*t = (struct m_epoll_target){.fd = (uint32_t)fd, .events = (uint32_t)events, .data = data};
	/* Linux 4.17 */
	if (seek_key(&p, "pos:") && procfs_dec(&p, &v))
		t->pos = v;
	if (seek_key(&p, "ino:") && procfs_hex(&p, &v))
		t->ino = v;
	if (seek_key(&p, "sdev:") && procfs_hex(&p, &v))
		t->dev = (uint32_t)v;
	return true;
}

static int fill_epoll(struct model *m, const char *text, struct m_file *file)
{
	uint32_t n = 0;

	for (const char *line = text; line; line = next_line(line))
		n += value_of(line, "tfd:") != NULL;
	if (!n)
		return 0;
	file->targets = model_alloc(m, n * sizeof(*file->targets));
	if (!file->targets)
		return -ENOMEM;
	for (const char *line = text; line; line = next_line(line)) {
		const char *p = value_of(line, "tfd:");

		if (p && take_target(p, &file->targets[file->ntargets]))
			file->ntargets++;
	}
	return 0;
}

/*
 * "inotify wd:3 ino:9e7e sdev:800013 mask:800afce ignored_mask:0 fhandle-bytes:8 fhandle-type:1
 * f_handle:7e9e0000640d1b6d" on one line; without a handle when the file system has none.
 */
static bool take_watch(const char *p, struct m_watch *w)
{
	uint64_t wd, ino, dev, mask, ignored, len, type;

	if (!seek_key(&p, "wd:") || !procfs_hex(&p, &wd) || !seek_key(&p, "ino:") ||
	    !procfs_hex(&p, &ino) || !seek_key(&p, "sdev:") || !procfs_hex(&p, &dev) ||
	    !seek_key(&p, "mask:") || !procfs_hex(&p, &mask))
		return false;
	*w = (struct m_watch){
		.wd = (uint32_t)wd, .ino = ino, .dev = (uint32_t)dev, .mask = (uint32_t)mask};
	if (seek_key(&p, "ignored_mask:") && procfs_hex(&p, &ignored))
		w->ignored_mask = (uint32_t)ignored;
	if (!seek_key(&p, "fhandle-bytes:") || !procfs_hex(&p, &len) ||
	    !seek_key(&p, "fhandle-type:") || !procfs_hex(&p, &type) ||
	    !seek_key(&p, "f_handle:") || len > sizeof(w->handle))
		return true;
	for (uint64_t i = 0; i < len; i++) {
		char two[3] = {p[2 * i], p[2 * i] ? p[2 * i + 1] : '\0', '\0'};
		const char *q = two;
		uint64_t byte;

		if (!two[1] || !procfs_hex(&q, &byte) || *q)
			return true;
		w->handle[i] = (uint8_t)byte;
	}
	w->handle_type = (uint32_t)type;
	w->handle_len = (uint32_t)len;
	return true;
}

static int fill_inotify(struct model *m, const char *text, struct m_file *file)
{
	for (const char *line = text; line; line = next_line(line)) {
		struct m_watch w, *e;

		if (!value_of(line, "inotify ") || !take_watch(line, &w))
			continue;
		e = model_push(m, &file->watches, &file->nwatches, sizeof(*e));
		if (!e)
			return -ENOMEM;
		*e = w;
	}
	return 0;
}

/* NSpid has one number for each namespace, ours first: the target's own is the last. */
static void fill_pidfd(const char *text, struct m_file *file)
{
	const char *p = find(text, "Pid:");
	int64_t pid;
	uint64_t v;

	file->pidfd_pid = -1;
	if (!p || !take_signed(p, &pid) || pid <= 0)
		return;
	file->pidfd_pid = (int32_t)pid;
	p = find(text, "NSpid:");
	while (p && procfs_dec(&p, &v))
		if (v && v <= INT32_MAX)
			file->pidfd_pid = (int32_t)v;
}

int fdinfo_fill(struct model *m, const char *text, struct m_file *file)
{
	switch (file->type) {
	case M_FILE_EVENTFD:
		fill_eventfd(text, file);
		return 0;
	case M_FILE_SIGNALFD:
		fill_signalfd(text, file);
		return 0;
	case M_FILE_TIMERFD:
		fill_timerfd(text, file);
		return 0;
	case M_FILE_EVENTPOLL:
		return fill_epoll(m, text, file);
	case M_FILE_INOTIFY:
		return fill_inotify(m, text, file);
	case M_FILE_PIDFD:
		fill_pidfd(text, file);
		return 0;
	default:
		return 0;
	}
}
