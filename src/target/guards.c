/* SPDX-License-Identifier: MIT */
/* Guard regions: pages that MADV_GUARD_INSTALL made inaccessible inside a mapping. */
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/target/files.h"
#include "src/target/target.h"

/* Linux 6.7; the category of guard regions came with 6.16: include/uapi/linux/fs.h */
struct pm_scan {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define PM_SCAN_IOCTL _IOWR('f', 16, struct pm_scan)
enum { CAT_GUARD = 1 << 8 };

struct region {
	uint64_t start, end, categories;
};

static int guard_add(struct model *m, struct m_mm *mm, const struct region *r)
{
	struct m_guard *last = mm->nguards ? &mm->guards[mm->nguards - 1] : NULL;

	if (last && last->end == r->start) {
		last->end = r->end;
		return 0;
	}
	last = model_push(m, &mm->guards, &mm->nguards, sizeof(*last));
	if (!last)
		return -ENOMEM;
	*last = (struct m_guard){r->start, r->end};
	return 0;
}

/*
 * One walk over the page tables. A kernel that does not know the category says EINVAL: then nobody
 * can tell where the regions are, but for their being absent.
 */
int target_guards(struct model *m, int pagemap_fd, uint64_t start, uint64_t end, struct m_mm *mm)
{
	struct region found[64];
	struct pm_scan arg = {
		.size = sizeof(arg),
		.start = start,
		.end = end,
		.vec = (uint64_t)(uintptr_t)found,
		.vec_len = sizeof(found) / sizeof(found[0]),
		.category_mask = CAT_GUARD,
		.return_mask = CAT_GUARD,
	};

	while (arg.start < arg.end) {
		int n = ioctl(pagemap_fd, PM_SCAN_IOCTL, &arg);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return 0;
		for (int i = 0; i < n; i++)
			if (guard_add(m, mm, &found[i]) < 0)
				return -ENOMEM;
		if (arg.walk_end <= arg.start)
			return 0;
		arg.start = arg.walk_end;
	}
	return 0;
}

int guards_collect(struct model *m, const struct proc_at *at, struct m_mm *mm, struct err *err)
{
	cleanup_fd int fd = openat(at->dir, "pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t end = 0;

	if (fd < 0 || !mm->nvmas)
		return 0;
	/* The page of [vsyscall] is no user memory: PAGEMAP_SCAN refuses such an end. */
	for (uint32_t i = 0; i < mm->nvmas && mm->vmas[i].end < INT64_MAX; i++)
		end = mm->vmas[i].end;
	if (target_guards(m, fd, mm->vmas[0].start, end, mm) < 0)
		return err_set(err, ENOMEM, "guard regions of pid %u", at->pid);
	return 0;
}
