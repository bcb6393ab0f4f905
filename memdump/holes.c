/* SPDX-License-Identifier: MIT */
/* What of a large mapping a process has only reserved. */
#include "memdump/holes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "memdump/scan.h"

/* So many bytes of holes are read by pagemap in the time that smaps takes for one that is there. */
enum { HOLES_FOR_ONE = 50 };

#define SMALL ((uint64_t)32 << 30)

void md_holes_forget(struct md_holes *h)
{
	free(h->v);
	h->v = NULL;
	h->n = 0;
	h->listed = false;
	h->pid = 0;
	h->resident = 0;
}

static FILE *open_of(int pid, const char *name)
{
	char path[48];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	return fopen(path, "re");
}

/* Without it: all there can be, so that it is not worth it. */
static uint64_t resident(int pid)
{
	cleanup_file FILE *f = open_of(pid, "statm");
	uint64_t pages;

	if (!f || fscanf(f, "%*u %" SCNu64, &pages) != 1)
		return UINT64_MAX;
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static bool note(struct md_holes *h, const struct md_span *s)
{
	struct md_span *v =
		h->n & (h->n - 1) ? h->v : reallocarray(h->v, h->n ? 2 * h->n : 1, sizeof(*v));

	if (!v)
		return false;
	h->v = v;
	h->v[h->n++] = *s;
	return true;
}

static bool has_pages(const char *line)
{
	static const char *const of[] = {"Rss", "Swap", "Private_Hugetlb", "Shared_Hugetlb"};
	uint64_t kb;

	for (size_t i = 0; i < sizeof(of) / sizeof(of[0]); i++) {
		size_t len = strlen(of[i]);

		if (!strncmp(line, of[i], len) && sscanf(line + len, ": %" SCNu64, &kb) == 1 && kb)
			return true;
	}
	return false;
}

/* "Rss:", "Swap:" of the mapping that the last line with addresses began. */
static bool read_smaps(struct md_holes *h, FILE *f)
{
	cleanup_free char *line = NULL;
	struct md_span here = {0}, s;
	bool noted = true;
	size_t room = 0;

	while (getline(&line, &room, f) > 0) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &s.start, &s.end) == 2) {
			here = s;
			noted = false;
		} else if (!noted && has_pages(line)) {
			noted = note(h, &here);
			if (!noted)
				return false;
		}
	}
	return !ferror(f);
}

static void ask_of(struct md_holes *h, int pid)
{
	if (h->pid == pid)
		return;
	md_holes_forget(h);
	h->pid = pid;
	h->resident = resident(pid);
}

static bool list(struct md_holes *h)
{
	cleanup_file FILE *f = h->listed ? NULL : open_of(h->pid, "smaps");

	if (!h->listed && f)
		h->listed = read_smaps(h, f);
	/* Not tried again. */
	if (!h->listed)
		h->resident = UINT64_MAX;
	return h->listed;
}

static uint64_t by_mappings(const struct md_holes *h, uint64_t addr, uint64_t end)
{
	for (size_t i = 0; i < h->n; i++)
		if (h->v[i].end > addr)
			return h->v[i].start < addr  ? addr
			       : h->v[i].start < end ? h->v[i].start
						     : end;
	return end;
}

/* One look ends when a region is full or the end of all is reached. */
static uint64_t by_scan(struct md_holes *h, int fd, uint64_t addr, uint64_t end)
{
	struct md_region region;
	uint64_t to = addr;
	int n = md_pages_look(fd, MD_PICK_PRESENT, false, addr, end, &region, 1, &to);

	h->no_scan = n == -ENOTTY || n == -EINVAL;
	if (n < 0)
		return addr;
	return n ? region.start : to;
}

uint64_t md_holes_end(struct md_holes *h, int pid, int fd, uint64_t addr, uint64_t end)
{
	uint64_t found = h->no_scan ? addr : by_scan(h, fd, addr, end);

	if (!h->no_scan || end - addr < SMALL)
		return found;
	ask_of(h, pid);
	if ((end - addr) / HOLES_FOR_ONE < h->resident || !list(h))
		return addr;
	return by_mappings(h, addr, end);
}
