/* SPDX-License-Identifier: MIT */
/* Memory that only the thread that traces a process may read. */
#include "src/target/forced.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

size_t forced_words(pid_t tid, uint64_t addr, void *buf, size_t len)
{
	size_t at = 0;

	for (long word; at + sizeof(word) <= len; at += sizeof(word)) {
		errno = 0;
		word = ptrace(PTRACE_PEEKDATA, tid, addr + at, 0);
		if (errno)
			break;
		memcpy((uint8_t *)buf + at, &word, sizeof(word));
	}
	return at;
}

static ssize_t by_file(pid_t pid, uint64_t addr, void *buf, size_t len)
{
	cleanup_fd int fd = -1;
	char path[32];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	do
		n = pread(fd, buf, len, (off_t)addr);
	while (n < 0 && errno == EINTR);
	return n;
}

size_t forced_read(struct tree *t, const struct proc *p, uint64_t addr, void *buf, size_t len)
{
	ssize_t n = by_file(p->pid, addr, buf, len);

	for (uint32_t i = 0; n <= 0 && i < p->ntasks; i++) {
		const struct task *task = tree_proc_task(t, p, i);

		if (task->state == TASK_STOPPED)
			return forced_words(task->tid, addr, buf, len);
	}
	return n < 0 ? 0 : (size_t)n;
}
