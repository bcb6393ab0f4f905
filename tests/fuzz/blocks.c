/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: block files. The first byte says what to put right before the file is read, so that
 * changes get past the checksums: 1 head, 2 trailer, 4 index, 8 block heads, 16 payloads. With 32
 * there are two files, a child and its parent, and the next two bytes are the child's length in
 * units of 64 bytes; 64 has the child name the parent that is there.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "memdump/memdump.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);

enum { HEAD = 64, MOST = 1 << 20 };
enum {
	FIX_HEAD = 1,
	FIX_TRAILER = 2,
	FIX_INDEX = 4,
	FIX_BLOCKS = 8,
	FIX_PAYLOADS = 16,
	TWO = 32,
	FIX_ID = 64
};

static uint8_t file[MOST];
static char dir[64];
static int dirfd, parentfd;

static void clean_up(void)
{
	unlinkat(dirfd, "f", 0);
	unlinkat(parentfd, "f", 0);
	unlinkat(dirfd, "parent", AT_REMOVEDIR);
	rmdir(dir);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	snprintf(dir, sizeof(dir), "/dev/shm/stasis-fuzz-XXXXXX");
	if (!mkdtemp(dir))
		exit(1);
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (mkdirat(dirfd, "parent", 0700))
		exit(1);
	parentfd = openat(dirfd, "parent", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
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

static uint64_t pour_sum;

static int pour(void *arg, uint64_t space, uint64_t addr, const void *buf, uint64_t len,
		struct err *err)
{
	pour_sum += len + (buf ? ((const uint8_t *)buf)[len - 1] : 0);
	return 0;
}

/* @parent: whose id the head is to name, NULL: as it is. */
static void write_file(int at, const uint8_t *data, size_t len, unsigned fix, const uint8_t *parent)
{
	int fd;

	memcpy(file, data, len);
	if (parent && len >= HEAD)
		memcpy(file + 40, parent + 32, 8);
	if (len >= 2 * HEAD)
		fix_sums(len, fix);
	fd = openat(at, "f", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, file, len) != (ssize_t)len)
		abort();
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const struct md_sink to = {.write = pour};
	const struct md_fill_opts opts = {.threads = 1};
	struct md_verify v;
	struct err err = {0};
	size_t child = 0;
	unsigned fix;
	bool two;
	int ret;

	if (len < 1 || len - 1 > sizeof(file))
		return 0;
	fix = *data++;
	len--;
	two = (fix & TWO) && len >= 2;
	if (two) {
		child = HEAD * (size_t)(data[0] | data[1] << 8);
		data += 2;
		len -= 2;
		two = child < len;
	}
	child = two ? child : len;
	unlinkat(parentfd, "f", 0);
	write_file(dirfd, data, child, fix,
		   two && (fix & FIX_ID) && len - child >= HEAD ? data + child : NULL);
	if (two)
		write_file(parentfd, data + child, len - child, fix, NULL);
	see_file(0);
	if (md_file_fill(dirfd, "f", &opts, &to, NULL, &err) < 0 && !err.msg[0])
		abort();
	err_clear(&err);
	see_file(MD_FILE_REBUILD);
	ret = md_file_verify(dirfd, "f", 1, see_line, NULL, &v, &err);
	if ((ret == 0) != (v.bad == 0 && !err.errnum))
		abort();
	return 0;
}
