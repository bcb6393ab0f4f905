/* SPDX-License-Identifier: MIT */
/* A process that has ended in the image ends again. */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/target/script.h"
#include "src/target/stub.h"

enum { WAIT_MS = 10000 };

static int await_death(struct tree *t, struct task *task, int signo, struct err *err)
{
	uint64_t deadline = now_ns() + WAIT_MS * 1000000ull;

	for (;;) {
		struct stop stop = task_poll(task);

		if (stop.kind == STOP_DEAD) {
			task->state = TASK_GONE;
			if (stop.status == signo)
				return 0;
			return err_fail(err, EPROTO, ERR_OTHER,
					"process %d, a zombie in the image, ended by %d and not by "
					"signal %d",
					task->tid, stop.status, signo);
		}
		if (stop.kind != STOP_NONE)
			ptrace(PTRACE_CONT, task->tid, 0,
			       stop.kind == STOP_SIGNAL ? stop.signo : 0);
		if (now_ns() > deadline)
			return err_fail(err, ETIMEDOUT, ERR_TIMEOUT,
					"process %d, a zombie in the image, does not end by %d",
					task->tid, signo);
		tree_wait_child(t, 20);
	}
}

/* Signals that end no process would leave it running code that is not there. */
static bool ends_process(int signo)
{
	return signo > 0 && signo <= M_NSIG && signo != SIGCHLD && signo != SIGCONT &&
	       signo != SIGURG && signo != SIGWINCH && signo != SIGSTOP && signo != SIGTSTP &&
	       signo != SIGTTIN && signo != SIGTTOU;
}

/* What is still seen of it. No core file of ours, whoever takes them. */
static int dress(struct remote *r, struct task *task, const struct m_proc *p, struct err *err)
{
	struct script script;

	script_begin(&script, r, task);
	script_add(&script,
		   (struct script_call){
			   SYS_prctl,
			   {PR_SET_NAME, script_buf(&script, p->comm, sizeof(p->comm), err)},
			   .what = "set the name"},
		   err);
	script_add(&script,
		   (struct script_call){SYS_prctl, {PR_SET_DUMPABLE, 0}, .what = "dump no core"},
		   err);
	return script_run(&script, err);
}

static int die_by(struct tree *t, struct task *task, int signo, struct err *err)
{
	const uint64_t none = 0;

	if (ptrace(PTRACE_SETSIGMASK, task->tid, sizeof(none), &none) < 0 ||
	    kill(task->tid, signo) < 0)
		return err_set(err, errno, "end process %d, a zombie in the image, by %d",
			       task->tid, signo);
	ptrace(PTRACE_CONT, task->tid, 0, 0);
	return await_death(t, task, signo, err);
}

/* The call does not return: the batch ends with the death of its thread. */
static int die_with(struct remote *r, struct task *task, int status, struct err *err)
{
	const uint64_t args[6] = {(uint64_t)status};
	struct err gone = {0};

	if (script_one(r, task, SYS_exit_group, args, &gone) >= 0 || gone.class != ERR_TARGET_GONE)
		return err_fail(err, EPROTO, ERR_OTHER, "process %d did not end", task->tid);
	task->state = TASK_GONE;
	return 0;
}

int stub_die(struct remote *r, const struct m_proc *p, struct err *err)
{
	struct task *task = tree_task(r->tree, r->proc->pid);
	int signo = p->exit_code & 0x7f, ret;

	if (p->exit_code & ~0xffffu || (signo && !ends_process(signo)))
		return err_fail(err, EBADMSG, ERR_IMAGE,
				"process %u of the image has ended with status %#x", p->pid,
				p->exit_code);
	ret = dress(r, task, p, err);
	if (ret == 0)
		ret = signo ? die_by(r->tree, task, signo, err)
			    : die_with(r, task, WEXITSTATUS(p->exit_code), err);
	if (ret == 0)
		r->proc->state = PROC_ZOMBIE;
	return ret;
}
