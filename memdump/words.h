/* SPDX-License-Identifier: MIT */
/*
 * What the page tables of a process say page by page: a stretch of /proc/PID/pagemap, read ahead.
 *
 * It is a look into moving things where the process runs: who needs to be sure looks again.
 */
#ifndef MEMDUMP_WORDS_H
#define MEMDUMP_WORDS_H

#include <stdbool.h>
#include <stdint.h>

enum { MD_WORDS_STILL = 512 /* most at a time */ };

struct md_words {
	int pid; /* 0: none */
	int fd;	 /* -1: nobody lets us */
	uint64_t page_size;
	uint64_t first, n; /* page number, and how many words from there on */
	uint64_t most;	   /* words of the last reading, at most */
	uint64_t *v;
};

void md_words_init(struct md_words *w);
void md_words_deinit(struct md_words *w);
/*
 * The word of the page at @addr of @pid and those behind it: *ret_n of them, at least one, good
 * until the next call. @len: how many bytes are asked about. NULL: nobody tells.
 */
const uint64_t *md_words_at(struct md_words *w, int pid, uint64_t addr, uint64_t len,
			    uint64_t *ret_n);
/* The words of @n pages from @addr on as they are now are those at @want. */
bool md_words_still(const struct md_words *w, uint64_t addr, const uint64_t *want, uint64_t n);

/* Anonymous memory that another process may have mapped, too, or that is swapped out. */
bool md_word_shared(uint64_t word);
/* Of two processes: the same page of memory or swap. Never so without the right to see it. */
bool md_word_same(uint64_t a, uint64_t b);

#endif
