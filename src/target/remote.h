/* SPDX-License-Identifier: MIT */
/*
 * System calls in the context of a stopped process: many in one run, and nothing left behind.
 *
 *	remote_open()   first call, made at code that is there already: mmap of the scratch area
 *	batch_call()... what to ask
 *	remote_run()    one run of the loop in one thread, for any number of calls
 *	remote_close()  munmap
 *
 * At every instant the thread can do without us. What it needs to find back to its true registers
 * and signal mask lies in its own memory before its registers are changed:
 *
 *	instant                          tracer dies, the thread ...
 *	first call, last call (munmap)   returns into a signal frame below its red zone:
 *rt_sigreturn loop                             closes with a signal nobody stops at, restores
 *itself mask put back, registers not     likewise registers put back               is where it was;
 *an interrupted call is made again
 *
 * Our own way back never runs the thread's: it sets the registers as they were, orig_ax included,
 * so that the kernel restarts the interrupted call with its old deadline.
 *
 * Guardian only, one thread. The thread must be in a stop on its way to user mode (signal or
 * PTRACE_EVENT_STOP), and is in one afterwards.
 */
#ifndef TARGET_REMOTE_H
#define TARGET_REMOTE_H

#include <stdint.h>

#include "arch/arch.h"
#include "base/err.h"
#include "src/target/tree.h"

enum {
	BATCH_CALLS = 1024,
	BATCH_DATA = 128 << 10,
	REMOTE_FRAME = 32 << 10, /* room for a signal frame with all vector registers there are */
};

struct remote {
	struct tree *tree;
	struct proc *proc;
	struct task *first; /* makes the first and the last call */
	int mem_fd;	    /* /proc/PID/mem */
	uint64_t base;	    /* the scratch area, 0: none */
	uint64_t syscall_pc, sigreturn_pc;
	uint64_t frame_addr;
	int signo;	   /* closes a run */
	uint64_t no_signo; /* signals that cannot: caught by the target, or pending */
	bool step;	   /* no signal is free: stop at every system call instead */
	unsigned runs, calls;
	uint8_t frame[REMOTE_FRAME], saved[REMOTE_FRAME];
};

/* Calls to make and their buffers. Large: not for the stack. */
struct batch {
	uint64_t base; /* address of data[0] in the target */
	unsigned ncalls;
	size_t ndata;
	struct arch_call calls[BATCH_CALLS];
	uint8_t data[BATCH_DATA];
};

/*
 * Maps the scratch area into @proc. @caught is SigCgt of its status. -EOPNOTSUPP with the reason in
 * @err when there is no safe way in; the process is as it was then.
 */
int remote_open(struct remote *r, struct tree *t, struct proc *proc, uint64_t caught,
		struct err *err);

/* Unmaps it. Never fails in a way that would matter to the process; @r is unused afterwards. */
void remote_close(struct remote *r);

void batch_init(struct batch *b, const struct remote *r);
/* @len zeroed bytes, 0 when full: their address in the target. */
uint64_t batch_buf(struct batch *b, size_t len);
/* What is there, before and after the run. */
void *batch_data(struct batch *b, uint64_t addr);
/* Index of the call, for batch.calls[].ret; -ENOSPC when full. */
int batch_call(struct batch *b, uint64_t nr, uint64_t a, uint64_t b2, uint64_t c, uint64_t d,
	       uint64_t e);

/* Makes the calls in @task. Results are in @b. */
int remote_run(struct remote *r, struct task *task, struct batch *b, struct err *err);

/* Reads what remote_undo() puts back: registers and signal mask as they are. */
int remote_save(struct task *task, struct err *err);

/* True mask first, then true registers: between the two the thread still finds its own way. */
void remote_undo(struct task *task);

#endif
