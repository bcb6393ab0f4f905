/* SPDX-License-Identifier: MIT */
/* One whole image of a chain: the pages of all its images together, the metadata of the last. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "src/ops/ops.h"

/* --- the pages of a chain, as a reader ------------------------------------------------------ */

struct chain_reader {
	struct md_reader r;
	struct md_file *f;
	size_t at; /* space */
	uint64_t space, addr, space_off;
	bool begun;
};

/* The next piece that is stored anywhere; 0 at the end. */
static int next_extent(struct chain_reader *r, uint64_t most, struct md_extent *ret)
{
	while (r->begun || md_file_space(r->f, r->at, &r->space)) {
		if (!r->begun) {
			r->addr = r->space_off = 0;
			r->begun = true;
		}
		if (md_file_extent(r->f, r->space, r->addr, ret) > 0) {
			ret->len = ret->len < most ? ret->len : most;
			return 1;
		}
		r->begun = false;
		r->at++;
	}
	return 0;
}

static int chain_next(struct md_reader *reader, struct md_block *b, uint32_t block_size,
		      struct err *err)
{
	struct chain_reader *r = (struct chain_reader *)reader;
	struct md_extent e;

	while (b->raw_len < block_size && b->nextents < MD_BLOCK_EXTENTS &&
	       next_extent(r, block_size - b->raw_len, &e) > 0) {
		struct md_extent *last = b->nextents ? &b->extents[b->nextents - 1] : NULL;
		ssize_t n;

		if (b->nextents && b->space != r->space)
			break;
		n = md_file_read(r->f, r->space, e.addr, b->raw + b->raw_len, e.len, err);
		if (n < 0)
			return (int)n;
		if (n == 0)
			return err_set(err, EIO, "read %#lx of an image", (unsigned long)e.addr);
		if (last && last->addr + last->len == e.addr)
			last->len += (uint64_t)n;
		else
			b->extents[b->nextents++] = (struct md_extent){e.addr, (uint64_t)n};
		b->space = r->space;
		b->raw_len += (uint32_t)n;
		r->addr = e.addr + (uint64_t)n;
	}
	if (!b->raw_len)
		return 0;
	b->space_off = r->space_off;
	r->space_off += b->raw_len;
	return 1;
}

static void chain_close(struct md_reader *reader)
{
	free(reader);
}

static struct md_reader *chain_open(struct md_file *f, struct err *err)
{
	struct chain_reader *r = calloc(1, sizeof(*r));

	if (!r) {
		err_set(err, ENOMEM, "reader of an image");
		return NULL;
	}
	r->r = (struct md_reader){.next = chain_next, .close = chain_close};
	r->f = f;
	return &r->r;
}

/* --- the rest ------------------------------------------------------------------------------- */

static int copy_file(int from_dir, int to_dir, const char *name, struct err *err)
{
	cleanup_fd int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_fd int to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	char buf[64 << 10];
	ssize_t n;

	if (from < 0 || to < 0)
		return err_set(err, errno, "copy %s", name);
	while ((n = io_read(from, buf, sizeof(buf))) > 0) {
		ssize_t done = io_write(to, buf, (size_t)n);

		if (done < 0)
			return err_set(err, (int)-done, "write %s", name);
	}
	if (n < 0)
		return err_set(err, (int)-n, "read %s", name);
	return fsync(to) < 0 ? err_set(err, errno, "fsync %s", name) : 0;
}

/* Metadata as it is; the inventory is written anew, for it knows the others. */
static int copy_metadata(struct image *from, struct image *to, struct err *err)
{
	int fd = openat(image_dirfd(from), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	struct stat st;
	int ret = 0;

	if (!dir)
		return err_set(err, errno, "list %s", image_path(from));
	while (ret == 0 && (e = readdir(dir))) {
		if (!strcmp(e->d_name, IMAGE_BLOCK_FILE) || !strcmp(e->d_name, "inventory.img") ||
		    fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
			continue;
		ret = copy_file(fd, image_dirfd(to), e->d_name, err);
	}
	return ret;
}

static int copy_pages(const struct squash_opts *o, struct image *from, struct image *to,
		      struct md_stats *stats, struct err *err)
{
	struct md_file_opts fopts = {0};
	struct md_opts mopts = {
		.codec = o->codec,
		.level = o->level,
		.threads = o->threads,
		.stop = o->stop,
		.stop_arg = o->arg,
	};
	struct md_file *f = md_file_open(image_dirfd(from), IMAGE_BLOCK_FILE, 0, err);
	struct md_reader *reader = f ? chain_open(f, err) : NULL;
	struct md_writer *writer = NULL;
	int ret = reader ? 0 : -err->errnum;

	if (ret == 0) {
		fopts.page_size = md_file_page_size(f);
		writer = md_writer_file_open(image_dirfd(to), IMAGE_BLOCK_FILE, &fopts, err);
		ret = writer ? md_run(reader, writer, &mopts, stats, err) : -err->errnum;
	}
	if (ret == 0)
		ret = writer->sync(writer, err);
	if (ret == -EINTR)
		err->class = ERR_INTERRUPTED;
	if (writer)
		writer->close(writer);
	if (reader)
		reader->close(reader);
	md_file_close(f);
	return ret;
}

int squash_run(const struct squash_opts *o, struct md_stats *stats, struct err *err)
{
	struct image *from = image_open(o->dir, err), *to = NULL;
	struct model *m = from ? image_read_model(from, err) : NULL;
	int ret = m ? 0 : -err->errnum;

	memset(stats, 0, sizeof(*stats));
	if (ret == 0 && image_format(from) != IMAGE_STASIS)
		ret = err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
			       "%s is an image with CRIU's page files: only the stasis format can "
			       "be squashed",
			       o->dir);
	if (ret == 0) {
		to = image_create(o->out, IMAGE_STASIS, err);
		ret = to ? copy_pages(o, from, to, stats, err) : -err->errnum;
	}
	if (ret == 0)
		ret = copy_metadata(from, to, err);
	if (ret == 0)
		ret = image_commit(to, m, err);
	image_close(to);
	model_free(m);
	image_close(from);
	if (ret < 0 && err->class == ERR_NOSPACE)
		err_hint(err,
			 "there is no room for the image %s: free some space there, or choose "
			 "another directory (-o)",
			 o->out);
	return ret;
}
