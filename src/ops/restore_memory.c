/* SPDX-License-Identifier: MIT */
/* The memory of a restored tree: mappings, then pages from either home, on all CPUs. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "src/ops/restore.h"
#include "src/target/put.h"

static struct fill *fill_of(const struct restore *r, uint64_t pid)
{
	for (uint32_t i = 0; i < r->nfills; i++)
		if (r->fills[i].p && r->fills[i].p->pid == pid)
			return &r->fills[i];
	return NULL;
}

/*
 * Huge pages have no write(). The mapping reserves what it is going to touch, or fails: there is no
 * SIGBUS for want of pages.
 */
static ssize_t huge_write(int fd, const void *buf, uint64_t len, uint64_t off)
{
	struct stat st;
	uint64_t page, from, end;
	char *p;

	if (fstat(fd, &st) < 0)
		return -errno;
	page = (uint64_t)st.st_blksize;
	from = off / page * page;
	end = (off + len + page - 1) / page * page;
	if (end > (uint64_t)st.st_size)
		return -EBADMSG;
	p = mmap(NULL, end - from, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)from);
	if (p == MAP_FAILED)
		return -errno;
	memcpy(p + (off - from), buf, len);
	munmap(p, end - from);
	return (ssize_t)len;
}

/* Fresh memory is zero; the last page of a segment may reach beyond its end. */
static int segment_write(const struct restore *r, uint32_t id, uint64_t off, const void *buf,
			 uint64_t len, struct err *err)
{
	const struct m_shm *shm = model_shm(r->model, id);
	int fd = make_segment(r->make, id);
	ssize_t n;

	/* It was there, and is not ours to fill. */
	if (shm && fd < 0 && shm->sysv)
		return 0;
	if (!shm || fd < 0)
		return err_fail(err, EBADMSG, ERR_IMAGE,
				"the image has pages of segment %u, which is not in it", id);
	if (!buf || off >= shm->size)
		return 0;
	if (len > shm->size - off)
		len = shm->size - off;
	n = shm->hugetlb ? huge_write(fd, buf, len, off) : io_pwrite(fd, buf, len, off);
	/* Sealed: written by the first pass. */
	if (n == (ssize_t)len || (n == -EPERM && shm->seals & F_SEAL_WRITE))
		return 0;
	err_set(err, n < 0 ? (int)-n : EIO, "write %" PRIu64 " bytes of shared memory \"%s\"", len,
		shm->name ? shm->name : "");
	if (shm->hugetlb && n == -ENOMEM)
		err_hint(err, "there are not enough huge pages: raise vm.nr_hugepages");
	return -err->errnum;
}

static int sink_write(void *arg, uint64_t space, uint64_t addr, const void *buf, uint64_t len,
		      struct err *err)
{
	const struct restore *r = arg;
	const struct fill *f;

	if (MD_SPACE_KIND(space) == 1)
		return segment_write(r, (uint32_t)MD_SPACE_ID(space), addr, buf, len, err);
	if (r->only_segments)
		return 0;
	f = fill_of(r, MD_SPACE_ID(space));
	if (!f)
		return err_fail(err, EBADMSG, ERR_IMAGE,
				"the image has pages of process %" PRIu64 ", which is not in it",
				(uint64_t)MD_SPACE_ID(space));
	return fill_write(f, addr, buf, len, err);
}

static bool wanted(void *arg, uint64_t space)
{
	const struct restore *r = arg;
	const struct fill *f;

	if (r->only_segments || MD_SPACE_KIND(space) == 1)
		return MD_SPACE_KIND(space) == 1 && !r->only_pid;
	if (r->only_pid)
		return MD_SPACE_ID(space) == r->only_pid;
	f = fill_of(r, MD_SPACE_ID(space));
	/* Of nobody: sink_write() says so. */
	return !f || !r->kin[f - r->fills].full;
}

/* CRIU's own page files. */
static int fill_space(struct restore *r, struct image_mem *mem, uint64_t space, uint8_t *buf,
		      size_t room, struct err *err)
{
	uint64_t addr = 0;
	struct md_extent e;
	int ret;

	while ((ret = image_mem_extent(mem, space, addr, &e, err)) > 0) {
		uint64_t want = e.len < room ? e.len : room;
		ssize_t n = image_mem_read(mem, space, e.addr, buf, want, err);

		if (n < 0)
			return (int)n;
		if (n == 0)
			return err_fail(err, EBADMSG, ERR_IMAGE, "page at %#" PRIx64 " is missing",
					e.addr);
		ret = sink_write(r, space, e.addr, buf, (uint64_t)n, err);
		if (ret == 0)
			ret = restore_interrupted(r, err);
		if (ret < 0)
			return ret;
		r->res->mem.raw_bytes += (uint64_t)n;
		if (r->opts->progress)
			r->opts->progress->raw_bytes += (uint64_t)n;
		addr = e.addr + (uint64_t)n;
	}
	return ret;
}

static int fill_criu(struct restore *r, struct err *err)
{
	enum { ROOM = 1 << 20 };
	struct image_mem *mem = image_mem_open(r->image, err);
	cleanup_free uint8_t *buf = malloc(ROOM);
	int ret = 0;

	if (!mem || !buf) {
		image_mem_close(mem);
		return err_set(err, ENOMEM, "buffer for pages");
	}
	for (uint32_t i = 0; ret == 0 && i < r->model->nprocs; i++) {
		uint64_t space = MD_SPACE_PROC(r->model->procs[i].pid);

		if (r->model->procs[i].state != M_DEAD && wanted(r, space))
			ret = fill_space(r, mem, space, buf, ROOM, err);
	}
	for (uint32_t i = 0; ret == 0 && i < r->model->nshms; i++) {
		uint64_t space = MD_SPACE_SHMEM(r->model->shms[i].id);

		if (wanted(r, space))
			ret = fill_space(r, mem, space, buf, ROOM, err);
	}
	image_mem_close(mem);
	return ret;
}

static void add_stats(struct md_fill_stats *to, const struct md_fill_stats *s)
{
	to->blocks += s->blocks;
	to->raw_bytes += s->raw_bytes;
	to->packed_bytes += s->packed_bytes;
	to->wall_ns += s->wall_ns;
	to->read_ns += s->read_ns;
	to->unpack_ns += s->unpack_ns;
	to->write_ns += s->write_ns;
	to->cpu_ns += s->cpu_ns;
	to->threads = s->threads > to->threads ? s->threads : to->threads;
}

int restore_memory(struct restore *r, struct err *err)
{
	const struct md_sink sink = {.write = sink_write, .arg = r};
	const struct md_fill_opts fopts = {
		.threads = r->opts->threads,
		.stop = r->opts->stop,
		.stop_arg = r->opts->arg,
		.progress = r->opts->progress,
		.want = wanted,
		.want_arg = r,
	};
	struct md_fill_stats stats = {0};
	int ret;

	if (image_format(r->image) == IMAGE_CRIU)
		return fill_criu(r, err);
	ret = md_file_fill(image_dirfd(r->image), IMAGE_BLOCK_FILE, &fopts, &sink, &stats, err);
	add_stats(&r->res->mem, &stats);
	for (uint32_t i = 0; ret == 0 && !r->only_segments && i < r->nfills; i++)
		ret = fill_late(&r->fills[i], err);
	for (uint32_t i = 0; ret == 0 && !r->only_segments && !r->only_pid && i < r->nfills; i++)
		if (!r->kin[i].full)
			ret = restore_kin_fetch(r, i, err);
	return ret;
}

/*
 * A segment that is sealed against writing is full before it is sealed, and sealed before it is
 * mapped: its pages are a pass of their own. Few images have one.
 */
int restore_sealed(struct restore *r, struct err *err)
{
	bool any = false;
	int ret;

	for (uint32_t i = 0; i < r->model->nshms; i++)
		any |= r->model->shms[i].seals_known && r->model->shms[i].seals & F_SEAL_WRITE;
	if (!any)
		return 0;
	r->only_segments = true;
	ret = restore_memory(r, err);
	r->only_segments = false;
	memset(&r->res->mem, 0, sizeof(r->res->mem));
	return ret < 0 ? ret : make_seal_writes(r->make, err);
}

int restore_map(struct restore *r, uint32_t i, struct remote *remote, struct err *err)
{
	const struct m_proc *p = &r->model->procs[i];
	const struct fill_kin *kin = &r->kin[i].kin;
	int ret = put_limits_raise(remote, p, err);

	if (ret == 0)
		ret = put_thp(remote, p, err);
	if (ret == 0)
		ret = restore_kin_spans(r, i, err);
	if (ret == 0)
		ret = fill_maps(&r->spawn, remote, p, r->make, kin, err);
	if (ret == 0)
		ret = fill_open(&r->fills[i], remote, p, kin, err);
	if (ret == 0 && r->fills[i].uffd < 0)
		memcpy(r->res->uffd_reason, r->fills[i].uffd_reason, sizeof(r->res->uffd_reason));
	r->kin[i].mapped = true;
	return ret;
}

static bool any_tags(const struct m_mm *mm)
{
	for (uint32_t i = 0; i < mm->nvmas; i++)
		if (mm->vmas[i].flags & M_VMF_TAGS)
			return true;
	return false;
}

int restore_tags_of(struct restore *r, uint32_t i, struct remote *remote, struct err *err)
{
	const struct m_proc *p = &r->model->procs[i];

	return any_tags(&p->mm) ? fill_tags(remote, p, &r->kin[i].kin, err) : 0;
}

int restore_tags(struct restore *r, struct err *err)
{
	int ret = 0;

	for (uint32_t i = 0; ret == 0 && i < r->model->nprocs; i++) {
		const struct m_proc *p = &r->model->procs[i];
		struct remote remote = {.mem_fd = -1};

		if (p->state == M_DEAD || r->kin[i].full || !any_tags(&p->mm))
			continue;
		ret = spawn_remote(&r->spawn, i, &remote, err);
		if (ret == 0)
			ret = restore_tags_of(r, i, &remote, err);
		remote_detach(&remote);
	}
	return ret;
}

int restore_maps(struct restore *r, struct err *err)
{
	int ret = 0;

	for (uint32_t i = 0; ret == 0 && i < r->model->nprocs; i++) {
		const struct m_proc *p = &r->model->procs[i];
		struct remote remote = {.mem_fd = -1};

		if (p->state == M_DEAD)
			continue;
		ret = spawn_remote(&r->spawn, i, &remote, err);
		if (ret == 0 && !r->kin[i].mapped)
			ret = restore_map(r, i, &remote, err);
		if (ret == 0)
			ret = fill_vdso(&r->spawn, &remote, p, err);
		remote_detach(&remote);
	}
	return ret;
}

void restore_close_fills(struct restore *r)
{
	for (uint32_t i = 0; i < r->nfills; i++)
		fill_close(&r->fills[i]);
	free(r->fills);
	r->fills = NULL;
	r->nfills = 0;
}
