/* SPDX-License-Identifier: MIT */
/* What ptrace knows of a stopped thread: registers, signal mask and queues, rseq. */
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#include "src/target/gather.h"
#include "src/target/recall.h"
#include "src/target/regsets.h"
#include "src/target/remote.h"

enum { PEEK = 64 };

#define GET_SUD_CONFIG 0x4211 /* Linux 6.4, <linux/ptrace.h> */

/* struct rseq and struct rseq_cs, Linux 4.18, Documentation of rseq(2). */
enum { RSEQ_CS_OFF = 8 };
struct rseq_section {
	uint32_t version, flags;
	uint64_t start_ip, post_commit_offset, abort_ip;
};

static ssize_t peek(pid_t tid, uint64_t addr, void *buf, size_t len)
{
	struct iovec l = {buf, len}, r = {(void *)(uintptr_t)addr, len};

	return process_vm_readv(tid, &l, 1, &r, 1, 0);
}

void threads_prstatus(const struct m_thread *t, uint8_t prstatus[ARCH_PRSTATUS_MAX])
{
	const struct m_regset *call = model_regset(t, arch_inject.call_note);

	memset(prstatus, 0, ARCH_PRSTATUS_MAX);
	memcpy(prstatus, t->regsets[0].data, arch_inject.prstatus_len);
	if (!arch_inject.call_note)
		return;
	if (call && call->len == ARCH_CALL_LEN)
		memcpy(prstatus + arch_inject.prstatus_len, call->data, ARCH_CALL_LEN);
	else
		arch_no_call(prstatus);
}

static uint64_t reg(const void *prstatus, uint32_t off)
{
	uint64_t v;

	memcpy(&v, (const uint8_t *)prstatus + off, sizeof(v));
	return v;
}

/* Up to @max of a queue, from @off on: their number, -errno. */
static int queue_peek(pid_t tid, uint32_t flags, uint64_t off, siginfo_t *info, int max)
{
	struct __ptrace_peeksiginfo_args args = {.off = off, .flags = flags, .nr = max};
	long n = ptrace(PTRACE_PEEKSIGINFO, tid, &args, info);

	return n < 0 ? -errno : (int)n;
}

static int queue_read(struct model *m, pid_t tid, uint32_t flags, struct m_sigqueue *q,
		      struct err *err)
{
	siginfo_t info[PEEK];
	int n;

	do {
		n = queue_peek(tid, flags, q->n, info, PEEK);
		if (n < 0)
			return err_set(err, -n, "read pending signals of thread %d", tid);
		for (int i = 0; i < n; i++) {
			struct m_siginfo *s = model_push(m, &q->info, &q->n, sizeof(*s));

			if (!s)
				return err_set(err, ENOMEM, "pending signals of thread %d", tid);
			memcpy(s->data, &info[i], sizeof(s->data));
		}
	} while (n == PEEK);
	return 0;
}

int threads_shared_pending(struct model *m, struct task *task, struct m_sigqueue *q,
			   struct err *err)
{
	return queue_read(m, task->tid, PTRACE_PEEKSIGINFO_SHARED, q, err);
}

int threads_pending(struct model *m, struct task *task, struct m_sigqueue *q, struct err *err)
{
	return queue_read(m, task->tid, 0, q, err);
}

bool threads_signal_due(const struct task *task)
{
	static const uint32_t queues[] = {0, PTRACE_PEEKSIGINFO_SHARED};
	siginfo_t info[PEEK];

	for (int q = 0; q < 2; q++) {
		uint64_t off = 0;
		int n;

		do {
			n = queue_peek(task->tid, queues[q], off, info, PEEK);
			for (int i = 0; i < n; i++)
				if (!(task->sigmask >> (info[i].si_signo - 1) & 1))
					return true;
			off += PEEK;
		} while (n == PEEK);
	}
	return false;
}

void threads_wait_again(struct task *task)
{
	uint64_t first = 0;

	if (!arch_inject.wait_again || !arch_inject.wait_again(task->prstatus, true) ||
	    threads_signal_due(task))
		return;
	if (arch_host()->steps_back && !recall_argument(task, &first))
		return;
	if (!arch_inject.wait_again(task->prstatus, false))
		return;
	if (arch_host()->steps_back) {
		arch_inject.set_ret(task->prstatus, (int64_t)first);
		task->waits = true;
	}
	task->altered = true;
}

void threads_wait_over(struct task *task)
{
	uint64_t pc = reg(task->prstatus, arch_host()->pc_off) + arch_inject.syscall_insn.len;

	if (!task->waits || !threads_signal_due(task))
		return;
	memcpy(task->prstatus + arch_host()->pc_off, &pc, sizeof(pc));
	arch_inject.set_ret(task->prstatus, -EINTR);
	task->waits = false;
	task->altered = true;
}

/*
 * Stopped inside a restartable sequence. The kernel would send it to the abort handler on its way
 * to user mode, for it was interrupted; but it forgets to when it sees the thread elsewhere in
 * between, in an injected run. So the thread is sent there now.
 */
static void rseq_abort(struct task *task, const struct m_rseq *rseq)
{
	uint64_t pc = reg(task->prstatus, arch_host()->pc_off), at = 0;
	struct rseq_section cs;
	uint32_t signature = 0;

	if (peek(task->tid, rseq->addr + RSEQ_CS_OFF, &at, sizeof(at)) != (ssize_t)sizeof(at) ||
	    !at || peek(task->tid, at, &cs, sizeof(cs)) != (ssize_t)sizeof(cs))
		return;
	if (pc - cs.start_ip >= cs.post_commit_offset)
		return;
	if (peek(task->tid, cs.abort_ip - 4, &signature, sizeof(signature)) !=
		    (ssize_t)sizeof(signature) ||
	    signature != rseq->signature)
		return;
	memcpy(task->prstatus + arch_host()->pc_off, &cs.abort_ip, sizeof(cs.abort_ip));
	task->altered = true;
}

/* In a call that will be made again; there is none in a restartable sequence, see rseq(2). */
static bool in_call(const struct task *task)
{
	const struct arch_desc *arch = arch_host();

	return arch->restart_code ? arch->restart_code(task->prstatus) != 0 : task->at_call;
}

static void rseq_read(struct task *task, struct m_thread *t)
{
	struct __ptrace_rseq_configuration conf = {0};

	/* Linux 5.13. */
	if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, task->tid, sizeof(conf), &conf) < 0 ||
	    !conf.rseq_abi_pointer)
		return;
	t->rseq = (struct m_rseq){
		.addr = conf.rseq_abi_pointer,
		.len = conf.rseq_abi_size,
		.signature = conf.signature,
		.flags = conf.flags,
	};
	if (!in_call(task))
		rseq_abort(task, &t->rseq);
}

/* Where it is on, a call that is injected would be answered by a signal. */
static int refuse_dispatch(struct task *task, struct err *err)
{
	struct {
		uint64_t mode, selector, offset, len;
	} sud = {0}; /* struct ptrace_sud_config, Linux 6.4 */

	if (ptrace(GET_SUD_CONFIG, task->tid, sizeof(sud), &sud) < 0 || !sud.mode)
		return 0;
	return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
			"thread %d has its system calls dispatched to itself "
			"(PR_SET_SYSCALL_USER_DISPATCH): not supported",
			task->tid);
}

int threads_ready(struct tree *tree, struct task *task, struct err *err)
{
	struct m_thread drop = {0};
	int ret = remote_save(task, err);

	if (ret == 0)
		ret = refuse_dispatch(task, err);
	if (ret == 0)
		ret = recall_look(tree, task, err);
	if (ret < 0)
		return ret;
	rseq_read(task, &drop);
	threads_wait_again(task);
	return 0;
}

/* Where the kernel does not tell why a call is made again: for the one who sees the image. */
static int64_t stepped_back(const struct task *task)
{
	enum { KERNEL_RESTARTNOHAND = 514, KERNEL_RESTARTBLOCK = 516 };

	if (!task->at_call)
		return 0;
	return task->asleep ? -KERNEL_RESTARTBLOCK : -KERNEL_RESTARTNOHAND;
}

int threads_collect(struct model *m, struct tree *tree, struct task *task, struct m_thread *t,
		    struct err *err)
{
	const struct arch_desc *arch = arch_host();
	uint8_t prstatus[ARCH_PRSTATUS_MAX];
	int ret = remote_save(task, err);

	if (ret == 0)
		ret = refuse_dispatch(task, err);
	if (ret == 0)
		ret = recall_look(tree, task, err);
	if (ret < 0)
		return ret;
	t->sigmask = task->sigmask;
	rseq_read(task, t);
	threads_wait_again(task);
	memcpy(prstatus, task->prstatus, sizeof(prstatus));
	t->syscall_ret = arch->restart_code ? arch->restart_code(prstatus) : stepped_back(task);
	t->in_syscall = t->syscall_ret != 0;
	if (arch->restart_fixup)
		arch->restart_fixup(prstatus);
	if (task->asleep && task->sleep_nr)
		memcpy(prstatus + arch->sysno_off, &task->sleep_nr, sizeof(task->sleep_nr));
	t->pc = reg(prstatus, arch->pc_off);
	t->sp = reg(prstatus, arch->sp_off);
	ret = regsets_add(m, t, arch->regsets[0].note, prstatus, arch_inject.prstatus_len, err);
	return ret < 0 ? ret : regsets_read(regsets_host(), m, t, err);
}
