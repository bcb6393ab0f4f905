/* SPDX-License-Identifier: MIT */
/* The tables of files that the processes of a tree map, execute and stand in. */
#include "src/target/files.h"
#include "src/target/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/target/buildid.h"
#include "src/target/fdtype.h"
#include "src/target/target.h"

/* Reading smaps twice is exact: below this it is done. */
enum { SURVEY_WORTH_NS = 400000 };

static const char deleted_mark[] = " (deleted)";

struct files *files_new(struct model *m, struct err *err)
{
	struct files *f = calloc(1, sizeof(*f));

	if (!f) {
		err_set(err, ENOMEM, "tables of files");
		return NULL;
	}
	f->m = m;
	f->next_vm = f->next_files = f->next_fs = f->next_sighand = 2;
	f->survey_worth_ns = SURVEY_WORTH_NS;
	f->tee[0] = f->tee[1] = -1;
	f->diag = -1;
	f->hold_fd = -1;
	proc_namespaces(0, &m->tool_ns);
	segment_fs_init(f);
	fdtype_init(f);
	return f;
}

void files_free(struct files *f)
{
	if (!f)
		return;
	idmap_deinit(&f->by_print);
	idmap_deinit(&f->by_path);
	idmap_deinit(&f->by_segment);
	idmap_deinit(&f->by_buildid);
	idmap_deinit(&f->by_survey);
	idmap_deinit(&f->by_ghost);
	idmap_deinit(&f->by_sum);
	free(f->summed);
	pipes_deinit(f);
	sockets_deinit(f);
	free(f->lock_files);
	free(f->mapped);
	free(f->buildids);
	for (uint32_t i = 0; i < f->nsurveys; i++)
		smaps_deinit(&f->surveys[i].smaps);
	free(f->surveys);
	same_deinit(&f->same);
	smaps_deinit(&f->smaps);
	proctext_deinit(&f->link);
	proctext_deinit(&f->text);
	proctext_deinit(&f->segment_link);
	free(f->fds);
	free(f);
}

void files_options(struct files *f, const struct target_opts *opts)
{
	f->ghost_limit = opts->ghost_limit;
	f->file_id = opts->file_id;
	f->link_remap = opts->link_remap;
	f->tcp_established = opts->tcp_established;
	f->tcp_close = opts->tcp_close;
	f->hold = opts->hold;
	f->ext_unix = opts->ext_unix;
	f->shell_job = opts->shell_job;
}

void files_hands_off(struct files *f)
{
	f->hands_off = true;
}

void files_kept(struct files *f)
{
	f->kept = true;
}

void files_tracked(struct files *f, struct dirty *d)
{
	f->dirty = d;
}

void files_leave_guards(struct files *f)
{
	f->leave_guards = true;
}

int proc_at_open(struct files *f, const struct m_proc *p, struct proc_at *ret, struct err *err)
{
	struct proc_at at = {.pid = p->pid, .dir = -1};
	char path[32];

	at.foreign = p->ns.mnt && f->m->tool_ns.mnt && p->ns.mnt != f->m->tool_ns.mnt;
	at.tid = proc_viewer((pid_t)p->pid);
	if (at.tid < 0)
		return err_set(err, -at.tid, "pid %u", p->pid);
	if (at.tid) {
		snprintf(path, sizeof(path), "/proc/%d", at.tid);
		at.dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (at.dir < 0)
			return err_set(err, errno == ENOENT ? ESRCH : errno, "open %s", path);
	}
	*ret = at;
	return 0;
}

void proc_at_close(struct proc_at *at)
{
	if (at->dir >= 0)
		close(at->dir);
	at->dir = -1;
}

int proc_at_stat(const struct proc_at *at, const char *name, struct statx *ret)
{
	if (statx(at->dir, name, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, ret) < 0)
		return -errno;
	return 0;
}

uint64_t statx_dev(const struct statx *stx)
{
	return makedev(stx->stx_dev_major, stx->stx_dev_minor);
}

void *files_push(void *array, uint32_t *n, uint32_t *room, size_t size)
{
	char *p;

	memcpy(&p, array, sizeof(p));
	if (*n == *room) {
		uint32_t more = *room ? 2 * *room : 64;

		p = more > *room ? realloc(p, more * size) : NULL;
		if (!p)
			return NULL;
		memcpy(array, &p, sizeof(p));
		*room = more;
	}
	p += size * (*n)++;
	memset(p, 0, size);
	return p;
}

int files_fail(struct err *err, int error, const struct proc_at *at, const char *what)
{
	if (error == -ENOENT)
		error = -ESRCH;
	return err_set(err, -error, "%s of pid %u", what, at->pid);
}

/* Looks @path up as the process does, or nearly: links of /proc are printed without symlinks. */
static bool path_is(const struct proc_at *at, const char *path, const struct statx *stx)
{
	cleanup_fd int root = -1;
	struct statx now;
	int base = AT_FDCWD;

	if (*path != '/')
		return false;
	if (at->foreign) {
		root = openat(at->dir, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (root < 0)
			return false;
		base = root;
		path++;
	}
	if (statx(base, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW,
		  STATX_BASIC_STATS, &now) < 0)
		return false;
	return now.stx_ino == stx->stx_ino && statx_dev(&now) == statx_dev(stx);
}

int files_astray(struct files *f, const struct proc_at *at, const char *what,
		 const struct m_file *file, const struct statx *stx)
{
	/* Found while it runs, for it changes seldom and costs a look at every path. */
	if (!f->hands_off || at->foreign || file->deleted || *file->path != '/' ||
	    (file->type != M_FILE_REG && file->type != M_FILE_FIFO) ||
	    !strncmp(file->path, "/proc/", 6) || path_is(at, file->path, stx))
		return 0;
	return finding_fatal(f->m, at->pid,
			     "%s: %s: this name leads to another file or to none (a mount on top "
			     "of it, or none at all): not supported",
			     what, file->path);
}

bool files_deleted(const struct proc_at *at, char *path, const struct statx *stx)
{
	size_t len = strlen(path), mark = sizeof(deleted_mark) - 1;

	if (len <= mark || strcmp(path + len - mark, deleted_mark) != 0)
		return false;
	if (stx->stx_nlink && path_is(at, path, stx))
		return false;
	path[len - mark] = '\0';
	return true;
}

void files_fill(struct m_file *file, const struct statx *stx)
{
	file->dev = statx_dev(stx);
	file->ino = stx->stx_ino;
	file->rdev = makedev(stx->stx_rdev_major, stx->stx_rdev_minor);
	file->mode = stx->stx_mode;
	file->size = stx->stx_size;
	file->mtime_ns = stx->stx_mtime.tv_sec * 1000000000LL + stx->stx_mtime.tv_nsec;
}

uint32_t files_add(struct files *f, const struct m_file *file)
{
	struct m_file *e = model_push(f->m, &f->m->files, &f->m->nfiles, sizeof(*e));

	if (!e)
		return 0;
	*e = *file;
	e->id = f->m->nfiles;
	return e->id;
}

static const struct summed *summed_find(const struct files *f, uint64_t key,
					const struct m_file *file)
{
	size_t pos = idmap_start(&f->by_sum, key);
	uint32_t i;

	while (idmap_next(&f->by_sum, key, &pos, &i)) {
		const struct summed *s = &f->summed[i];

		if (s->dev == file->dev && s->ino == file->ino && s->size == file->size &&
		    s->mtime_ns == file->mtime_ns)
			return s;
	}
	return NULL;
}

void files_checksum(struct files *f, const struct proc_at *at, const char *link,
		    struct m_file *file)
{
	uint64_t key = idmap_mix(idmap_mix(file->dev, file->ino), (uint64_t)file->mtime_ns);
	const struct summed *known;
	struct summed *s;

	if (f->file_id.method < FILEID_CRC_FIRST || file->type != M_FILE_REG ||
	    !S_ISREG(file->mode) || file->deleted || file->flags & O_PATH ||
	    !strncmp(file->path, "/proc/", 6) || !strncmp(file->path, "/sys/", 5))
		return;
	known = summed_find(f, key, file);
	if (!known) {
		/* O_NONBLOCK: the file may be leased by somebody who stands still. */
		cleanup_fd int fd =
			openat(at->dir, link, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

		int ret = fd < 0 ? -errno : fileid_checksum(fd, &f->file_id, file);

		if (ret < 0) {
			finding_add(f->m, at->pid, "%s: %s: no checksum of it: %s", link,
				    file->path, strerrordesc_np(-ret));
			return;
		}
		s = files_push(&f->summed, &f->nsummed, &f->summed_room, sizeof(*s));
		if (s && idmap_put(&f->by_sum, key, f->nsummed - 1) == 0)
			*s = (struct summed){file->dev, file->ino, file->size, file->mtime_ns,
					     file->checksum};
		return;
	}
	file->checksum = known->sum;
	fileid_kind(&f->file_id, file);
}

void files_know_sums(struct files *f, struct files *from)
{
	struct files drop = {.by_sum = f->by_sum, .summed = f->summed};

	f->by_sum = from->by_sum;
	f->summed = from->summed;
	f->nsummed = from->nsummed;
	f->summed_room = from->summed_room;
	from->by_sum = drop.by_sum;
	from->summed = drop.summed;
	from->nsummed = from->summed_room = 0;
}

static uint64_t hash_text(const char *s)
{
	uint64_t h = 0xcbf29ce484222325ULL;

	for (; *s; s++)
		h = (h ^ (uint8_t)*s) * 0x100000001b3ULL;
	return h;
}

static bool path_equal(const struct m_file *a, const struct m_file *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->flags == b->flags && a->type == b->type &&
	       a->deleted == b->deleted && !strcmp(a->path, b->path);
}

/* Mapped, executed, current-directory files: one entry for each path, inode and mode of opening. */
static int path_add(struct files *f, const struct proc_at *at, const char *link,
		    const struct statx *stx, struct m_file *file, uint32_t *ret_id, struct err *err)
{
	uint64_t key = idmap_mix(hash_text(file->path), idmap_mix(file->dev, file->ino));
	size_t pos = idmap_start(&f->by_path, key);
	uint32_t id;
	int ret = 0;

	while (idmap_next(&f->by_path, key, &pos, &id)) {
		if (!path_equal(&f->m->files[id - 1], file))
			continue;
		*ret_id = id;
		return 0;
	}
	file->path = model_strdup(f->m, file->path);
	if (file->path && file->deleted && file->type == M_FILE_REG)
		ret = files_gone(f, at, link, link, stx, file, err);
	if (ret < 0)
		return ret;
	files_checksum(f, at, link, file);
	id = file->path ? files_add(f, file) : 0;
	if (!id || idmap_put(&f->by_path, key, id) < 0)
		return err_set(err, ENOMEM, "files of pid %u", at->pid);
	*ret_id = id;
	return 0;
}

int files_link(struct files *f, const struct proc_at *at, const char *name, uint32_t *ret_id,
	       struct err *err)
{
	struct m_file file = {.type = M_FILE_REG, .mnt_id = -1};
	struct statx stx;
	ssize_t n = proctext_link(&f->link, at->dir, name);
	int ret = n < 0 ? (int)n : proc_at_stat(at, name, &stx);

	/* A kernel helper has no exe. */
	if (ret == -EACCES || ret == -EPERM || (ret == -ENOENT && proc_viewer(at->tid) > 0)) {
		*ret_id = 0;
		return 0;
	}
	if (ret < 0)
		return files_fail(err, ret, at, name);
	file.path = f->link.data;
	file.deleted = files_deleted(at, file.path, &stx);
	files_fill(&file, &stx);
	if (files_astray(f, at, name, &file, &stx) < 0)
		return files_fail(err, -ENOMEM, at, name);
	return path_add(f, at, name, &stx, &file, ret_id, err);
}

/* maps escapes newlines, and only these. */
static void unescape(char *s)
{
	char *out = s;

	while (*s) {
		if (!strncmp(s, "\\012", 4)) {
			*out++ = '\n';
			s += 4;
		} else {
			*out++ = *s++;
		}
	}
	*out = '\0';
}

void map_files_name(char ret[64], const struct smaps_vma *v)
{
	snprintf(ret, 64, "map_files/%" PRIx64 "-%" PRIx64, v->start, v->end);
}

/* What a descriptor must allow for the mapping to be made again, and to be made writable again. */
static bool mapped_rw(const struct smaps_vma *v)
{
	return v->shared && (v->may_write || v->prot & PROT_WRITE);
}

/* Without the right to read map_files: what the printed path leads to, if it is still that file. */
static int mapped_by_print(struct files *f, const struct proc_at *at, const struct smaps_vma *v,
			   const char *name, struct m_file *file, struct statx *ret_stx)
{
	struct statx stx = {.stx_dev_major = v->major,
			    .stx_dev_minor = v->minor,
			    .stx_ino = v->ino,
			    .stx_nlink = 1};
	struct statx now;
	size_t len = strlen(name) + 1;

	if (f->link.room < len) {
		char *p = realloc(f->link.data, len);

		if (!p)
			return -ENOMEM;
		f->link.data = p;
		f->link.room = len;
	}
	memcpy(f->link.data, name, len);
	unescape(f->link.data);
	file->path = f->link.data;
	file->deleted = files_deleted(at, file->path, &stx);
	if (!file->deleted && !at->foreign &&
	    statx(AT_FDCWD, file->path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_BASIC_STATS,
		  &now) == 0 &&
	    now.stx_ino == v->ino)
		stx = now;
	stx.stx_nlink = !file->deleted;
	files_fill(file, &stx);
	*ret_stx = stx;
	return 0;
}

static int mapped_new(struct files *f, const struct proc_at *at, const struct smaps_vma *v,
		      const char *name, uint32_t *ret_id, struct err *err)
{
	struct m_file file = {.type = M_FILE_REG, .mnt_id = -1};
	struct statx stx;
	char link[64];
	ssize_t n;
	int ret;

	map_files_name(link, v);
	file.flags = mapped_rw(v) ? O_RDWR : O_RDONLY;
	n = proctext_link(&f->link, at->dir, link);
	ret = n < 0 ? (int)n : proc_at_stat(at, link, &stx);
	if (ret == -ENOMEM || ret == -E2BIG || ret == -ESRCH)
		return err_set(err, -ret, "%s of pid %u", link, at->pid);
	if (ret < 0) {
		ret = mapped_by_print(f, at, v, name, &file, &stx);
		if (ret < 0)
			return err_set(err, -ret, "mapped files of pid %u", at->pid);
	} else {
		file.path = f->link.data;
		file.deleted = files_deleted(at, file.path, &stx);
		files_fill(&file, &stx);
	}
	if (segment_fs_find(f, makedev(v->major, v->minor))) {
		file.type = M_FILE_MEMFD;
		ret = files_segment(f, at, link, name, makedev(v->major, v->minor), v->ino, v,
				    &file.shm_id, err);
		if (ret < 0)
			return ret;
	}
	return path_add(f, at, link, &stx, &file, ret_id, err);
}

static struct buildid *buildid_find(struct files *f, uint64_t key, const struct buildid *want)
{
	size_t pos = idmap_start(&f->by_buildid, key);
	uint32_t i;

	while (idmap_next(&f->by_buildid, key, &pos, &i)) {
		struct buildid *b = &f->buildids[i];

		if (b->dev == want->dev && b->ino == want->ino && b->size == want->size &&
		    b->mtime_ns == want->mtime_ns)
			return b;
	}
	return NULL;
}

const struct buildid *files_build_id(struct files *f, const struct proc_at *at,
				     const struct smaps_vma *v)
{
	struct m_file file = {0};
	struct buildid want = {0}, *b;
	struct statx stx;
	uint64_t key;
	char link[64];
	int len;

	map_files_name(link, v);
	if (proc_at_stat(at, link, &stx) < 0 || !S_ISREG(stx.stx_mode))
		return NULL;
	files_fill(&file, &stx);
	want = (struct buildid){
		.dev = file.dev, .ino = file.ino, .size = file.size, .mtime_ns = file.mtime_ns};
	key = idmap_mix(idmap_mix(file.dev, file.ino), (uint64_t)file.mtime_ns);
	b = buildid_find(f, key, &want);
	if (b)
		return b;
	/* O_NONBLOCK: the file may be leased by somebody who stands still. */
	cleanup_fd int fd = openat(at->dir, link, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return NULL;
	len = buildid_read(fd, want.id);
	want.len = len > 0 ? (uint32_t)len : 0;
	b = files_push(&f->buildids, &f->nbuildids, &f->buildids_room, sizeof(*b));
	if (!b || idmap_put(&f->by_buildid, key, f->nbuildids - 1) < 0)
		return NULL;
	*b = want;
	return b;
}

static int mapped_build_id(struct files *f, const struct proc_at *at, const struct smaps_vma *v,
			   struct mapped *e, struct err *err)
{
	const struct buildid *b;
	uint8_t *id;

	if (!(v->prot & PROT_EXEC) || e->id_tried)
		return 0;
	e->id_tried = true;
	b = files_build_id(f, at, v);
	if (!b || !b->len)
		return 0;
	id = model_alloc(f->m, b->len);
	if (!id)
		return err_set(err, ENOMEM, "build ids of pid %u", at->pid);
	f->m->files[e->file_id - 1].build_id = memcpy(id, b->id, b->len);
	f->m->files[e->file_id - 1].build_id_len = b->len;
	return 0;
}

static struct mapped *mapped_find(struct files *f, uint64_t key, const struct mapped *want)
{
	size_t pos = idmap_start(&f->by_print, key);
	uint32_t i;

	while (idmap_next(&f->by_print, key, &pos, &i)) {
		struct mapped *e = &f->mapped[i];

		if (e->ino == want->ino && e->major == want->major && e->minor == want->minor &&
		    e->rw == want->rw && !strcmp(e->name, want->name))
			return e;
	}
	return NULL;
}

int files_mapped(struct files *f, const struct proc_at *at, const struct smaps_vma *v,
		 const char *name, uint32_t *ret_id, struct err *err)
{
	struct mapped want = {.ino = v->ino,
			      .major = v->major,
			      .minor = v->minor,
			      .rw = mapped_rw(v),
			      .name = name};
	uint64_t key = idmap_mix(hash_text(name) + want.rw,
				 idmap_mix(v->ino, (uint64_t)v->major << 32 | v->minor));
	struct mapped *e = mapped_find(f, key, &want);
	int ret;

	if (!e) {
		ret = mapped_new(f, at, v, name, &want.file_id, err);
		if (ret < 0)
			return ret;
		e = files_push(&f->mapped, &f->nmapped, &f->mapped_room, sizeof(*e));
		if (!e || idmap_put(&f->by_print, key, f->nmapped - 1) < 0)
			return err_set(err, ENOMEM, "mapped files of pid %u", at->pid);
		*e = want;
	}
	*ret_id = e->file_id;
	return mapped_build_id(f, at, v, e, err);
}
