/* SPDX-License-Identifier: MIT */
/*
 * Scenarios of memory with a file or another process behind it.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#include "tests/victims/victim/victim.h"

enum { RW = PROT_READ | PROT_WRITE, NPAGES = 64, LEN = NPAGES * PAGE };

static char *base;

static int data_file(const char *name, uint64_t seed)
{
	static char page[PAGE];
	char path[PATH_MAX];
	int fd;

	if (snprintf(path, sizeof(path), "%s/%s", v_dir(), name) >= (int)sizeof(path))
		v_die("path too long");
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		v_die("open %s", path);
	for (int i = 0; i < NPAGES; i++) {
		fill(page, PAGE, seed + (uint64_t)i);
		if (write(fd, page, PAGE) != PAGE)
			v_die("write %s", path);
	}
	return fd;
}

/* --- memfd: sealed, with holes, mapped shared and private
 * --------------------------------------------- */

static char *private_part;
static int memfd = -1;

static void memfd_setup(void)
{
	int loose;

	memfd = memfd_create("victim", MFD_ALLOW_SEALING);
	if (memfd < 0 || ftruncate(memfd, LEN))
		v_die("memfd_create");
	base = map_at(HOME(1), LEN, RW, MAP_SHARED, memfd, 0);
	for (int i = 0; i < NPAGES; i++)
		if (i % 4 == 0)
			fill(base + i * PAGE, PAGE, (uint64_t)i);
	private_part = map_at(HOME(2), 8 * PAGE, RW, MAP_PRIVATE, memfd, 8 * PAGE);
	fill(private_part + PAGE, PAGE, 99);
	if (fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW))
		v_die("F_ADD_SEALS");
	/* One that is open and never mapped. */
	loose = memfd_create("loose", MFD_CLOEXEC);
	if (loose < 0 || write(loose, "loose contents", 14) != 14)
		v_die("memfd_create");
	v_fact("shm %d %#llx %d %08x memfd", getpid(), (unsigned long long)HOME(1), LEN,
	       crc32_of(0, base, LEN));
	fact_memory("region", private_part + PAGE, PAGE, "memfd-private");
	v_fact("fd %d %d memfd", getpid(), memfd);
	v_fact("fd %d %d memfd", getpid(), loose);
	v_fact("seals %d %d %#x", getpid(), memfd, F_SEAL_SHRINK | F_SEAL_GROW);
}

static void memfd_check(void)
{
	for (int i = 0; i < NPAGES; i += 4)
		expect_filled(base + i * PAGE, PAGE, (uint64_t)i, "memfd");
	expect_filled(private_part + PAGE, PAGE, 99, "memfd, private page");
	expect_filled(private_part, PAGE, 8, "memfd, private mapping");
	if (fcntl(memfd, F_GET_SEALS) != (F_SEAL_SHRINK | F_SEAL_GROW))
		v_bad("memfd: the seals have changed");
}

/* --- shared: anonymous shared memory of two processes
 * ------------------------------------------------- */

/* The last page counts; the others never change. */
static void shared_child(void)
{
	_Atomic uint64_t *counts = (void *)(base + LEN - PAGE);

	v_tick();
	while (!v_quitting()) {
		expect_filled(base, LEN - PAGE, 7, "shared, in the child");
		atomic_fetch_add(&counts[1], 1);
		sleep_ms(5);
	}
	_exit(0);
}

static void shared_setup(void)
{
	base = map_at(HOME(1), LEN, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fill(base, LEN - PAGE, 7);
	fact_memory("shm", base, LEN - PAGE, "shared");
	pid_t child = fork();

	if (child == 0)
		shared_child();
	v_await_ticks(1);
	v_fact("shm %d %#llx %d %08x shared-in-child", child, (unsigned long long)HOME(1),
	       LEN - PAGE, crc32_of(0, base, LEN - PAGE));
}

static void shared_check(void)
{
	_Atomic uint64_t *counts = (void *)(base + LEN - PAGE);

	expect_filled(base, LEN - PAGE, 7, "shared");
	atomic_fetch_add(&counts[0], 1);
}

/* --- sysv: a System V segment, removed while attached
 * ------------------------------------------------- */

static void sysv_setup(void)
{
	int id = shmget(IPC_PRIVATE, LEN, 0600);

	if (id < 0)
		v_skip("no System V shared memory");
	base = shmat(id, (void *)HOME(1), 0);
	shmctl(id, IPC_RMID, NULL);
	if (base == (void *)-1)
		v_die("shmat");
	fill(base, LEN, 8);
	fact_memory("shm", base, LEN, "sysv");
}

static void sysv_check(void)
{
	expect_filled(base, LEN, 8, "sysv");
}

/* --- filepriv: a private file mapping, every third page written
 * ---------------------------------------- */

static void filepriv_setup(void)
{
	int fd = data_file("private", 1000);

	base = map_at(HOME(1), LEN, RW, MAP_PRIVATE, fd, 0);
	close(fd);
	for (int i = 0; i < NPAGES; i += 3)
		fill(base + i * PAGE, PAGE, 2000 + (uint64_t)i);
	v_fact("file-region %d %#llx %d %08x %s/private 0", getpid(), (unsigned long long)HOME(1),
	       LEN, crc32_of(0, base, LEN), v_dir());
	v_fact("copied %d %#llx %d %d", getpid(), (unsigned long long)HOME(1), LEN,
	       (NPAGES + 2) / 3);
}

static void filepriv_check(void)
{
	for (int i = 0; i < NPAGES; i++)
		expect_filled(base + i * PAGE, PAGE, (i % 3 ? 1000 : 2000) + (uint64_t)i,
			      "filepriv");
}

/* --- fileshared
 * ------------------------------------------------------------------------------------- */

static void fileshared_setup(void)
{
	int fd = data_file("shared", 3000);

	base = map_at(HOME(1), LEN, RW, MAP_SHARED, fd, 0);
	close(fd);
	fill(base + 5 * PAGE, PAGE, 77);
	v_fact("file-region %d %#llx %d %08x %s/shared 0", getpid(), (unsigned long long)HOME(1),
	       LEN, crc32_of(0, base, LEN), v_dir());
}

static void fileshared_check(void)
{
	for (int i = 0; i < NPAGES; i++)
		expect_filled(base + i * PAGE, PAGE, i == 5 ? 77 : 3000 + (uint64_t)i,
			      "fileshared");
}

/* --- shortfile: a mapping longer than its file, as after a truncation
 * ------------------------------------ */

static void shortfile_setup(void)
{
	int fd = data_file("short", 4000);

	base = map_at(HOME(1), LEN, RW, MAP_PRIVATE, fd, 0);
	fill(base + 2 * PAGE, PAGE, 88);
	if (ftruncate(fd, 10 * PAGE + 100))
		v_die("ftruncate");
	close(fd);
	fact_memory("region", base + 2 * PAGE, PAGE, "shortfile");
}

static void shortfile_check(void)
{
	expect_filled(base + 2 * PAGE, PAGE, 88, "shortfile");
	expect_filled(base + 9 * PAGE, PAGE, 4009, "shortfile");
}

/* --- deleted: a private mapping of a file that has no name any more
 * ---------------------------------------- */

static void deleted_setup(void)
{
	char path[PATH_MAX];
	int fd = data_file("deleted", 5000);

	base = map_at(HOME(1), LEN, RW, MAP_PRIVATE, fd, 0);
	close(fd);
	fill(base + 4 * PAGE, PAGE, 66);
	snprintf(path, sizeof(path), "%s/deleted", v_dir());
	if (unlink(path))
		v_die("unlink");
	fact_memory("region", base + 4 * PAGE, PAGE, "deleted");
}

static void deleted_check(void)
{
	expect_filled(base + 4 * PAGE, PAGE, 66, "deleted, own page");
	expect_filled(base + 6 * PAGE, PAGE, 5006, "deleted, page of the file");
}

const struct scenario mapping_scenarios[] = {
	{"memfd", "a sealed memfd with holes, shared and private", memfd_setup, memfd_check},
	{"shared", "anonymous shared memory of two processes", shared_setup, shared_check},
	{"sysv", "a removed System V segment", sysv_setup, sysv_check},
	{"filepriv", "a private file mapping, partly written", filepriv_setup, filepriv_check},
	{"fileshared", "a shared file mapping", fileshared_setup, fileshared_check},
	{"shortfile", "a mapping that is longer than its file", shortfile_setup, shortfile_check},
	{"deleted", "a private mapping of a deleted file", deleted_setup, deleted_check},
	{},
};
