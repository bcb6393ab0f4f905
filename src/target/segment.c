/* SPDX-License-Identifier: MIT */
/* Objects of shared memory that no path leads to: memfd, shared anonymous memory, SysV, huge pages.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/target/files.h"

#ifndef MFD_HUGE_SHIFT
#define MFD_HUGE_SHIFT 26
#endif

/* The device of our own memfd of that kind is that of everybody's. */
static void segment_fs_add(struct files *f, unsigned flags, uint32_t page_shift)
{
	cleanup_fd int fd = memfd_create("stasis", MFD_CLOEXEC | flags);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || f->nsegment_fs == SEGMENT_FS_MAX)
		return;
	f->segment_fs[f->nsegment_fs++] =
		(struct segment_fs){.dev = st.st_dev, .page_shift = page_shift};
}

void segment_fs_init(struct files *f)
{
	cleanup_dir DIR *dir = opendir("/sys/kernel/mm/hugepages");
	struct dirent *de;

	segment_fs_add(f, 0, 0);
	while (dir && (de = readdir(dir))) {
		unsigned long kb;
		uint32_t shift;

		if (sscanf(de->d_name, "hugepages-%lukB", &kb) != 1 || !kb)
			continue;
		shift = (uint32_t)__builtin_ctzl(kb) + 10;
		segment_fs_add(f, MFD_HUGETLB | shift << MFD_HUGE_SHIFT, shift);
	}
}

const struct segment_fs *segment_fs_find(const struct files *f, uint64_t dev)
{
	for (uint32_t i = 0; i < f->nsegment_fs; i++)
		if (f->segment_fs[i].dev == dev)
			return &f->segment_fs[i];
	return NULL;
}

static uint32_t segment_known(const struct files *f, uint64_t key, uint64_t dev, uint64_t ino)
{
	size_t pos = idmap_start(&f->by_segment, key);
	uint32_t id;

	while (idmap_next(&f->by_segment, key, &pos, &id))
		if (f->m->shms[id - 1].dev == dev && f->m->shms[id - 1].ino == ino)
			return id;
	return 0;
}

/*
 * "/memfd:x (deleted)", "/dev/zero (deleted)", "/SYSV0000cafe (deleted)", "[anon_shmem:x]". The
 * link is the name as it is; maps escapes newlines in it.
 */
static int segment_name(struct files *f, const struct proc_at *at, const char *link,
			const char *print, struct m_shm *s)
{
	static const char mark[] = " (deleted)";
	const char *name = print;
	size_t len;

	if (proctext_link(&f->segment_link, at->dir, link) > 0)
		name = f->segment_link.data;
	s->memfd = !strncmp(name, "/memfd:", 7);
	s->sysv = !strncmp(name, "/SYSV", 5);
	if (s->memfd)
		name += 7;
	else if (!strncmp(name, "[anon_shmem:", 12))
		name = "/dev/zero";
	else if (strncmp(name, "/dev/zero", 9) != 0)
		name += *name == '/';
	s->name = model_strdup(f->m, name);
	if (!s->name)
		return -ENOMEM;
	len = strlen(name);
	if (len >= sizeof(mark) - 1 && !strcmp(name + len - (sizeof(mark) - 1), mark))
		s->name[len - (sizeof(mark) - 1)] = '\0';
	return 0;
}

static void segment_seals(const struct proc_at *at, const char *name, struct m_shm *s)
{
	cleanup_fd int fd = openat(at->dir, name, O_RDONLY | O_NOCTTY | O_CLOEXEC);
	int seals = fd < 0 ? -1 : fcntl(fd, F_GET_SEALS);

	/* What memfd_create() did not make cannot be sealed, and says so where it can be asked. */
	s->seals_known = seals >= 0 || !s->memfd;
	s->seals = seals >= 0 ? (uint32_t)seals : s->memfd ? 0 : F_SEAL_SEAL;
}

static void segment_stat(const struct proc_at *at, const char *name, struct m_shm *s,
			 const struct smaps_vma *v)
{
	struct statx stx;

	if (proc_at_stat(at, name, &stx) == 0) {
		s->size = stx.stx_size;
		s->uid = stx.stx_uid;
		s->gid = stx.stx_gid;
		s->mode = stx.stx_mode;
	} else if (v && s->size < v->pgoff + (v->end - v->start)) {
		s->size = v->pgoff + (v->end - v->start);
	}
}

static void segment_at(struct m_shm *s, const struct proc_at *at, const struct smaps_vma *v)
{
	s->pid = (uint32_t)at->tid;
	s->map_start = v->start;
	s->map_len = v->end - v->start;
	s->map_pgoff = v->pgoff;
}

int files_segment(struct files *f, const struct proc_at *at, const char *name, const char *print,
		  uint64_t dev, uint64_t ino, const struct smaps_vma *v, uint32_t *ret_id,
		  struct err *err)
{
	const struct segment_fs *fs = segment_fs_find(f, dev);
	uint64_t key = idmap_mix(dev, ino);
	uint32_t id = segment_known(f, key, dev, ino);
	struct m_shm s = {.dev = dev, .ino = ino, .fd = -1, .hugetlb = fs && fs->page_shift};
	struct m_shm *e;

	if (id) {
		e = &f->m->shms[id - 1];
		if (v && !e->map_len)
			segment_at(e, at, v);
		/* Without map_files a descriptor knows more than a mapping. */
		if (!e->mode)
			segment_stat(at, name, e, v);
		if (!v && !e->seals_known)
			segment_seals(at, name, e);
		*ret_id = id;
		return 0;
	}
	if (segment_name(f, at, name, print, &s) < 0)
		return err_set(err, ENOMEM, "shared memory of pid %u", at->pid);
	segment_stat(at, name, &s, v);
	segment_seals(at, name, &s);
	if (v)
		segment_at(&s, at, v);
	/* What travels in a queue may be mapped and open nowhere else. */
	if (!v && at->tid == getpid() && sscanf(name, "fd/%d", &s.fd) == 1)
		s.pid = (uint32_t)at->tid;
	e = model_push(f->m, &f->m->shms, &f->m->nshms, sizeof(*e));
	if (!e || idmap_put(&f->by_segment, key, f->m->nshms) < 0)
		return err_set(err, ENOMEM, "shared memory of pid %u", at->pid);
	*e = s;
	e->id = f->m->nshms;
	*ret_id = e->id;
	return 0;
}
