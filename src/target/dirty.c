/* SPDX-License-Identifier: MIT */
/* Write tracking of a running tree by userfaultfd: armed and taken away. */
#include "src/target/dirty.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "binlog/pr.h"
#include "src/target/gather.h"
#include "src/target/procfs.h"
#include "src/target/remote.h"
#include "src/target/script.h"
#include "src/target/smaps.h"

#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15) /* Linux 6.7 */
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1 /* Linux 5.11 */
#endif

/* Below this a process is copied while frozen sooner than it is armed. */
enum { WORTH_BYTES = 2 << 20 };

struct armed {
	pid_t pid;
	int uffd;  /* -1: gone */
	bool left; /* the memory that it was of: an exec */
	struct target_track *report;
};

struct dirty {
	struct target_tracks *report;
	struct armed *v;
	uint32_t n;
	int notes_fd; /* -1: none */
	struct smaps smaps;
};

static void forget_notes(struct dirty *d)
{
	if (d->notes_fd >= 0)
		close(d->notes_fd);
	d->notes_fd = -1;
	d->report->notes = 0;
}

struct dirty *dirty_new(struct target_tracks *report, struct err *err)
{
	struct dirty *d = calloc(1, sizeof(*d));

	if (d)
		d->v = calloc(TARGET_TRACKS, sizeof(*d->v));
	if (!d || !d->v) {
		free(d);
		err_set(err, ENOMEM, "reserve memory for write tracking");
		return NULL;
	}
	d->report = report;
	d->notes_fd = -1;
	return d;
}

void dirty_close(struct dirty *d)
{
	if (!d)
		return;
	dirty_disarm(d);
	forget_notes(d);
	smaps_deinit(&d->smaps);
	free(d->v);
	free(d);
}

/* --- arming ----------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static void why_not(struct target_track *r, const char *fmt,
							  ...)
{
	va_list ap;

	va_start(ap, fmt);
	r->on = false;
	vsnprintf(r->why, sizeof(r->why), fmt, ap);
	va_end(ap);
}

/* Made by the process, so that it is of its memory, and then ours alone. */
static int fetch(struct remote *r, pid_t pid, const char **ret_what, struct err *err)
{
	const uint64_t make_it[6] = {O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY};
	cleanup_fd int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	int64_t made, closed;
	int fd, errnum;

	*ret_what = "userfaultfd";
	made = FAULT("target.track") ? -EPERM
				     : script_one(r, r->first, SYS_userfaultfd, make_it, err);
	if (made < 0)
		return (int)made;
	*ret_what = "pidfd_getfd";
	fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, (int)made, 0);
	errnum = errno;
	if (FAULT("target.track_fetched"))
		raise(SIGKILL);
	closed = script_one(r, r->first, SYS_close, (const uint64_t[6]){(uint64_t)made}, err);
	if (closed < 0 && fd >= 0) {
		close(fd);
		*ret_what = "close";
		return (int)closed;
	}
	return fd >= 0 ? fd : -errnum;
}

/* --- registering ------------------------------------------------------------------------------ */

int target_private(pid_t pid, int (*emit)(void *arg, uint64_t start, uint64_t end), void *arg,
		   struct err *err)
{
	struct smaps s = {0};
	int ret = smaps_read(&s, pid, "maps");

	if (ret < 0)
		err_set(err, -ret, "read /proc/%d/maps", pid);
	for (uint32_t i = 0; ret == 0 && i < s.n; i++)
		if (smaps_trackable(&s, &s.v[i]))
			ret = emit(arg, s.v[i].start, s.v[i].end);
	smaps_deinit(&s);
	return ret;
}

/* Both ascend: what is behind a mapping is looked at again for the next one. */
struct within {
	const struct target_tracks *tracks;
	uint32_t at, end; /* spans of the process */
	int (*emit)(void *arg, uint64_t start, uint64_t end);
	void *arg;
};

static int emit_within(void *varg, uint64_t start, uint64_t end)
{
	struct within *w = varg;
	const struct target_span *s = w->tracks->spans;
	int ret = 0;

	while (w->at < w->end && s[w->at].end <= start)
		w->at++;
	for (uint32_t i = w->at; ret == 0 && i < w->end && s[i].start < end; i++)
		ret = w->emit(w->arg, s[i].start > start ? s[i].start : start,
			      s[i].end < end ? s[i].end : end);
	return ret;
}

/* Where the spans of @pid begin; they lie side by side. */
static uint32_t spans_of(const struct target_tracks *t, pid_t pid, uint32_t *ret_end)
{
	uint32_t at = 0, end;

	while (at < t->nspans && t->spans[at].pid != (uint32_t)pid)
		at++;
	for (end = at; end < t->nspans && t->spans[end].pid == (uint32_t)pid;)
		end++;
	*ret_end = end;
	return at;
}

int target_armed(const struct target_tracks *t, pid_t pid,
		 int (*emit)(void *arg, uint64_t start, uint64_t end), void *arg, struct err *err)
{
	struct within w = {.tracks = t, .emit = emit, .arg = arg};

	w.at = spans_of(t, pid, &w.end);
	return target_private(pid, emit_within, &w, err);
}

static uint64_t status_bytes(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at ? strtoull(at + strlen(key), NULL, 10) << 10 : 0;
}

uint64_t target_private_bytes(pid_t pid)
{
	char text[4096];

	if (procfs_read(text, sizeof(text), "/proc/%d/status", pid) <= 0)
		return 0;
	return status_bytes(text, "\nRssAnon:") + status_bytes(text, "\nVmSwap:");
}

static void drop(struct armed *a)
{
	close(a->uffd);
	a->uffd = -1;
}

/* The @i-th mapping of a list; false: not of the kind that is tracked. */
typedef bool mapping_at(const void *list, uint32_t i, struct target_span *ret);

static bool at_smaps(const void *list, uint32_t i, struct target_span *ret)
{
	const struct smaps *s = list;

	ret->start = s->v[i].start;
	ret->end = s->v[i].end;
	return smaps_trackable(s, &s->v[i]);
}

static bool at_model(const void *list, uint32_t i, struct target_span *ret)
{
	const struct m_vma *v = &((const struct m_mm *)list)->vmas[i];

	ret->start = v->start;
	ret->end = v->end;
	return v->kind == M_VMA_ANON && !v->shared && !(v->flags & M_VMF_HUGETLB);
}

/* What was told by ranges that could not be registered. */
struct told {
	bool busy; /* somebody else has it */
	bool gone; /* this is no longer the memory that the userfaultfd is of: an exec */
};

static bool register_one(const struct armed *a, const struct target_span *s, struct told *told)
{
	struct uffdio_register reg = {
		.range = {s->start, s->end - s->start},
		.mode = UFFDIO_REGISTER_MODE_WP,
	};

	if (ioctl(a->uffd, UFFDIO_REGISTER, &reg) == 0)
		return true;
	/* Else of a kind the kernel refuses: it is copied while frozen. */
	told->busy |= errno == EBUSY;
	told->gone |= errno == ENOMEM || errno == ESRCH;
	return false;
}

/* Rounds look at no other memory; without room for one more it is copied while frozen. */
static void note_span(struct target_tracks *t, const struct armed *a, const struct target_span *s)
{
	if (t && t->nspans < TARGET_SPANS) {
		t->spans[t->nspans] = *s;
		t->spans[t->nspans++].pid = (uint32_t)a->pid;
	}
}

/*
 * The process stands still, so that every range is one of whole mappings: a part of one would split
 * it, and mremap() of both parts together fails then. Neighbours go in one call. What is registered
 * with us already stays as it is.
 */
static struct told register_all(const struct armed *a, mapping_at *at, const void *list, uint32_t n,
				struct target_tracks *note)
{
	struct told told = {0};
	uint32_t next;

	for (uint32_t i = 0; i < n && !told.busy && !told.gone; i = next) {
		struct target_span s, more;

		next = i + 1;
		if (!at(list, i, &s))
			continue;
		for (; next < n && at(list, next, &more) && more.start == s.end; next++)
			s.end = more.end;
		if (register_one(a, &s, &told)) {
			note_span(note, a, &s);
			continue;
		}
		for (uint32_t k = i; next > i + 1 && k < next && !told.busy; k++)
			if (at(list, k, &s) && register_one(a, &s, &told))
				note_span(note, a, &s);
	}
	return told;
}

/*
 * Who else protects pages of this process would be told nothing of writes that we are told of, nor
 * we of those that he is.
 */
static void give_up(struct armed *a)
{
	why_not(a->report, "another userfaultfd has memory of it");
	drop(a);
}

static void leave(struct armed *a)
{
	why_not(a->report, "it has called exec since");
	drop(a);
	a->left = true;
}

static void register_in(struct dirty *d, struct armed *a)
{
	const uint32_t nspans = d->report->nspans;
	struct told told;

	if (smaps_read(&d->smaps, a->pid, "maps") < 0)
		return;
	told = register_all(a, at_smaps, &d->smaps, d->smaps.n, d->report);
	if (!told.busy && !told.gone)
		return;
	d->report->nspans = nspans;
	if (told.busy)
		give_up(a);
	else
		leave(a);
}

static struct armed *armed_find(const struct dirty *d, pid_t pid)
{
	for (uint32_t i = 0; i < d->n; i++)
		if (d->v[i].pid == pid)
			return d->v[i].uffd >= 0 ? &d->v[i] : NULL;
	return NULL;
}

bool dirty_others(struct dirty *d, pid_t pid, const struct smaps *s)
{
	struct armed *a = armed_find(d, pid);
	uint32_t end, at = spans_of(d->report, pid, &end);

	/* Memory of ours that has grown since lies in a span at least with one end. */
	for (uint32_t i = 0; a && i < s->n; i++) {
		const struct target_span *span = d->report->spans;

		while (at < end && span[at].end <= s->v[i].start)
			at++;
		if (!s->v[i].wp || (at < end && span[at].start < s->v[i].end))
			continue;
		give_up(a);
		return true;
	}
	return false;
}

static bool sure(struct armed *a, const struct m_proc *p)
{
	struct told told = register_all(a, at_model, &p->mm, p->mm.nvmas, NULL);

	if (told.busy) {
		give_up(a);
	} else if (told.gone) {
		leave(a);
	}
	return !told.busy;
}

/* Each of them takes an eighth of a microsecond. */
static bool has_many(const struct m_proc *p)
{
	enum { MANY = 1024 };

	return p->mm.nvmas > MANY;
}

bool dirty_sure(struct dirty *d, const struct m_proc *p)
{
	struct armed *a = armed_find(d, (pid_t)p->pid);

	if (!a)
		return true;
	if (!has_many(p))
		return sure(a, p);
	d->report->unsure = true;
	return true;
}

pid_t dirty_sure_rest(struct dirty *d, const struct model *m)
{
	pid_t first = 0;

	d->report->unsure = false;
	for (uint32_t i = 0; i < m->nprocs; i++) {
		const struct m_proc *p = &m->procs[i];
		struct armed *a = p->shares_vm ? NULL : armed_find(d, (pid_t)p->pid);

		if (a && has_many(p) && !sure(a, p) && !first)
			first = (pid_t)p->pid;
	}
	return first;
}

/* --- arming, continued ------------------------------------------------------------------------ */

/* Every task's true state must be known before one of them is used for a call. */
static int prepare(struct tree *t, const struct proc *p, struct err *err)
{
	int ret = 0;

	for (uint32_t i = 0; ret == 0 && i < p->ntasks; i++)
		ret = threads_ready(t, tree_proc_task(t, p, i), err);
	return ret;
}

static int arm_in(struct dirty *d, struct tree *t, struct proc *p, struct armed *a, struct err *err)
{
	/* WP_ASYNC alone: memory without pages is not looked at, so it needs no marks. */
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC};
	struct procfs_status st;
	struct remote r = {.mem_fd = -1};
	const char *what = "status";
	int fd, ret;

	ret = prepare(t, p, err);
	if (ret == 0)
		ret = procfs_status(tree_proc_task(t, p, 0)->tid, t->text, TREE_TEXT, &st);
	if (ret < 0)
		return ret;
	for (uint32_t i = 0; i < p->ntasks; i++)
		tree_proc_task(t, p, i)->seccomp = st.seccomp != 0;
	ret = remote_open(&r, t, p, st.sig_caught, 1, err);
	fd = ret < 0 ? ret : fetch(&r, p->pid, &what, err);
	remote_close(&r);
	if (ret < 0)
		return ret;
	if (fd < 0) {
		why_not(a->report, "%s: %s", what, strerrordesc_np(-fd));
		return 0;
	}
	if (ioctl(fd, UFFDIO_API, &api) < 0) {
		why_not(a->report, "userfaultfd without WP_ASYNC (Linux 6.7): %s",
			strerrordesc_np(errno));
		close(fd);
		return 0;
	}
	a->report->on = true;
	*a = (struct armed){.pid = p->pid, .uffd = fd, .report = a->report};
	if (a == &d->v[d->n])
		d->n++;
	register_in(d, a);
	return 0;
}

bool dirty_armed(const struct dirty *d, uint32_t i, pid_t *ret_pid, int *ret_uffd)
{
	if (i >= d->n)
		return false;
	*ret_pid = d->v[i].pid;
	*ret_uffd = d->v[i].uffd;
	return true;
}

void dirty_adopt(struct dirty *d, pid_t pid, int uffd, uint64_t since)
{
	struct target_tracks *rep = d->report;

	if (rep->n == TARGET_TRACKS) {
		close(uffd);
		return;
	}
	rep->since = since;
	rep->v[rep->n] = (struct target_track){.pid = (uint32_t)pid, .on = true, .kept = true};
	d->v[d->n++] = (struct armed){.pid = pid, .uffd = uffd, .report = &rep->v[rep->n++]};
}

void dirty_adopt_notes(struct dirty *d, int fd, uint64_t since)
{
	forget_notes(d);
	d->notes_fd = fd;
	d->report->notes = fd;
	d->report->since = since;
}

int dirty_notes(const struct dirty *d)
{
	return d->notes_fd;
}

int dirty_take_notes(struct dirty *d, struct err *err)
{
	const int theirs = d->report->notes;
	char path[48];

	forget_notes(d);
	if (!theirs)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", getppid(), theirs);
	d->notes_fd = open(path, O_RDWR | O_CLOEXEC);
	return d->notes_fd < 0 ? err_set(err, errno, "open %s", path) : 0;
}

uint64_t dirty_since(const struct dirty *d)
{
	return d->report->since;
}

void dirty_forget_since(struct dirty *d)
{
	d->report->since = 0;
}

static bool worth_it(const struct proc *p)
{
	return p->state == PROC_LIVE && !p->headless && target_private_bytes(p->pid) >= WORTH_BYTES;
}

/* A keeper of the other way tells nothing that is of use now. */
static void list_all(struct dirty *d, const struct tree *t)
{
	if (d->n)
		dirty_forget_since(d);
	dirty_disarm(d);
	d->report->n = 0;
	for (uint32_t i = 0; i < t->nprocs && d->report->n < TARGET_TRACKS; i++)
		if (worth_it(&t->procs[i]))
			d->report->v[d->report->n++] =
				(struct target_track){.pid = (uint32_t)t->procs[i].pid, .on = true};
}

/* Tracked, given up, or of memory that the process has left. */
static struct armed *known(const struct dirty *d, pid_t pid)
{
	for (uint32_t i = 0; i < d->n; i++)
		if (d->v[i].pid == pid)
			return &d->v[i];
	return NULL;
}

/* One that was given up would be again. */
/* One for each process, armed or not; NULL: there is no room. */
static struct target_track *report_of(struct target_tracks *t, pid_t pid)
{
	for (uint32_t i = 0; i < t->n; i++)
		if (t->v[i].pid == (uint32_t)pid)
			return &t->v[i];
	return t->n < TARGET_TRACKS ? &t->v[t->n++] : NULL;
}

static struct armed *to_arm(struct dirty *d, const struct proc *p)
{
	struct armed *a = known(d, p->pid);

	if ((a && !a->left) || !worth_it(p))
		return NULL;
	if (!a) {
		struct target_track *report = report_of(d->report, p->pid);

		if (!report)
			return NULL;
		a = &d->v[d->n];
		a->report = report;
	}
	*a->report = (struct target_track){.pid = (uint32_t)p->pid};
	return a;
}

int dirty_arm(struct dirty *d, struct tree *t, enum target_way way, struct err *err)
{
	if (way == TARGET_WAY_SOFT) {
		list_all(d, t);
		return 0;
	}
	if (d->notes_fd >= 0)
		dirty_forget_since(d);
	forget_notes(d);
	d->report->nspans = 0;
	/* Mappings that have come since a keeper was handed them, too. */
	for (uint32_t i = 0; i < d->n; i++)
		if (d->v[i].uffd >= 0)
			register_in(d, &d->v[i]);
	for (uint32_t i = 0; i < t->nprocs; i++) {
		struct armed *a = to_arm(d, &t->procs[i]);
		struct err why = {0};
		int ret = a ? arm_in(d, t, &t->procs[i], a, &why) : 0;

		if (ret < 0 && (why.class == ERR_TARGET_GONE || why.class == ERR_TIMEOUT))
			return err_take(err, &why);
		if (ret < 0)
			why_not(a->report, "%s", why.errnum ? why.msg : strerrordesc_np(-ret));
	}
	return 0;
}

bool dirty_tracks(const struct dirty *d, pid_t pid)
{
	return armed_find(d, pid);
}

void dirty_disarm(struct dirty *d)
{
	for (uint32_t i = 0; i < d->n; i++)
		if (d->v[i].uffd >= 0)
			drop(&d->v[i]);
	d->n = 0;
}
