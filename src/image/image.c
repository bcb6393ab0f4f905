/* SPDX-License-Identifier: MIT */
/* An image: a directory that exists whole or not at all. */
#include "src/image/image.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "src/image/check.h"
#include "src/image/meta.h"
#include "src/image/misc.pb-c.h"
#include "src/image/place.h"
#include "src/image/store.h"

static struct image *image_new(const char *path, struct err *err)
{
	struct image *img = calloc(1, sizeof(*img));
	char *copy = strdup(path);

	if (!img || !copy) {
		free(img);
		free(copy);
		err_set(err, ENOMEM, "image %s", path);
		return NULL;
	}
	img->path = copy;
	img->dirfd = -1;
	img->parent_fd = -1;
	return img;
}

static struct image *create(const char *path, enum image_format format, bool into, struct err *err)
{
	struct image *img = image_new(path, err);

	if (!img)
		return NULL;
	img->format = format;
	img->into = into;
	img->writing = true;
	if (place_make(img, err) < 0) {
		image_close(img);
		return NULL;
	}
	return img;
}

struct image *image_create(const char *path, enum image_format format, struct err *err)
{
	return create(path, format, false, err);
}

struct image *image_create_into(const char *path, enum image_format format, struct err *err)
{
	return create(path, format, true, err);
}

struct image *image_open(const char *path, struct err *err)
{
	return image_open_at(AT_FDCWD, path, err);
}

struct image *image_open_at(int dirfd, const char *path, struct err *err)
{
	struct image *img = image_new(path, err);
	struct store_in in;
	int ret;

	if (!img)
		return NULL;
	img->dirfd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (img->dirfd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
		err_fail(err, errno, ERR_IMAGE, "%s is not an image: %s", path,
			 errno == ENOENT ? "it does not exist" : "an image is a directory");
		goto fail;
	}
	if (img->dirfd < 0) {
		err_set(err, errno, "open image %s", path);
		goto fail;
	}
	ret = meta_load_inventory(img->dirfd, &in, err);
	if (ret == -ENOENT && err) {
		err_clear(err);
		err_fail(err, ENOENT, ERR_IMAGE, "%s is not an image: it has no " INVENTORY_FILE,
			 path);
		err_hint(err, "a directory without it may be an unfinished dump");
	}
	if (ret)
		goto fail;
	img->format = meta_inventory_format(meta_inventory(&in));
	store_unload(&in);
	return img;
fail:
	image_close(img);
	return NULL;
}

int image_dirfd(const struct image *img)
{
	return img->dirfd;
}

uint64_t image_size(const struct image *img)
{
	cleanup_fd int fd = openat(img->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	uint64_t sum = 0;
	struct dirent *de;
	struct stat st;

	if (!dir)
		return 0;
	take_fd(&fd);
	while ((de = readdir(dir)))
		if (fstatat(img->dirfd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode))
			sum += (uint64_t)st.st_size;
	return sum;
}

const char *image_path(const struct image *img)
{
	return img->path;
}

enum image_format image_format(const struct image *img)
{
	return img->format;
}

int image_write_model(struct image *img, const struct model *m, struct err *err)
{
	return meta_write(img, m, err);
}

int image_commit(struct image *img, const struct model *m, struct err *err)
{
	int ret = store_sync(img, err);

	if (!ret)
		ret = meta_write_inventory(img, m, img->in_place ? INVENTORY_TMP : INVENTORY_FILE,
					   err);
	if (!ret)
		ret = store_flush(img, err);
	if (!ret)
		ret = place_publish(img, err);
	if (!ret)
		img->writing = false;
	return ret;
}

static void first_finding(void *err, const char *line)
{
	err_fail(err, EBADMSG, ERR_IMAGE, "%s", line);
}

struct model *image_read_model(struct image *img, struct err *err)
{
	struct model *m = meta_read(img->dirfd, err);

	if (m && check_model(m, first_finding, err)) {
		model_free(m);
		return NULL;
	}
	return m;
}

void image_close(struct image *img)
{
	if (!img)
		return;
	store_abandon(img);
	if (img->writing)
		place_remove(img);
	if (img->dirfd >= 0)
		close(img->dirfd);
	if (img->parent_fd >= 0)
		close(img->parent_fd);
	frame_deinit(&img->out);
	free(img->files);
	free(img->path);
	free(img);
}

static int write_stats(int dirfd, const char *name, const Im__Stats *stats, struct err *err)
{
	struct frame_out out = {0};
	int ret;

	frame_begin(&out, FRAME_STATS);
	frame_add(&out, &stats->base);
	ret = store_write_loose(dirfd, name, &out, err);
	frame_deinit(&out);
	return ret;
}

int image_write_stats(int dirfd, const struct image_stats *st, struct err *err)
{
	Im__DumpStats dump = IM__DUMP_STATS__INIT;
	Im__Stats stats = IM__STATS__INIT;

	dump.freezing_time = st->freezing_us;
	dump.frozen_time = st->frozen_us;
	dump.memdump_time = st->memdump_us;
	dump.memwrite_time = st->memwrite_us;
	dump.pages_scanned = st->pages_scanned;
	dump.pages_written = st->pages_written;
	stats.dump = &dump;
	return write_stats(dirfd, "stats-dump", &stats, err);
}

int image_write_restore_stats(int dirfd, const struct image_restore_stats *st, struct err *err)
{
	Im__RestoreStats restore = IM__RESTORE_STATS__INIT;
	Im__Stats stats = IM__STATS__INIT;

	restore.forking_time = st->forking_us;
	restore.restore_time = st->restore_us;
	restore.has_pages_restored = true;
	restore.pages_restored = st->pages_restored;
	stats.restore = &restore;
	return write_stats(dirfd, "stats-restore", &stats, err);
}
