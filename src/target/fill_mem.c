/* SPDX-License-Identifier: MIT */
/* Contents into the mappings of a process that is brought back: from any thread of the tool. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "src/target/fill.h"
#include "src/target/script.h"

/* --- the way in ------------------------------------------------------------------------------- */

/* Made by the process, so that it is of its memory, and then ours alone. */
static int take_uffd(struct fill *f, struct remote *r, struct err *err)
{
	struct uffdio_api api = {.api = UFFD_API};
	const uint64_t flags[6] = {O_CLOEXEC | O_NONBLOCK};
	int64_t n = FAULT("target.userfaultfd")
			    ? -EPERM
			    : script_one(r, r->first, SYS_userfaultfd, flags, err);
	const uint64_t close_it[6] = {(uint64_t)n};
	cleanup_fd int pidfd = -1;
	int fd, errnum;

	if (n < 0) {
		snprintf(f->uffd_reason, sizeof(f->uffd_reason), "userfaultfd: %s",
			 strerrordesc_np((int)-n));
		return 0;
	}
	pidfd = (int)syscall(SYS_pidfd_open, f->p->pid, 0);
	fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, (int)n, 0);
	errnum = errno;
	n = script_one(r, r->first, SYS_close, close_it, err);
	if (n < 0) {
		if (fd >= 0)
			close(fd);
		return err_set(err, (int)-n, "close the userfaultfd of process %u", f->p->pid);
	}
	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0) {
		f->uffd = fd;
		return 0;
	}
	snprintf(f->uffd_reason, sizeof(f->uffd_reason), "take the userfaultfd: %s",
		 strerrordesc_np(fd < 0 ? errnum : errno));
	if (fd >= 0)
		close(fd);
	return 0;
}

/* Memory that comes in small pages; huge ones come quicker when the kernel makes them by a fault.
 */
static bool wants_uffd(const struct m_vma *v)
{
	return v->kind == M_VMA_ANON && !v->shared &&
	       !(v->flags & (M_VMF_HUGETLB | M_VMF_HUGEPAGE | M_VMF_SHSTK | M_VMF_DROPPABLE));
}

/* It is there, with pages. */
static bool kept(const struct fill *f, uint32_t i)
{
	return f->kin->from && f->kin->keep[i];
}

static void register_all(struct fill *f)
{
	for (uint32_t i = 0; i < f->p->mm.nvmas; i++) {
		const struct m_vma *v = &f->p->mm.vmas[i];
		struct uffdio_register reg = {
			.range = {v->start, v->end - v->start},
			.mode = UFFDIO_REGISTER_MODE_MISSING,
		};

		f->by_uffd[i] =
			!kept(f, i) && wants_uffd(v) && ioctl(f->uffd, UFFDIO_REGISTER, &reg) == 0;
	}
}

int fill_open(struct fill *f, struct remote *r, const struct m_proc *p, const struct fill_kin *kin,
	      struct err *err)
{
	char path[64];
	int ret;

	*f = (struct fill){.p = p, .kin = kin, .mem_fd = -1, .uffd = -1, .tracer = gettid()};
	f->by_uffd = calloc(p->mm.nvmas + 1, 1);
	if (!f->by_uffd)
		return err_set(err, ENOMEM, "%u mappings of process %u", p->mm.nvmas, p->pid);
	snprintf(path, sizeof(path), "/proc/%u/mem", p->pid);
	f->mem_fd = open(path, O_RDWR | O_CLOEXEC);
	if (f->mem_fd < 0)
		return err_set(err, errno, "open %s", path);
	ret = fill_late_open(f, err);
	if (ret == 0)
		ret = take_uffd(f, r, err);
	if (ret == 0 && f->uffd >= 0)
		register_all(f);
	return ret;
}

void fill_close(struct fill *f)
{
	if (f->uffd >= 0)
		close(f->uffd);
	if (f->mem_fd >= 0)
		close(f->mem_fd);
	fill_late_close(f);
	free(f->by_uffd);
	f->uffd = f->mem_fd = -1;
	f->by_uffd = NULL;
}

/* --- contents --------------------------------------------------------------------------------- */

/* The first mapping that ends above @addr. */
static uint32_t vma_at(const struct m_mm *mm, uint64_t addr)
{
	uint32_t lo = 0, hi = mm->nvmas;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (mm->vmas[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Read-only memory, too: the tool traces the process. */
static int by_mem(const struct fill *f, uint64_t addr, const uint8_t *buf, uint64_t len,
		  struct err *err)
{
	ssize_t n = io_pwrite(f->mem_fd, buf, len, addr);

	if (n == (ssize_t)len)
		return 0;
	return err_set(err, n < 0 ? (int)-n : EIO,
		       "write %" PRIu64 " bytes at %#" PRIx64 " of process %u", len, addr,
		       f->p->pid);
}

static int by_uffd(const struct fill *f, uint64_t addr, const uint8_t *buf, uint64_t len,
		   struct err *err)
{
	while (len) {
		struct uffdio_copy copy = {
			.dst = addr,
			.src = (uint64_t)(uintptr_t)buf,
			.len = len,
			.mode = UFFDIO_COPY_MODE_DONTWAKE,
		};
		int ret = ioctl(f->uffd, UFFDIO_COPY, &copy);

		if (ret == 0)
			return 0;
		if (copy.copy > 0) {
			addr += (uint64_t)copy.copy;
			buf += copy.copy;
			len -= (uint64_t)copy.copy;
			continue;
		}
		/* Somebody changes the mappings at this moment. */
		if (errno == EAGAIN)
			continue;
		return by_mem(f, addr, buf, len, err);
	}
	return 0;
}

/* Fresh memory is zero; a page that was copied from a file is not. */
static int by_zeros(const struct fill *f, const struct m_vma *v, uint64_t addr, uint64_t len,
		    struct err *err)
{
	static const uint8_t zeros[64 << 10];

	if (v->kind != M_VMA_FILE_PRIVATE && v->kind != M_VMA_SHMEM)
		return 0;
	while (len) {
		uint64_t n = len < sizeof(zeros) ? len : sizeof(zeros);
		int ret = by_mem(f, addr, zeros, n, err);

		if (ret < 0)
			return ret;
		addr += n;
		len -= n;
	}
	return 0;
}

/* --- contents beside those of the parent ------------------------------------------------------ */

enum { PIECE = 64 << 10 };

/*
 * What the process has at @addr now. Not by process_vm_readv(): it pins pages, and the kernel
 * (since Linux 5.19) gives whoever reads a shared page that way a copy of its own before.
 */
static int look(const struct fill *f, uint64_t addr, uint8_t *buf, uint64_t len, struct err *err)
{
	ssize_t n = io_pread(f->mem_fd, buf, len, addr);

	if (n == (ssize_t)len)
		return 0;
	return err_set(err, n < 0 ? (int)-n : EIO,
		       "read %" PRIu64 " bytes at %#" PRIx64 " of process %u", len, addr,
		       f->p->pid);
}

/* Pages that are there and the same stay the parent's, too. */
static int by_difference(const struct fill *f, uint64_t addr, const uint8_t *buf, uint64_t len,
			 struct err *err)
{
	static const uint8_t zeros[PIECE];
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint8_t now[PIECE];

	while (len) {
		uint64_t n = len < PIECE ? len : PIECE, from = 0;
		const uint8_t *p = buf ? buf : zeros;
		int ret = look(f, addr, now, n, err);

		for (uint64_t at = 0; ret == 0 && at <= n; at += page) {
			/* [from, at) differs. */
			if (at < n && memcmp(p + at, now + at, page) != 0)
				continue;
			if (at > from)
				ret = by_mem(f, addr + from, p + from, at - from, err);
			from = at + page;
		}
		if (ret < 0)
			return ret;
		addr += n;
		buf = buf ? buf + n : NULL;
		len -= n;
	}
	return 0;
}

/* Where the parent had no page there is none: zero, or the file's. */
static int by_kin(const struct fill *f, const struct m_vma *v, uint64_t addr, const uint8_t *buf,
		  uint64_t len, struct err *err)
{
	const struct fill_span *both = f->kin->both;
	size_t lo = 0, hi = f->kin->nboth;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (both[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	while (len) {
		bool in = lo < f->kin->nboth && both[lo].start <= addr;
		uint64_t end = lo == f->kin->nboth ? UINT64_MAX
			       : in		   ? both[lo].end
						   : both[lo].start;
		uint64_t n = end - addr < len ? end - addr : len;
		int ret = in	? by_difference(f, addr, buf, n, err)
			  : buf ? by_mem(f, addr, buf, n, err)
				: by_zeros(f, v, addr, n, err);

		if (ret < 0)
			return ret;
		lo += in;
		addr += n;
		buf = buf ? buf + n : NULL;
		len -= n;
	}
	return 0;
}

int fill_write(const struct fill *f, uint64_t addr, const void *buf, uint64_t len, struct err *err)
{
	const struct m_mm *mm = &f->p->mm;
	const uint8_t *p = buf;

	for (uint32_t i = vma_at(mm, addr); len; i++) {
		const struct m_vma *v = i < mm->nvmas ? &mm->vmas[i] : NULL;
		uint64_t n;
		int ret = 0;

		if (!v || v->start > addr)
			return err_fail(err, EFAULT, ERR_IMAGE,
					"process %u: the image has a page for %#" PRIx64
					" but no mapping there",
					f->p->pid, addr);
		n = v->end - addr < len ? v->end - addr : len;
		if (kept(f, i))
			ret = by_kin(f, v, addr, p, n, err);
		else if (!p)
			ret = by_zeros(f, v, addr, n, err);
		else if (!fill_is_kernels(v))
			ret = f->by_uffd[i] ? by_uffd(f, addr, p, n, err)
					    : by_mem(f, addr, p, n, err);
		if (ret == -EIO && gettid() != f->tracer) {
			err_clear(err);
			ret = fill_keep(f, addr, p, n, err);
		}
		if (ret < 0)
			return ret;
		addr += n;
		p = p ? p + n : NULL;
		len -= n;
	}
	return 0;
}
