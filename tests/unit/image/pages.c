/* SPDX-License-Identifier: MIT */
/* Pages of either home: written, read at random, verified, and damage of them found. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/io.h"
#include "tests/unit/image/scratch.h"
#include "tests/unit/image/small_image.h"

static unsigned lines;

static void count(void *arg, const char *line)
{
	if (arg)
		printf("  %s\n", line);
	lines++;
}

static unsigned verify(const char *path, bool loud)
{
	struct image_verify res = {0};
	struct err err = {0};
	int ret;

	lines = 0;
	ret = image_verify(path, 1, count, loud ? "" : NULL, &res, &err);
	assert_int_equal(lines, res.bad);
	assert_int_equal(ret, res.bad ? -EBADMSG : 0);
	return res.bad;
}

static void check_reads(enum image_format format)
{
	struct err err = {0};
	struct image *img = image_open("x", &err);
	struct image_mem *mem;
	uint8_t got[4 * PAGE], want[PAGE];
	struct md_extent e;

	assert_no_err(&err);
	assert_int_equal(image_format(img), format);
	mem = image_mem_open(img, &err);
	assert_no_err(&err);
	for (unsigned i = 0; i < NEXTENTS; i++) {
		const struct small_extent *s = &small_extents[i];

		for (uint64_t off = 0; off < s->e.len; off += PAGE) {
			small_page(s->space, s->e.addr + off, want);
			assert_int_equal(
				image_mem_read(mem, s->space, s->e.addr + off, got, PAGE, &err),
				PAGE);
			assert_memory_equal(got, want, PAGE);
			assert_int_equal(
				image_mem_read(mem, s->space, s->e.addr + off + 77, got, 9, &err),
				9);
			assert_memory_equal(got, want + 77, 9);
		}
	}
	/* 0x15000..0x1a000 is two entries of CRIU's and one extent */
	assert_int_equal(image_mem_extent(mem, MD_SPACE_PROC(SMALL_PID), 0x13000, &e, &err), 1);
	assert_int_equal(e.addr, 0x15000);
	assert_int_equal(e.len, 0x5000);
	assert_int_equal(image_mem_extent(mem, MD_SPACE_PROC(SMALL_PID), 0x17000, &e, &err), 1);
	assert_int_equal(e.addr, 0x17000);
	assert_int_equal(e.len, 0x3000);
	assert_int_equal(image_mem_extent(mem, MD_SPACE_PROC(SMALL_PID), 0x80000, &e, &err), 0);
	assert_int_equal(image_mem_extent(mem, MD_SPACE_PROC(9999), 0, &e, &err), 0);
	assert_int_equal(image_mem_extent(mem, MD_SPACE_SHMEM(1), PAGE, &e, &err), 1);
	assert_int_equal(e.len, PAGE);
	assert_int_equal(image_mem_read(mem, MD_SPACE_PROC(SMALL_PID), 0x14000, got, PAGE, &err),
			 0);
	assert_int_equal(
		image_mem_read(mem, MD_SPACE_PROC(SMALL_PID), 0x12000, got, 4 * PAGE, &err), PAGE);
	assert_int_equal(image_mem_read(mem, MD_SPACE_SHMEM(2), 0, got, PAGE, &err), 0);
	assert_no_err(&err);
	image_mem_close(mem);
	image_close(img);
}

static void pages_come_back(void **state)
{
	for (unsigned per_block = 1; per_block <= 4; per_block++) {
		for (int format = IMAGE_STASIS; format <= IMAGE_CRIU; format++) {
			struct err err = {0};

			small_image("x", (enum image_format)format, 2, per_block, &err);
			assert_no_err(&err);
			check_reads((enum image_format)format);
			assert_int_equal(verify("x", true), 0);
			scratch_remove("x");
		}
	}
}

/* The slots of CRIU's format, as the picture in criu_map.h has them. */
static void criu_layout(void **state)
{
	struct err err = {0};
	uint8_t file[9 * PAGE], want[PAGE];
	int fd, slot = 0;

	small_image("x", IMAGE_CRIU, 1, 2, &err);
	assert_no_err(&err);
	fd = open("x/pages-1.img", O_RDONLY);
	assert_int_equal(io_read(fd, file, sizeof(file)), sizeof(file));
	assert_int_equal(io_read(fd, want, 1), 0);
	close(fd);
	for (unsigned i = 0; i < NEXTENTS && !MD_SPACE_KIND(small_extents[i].space); i++) {
		const struct md_extent *e = &small_extents[i].e;

		for (uint64_t off = 0; off < e->len; off += PAGE) {
			small_page(small_extents[i].space, e->addr + off, want);
			assert_memory_equal(file + PAGE * slot++, want, PAGE);
		}
	}
	assert_int_equal(slot, 9);
	scratch_remove("x");
}

static void flip(const char *name, uint64_t off, uint8_t mask)
{
	int fd = open(name, O_RDWR);
	uint8_t byte;

	assert_int_equal(pread(fd, &byte, 1, (off_t)off), 1);
	byte ^= mask;
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)off), 1);
	close(fd);
}

static void damaged_pages_are_found(void **state)
{
	static const char *const names[] = {"x/pages-1.img", "x/pages-2.img"};
	struct err err = {0};

	small_image("x", IMAGE_CRIU, 1, 2, &err);
	assert_no_err(&err);
	for (unsigned n = 0; n < 2; n++) {
		struct stat st;

		stat(names[n], &st);
		for (uint64_t off = 0; off < (uint64_t)st.st_size; off += 509) {
			flip(names[n], off, (uint8_t)(1 << off % 8));
			assert_int_equal(verify("x", false), 1);
			flip(names[n], off, (uint8_t)(1 << off % 8));
		}
		assert_int_equal(truncate(names[n], st.st_size + PAGE), 0);
		assert_in_range(verify("x", false), 1, 9);
		assert_int_equal(truncate(names[n], st.st_size), 0);
		assert_int_equal(verify("x", true), 0);
	}
	assert_int_equal(truncate(names[1], 0), 0);
	assert_in_range(verify("x", false), 1, 9);
	scratch_remove("x");
	small_image("x", IMAGE_STASIS, 1, 2, &err);
	assert_no_err(&err);
	for (uint64_t off = 0; off < 8000; off += 97) {
		flip("x/" IMAGE_BLOCK_FILE, off, (uint8_t)(1 << off % 8));
		assert_in_range(verify("x", false), 1, 9);
		flip("x/" IMAGE_BLOCK_FILE, off, (uint8_t)(1 << off % 8));
	}
	assert_int_equal(unlink("x/" IMAGE_BLOCK_FILE), 0);
	assert_in_range(verify("x", false), 1, 9);
	scratch_remove("x");
}

static void wrong_order_is_refused(void **state)
{
	struct err err = {0};
	struct image *img = image_create("x", IMAGE_CRIU, &err);
	struct image_criu_pages *p = image_criu_pages_new(img, PAGE, &err);

	assert_int_equal(image_criu_add(p, 1, &(struct md_extent){0x2000, PAGE}, false, &err), 0);
	assert_int_equal(image_criu_add(p, 1, &(struct md_extent){0x1000, PAGE}, false, &err),
			 -EINVAL);
	assert_int_equal(image_criu_add(p, 1, &(struct md_extent){0x3001, PAGE}, false, &err),
			 -EINVAL);
	assert_int_equal(image_criu_add(p, 2, &(struct md_extent){0x1000, PAGE}, false, &err), 0);
	image_criu_pages_free(p);
	image_close(img);
	assert_int_equal(access("x", F_OK), -1);
}

static unsigned fsyncs;

/* In place of the C library's. */
int fsync(int fd)
{
	fsyncs++;
	return 0;
}

/* A target may stand still while pages are copied, so that copying may not wait for a disk. */
static void no_sync_in_a_run(void **state)
{
	struct small_reader reader = {.r = {.next = small_next, .close = small_close},
				      .per_block = 2};
	const struct md_opts opts = {
		.codec = MD_CODEC_NONE, .threads = 1, .block_size = MD_BLOCK_MIN};
	struct err err = {0};
	struct image *img = image_create("s", IMAGE_CRIU, &err);
	struct image_criu_pages *pages;
	struct md_writer *w = small_writer(img, IMAGE_CRIU, &pages, &err);

	assert_no_err(&err);
	fsyncs = 0;
	assert_int_equal(md_run(&reader.r, w, &opts, NULL, &err), 0);
	assert_int_equal(fsyncs, 0);
	assert_int_equal(w->sync(w, &err), 0);
	/* one page file for the process and one for each shared segment */
	assert_int_equal(fsyncs, 2);
	w->close(w);
	image_criu_pages_free(pages);
	image_close(img);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_come_back),	   cmocka_unit_test(criu_layout),
		cmocka_unit_test(damaged_pages_are_found), cmocka_unit_test(wrong_order_is_refused),
		cmocka_unit_test(no_sync_in_a_run),
	};

	return cmocka_run_group_tests(tests, scratch_enter, scratch_leave);
}
