/* SPDX-License-Identifier: MIT */
/* One mapping of a process by an address. */
#include "src/target/mapquery.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"

/* As in linux/fs.h of Linux 6.11; headers of that age are not needed to build. */
struct procmap_query_arg {
	uint64_t size, query_flags, query_addr;
	uint64_t vma_start, vma_end, vma_flags, vma_page_size, vma_offset, inode;
	uint32_t dev_major, dev_minor;
	uint32_t vma_name_size, build_id_size;
	uint64_t vma_name_addr, build_id_addr;
};

#define PROCMAP_QUERY_IOCTL _IOWR('f', 17, struct procmap_query_arg)

enum { VMA_READ = 1, VMA_WRITE = 2, VMA_EXEC = 4, VMA_SHARED = 8 };

int map_query(pid_t pid, uint64_t addr, struct mapping *ret, char *name, uint32_t room)
{
	struct procmap_query_arg q = {
		.size = sizeof(q),
		.query_addr = addr,
		.vma_name_size = room,
		.vma_name_addr = (uint64_t)(uintptr_t)name,
	};
	cleanup_fd int fd = -1;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, PROCMAP_QUERY_IOCTL, &q) < 0)
		return -errno;
	if (!q.vma_name_size)
		name[0] = '\0';
	*ret = (struct mapping){
		.start = q.vma_start,
		.end = q.vma_end,
		.pgoff = q.vma_offset,
		.dev = (uint64_t)q.dev_major << 32 | q.dev_minor,
		.ino = q.inode,
		.read = q.vma_flags & VMA_READ,
		.write = q.vma_flags & VMA_WRITE,
		.exec = q.vma_flags & VMA_EXEC,
		.shared = q.vma_flags & VMA_SHARED,
		.name = name,
	};
	return 0;
}
