/* SPDX-License-Identifier: MIT */
/* Calls that the kernel has stepped back to before the stop: seen, and made again. */
#include "src/target/recall.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#include "src/target/gather.h"
#include "src/target/procfs.h"

#define ALL_SIGNALS (~0ull)

enum { RESTART_BLOCK = -516 };

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

/*
 * Makes the call that it stands at, and interrupts it at once: it stands there again, or behind it.
 * The number that the call had at its entry.
 */
static int make_call(struct tree *t, struct task *task, enum arch_sleep *ret_entry, struct err *err)
{
	uint8_t regs[ARCH_PRSTATUS_MAX];
	struct remote r = {.tree = t};
	const uint64_t mask = task->sigmask;
	int ret = run_to_entry(&r, task, err);

	if (ret == 0)
		ret = task_regs(task->tid, regs);
	if (ret == 0)
		*ret_entry = arch_inject.sleep(regs);
	/* Here the trap comes before any signal. */
	if (ret == 0)
		ret = run_to_trap(&r, task, 0, err);
	task_set_mask(task->tid, mask);
	return ret < 0 ? ret : remote_save(task, err);
}

int recall_look(struct tree *t, struct task *task, struct err *err)
{
	/* The second time for one that had not begun: by then it has. */
	enum { TIMES = 2 };
	const uint32_t pc_off = arch_host()->pc_off;
	enum arch_sleep sleep, entry = ARCH_AWAKE;
	int ret = 0;

	if (!arch_host()->steps_back || task->looked)
		return 0;
	task->looked = true;
	for (int i = 0; ret == 0 && i < TIMES; i++) {
		task->at_call = is_call(task, word(task, pc_off));
		if (!task->at_call)
			return 0;
		sleep = arch_inject.sleep(task->prstatus);
		task->asleep = sleep == ARCH_SLEEPS;
		/* Who is let go at an entry has a signal pending for a moment, whatever its mask.
		 */
		task->at_call = sleep != ARCH_ENDS;
		if (sleep != ARCH_MAY_SLEEP || entry == ARCH_SLEEPS)
			break;
		task->sleep_nr = word(task, arch_host()->sysno_off);
		ret = make_call(t, task, &entry, err);
	}
	task->at_call = task->at_call && is_call(task, word(task, pc_off));
	task->asleep = task->at_call && (task->asleep || entry == ARCH_SLEEPS);
	if (ret == 0 && task->asleep && arch_host()->restart_undo) {
		arch_host()->restart_undo(task->prstatus, RESTART_BLOCK);
		task->altered = true;
	}
	return ret;
}

/* A function of its own for the room that it takes, which is cleared for every thread otherwise. */
static __attribute__((noinline)) void make_it_again(struct tree *t, struct task *task)
{
	struct remote r = {.tree = t};
	struct err drop = {0};

	if (task_set_mask(task->tid, ALL_SIGNALS) == 0)
		run_to_syscall(&r, task, &drop);
	task_set_mask(task->tid, task->sigmask);
}

void recall_again(struct tree *t, struct task *task)
{
	if (!arch_host()->steps_back || !task->at_call || !task->recall ||
	    arch_inject.sleep(task->prstatus) == ARCH_ENDS || !threads_signal_due(task))
		return;
	make_it_again(t, task);
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
