/* SPDX-License-Identifier: MIT */
/* Stack traces: known functions of a child, found from its registers and memory alone. */
#include <linux/futex.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

#include <cmocka.h>

#include "src/inspect/inspect.h"
#include "tests/unit/inspect/live.h"

enum { NTHREADS = 6, DEPTH = 20 };

static int ready[2];
static volatile unsigned sink;
static volatile bool stop; /* never: but the compiler must not know */

static void say_ready(void)
{
	if (write(ready[1], "r", 1) != 1)
		abort();
}

__attribute__((noinline)) static unsigned victim_recurse(unsigned n)
{
	if (!n) {
		say_ready();
		while (!stop)
			pause();
		return 0;
	}
	sink = victim_recurse(n - 1) + 1;
	return sink;
}

__attribute__((noinline)) static void victim_spin(void)
{
	say_ready();
	for (;;)
		sink++;
}

__attribute__((noinline)) static void victim_futex(void)
{
	static uint32_t word;

	say_ready();
	syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0);
	sink++;
}

__attribute__((noinline)) static void victim_handler(int sig)
{
	say_ready();
	for (;;)
		pause();
}

__attribute__((noinline)) static void victim_raises(void)
{
	signal(SIGUSR1, victim_handler);
	raise(SIGUSR1);
	sink++;
}

/* Some kernels push another frame for these. */
__attribute__((noinline)) static void victim_info_handler(int sig, siginfo_t *info, void *uc)
{
	say_ready();
	for (;;)
		pause();
}

__attribute__((noinline)) static void victim_raises_info(void)
{
	struct sigaction sa = {.sa_sigaction = victim_info_handler, .sa_flags = SA_SIGINFO};

	sigaction(SIGUSR2, &sa, NULL);
	raise(SIGUSR2);
	sink++;
}

__attribute__((noinline)) static void victim_sleep(void)
{
	struct timespec t = {.tv_sec = 1000};

	say_ready();
	nanosleep(&t, NULL);
	sink++;
}

static void *thread(void *arg)
{
	switch ((uintptr_t)arg) {
	case 0:
		victim_recurse(DEPTH);
		break;
	case 1:
		victim_spin();
		break;
	case 2:
		victim_futex();
		break;
	case 3:
		victim_raises();
		break;
	case 4:
		victim_sleep();
		break;
	default:
		victim_raises_info();
	}
	return NULL;
}

__attribute__((noinline)) static void victim_main(void)
{
	pthread_t t;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (uintptr_t i = 0; i < NTHREADS; i++)
		if (pthread_create(&t, NULL, thread, (void *)i))
			abort();
	while (!stop)
		pause();
}

static pid_t start_victim(void)
{
	char c;
	pid_t pid;

	if (pipe(ready) < 0)
		abort();
	pid = fork();
	if (pid == 0)
		victim_main();
	for (int i = 0; i < NTHREADS; i++)
		assert_int_equal(read(ready[0], &c, 1), 1);
	/* ready is said a few instructions before the wait: let it come about */
	nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
	return pid;
}

static char *bt_text(int *ret)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	struct err err = {0};

	*ret = inspect_bt(NULL, out, 0, &err);
	fclose(out);
	if (*ret)
		print_message("%s\n", err.msg);
	return text;
}

/* The traces, threads in order of their start. */
static char *section(char *text, unsigned n)
{
	for (unsigned i = 0; text && i <= n; i++) {
		text = strstr(text, "\nThread ");
		if (text)
			text++;
	}
	return text;
}

static void assert_order(const char *text, const char *end, const char *const *names)
{
	for (; *names; names++) {
		const char *at = strstr(text, *names);

		if (!at || (end && at >= end))
			print_message("missing %s in\n%s\n", *names, text);
		assert_non_null(at);
		assert_true(!end || at < end);
		text = at + 1;
	}
}

/* The mark of a signal is on the frame between the handler and what it interrupted. */
static void assert_marked(const char *text, const char *name)
{
	const char *handler = strstr(text, name), *next = strchr(handler, '\n') + 1,
		   *mark = strstr(next, " <signal frame>\n");

	if (mark > strchr(next, '\n'))
		print_message("the mark is elsewhere in\n%s\n", text);
	assert_true(mark < strchr(next, '\n'));
}

static void all_kinds_of_threads(void **state)
{
	static const char *const want[][8] = {
		{"victim_main+", "all_kinds_of_threads+", "main+", NULL},
		{"victim_recurse+", "victim_recurse+", "thread+", NULL},
		{"victim_spin+", "thread+", NULL},
		{"syscall+", "victim_futex+", "thread+", NULL},
		{"victim_handler+", " <signal frame>\n", "victim_raises+", "thread+", NULL},
		{"nanosleep", "victim_sleep+", "thread+", NULL},
		{"victim_info_handler+", " <signal frame>\n", "victim_raises_info+", "thread+",
		 NULL},
	};
	cleanup_free char *text = NULL;
	unsigned depth = 0;
	int ret;

	live_open(start_victim());
	text = bt_text(&ret);
	assert_int_equal(ret, 0);
	for (unsigned i = 0; i < 1 + NTHREADS; i++) {
		char *s = section(text, i), *end = section(text, i + 1);

		assert_non_null(s);
		assert_order(s, end, want[i]);
		for (char *at = s; i == 1 && (at = strstr(at, "victim_recurse+")) && at < end; at++)
			depth++;
	}
	assert_int_equal(depth, DEPTH + 1);
	assert_marked(text, "victim_handler+");
	assert_marked(text, "victim_info_handler+");
	assert_null(strstr(text, "stops here"));
	live_kill();
}

/* A file that is another one now must not lend its names. */
static void changed_file(void **state)
{
	cleanup_free char *text = NULL, *self = realpath("/proc/self/exe", NULL);
	uint32_t exe = 0;
	int ret;

	live_open(start_victim());
	for (uint32_t i = 0; i < live.m->nfiles && !exe; i++)
		if (!strcmp(live.m->files[i].path, self))
			exe = i + 1;
	assert_true(exe);
	live.m->files[exe - 1].build_id[0] ^= 1;
	text = bt_text(&ret);
	assert_int_equal(ret, 0);
	assert_null(strstr(text, "victim_recurse"));
	assert_non_null(strstr(text, "(changed)"));
	assert_non_null(strstr(text, "note: "));
	live_kill();
}

/* Registers and stack of nonsense: an end, not a crash. */
static void wild_registers(void **state)
{
	const struct arch_desc *arch = arch_host();
	static const uint64_t wild[] = {0, 1, 0xf000000000000000, 0xffffffffff600000, UINT64_MAX};

	live_open(start_victim());
	for (unsigned i = 0; i < sizeof(wild) / sizeof(wild[0]); i++) {
		cleanup_free char *text = NULL;
		int ret;

		for (uint32_t j = 0; j < live.m->procs[0].nthreads; j++) {
			uint8_t *regs = live.m->procs[0].threads[j].regsets[0].data;

			memcpy(regs + (j & 1 ? arch->pc_off : arch->sp_off), &wild[i], 8);
			memcpy(regs + arch->fp_off, &wild[i], 8);
		}
		text = bt_text(&ret);
		assert_int_equal(ret, 0);
	}
	live_kill();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_kinds_of_threads),
		cmocka_unit_test(changed_file),
		cmocka_unit_test(wild_registers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
