/* SPDX-License-Identifier: MIT */
/* Pre-copy: what comes while memory is copied, and whether the stop is as short as is allowed. */
#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "binlog/pr.h"
#include "src/ops/precopy_priv.h"

enum {
	/* For less the tree is not stopped once more: it is read while frozen in two milliseconds.
	 */
	WORTH = 4 << 20,
};

void precopy_note_rate(struct precopy *p, uint64_t bytes, uint64_t now_ns)
{
	if (p->began_ns && now_ns > p->began_ns)
		p->res->dirty_bytes_s =
			(uint64_t)((double)bytes / (double)(now_ns - p->began_ns) * 1e9);
}

/* --- what has come since ---------------------------------------------------------------------- */

static int add_other(void *arg, const struct md_range *range, const struct md_extent *e,
		     enum md_seen seen)
{
	uint64_t *sum = arg;

	*sum += seen == MD_SEEN_OTHER ? e->len : 0;
	return 0;
}

int precopy_track_more(struct precopy *p, uint64_t dirty, struct err *err)
{
	uint64_t mapped = 0;
	struct err e = {0};
	int ret;

	if (p->soft)
		return 0;
	p->untracked = target_untracked_bytes(p->target);
	/* The ranges are those of the prediction. */
	if (dirty >= WORTH && md_look_each(NULL, p->ranges, p->nranges, add_other, &mapped, &e) < 0)
		pr_debug("memory that is not tracked: %s\n", e.msg);
	if (p->untracked + mapped < WORTH)
		return 0;
	pr_info("%" PRIu64 " bytes of new processes and %" PRIu64 " of new mappings\n",
		p->untracked, mapped);
	ret = target_track(p->target, TARGET_WAY_MORE, err);
	if (ret < 0)
		return ret;
	p->res->late = true;
	if (p->tracks->stop_ns > p->res->arm_ns)
		p->res->arm_ns = p->tracks->stop_ns;
	p->res->tracked = 0;
	for (uint32_t i = 0; i < p->tracks->n; i++)
		p->res->tracked += p->tracks->v[i].on;
	return 0;
}

/* --- the budget ------------------------------------------------------------------------------- */

static int over_budget(const struct precopy *p, uint64_t ns, uint64_t most, uint64_t untracked,
		       struct err *err)
{
	err_fail(err, EBUSY, ERR_BUDGET,
		 "pid %d would stand still for about %" PRIu64 " ms, and at most %" PRIu64
		 " ms are allowed: it writes about %" PRIu64 " kB/s, and %" PRIu64
		 " kB of its memory are not tracked",
		 p->opts->pid, ns / 1000000, most / 1000000, p->res->dirty_bytes_s / 1000,
		 untracked / 1000);
	err_hint(err, "allow more with --max-freeze, or dump it without --strict-freeze");
	return -EBUSY;
}

/* Read from a descriptor, and not tracked: shared memory, at most what it has on its file system.
 */
static uint64_t shared_bytes(const struct md_range *r)
{
	struct stat st;

	if (fstat(r->fd, &st) < 0)
		return 0;
	return (uint64_t)st.st_blocks * 512 < r->len ? (uint64_t)st.st_blocks * 512 : r->len;
}

static uint64_t clean_bytes(const struct precopy *p, int pid)
{
	const uint64_t space = MD_SPACE_PROC(pid);
	uint64_t sum = 0;

	for (size_t i = extents_find(&p->clean, space, 0);
	     i < p->clean.n && p->clean.v[i].space == space; i++)
		sum += p->clean.v[i].len;
	return sum;
}

/*
 * What is to be read: of each process all private memory but what is clean, pages that were copied
 * from files among them; each descriptor once.
 */
static uint64_t left_bytes(const struct precopy *p, const struct ranges *r)
{
	uint64_t sum = 0;
	int pid = 0, fd = -1;

	for (size_t i = 0; i < r->n; i++) {
		const struct md_range *range = &r->v[i];

		if (range->fd != -1 && range->fd != fd) {
			fd = range->fd;
			sum += shared_bytes(range);
		} else if (range->fd == -1 && range->pid != pid) {
			uint64_t all = target_private_bytes(range->pid);
			uint64_t clean = clean_bytes(p, range->pid);

			pid = range->pid;
			sum += all > clean ? all - clean : 0;
		}
	}
	return sum;
}

int precopy_budget(const struct precopy *p, const struct ranges *r, struct err *err)
{
	const uint64_t most = p->opts->max_freeze_ns ? p->opts->max_freeze_ns : DUMP_MAX_FREEZE_NS;
	uint64_t ns = p->res->predicted_ns, untracked = p->untracked;

	if (!p->opts->strict_freeze)
		return 0;
	if (r) {
		uint64_t left = left_bytes(p, r), written = extents_bytes(&p->written);

		ns = precopy_now_ns() - target_times(p->target)->freeze_begin_ns +
		     left / PRECOPY_READ_BYTES_US * 1000;
		untracked = left > written ? left - written : 0;
	}
	return ns > most ? over_budget(p, ns, most, untracked, err) : 0;
}
