/* SPDX-License-Identifier: MIT */
/* Every reader of image metadata on arbitrary bytes. */
/* timeout: 600 */
#include <dirent.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "src/image/fields.h"
#include "src/image/files.pb-c.h"
#include "src/image/frame.h"
#include "src/image/image.h"
#include "src/ops/restore.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/*
 * The first byte of an input names a file; the rest takes its place in a copy of a golden image,
 * which is then read, verified and shown.
 */
struct base {
	const char *golden;
	const char *dir; /* its copy */
	const char *names[16];
};

static const struct base bases[] = {
	{"image-1.0",
	 "ours",
	 {"inventory.img", "pstree.img", "ids-300.img", "core-300.img", "core-301.img",
	  "mm-300.img", "fs-300.img", "fdinfo-2.img", "files.img", "pagemap-300.img",
	  "pagemap-shmem-1.img", "timens-0.img", "seccomp.img", "core-302.img"}},
	{"criu-4.2",
	 "stock",
	 {"inventory.img", "pstree.img", "ids-400.img", "core-400.img", "memfd.img", "mm-400.img",
	  "fs-400.img", "fdinfo-2.img", "files.img", "pagemap-400.img", "pagemap-shmem-987.img",
	  "timens-0.img", "seccomp.img", "pagemap-shmem-55.img"}},
	/* What files held: write_contents(). */
	{"image-1.0",
	 "contents",
	 {"pipes-data.img", "fifo-data.img", "remap-fpath.img", "ghost-file-1.img", "filelocks.img",
	  "files.img", "sk-queues.img", "tty-info.img", "tty-data.img", "tcp-stream-77.img"}},
};

enum { NBASES = sizeof(bases) / sizeof(bases[0]) };

static char place[4096];

static void write_file(const char *path, const uint8_t *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, data, len) != (ssize_t)len)
		abort();
	close(fd);
}

static size_t read_file(const char *path, uint8_t *to, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, to, room);

	if (n < 0) {
		fprintf(stderr, "%s: cannot be read; run from the root of the source\n", path);
		exit(1);
	}
	close(fd);
	return (size_t)n;
}

static void copy_base(const struct base *b)
{
	static uint8_t data[1 << 16];
	char from[256], to[4500];
	struct dirent *e;
	DIR *d;

	snprintf(to, sizeof(to), "%s/%s", place, b->dir);
	mkdir(to, 0700);
	snprintf(from, sizeof(from), "tests/golden/%s", b->golden);
	d = opendir(from);
	while (d && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(from, sizeof(from), "tests/golden/%s/%.100s", b->golden, e->d_name);
		snprintf(to, sizeof(to), "%s/%s/%.100s", place, b->dir, e->d_name);
		write_file(to, data, read_file(from, data, sizeof(data)));
	}
	if (d)
		closedir(d);
}

static void write_frame(const struct frame_out *out, const char *name)
{
	char path[4500];

	snprintf(path, sizeof(path), "%s/contents/%s", place, name);
	write_file(path, out->buf, out->len);
}

static void add_connection(struct frame_out *out)
{
	static uint8_t data[1 << 16];
	Im__File file = IM__FILE__INIT;
	Im__InetSk isk = IM__INET_SK__INIT;
	Im__SkOpts opts = IM__SK_OPTS__INIT;
	Im__Fown fown = IM__FOWN__INIT;
	char path[4500];

	snprintf(path, sizeof(path), "%s/contents/files.img", place);
	out->len = 0;
	frame_bytes(out, data, read_file(path, data, sizeof(data)));
	file.type = IM__FD_TYPE__INETSK;
	file.id = isk.id = 1000;
	isk.ino = 0x77;
	isk.family = 2;
	isk.type = isk.state = 1;
	isk.proto = 6;
	isk.fown = &fown;
	isk.opts = &opts;
	file.isk = &isk;
	frame_add(out, &file.base);
	write_frame(out, "files.img");
}

static void write_sockets(struct frame_out *out)
{
	Im__SkPacket packet = IM__SK_PACKET__INIT;
	Im__TtyInfo tty = IM__TTY_INFO__INIT;
	Im__TtyData tty_data = IM__TTY_DATA__INIT;
	Im__TcpStream stream = IM__TCP_STREAM__INIT;

	packet.id_for = 1;
	packet.length = 5;
	frame_begin(out, FRAME_SK_QUEUES);
	frame_add(out, &packet.base);
	frame_bytes(out, "12345", 5);
	write_frame(out, "sk-queues.img");
	tty.id = tty_data.tty_id = 2;
	frame_begin(out, FRAME_TTY_INFO);
	frame_add(out, &tty.base);
	write_frame(out, "tty-info.img");
	frame_begin(out, FRAME_TTY_DATA);
	frame_add(out, &tty_data.base);
	write_frame(out, "tty-data.img");
	stream.inq_len = 2;
	stream.outq_len = 3;
	frame_begin(out, FRAME_TCP_STREAM);
	frame_add(out, &stream.base);
	frame_bytes(out, "12345", 5);
	write_frame(out, "tcp-stream-77.img");
	add_connection(out);
}

/* One of each file that golden images do not have, by the program's own means. */
static void write_contents(void)
{
	Im__PipeData pipe = IM__PIPE_DATA__INIT;
	Im__RemapPath remap = IM__REMAP_PATH__INIT;
	Im__GhostFile ghost = IM__GHOST_FILE__INIT;
	Im__GhostChunk chunk = IM__GHOST_CHUNK__INIT;
	Im__FileLock lock = IM__FILE_LOCK__INIT;
	struct frame_out out = {0};
	uint32_t packets[] = {2, 3};

	pipe.bytes = chunk.len = 5;
	pipe.n_packets = 2;
	pipe.packets = packets;
	frame_begin(&out, FRAME_PIPES_DATA);
	frame_add(&out, &pipe.base);
	frame_bytes(&out, "12345", 5);
	write_frame(&out, "pipes-data.img");
	frame_begin(&out, FRAME_FIFO_DATA);
	frame_add(&out, &pipe.base);
	frame_bytes(&out, "12345", 5);
	write_frame(&out, "fifo-data.img");
	remap.orig_id = remap.remap_id = 1;
	remap.has_remap_type = true;
	remap.remap_type = IM__REMAP_TYPE__GHOST;
	frame_begin(&out, FRAME_REMAP);
	frame_add(&out, &remap.base);
	write_frame(&out, "remap-fpath.img");
	ghost.has_chunks = ghost.chunks = true;
	frame_begin(&out, FRAME_GHOST);
	frame_add(&out, &ghost.base);
	for (chunk.off = 0; chunk.off < 20; chunk.off += 10) {
		frame_add(&out, &chunk.base);
		frame_bytes(&out, "12345", 5);
	}
	write_frame(&out, "ghost-file-1.img");
	lock.flag = 2;
	lock.pid = 300;
	frame_begin(&out, FRAME_FILELOCKS);
	frame_add(&out, &lock.base);
	write_frame(&out, "filelocks.img");
	write_sockets(&out);
	frame_deinit(&out);
}

static void clean_up(void)
{
	char command[4200];

	snprintf(command, sizeof(command), "rm -rf '%s'", place);
	if (system(command))
		fprintf(stderr, "%s: left behind\n", place);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(place, sizeof(place), "%s/stasis-fuzz-XXXXXX", tmp ? tmp : "/dev/shm");
	if (!mkdtemp(place))
		exit(1);
	atexit(clean_up);
	for (unsigned i = 0; i < NBASES; i++)
		copy_base(&bases[i]);
	write_contents();
	return 0;
}

/* --- what looks at the bytes ---------------------------------------------------------------- */

static volatile uint64_t sink;

static int see_entry(void *arg, const char *kind, const char *message, unsigned n)
{
	sink += strlen(kind) + (message ? strlen(message) : 0) + n;
	return 0;
}

static int see_end(void *arg)
{
	return 0;
}

static int see_named(void *arg, const char *name)
{
	sink += name ? strlen(name) : 0;
	return 0;
}

static int see_bytes(void *arg, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		sink += data[i];
	return 0;
}

static int see_scalar(void *arg, const char *name, const struct field_value *v)
{
	sink += v->u + (uint64_t)v->i + (v->text ? strlen(v->text) : 0);
	return v->kind == FIELD_BYTES ? see_bytes(NULL, v->data, v->len) : 0;
}

static void see_pages(struct image *img, const struct model *m)
{
	struct image_mem *mem = image_mem_open(img, NULL);
	struct md_extent e;
	uint8_t buf[100];

	for (uint32_t i = 0; mem && i < m->nprocs; i++)
		for (uint64_t at = 0, n = 0;
		     n < 50 &&
		     image_mem_extent(mem, MD_SPACE_PROC(m->procs[i].pid), at, &e, NULL) > 0;
		     at = e.addr + e.len, n++)
			sink += (uint64_t)image_mem_read(mem, MD_SPACE_PROC(m->procs[i].pid),
							 e.addr, buf, sizeof(buf), NULL);
	image_mem_close(mem);
}

/* Registers, and those made of another tool's messages, before a restore has made anything. */
static void see_cpu(struct model *m)
{
	const struct restore_opts opts = {.dir = "image", .cpu_unchecked = RESTORE_CPU_INS};
	const struct restore r = {.opts = &opts, .model = m};
	struct err err = {0};

	if (restore_check_cpu(&r, &err) < 0 && !err.msg[0])
		abort();
}

static void see_image(const char *path)
{
	struct image_verify res;
	struct err err = {0};
	struct image *img = image_open(path, &err);
	struct model *m = img ? image_read_model(img, &err) : NULL;

	/* A refusal says why. */
	if (!m && !err.msg[0])
		abort();
	if (m) {
		see_pages(img, m);
		see_cpu(m);
	}
	model_free(m);
	image_close(img);
	image_verify(path, 1, NULL, NULL, &res, NULL);
}

/* --- the input ------------------------------------------------------------------------------ */

/* The inventory's own checksum would keep every change out. */
static void put_right(uint8_t *data, size_t len)
{
	uint64_t sum;

	if (len < 16)
		return;
	sum = XXH3_64bits(data, len - 8);
	memcpy(data + len - 8, &sum, 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const struct field_visitor visitor = {
		.entry = see_entry,
		.entry_end = see_end,
		.scalar = see_scalar,
		.message = see_named,
		.message_end = see_end,
		.list = see_named,
		.list_end = see_end,
		.payload = see_bytes,
	};
	static uint8_t copy[1 << 20], was[1 << 16];
	const struct base *b;
	const char *name;
	char path[4500];
	size_t was_len;

	if (len < 1 || len > sizeof(copy))
		return 0;
	b = &bases[(data[0] >> 4) % NBASES];
	name = b->names[data[0] & 15];
	fields_walk_bytes("input", data + 1, len - 1, &visitor, NULL);
	if (!name)
		return 0;
	memcpy(copy, data + 1, len - 1);
	if (b != &bases[1] && !strcmp(name, "inventory.img"))
		put_right(copy, len - 1);
	snprintf(path, sizeof(path), "%s/%s/%s", place, b->dir, name);
	was_len = read_file(path, was, sizeof(was));
	write_file(path, copy, len - 1);
	path[strlen(path) - strlen(name) - 1] = '\0';
	see_image(path);
	path[strlen(path)] = '/';
	write_file(path, was, was_len);
	return 0;
}
