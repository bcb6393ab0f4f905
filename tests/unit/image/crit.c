/* SPDX-License-Identifier: MIT */
/* Stock crit, of CRIU, decodes every file that we write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "tests/unit/image/random_model.h"
#include "tests/unit/image/scratch.h"
#include "tests/unit/image/small_image.h"

/* What `crit decode` does, for all files in one run of the Python that has its modules. */
static const char decode_all[] = "/usr/bin/python3 - <<'END'\n"
				 "import os, sys, pycriu\n"
				 "bad = 0\n"
				 "for name in sorted(os.listdir('x')):\n"
				 "    if name.startswith('pages-') or name == 'memory.stasis':\n"
				 "        continue\n"
				 "    with open('x/' + name, 'rb') as f:\n"
				 "        try:\n"
				 "            doc = pycriu.images.load(f, pretty=True)\n"
				 "            assert 'entries' in doc and not f.read(1)\n"
				 "        except Exception as e:\n"
				 "            bad += 1\n"
				 "            print(name, repr(e))\n"
				 "sys.exit(bad != 0)\n"
				 "END\n";

static bool missing(void)
{
	/* its libraries too, which Debian does not make crit depend on */
	return system("crit --help >/dev/null 2>&1 && /usr/bin/python3 -c 'import pycriu' 2>/dev/null") !=
	       0;
}

static void write_model(struct model *m, enum image_format format)
{
	struct err err = {0};
	struct image *img = image_create("x", format, &err);

	assert_no_err(&err);
	image_write_model(img, m, &err);
	image_write_stats(image_dirfd(img), &(struct image_stats){1, 2, 3, 4, 5, 6}, &err);
	image_commit(img, m, &err);
	assert_no_err(&err);
	image_close(img);
}

static void decodes_every_file(void **state)
{
	struct err err = {0};

	for (uint64_t seed = 1; seed <= 4; seed++) {
		struct model *m = random_model(seed);

		/* crit 3.17 does not know pidfds, and Python wants text to be UTF-8 */
		for (uint32_t i = 0; i < m->nfiles; i++)
			if (m->files[i].type == M_FILE_PIDFD)
				m->files[i].type = M_FILE_UND;
		write_model(m, seed % 2 ? IMAGE_STASIS : IMAGE_CRIU);
		assert_int_equal(system(decode_all), 0);
		scratch_remove("x");
		model_free(m);
	}
	for (int format = IMAGE_STASIS; format <= IMAGE_CRIU; format++) {
		small_image("x", (enum image_format)format, 3, 2, &err);
		assert_no_err(&err);
		assert_int_equal(system(decode_all), 0);
		scratch_remove("x");
	}
}

/* Output of @command; it must succeed. */
static char *output(const char *command)
{
	static char text[65536];
	FILE *f = popen(command, "r");
	size_t n = fread(text, 1, sizeof(text) - 1, f);

	text[n] = '\0';
	if (pclose(f))
		fail_msg("%s: %s", command, text);
	return text;
}

static void explores_a_directory(void **state)
{
	struct err err = {0};
	const char *text;

	small_image("x", IMAGE_CRIU, 3, 2, &err);
	assert_no_err(&err);
	assert_non_null(strstr(output("crit x x ps 2>&1"), "100      0      0   victim"));
	text = output("crit x x fds 2>&1");
	assert_non_null(strstr(text, "0: /usr/bin/victim"));
	assert_non_null(strstr(text, "2: pipe[4714]"));
	assert_non_null(strstr(text, "cwd: /\n"));
	text = output("crit x x mems 2>&1");
	assert_non_null(strstr(text, "00010000-00014000"));
	assert_non_null(strstr(text, "rw- /usr/bin/victim"));
	assert_non_null(strstr(text, "shmem[1]"));
	text = output("crit x x rss 2>&1");
	assert_non_null(strstr(text, "10000 / 3"));
	assert_non_null(strstr(text, "7f000 / 1"));
	text = output("crit show x/core-101.img 2>&1");
	assert_non_null(strstr(text, "\"mtype\": \"X86_64\""));
	text = output("crit decode -i x/inventory.img 2>&1");
	assert_non_null(strstr(text, "\"img_version\": 2"));
	assert_null(strstr(text, "manifest"));
	scratch_remove("x");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decodes_every_file),
		cmocka_unit_test(explores_a_directory),
	};

	if (BYTE_ORDER != LITTLE_ENDIAN) {
		printf("crit reads images of little-endian machines alone\n");
		return 77;
	}
	if (missing()) {
		printf("crit is not here (Debian packages criu and python3-protobuf)\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, scratch_enter, scratch_leave);
}
