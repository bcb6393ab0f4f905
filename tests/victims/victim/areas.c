/* SPDX-License-Identifier: MIT */
/*
 * Scenarios of mappings with properties: locked, not inherited, named, of one inode in many ways.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/victims/victim/victim.h"

enum { RW = PROT_READ | PROT_WRITE, ANON = MAP_PRIVATE | MAP_ANONYMOUS };

#ifndef PR_SET_VMA
#define PR_SET_VMA	     0x53564d41 /* Linux 5.17 */
#define PR_SET_VMA_ANON_NAME 0
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10 /* Linux 5.1 */
#endif

/* The lines of /proc/self/smaps about the mapping at @addr: its first and one that begins with
 * @key.
 */
static void smaps_of(uint64_t addr, const char *key, char *ret_head, char *ret_line)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	char line[512], begin[32];
	bool in = false;

	ret_head[0] = ret_line[0] = '\0';
	snprintf(begin, sizeof(begin), "%llx-", (unsigned long long)addr);
	while (f && fgets(line, sizeof(line), f)) {
		unsigned long long a, b;

		line[strcspn(line, "\n")] = '\0';
		if (sscanf(line, "%llx-%llx ", &a, &b) == 2) {
			in = !strncmp(line, begin, strlen(begin));
			if (in)
				snprintf(ret_head, 256, "%.255s", line);
		} else if (in && !strncmp(line, key, strlen(key))) {
			snprintf(ret_line, 256, "%.255s", line);
		}
	}
	if (f)
		fclose(f);
}

/* --- advised: what madvise, mlock and their like asked for ---------------------------------- */

enum { AREA = 4 * PAGE, GAP = 16 * PAGE };

static const struct area {
	const char *what, *flag;
	int advice;
} areas[] = {
	{"read in order", " sr", MADV_SEQUENTIAL},
	{"read at random", " rr", MADV_RANDOM},
	{"not inherited", " dc", MADV_DONTFORK},
	{"wiped for children", " wf", MADV_WIPEONFORK},
	{"not dumped", " dd", MADV_DONTDUMP},
	{"merged", " mg", MADV_MERGEABLE},
	{"without huge pages", " nh", MADV_NOHUGEPAGE},
	{"with huge pages", " hg", MADV_HUGEPAGE},
	{"locked", " lo", -1},
	{"locked when touched", " lo", -2},
};
enum { NAREAS = sizeof(areas) / sizeof(areas[0]) };
static bool has_area[NAREAS];
static char named_head[256];

static char *area(unsigned i)
{
	return (char *)HOME(1) + i * GAP;
}

static bool advise(unsigned i)
{
	switch (areas[i].advice) {
	case -1:
		return !mlock(area(i), AREA);
	case -2:
		return !syscall(SYS_mlock2, area(i), AREA, MLOCK_ONFAULT);
	default:
		return !madvise(area(i), AREA, areas[i].advice);
	}
}

static void advised_setup(void)
{
	char line[256];

	for (unsigned i = 0; i < NAREAS; i++) {
		map_at(HOME(1) + i * GAP, AREA, RW, ANON, -1, 0);
		has_area[i] = advise(i);
		fill(area(i), PAGE, i + 1);
	}
	map_at(HOME(1) + NAREAS * GAP, AREA, RW, ANON, -1, 0);
	prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, HOME(1) + NAREAS * GAP, AREA, "victim: area");
	fill(area(NAREAS), PAGE, 99);
	smaps_of(HOME(1) + NAREAS * GAP, "VmFlags:", named_head, line);
}

static void advised_check(void)
{
	unsigned char there[4] = {0};
	char head[256], line[256];

	for (unsigned i = 0; i < NAREAS; i++) {
		expect_filled(area(i), PAGE, i + 1, areas[i].what);
		smaps_of(HOME(1) + i * GAP, "VmFlags:", head, line);
		if (has_area[i] && !strstr(line, areas[i].flag))
			v_bad("advised: memory %s: %s", areas[i].what, line);
		smaps_of(HOME(1) + i * GAP, "Rss:", head, line);
		/* Locked memory is there, all of it; what is locked on touch is not, but locked. */
		if (has_area[i] && areas[i].advice < 0 &&
		    atoi(line + strlen("Rss:")) != (areas[i].advice == -1 ? AREA : PAGE) / 1024)
			v_bad("advised: memory %s: %s", areas[i].what, line);
	}
	if (mincore(area(0), AREA, there) || !(there[0] & 1))
		v_bad("advised: a page has gone");
	smaps_of(HOME(1) + NAREAS * GAP, "VmFlags:", head, line);
	if (strcmp(head, named_head) != 0)
		v_bad("advised: the named mapping is %s, not %s", head, named_head);
}

/* Children get what was asked for. */
static void advised_finish(void)
{
	char c;

	for (unsigned i = 2; i < 4; i++) {
		int p[2];
		pid_t pid;

		if (!has_area[i] || pipe(p))
			continue;
		pid = fork();
		if (!pid) {
			/* Memory that is not there cannot be written from. */
			_exit(write(p[1], area(i), 1) == 1 ? 0 : 1);
		}
		close(p[1]);
		if (read(p[0], &c, 1) != (i == 2 ? 0 : 1) || (i == 3 && c))
			v_bad("advised: a child has memory that is %s", areas[i].what);
		close(p[0]);
	}
}

/* --- manyviews: one memfd and one segment, mapped in every way
 * ------------------------------------
 */

enum { VIEWS = 8 * PAGE };
static int sealed = -1;
static char *attached[2];
static _Atomic unsigned *spoken;

static char *view(unsigned n)
{
	return (char *)HOME(1) + n * 64 * PAGE;
}

static void views_right(const char *who)
{
	if (memcmp(view(0) + 2 * PAGE, view(1), PAGE) != 0)
		v_bad("manyviews: %s: the part from the third page on is another", who);
	if (memcmp(view(0), view(2), 2 * PAGE) != 0)
		v_bad("manyviews: %s: what can only be read is another", who);
	expect_filled(view(3), PAGE, 77, "the private page");
	if (memcmp(view(3) + PAGE, view(0) + PAGE, PAGE) != 0)
		v_bad("manyviews: %s: an unwritten private page is not the file's", who);
	if (memcmp(attached[0], attached[1], VIEWS) != 0)
		v_bad("manyviews: %s: two attachments of one segment differ", who);
}

/* Writes on even counts, so that the parent sees it and the other way round. */
static void views_child(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	munmap(view(0), VIEWS);
	map_at(HOME(1), VIEWS, PROT_READ, MAP_SHARED, sealed, 0);
	v_tick();
	for (;;) {
		unsigned n = *spoken;

		if (n % 2) {
			views_right("the child");
			*(unsigned *)(attached[1] + VIEWS - 8) = n + 1;
			*spoken = n + 1;
		}
		sleep_ms(1);
	}
}

static void manyviews_setup(void)
{
	int id = shmget(IPC_PRIVATE, VIEWS, 0600);
	pid_t pid;

	sealed = memfd_create("views", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	if (sealed < 0 || ftruncate(sealed, VIEWS) || id < 0)
		v_skip("no memfd or no System V memory");
	map_at(HOME(1), VIEWS, RW, MAP_SHARED, sealed, 0);
	fill(view(0), VIEWS, 5);
	map_at(HOME(1) + 64 * PAGE, 6 * PAGE, RW, MAP_SHARED, sealed, 2 * PAGE);
	map_at(HOME(1) + 128 * PAGE, 2 * PAGE, PROT_READ, MAP_SHARED, sealed, 0);
	map_at(HOME(1) + 192 * PAGE, 2 * PAGE, RW, MAP_PRIVATE, sealed, 0);
	fill(view(3), PAGE, 77);
	/* What is mapped may still be written, and nothing else ever again. */
	if (fcntl(sealed, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_GROW | F_SEAL_SEAL))
		v_skip("F_SEAL_FUTURE_WRITE: %s", strerrordesc_np(errno));
	attached[0] = shmat(id, (void *)HOME(2), 0);
	attached[1] = shmat(id, (void *)(HOME(2) + 64 * PAGE), 0);
	spoken = map_at(HOME(3), PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	shmctl(id, IPC_RMID, NULL);
	if (attached[0] == (void *)-1 || attached[1] == (void *)-1)
		v_die("shmat");
	fill(attached[0], VIEWS - 8, 6);
	pid = fork();
	if (!pid)
		views_child();
	if (pid < 0)
		v_die("fork");
	v_await_ticks(1);
}

static void manyviews_check(void)
{
	unsigned n = *spoken + 1;

	*(volatile uint64_t *)(view(0) + 3 * PAGE) = n;
	if (*(volatile uint64_t *)(view(1) + PAGE) != n)
		v_bad("manyviews: a write does not show in the other view");
	*spoken = n;
	for (int ms = 0; *spoken == n && ms < 10000; ms++)
		sleep_ms(1);
	if (*spoken != n + 1 || *(unsigned *)(attached[0] + VIEWS - 8) != n + 1)
		v_bad("manyviews: the child does not answer");
	views_right("the parent");
	expect_filled(attached[0], VIEWS - 8, 6, "segment");
	if (fcntl(sealed, F_GET_SEALS) != (F_SEAL_FUTURE_WRITE | F_SEAL_GROW | F_SEAL_SEAL))
		v_bad("manyviews: seals %#x", fcntl(sealed, F_GET_SEALS));
	if (pwrite(sealed, "x", 1, 0) != -1 || errno != EPERM ||
	    mmap(NULL, PAGE, RW, MAP_SHARED, sealed, 0) != MAP_FAILED)
		v_bad("manyviews: it can be written anew");
}

/* --- parts: System V segments of which an attachment is not whole any more
 *
 *	segment     0 1 2 3 4 5 6 7 8 9 ...
 *	attached    r w r r w   w w     ...	5 unmapped, 8 and 9 moved elsewhere
 */

static char *parts, *whole, *moved;
enum { PARTS = 16 * PAGE };

static void parts_setup(void)
{
	int id = shmget(IPC_PRIVATE, PARTS, 0600);

	parts = shmat(id, (void *)HOME(1), 0);
	whole = shmat(id, (void *)HOME(2), 0);
	shmctl(id, IPC_RMID, NULL);
	if (id < 0 || parts == (void *)-1 || whole == (void *)-1)
		v_skip("no System V memory");
	fill(whole, PARTS, 9);
	moved = mremap(parts + 8 * PAGE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		       (void *)HOME(3));
	if (moved != (char *)HOME(3) || mprotect(parts, PAGE, PROT_READ) ||
	    mprotect(parts + 2 * PAGE, 2 * PAGE, PROT_READ) || munmap(parts + 5 * PAGE, PAGE))
		v_die("parts");
}

static bool is_mapped(char *at)
{
	unsigned char vec;

	return mincore(at, PAGE, &vec) == 0;
}

static void parts_check(void)
{
	for (int n = 0; n < 16; n++) {
		char *page = n == 8 || n == 9 ? moved + (n - 8) * PAGE : parts + n * PAGE;

		if (is_mapped(page) != (n != 5))
			v_bad("parts: page %d", n);
		else if (n != 5 && memcmp(page, whole + n * PAGE, PAGE) != 0)
			v_bad("parts: page %d has another's contents", n);
	}
	expect_filled(whole, PARTS, 9, "parts");
	if (is_mapped(parts + 8 * PAGE) || is_mapped(parts + 9 * PAGE))
		v_bad("parts: what was moved is there twice");
	/* Attached for writing, though it may not be written now. */
	if (mprotect(parts, PAGE, RW))
		v_bad("parts: cannot be made writable: %s", strerrordesc_np(errno));
	else
		*(volatile char *)parts = *whole;
	mprotect(parts, PAGE, PROT_READ);
}

/* Where it was attached is where it is detached, all of it. */
static void parts_finish(void)
{
	if (shmdt(parts))
		v_bad("parts: shmdt: %s", strerrordesc_np(errno));
	for (int n = 0; n < 16; n++)
		if (is_mapped(parts + n * PAGE))
			v_bad("parts: page %d stays", n);
	if (shmdt(whole))
		v_bad("parts: shmdt of the whole: %s", strerrordesc_np(errno));
}

/* --- ownimage: a program that has rewritten its arguments and lost its file
 * ------------------------
 */

static char exe_link[PATH_MAX], arguments[PATH_MAX];
static size_t arguments_len;

static size_t read_all(const char *path, char *buf, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, room);

	close(fd);
	return n < 0 ? 0 : (size_t)n;
}

static void ownimage_setup(void)
{
	static const char args[] = "renamed\0to something\0else";
	struct prctl_mm_map map = {0};
	unsigned size = 0;
	char line[4096], *p;
	int n;

	/* Its own limits, as the kernel shows them, with other arguments. */
	if (prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE, &size, 0, 0) || size != sizeof(map))
		v_skip("PR_SET_MM_MAP: %s", strerrordesc_np(errno));
	line[read_all("/proc/self/stat", line, sizeof(line) - 1)] = '\0';
	p = strrchr(line, ')');
	n = p ? sscanf(p + 1,
		       " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d"
		       " %*d %*d %*u %*u %*u %*u %llu %llu %llu %*u %*u %*u %*u %*u %*u %*u %*u"
		       " %*u %*d %*d %*u %*u %*u %*u %*d %llu %llu %llu %*u %*u %llu %llu",
		       &map.start_code, &map.end_code, &map.start_stack, &map.start_data,
		       &map.end_data, &map.start_brk, &map.env_start, &map.env_end)
	      : 0;
	if (n != 8)
		v_die("/proc/self/stat");
	map.brk = (uint64_t)(uintptr_t)sbrk(0);
	/* The kernel shows arguments in anonymous memory only. */
	memcpy(map_at(HOME(1), PAGE, RW, ANON, -1, 0), args, sizeof(args));
	map.arg_start = HOME(1);
	map.arg_end = map.arg_start + sizeof(args);
	map.exe_fd = (uint32_t)-1;
	if (prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof(map), 0))
		v_skip("PR_SET_MM_MAP: %s", strerrordesc_np(errno));
	arguments_len = read_all("/proc/self/cmdline", arguments, sizeof(arguments));
	if (arguments_len != sizeof(args) || memcmp(arguments, args, sizeof(args)))
		v_die("cmdline");
	if (readlink("/proc/self/exe", exe_link, sizeof(exe_link) - 1) <= 0)
		v_die("readlink");
}

static void ownimage_check(void)
{
	char now[PATH_MAX] = "", environment[PATH_MAX];
	uint64_t auxv[128];
	size_t n;

	if (readlink("/proc/self/exe", now, sizeof(now) - 1) <= 0 || strcmp(now, exe_link) != 0)
		v_bad("ownimage: the program is %s, not %s", now, exe_link);
	n = read_all("/proc/self/cmdline", now, sizeof(now));
	if (n != arguments_len || memcmp(now, arguments, n) != 0)
		v_bad("ownimage: other arguments");
	if (environ[0]) {
		n = read_all("/proc/self/environ", environment, sizeof(environment) - 1);
		environment[n] = '\0';
		if (strcmp(environment, environ[0]) != 0)
			v_bad("ownimage: another environment: %s", environment);
	}
	n = read_all("/proc/self/auxv", (char *)auxv, sizeof(auxv));
	if (n < 64 || n % 16)
		v_bad("ownimage: %zu bytes of auxv", n);
	if (sbrk(0) == (void *)-1 || sbrk(PAGE) == (void *)-1 || sbrk(-PAGE) == (void *)-1)
		v_bad("ownimage: the heap's end does not move");
}

const struct scenario area_scenarios[] = {
	{"advised", "mappings that are locked, not inherited, named", advised_setup, advised_check,
	 advised_finish},
	{"parts", "System V segments of which a part is attached", parts_setup, parts_check,
	 parts_finish},
	{"manyviews", "a sealed memfd and a segment, mapped many times, by two", manyviews_setup,
	 manyviews_check},
	{"ownimage", "arguments, environment, auxv, heap and executable", ownimage_setup,
	 ownimage_check},
	{},
};
