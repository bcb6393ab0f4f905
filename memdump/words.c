/* SPDX-License-Identifier: MIT */
/* What the page tables of a process say page by page. */
#include "memdump/words.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/io.h"

/* Documentation/admin-guide/mm/pagemap.rst */
#define PM_PRESENT   (1ULL << 63)
#define PM_SWAP	     (1ULL << 62)
#define PM_FILE	     (1ULL << 61)
#define PM_FRAME     ((1ULL << 55) - 1)
#define PM_EXCLUSIVE (1ULL << 56) /* Linux 4.2 */

enum {
	WORDS = 4096,
	FEW = 4,  /* of a page that stands alone: a word takes 60 ns */
	NEAR = 8, /* so close behind the last ones the next will be, too */
};

void md_words_init(struct md_words *w)
{
	*w = (struct md_words){.fd = -1, .page_size = (uint64_t)sysconf(_SC_PAGESIZE)};
}

void md_words_deinit(struct md_words *w)
{
	if (w->fd >= 0)
		close(w->fd);
	free(w->v);
	w->fd = -1;
	w->v = NULL;
}

static void turn_to(struct md_words *w, int pid)
{
	char path[40];

	if (w->fd >= 0)
		close(w->fd);
	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	w->fd = open(path, O_RDONLY | O_CLOEXEC);
	w->pid = pid;
	w->n = 0;
}

/* One after the other they are read ahead, ever more; far apart only what is asked for. */
static uint64_t most_words(const struct md_words *w, uint64_t page, uint64_t want)
{
	uint64_t n = FEW, end = w->first + w->n;

	if (w->n && page >= end && page - end < NEAR)
		n = 2 * w->most;
	n = n > want ? n : want;
	return n < WORDS ? n : WORDS;
}

const uint64_t *md_words_at(struct md_words *w, int pid, uint64_t addr, uint64_t len,
			    uint64_t *ret_n)
{
	const uint64_t page = addr / w->page_size;
	ssize_t n;

	if (w->pid != pid)
		turn_to(w, pid);
	if (w->fd < 0)
		return NULL;
	if (page < w->first || page - w->first >= w->n) {
		if (!w->v)
			w->v = malloc(WORDS * sizeof(*w->v));
		w->most = most_words(w, page, len / w->page_size);
		n = w->v ? io_pread(w->fd, w->v, w->most * sizeof(*w->v), page * sizeof(*w->v)) : 0;
		w->first = page;
		w->n = n < 0 ? 0 : (uint64_t)n / sizeof(*w->v);
		if (!w->n)
			return NULL;
	}
	*ret_n = w->n - (page - w->first);
	return w->v + (page - w->first);
}

bool md_word_shared(uint64_t word)
{
	return word & PM_SWAP || ((word & PM_PRESENT) && !(word & (PM_FILE | PM_EXCLUSIVE)));
}

bool md_word_same(uint64_t a, uint64_t b)
{
	const uint64_t what = PM_PRESENT | PM_SWAP | PM_FRAME;

	return a & PM_FRAME && (a & what) == (b & what) && !((a | b) & PM_FILE);
}

bool md_words_still(const struct md_words *w, uint64_t addr, const uint64_t *want, uint64_t n)
{
	uint64_t now[MD_WORDS_STILL];
	const size_t len = n * sizeof(*now);

	if (n > MD_WORDS_STILL ||
	    io_pread(w->fd, now, len, addr / w->page_size * sizeof(*now)) != (ssize_t)len)
		return false;
	for (uint64_t i = 0; i < n; i++)
		if (!md_word_same(now[i], want[i]))
			return false;
	return true;
}
