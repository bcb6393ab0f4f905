/* SPDX-License-Identifier: MIT */
/* The JSON document: well-formed whatever the image holds, complete, and quick for large trees. */
#include <elf.h>
#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "src/inspect/doc.h"
#include "src/inspect/inspect.h"
#include "tests/unit/inspect/made.h"

static json_t *show(const char *file, const struct show_opts *opts, int want)
{
	struct image *img = made_open();
	cleanup_free char *text = NULL;
	struct err err = {0};
	json_error_t jerr;
	size_t len = 0;
	json_t *t = NULL;
	FILE *out = open_memstream(&text, &len);
	int ret = inspect_show(img, file, out, opts, &err);

	fclose(out);
	if (ret != want)
		fail_msg("%d, not %d: %s", ret, want, err.msg);
	if (!ret) {
		t = json_loads(text, JSON_REJECT_DUPLICATES, &jerr);
		if (!t)
			fail_msg("%s at %d:\n%.2000s", jerr.text, jerr.line, text);
	} else {
		assert_true(err.msg[0]);
	}
	return t;
}

static const char *str(json_t *t, const char *key)
{
	return json_string_value(json_object_get(t, key));
}

static json_int_t num(json_t *t, const char *key)
{
	json_t *v = json_object_get(t, key);

	assert_true(json_is_integer(v));
	return json_integer_value(v);
}

static json_t *first(json_t *t, const char *key)
{
	return json_array_get(json_object_get(t, key), 0);
}

static void whole(void **state)
{
	json_t *t, *p, *thread, *vma, *mem, *space;
	struct show_opts opts = {0};

	made_begin();
	made_vma(0x10000, 4 * MADE_PAGE, M_VMA_ANON);
	made_store(MD_SPACE_PROC(MADE_PID), 0x10000, 0);
	made_store(MD_SPACE_PROC(MADE_PID), 0x13000, 0);
	made_store(MD_SPACE_SHMEM(made_shm(2 * MADE_PAGE)->id), MADE_PAGE, 7);
	t = show(NULL, &opts, 0);
	assert_string_equal(str(t, "format"), "stasis");
	assert_string_equal(str(json_object_get(t, "origin"), "cpu"), arch_host()->name);
	assert_string_equal(str(json_object_get(t, "origin"), "kernel"), "6.0 made");
	p = first(t, "processes");
	assert_int_equal(num(p, "pid"), MADE_PID);
	assert_string_equal(str(p, "cmdline"), "made --by hand");
	thread = first(p, "threads");
	assert_int_equal(num(thread, "tid"), MADE_PID);
	for (size_t i = 0; arch_host()->regs[i].name; i++) {
		const struct arch_reg *r = &arch_host()->regs[i];
		const uint8_t *at = made.m->procs[0].threads[0].regsets[0].data + r->off;
		uint64_t v = 0;
		char text[32];

		/* Access registers of s390x have four bytes. */
		for (unsigned j = 0; j < r->size; j++)
			v |= (uint64_t)
				     at[arch_host()->elf_data == ELFDATA2MSB ? r->size - 1 - j : j]
			     << 8 * j;
		snprintf(text, sizeof(text), "0x%llx", (unsigned long long)v);
		assert_string_equal(
			str(json_object_get(thread, "registers"), arch_host()->regs[i].name), text);
	}
	vma = first(p, "mappings");
	assert_string_equal(str(vma, "start"), "0x10000");
	assert_string_equal(str(vma, "perm"), "rw-p");
	mem = json_object_get(t, "memory");
	assert_int_equal(num(mem, "stored_bytes"), 3 * MADE_PAGE);
	space = first(mem, "spaces");
	assert_int_equal(num(space, "id"), MADE_PID);
	assert_int_equal(num(space, "extents"), 2);
	assert_int_equal(num(json_object_get(space, "blocks"), "zero"), 1);
	space = json_array_get(json_object_get(mem, "spaces"), 1);
	assert_string_equal(str(space, "kind"), "shared");
	assert_int_equal(num(space, "stored_bytes"), MADE_PAGE);
	assert_int_equal(num(first(t, "shared_memory"), "size"), 2 * MADE_PAGE);
	assert_string_equal(str(json_object_get(json_object_get(p, "rlimits"), "cpu"), "soft"),
			    "unlimited");
	json_decref(t);
	made_end();
}

static void brief_and_pid(void **state)
{
	struct show_opts opts = {.brief = true, .pid = MADE_PID};
	json_t *t, *p;

	made_begin();
	made_vma(0x10000, 4 * MADE_PAGE, M_VMA_ANON);
	made_vma(0x20000, 4 * MADE_PAGE, M_VMA_ANON);
	t = show(NULL, &opts, 0);
	p = first(t, "processes");
	assert_int_equal(num(p, "mapping_count"), 2);
	assert_null(json_object_get(p, "mappings"));
	json_decref(t);
	made_end();
}

static void keys_of_memory(void **state)
{
	struct show_opts opts = {0};
	json_t *t, *p;

	made_begin();
	made_vma(0x10000, 4 * MADE_PAGE, M_VMA_ANON);
	made_vma(0x20000, 4 * MADE_PAGE, M_VMA_ANON);
	made.m->procs[0].mm.vmas[1].pkey = 5;
	made.m->procs[0].mm.pkeys = 0x22;
	t = show(NULL, &opts, 0);
	p = first(t, "processes");
	assert_string_equal(str(json_object_get(p, "mm"), "pkeys"), "0x22");
	assert_null(json_object_get(first(p, "mappings"), "pkey"));
	assert_int_equal(num(json_array_get(json_object_get(p, "mappings"), 1), "pkey"), 5);
	json_decref(t);
	made_end();
}

static void no_such_process(void **state)
{
	struct show_opts opts = {.pid = MADE_PID + 1};

	made_begin();
	assert_null(show(NULL, &opts, -ESRCH));
	made_end();
}

/* Names are bytes: quotes, controls, what is no UTF-8. */
static void odd_names(void **state)
{
	struct show_opts opts = {0};
	json_t *t, *file;

	made_begin();
	made_file("/a\"b\\c\n\x01\xff\xc3\xa9\xed\xa0\x80");
	t = show(NULL, &opts, 0);
	file = first(t, "files");
	assert_string_equal(str(file, "path"), "/a\"b\\c\n\x01\\xff\xc3\xa9\\xed\\xa0\\x80");
	json_decref(t);
	made_end();
}

static void one_file(void **state)
{
	struct show_opts opts = {0};
	json_t *t;

	made_begin();
	made_vma(0x10000, 4 * MADE_PAGE, M_VMA_ANON);
	made_store(MD_SPACE_PROC(MADE_PID), 0x10000, 1);
	t = show("pstree.img", &opts, 0);
	assert_string_equal(str(t, "file"), "pstree.img");
	assert_int_equal(num(first(t, "entries"), "pid"), MADE_PID);
	json_decref(t);
	made_end();
}

static void block_file(void **state)
{
	struct show_opts opts = {0};
	json_t *t;

	made_begin();
	made_vma(0x10000, 4 * MADE_PAGE, M_VMA_ANON);
	made_store(MD_SPACE_PROC(MADE_PID), 0x10000, 1);
	t = show(IMAGE_BLOCK_FILE, &opts, 0);
	assert_int_equal(num(first(t, "blocks"), "raw_bytes"), MADE_PAGE);
	assert_string_equal(str(first(t, "blocks"), "codec"), "lz4");
	json_decref(t);
	made_end();
}

/* Page 0x10000 anew in round 1, page 0x12000 dropped: what counts is told apart from what is
 * stored. */
static void rounds(void **state)
{
	struct show_opts opts = {0};
	struct err err = {0};
	struct image_mem *mem;
	struct md_extent e;
	json_t *t, *blocks;
	uint8_t byte;

	for (unsigned n = 0; n < 2; n++) {
		made_begin();
		made_vma(0x10000, 4 * MADE_PAGE, M_VMA_ANON);
		for (uint64_t a = 0x10000; a < 0x13000; a += MADE_PAGE)
			made_store(MD_SPACE_PROC(MADE_PID), a, (uint8_t)(a >> 12));
		made.first_round = made.nstored;
		made_store(MD_SPACE_PROC(MADE_PID), 0x10000, 0x99);
		made.map = (struct md_extent){0x10000, 2 * MADE_PAGE};
		t = show(n ? IMAGE_BLOCK_FILE : NULL, &opts, 0);
		if (n) {
			blocks = json_object_get(t, "blocks");
			assert_string_equal(str(json_array_get(blocks, 0), "codec"), "map");
			assert_null(json_object_get(json_array_get(blocks, 1), "round"));
			assert_int_equal(num(json_array_get(blocks, 2), "round"), 1);
		} else {
			assert_int_equal(num(json_object_get(t, "memory"), "stored_bytes"),
					 4 * MADE_PAGE);
			assert_int_equal(num(json_object_get(t, "memory"), "stale_bytes"),
					 2 * MADE_PAGE);
			assert_null(json_object_get(json_object_get(t, "memory"), "parent_bytes"));
		}
		json_decref(t);
		mem = image_mem_open(made.img, &err);
		assert_non_null(mem);
		assert_int_equal(image_mem_extent(mem, MD_SPACE_PROC(MADE_PID), 0, &e, &err), 1);
		assert_int_equal(e.addr, 0x10000);
		assert_int_equal(e.len, 2 * MADE_PAGE);
		for (unsigned p = 0; p < 2; p++) {
			assert_int_equal(image_mem_read(mem, MD_SPACE_PROC(MADE_PID),
							0x10000 + p * MADE_PAGE, &byte, 1, &err),
					 1);
			assert_int_equal(byte, p ? 0x11 : 0x99);
		}
		image_mem_close(mem);
		made_end();
	}
}

static void no_such_file(void **state)
{
	struct show_opts opts = {0};

	made_begin();
	assert_null(show("nothing.img", &opts, -ENOENT));
	made_end();
}

static double cpu_seconds(uint64_t nvmas)
{
	struct show_opts opts = {0};
	struct timespec a, b;
	json_t *t;

	made_begin();
	for (uint64_t i = 0; i < nvmas; i++)
		made_vma(0x10000000 + 2 * i * MADE_PAGE, MADE_PAGE, M_VMA_ANON);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	t = show(NULL, &opts, 0);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	assert_int_equal(json_array_size(json_object_get(first(t, "processes"), "mappings")),
			 nvmas);
	json_decref(t);
	made_end();
	return (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
}

/* Four times the mappings, not sixteen times the work. */
static void linear(void **state)
{
	double small = cpu_seconds(15000), large = cpu_seconds(60000);

	print_message("15,000 mappings %.3f s, 60,000 mappings %.3f s\n", small, large);
	assert_true(large < 10 * small + 0.1);
}

/* The writer itself: nesting, one-line objects, numbers beyond what readers know. */
static void document(void **state)
{
	cleanup_free char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	struct doc d;

	doc_init(&d, out);
	doc_object(&d, NULL);
	doc_array(&d, "empty");
	doc_end(&d);
	doc_inline_object(&d, "o");
	doc_u64(&d, "max", INT64_MAX);
	doc_u64(&d, "more", UINT64_MAX);
	doc_inline_array(&d, "a");
	doc_bool(&d, NULL, true);
	doc_str(&d, NULL, NULL);
	doc_end(&d);
	doc_end(&d);
	doc_hex(&d, "h", 0);
	doc_bytes(&d, "b", "\x00\xab", 2);
	doc_end(&d);
	fclose(out);
	assert_string_equal(text, "{\n\t\"empty\": [],\n"
				  "\t\"o\": {\"max\": 9223372036854775807, "
				  "\"more\": \"0xffffffffffffffff\", \"a\": [true, null]},\n"
				  "\t\"h\": \"0x0\",\n\t\"b\": \"00ab\"\n}\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole),	  cmocka_unit_test(brief_and_pid),
		cmocka_unit_test(keys_of_memory), cmocka_unit_test(no_such_process),
		cmocka_unit_test(odd_names),	  cmocka_unit_test(one_file),
		cmocka_unit_test(block_file),	  cmocka_unit_test(rounds),
		cmocka_unit_test(no_such_file),	  cmocka_unit_test(linear),
		cmocka_unit_test(document),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
