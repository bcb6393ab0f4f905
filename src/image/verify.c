/* SPDX-License-Identifier: MIT */
/* Every checksum and cross-reference of an image. */
#include "src/image/verify.h"

#include <fcntl.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "src/image/check.h"
#include "src/image/fields.h"
#include "src/image/meta.h"

static bool was_told(struct verify *v, const char *line)
{
	enum { RING = sizeof(v->told) / sizeof(v->told[0]) };
	uint64_t sum = store_sum(line, strlen(line));

	for (unsigned i = 0; i < v->ntold && i < RING; i++)
		if (v->told[i] == sum)
			return true;
	v->told[v->ntold++ % RING] = sum;
	return false;
}

void verify_bad(struct verify *v, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (was_told(v, line))
		return;
	v->ret->bad++;
	if (v->report)
		v->report(v->arg, line);
}

void verify_err(struct verify *v, struct err *err)
{
	verify_bad(v, "%s", err->msg);
	err_clear(err);
}

static void report_line(void *arg, const char *line)
{
	verify_bad(arg, "%s", line);
}

/* --- the list of files ---------------------------------------------------------------------- */

static bool plain_name(const char *name)
{
	return *name && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..") &&
	       strlen(name) < STORE_NAME;
}

static void check_listed(struct verify *v, const Im__ManifestEntry *e)
{
	struct store_file f;
	struct err err = {0};

	if (!plain_name(e->name)) {
		verify_bad(v, INVENTORY_FILE ": lists a file named '%.64s'", e->name);
		return;
	}
	if (store_check_file(v->img->dirfd, e->name, e->check, &f, &err)) {
		verify_err(v, &err);
		return;
	}
	v->ret->files++;
	if (e->check == IM__FILE_CHECK__CHECK_WHOLE)
		v->ret->meta_bytes += f.size;
	if (f.size != e->size)
		verify_bad(v, "%s: has %" PRIu64 " bytes, the inventory says %" PRIu64, e->name,
			   f.size, e->size);
	else if (e->has_sum && f.sum != e->sum)
		verify_bad(v, "%s: checksum %016" PRIx64 ", the inventory says %016" PRIx64 "%s",
			   e->name, f.sum, e->sum,
			   e->check == IM__FILE_CHECK__CHECK_TAIL ? " (end of file)" : "");
}

/* What runs and restores leave beside an image without being part of it. */
static bool may_be_there(const char *name, enum image_format format)
{
	static const char *const endings[] = {".log", ".pid", ".socket"};
	size_t len = strlen(name);

	/* CRIU's way is a directory that others use, too; its readers go by these names. */
	if (format == IMAGE_CRIU && !frame_names_image(name) && strcmp(name, IMAGE_BLOCK_FILE))
		return true;
	if (!strcmp(name, "stats-dump") || !strcmp(name, "stats-restore") ||
	    !strcmp(name, "irmap-cache"))
		return true;
	for (unsigned i = 0; i < sizeof(endings) / sizeof(endings[0]); i++)
		if (len > strlen(endings[i]) &&
		    !strcmp(name + len - strlen(endings[i]), endings[i]))
			return true;
	return false;
}

static int cmp_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The names of the directory but for the inventory, sorted, in @a. */
static int list_dir(struct verify *v, struct arena *a, char ***ret, size_t *ret_n, struct err *err)
{
	int fd = openat(v->img->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_dir DIR *d = fd < 0 ? NULL : fdopendir(fd);
	char **names = NULL;
	struct dirent *e;
	size_t n = 0;

	if (!d) {
		int saved = errno;

		if (fd >= 0)
			close(fd);
		return err_set(err, saved, "list image %s", v->img->path);
	}
	while ((e = readdir(d))) {
		size_t len = strlen(e->d_name) + 1;
		char *name;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") ||
		    !strcmp(e->d_name, INVENTORY_FILE))
			continue;
		name = arena_alloc(a, len);
		names = arena_grow(a, names, (n + 1) * sizeof(*names));
		if (!name || !names)
			return meta_nomem(err, "list of files");
		names[n++] = memcpy(name, e->d_name, len);
	}
	if (n)
		qsort(names, n, sizeof(*names), cmp_name);
	*ret = names;
	*ret_n = n;
	return 0;
}

static void check_list(struct verify *v, const Im__Inventory *inv, char **names, size_t n)
{
	size_t at = 0;

	/* Both are in order: what is only on one side shows on the way. */
	for (size_t i = 0; i < inv->n_manifest; i++) {
		const char *name = inv->manifest[i]->name;

		if (i && strcmp(inv->manifest[i - 1]->name, name) >= 0)
			verify_bad(v, INVENTORY_FILE ": lists '%.64s' out of order", name);
		for (; at < n && strcmp(names[at], name) < 0; at++)
			if (!may_be_there(names[at], v->img->format))
				verify_bad(v, "%s: is not in the inventory", names[at]);
		at += at < n && !strcmp(names[at], name);
		check_listed(v, inv->manifest[i]);
	}
	for (; at < n; at++)
		if (!may_be_there(names[at], v->img->format))
			verify_bad(v, "%s: is not in the inventory", names[at]);
}

/* --- every file parses ---------------------------------------------------------------------- */

static int nothing_entry(void *arg, const char *kind, const char *message, unsigned n)
{
	return 0;
}

static int nothing(void *arg)
{
	return 0;
}

static int nothing_scalar(void *arg, const char *name, const struct field_value *v)
{
	return 0;
}

static int nothing_named(void *arg, const char *name)
{
	return 0;
}

static int nothing_bytes(void *arg, const uint8_t *data, size_t len)
{
	return 0;
}

static bool has_ending(const char *name, const char *ending)
{
	size_t len = strlen(name), end = strlen(ending);

	return len > end && !strcmp(name + len - end, ending);
}

static void check_parses(struct verify *v, char **names, size_t n, bool counted)
{
	static const struct field_visitor visitor = {
		.entry = nothing_entry,
		.entry_end = nothing,
		.scalar = nothing_scalar,
		.message = nothing_named,
		.message_end = nothing,
		.list = nothing_named,
		.list_end = nothing,
		.payload = nothing_bytes,
	};
	struct err err = {0};

	for (size_t i = 0; i < n; i++) {
		if (!has_ending(names[i], ".img") || !strncmp(names[i], "pages-", 6))
			continue;
		v->ret->files += !counted;
		if (fields_walk(v->img, names[i], &visitor, &err))
			verify_err(v, &err);
	}
}

/* --- all of it ------------------------------------------------------------------------------ */

static int check_files(struct verify *v, const Im__Inventory *inv, struct err *err)
{
	struct arena *a = arena_new((size_t)256 << 20, false);
	char **names = NULL;
	size_t n = 0;
	int ret;

	if (!a)
		return meta_nomem(err, "list of files");
	ret = list_dir(v, a, &names, &n, err);
	if (!ret && inv->stasis)
		check_list(v, inv, names, n);
	if (!ret)
		check_parses(v, names, n, inv->stasis != NULL);
	arena_free(a);
	return ret;
}

static int verify_open(struct verify *v, struct err *err)
{
	struct model *m = NULL;
	struct store_in inv;
	int ret;

	ret = meta_load_inventory(v->img->dirfd, &inv, err);
	if (ret)
		return ret;
	v->ret->files++;
	v->ret->meta_bytes += inv.all.len;
	ret = check_files(v, meta_inventory(&inv), err);
	store_unload(&inv);
	if (ret)
		return ret;
	m = meta_read(v->img->dirfd, err);
	if (!m)
		verify_err(v, err);
	else
		check_model(m, report_line, v);
	v->m = m;
	ret = verify_pages(v, err);
	model_free(m);
	return ret;
}

int image_verify(const char *path, unsigned threads, void (*report)(void *arg, const char *line),
		 void *arg, struct image_verify *ret, struct err *err)
{
	struct image_verify res = {0};
	struct verify v = {.threads = threads, .report = report, .arg = arg, .ret = &res};
	struct err why = {0};
	int e;

	v.img = image_open(path, &why);
	e = v.img ? verify_open(&v, &why) : -why.errnum;
	image_close(v.img);
	/*
	 * Damage of the inventory, which stops everything else, is a finding too; and so is
	 * whatever stopped us in an image that is damaged anyway.
	 */
	if (e && (why.errnum == EBADMSG || res.bad)) {
		verify_err(&v, &why);
		e = 0;
	}
	*ret = res;
	if (e)
		return err_take(err, &why);
	if (!res.bad)
		return 0;
	return err_fail(err, EBADMSG, ERR_IMAGE, "image %s is damaged: %u finding%s", path, res.bad,
			res.bad == 1 ? "" : "s");
}
