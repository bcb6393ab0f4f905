/* SPDX-License-Identifier: MIT */
/* System V segments: those that outlived the dump are taken, those that were removed made again. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "src/target/make_row.h"

/* The number that the next segment gets, when the kernel takes wishes (CONFIG_CHECKPOINT_RESTORE).
 */
static void wish_id(int id)
{
	cleanup_fd int fd = open("/proc/sys/kernel/shm_next_id", O_WRONLY | O_CLOEXEC);
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", id);

	/* A removed segment is known to its processes by where it is attached: any number will do.
	 */
	if (fd >= 0 && io_write(fd, text, (size_t)len) < 0)
		errno = 0;
}

/* The attached segment as a file; the attachment may go then. */
static int open_attached(void *at, uint64_t len)
{
	uint64_t start = (uint64_t)(uintptr_t)at, page = (uint64_t)sysconf(_SC_PAGESIZE);
	char path[80];

	snprintf(path, sizeof(path), "/proc/self/map_files/%" PRIx64 "-%" PRIx64, start,
		 start + (len + page - 1) / page * page);
	return open(path, O_RDWR | O_CLOEXEC);
}

static int segment_fd(const struct m_shm *s, int id, struct err *err)
{
	void *at = shmat(id, NULL, 0);
	int fd;

	if (at == (void *)-1)
		return err_set(err, errno, "attach System V segment %d", id);
	fd = open_attached(at, s->size);
	if (fd < 0)
		err_set(err, errno, "open System V segment %d", id);
	shmdt(at);
	return fd < 0 ? -err->errnum : fd;
}

static int make_new_segment(const struct make *mk, const struct m_shm *s, struct err *err)
{
	const int huge = s->hugetlb ? SHM_HUGETLB | (int)make_huge_bits(mk->m, s) : 0;
	struct shmid_ds ds;
	int id;

	wish_id((int)s->ino);
	id = shmget(IPC_PRIVATE, s->size, IPC_CREAT | huge | (int)(s->mode & 0777));
	if (id < 0)
		return err_set(err, errno, "make a System V segment of %" PRIu64 " bytes", s->size);
	if (shmctl(id, IPC_STAT, &ds) == 0 &&
	    (ds.shm_perm.uid != s->uid || ds.shm_perm.gid != s->gid)) {
		ds.shm_perm.uid = s->uid;
		ds.shm_perm.gid = s->gid;
		if (shmctl(id, IPC_SET, &ds) < 0)
			errno = 0;
	}
	return id;
}

int make_sysv(struct make *mk, const struct m_shm *s, struct err *err)
{
	struct made_sysv *e = &mk->sysv[s->id - 1];
	struct shmid_ds ds;
	int fd;

	e->id = (int)s->ino;
	/* Not removed, so it lives on without processes: its contents are what they are now. */
	if (shmctl(e->id, IPC_STAT, &ds) == 0) {
		if (ds.shm_segsz == s->size)
			return 0;
		err_fail(err, EEXIST, ERR_EXISTS,
			 "System V segment %d has %zu bytes, that of the image %" PRIu64, e->id,
			 ds.shm_segsz, s->size);
		err_hint(err, "it is another one: remove it (ipcrm -m %d)", e->id);
		return -EEXIST;
	}
	e->id = make_new_segment(mk, s, err);
	if (e->id < 0)
		return e->id;
	e->made = true;
	fd = segment_fd(s, e->id, err);
	if (fd < 0)
		return fd;
	mk->segments[s->id - 1] = fcntl(fd, F_DUPFD_CLOEXEC, mk->first_fd);
	close(fd);
	return mk->segments[s->id - 1] < 0
		       ? err_set(err, errno, "keep shared memory %u open", s->id)
		       : 0;
}

int make_sysv_id(const struct make *mk, uint32_t shm_id)
{
	const struct m_shm *s = model_shm(mk->m, shm_id);

	return s && s->sysv ? mk->sysv[shm_id - 1].id : -1;
}

void make_sysv_remove(struct make *mk)
{
	for (uint32_t i = 0; mk->sysv && i < mk->m->nshms; i++)
		if (mk->sysv[i].made)
			shmctl(mk->sysv[i].id, IPC_RMID, NULL);
}
