/* SPDX-License-Identifier: MIT */
/* Which pages of a list of ranges are there to be read. */
#include "memdump/scan.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"

/* Linux 6.7, include/uapi/linux/fs.h */
#define PM_SCAN_IOCTL _IOWR('f', 16, struct pm_scan)
enum {
	SCAN_PROTECT = 1 << 0, /* PM_SCAN_WP_MATCHING */
	CAT_TRACKED = 1 << 0,  /* PAGE_IS_WPALLOWED: by a userfaultfd with WP_ASYNC */
	CAT_WRITTEN = 1 << 1,
	CAT_FILE = 1 << 2,
	CAT_PRESENT = 1 << 3,
	CAT_SWAPPED = 1 << 4,
	CAT_PFNZERO = 1 << 5,
	CAT_GUARD = 1 << 8, /* Linux 6.16 */
};

struct pm_scan {
	uint64_t size;
	uint64_t flags;
	uint64_t start, end;
	uint64_t walk_end;
	uint64_t vec;
	uint64_t vec_len;
	uint64_t max_pages;
	uint64_t category_inverted;
	uint64_t category_mask;
	uint64_t category_anyof_mask;
	uint64_t return_mask;
};

/* Documentation/admin-guide/mm/pagemap.rst */
#define PM_PRESENT (1ULL << 63)
#define PM_SWAP	   (1ULL << 62)
#define PM_FILE	   (1ULL << 61)
#define PM_PFN	   ((1ULL << 55) - 1)

enum {
	MAX_SCAN_PAGES = 1 << 18, /* of one ioctl: keeps a look at 1 GiB of heap below a few ms */
	MAX_PROTECT_PAGES = 1 << 12, /* likewise: a page fault meanwhile waits half a ms at most */
	ENTRIES = 4096,		     /* pagemap words of one read */
	MAX_GAP = 1 << 20, /* between two ranges of one look: what lies there takes time, too */
};

void md_scanner_init(struct md_scanner *s, const struct md_range *ranges, size_t n, bool no_ioctl)
{
	*s = (struct md_scanner){
		.ranges = ranges,
		.n = n,
		.page_size = (uint64_t)sysconf(_SC_PAGESIZE),
		.pagemap_fd = -1,
		.no_ioctl = no_ioctl,
		.data_fd = -1,
		.data_fd_of = -1,
	};
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void md_scanner_deinit(struct md_scanner *s)
{
	close_fd(&s->pagemap_fd);
	close_fd(&s->data_fd);
	free(s->entries);
}

int md_process_alive(int pid, struct err *err)
{
	char byte;
	struct iovec local = {&byte, 1};
	struct iovec remote = {NULL, 1};

	/* EFAULT is the usual answer of a process that lives. */
	if (process_vm_readv(pid, &local, 1, &remote, 1, 0) < 0 && errno == ESRCH)
		return err_set(err, ESRCH, "read the memory of pid %d", pid);
	return 0;
}

/* --- looking at page tables ---------------------------------------------------------------- */

static int open_pagemap(struct md_scanner *s, int pid, struct err *err)
{
	char path[40];

	close_fd(&s->pagemap_fd);
	s->pid = 0;
	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	s->pagemap_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (s->pagemap_fd < 0)
		return err_set(err, errno == ENOENT ? ESRCH : errno, "open %s", path);
	s->pid = pid;
	s->win_start = s->win_end = 0;
	return 0;
}

int md_pages_look(int pagemap_fd, enum md_pick pick, bool guards, uint64_t start, uint64_t end,
		  struct md_region *regions, size_t room, uint64_t *ret_end)
{
	struct pm_scan a = {
		.size = sizeof(a),
		.start = start,
		.end = end,
		.vec = (uintptr_t)regions,
		.vec_len = room,
		.max_pages = MAX_SCAN_PAGES,
		.category_inverted = CAT_PFNZERO,
		.category_mask = CAT_PFNZERO,
		.category_anyof_mask = CAT_PRESENT | CAT_SWAPPED,
		.return_mask = CAT_FILE,
	};
	int n;

	switch (pick) {
	case MD_PICK_DIRTY:
		a.category_mask |= CAT_WRITTEN;
		/* fall through */
	case MD_PICK_TRACK:
		a.flags = SCAN_PROTECT;
		a.max_pages = MAX_PROTECT_PAGES;
		a.return_mask = 0;
		break;
	case MD_PICK_TRACKED:
		/*
		 * All that is not clean: what the kernel has to say of a page takes six times as
		 * long as passing it by, and most are clean. A guard region is not present, so it
		 * is among them.
		 */
		a.category_inverted = CAT_PRESENT | CAT_TRACKED;
		a.category_mask = 0;
		a.category_anyof_mask = CAT_PRESENT | CAT_TRACKED | CAT_WRITTEN;
		a.return_mask = CAT_PRESENT | CAT_SWAPPED | CAT_PFNZERO | CAT_TRACKED | CAT_WRITTEN;
		a.return_mask |= guards ? CAT_GUARD : 0;
		a.max_pages = 0;
		break;
	default:
		break;
	}

	do
		n = ioctl(pagemap_fd, PM_SCAN_IOCTL, &a);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	*ret_end = a.walk_end;
	return a.walk_end > start ? n : -EIO;
}

static int look_ioctl(struct md_scanner *s, enum md_pick pick, uint64_t start, uint64_t end)
{
	int n = md_pages_look(s->pagemap_fd, pick, s->guards, start, end, s->regions,
			      MD_SCAN_REGIONS, &s->win_end);

	if (n < 0)
		return n;
	s->nregions = (size_t)n;
	s->win_start = start;
	return 0;
}

static bool wanted(const struct md_scanner *s, uint64_t word)
{
	if (word & PM_PRESENT)
		return (word & PM_FILE) || !md_zero_has(&s->zero, word & PM_PFN);
	return word & PM_SWAP;
}

static int look_pagemap(struct md_scanner *s, uint64_t start, uint64_t end)
{
	uint64_t ps = s->page_size, pos = start;
	ssize_t n;

	if (!s->entries) {
		s->entries = malloc(ENTRIES * sizeof(uint64_t));
		if (!s->entries)
			return -ENOMEM;
		/* Without the right to see frames zero pages are read and found to be zero later.
		 */
		s->zero = md_zero_find();
	}
	if ((end - start) / ps > ENTRIES)
		end = start + ENTRIES * ps;
	n = io_pread(s->pagemap_fd, s->entries, (end - start) / ps * 8, start / ps * 8);
	if (n < 0)
		return (int)n;
	s->nregions = 0;
	s->win_start = start;
	for (size_t i = 0; i < (size_t)n / 8; i++, pos += ps) {
		uint64_t word = s->entries[i];
		uint64_t cat = word & PM_FILE ? CAT_FILE : 0;
		struct md_region *last = s->nregions ? &s->regions[s->nregions - 1] : NULL;

		if (!wanted(s, word))
			continue;
		if (last && last->end == pos && last->categories == cat) {
			last->end += ps;
			continue;
		}
		if (s->nregions == MD_SCAN_REGIONS) {
			s->win_end = pos;
			return 0;
		}
		s->regions[s->nregions++] = (struct md_region){pos, pos + ps, cat};
	}
	/* The address space ends here: nothing is beyond. */
	s->win_end = end;
	return 0;
}

static bool by_page_tables(const struct md_range *r)
{
	return r->fd == -1 && r->pick != MD_PICK_ALL && r->pick != MD_PICK_DATA &&
	       r->pick != MD_PICK_OWN;
}

/* A look of the one kind is one of the other: what is told and what is done are the same. */
static bool same_look(enum md_pick a, enum md_pick b)
{
	return a == b || (a <= MD_PICK_COW && b <= MD_PICK_COW);
}

/* One look covers the ranges behind this one too, as long as they ascend in the same process. */
static uint64_t group_end(const struct md_scanner *s)
{
	const struct md_range *r = &s->ranges[s->at];
	uint64_t end = r->addr + r->len;

	/* A look finds no more regions than this, so that more ranges are no use. */
	for (size_t i = s->at + 1; i < s->n && i < s->at + MD_SCAN_REGIONS; i++) {
		const struct md_range *k = &s->ranges[i];

		if (k->pid != r->pid || !by_page_tables(k) || !same_look(k->pick, r->pick) ||
		    k->addr < end || k->addr - end > MAX_GAP)
			break;
		/* What is protected must be read: nothing between the ranges may be. */
		if ((r->pick == MD_PICK_TRACK || r->pick == MD_PICK_DIRTY) && k->addr != end)
			break;
		end = k->addr + k->len;
	}
	return end;
}

static int look(struct md_scanner *s, uint64_t start, struct err *err)
{
	enum md_pick pick = s->ranges[s->at].pick;
	int pid = s->ranges[s->at].pid;
	uint64_t end = group_end(s);
	int ret;

	s->found = s->regions;
	if (s->ahead && pick == MD_PICK_TRACKED &&
	    md_look_find(s->ahead, pid, start, &s->found, &s->nregions, &s->win_end)) {
		s->win_start = start;
		ret = 0;
	} else if (!s->no_ioctl) {
		ret = look_ioctl(s, pick, start, end);
		/* The memory of before an exec: that of after it has other page tables. */
		if (ret == -ESRCH && open_pagemap(s, pid, err) == 0)
			ret = look_ioctl(s, pick, start, end);
		if ((ret == -ENOTTY || ret == -EINVAL) && pick <= MD_PICK_COW)
			s->no_ioctl = true; /* before Linux 6.7 */
	} else {
		ret = 0;
	}
	if (s->no_ioctl)
		ret = look_pagemap(s, start, end);
	if (ret < 0)
		return err_set(err, -ret, "look at the page tables of pid %d from %#" PRIx64, pid,
			       start);
	s->region = 0;
	/* The page tables of a process that died are empty, which is not the same as no pages. */
	return s->nregions ? 0 : md_process_alive(pid, err);
}

/* --- the three kinds of range -------------------------------------------------------------- */

static int window(struct md_scanner *s, struct err *err)
{
	const struct md_range *r = &s->ranges[s->at];
	int ret = s->pid == r->pid ? 0 : open_pagemap(s, r->pid, err);

	if (ret == 0 && (s->pos < s->win_start || s->pos >= s->win_end))
		ret = look(s, s->pos, err);
	return ret;
}

/* Between the regions of the window everything is clean. */
static int next_tracked(struct md_scanner *s, uint64_t *ret_addr, uint64_t *ret_len,
			struct err *err)
{
	const struct md_range *r = &s->ranges[s->at];
	uint64_t end = r->addr + r->len;

	while (s->pos < end) {
		const struct md_region *g;
		uint64_t to;
		int ret = window(s, err);

		if (ret < 0)
			return ret;
		while (s->region < s->nregions && s->found[s->region].end <= s->pos)
			s->region++;
		g = s->region < s->nregions ? &s->found[s->region] : NULL;
		s->clean = !g || g->start > s->pos;
		s->guard = !s->clean && (g->categories & CAT_GUARD);
		s->written = !s->clean && (g->categories & CAT_TRACKED);
		to = !g ? s->win_end : s->clean ? g->start : g->end;
		to = to < end ? to : end;
		if (s->clean || ((g->categories & (CAT_PRESENT | CAT_SWAPPED)) &&
				 !(g->categories & CAT_PFNZERO))) {
			/* A swapped page is not present, and may be clean all the same. */
			if (!s->clean)
				s->clean = (g->categories & CAT_TRACKED) &&
					   !(g->categories & CAT_WRITTEN);
			*ret_addr = s->pos;
			*ret_len = to - s->pos;
			return 1;
		}
		s->pos = to;
	}
	return 0;
}

static int next_by_page_tables(struct md_scanner *s, uint64_t *ret_addr, uint64_t *ret_len,
			       struct err *err)
{
	const struct md_range *r = &s->ranges[s->at];
	uint64_t end = r->addr + r->len;

	while (s->pos < end) {
		const struct md_region *g;
		int ret = window(s, err);

		if (ret < 0)
			return ret;
		while (s->region < s->nregions && s->found[s->region].end <= s->pos)
			s->region++;
		g = &s->found[s->region];
		if (s->region == s->nregions || g->start >= end) {
			uint64_t seen = s->region == s->nregions ? s->win_end : g->start;

			s->pos = seen < end ? seen : end;
			continue;
		}
		if (s->pos < g->start)
			s->pos = g->start;
		if (r->pick == MD_PICK_COW && (g->categories & CAT_FILE)) {
			s->pos = g->end < end ? g->end : end;
			continue;
		}
		*ret_addr = s->pos;
		*ret_len = (g->end < end ? g->end : end) - s->pos;
		return 1;
	}
	return 0;
}

/* A description of our own, because seeking in the caller's might move the target's position. */
static void open_data(struct md_scanner *s, int fd)
{
	char path[40];

	if (s->data_fd_of == fd)
		return;
	close_fd(&s->data_fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	s->data_fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	s->data_fd_of = fd;
}

static int next_by_data(struct md_scanner *s, uint64_t *ret_addr, uint64_t *ret_len,
			struct err *err)
{
	const struct md_range *r = &s->ranges[s->at];
	uint64_t end = r->addr + r->len, ps = s->page_size;
	off_t data, hole;

	open_data(s, r->fd);
	if (s->pos >= end)
		return 0;
	if (s->data_fd < 0 || r->pick == MD_PICK_ALL) {
		/* Not to be opened anew: pread needs no position, holes are found to be zero. */
		*ret_addr = s->pos;
		*ret_len = end - s->pos;
		return 1;
	}
	data = lseek(s->data_fd, (off_t)s->pos, SEEK_DATA);
	if (data < 0 && errno == ENXIO)
		return 0;
	if (data < 0)
		return err_set(err, errno, "find data from %#" PRIx64 " in descriptor %d", s->pos,
			       r->fd);
	hole = lseek(s->data_fd, data, SEEK_HOLE);
	if (hole < 0)
		return errno == ENXIO ? 0
				      : err_set(err, errno,
						"find a hole from %#" PRIx64 " in descriptor %d",
						(uint64_t)data, r->fd);
	data -= data % (off_t)ps;
	*ret_addr = (uint64_t)data > s->pos ? (uint64_t)data : s->pos;
	*ret_len = ((uint64_t)hole + ps - 1) / ps * ps;
	*ret_len = *ret_len < end ? *ret_len : end;
	if (*ret_len <= *ret_addr)
		return 0;
	*ret_len -= *ret_addr;
	return 1;
}

static int next_in_range(struct md_scanner *s, uint64_t *ret_addr, uint64_t *ret_len,
			 struct err *err)
{
	const struct md_range *r = &s->ranges[s->at];

	if (r->fd != -1)
		return next_by_data(s, ret_addr, ret_len, err);
	if (r->pick == MD_PICK_TRACKED)
		return next_tracked(s, ret_addr, ret_len, err);
	if (by_page_tables(r))
		return next_by_page_tables(s, ret_addr, ret_len, err);
	*ret_addr = s->pos;
	*ret_len = r->addr + r->len - s->pos;
	return *ret_len > 0;
}

/* A shared segment is stored by offset, wherever it is mapped. */
static uint64_t shift_of(const struct md_range *r)
{
	return r->fd == -1 && MD_SPACE_KIND(r->space) == 1 ? r->stored_as - r->addr : 0;
}

void md_scanner_skip(struct md_scanner *s, int pid)
{
	if (s->at == s->n || s->ranges[s->at].pid != pid || s->ranges[s->at].fd != -1)
		return;
	while (s->at + 1 < s->n && s->ranges[s->at + 1].pid == pid && s->ranges[s->at + 1].fd == -1)
		s->at++;
	/* At the end of its last range. */
	s->begun = true;
	s->pos = s->ranges[s->at].addr + s->ranges[s->at].len;
	close_fd(&s->pagemap_fd);
	s->pid = 0;
	s->win_start = s->win_end = 0;
}

int md_scanner_next(struct md_scanner *s, uint64_t max, struct md_piece *ret, struct err *err)
{
	struct err e = {0};

	for (; s->at < s->n; s->at++, s->begun = false) {
		const struct md_range *r = &s->ranges[s->at];
		uint64_t addr = 0, len = 0;
		int found;

		if (!s->begun) {
			/* Back to a place the window's regions were passed by already. */
			if (r->addr < s->pos)
				s->region = 0;
			s->pos = r->addr;
		}
		s->begun = true;
		found = next_in_range(s, &addr, &len, &e);
		if (found == -ESRCH && s->skip_gone) {
			err_clear(&e);
			md_scanner_skip(s, r->pid);
			continue;
		}
		if (found < 0)
			return err_take(err, &e);
		if (!found)
			continue;
		if (len > max)
			len = max;
		s->pos = addr + len;
		*ret = (struct md_piece){
			.space = r->space,
			.addr = addr,
			.len = len,
			.shift = shift_of(r),
			.clean = r->pick == MD_PICK_TRACKED && s->clean,
			.guard = r->pick == MD_PICK_TRACKED && s->guard,
			.written = r->pick == MD_PICK_TRACKED && s->written,
			.own = r->pick == MD_PICK_OWN,
			.pid = r->pid,
			.kin = r->kin,
			.fd = r->fd == -1	? -1
			      : s->data_fd >= 0 ? s->data_fd
						: r->fd,
		};
		return 1;
	}
	return 0;
}

int md_scan(const struct md_range *range, int (*emit)(void *arg, const struct md_extent *e),
	    void *arg, struct err *err)
{
	struct md_extent e = {0};
	struct md_scanner s;
	struct md_piece p;
	int ret;

	md_scanner_init(&s, range, 1, false);
	while ((ret = md_scanner_next(&s, UINT64_MAX, &p, err)) > 0) {
		p.addr += p.shift;
		if (e.len && p.addr == e.addr + e.len) {
			e.len += p.len;
			continue;
		}
		if (e.len && (ret = emit(arg, &e)) < 0)
			break;
		e = (struct md_extent){p.addr, p.len};
	}
	if (ret == 0 && e.len)
		ret = emit(arg, &e);
	md_scanner_deinit(&s);
	return ret;
}

/* Whether the kernel knows @mask; where it does, it tells of it here. */
static bool knows(uint64_t mask, uint64_t ret_mask)
{
	struct md_region region;
	struct pm_scan a = {
		.size = sizeof(a),
		.start = (uintptr_t)&a & ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1),
		.vec = (uintptr_t)&region,
		.vec_len = 1,
		.category_anyof_mask = mask,
		.return_mask = ret_mask,
	};
	cleanup_fd int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	a.end = a.start + (uint64_t)sysconf(_SC_PAGESIZE);
	return fd >= 0 && ioctl(fd, PM_SCAN_IOCTL, &a) >= 0;
}

bool md_can_track(void)
{
	return knows(CAT_PRESENT | CAT_WRITTEN, CAT_TRACKED);
}

bool md_can_see_guards(void)
{
	return knows(CAT_PRESENT, CAT_GUARD);
}
