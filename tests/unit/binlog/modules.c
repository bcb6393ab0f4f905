/* SPDX-License-Identifier: MIT */
/* Several modules, and several logs: a number is that of one site in each of them. */
#include "tests/unit/binlog/reader.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <time.h>

static const char *path;

#define SITES 3

/* What a shared object brings along, made by hand. */
struct made {
	struct binlog_arg args[1 + 1];
	struct binlog_info info[SITES];
	struct binlog_site sites[SITES];
	struct binlog_module mod;
};

static void make(struct made *m, const char *fmt)
{
	memset(m, 0, sizeof(*m));
	m->args[1] = (struct binlog_arg){.type = BINLOG_T_I32, .star = -1, .prec = -1};
	for (unsigned i = 0; i < SITES; i++) {
		m->info[i] = (struct binlog_info){.fmt = fmt,
						  .file = "made.c",
						  .func = "make",
						  .args = m->args + 1,
						  .line = i,
						  .level = 3,
						  .nargs = 1};
		m->sites[i].info = &m->info[i];
	}
	m->mod.start = m->sites;
	m->mod.stop = m->sites + SITES;
}

static void say(struct made *m, int v)
{
	for (unsigned i = 0; i < SITES; i++)
		binlog_slow(&m->sites[i], &m->mod, 3, m->info[i].fmt, v);
}

static void open_by(struct made *m, const struct binlog_opts *opts)
{
	struct err err = {0};

	if (binlog_open_module(path, opts, &m->mod, &err) < 0)
		fail_msg("%s", err.msg);
}

/* @n records, SITES of each module in turn, with the right format. */
static void check(const char *const fmts[], unsigned n, unsigned modules)
{
	struct reader *r = reader_load(path);

	assert_int_equal(r->nrecs, n * SITES);
	for (unsigned i = 0; i < n * SITES; i++) {
		assert_string_equal(r->recs[i].site->fmt, fmts[i / SITES]);
		assert_int_equal(r->recs[i].site->line, i % SITES);
	}
	assert_int_equal(r->nsites, modules * SITES);
	reader_free(r);
}

/* The second log is opened by a module that the first one did not have. */
static void test_opened_by_another(void **state)
{
	struct made a;
	struct made b;

	make(&a, "a %d\n");
	make(&b, "b %d\n");
	open_by(&a, NULL);
	say(&a, 1);
	binlog_close();
	open_by(&b, NULL);
	say(&b, 2);
	say(&a, 2);
	say(&b, 3);
	binlog_close();
	binlog_module_gone(&a.mod);
	binlog_module_gone(&b.mod);
	check((const char *const[]){"b %d\n", "a %d\n", "b %d\n"}, 3, 2);
}

/* A module has no number since its dictionary did not fit; those around it have. */
static void test_dictionary_did_not_fit(void **state)
{
	struct binlog_opts opts = BINLOG_OPTS_DEFAULT;
	struct binlog_stats stats;
	struct made a;
	struct made b;
	struct made c;

	make(&a, "a %d\n");
	make(&b, "b %d\n");
	make(&c, "c %d\n");
	open_by(&c, NULL);
	say(&c, 1);
	say(&b, 1);
	assert_int_equal(binlog_stats(&stats), 0);
	binlog_close();
	/* Room for what was in that one, and not for more. */
	opts.max_len = stats.file_len;
	open_by(&c, &opts);
	say(&c, 1);
	say(&a, 1);
	assert_int_equal(a.mod.base, 0);
	binlog_close();
	open_by(&c, NULL);
	say(&a, 2);
	say(&b, 2);
	say(&c, 2);
	binlog_close();
	binlog_module_gone(&a.mod);
	binlog_module_gone(&b.mod);
	binlog_module_gone(&c.mod);
	check((const char *const[]){"a %d\n", "b %d\n", "c %d\n"}, 3, 3);
}

/*
 * Who holds the loader's lock may want the log's: nobody who has that may ask the loader. Which is
 * asked here, in its place.
 */
static unsigned asked; /* 0: not of interest */
static bool lock_was_free;

static void *take_lock(void *arg)
{
	binlog_set_level(BINLOG_DEBUG);
	return NULL;
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
int dl_iterate_phdr(int (*fn)(struct dl_phdr_info *, size_t, void *), void *arg)
{
	int (*real)(int (*)(struct dl_phdr_info *, size_t, void *), void *);
	struct timespec until;
	pthread_t t;

	if (asked) {
		asked++;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += 2;
		pthread_create(&t, NULL, take_lock, NULL);
		lock_was_free = lock_was_free && pthread_timedjoin_np(t, NULL, &until) == 0;
	}
	*(void **)&real = dlsym(RTLD_NEXT, "dl_iterate_phdr");
	return real(fn, arg);
}
#endif

static void test_loader_is_asked_without_lock(void **state)
{
	struct made a;
	struct made b;

	make(&a, "a %d\n");
	make(&b, "b %d\n");
	asked = 1;
	lock_was_free = true;
	open_by(&a, NULL);
	say(&b, 1);
	binlog_close();
	open_by(&b, NULL);
	say(&a, 1);
	binlog_close();
	binlog_module_gone(&a.mod);
	binlog_module_gone(&b.mod);
	(void)take_lock;
	if (asked == 1)
		skip(); /* by a sanitizer's function */
	asked = 0;
	assert_true(lock_was_free);
}

static int begin(void **state)
{
	path = reader_path("modules");
	return 0;
}

static int end(void **state)
{
	binlog_close();
	unlink(path);
	return 0;
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_opened_by_another),
		TEST(test_dictionary_did_not_fit),
		TEST(test_loader_is_asked_without_lock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
