/* SPDX-License-Identifier: MIT */
/*
 * System calls in the context of a stopped process: many in one run, and nothing left behind.
 *
 *	remote_open()   first call, made by code that is there already: mmap of the scratch area
 *	batch_call()... what to ask
 *	remote_run()    one run of the injected loop, in many threads side by side
 *	remote_close()  munmap
 *
 * At every instant the thread can do without us (with a shadow stack at all but one, see
 * shadow_enter()). What it needs to find back to its true registers and signal mask lies in its own
 * memory before its registers are changed:
 *
 *	instant                          when the tracer dies, the thread ...
 *	first call, last call (munmap)   returns into a signal frame below its red zone
 *	loop                             closes with a signal nobody stops at, restores itself
 *	mask put back, registers not     likewise
 *	registers put back               is where it was; an interrupted call is made again
 *
 * Our own way back never runs the thread's: it sets the registers as they were, orig_ax included,
 * so that the kernel restarts the interrupted call with its old deadline.
 *
 * The scratch area, one mapping (slot 0 of a process with 2 threads at base = 0x10000000):
 *
 *	0x10000000  code of all slots, 256 bytes each     read, execute
 *	0x10010000  slot 0: 64 KiB of stack room, or more  read, write from here on
 *	0x100230c0          control block: true registers and mask, closing signal
 *	0x10023200          up to 16 calls
 *	0x10023600          2560 bytes for their buffers
 *	0x10024000  slot 1
 *	0x10038000  up to 1024 calls, then 128 KiB for their buffers: one big batch at a time
 *
 * Guardian only, one thread. The target's threads must be in a stop on their way to user mode
 * (signal or PTRACE_EVENT_STOP), and are in one afterwards.
 */
#ifndef TARGET_REMOTE_H
#define TARGET_REMOTE_H

#include <stdint.h>

#include "arch/arch.h"
#include "base/err.h"
#include "src/target/tree.h"

enum {
	REMOTE_SLOTS = 32, /* most threads in one run */
	SLOT_CALLS = 16,
	SLOT_DATA = 2560,
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
	unsigned nslots;
	uint64_t syscall_pc, sigreturn_pc;
	uint64_t frame_addr;
	size_t words_off;  /* from there to the arguments of mmap, where they are in memory */
	bool shadow_words; /* the frame has some on that thread's shadow stack, */
	uint64_t shadow_below[2]; /* which lie on these */
	uint64_t caught;	  /* signals with a handler: not for closing */
	unsigned runs, calls;
	uint8_t frame[REMOTE_FRAME], saved[REMOTE_FRAME];
};

/* Calls to make and their buffers; the storage is the caller's. */
struct batch {
	uint64_t calls_addr, data_addr; /* in the target */
	unsigned ncalls, max_calls;
	size_t ndata, max_data;
	struct arch_call *calls;
	uint8_t *data;
};

/*
 * Maps the scratch area into @proc, for runs in up to @nslots threads at a time. The true state of
 * all its tasks is known (remote_save()). @caught is SigCgt of its status. -EOPNOTSUPP with the
 * reason in @err when there is no safe way in; the process is as it was then.
 */
int remote_open(struct remote *r, struct tree *t, struct proc *proc, uint64_t caught,
		unsigned nslots, struct err *err);

/* Unmaps it. Never fails in a way that would matter to the process; @r is unused afterwards. */
void remote_close(struct remote *r);

/*
 * For a process that was made to be filled: the area of remote_len() bytes at @base is mapped
 * there, or in the process that it was forked from. remote_plant() puts the code into it; a fork
 * inherits it. remote_leave() unmaps it from inside: @task, which stays in the stop behind the
 * call, must be given its registers next. It is put right by nobody when the tracer dies: such
 * processes are traced with PTRACE_O_EXITKILL. remote_detach() closes what the tool holds.
 */
size_t remote_len(void);
int remote_adopt(struct remote *r, struct tree *t, struct proc *proc, uint64_t base,
		 struct err *err);
int remote_plant(struct remote *r, struct err *err);
int remote_leave(struct remote *r, struct task *task, struct err *err);
void remote_detach(struct remote *r);

/* An empty batch for slot @slot; storage for SLOT_CALLS calls and SLOT_DATA bytes. */
void batch_init(struct batch *b, const struct remote *r, unsigned slot, struct arch_call *calls,
		uint8_t *data);
/* The big one, run alone: storage for BATCH_CALLS calls and BATCH_DATA bytes. */
void batch_init_big(struct batch *b, const struct remote *r, struct arch_call *calls,
		    uint8_t *data);
/* @len zeroed bytes, 0 when full: their address in the target. */
uint64_t batch_buf(struct batch *b, size_t len);
/* What is there, before and after the run. */
void *batch_data(struct batch *b, uint64_t addr);
/* Index of the call, for batch.calls[].ret; -ENOSPC when full. */
int batch_call(struct batch *b, uint64_t nr, uint64_t a, uint64_t b2, uint64_t c, uint64_t d,
	       uint64_t e);
/* With a sixth argument. */
int batch_call6(struct batch *b, uint64_t nr, const uint64_t args[6]);

/*
 * Makes the calls of @batches[i] in @tasks[i], slot i, for all @n side by side. Results are in the
 * batches. On failure all threads are stopped and as they were nevertheless.
 */
int remote_run(struct remote *r, struct task *const *tasks, struct batch *batches, unsigned n,
	       struct err *err);

/* Takes the page faults of our own for runs in @n threads, before anybody stands still for them. */
void remote_ready(unsigned n);

/* Reads what remote_undo() puts back: registers and signal mask as they are. */
int remote_save(struct task *task, struct err *err);

/* True mask first, then true registers: between the two the thread still finds its own way. */
void remote_undo(struct task *task);

/* --- between remote.c and run.c --- */

/* The code, stack room and control block of a slot. */
uint64_t slot_code(const struct remote *r, unsigned slot);
uint64_t slot_control(const struct remote *r, unsigned slot);

/* One call at `boot` of slot 0, whose control block must be there already; its result. */
int run_boot(struct remote *r, struct task *task, uint64_t nr, const uint64_t args[6],
	     int64_t *ret_value, struct err *err);
/* The control block that run_boot() needs; its length. */
size_t run_boot_control(const struct remote *r, struct task *task, void *control);

/* New registers, then the mask: should we die between the two, the frame or block has the mask. */
int run_enter(struct task *task, const void *prstatus, uint64_t mask, struct err *err);
/* PTRACE_SYSCALL up to the next entry or exit. */
int run_to_syscall(struct remote *r, struct task *task, struct err *err);
/*
 * The same from where a call is about to be made. A signal that comes on the way goes back into its
 * queue, and all signals are blocked then.
 */
int run_to_entry(struct remote *r, struct task *task, struct err *err);
/*
 * Lets @task run, with signal @signo, to a stop between kernel and program, where interrupted calls
 * are restarted.
 */
int run_to_trap(struct remote *r, struct task *task, int signo, struct err *err);
/* After a failure inside a run: back to a stop, then to the true state. */
void run_retreat(struct remote *r, struct task *task);
/* Filters would see our calls, too; they sleep as long as we trace. */
int run_sleep_seccomp(struct remote *r, struct task *task, struct err *err);

/* What arch.h calls prstatus, of a stopped thread; -errno. */
int task_regs(pid_t tid, void *prstatus);
int task_set_regs(pid_t tid, const void *prstatus);
int task_set_mask(pid_t tid, uint64_t mask);

/* --- lost.c: for run.c and tree.c ----------------------------------------------------------- */

/* Reads what calls leave nothing of, and writes it back; and forgets it. */
int lost_save(struct task *task, struct err *err);
void lost_put(const struct task *task);
void lost_drop(struct task *task);

/* --- shadow.c: for run.c and remote.c ------------------------------------------------------- */

/* The pointer of a thread's shadow stack; false when none is on. */
bool shadow_read(const struct task *task, struct task_shadow *ret);
/* What the loop's way back needs of it: nothing, or, where it ends by rt_sigreturn, a token. */
void shadow_of_loop(struct task *task);

/*
 * The pointer to where the way back needs it, with the registers that are put in; and back with the
 * true ones. Between the two is the one instant at which a thread with a shadow stack needs us:
 * the time of a ptrace() call.
 */
int shadow_enter(struct task *task);
void shadow_leave(struct task *task);

#endif
