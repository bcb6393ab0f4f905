/* SPDX-License-Identifier: MIT */
/* What a process has of its CPU, or of its kernel, that no restore makes: findings. */
#include <errno.h>
#include <linux/capability.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "src/target/collect.h"
#include "src/target/gather.h"
#include "src/target/keys.h"

/* Registers that a restore could not put back. */
static int lost_sets(struct model *m, const struct m_proc *p, const struct m_thread *t)
{
	const char *lost = NULL;

	for (uint32_t i = 0; arch_inject.set_lost && !lost && i < t->nregsets; i++)
		lost = arch_inject.set_lost(&(struct arch_set){
			t->regsets[i].note, t->regsets[i].len, t->regsets[i].data});
	return lost ? finding_fatal(m, p->pid, "thread %u: %s", t->tid, lost) : 0;
}

/* No ports at all are EINVAL where the kernel has such a call (CONFIG_X86_IOPL_IOPERM). */
static bool ports_exist(void)
{
	static int exist = -1;

	if (exist < 0)
		exist = arch_inject.ports_note &&
			(syscall(arch_inject.ports_nr, 0, 0, 0) == 0 || errno != ENOSYS);
	return exist;
}

/* One word of the list is enough to know that there is one. */
static bool has_ports(const struct m_thread *t)
{
	uint64_t word;
	struct iovec iov = {&word, sizeof(word)};

	return ptrace(PTRACE_GETREGSET, (pid_t)t->tid, arch_inject.ports_note, &iov) == 0;
}

/*
 * 0.65 us for each thread on the machine of INTERNALS.md: of those who could have asked for it, and
 * of the main thread, whose others have it, too. One stands for all.
 */
static int ports(struct model *m, const struct m_proc *p)
{
	const uint64_t may_ask = 1ull << CAP_SYS_RAWIO;

	for (uint32_t i = 0; ports_exist() && i < p->nthreads; i++) {
		const struct m_thread *t = &p->threads[i];

		if ((i == 0 || t->creds.cap_prm & may_ask) && has_ports(t))
			return finding_fatal(m, p->pid,
					     "thread %u may use I/O ports (ioperm): not supported",
					     t->tid);
	}
	return 0;
}

int odd_collect(struct model *m, const struct m_proc *p, struct err *err)
{
	int ret = 0;

	if (p->keyrings)
		ret = finding_add(m, p->pid,
				  "keyrings of its own (process, thread) are not carried");
	for (uint32_t i = 0; ret == 0 && i < p->nthreads; i++)
		ret = lost_sets(m, p, &p->threads[i]);
	if (ret == 0)
		ret = ports(m, p);
	for (uint32_t i = 0; ret == 0 && i < ARCH_ODDITIES_MAX; i++)
		if (p->oddities >> i & 1)
			ret = finding_fatal(m, p->pid, "%s: not supported",
					    arch_inject.oddities[i].what);
	if (ret == 0 && arch_inject.keys_lost && keys_used(&p->mm))
		ret = finding_fatal(m, p->pid, "it has protection keys: %s", arch_inject.keys_lost);
	return ret < 0 ? err_set(err, ENOMEM, "findings of pid %u", p->pid) : 0;
}
