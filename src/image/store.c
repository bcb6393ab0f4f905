/* SPDX-License-Identifier: MIT */
/* The files of an image directory: written whole and registered, read whole and bounded. */
#include "src/image/store.h"

#include <assert.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "memdump/sum.h"

const char *store_name(char buf[STORE_NAME], const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, STORE_NAME, fmt, ap);
	va_end(ap);
	return buf;
}

uint64_t store_sum(const void *p, size_t len)
{
	return md_sum(p, len);
}

/* --- writing -------------------------------------------------------------------------------- */

/* A flush of the disk for each of thousands of small files would take longer than the dump. */
static int sync_all(struct image *img, struct err *err)
{
	/* Linux 5.8: reports what went wrong since dirfd was opened. */
	if (img->more_pending && syncfs(img->dirfd) < 0)
		return err_set(err, errno, "sync the filesystem of image %s", img->path);
	for (unsigned i = 0; i < img->npending && !img->more_pending; i++)
		if (fsync(img->pending[i]) < 0)
			return err_set(err, errno, "fsync files of image %s", img->path);
	return FAULT("image.sync") ? err_set(err, EIO, "fault injected at image.sync") : 0;
}

int store_flush(struct image *img, struct err *err)
{
	int ret = sync_all(img, err);

	store_abandon(img);
	img->more_pending = false;
	return ret;
}

void store_abandon(struct image *img)
{
	while (img->npending)
		close(img->pending[--img->npending]);
}

static struct store_file *find(struct image *img, const char *name)
{
	for (uint32_t i = img->nfiles; i > 0; i--)
		if (!strcmp(img->files[i - 1].name, name))
			return &img->files[i - 1];
	return NULL;
}

static struct store_file *add(struct image *img, struct err *err)
{
	if (img->nfiles == img->files_cap) {
		uint32_t cap = img->files_cap ? 2 * img->files_cap : 64;
		struct store_file *files = realloc(img->files, cap * sizeof(*files));

		if (!files) {
			err_set(err, ENOMEM, "list of %u files of image %s", cap, img->path);
			return NULL;
		}
		img->files = files;
		img->files_cap = cap;
	}
	return &img->files[img->nfiles++];
}

int store_adopt(struct image *img, const struct store_file *f, struct err *err)
{
	struct store_file *slot = find(img, f->name);

	if (!slot)
		slot = add(img, err);
	if (!slot)
		return -ENOMEM;
	*slot = *f;
	return 0;
}

int store_create(struct image *img, const char *name, struct err *err)
{
	int fd = openat(img->dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0 || FAULT("image.create-file")) {
		int e = fd < 0 ? errno : EIO;

		if (fd >= 0)
			close(fd);
		return err_set(err, e, "create %s/%s", img->path, name);
	}
	/* A umask may take bits away. Filesystems without modes refuse this: not our loss. */
	(void)!fchmod(fd, 0600);
	return fd;
}

int store_put(struct image *img, const char *name, struct err *err)
{
	struct frame_out *out = &img->out;
	struct store_file *f;
	ssize_t n;
	int fd;

	if (out->failed)
		return err_set(err, ENOMEM, "make %s/%s", img->path, name);
	fd = store_create(img, name, err);
	if (fd < 0)
		return fd;
	n = FAULT("image.write") ? -EIO : io_write(fd, out->buf, out->len);
	f = n < 0 ? NULL : add(img, err);
	if (!f) {
		close(fd);
		return n < 0 ? err_set(err, (int)-n, "write %s/%s", img->path, name) : -ENOMEM;
	}
	f->check = IM__FILE_CHECK__CHECK_WHOLE;
	f->size = out->len;
	f->sum = store_sum(out->buf, out->len);
	store_name(f->name, "%s", name);
	if (img->npending < STORE_PENDING) {
		img->pending[img->npending++] = fd;
	} else {
		img->more_pending = true;
		close(fd);
	}
	return 0;
}

int store_write_loose(int dirfd, const char *name, const struct frame_out *out, struct err *err)
{
	cleanup_fd int fd = -1;
	ssize_t n;

	if (out->failed)
		return err_set(err, ENOMEM, "make %s", name);
	fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_set(err, errno, "create %s", name);
	n = io_write(fd, out->buf, out->len);
	return n < 0 ? err_set(err, (int)-n, "write %s", name) : 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct store_file *)a)->name, ((const struct store_file *)b)->name);
}

/* A file that appeared in the directory without us: our block file, statistics, a parent link. */
static int adopt_stranger(struct image *img, const char *name, struct err *err)
{
	struct store_file f;
	struct stat st;
	int ret;

	if (fstatat(img->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(err, errno, "look at %s/%s", img->path, name);
	if (S_ISLNK(st.st_mode))
		ret = store_check_file(img->dirfd, name, IM__FILE_CHECK__CHECK_LINK, &f, err);
	else if (!strcmp(name, IMAGE_BLOCK_FILE))
		ret = store_check_file(img->dirfd, name, IM__FILE_CHECK__CHECK_TAIL, &f, err);
	else
		ret = store_check_file(img->dirfd, name, IM__FILE_CHECK__CHECK_WHOLE, &f, err);
	if (ret)
		return ret;
	if (!S_ISLNK(st.st_mode)) {
		cleanup_fd int fd = openat(img->dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

		if (fd < 0 || fsync(fd) < 0)
			return err_set(err, errno, "fsync %s/%s", img->path, name);
	}
	return store_adopt(img, &f, err);
}

int store_sync(struct image *img, struct err *err)
{
	cleanup_dir DIR *d = NULL;
	struct dirent *e;
	uint32_t known;
	int fd, ret;

	ret = store_flush(img, err);
	if (ret)
		return ret;
	fd = openat(img->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		ret = err_set(err, errno, "list image %s", img->path);
		if (fd >= 0)
			close(fd);
		return ret;
	}
	/* None of ours yet, if all were put there by somebody else. */
	if (img->nfiles)
		qsort(img->files, img->nfiles, sizeof(*img->files), by_name);
	known = img->nfiles;
	while ((e = readdir(d))) {
		struct store_file key;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		store_name(key.name, "%s", e->d_name);
		if (known && bsearch(&key, img->files, known, sizeof(key), by_name))
			continue;
		ret = adopt_stranger(img, e->d_name, err);
		if (ret)
			return ret;
	}
	if (img->nfiles)
		qsort(img->files, img->nfiles, sizeof(*img->files), by_name);
	return 0;
}

void store_wipe(int dirfd)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_dir DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			unlinkat(dirfd, e->d_name, 0);
}

/* --- reading -------------------------------------------------------------------------------- */

int store_open(int dirfd, const char *name, uint64_t *ret_size, struct err *err)
{
	/* O_NONBLOCK: a FIFO planted under the name must not make us wait. */
	cleanup_fd int fd =
		openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	struct stat st;

	if (fd < 0 && errno == ELOOP)
		return err_fail(err, EBADMSG, ERR_IMAGE, "%s: is a symbolic link", name);
	if (fd < 0 && errno == ENOENT)
		return err_fail(err, ENOENT, ERR_IMAGE, "%s: is missing", name);
	if (fd < 0)
		return err_set(err, errno, "open %s", name);
	if (fstat(fd, &st) < 0)
		return err_set(err, errno, "stat %s", name);
	if (!S_ISREG(st.st_mode))
		return err_fail(err, EBADMSG, ERR_IMAGE, "%s: is not a regular file", name);
	*ret_size = (uint64_t)st.st_size;
	return take_fd(&fd);
}

static int sum_link(int dirfd, const char *name, struct store_file *ret, struct err *err)
{
	char text[PATH_MAX];
	ssize_t n = readlinkat(dirfd, name, text, sizeof(text));

	if (n < 0)
		return err_set(err, errno, "read link %s", name);
	ret->size = (uint64_t)n;
	ret->sum = store_sum(text, (size_t)n);
	return 0;
}

static int sum_from(int fd, const char *name, uint64_t off, uint64_t size, uint64_t *ret_sum,
		    struct err *err)
{
	/* One byte more than is left shows a file that grows. */
	const size_t most = 1 << 20, chunk = size - off < most ? (size_t)(size - off) + 1 : most;
	cleanup_free uint8_t *buf = malloc(chunk);
	struct md_sum_run run;
	ssize_t n;

	if (!buf || !md_sum_begin(&run))
		return err_set(err, ENOMEM, "read %s", name);
	while ((n = io_pread(fd, buf, chunk, off)) > 0) {
		md_sum_add(&run, buf, (size_t)n);
		off += (uint64_t)n;
	}
	*ret_sum = md_sum_end(&run);
	return n < 0 ? err_set(err, (int)-n, "read %s", name) : 0;
}

int store_check_file(int dirfd, const char *name, Im__FileCheck check, struct store_file *ret,
		     struct err *err)
{
	cleanup_fd int fd = -1;
	uint64_t off = 0;

	memset(ret, 0, sizeof(*ret));
	store_name(ret->name, "%s", name);
	ret->check = check;
	if (check == IM__FILE_CHECK__CHECK_LINK)
		return sum_link(dirfd, name, ret, err);
	fd = store_open(dirfd, name, &ret->size, err);
	if (fd < 0)
		return fd;
	if (check == IM__FILE_CHECK__CHECK_RUNS)
		return 0;
	if (check == IM__FILE_CHECK__CHECK_TAIL && ret->size > STORE_TAIL)
		off = ret->size - STORE_TAIL;
	return sum_from(fd, name, off, ret->size, &ret->sum, err);
}

static int load(int dirfd, const char *name, struct store_in *in, struct err *err)
{
	cleanup_fd int fd = -1;
	uint64_t size;
	void *data;
	ssize_t n;

	fd = store_open(dirfd, name, &size, err);
	if (fd < 0)
		return fd;
	if (size > STORE_META_MAX)
		return err_fail(err, EBADMSG, ERR_IMAGE, "%s: %" PRIu64 " bytes of metadata", name,
				size);
	in->arena = arena_new(frame_arena_size(size), false);
	data = in->arena ? arena_alloc(in->arena, size) : NULL;
	if (!data)
		return err_set(err, ENOMEM, "read %" PRIu64 " bytes of %s", size, name);
	n = io_pread(fd, data, size, 0);
	if (n < 0)
		return err_set(err, (int)-n, "read %s", name);
	in->all = bytes_of(data, (size_t)n);
	return 0;
}

int store_load(int dirfd, enum frame_id id, const char *name, struct store_in *ret, struct err *err)
{
	struct store_in in = {0};
	int e = load(dirfd, name, &in, err);

	if (!e)
		e = frame_open_as(&in.f, id, name, in.all.start, in.all.len, in.arena, err);
	if (e)
		store_unload(&in);
	else
		*ret = in;
	return e;
}

int store_load_any(int dirfd, const char *name, struct store_in *ret, struct err *err)
{
	struct store_in in = {0};
	int e = load(dirfd, name, &in, err);

	if (!e)
		e = frame_open(&in.f, name, in.all.start, in.all.len, in.arena, err);
	if (e)
		store_unload(&in);
	else
		*ret = in;
	return e;
}

void store_unload(struct store_in *in)
{
	arena_free(in->arena);
	in->arena = NULL;
}
