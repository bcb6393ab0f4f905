/* SPDX-License-Identifier: MIT */
/* Registers and signal mask of every thread, as the last thing that is done to it. */
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/io.h"
#include "src/target/gather.h"
#include "src/target/put.h"
#include "src/target/put_list.h"
#include "src/target/regsets.h"

#define FAULT_NS    5000000000ull /* a fault takes microseconds */
#define ALL_SIGNALS (~0ull)
#define BIT(signo)  (1ull << ((signo)-1))

static int set_mask(const struct task *task, uint64_t mask, struct err *err)
{
	if (ptrace(PTRACE_SETSIGMASK, task->tid, sizeof(mask), &mask) < 0)
		return err_set(err, errno, "set the signal mask of thread %d", task->tid);
	return 0;
}

/*
 * Only on its way from here to user mode does the kernel make an interrupted call again, or not
 * when a handler runs first; from the exit of a call it would go on with our number as the result.
 * Signals that wait must not come before the registers.
 */
static int on_the_way(struct remote *r, struct task *task, struct err *err)
{
	struct stop s = task_poll(task);
	int ret;

	if (s.kind == STOP_TRAP || s.kind == STOP_GROUP || s.kind == STOP_SIGNAL)
		return 0;
	if (s.kind == STOP_NONE || s.kind == STOP_DEAD)
		return err_fail(err, ESRCH, ERR_TARGET_GONE, "thread %d is not stopped", task->tid);
	ret = set_mask(task, ALL_SIGNALS, err);
	return ret < 0 ? ret : run_to_trap(r, task, 0, err);
}

static const char *name_of(uint32_t note)
{
	const struct arch_regset *a = regsets_listed(arch_host(), note);

	return a ? a->name : "a register set of unknown kind";
}

/* General registers: no call is made again but the one that was interrupted, once. */
static int general(const struct m_thread *t, uint8_t prstatus[ARCH_PRSTATUS_MAX], struct err *err)
{
	const struct arch_desc *arch = arch_host();

	if (!t->nregsets || t->regsets[0].note != arch->regsets[0].note ||
	    t->regsets[0].len != arch_inject.prstatus_len)
		return err_fail(err, EBADMSG, ERR_IMAGE,
				"thread %u has no general registers of this CPU", t->tid);
	threads_prstatus(t, prstatus);
	if (!t->in_syscall || !arch->restart_undo || !arch->restart_undo(prstatus, t->syscall_ret))
		arch_no_call(prstatus);
	return 0;
}

/* A segment, an address or a bit that no program has. */
static int refused(const char *name, uint32_t note, uint32_t tid, int errnum, struct err *err)
{
	if (errnum != EIO && errnum != EINVAL && errnum != EFAULT)
		return err_set(err, errnum, "set %s (%#x) of thread %u", name, note, tid);
	return err_fail(err, EBADMSG, ERR_IMAGE,
			"%s (%#x) of thread %u: the kernel refuses what the image has there: %s",
			name, note, tid, strerrordesc_np(errnum));
}

/*
 * As arch_inject.regset_fit, of a set that is not in the CPU's list: as it was, where this kernel
 * has one of that length. A thread that has none at this moment may be given it, if the kernel
 * thinks so.
 */
static int64_t fit_unheard(const struct arch_set *set, const struct arch_set *has, uint8_t *ret)
{
	if (has->len && set->len != has->len)
		return -EBADMSG;
	memcpy(ret, set->data, set->len);
	return set->len;
}

static int put_set(const struct m_thread *t, const struct m_regset *set, struct err *err)
{
	static uint8_t now[ARCH_REGSET_MAX], buf[ARCH_REGSET_MAX];
	const struct arch_set want = {set->note, set->len, set->data};
	const bool unheard = !regsets_listed(arch_host(), set->note);
	struct iovec iov = {now, sizeof(now)};
	struct arch_set has;
	const char *wrong;
	int64_t len;

	if (ptrace(PTRACE_GETREGSET, (pid_t)t->tid, set->note, &iov) < 0) {
		/* ENODATA: it has none at this moment; of what we know nothing, any but EINVAL. */
		if (errno != ENODATA && (!unheard || errno == EINVAL))
			return err_fail(err, EOPNOTSUPP, ERR_ABI,
					"%s (%#x) of thread %u: not on this machine: %s",
					name_of(set->note), set->note, t->tid,
					strerrordesc_np(errno));
		iov.iov_len = 0;
	}
	if (set->len == iov.iov_len && !memcmp(set->data, now, set->len))
		return 0;
	wrong = arch_inject.set_wrong ? arch_inject.set_wrong(&want) : NULL;
	if (wrong)
		return err_fail(err, EBADMSG, ERR_IMAGE, "%s (%#x) of thread %u %s",
				name_of(set->note), set->note, t->tid, wrong);
	has = (struct arch_set){set->note, (uint32_t)iov.iov_len, now};
	len = set->len > sizeof(buf) ? -EBADMSG
	      : unheard		     ? fit_unheard(&want, &has, buf)
				     : arch_inject.regset_fit(&want, &has, buf);
	if (len < 0)
		return err_fail(err, EBADMSG, ERR_UNSUPPORTED,
				"%s (%#x) of thread %u: the %u bytes of the image do not fit the "
				"%zu of this CPU",
				name_of(set->note), set->note, t->tid, set->len, iov.iov_len);
	iov = (struct iovec){buf, (size_t)len};
	if (len && ptrace(PTRACE_SETREGSET, (pid_t)t->tid, set->note, &iov) < 0)
		return refused(name_of(set->note), set->note, t->tid, errno, err);
	return 0;
}

static bool waits(const struct m_sigqueue *q, uint64_t set)
{
	siginfo_t si;

	for (uint32_t i = 0; i < q->n; i++) {
		memcpy(&si, q->info[i].data, sizeof(si));
		if (si.si_signo > 0 && si.si_signo <= M_NSIG && set & BIT(si.si_signo))
			return true;
	}
	return false;
}

/* To the fault that its registers lead to, which is a stop with SIGSEGV. */
static int run_to_fault(struct remote *r, struct task *task, struct err *err)
{
	const uint64_t deadline = now_ns() + FAULT_NS;
	struct stop s;

	if (ptrace(PTRACE_CONT, task->tid, 0, 0) < 0)
		return err_set(err, errno, "resume thread %d", task->tid);
	for (;;) {
		s = task_poll(task);
		if (s.kind != STOP_NONE || now_ns() >= deadline)
			break;
		tree_wait_child(r->tree, 100);
	}
	if (s.kind != STOP_SIGNAL || s.signo != SIGSEGV)
		return err_set(err, EPROTO,
			       "thread %d stops for something else than a fault: %d, signal %d",
			       task->tid, (int)s.kind, s.signo);
	return 0;
}

/*
 * The last way into the kernel becomes an interrupt: a fault at address 0, which leaves no trace
 * when its signal is neither blocked nor ignored.
 */
static int by_interrupt(struct remote *r, struct task *task, const struct m_proc *p,
			const struct m_thread *t, const void *prstatus, struct err *err)
{
	uint8_t regs[ARCH_PRSTATUS_MAX];
	/* Of these the kernel takes the first, blocked or not. */
	const uint64_t synchronous =
		BIT(SIGSEGV) | BIT(SIGBUS) | BIT(SIGILL) | BIT(SIGTRAP) | BIT(SIGFPE) | BIT(SIGSYS);
	const bool mapped = p->mm.nvmas && !p->mm.vmas[0].start;
	int ret;

	if (!arch_inject.by_interrupt || !arch_inject.by_interrupt(prstatus) || mapped ||
	    p->sigactions[SIGSEGV - 1].handler == (uint64_t)(uintptr_t)SIG_IGN ||
	    waits(&p->pending, BIT(SIGSEGV)) || waits(&t->pending, synchronous))
		return 0;
	memcpy(regs, prstatus, sizeof(regs));
	memset(regs + arch_host()->pc_off, 0, sizeof(uint64_t));
	arch_no_call(regs);
	ret = run_enter(task, regs, ~BIT(SIGSEGV), err);
	if (ret == 0)
		ret = run_to_fault(r, task, err);
	return ret == 0 ? set_mask(task, ALL_SIGNALS, err) : ret;
}

/* Where a segment register names one it must be there when that is set. */
static int put_gdt(const struct m_thread *t, struct err *err)
{
	const struct arch_gdt *g = arch_inject.gdt;
	int errnum;

	for (uint32_t i = 0; i < M_TLS; i++) {
		const struct m_tls *from = &t->tls[i];
		uint32_t desc[4] = {0, from->base, from->limit, from->flags};

		if (!from->base && !from->limit && !from->flags)
			continue;
		if (!g || i >= g->n)
			return err_fail(err, EBADMSG, ERR_IMAGE,
					"thread %u has entries of the GDT of its own, which this "
					"CPU does not have",
					t->tid);
		desc[0] = g->first + i;
		if (ptrace((enum __ptrace_request)g->set, (pid_t)t->tid, desc[0], desc) == 0)
			continue;
		errnum = errno;
		if (errnum == EINVAL)
			return err_fail(err, EBADMSG, ERR_IMAGE,
					"entry %u of the GDT of thread %u: the kernel refuses what "
					"the image has there: base %#x, limit %#x, flags %#x",
					desc[0], t->tid, from->base, from->limit, from->flags);
		err_set(err, errnum, "set entry %u of the GDT of thread %u", desc[0], t->tid);
		if (errnum == EIO)
			err_hint(err, "this kernel has no calls of 32 bits "
				      "(CONFIG_IA32_EMULATION), which these entries come from");
		return -errnum;
	}
	return 0;
}

static int put_thread(struct remote *r, struct task *task, const struct m_proc *p,
		      const struct m_thread *t, struct err *err)
{
	uint8_t prstatus[ARCH_PRSTATUS_MAX];
	int ret = general(t, prstatus, err);

	if (ret == 0)
		ret = on_the_way(r, task, err);
	if (ret == 0)
		ret = by_interrupt(r, task, p, t, prstatus, err);
	if (ret == 0)
		ret = put_gdt(t, err);
	if (ret < 0)
		return ret;
	for (uint32_t i = 1; ret == 0 && i < t->nregsets; i++)
		if (arch_inject.early_note && t->regsets[i].note == arch_inject.early_note)
			ret = put_set(t, &t->regsets[i], err);
	if (ret < 0)
		return ret;
	ret = task_set_regs(task->tid, prstatus);
	if (ret < 0)
		return refused(arch_host()->regsets[0].name, arch_host()->regsets[0].note, t->tid,
			       -ret, err);
	/* The call's number has been set, as it must be from here on. */
	for (uint32_t i = 1; ret == 0 && i < t->nregsets; i++)
		if (t->regsets[i].note != arch_inject.call_note)
			ret = put_set(t, &t->regsets[i], err);
	if (ret == 0)
		ret = set_mask(task, t->sigmask, err);
	if (ret < 0)
		return ret;
	/* The true state from now on. */
	memcpy(task->prstatus, prstatus, sizeof(prstatus));
	task->sigmask = t->sigmask;
	task->known = true;
	task->altered = false;
	task->at_call = task->recall = t->in_syscall;
	task->asleep = false;
	return 0;
}

static bool is_lazy(const struct task *task, const struct m_regset *set,
		    uint8_t ret_area[ARCH_LAZY_LEN])
{
	uint8_t has[64];
	struct iovec iov = {has, sizeof(has)};

	if (!set)
		return false;
	if (arch_inject.lazy_area)
		return arch_inject.lazy_area(&(struct arch_set){set->note, set->len, set->data},
					     ret_area);
	return ptrace(PTRACE_GETREGSET, task->tid, set->note, &iov) == 0 &&
	       (iov.iov_len != set->len || memcmp(has, set->data, set->len));
}

/* Where the buffers of batches are: nothing else is in need of them. */
static int put_area(struct remote *r, const uint8_t area[ARCH_LAZY_LEN], uint64_t *ret_addr,
		    struct err *err)
{
	struct batch b;
	ssize_t n;

	batch_init_big(&b, r, NULL, NULL);
	*ret_addr = b.data_addr;
	if (!arch_inject.lazy_area)
		return 0;
	n = io_pwrite(r->mem_fd, area, ARCH_LAZY_LEN, b.data_addr);
	if (n != ARCH_LAZY_LEN)
		return err_set(err, n < 0 ? (int)-n : EIO, "write at %#" PRIx64 " of process %d",
			       b.data_addr, r->proc->pid);
	return 0;
}

static int put_lazy(struct remote *r, struct task *task, const struct m_thread *t, struct err *err)
{
	uint8_t area[ARCH_LAZY_LEN] = {0}, regs[ARCH_PRSTATUS_MAX];
	uint64_t addr;
	int ret;

	if (!is_lazy(task, model_regset(t, arch_inject.lazy_note), area))
		return 0;
	ret = put_area(r, area, &addr, err);
	if (ret < 0)
		return ret;
	memcpy(regs, task->prstatus, sizeof(regs));
	arch_inject.set_lazy(regs, slot_code(r, 0), slot_control(r, 0), addr);
	ret = run_enter(task, regs, ALL_SIGNALS, err);
	if (ret == 0)
		ret = run_to_syscall(r, task, err);
	if (ret == 0)
		ret = run_to_trap(r, task, 0, err);
	run_retreat(r, task);
	return ret;
}

int put_lazy_regs(struct remote *r, const struct m_proc *p, struct err *err)
{
	int ret = arch_inject.lazy_note ? list_check_threads(r, p, err) : 0;

	for (uint32_t i = 0; arch_inject.lazy_note && ret == 0 && i < p->nthreads; i++)
		ret = put_lazy(r, tree_proc_task(r->tree, r->proc, i), &p->threads[i], err);
	return ret;
}

/* put_pending() left it out, for it cannot be blocked; who sent it nobody can see. */
static int send_stops(struct remote *r, const struct m_proc *p, struct err *err)
{
	if (waits(&p->pending, BIT(SIGSTOP)) && kill(r->proc->pid, SIGSTOP) < 0)
		return err_set(err, errno, "stop process %d", r->proc->pid);
	for (uint32_t i = 0; i < p->nthreads; i++)
		if (waits(&p->threads[i].pending, BIT(SIGSTOP)) &&
		    syscall(SYS_tgkill, r->proc->pid, p->threads[i].tid, SIGSTOP) < 0)
			return err_set(err, errno, "stop thread %u", p->threads[i].tid);
	return 0;
}

int put_regs(struct remote *r, const struct m_proc *p, struct err *err)
{
	int ret = list_check_threads(r, p, err);

	for (uint32_t i = 0; ret == 0 && i < p->nthreads; i++)
		ret = put_thread(r, tree_proc_task(r->tree, r->proc, i), p, &p->threads[i], err);
	return ret < 0 ? ret : send_stops(r, p, err);
}
