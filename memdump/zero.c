/* SPDX-License-Identifier: MIT */
/* The kernel's pages of zeros. */
#include "memdump/zero.h"

#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"

/* Documentation/admin-guide/mm/pagemap.rst */
#define PM_PRESENT (1ULL << 63)
#define PM_FRAME   ((1ULL << 55) - 1)

enum { MOST = 128 /* Linux arch/s390/mm/init.c: order 7 */ };

/* The frames of the first @n pages at @p, which were only read. */
static bool frames_of(int fd, volatile char *p, size_t page_size, size_t n, uint64_t *ret)
{
	for (size_t i = 0; i < n; i++)
		if (p[i * page_size])
			return false;
	if (io_pread(fd, ret, n * sizeof(*ret), (uintptr_t)p / page_size * sizeof(*ret)) !=
	    (ssize_t)(n * sizeof(*ret)))
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!(ret[i] & PM_PRESENT) || !(ret[i] & PM_FRAME))
			return false;
		ret[i] &= PM_FRAME;
	}
	return true;
}

static struct md_zero look(int fd, volatile char *p, size_t page_size)
{
	struct md_zero z = {0};
	uint64_t v[MOST], last;

	if (!frames_of(fd, p, page_size, 2, v))
		return z;
	z = (struct md_zero){v[0], 1};
	if (v[0] == v[1] || !frames_of(fd, p, page_size, MOST, v))
		return z;
	last = v[0];
	for (size_t i = 0; i < MOST; i++) {
		z.first = v[i] < z.first ? v[i] : z.first;
		last = v[i] > last ? v[i] : last;
	}
	/* Further apart: something else than what is told above. */
	z.n = last - z.first < MOST ? last - z.first + 1 : 0;
	return z;
}

struct md_zero md_zero_find(void)
{
	const size_t page_size = (size_t)sysconf(_SC_PAGESIZE), len = MOST * page_size;
	cleanup_fd int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	void *p = mmap(NULL, len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct md_zero z = {0};

	if (p == MAP_FAILED)
		return z;
	/* Not one of a huge page of zeros. */
	madvise(p, len, MADV_NOHUGEPAGE);
	if (fd >= 0)
		z = look(fd, p, page_size);
	munmap(p, len);
	return z;
}
