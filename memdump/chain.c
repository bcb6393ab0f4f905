/* SPDX-License-Identifier: MIT */
/* A block file with its parents, opened. */
#include "memdump/chain.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

#define MD_PARENT_HINT                                                                              \
	"put the earlier image back where it was, or have the link \"parent\" lead to where it is " \
	"now (ln -sfn)"

int md_err_where(struct err *err, const char *where, const struct err *from)
{
	if (!from->errnum)
		return 0;
	err_fail(err, from->errnum, from->class, "%s%s", where, from->msg);
	if (from->hint[0])
		err_hint(err, "%s", from->hint);
	return -from->errnum;
}

enum { DIR_LEN = 160 };

/* What the directory is called; false when that cannot be told. */
static bool path_of(int dirfd, char *ret)
{
	char link[32];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", dirfd);
	n = readlink(link, ret, DIR_LEN);
	if (n <= 0 || n >= DIR_LEN)
		return false;
	ret[n] = '\0';
	return true;
}

/* What the directory is called, else how it was reached. */
static void name_dir(int dirfd, const char *name, unsigned depth, char *ret)
{
	char dir[DIR_LEN];

	if (path_of(dirfd, dir))
		snprintf(ret, MD_WHERE_LEN, "parent %u, %s/%.40s: ", depth, dir, name);
	else
		snprintf(ret, MD_WHERE_LEN, "parent %u: ", depth);
}

/* Where the link of the child in @dirfd leads; what is no link leads nowhere. */
static void name_link(int dirfd, char *ret)
{
	ssize_t n = readlinkat(dirfd, "parent", ret, DIR_LEN - 1);

	if (n <= 0)
		snprintf(ret, DIR_LEN, "nowhere");
	else
		ret[n] = '\0';
	/* Whoever made the image wrote it. */
	for (char *c = ret; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
}

/* That it is not there is what is wrong with the child, which lies in @dirfd. */
static int missing(struct err *err, int errnum, int dirfd, unsigned depth)
{
	bool gone = errnum == ENOENT || errnum == ENOTDIR || errnum == ELOOP;
	char child[DIR_LEN], link[DIR_LEN];

	if (!path_of(dirfd, child))
		snprintf(child, sizeof(child), "its child");
	name_link(dirfd, link);
	if (!gone)
		return err_set(err, errnum, "parent %u: open the earlier image of %s, %s", depth,
			       child, link);
	err_fail(
		err, EBADMSG, ERR_IMAGE,
		"parent %u: the earlier image of %s is not there: its link \"parent\" leads to %s: %s",
		depth, child, link, strerrordesc_np(errnum));
	err_hint(err, MD_PARENT_HINT);
	return -EBADMSG;
}

int md_parent_dir(int dirfd, const char *name, unsigned depth, char *ret_where, struct err *err)
{
	int fd;

	if (depth >= MD_CHAIN_MAX)
		return err_fail(err, EBADMSG, ERR_IMAGE, "more than %d parents", MD_CHAIN_MAX - 1);
	fd = openat(dirfd, "parent", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return missing(err, errno, dirfd, depth);
	name_dir(fd, name, depth, ret_where);
	return fd;
}

int md_parent_open(struct md_raw_file *f, int dirfd, const char *name,
		   const struct md_raw_file *child, const char *where, struct err *err)
{
	struct err e = {0};
	int ret = md_raw_file_open(f, dirfd, name, &e);

	if (ret == -ENOENT) {
		err_clear(&e);
		err_fail(&e, EBADMSG, ERR_IMAGE, "the file is not there");
		err_hint(&e, MD_PARENT_HINT);
	}
	if (ret == 0 && f->head.file_id != child->head.parent_id) {
		ret = err_fail(&e, EBADMSG, ERR_IMAGE,
			       "is another file than the child was made with");
		err_hint(&e, MD_PARENT_HINT);
		md_raw_file_close(f);
	} else if (ret == 0 && f->head.page_size != child->head.page_size) {
		ret = err_fail(&e, EBADMSG, ERR_IMAGE, "has pages of %u bytes, the child of %u",
			       f->head.page_size, child->head.page_size);
		md_raw_file_close(f);
	}
	return ret < 0 ? md_err_where(err, where, &e) : 0;
}

/* --- the chain ----------------------------------------------------------------------------- */

/* The index of the last file, from its end or, where that is asked for, from its heads. */
static int load_list(struct md_chain *c, unsigned flags, struct err *err)
{
	struct md_chain_file *f = &c->files[c->n - 1];
	struct md_block_reader br = {0};
	struct md_trailer t;
	struct err e = {0};
	int ret = md_raw_file_trailer(&f->raw, &t, &e);

	if (ret == 0)
		ret = md_raw_file_index(&f->raw, &t, &f->list, &e);
	if (ret == 0)
		ret = md_raw_file_maps(&f->raw, &br, &f->list, &e);
	if (ret == -EBADMSG && (flags & MD_FILE_REBUILD) && c->n == 1) {
		err_clear(&e);
		md_index_list_deinit(&f->list);
		c->torn = true;
		ret = md_raw_file_rebuild(&f->raw, &br, &f->list, &e);
	}
	md_block_reader_deinit(&br);
	return ret < 0 ? md_err_where(err, f->where, &e) : 0;
}

static bool has_file(const struct md_chain *c, uint64_t id)
{
	for (unsigned i = 0; i < c->n; i++)
		if (c->files[i].raw.head.file_id == id)
			return true;
	return false;
}

static struct md_chain_file *add_file(struct md_chain *c, struct err *err)
{
	struct md_chain_file *p = reallocarray(c->files, c->n + 1, sizeof(*p));

	if (!p) {
		err_set(err, ENOMEM, "open a chain of %u files", c->n + 1);
		return NULL;
	}
	c->files = p;
	p[c->n] = (struct md_chain_file){.raw.fd = -1};
	return &p[c->n++];
}

/* The parent of the last file; @dirfd is that one's directory and becomes the parent's. */
static int open_parent(struct md_chain *c, int *dirfd, int *own, const char *name, struct err *err)
{
	struct md_chain_file *f = add_file(c, err);
	const struct md_raw_file *child;
	int fd;

	if (!f)
		return -ENOMEM;
	child = &f[-1].raw;
	if (has_file(c, child->head.parent_id))
		return err_fail(
			err, EBADMSG, ERR_IMAGE,
			"parent %u is a child of this file: the parents go round in a circle",
			c->n - 1);
	fd = md_parent_dir(*dirfd, name, c->n - 1, f->where, err);
	if (fd < 0)
		return fd;
	if (*own >= 0)
		close(*own);
	*own = *dirfd = fd;
	return md_parent_open(&f->raw, fd, name, child, f->where, err);
}

int md_chain_open(struct md_chain *c, int dirfd, const char *name, unsigned flags, struct err *err)
{
	cleanup_fd int own = -1;
	struct md_chain_file *f;
	int ret;

	*c = (struct md_chain){0};
	f = add_file(c, err);
	ret = f ? md_raw_file_open(&f->raw, dirfd, name, err) : -ENOMEM;
	if (ret == 0)
		ret = load_list(c, flags, err);
	while (ret == 0 && (c->files[c->n - 1].raw.head.flags & MD_FLAG_PARENT)) {
		ret = open_parent(c, &dirfd, &own, name, err);
		if (ret == 0)
			ret = load_list(c, flags, err);
	}
	if (ret < 0)
		md_chain_close(c);
	return ret;
}

void md_chain_close(struct md_chain *c)
{
	for (unsigned i = 0; i < c->n; i++) {
		md_index_list_deinit(&c->files[i].list);
		md_raw_file_close(&c->files[i].raw);
	}
	free(c->files);
	*c = (struct md_chain){0};
}

int md_chain_resolve(const struct md_chain *c, struct md_index *ret, struct err *err)
{
	struct md_index_file *files = calloc(c->n, sizeof(*files));
	int r;

	if (!files)
		return err_set(err, ENOMEM, "resolve a chain of %u files", c->n);
	for (unsigned i = 0; i < c->n; i++)
		files[i] = (struct md_index_file){&c->files[i].list, c->files[i].where,
						  i == 0 && c->torn};
	r = md_index_init(ret, files, c->n, err);
	free(files);
	return r;
}

/* --- what counts, block by block ------------------------------------------------------------ */

static bool *find_wanted(const struct md_index *x, unsigned file,
			 bool (*want)(void *arg, uint64_t space), void *want_arg, size_t *ret_n)
{
	bool *v = calloc(x->npieces + 1, sizeof(*v));

	*ret_n = 0;
	for (size_t i = 0; v && i < x->nspaces; i++) {
		const struct md_index_space *s = &x->spaces[i];

		if (want && !want(want_arg, s->space))
			continue;
		for (size_t k = s->first; k < s->first + s->n; k++) {
			v[k] = x->pieces[k].file == file;
			*ret_n += v[k];
		}
	}
	return v;
}

int md_live_init(struct md_live *l, const struct md_chain *c, const struct md_index *x,
		 unsigned file, bool (*want)(void *arg, uint64_t space), void *want_arg,
		 struct err *err)
{
	size_t nblocks = c->files[file].list.nblocks, n;
	cleanup_free bool *wanted = find_wanted(x, file, want, want_arg, &n);

	*l = (struct md_live){.first = calloc(nblocks + 2, sizeof(*l->first))};
	l->pieces = reallocarray(NULL, n + 1, sizeof(*l->pieces));
	if (!wanted || !l->first || !l->pieces) {
		md_live_deinit(l);
		return err_set(err, ENOMEM, "reserve memory for %zu pieces", n);
	}
	/* Counted two places on, summed up one place on, so that placing makes them the starts. */
	for (size_t i = 0; i < x->npieces; i++)
		if (wanted[i])
			l->first[x->pieces[i].block + 2]++;
	for (size_t b = 0; b < nblocks; b++)
		l->first[b + 2] += l->first[b + 1];
	for (size_t i = 0; i < x->npieces; i++)
		if (wanted[i])
			l->pieces[l->first[x->pieces[i].block + 1]++] = x->pieces[i];
	return 0;
}

void md_live_deinit(struct md_live *l)
{
	free(l->pieces);
	free(l->first);
	*l = (struct md_live){0};
}
