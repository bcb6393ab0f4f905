/* SPDX-License-Identifier: MIT */
/* Sleeps with a time limit: the kernel's restart block made anew by making the call again. */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include "base/io.h"
#include "src/target/gather.h"
#include "src/target/put.h"
#include "src/target/put_list.h"

enum { CODE_MAX = 512, NO_HANDLER = -514 /* ERESTARTNOHAND */, RESTART_BLOCK = -516 };

#define ALL_SIGNALS (~0ull)

/* A call that is made anew. */
struct sleep {
	struct arch_call call;
	bool anew;  /* is made, to have a restart block; else it begins again */
	bool timed; /* the argument @at is to point to @left */
	unsigned at;
	struct timespec left;
};

static bool peek(const struct remote *r, uint64_t addr, void *buf, size_t len)
{
	return io_pread(r->mem_fd, buf, len, addr) == (ssize_t)len;
}

static bool is_longer(const struct timespec *ts, uint64_t ns)
{
	return ts->tv_sec > INT32_MAX ||
	       (ts->tv_sec >= 0 && (uint64_t)ts->tv_sec * 1000000000 + (uint64_t)ts->tv_nsec > ns);
}

/*
 * What the kernel wrote for the program at the stop is the time left then, to the nanosecond. Who
 * gave no room for it is let sleep as long as the dump has found out, or the whole time again:
 * longer is allowed, shorter is not.
 */
static bool sleep_left(const struct remote *r, const struct m_thread *t, struct sleep *s,
		       unsigned request, unsigned remain)
{
	uint64_t addr = s->call.args[remain] ? s->call.args[remain] : s->call.args[request];
	const uint64_t left = t->sleep_left_ns;

	s->at = request;
	s->anew = s->timed = peek(r, addr, &s->left, sizeof(s->left));
	if (s->timed && !s->call.args[remain] && t->sleep_left_ns && is_longer(&s->left, left))
		s->left = (struct timespec){(time_t)(left / 1000000000), (long)(left % 1000000000)};
	return s->timed;
}

static bool is_time(const struct remote *r, uint64_t addr)
{
	struct timespec ts;

	return addr >= CODE_MAX && peek(r, addr, &ts, sizeof(ts)) && ts.tv_sec >= 0 &&
	       ts.tv_nsec >= 0 && ts.tv_nsec < 1000000000;
}

/*
 * A sleep that was interrupted before has the number of restart_syscall. Code that makes all calls
 * in one place does not tell which it was, but the arguments do, where there is room for the time
 * left: no other call with a restart block has a pointer in its place.
 */
static uint64_t guess(const struct remote *r, const uint64_t args[6])
{
	enum { CLOCKS = 16 };

	if (args[0] < CLOCKS && args[1] <= TIMER_ABSTIME && is_time(r, args[2]) &&
	    is_time(r, args[3]))
		return SYS_clock_nanosleep;
	if (is_time(r, args[0]) && is_time(r, args[1]))
		return SYS_nanosleep;
	return SYS_restart_syscall;
}

/* By these registers and the code before its program counter. */
static bool made_call(const struct remote *r, const struct m_thread *t, const uint8_t *prstatus,
		      struct arch_call *ret)
{
	uint8_t code[CODE_MAX] = {0};
	size_t len = arch_inject.call_code_len;

	/* Less of it where the mapping begins. */
	for (size_t n = len; n && !peek(r, t->pc - n, code + len - n, n);)
		n /= 2;
	return arch_inject.call_made(prstatus, code, ret);
}

/* With a restart block its number is gone: who dumps it then must be told by the code. */
static bool code_tells(const struct remote *r, const struct m_thread *t, uint64_t nr)
{
	const uint64_t gone = SYS_restart_syscall;
	uint32_t sysno = arch_host()->sysno_off;
	uint8_t prstatus[ARCH_PRSTATUS_MAX];
	struct arch_call call;

	threads_prstatus(t, prstatus);
	if (arch_inject.forget_call)
		arch_inject.forget_call(prstatus);
	else if (sysno != ARCH_NO_OFF)
		memcpy(prstatus + sysno, &gone, sizeof(gone));
	else
		return false;
	return made_call(r, t, prstatus, &call) && call.nr == nr;
}

#ifdef SYS_poll

/* What is left at the dump, where that is known; else all of its time once more. */
static void poll_left(const struct remote *r, const struct m_thread *t, struct sleep *s)
{
	const int all = (int)s->call.args[2];
	const uint64_t left = (t->sleep_left_ns + 999999) / 1000000;

	if (!t->sleep_left_ns || all <= 0 || left >= (uint64_t)all || !code_tells(r, t, SYS_poll))
		return;
	s->call.args[2] = left;
	s->anew = true;
}
#endif

/* A relative limit: the same. Others are absolute, and the call begins again with them. */
static void futex_left(const struct remote *r, const struct m_thread *t, struct sleep *s)
{
	const uint64_t left = t->sleep_left_ns;

	if (!left || (s->call.args[1] & ~(uint64_t)FUTEX_PRIVATE_FLAG) != FUTEX_WAIT ||
	    !peek(r, s->call.args[3], &s->left, sizeof(s->left)) || !is_longer(&s->left, left) ||
	    !code_tells(r, t, SYS_futex))
		return;
	s->left = (struct timespec){(time_t)(left / 1000000000), (long)(left % 1000000000)};
	s->at = 3;
	s->anew = s->timed = true;
}

/* False: none of those that have restart blocks, or not to be told. */
static bool sleep_again(const struct remote *r, const struct m_thread *t, struct sleep *s)
{
	switch (s->call.nr) {
	case SYS_nanosleep:
		return sleep_left(r, t, s, 0, 1);
	case SYS_clock_nanosleep:
		return sleep_left(r, t, s, 2, 3);
#ifdef SYS_poll
	case SYS_poll:
		poll_left(r, t, s);
		return true;
#endif
	case SYS_futex:
		futex_left(r, t, s);
		return true;
	default:
		return false;
	}
}

static bool call_of(const struct remote *r, const struct m_thread *t, struct arch_call *ret)
{
	uint8_t prstatus[ARCH_PRSTATUS_MAX];

	if (!t->in_syscall || t->syscall_ret != RESTART_BLOCK || !arch_inject.call_made ||
	    !t->nregsets || t->regsets[0].len != arch_inject.prstatus_len)
		return false;
	threads_prstatus(t, prstatus);
	return made_call(r, t, prstatus, ret);
}

static uint64_t pc_of(const uint8_t *prstatus)
{
	uint64_t pc;

	memcpy(&pc, prstatus + arch_host()->pc_off, sizeof(pc));
	return pc;
}

static void set_pc(uint8_t *prstatus, uint64_t pc)
{
	memcpy(prstatus + arch_host()->pc_off, &pc, sizeof(pc));
}

/* Makes the call and interrupts it at once: the kernel is where it was. */
static int make(struct remote *r, struct task *task, const struct arch_call *call,
		int64_t *ret_value, struct err *err)
{
	uint8_t regs[ARCH_PRSTATUS_MAX];
	uint64_t entry;
	int ret;

	memcpy(regs, task->prstatus, sizeof(regs));
	/*
	 * Not at the place where the next call will be made: a kernel that steps back takes a
	 * thread that goes on from this stop there for one that makes this call again.
	 */
	arch_inject.set_boot(regs, slot_code(r, r->nslots - 1), slot_control(r, 0), call->nr,
			     call->args, 0);
	entry = pc_of(regs);
	ret = run_enter(task, regs, ALL_SIGNALS, err);
	if (ret == 0)
		ret = run_to_syscall(r, task, err);
	/* From the entry, with the interruption under way already. */
	if (ret == 0)
		ret = run_to_trap(r, task, 0, err);
	if (ret == 0) {
		ret = task_regs(task->tid, regs);
		if (ret < 0)
			err_set(err, -ret, "read registers of thread %d", task->tid);
	}
	if (ret == 0)
		*ret_value = arch_host()->steps_back && pc_of(regs) == entry
				     ? RESTART_BLOCK
				     : arch_inject.call_ret(regs);
	run_retreat(r, task);
	return ret;
}

static int start(struct remote *r, struct task *task, struct sleep *s, int64_t *ret_value,
		 struct err *err)
{
	struct arch_call none[1];
	struct batch b;
	uint8_t data[1];

	/* For the place of its buffers. */
	batch_init_big(&b, r, none, data);
	if (s->timed && io_pwrite(r->mem_fd, &s->left, sizeof(s->left), b.data_addr) !=
				(ssize_t)sizeof(s->left))
		return err_set(err, EIO, "write to the scratch area of process %d", r->proc->pid);
	if (s->timed)
		s->call.args[s->at] = b.data_addr;
	return make(r, task, &s->call, ret_value, err);
}

/*
 * A call that begins again with what it had: the kernel makes it, unless a handler runs first. Its
 * own number stays, so that who dumps the program once more sees which call it is.
 */
static void begin_again(struct m_thread *t, const struct sleep *s)
{
	uint32_t sysno = arch_host()->sysno_off;
	uint8_t regs[ARCH_PRSTATUS_MAX];

	threads_prstatus(t, regs);
	if (sysno != ARCH_NO_OFF)
		memcpy(regs + sysno, &s->call.nr, sizeof(s->call.nr));
	if (!arch_host()->steps_back) {
		arch_inject.set_ret(regs, NO_HANDLER);
		arch_host()->restart_fixup(regs);
	}
	memcpy(t->regsets[0].data, regs, arch_inject.prstatus_len);
	t->syscall_ret = NO_HANDLER;
}

/* The call is over, with @value. A hook's registers have the number of the call behind the set. */
static void end_call(struct m_thread *t, int64_t value)
{
	uint8_t regs[ARCH_PRSTATUS_MAX];

	t->in_syscall = false;
	threads_prstatus(t, regs);
	arch_inject.set_ret(regs, value);
	if (arch_host()->steps_back)
		set_pc(regs, t->pc + arch_inject.syscall_insn.len);
	memcpy(t->regsets[0].data, regs, arch_inject.prstatus_len);
}

/*
 * It ended with EINTR for us, and does for the program where nothing better is possible. A kernel
 * that steps back has made registers that ask for what the thread's restart block holds, which is
 * another sleep's here, or none.
 */
static void end_unknown(struct m_thread *t)
{
	if (!t->in_syscall || t->syscall_ret != RESTART_BLOCK)
		return;
	t->in_syscall = false;
	if (arch_host()->steps_back && t->nregsets && t->regsets[0].len == arch_inject.prstatus_len)
		end_call(t, -EINTR);
}

static int put_sleep(struct remote *r, struct task *task, struct m_thread *t, struct err *err)
{
	struct sleep s = {0};
	int64_t value = 0;
	bool known;
	int ret;

	known = call_of(r, t, &s.call);
	if (known && s.call.nr == SYS_restart_syscall)
		s.call.nr = guess(r, s.call.args);
	if (!known || !sleep_again(r, t, &s)) {
		end_unknown(t);
		return 0;
	}
	if (!s.anew) {
		begin_again(t, &s);
		return 0;
	}
	ret = start(r, task, &s, &value, err);
	if (ret < 0 || value == RESTART_BLOCK)
		return ret;
	/* It is over: what it waited for is there, or its time was up. */
	end_call(t, value);
	return 0;
}

int put_sleeps(struct remote *r, struct m_proc *p, struct err *err)
{
	int ret = list_check_threads(r, p, err);

	for (uint32_t i = 0; ret == 0 && i < p->nthreads; i++)
		ret = put_sleep(r, tree_proc_task(r->tree, r->proc, i), &p->threads[i], err);
	return ret;
}
