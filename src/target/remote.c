/* SPDX-License-Identifier: MIT */
/* The scratch area of system-call batches: into a stopped process and out of it again. */
#include "src/target/remote.h"

#include <assert.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "src/target/gadget.h"
#include "src/target/limits.h"
#include "src/target/recall.h"

enum {
	CODE_STRIDE = 256,
	/* Protected by itself: whole pages, however long they are. */
	PAGE_MAX = 65536,
	CODE_LEN = (REMOTE_SLOTS * CODE_STRIDE + PAGE_MAX - 1) / PAGE_MAX * PAGE_MAX,
	SLOT_LEN = 0x14000,
	SLOT_STACK = 0x10000, /* at least */
	SLOT_TABLE = SLOT_STACK + ARCH_CONTROL_MAX,
	SLOT_BUFFERS = SLOT_TABLE + SLOT_CALLS * sizeof(struct arch_call),
};

static_assert(SLOT_BUFFERS + SLOT_DATA == SLOT_LEN, "slot");

#define ALL_SIGNALS (~0ull)

/* --- where things are ------------------------------------------------------------------------- */

uint64_t slot_code(const struct remote *r, unsigned slot)
{
	return r->base + slot * CODE_STRIDE;
}

static uint64_t slot_start(const struct remote *r, unsigned slot)
{
	return r->base + CODE_LEN + (uint64_t)slot * SLOT_LEN;
}

/* Right before the calls: where it is short all of a slot is one page that has to be there. */
uint64_t slot_control(const struct remote *r, unsigned slot)
{
	return slot_start(r, slot) + SLOT_TABLE - ((arch_inject.control_len + 63) & ~(size_t)63);
}

static uint64_t big_start(const struct remote *r)
{
	return slot_start(r, r->nslots);
}

static size_t scratch_len(const struct remote *r)
{
	return CODE_LEN + (size_t)r->nslots * SLOT_LEN + BATCH_CALLS * sizeof(struct arch_call) +
	       BATCH_DATA;
}

static uint64_t reg(const void *prstatus, uint32_t off)
{
	uint64_t v;

	memcpy(&v, (const uint8_t *)prstatus + off, sizeof(v));
	return v;
}

static int write_mem(const struct remote *r, uint64_t addr, const void *buf, size_t len,
		     struct err *err)
{
	/* Through /proc: process_vm_writev does not write what the process itself may not. */
	ssize_t n = io_pwrite(r->mem_fd, buf, len, addr);

	if (n != (ssize_t)len)
		return err_set(err, n < 0 ? (int)-n : EIO, "write %zu bytes at %#lx of process %d",
			       len, (unsigned long)addr, r->proc->pid);
	return 0;
}

/* --- the first and the last call -------------------------------------------------------------- */

/* What a frame is made of, as far as the thread has it. */
static void read_sets(const struct task *task, struct arch_set sets[ARCH_FRAME_NOTES])
{
	static uint8_t bufs[ARCH_FRAME_NOTES][ARCH_REGSET_MAX];

	for (unsigned i = 0; arch_inject.frame_notes[i]; i++) {
		struct iovec iov = {bufs[i], sizeof(bufs[i])};

		sets[i] = (struct arch_set){arch_inject.frame_notes[i], 0, bufs[i]};
		if (ptrace(PTRACE_GETREGSET, task->tid, sets[i].note, &iov) == 0)
			sets[i].len = (uint32_t)iov.iov_len;
	}
}

/* The way into the frame, as a shadow stack has it. -EAGAIN: this one is full. */
static int put_shadow_words(struct remote *r, struct task *task, struct err *err)
{
	uint64_t words[2], at;

	if (!shadow_read(task, &task->shadow))
		return 0;
	at = task->shadow.pointer - sizeof(words);
	if (io_pread(r->mem_fd, r->shadow_below, sizeof(words), at) != sizeof(words))
		return -EAGAIN;
	arch_inject.shadow->words(task->shadow.pointer, r->sigreturn_pc, words);
	task->shadow.lower = sizeof(words);
	r->shadow_words = true;
	return write_mem(r, at, words, sizeof(words), err);
}

/* The thread has its true registers again. */
static void drop_shadow_words(struct remote *r)
{
	const uint64_t at = r->first->shadow.pointer - sizeof(r->shadow_below);
	struct err drop = {0};

	if (r->shadow_words)
		write_mem(r, at, r->shadow_below, sizeof(r->shadow_below), &drop);
	r->shadow_words = false;
	shadow_of_loop(r->first);
}

static void drop_frame(struct remote *r, size_t len)
{
	struct iovec l = {r->saved, len};
	struct iovec rem = {(void *)(uintptr_t)r->frame_addr, len};

	drop_shadow_words(r);
	if (process_vm_writev(r->proc->pid, &l, 1, &rem, 1, 0) < 0)
		errno = 0; /* the process has been killed */
}

/* What the thread would need to find back without us, on dead stack. */
static int put_frame(struct remote *r, struct task *task, size_t *ret_len, struct err *err)
{
	struct arch_set sets[ARCH_FRAME_NOTES];
	struct iovec l = {r->saved, 0}, rem = {NULL, 0};
	size_t len;
	int ret;

	r->shadow_words = false;
	read_sets(task, sets);
	/* Its length first, at any address. */
	len = arch_inject.frame(r->frame, sizeof(r->frame), 64, r->sigreturn_pc, task->prstatus,
				sets, task->sigmask);
	r->words_off = len;
	len = len ? (len + arch_inject.mmap_args_len + 63) & ~(size_t)63 : 0;
	r->frame_addr = len ? gadget_stack(r->proc->pid, task->prstatus,
					   reg(task->prstatus, arch_host()->sp_off), len)
			    : 0;
	if (!r->frame_addr)
		return -EAGAIN;
	memset(r->frame, 0, len);
	arch_inject.frame(r->frame, sizeof(r->frame), r->frame_addr, r->sigreturn_pc,
			  task->prstatus, sets, task->sigmask);
	rem = (struct iovec){(void *)(uintptr_t)r->frame_addr, len};
	l.iov_len = len;
	if (process_vm_readv(r->proc->pid, &l, 1, &rem, 1, 0) != (ssize_t)len)
		return -EAGAIN;
	l.iov_base = r->frame;
	if (process_vm_writev(r->proc->pid, &l, 1, &rem, 1, 0) != (ssize_t)len)
		return err_set(err, errno ? errno : EIO, "write a frame at %#lx of process %d",
			       (unsigned long)r->frame_addr, r->proc->pid);
	r->first = task;
	*ret_len = len;
	ret = put_shadow_words(r, task, err);
	if (ret < 0)
		drop_frame(r, len);
	return ret;
}

/* At the entry of the call that the code makes by itself, where it makes one. */
static int swap_call(struct task *task, uint64_t nr, struct err *err)
{
	uint8_t regs[ARCH_PRSTATUS_MAX];
	int ret;

	if (!arch_inject.swap_call)
		return 0;
	ret = task_regs(task->tid, regs);
	if (ret == 0) {
		arch_inject.swap_call(regs, nr);
		ret = task_set_regs(task->tid, regs);
	}
	return ret < 0 ? err_set(err, -ret, "set registers of thread %d", task->tid) : 0;
}

/* One call with code that is there already. The thread stands at the exit of the call after it. */
static int bare_call(struct remote *r, struct task *task, uint64_t nr, const uint64_t args[6],
		     int64_t *ret_value, struct err *err)
{
	uint8_t regs[ARCH_PRSTATUS_MAX];
	int ret;

	memcpy(regs, task->prstatus, sizeof(regs));
	arch_inject.set_call(regs, r->syscall_pc, r->frame_addr, r->sigreturn_pc, nr, args);
	ret = run_enter(task, regs, ALL_SIGNALS, err);
	if (ret == 0)
		ret = run_to_syscall(r, task, err);
	if (ret == 0)
		ret = swap_call(task, nr, err);
	if (FAULT("target.first_call"))
		ret = err_set(err, EIO, "fault injected at target.first_call");
	if (ret == 0)
		ret = run_to_syscall(r, task, err);
	if (ret == 0) {
		ret = task_regs(task->tid, regs);
		if (ret < 0)
			err_set(err, -ret, "read registers of thread %d", task->tid);
	}
	if (ret == 0)
		*ret_value = arch_inject.call_ret(regs);
	return ret;
}

/* A thread with dead stack for a frame, and the frame on it. */
static int put_frame_somewhere(struct remote *r, size_t *ret_len, struct err *err)
{
	for (uint32_t i = 0; i < r->proc->ntasks; i++) {
		struct task *task = tree_proc_task(r->tree, r->proc, i);
		int ret;

		if (task->state != TASK_STOPPED)
			continue;
		ret = put_frame(r, task, ret_len, err);
		if (ret != -EAGAIN)
			return ret;
	}
	return err_fail(err, EAGAIN, ERR_UNSUPPORTED,
			"process %d: no thread has a stack on which a signal frame would be safe",
			r->proc->pid);
}

/* The scratch area is there, readable: code and a control block in, then the rest made writable. */
static int boot(struct remote *r, struct task *task, struct err *err)
{
	const uint64_t args[6] = {r->base + CODE_LEN, scratch_len(r) - CODE_LEN,
				  PROT_READ | PROT_WRITE};
	static uint8_t code[REMOTE_SLOTS * CODE_STRIDE];
	uint8_t control[ARCH_CONTROL_MAX];
	size_t control_len;
	int64_t value;
	int ret;

	for (unsigned i = 0; i < r->nslots; i++)
		arch_inject.code(code + i * CODE_STRIDE, slot_code(r, i), slot_control(r, i));
	control_len = run_boot_control(r, task, control);
	ret = write_mem(r, r->base, code, r->nslots * CODE_STRIDE, err);
	if (ret == 0)
		ret = write_mem(r, slot_control(r, 0), control, control_len, err);
	if (ret == 0)
		ret = run_boot(r, task, SYS_mprotect, args, &value, err);
	if (ret < 0)
		return ret;
	return value < 0 ? err_set(err, (int)-value, "mprotect in process %d", r->proc->pid) : 0;
}

/* Arguments that mmap wants in memory: behind the frame. */
static int put_mmap_args(struct remote *r, uint64_t args[6], struct err *err)
{
	uint64_t addr = r->frame_addr + r->words_off;
	int ret;

	if (!arch_inject.mmap_args_len)
		return 0;
	ret = write_mem(r, addr, args, arch_inject.mmap_args_len, err);
	args[0] = addr;
	return ret;
}

static int may_not_map(const struct remote *r, int error, struct err *err)
{
	return err_fail(err, error, ERR_UNSUPPORTED,
			"process %d may not map %zu bytes of memory for us: %s%s", r->proc->pid,
			scratch_len(r), strerrordesc_np(error),
			error == ENOMEM	  ? " (its RLIMIT_AS or RLIMIT_DATA? prlimit raises them)"
			: error == EAGAIN ? " (its RLIMIT_MEMLOCK? prlimit raises it)"
					  : "");
}

static int map_scratch(struct remote *r, struct err *err)
{
	uint64_t args[6] = {
		0, scratch_len(r), PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1,
		0};
	struct task *task;
	int64_t value = 0;
	size_t len = 0;
	int ret;

	ret = put_frame_somewhere(r, &len, err);
	if (ret < 0)
		return ret;
	task = r->first;
	ret = put_mmap_args(r, args, err);
	if (ret == 0)
		ret = run_sleep_seccomp(r, task, err);
	if (ret == 0) {
		limits_raise(r->tree->limits, r->proc->pid, scratch_len(r));
		ret = bare_call(r, task, SYS_mmap, args, &value, err);
	}
	if (ret == 0 && value < 0 && value > -4096)
		ret = may_not_map(r, (int)-value, err);
	if (ret == 0) {
		r->base = (uint64_t)value;
		shadow_of_loop(task);
		ret = boot(r, task, err);
	}
	limits_put_back(r->tree->limits);
	if (ret < 0)
		run_retreat(r, task);
	else
		remote_undo(task);
	drop_frame(r, len);
	return ret;
}

static int open_mem(struct remote *r, struct err *err)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/mem", r->proc->pid);
	r->mem_fd = open(path, O_RDWR | O_CLOEXEC);
	return r->mem_fd < 0 ? err_set(err, errno, "open %s", path) : 0;
}

int remote_open(struct remote *r, struct tree *t, struct proc *proc, uint64_t caught,
		unsigned nslots, struct err *err)
{
	struct gadgets g;
	int ret;

	r->tree = t;
	r->proc = proc;
	r->base = 0;
	r->runs = r->calls = 0;
	r->caught = caught;
	r->nslots = nslots < 1 ? 1 : nslots > REMOTE_SLOTS ? REMOTE_SLOTS : nslots;
	assert(arch_inject.code_end - arch_inject.code_start <= CODE_STRIDE &&
	       arch_inject.control_len <= ARCH_CONTROL_MAX);
	if (!gadgets_find(proc->pid, &g))
		return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
				"process %d has no code that makes system calls", proc->pid);
	for (uint32_t i = 0; i < proc->ntasks; i++) {
		ret = recall_look(t, tree_proc_task(t, proc, i), err);
		if (ret < 0)
			return ret;
	}
	r->syscall_pc = g.syscall_pc;
	r->sigreturn_pc = g.sigreturn_pc;
	ret = open_mem(r, err);
	if (ret < 0)
		return ret;
	ret = map_scratch(r, err);
	if (ret < 0)
		remote_close(r);
	return ret;
}

/* --- a process that was made to be filled ----------------------------------------------------- */

size_t remote_len(void)
{
	const struct remote r = {.nslots = REMOTE_SLOTS};

	return scratch_len(&r);
}

int remote_adopt(struct remote *r, struct tree *t, struct proc *proc, uint64_t base,
		 struct err *err)
{
	r->tree = t;
	r->proc = proc;
	r->first = NULL;
	r->base = base;
	r->nslots = REMOTE_SLOTS;
	r->caught = 0;
	r->runs = r->calls = 0;
	return open_mem(r, err);
}

int remote_plant(struct remote *r, struct err *err)
{
	static uint8_t code[REMOTE_SLOTS * CODE_STRIDE];

	for (unsigned i = 0; i < r->nslots; i++)
		arch_inject.code(code + i * CODE_STRIDE, slot_code(r, i), slot_control(r, i));
	return write_mem(r, r->base, code, sizeof(code), err);
}

int remote_leave(struct remote *r, struct task *task, struct err *err)
{
	const uint64_t args[6] = {r->base, scratch_len(r)};
	uint8_t regs[ARCH_PRSTATUS_MAX];
	int ret = run_sleep_seccomp(r, task, err);

	memcpy(regs, task->prstatus, sizeof(regs));
	arch_inject.set_boot(regs, slot_code(r, 0), slot_control(r, 0), SYS_munmap, args, 0);
	if (ret == 0)
		ret = run_enter(task, regs, ALL_SIGNALS, err);
	/* Entry and exit; the code is gone behind the call, so it must not go on by itself. */
	for (int i = 0; ret == 0 && i < 2; i++)
		ret = run_to_syscall(r, task, err);
	if (ret == 0)
		ret = task_regs(task->tid, regs);
	if (ret == 0 && arch_inject.call_ret(regs) != 0)
		ret = (int)arch_inject.call_ret(regs);
	if (ret < 0)
		return err_set(err, -ret, "unmap the scratch area of process %d", r->proc->pid);
	r->base = 0;
	return 0;
}

void remote_detach(struct remote *r)
{
	if (r->mem_fd >= 0)
		close(r->mem_fd);
	r->mem_fd = -1;
	r->base = 0;
}

/* --- leaving a process that goes on --------------------------------------------------------- */

static void unmap_scratch(struct remote *r)
{
	const uint64_t args[6] = {r->base, scratch_len(r)};
	struct err drop = {0};
	int64_t value;
	size_t len;

	if (put_frame_somewhere(r, &len, &drop) < 0)
		return;
	if (bare_call(r, r->first, SYS_munmap, args, &value, &drop) == 0)
		run_to_trap(r, r->first, 0, &drop);
	run_retreat(r, r->first);
	drop_frame(r, len);
}

void remote_close(struct remote *r)
{
	if (r->base)
		unmap_scratch(r);
	r->base = 0;
	if (r->mem_fd >= 0)
		close(r->mem_fd);
	r->mem_fd = -1;
}

/* --- batches ---------------------------------------------------------------------------------- */

void batch_init(struct batch *b, const struct remote *r, unsigned slot, struct arch_call *calls,
		uint8_t *data)
{
	*b = (struct batch){
		.calls_addr = slot_start(r, slot) + SLOT_TABLE,
		.data_addr = slot_start(r, slot) + SLOT_BUFFERS,
		.max_calls = SLOT_CALLS,
		.max_data = SLOT_DATA,
		.calls = calls,
		.data = data,
	};
}

void batch_init_big(struct batch *b, const struct remote *r, struct arch_call *calls, uint8_t *data)
{
	*b = (struct batch){
		.calls_addr = big_start(r),
		.data_addr = big_start(r) + BATCH_CALLS * sizeof(struct arch_call),
		.max_calls = BATCH_CALLS,
		.max_data = BATCH_DATA,
		.calls = calls,
		.data = data,
	};
}

uint64_t batch_buf(struct batch *b, size_t len)
{
	uint64_t addr = b->data_addr + b->ndata;

	len = (len + 15) & ~(size_t)15;
	if (len > b->max_data - b->ndata)
		return 0;
	memset(b->data + b->ndata, 0, len);
	b->ndata += len;
	return addr;
}

void *batch_data(struct batch *b, uint64_t addr)
{
	return b->data + (addr - b->data_addr);
}

int batch_call(struct batch *b, uint64_t nr, uint64_t a, uint64_t b2, uint64_t c, uint64_t d,
	       uint64_t e)
{
	if (b->ncalls == b->max_calls)
		return -ENOSPC;
	b->calls[b->ncalls] =
		(struct arch_call){.nr = nr, .args = {a, b2, c, d, e}, .ret = -EAGAIN};
	return (int)b->ncalls++;
}

int batch_call6(struct batch *b, uint64_t nr, const uint64_t args[6])
{
	int i = batch_call(b, nr, args[0], args[1], args[2], args[3], args[4]);

	if (i >= 0)
		b->calls[i].args[5] = args[5];
	return i;
}
