/* SPDX-License-Identifier: MIT */
/* Calls that the kernel has stepped back to before the stop: seen, and made again. */
#include "src/target/recall.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#include "src/target/procfs.h"

#define ALL_SIGNALS (~0ull)

static uint64_t word(const struct task *task, uint32_t off)
{
	uint64_t v;

	memcpy(&v, task->prstatus + off, sizeof(v));
	return v;
}

static bool is_call(const struct task *task, uint64_t pc)
{
	const struct arch_gadget *insn = &arch_inject.syscall_insn;
	uint8_t bytes[8];
	struct iovec l = {bytes, insn->len}, r = {(void *)(uintptr_t)pc, insn->len};

	return insn->len <= sizeof(bytes) &&
	       process_vm_readv(task->tid, &l, 1, &r, 1, 0) == (ssize_t)insn->len &&
	       !memcmp(bytes, insn->bytes, insn->len);
}

/* Goes on to the entry of the call that it stands at, and sees no signal on the way. */
static int to_entry(struct tree *t, struct task *task, struct err *err)
{
	struct remote r = {.tree = t};
	int ret = task_set_mask(task->tid, ALL_SIGNALS);

	if (ret < 0)
		return err_set(err, -ret, "block signals of thread %d", task->tid);
	ret = run_to_syscall(&r, task, err);
	return ret;
}

/* From there back to a stop between kernel and program, without the call. */
static int leave_entry(struct tree *t, struct task *task, uint8_t *regs, struct err *err)
{
	struct remote r = {.tree = t};
	int ret;

	arch_inject.skip_call(regs);
	ret = task_set_regs(task->tid, regs);
	if (ret < 0)
		return err_set(err, -ret, "set registers of thread %d", task->tid);
	return run_to_trap(&r, task, 0, err);
}

int recall_look(struct tree *t, struct task *task, struct err *err)
{
	const uint32_t pc_off = arch_host()->pc_off, nr_off = arch_host()->sysno_off;
	uint8_t regs[ARCH_PRSTATUS_MAX];
	struct remote r = {.tree = t};
	enum arch_sleep sleep;
	int ret;

	if (!arch_host()->steps_back || task->looked)
		return 0;
	task->looked = true;
	task->at_call = is_call(task, word(task, pc_off));
	if (!task->at_call)
		return 0;
	sleep = arch_inject.sleep(task->prstatus);
	task->asleep = sleep == ARCH_SLEEPS;
	/* Who is let go at an entry has a signal pending for a moment, whatever its mask. */
	if (sleep == ARCH_ENDS)
		task->at_call = false;
	if (sleep != ARCH_MAY_SLEEP)
		return 0;
	task->sleep_nr = word(task, nr_off);
	task->altered = true;
	ret = run_sleep_seccomp(&r, task, err);
	if (ret == 0)
		ret = to_entry(t, task, err);
	if (ret == 0)
		ret = task_regs(task->tid, regs);
	if (ret == 0) {
		task->asleep = arch_inject.sleep(regs) == ARCH_SLEEPS;
		if (task->asleep)
			memcpy(task->prstatus + nr_off, regs + nr_off, 8);
		ret = leave_entry(t, task, regs, err);
	}
	run_retreat(&r, task);
	/* The true state has changed in its number; and the call is to be made from its entry. */
	task->altered = true;
	return ret;
}

void recall_again(struct tree *t, struct task *task)
{
	struct err drop = {0};

	if (!arch_host()->steps_back || !task->at_call || !task->recall ||
	    arch_inject.sleep(task->prstatus) == ARCH_ENDS)
		return;
	to_entry(t, task, &drop);
	task_set_mask(task->tid, task->sigmask);
}

bool recall_argument(const struct task *task, uint64_t *ret)
{
	const uint64_t nr = word(task, arch_host()->sysno_off);
	const uint64_t pc = word(task, arch_host()->pc_off);
	struct iovec call = {NULL, ARCH_CALL_LEN};
	uint8_t none[ARCH_PRSTATUS_MAX];
	long long number;
	unsigned long long arg;
	char text[256];
	int32_t value = (int32_t)nr;
	bool found;

	if (!is_call(task, pc - arch_inject.syscall_insn.len))
		return false;
	/* The kernel shows the arguments of the call that a stopped thread has this number of. */
	call.iov_base = &value;
	if (ptrace(PTRACE_SETREGSET, task->tid, arch_inject.call_note, &call) < 0)
		return false;
	found = procfs_read(text, sizeof(text), "/proc/%d/syscall", task->tid) > 0 &&
		sscanf(text, "%lld %llx", &number, &arg) == 2 && number == (long long)nr;
	memcpy(none, task->prstatus, sizeof(none));
	arch_inject.skip_call(none);
	call.iov_base = none + arch_inject.prstatus_len;
	ptrace(PTRACE_SETREGSET, task->tid, arch_inject.call_note, &call);
	if (found)
		*ret = arg;
	return found;
}
