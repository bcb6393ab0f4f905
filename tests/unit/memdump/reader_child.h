/* SPDX-License-Identifier: MIT */
/* Children with mappings at known places, and what a memory reader finds in them. */
#ifndef TESTS_MEMDUMP_READER_CHILD_H
#define TESTS_MEMDUMP_READER_CHILD_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "memdump/memdump.h"
#include "memdump/scan.h"

/* All is counted in pages, whatever their size: 256 KiB or 4 MiB are a block. */
#define PAGE  ((size_t)sysconf(_SC_PAGESIZE))
#define BLOCK (64 * PAGE)

enum { NPAGES = 2048 };

/* --- children ------------------------------------------------------------------------------- */

/* Where all maps of a test lie: reserved before the fork, so that both sides know the address. */
static uint8_t *area;

static uint8_t *at(size_t page)
{
	return area + page * PAGE;
}

static uint8_t byte_of(size_t page)
{
	return (uint8_t)(page * 7 + 1) | 1;
}

static void touch(size_t page)
{
	memset(at(page), byte_of(page), PAGE);
}

static void need(bool ok, const char *what)
{
	if (ok)
		return;
	dprintf(2, "child: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static void map_anon(size_t page, size_t n, int prot)
{
	need(mmap(at(page), n * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
		     MAP_FAILED,
	     "mmap");
	/* Where huge pages come unasked, pages that nobody has touched would be there, too. */
	madvise(at(page), n * PAGE, MADV_NOHUGEPAGE);
}

static pid_t child(void (*prepare)(void), void (*then)(void))
{
	int ready[2];
	char c;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prepare();
		need(write(ready[1], "", 1) == 1, "ready");
		for (;;) {
			if (then)
				then();
			else
				pause();
		}
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static struct md_range range_of(pid_t pid, size_t page, size_t n, enum md_pick pick)
{
	return (struct md_range){
		.space = MD_SPACE_PROC(pid),
		.addr = (uintptr_t)at(page),
		.len = n * PAGE,
		.pid = pid,
		.fd = -1,
		.pick = pick,
	};
}

/* --- what a reader found -------------------------------------------------------------------- */

static struct found {
	bool page[NPAGES]; /* by number in the area */
	size_t npages, nblocks;
	uint64_t vanished;
	int ret;
	struct err err;
} found;

static void check_block(const struct md_block *b, bool contents)
{
	uint64_t sum = 0, end_of_last = 0;

	assert_true(b->nextents >= 1 && b->nextents <= MD_BLOCK_EXTENTS);
	for (unsigned i = 0; i < b->nextents; i++) {
		const struct md_extent *e = &b->extents[i];

		assert_true(e->len && e->len % PAGE == 0 && e->addr >= end_of_last);
		end_of_last = e->addr + e->len;
		for (uint64_t a = 0; a < e->len; a += PAGE) {
			size_t page = (size_t)(e->addr + a - (uintptr_t)area) / PAGE;

			if (!contents)
				continue;
			assert_true(page < NPAGES && !found.page[page]);
			found.page[page] = true;
			found.npages++;
			assert_int_equal(b->raw[sum + a], byte_of(page));
			assert_int_equal(b->raw[sum + a + PAGE - 1], byte_of(page));
		}
		sum += e->len;
	}
	assert_int_equal(sum, b->raw_len);
}

/* Who is asked for what the reader cannot read; NULL: nobody. */
static ssize_t (*ask)(void *arg, int pid, uint64_t addr, void *buf, size_t len, struct err *err);

static void read_ranges(const struct md_range *ranges, size_t n, bool contents)
{
	static struct md_extent extents[MD_BLOCK_EXTENTS];
	struct md_reader *r;
	uint8_t *raw = aligned_alloc(PAGE, BLOCK);
	uint64_t space = 0, off = 0;

	memset(&found, 0, sizeof(found));
	r = md_reader_vm_new(ranges, n, &found.err);
	assert_non_null(r);
	r->ask = ask;
	r->ask_arg = &ask;
	for (;;) {
		struct md_block b = {.extents = extents, .raw = raw};

		found.ret = r->next(r, &b, BLOCK, &found.err);
		if (found.ret <= 0)
			break;
		if (b.space != space)
			off = 0;
		assert_int_equal(b.space_off, off);
		space = b.space;
		off += b.raw_len;
		found.nblocks++;
		check_block(&b, contents);
	}
	found.vanished = r->vanished_bytes;
	r->close(r);
	free(raw);
}

/* The pages a scan finds, with the ioctl and without: the same. */
static void scan_pages(const struct md_range *ranges, size_t n, bool no_ioctl, bool *ret)
{
	struct md_scanner *s = malloc(sizeof(*s));
	struct err err = {0};
	struct md_piece p;
	int r;

	memset(ret, 0, NPAGES);
	md_scanner_init(s, ranges, n, no_ioctl);
	while ((r = md_scanner_next(s, UINT64_MAX, &p, &err)) > 0)
		for (uint64_t a = 0; a < p.len; a += PAGE)
			ret[(p.addr + a - (uintptr_t)area) / PAGE] = true;
	if (r < 0)
		fail_msg("%s", err.msg);
	if (!no_ioctl && s->no_ioctl)
		print_message("this kernel has no PAGEMAP_SCAN\n");
	md_scanner_deinit(s);
	free(s);
}

__attribute__((unused)) static void expect(const struct md_range *ranges, size_t n,
					   bool (*want)(size_t page))
{
	bool by_ioctl[NPAGES], by_pagemap[NPAGES];

	scan_pages(ranges, n, false, by_ioctl);
	scan_pages(ranges, n, true, by_pagemap);
	read_ranges(ranges, n, true);
	assert_int_equal(found.ret, 0);
	for (size_t i = 0; i < NPAGES; i++) {
		if (by_ioctl[i] != want(i) || by_pagemap[i] != want(i) || found.page[i] != want(i))
			fail_msg("page %zu: want %d, ioctl %d, pagemap %d, read %d", i, want(i),
				 by_ioctl[i], by_pagemap[i], found.page[i]);
	}
}

#endif
