/* SPDX-License-Identifier: MIT */
/* A restore in a process of its own: whatever kills the tool, the tree is there whole or not at
 * all. */
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fault.h"
#include "binlog/pr.h"
#include "src/ops/ops.h"
#include "src/ops/restore.h"

/* What the worker tells, in memory that both see. */
struct told {
	bool done;
	int ret;
	struct restore_result result;
	struct err err;
};

/*
 * Until the tree is let go the tool's death is the worker's, and the worker's that of all it has
 * made. From here on the worker goes through with it. -EPIPE: too late, the tool is dead.
 */
int restore_point_of_no_return(pid_t tool, struct err *err)
{
	if (!tool)
		return 0;
	prctl(PR_SET_PDEATHSIG, 0);
	if (FAULT("restore.point_of_no_return"))
		return err_set(err, EIO, "fault injected at restore.point_of_no_return");
	if (getppid() == tool)
		return 0;
	return err_fail(err, EPIPE, ERR_OTHER, "the restoring command was killed");
}

static _Noreturn void worker(const struct restore_opts *opts, pid_t tool, struct told *told)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "stasis-restore");
	/* A limit of the caller's (ulimit -f) is an error, not an end. */
	signal(SIGXFSZ, SIG_IGN);
	if (getppid() != tool)
		_exit(1);
	told->ret = restore_tree(opts, tool, &told->result, &told->err);
	if (opts->phase)
		opts->phase(opts->arg, RESTORE_END, 0);
	/* Who is counted as a writer of the log keeps its tail from being cut. */
	binlog_close();
	told->done = true;
	_exit(0);
}

/* Signals that the tool was sent are for the worker, too; it looks at them between its steps. */
static void await(const struct restore_opts *opts, pid_t pid, int *ret_status)
{
	bool told = false;

	while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
		if (!told && opts->stop && opts->stop(opts->arg)) {
			kill(pid, SIGTERM);
			told = true;
		}
}

static int run(const struct restore_opts *opts, struct restore_result *ret_result, struct err *err)
{
	struct told *told;
	int status = 0, ret;
	pid_t tool = getpid(), pid;

	*ret_result = (struct restore_result){0};
	/* The root would be the worker's sibling, and not the tool's. */
	if (opts->sibling)
		return restore_tree(opts, 0, ret_result, err);
	told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (told == MAP_FAILED)
		return err_set(err, errno, "memory to share with the restoring process");
	pid = fork();
	if (pid == 0)
		worker(opts, tool, told);
	if (pid < 0) {
		ret = err_set(err, errno, "fork the restoring process");
	} else {
		await(opts, pid, &status);
		*ret_result = told->result;
		/* One that was killed after that has done all that mattered. */
		ret = told->done ? told->ret : told->result.live ? 0 : -EPIPE;
		if (ret == -EPIPE && !told->done)
			err_fail(
				err, EPIPE, ERR_GUARDIAN,
				"the restoring process %d was killed by signal %d (%s): nothing of "
				"the tree is left",
				pid, WTERMSIG(status), strsignal(WTERMSIG(status)));
		else if (told->ret < 0)
			err_take(err, &told->err);
	}
	munmap(told, sizeof(*told));
	return ret;
}

int restore_run(const struct restore_opts *opts, struct restore_result *ret_result, struct err *err)
{
	int ret = run(opts, ret_result, err);

	/* Below, nobody knows more of the image than the name of one of its files. */
	if (ret < 0 && err && err->class == ERR_IMAGE)
		err_hint(
			err,
			"the image is %s: `stasis verify` names all that is wrong in it; nothing was "
			"restored, another image may do",
			opts->dir);
	return ret;
}
