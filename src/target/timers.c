/* SPDX-License-Identifier: MIT */
/* The text of /proc/PID/timers. */
#include "src/target/timers.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "src/target/procfs.h"

enum { NOTIFY_SIGNAL = 0, NOTIFY_NONE = 1, NOTIFY_THREAD = 2, NOTIFY_THREAD_ID = 4 };

static const char *value_of(const char *line, const char *key)
{
	size_t len = strlen(key);

	return strncmp(line, key, len) ? NULL : line + len;
}

/* "signal/pid.2634", "signal/tid.2635", "none/pid.0" */
static void take_notify(const char *p, struct m_posix_timer *t)
{
	const char *slash = p + strcspn(p, "/\n");

	if (!strncmp(p, "none/", 5))
		t->notify = NOTIFY_NONE;
	else if (!strncmp(p, "thread/", 7))
		t->notify = NOTIFY_THREAD;
	else
		t->notify = NOTIFY_SIGNAL;
	if (strncmp(slash, "/tid.", 5) != 0)
		return;
	t->notify |= NOTIFY_THREAD_ID;
	t->notify_tid = (int32_t)strtol(slash + 5, NULL, 10);
}

static void take_signal(const char *p, struct m_posix_timer *t)
{
	uint64_t v;

	if (!procfs_dec(&p, &v))
		return;
	t->signo = (uint32_t)v;
	if (*p++ == '/' && procfs_hex(&p, &v))
		t->sigval = v;
}

static int by_id(const void *a, const void *b)
{
	const struct m_posix_timer *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

int timers_parse(struct model *m, const char *text, struct m_proc *p)
{
	struct m_posix_timer *t = NULL;

	for (const char *line = text; line && *line;) {
		const char *v;

		if ((v = value_of(line, "ID: "))) {
			t = model_push(m, &p->posix_timers, &p->nposix_timers, sizeof(*t));
			if (!t)
				return -ENOMEM;
			t->id = (int32_t)strtol(v, NULL, 10);
		} else if (t && (v = value_of(line, "signal: "))) {
			take_signal(v, t);
		} else if (t && (v = value_of(line, "notify: "))) {
			take_notify(v, t);
		} else if (t && (v = value_of(line, "ClockID: "))) {
			/* CPU-time clocks have negative numbers. */
			t->clock_id = (int32_t)strtol(v, NULL, 10);
		}
		line = strchr(line, '\n');
		line += line != NULL;
	}
	if (p->nposix_timers)
		qsort(p->posix_timers, p->nposix_timers, sizeof(*t), by_id);
	return 0;
}
