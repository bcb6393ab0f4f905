/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: block files. The first byte says what to put right before the file is read, so that
 * changes get past the checksums: 1 head, 2 trailer, 4 index, 8 block heads, 16 payloads.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xxhash.h>

#include "memdump/memdump.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);

enum { HEAD = 64, MOST = 1 << 20 };
enum { FIX_HEAD = 1, FIX_TRAILER = 2, FIX_INDEX = 4, FIX_BLOCKS = 8, FIX_PAYLOADS = 16 };

static uint8_t file[MOST];
static char dir[64];
static int dirfd;

static void clean_up(void)
{
	unlinkat(dirfd, "f", 0);
	rmdir(dir);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	snprintf(dir, sizeof(dir), "/dev/shm/stasis-fuzz-XXXXXX");
	if (!mkdtemp(dir))
		exit(1);
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	atexit(clean_up);
	return 0;
}

/* --- checksums, as docs/FORMAT.md has them --- */

static uint64_t get(size_t at, unsigned bytes)
{
	uint64_t v = 0;

	memcpy(&v, file + at, bytes);
	return v;
}

static void put(size_t at, uint64_t v)
{
	memcpy(file + at, &v, 8);
}

static void fix_record(size_t at, size_t len)
{
	put(at + 8, XXH3_64bits(file + at + 16, len - 16));
}

static size_t up(uint64_t v, size_t align)
{
	return (size_t)(v + align - 1) / align * align;
}

static void fix_blocks(size_t len, unsigned fix)
{
	size_t align = get(24, 4);

	if (align < HEAD || align > 65536 || (align & (align - 1)))
		align = HEAD;
	for (size_t at = align; at + HEAD <= len; at += align) {
		size_t head = HEAD + 16 * get(at + 50, 2), payload = at + up(head, align);
		size_t packed = get(at + 36, 4);

		if (memcmp(file + at, "\x93STBLK\r\n", 8) || at + head > len)
			continue;
		if ((fix & FIX_PAYLOADS) && packed && payload <= len && packed <= len - payload)
			put(at + 40, XXH3_64bits(file + payload, packed));
		if (fix & FIX_BLOCKS)
			fix_record(at, head);
	}
}

static void fix_sums(size_t len, unsigned fix)
{
	size_t trailer = len - HEAD;
	uint64_t index = get(trailer + 24, 8), index_len = get(trailer + 32, 8);

	if (fix & FIX_HEAD)
		fix_record(0, HEAD);
	fix_blocks(len, fix);
	if ((fix & FIX_INDEX) && index < trailer && index_len <= trailer - index &&
	    index_len >= HEAD) {
		fix_record(index, HEAD);
		put(trailer + 40, XXH3_64bits(file + index, index_len));
	}
	if (fix & FIX_TRAILER)
		fix_record(trailer, HEAD);
}

/* --- what looks at the file --- */

static volatile uint64_t sink;

static void see_line(void *arg, const char *line)
{
	sink += strlen(line);
}

static void see_space(struct md_file *f, uint64_t space)
{
	static uint8_t buf[70000];
	struct md_extent e;
	uint64_t at = 0;

	for (unsigned n = 0; n < 64 && md_file_extent(f, space, at, &e) > 0; n++) {
		struct err err = {0};
		ssize_t got = md_file_read(f, space, e.addr, buf, sizeof(buf), &err);

		/* What is in the index can be read, or is damaged. */
		if (e.addr < at || !e.len || got == 0 || (got < 0 && !err.msg[0]))
			abort();
		if (got > 0)
			sink += buf[got - 1];
		at = e.addr + e.len;
		if (at <= e.addr)
			break;
	}
}

static void see_file(unsigned flags)
{
	struct err err = {0};
	struct md_file *f = md_file_open(dirfd, "f", flags, &err);
	struct md_stored b;
	uint64_t space;

	if (!f && !err.msg[0])
		abort();
	for (size_t i = 0; f && i < 64 && md_file_space(f, i, &space); i++)
		see_space(f, space);
	for (size_t i = 0; f && md_file_block(f, i, &b); i++)
		sink += b.raw_len;
	if (f)
		sink += md_file_page_size(f);
	md_file_close(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct md_verify v;
	struct err err = {0};
	int fd, ret;

	if (len < 1 || len - 1 > sizeof(file))
		return 0;
	len--;
	memcpy(file, data + 1, len);
	if (len >= 2 * HEAD)
		fix_sums(len, data[0]);
	fd = openat(dirfd, "f", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, file, len) != (ssize_t)len)
		abort();
	close(fd);
	see_file(0);
	see_file(MD_FILE_REBUILD);
	ret = md_file_verify(dirfd, "f", 1, see_line, NULL, &v, &err);
	if ((ret == 0) != (v.bad == 0 && !err.errnum))
		abort();
	return 0;
}
