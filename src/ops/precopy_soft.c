/* SPDX-License-Identifier: MIT */
/* Pre-copy: how writes are told, and looks at the page tables of either way. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "binlog/pr.h"
#include "memdump/soft_dirty.h"
#include "src/ops/precopy_priv.h"

/* --- which way -------------------------------------------------------------------------------- */

static bool any_tracked(const struct precopy *p)
{
	for (uint32_t i = 0; i < p->tracks->n; i++)
		if (p->tracks->v[i].on)
			return true;
	return false;
}

/* What a dump before noted is of use only while its image is the one that is asked about. */
static int begin_soft(struct precopy *p, struct err *err)
{
	cleanup_fd int fd = -1;
	int ret;

	p->soft = md_soft_new(err);
	if (!p->soft)
		return -err->errnum;
	ret = target_track(p->target, TARGET_WAY_SOFT, err);
	if (ret < 0)
		return ret;
	p->res->soft = true;
	fd = target_notes(p->target);
	p->noted = fd >= 0 && md_soft_load(p->soft, fd) > 0;
	if (fd >= 0 && !p->noted)
		pr_warn("what the last dump noted of writes is not whole\n");
	return 0;
}

/* No process of any tree can be tracked. */
static void say_nothing_works(struct precopy *p, enum tracking how)
{
	char uffd[96] = "no PAGEMAP_SCAN (Linux 6.7)";

	if (how == TRACKING_SOFT) {
		snprintf(p->res->reason, sizeof(p->res->reason),
			 "the kernel has no soft-dirty marks (CONFIG_MEM_SOFT_DIRTY), or keeps "
			 "frame numbers from us (CAP_SYS_ADMIN)");
		return;
	}
	if (md_can_track())
		snprintf(uffd, sizeof(uffd), "no userfaultfd WP_ASYNC (Linux 6.7): %.48s",
			 target_no_wp_async());
	snprintf(p->res->reason, sizeof(p->res->reason), "%s%s", uffd,
		 how == TRACKING_UFFD
			 ? ""
			 : "; no soft-dirty marks (CONFIG_MEM_SOFT_DIRTY, CAP_SYS_ADMIN)");
}

int precopy_arm(struct precopy *p, struct err *err)
{
	const enum tracking how = p->opts->tracking;
	bool uffd = how != TRACKING_SOFT && md_can_track() && target_has_wp_async();
	bool soft = how != TRACKING_UFFD && md_can_soft_dirty();
	int ret;

	if (how == TRACKING_NONE)
		return 0;
	if (!uffd && !soft) {
		say_nothing_works(p, how);
		return 0;
	}
	if (!uffd)
		return begin_soft(p, err);
	ret = target_track(p->target, TARGET_WAY_UFFD, err);
	if (ret < 0 || any_tracked(p) || !p->tracks->n || !soft)
		return ret;
	ret = target_untrack(p->target, err);
	return ret < 0 ? ret : begin_soft(p, err);
}

bool precopy_kept(const struct precopy *p)
{
	return p->tracks->since && p->tracks->since == md_file_id(p->parent) &&
	       (!p->soft || p->noted);
}

/* --- looks ------------------------------------------------------------------------------------ */

static void told_by_others(struct precopy *p)
{
	pr_warn("pid %d: somebody else has cleared soft-dirty marks: all memory counts as written\n",
		p->opts->pid);
	/* What the parent has may be of before that. */
	if (p->since)
		p->res->compared = true;
	p->since = false;
}

static int scan_twice(struct precopy *p, const struct md_range *ranges, size_t n,
		      enum md_soft_step step, precopy_emit *emit, precopy_again *again, void *arg,
		      struct err *err)
{
	int ret = md_soft_scan(p->soft, ranges, n, step, emit, arg, err);

	if (ret != -ESTALE)
		return ret;
	told_by_others(p);
	again(p, arg);
	return md_soft_scan(p->soft, ranges, n, step, emit, arg, err);
}

int precopy_scan(struct precopy *p, const struct md_range *ranges, size_t n, precopy_emit *emit,
		 precopy_again *again, void *arg, struct err *err)
{
	if (p->soft)
		return scan_twice(p, ranges, n, MD_SOFT_LOOK, emit, again, arg, err);
	return md_scan_tracked(ranges, n, emit, arg, err);
}

int precopy_clear(struct precopy *p, const struct md_range *ranges, size_t n, precopy_emit *emit,
		  precopy_again *again, void *arg, struct err *err)
{
	struct err e = {0};
	int ret = target_pause(p->target, err), ret2;

	if (ret < 0)
		return ret;
	ret = scan_twice(p, ranges, n, MD_SOFT_CLEAR, emit, again, arg, err);
	ret2 = target_resume(p->target, &e);
	return ret2 < 0 && ret == 0 ? err_take(err, &e) : ret;
}

/* --- for the next dump ------------------------------------------------------------------------ */

int precopy_keep(struct precopy *p, uint64_t image, struct err *err)
{
	cleanup_fd int fd = -1;
	int ret;

	if (!p->soft)
		return target_track_keep(p->target, image, 0, err);
	fd = memfd_create("stasis-track", MFD_CLOEXEC);
	if (fd < 0)
		return err_set(err, errno, "memory for what the next dump must know");
	ret = md_soft_save(p->soft, fd, err);
	return ret < 0 ? ret : target_track_keep(p->target, image, fd, err);
}
