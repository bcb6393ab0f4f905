/* SPDX-License-Identifier: MIT */
/* Every flipped bit, every truncation, and missing, foreign and planted files are found. */
/* timeout: 400 */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "tests/unit/image/scratch.h"
#include "tests/unit/image/small_image.h"

enum { MAX_FILES = 40 };

static char files[MAX_FILES][64];
static unsigned nfiles;

/* The metadata files of image x; those with pages have a test of their own. */
static void list_files(void)
{
	DIR *d = opendir("x");
	struct dirent *e;

	nfiles = 0;
	while ((e = readdir(d)))
		if (strstr(e->d_name, ".img") && strncmp(e->d_name, "pages-", 6))
			snprintf(files[nfiles++], sizeof(files[0]), "x/%.60s", e->d_name);
	closedir(d);
	assert_in_range(nfiles, 11, MAX_FILES);
}

static unsigned verify(void)
{
	struct image_verify res = {0};
	struct err err = {0};
	int ret = image_verify("x", 1, NULL, NULL, &res, &err);

	assert_int_equal(ret, res.bad ? -EBADMSG : 0);
	assert_int_equal(err.class, res.bad ? ERR_IMAGE : ERR_NONE);
	return res.bad;
}

/* An image that verify calls damaged may still be read, but never crash us. */
static void read_it(void)
{
	struct err err = {0};
	struct image *img = image_open("x", &err);
	struct model *m = img ? image_read_model(img, &err) : NULL;

	assert_true(m || err.errnum);
	model_free(m);
	image_close(img);
}

static void flip_all(const char *name)
{
	struct stat st;
	int fd = open(name, O_RDWR);
	uint8_t *p;

	assert_int_equal(fstat(fd, &st), 0);
	p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	close(fd);
	for (uint64_t bit = 0; bit < 8 * (uint64_t)st.st_size; bit++) {
		p[bit / 8] ^= (uint8_t)(1 << bit % 8);
		if (!verify())
			fail_msg("%s: bit %d of byte %d not found", name, (int)(bit % 8),
				 (int)(bit / 8));
		if (bit % 5 == 0)
			read_it();
		p[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	munmap(p, (size_t)st.st_size);
}

static void truncate_all(const char *name)
{
	uint8_t data[8192];
	ssize_t len;
	int fd = open(name, O_RDWR);

	len = read(fd, data, sizeof(data));
	assert_in_range(len, 8, sizeof(data) - 1);
	for (ssize_t cut = len - 1; cut >= 0; cut--) {
		assert_int_equal(ftruncate(fd, cut), 0);
		if (!verify())
			fail_msg("%s: cut at %zd not found", name, cut);
		read_it();
	}
	assert_int_equal(pwrite(fd, data, (size_t)len, 0), len);
	assert_int_equal(pwrite(fd, "", 1, len), 1);
	if (!verify())
		fail_msg("%s: byte added, not found", name);
	assert_int_equal(ftruncate(fd, len), 0);
	close(fd);
}

static void all_of_it(enum image_format format)
{
	struct err err = {0};

	small_image("x", format, 2, 2, &err);
	assert_no_err(&err);
	list_files();
	assert_int_equal(verify(), 0);
	for (unsigned i = 0; i < nfiles; i++) {
		/* the others are the same in both formats */
		if (format == IMAGE_STASIS && strcmp(files[i], "x/inventory.img"))
			continue;
		flip_all(files[i]);
		truncate_all(files[i]);
	}
	assert_int_equal(verify(), 0);
	scratch_remove("x");
}

static void every_bit_of_criu_format(void **state)
{
	all_of_it(IMAGE_CRIU);
}

static void every_bit_of_block_format(void **state)
{
	all_of_it(IMAGE_STASIS);
}

static void missing_and_foreign_files(void **state)
{
	struct err err = {0};

	small_image("x", IMAGE_CRIU, 2, 2, &err);
	assert_no_err(&err);
	list_files();
	for (unsigned i = 0; i < nfiles; i++) {
		if (strstr(files[i], "inventory"))
			continue;
		assert_int_equal(rename(files[i], "gone"), 0);
		assert_in_range(verify(), 1, 9);
		/* the right bytes, but behind a link: not followed */
		assert_int_equal(symlink("../gone", files[i]), 0);
		assert_in_range(verify(), 1, 9);
		read_it();
		assert_int_equal(unlink(files[i]), 0);
		/* neither waited for */
		assert_int_equal(mkfifo(files[i], 0600), 0);
		assert_in_range(verify(), 1, 9);
		read_it();
		assert_int_equal(unlink(files[i]), 0);
		assert_int_equal(rename("gone", files[i]), 0);
	}
	assert_int_equal(verify(), 0);
	close(open("x/core-7.img", O_CREAT | O_WRONLY, 0600));
	assert_in_range(verify(), 1, 9);
	unlink("x/core-7.img");
	close(open("x/dump.log", O_CREAT | O_WRONLY, 0600));
	close(open("x/stats-restore", O_CREAT | O_WRONLY, 0600));
	assert_int_equal(verify(), 0);
	scratch_remove("x");
}

static void not_an_image(void **state)
{
	struct image_verify res;
	struct err err = {0};

	assert_int_equal(image_verify("nothing", 1, NULL, NULL, &res, &err), -ENOENT);
	assert_int_equal(err.errnum, ENOENT);
	err_clear(&err);
	mkdir("x", 0700);
	assert_int_equal(image_verify("x", 1, NULL, NULL, &res, &err), -ENOENT);
	assert_int_equal(err.class, ERR_IMAGE);
	assert_non_null(strstr(err.hint, "unfinished"));
	scratch_remove("x");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(not_an_image),
		cmocka_unit_test(missing_and_foreign_files),
		cmocka_unit_test(every_bit_of_criu_format),
		cmocka_unit_test(every_bit_of_block_format),
	};

	return cmocka_run_group_tests(tests, scratch_enter, scratch_leave);
}
