/* SPDX-License-Identifier: MIT */
/*
 * The least that filling the memory of a restored program can cost, for bench/restore.sh.
 *
 *	floor_fill DIR [THREADS]	one JSON object per line
 *
 *	"uffd"		the file's bytes into as many fresh 4 KiB pages by UFFDIO_COPY,
 *			in pieces of 1 MiB
 *	"unpack"	every lz4 block of DIR/memory.stasis by LZ4_decompress_safe(), nothing else
 *	"both"		every block unpacked, and from there into fresh 4 KiB pages: what a thread
 *			that is never waited for nor waits takes for an image of lz4
 *
 * The bytes come from the mapped file, as the page cache has it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <lz4.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "memdump/reader_file.h"

enum { PIECE = 1 << 20, THREADS_MAX = 64 };

static unsigned threads = 2;
static struct md_raw_file file;
static struct md_index_list list;
static uint8_t *map, *fresh;
static uint64_t raw_bytes, next;
static uint64_t *raw_off; /* of each block, in fresh */
static int uffd;

static void die(const char *what)
{
	fprintf(stderr, "floor_fill: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double on_clock(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double now(void)
{
	return on_clock(CLOCK_MONOTONIC);
}

/* Wall time; *@ret_cpu: of all threads. */
static double on_threads(void *(*work)(void *), double *ret_cpu)
{
	pthread_t tid[THREADS_MAX];
	double t0 = now();
	double cpu0 = on_clock(CLOCK_PROCESS_CPUTIME_ID);

	next = 0;
	for (unsigned i = 1; i < threads; i++)
		if (pthread_create(&tid[i], NULL, work, NULL))
			die("pthread_create");
	work(NULL);
	for (unsigned i = 1; i < threads; i++)
		pthread_join(tid[i], NULL);
	*ret_cpu = on_clock(CLOCK_PROCESS_CPUTIME_ID) - cpu0;
	return now() - t0;
}

/* As many bytes as the blocks hold raw; a packed file is read more than once. */
static void *copy(void *arg)
{
	for (;;) {
		uint64_t at = __atomic_fetch_add(&next, PIECE, __ATOMIC_RELAXED);
		uint64_t room = file.len / PIECE * PIECE;
		struct uffdio_copy c = {
			.dst = (uint64_t)(uintptr_t)fresh + at,
			.src = (uint64_t)(uintptr_t)map + (room ? at % room : 0),
			.len = at + PIECE < raw_bytes ? PIECE : raw_bytes - at,
		};

		if (at >= raw_bytes)
			return arg;
		if (ioctl(uffd, UFFDIO_COPY, &c) < 0)
			die("UFFDIO_COPY");
	}
}

static bool has_bytes(const struct md_index_entry *e)
{
	return e->codec == MD_CODEC_NONE || e->codec == MD_CODEC_LZ4 || e->codec == MD_CODEC_ZSTD;
}

/* An lz4 block by the codec into @raw; any other is where it is in the file. */
static const uint8_t *unpacked(const struct md_index_entry *e, uint8_t *raw)
{
	const uint8_t *in = map + e->off + md_head_span(e->nextents, file.head.align);

	if (e->codec != MD_CODEC_LZ4)
		return in;
	if (LZ4_decompress_safe((const char *)in, (char *)raw, (int)e->packed_len,
				(int)e->raw_len) != (int)e->raw_len)
		die("LZ4_decompress_safe");
	return raw;
}

static void *both(void *arg)
{
	uint8_t *raw = NULL;

	if (posix_memalign((void **)&raw, 4096, MD_BLOCK_MAX))
		die("posix_memalign");
	for (;;) {
		uint64_t i = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
		const struct md_index_entry *e;
		struct uffdio_copy c = {0};

		if (i >= list.nblocks)
			break;
		e = &list.blocks[i].entry;
		if (!has_bytes(e))
			continue;
		c.dst = (uint64_t)(uintptr_t)fresh + raw_off[i];
		c.src = (uint64_t)(uintptr_t)unpacked(e, raw);
		c.len = e->raw_len;
		if (ioctl(uffd, UFFDIO_COPY, &c) < 0)
			die("UFFDIO_COPY");
	}
	free(raw);
	return arg;
}

static void *unpack(void *arg)
{
	uint8_t *raw = malloc(MD_BLOCK_MAX);

	if (!raw)
		die("malloc");
	for (;;) {
		uint64_t i = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
		const struct md_index_entry *e;

		if (i >= list.nblocks)
			break;
		e = &list.blocks[i].entry;
		if (e->codec == MD_CODEC_LZ4)
			unpacked(e, raw);
	}
	free(raw);
	return arg;
}

static void open_image(const char *dir)
{
	int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct md_trailer t;
	struct err err = {0};

	if (dirfd < 0)
		die(dir);
	if (md_raw_file_open(&file, dirfd, "memory.stasis", &err) < 0 ||
	    md_raw_file_trailer(&file, &t, &err) < 0 ||
	    md_raw_file_index(&file, &t, &list, &err) < 0) {
		fprintf(stderr, "floor_fill: %s\n", err.msg);
		exit(1);
	}
	raw_off = calloc(list.nblocks + 1, sizeof(*raw_off));
	if (!raw_off)
		die("calloc");
	for (size_t i = 0; i < list.nblocks; i++) {
		raw_off[i] = raw_bytes;
		if (has_bytes(&list.blocks[i].entry))
			raw_bytes += list.blocks[i].entry.raw_len;
	}
	map = mmap(NULL, file.len, PROT_READ, MAP_SHARED | MAP_POPULATE, file.fd, 0);
	if (map == MAP_FAILED)
		die("mmap");
}

/* @work on threads, with fresh pages to be filled. */
static double time_uffd(void *(*work)(void *), double *ret_cpu)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	double s;

	fresh = mmap(NULL, raw_bytes + PIECE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		     -1, 0);
	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (fresh == MAP_FAILED || uffd < 0 || ioctl(uffd, UFFDIO_API, &api) < 0)
		die("userfaultfd");
	madvise(fresh, raw_bytes, MADV_NOHUGEPAGE);
	reg.range.start = (uint64_t)(uintptr_t)fresh;
	reg.range.len = (raw_bytes + 4095) / 4096 * 4096;
	if (ioctl(uffd, UFFDIO_REGISTER, &reg) < 0)
		die("UFFDIO_REGISTER");
	s = on_threads(work, ret_cpu);
	munmap(fresh, raw_bytes + PIECE);
	close(uffd);
	return s;
}

static void print_floor(const char *name, double s, double cpu)
{
	printf("{\"floor\":\"%s\",\"threads\":%u,\"bytes\":%" PRIu64
	       ",\"s\":%.6f,\"cpu_s\":%.6f}\n",
	       name, threads, raw_bytes, s, cpu);
}

int main(int argc, char **argv)
{
	double s, cpu;

	if (argc < 2) {
		fprintf(stderr, "usage: floor_fill DIR [THREADS]\n");
		return 2;
	}
	if (argc > 2)
		threads = (unsigned)atoi(argv[2]);
	if (threads < 1 || threads > THREADS_MAX)
		threads = 1;
	open_image(argv[1]);
	s = time_uffd(copy, &cpu);
	print_floor("uffd", s, cpu);
	s = on_threads(unpack, &cpu);
	print_floor("unpack", s, cpu);
	s = time_uffd(both, &cpu);
	print_floor("both", s, cpu);
	return 0;
}
