/* SPDX-License-Identifier: MIT */
/* Objects of shared memory: memfds with their seals, shared anonymous memory. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/target/make_row.h"

enum { HUGE_SHIFT = 26 };

unsigned make_huge_bits(const struct model *m, const struct m_shm *s)
{
	for (uint32_t i = 0; i < m->nprocs; i++) {
		const struct m_mm *mm = &m->procs[i].mm;

		for (uint32_t k = 0; k < mm->nvmas; k++)
			if (mm->vmas[k].shm_id == s->id && mm->vmas[k].hugetlb_page_shift)
				return mm->vmas[k].hugetlb_page_shift << HUGE_SHIFT;
	}
	return 0;
}

static int make_memfd_object(const struct make *mk, const struct m_shm *s, const char *name)
{
	unsigned flags = MFD_CLOEXEC;

	if (!s->seals_known || s->seals != F_SEAL_SEAL)
		flags |= MFD_ALLOW_SEALING;
	if (s->hugetlb)
		flags |= MFD_HUGETLB | make_huge_bits(mk->m, s);
	return memfd_create(name, flags);
}

/* Mapped, and opened through the mapping: its name stays "/dev/zero". */
static int make_shared_object(const struct make *mk, const struct m_shm *s)
{
	int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE |
		    (s->hugetlb ? MAP_HUGETLB | (int)make_huge_bits(mk->m, s) : 0);
	void *p = mmap(NULL, s->size, PROT_READ | PROT_WRITE, flags, -1, 0);
	size_t page = (size_t)sysconf(_SC_PAGESIZE), len = (s->size + page - 1) & ~(page - 1);
	char path[80];
	int fd;

	if (p == MAP_FAILED)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/map_files/%" PRIxPTR "-%" PRIxPTR, (uintptr_t)p,
		 (uintptr_t)p + len);
	fd = open(path, O_RDWR | O_CLOEXEC);
	munmap(p, s->size);
	return fd;
}

static int object_make(const struct make *mk, const struct m_shm *s, struct err *err)
{
	cleanup_fd int fd = -1;
	struct stat st;

	if (!s->memfd && s->size)
		fd = make_shared_object(mk, s);
	/* Opening a mapping needs a privilege; another name does not matter to the program. */
	if (fd < 0)
		fd = make_memfd_object(mk, s, s->memfd && s->name ? s->name : "dev/zero");
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, errno, "make shared memory %u (%s)", s->id,
			       s->name ? s->name : "");
	if ((uint64_t)st.st_size != s->size && ftruncate(fd, (off_t)s->size) < 0)
		return err_set(err, errno, "give shared memory %u %" PRIu64 " bytes", s->id,
			       s->size);
	if (s->mode && ((st.st_uid != s->uid || st.st_gid != s->gid) && fchown(fd, s->uid, s->gid)))
		return err_set(err, errno, "give shared memory %u to user %u", s->id, s->uid);
	if (s->mode && ((st.st_mode ^ s->mode) & 07777) && fchmod(fd, s->mode & 07777) < 0)
		return err_set(err, errno, "give shared memory %u mode %04o", s->id,
			       s->mode & 07777);
	return take_fd(&fd);
}

int make_segments(struct make *mk, struct err *err)
{
	for (uint32_t i = 0; i < mk->m->nshms; i++) {
		const struct m_shm *s = &mk->m->shms[i];
		int fd, moved;

		if (s->sysv) {
			int ret = make_sysv(mk, s, err);

			if (ret < 0)
				return ret;
			continue;
		}
		fd = object_make(mk, s, err);
		if (fd < 0)
			return fd;
		moved = fcntl(fd, F_DUPFD_CLOEXEC, mk->first_fd);
		close(fd);
		if (moved < 0)
			return err_set(err, errno, "keep shared memory %u open", s->id);
		mk->segments[i] = moved;
	}
	return 0;
}

int make_segment(const struct make *mk, uint32_t shm_id)
{
	return shm_id && shm_id <= mk->m->nshms ? mk->segments[shm_id - 1] : -1;
}

static int add_seals(const struct make *mk, bool last, struct err *err)
{
	for (uint32_t i = 0; i < mk->m->nshms; i++) {
		const struct m_shm *s = &mk->m->shms[i];
		int now = mk->segments[i] < 0 ? -1 : fcntl(mk->segments[i], F_GET_SEALS);
		int seals = (int)s->seals;

		if (!last)
			seals &= F_SEAL_WRITE;
		if (!s->memfd || !s->seals_known || now < 0 || !(seals & ~now))
			continue;
		if (fcntl(mk->segments[i], F_ADD_SEALS, seals & ~now) < 0)
			return err_set(err, errno, "seal memfd %s (%#x)", s->name ? s->name : "",
				       s->seals);
	}
	return 0;
}

int make_seal_writes(struct make *mk, struct err *err)
{
	return add_seals(mk, false, err);
}

int make_seal_rest(struct make *mk, struct err *err)
{
	return add_seals(mk, true, err);
}

static int memfd_open(struct make *mk, const struct m_file *f, bool late, struct err *err)
{
	cleanup_fd int fd = -1;
	int segment = make_segment(mk, f->shm_id), ret;

	if (segment < 0)
		return err_fail(err, ENOENT, ERR_UNSUPPORTED, "%s: has no segment of memory",
				make_name(f));
	fd = make_reopen(segment, f, (int)(f->flags & ~(unsigned)O_ASYNC), err);
	if (fd < 0)
		return fd;
	ret = make_set_flags(fd, f, err);
	if (ret == 0 && f->pos && lseek(fd, (off_t)f->pos, SEEK_SET) < 0)
		ret = err_set(err, errno, "set position %" PRIu64 " of %s", f->pos, make_name(f));
	return ret < 0 ? ret : make_put(mk, f->id, take_fd(&fd), err);
}

const struct make_row make_memfd = {.open = memfd_open};
