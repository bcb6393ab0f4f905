/* SPDX-License-Identifier: MIT */
/* mlockall(MCL_FUTURE), told by what was just mapped. */
#include "src/target/locking.h"

#include <string.h>

#include "src/target/procfs.h"
#include "src/target/tree.h"

uint64_t locking_kb(const char *status)
{
	const char *p = strstr(status, "\nVmLck:");
	uint64_t kb;

	if (!p)
		return 0;
	p += strlen("\nVmLck:");
	p += strspn(p, " \t");
	return procfs_dec(&p, &kb) ? kb : 0;
}

/* Whether the mapping at @addr is locked page by page, as it is touched. */
static bool locks_on_fault(pid_t pid, uint64_t addr)
{
	struct procfs_lines l;
	char buf[8192], *line;
	bool here = false, ret = false;

	if (procfs_lines_open(&l, buf, sizeof(buf), "/proc/%d/smaps", pid) < 0)
		return false;
	while (!ret && (line = procfs_lines_next(&l))) {
		const char *p = line;
		uint64_t start;

		if (!strncmp(line, "VmFlags:", 8)) {
			ret = here && strstr(line, " lf");
			here = false;
		} else if (procfs_hex(&p, &start) && *p == '-') {
			here = start == addr;
		}
	}
	procfs_lines_close(&l);
	return ret;
}

void locking_collect(struct m_proc *p, pid_t tid, uint64_t before_kb, uint64_t addr, char *text)
{
	if (procfs_read(text, TREE_TEXT, "/proc/%d/status", tid) <= 0)
		return;
	p->mlock_future = locking_kb(text) > before_kb;
	p->mlock_onfault = p->mlock_future && locks_on_fault(tid, addr);
}
