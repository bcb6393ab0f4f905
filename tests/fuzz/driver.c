/* SPDX-License-Identifier: MIT */
/*
 * Replays a corpus without libFuzzer: every file as it is, cut at every length and with bytes
 * changed.
 *
 *	PROGRAM FILE|DIRECTORY...
 *
 * The input ends at an unmapped page, so that a read past its end dies without a sanitizer too. The
 * changes are the same in every run. Exit 0 when nothing crashed, 1 when there was nothing to
 * replay.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
/* Some targets set something up. */
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

enum { PAGE = 4096, MAX_LEN = 8 << 20, CUTS = 512, CHANGES = 512 };

static uint8_t *area_end; /* the unmapped page */
static unsigned replayed;

static void area_make(void)
{
	uint8_t *p = mmap(NULL, MAX_LEN + PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED || mprotect(p + MAX_LEN, PAGE, PROT_NONE)) {
		perror("mmap");
		exit(1);
	}
	area_end = p + MAX_LEN;
}

static void one(const uint8_t *data, size_t len)
{
	memcpy(area_end - len, data, len);
	LLVMFuzzerTestOneInput(area_end - len, len);
	replayed++;
}

static void variations(uint8_t *data, size_t len)
{
	uint64_t r = 88172645463325252ULL;

	one(data, len);
	for (unsigned i = 0; i < CUTS && i < len; i++)
		one(data, len <= CUTS ? i : (size_t)((double)len * i / CUTS));
	for (unsigned i = 0; i < CHANGES && len; i++) {
		uint8_t *p, was;

		r ^= r << 13;
		r ^= r >> 7;
		r ^= r << 17;
		/* Half of the changes in the first bytes, where headers are. */
		p = &data[(r >> 16) % (i % 2 && len > 128 ? 128 : len)];
		was = *p;
		*p = i % 4 < 2 ? (uint8_t)(was ^ 1 << (r % 8)) : (uint8_t)(r >> 8);
		one(data, len);
		*p = was;
	}
}

static void replay_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	uint8_t *data;

	if (fd < 0 || fstat(fd, &st) || st.st_size > MAX_LEN) {
		fprintf(stderr, "%s: cannot be replayed\n", path);
		exit(1);
	}
	data = malloc((size_t)st.st_size + 1);
	if (!data || read(fd, data, (size_t)st.st_size) != st.st_size) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		exit(1);
	}
	close(fd);
	variations(data, (size_t)st.st_size);
	free(data);
}

static void replay(const char *path)
{
	char sub[PATH_MAX];
	DIR *dir = opendir(path);
	struct dirent *de;

	if (!dir) {
		replay_file(path);
		return;
	}
	while ((de = readdir(dir))) {
		if (de->d_name[0] == '.')
			continue;
		if (snprintf(sub, sizeof(sub), "%s/%s", path, de->d_name) < (int)sizeof(sub))
			replay(sub);
	}
	closedir(dir);
}

int main(int argc, char **argv)
{
	area_make();
	if (LLVMFuzzerInitialize)
		LLVMFuzzerInitialize(&argc, &argv);
	for (int i = 1; i < argc; i++)
		replay(argv[i]);
	printf("%u inputs\n", replayed);
	return replayed ? 0 : 1;
}
