/* SPDX-License-Identifier: MIT */
/* Files on disk stand in for pages of an image only while they are what they were. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "src/inspect/object.h"

static char dir[] = "/tmp/stasis-object-XXXXXX";
static char path[64];

static int setup(void **state)
{
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/file", dir);
	return 0;
}

static int teardown(void **state)
{
	unlink(path);
	return rmdir(dir);
}

static void put_file(const char *text)
{
	cleanup_file FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
}

/* What a dump says of the file as it is now. */
static struct m_file described(const char *name)
{
	struct m_file f = {.id = 1, .type = M_FILE_REG, .path = (char *)name};
	struct stat st;

	assert_int_equal(stat(name, &st), 0);
	f.size = (uint64_t)st.st_size;
	f.mtime_ns = st.st_mtim.tv_sec * 1000000000LL + st.st_mtim.tv_nsec;
	return f;
}

static enum object_state state_of(struct m_file *f)
{
	struct model m = {.nfiles = 1, .files = f};
	struct objects *o = objects_new(&m);
	struct object *obj = objects_get(o, 1);
	enum object_state s;

	assert_non_null(obj);
	assert_ptr_equal(obj, objects_get(o, 1));
	assert_null(objects_get(o, 2));
	s = obj->state;
	assert_int_equal(object_usable(obj), s == OBJECT_SAME || s == OBJECT_UNCHECKED);
	assert_int_equal(obj->why[0] != '\0', s == OBJECT_CHANGED || s == OBJECT_ABSENT);
	objects_free(o);
	return s;
}

static void by_size_and_time(void **state)
{
	struct timespec past[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	struct m_file f;

	put_file("one");
	f = described(path);
	assert_int_equal(state_of(&f), OBJECT_SAME);
	f.mtime_ns++;
	assert_int_equal(state_of(&f), OBJECT_CHANGED);
	f.mtime_ns = 0;
	assert_int_equal(state_of(&f), OBJECT_UNCHECKED);
	put_file("more");
	assert_int_equal(state_of(&f), OBJECT_CHANGED);
	f = described(path);
	assert_int_equal(utimensat(AT_FDCWD, path, past, 0), 0);
	assert_int_equal(state_of(&f), OBJECT_CHANGED);
}

static void by_build_id(void **state)
{
	cleanup_free char *self = realpath("/proc/self/exe", NULL);
	struct elf *e = elf_open(self, NULL);
	struct m_file f = described(self);
	uint8_t id[64];
	const uint8_t *own;
	size_t len;

	assert_non_null(e);
	own = elf_build_id(e, &len);
	if (!own)
		skip();
	memcpy(id, own, len);
	elf_close(e);
	f.build_id = id;
	f.build_id_len = (uint32_t)len;
	assert_int_equal(state_of(&f), OBJECT_SAME);
	/* the same object under another date, or unlinked and put back */
	f.mtime_ns++;
	f.deleted = true;
	assert_int_equal(state_of(&f), OBJECT_SAME);
	id[0] ^= 1;
	assert_int_equal(state_of(&f), OBJECT_CHANGED);
	/* not even an ELF file any more */
	put_file("text");
	f.path = path;
	assert_int_equal(state_of(&f), OBJECT_CHANGED);
}

static void gone(void **state)
{
	struct m_file f;

	put_file("one");
	f = described(path);
	f.deleted = true;
	assert_int_equal(state_of(&f), OBJECT_CHANGED);
	f.deleted = false;
	assert_int_equal(unlink(path), 0);
	assert_int_equal(state_of(&f), OBJECT_ABSENT);
	/* must not wait for a writer */
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(state_of(&f), OBJECT_ABSENT);
	assert_int_equal(unlink(path), 0);
	f.path = (char *)"pipe:[1]";
	assert_int_equal(state_of(&f), OBJECT_ABSENT);
	f.path = NULL;
	assert_int_equal(state_of(&f), OBJECT_ABSENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_size_and_time),
		cmocka_unit_test(by_build_id),
		cmocka_unit_test(gone),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
