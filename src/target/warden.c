/* SPDX-License-Identifier: MIT */
/* A restore's last witness: when the tracer dies while it lets the tree go, all of it dies. */
#include "src/target/warden.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * Raw calls and memory that was there before: other threads of the tool may have held the C
 * library's locks. @pids ends with 0, @fds has as much room.
 */
static _Noreturn void warden_main(int sock, const pid_t *pids, int *fds, const bool *live)
{
	struct rlimit files;
	char byte = 0;
	ssize_t n;

	/* What is sent to the tool's process group is not for it. */
	setsid();
	prctl(PR_SET_NAME, "restore-warden");
	if (syscall(SYS_dup3, sock, 0, 0) < 0)
		_exit(1);
	syscall(SYS_close_range, 1, ~0u, 0);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	while ((n = read(0, &byte, 1)) < 0 && errno == EINTR)
		;
	if (n != 1)
		_exit(0); /* until now the kernel killed them all */
	/* By descriptor: a number may soon be somebody else's. */
	for (size_t i = 0; pids[i]; i++) {
		fds[i] = (int)syscall(SYS_pidfd_open, pids[i], 0);
		if (fds[i] < 0)
			_exit(1);
	}
	if (write(0, &byte, 1) != 1)
		_exit(1);
	while ((n = read(0, &byte, 1)) > 0 || (n < 0 && errno == EINTR))
		;
	for (size_t i = 0; pids[i] && !__atomic_load_n(live, __ATOMIC_SEQ_CST); i++)
		syscall(SYS_pidfd_send_signal, fds[i], SIGKILL, NULL, 0);
	_exit(0);
}

/* The pids and their descriptors, in one piece of memory. */
static pid_t *list_pids(const struct model *m, size_t *ret_len)
{
	size_t len = (m->nprocs + 1) * (sizeof(pid_t) + sizeof(int)), n = 0;
	pid_t *pids = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pids == MAP_FAILED)
		return NULL;
	for (uint32_t i = 0; i < m->nprocs; i++)
		if (m->procs[i].state != M_DEAD)
			pids[n++] = (pid_t)m->procs[i].pid;
	*ret_len = len;
	return pids;
}

static bool is_wanted(const struct model *m, uint32_t pid)
{
	for (uint32_t i = 0; i < m->nprocs; i++) {
		const struct m_proc *p = &m->procs[i];

		if (p->pid == pid || p->pgid == pid || p->sid == pid)
			return true;
		for (uint32_t k = 0; k < p->nthreads; k++)
			if (p->threads[k].tid == pid)
				return true;
	}
	return false;
}

static int fork_one(struct warden *w, const struct model *m, struct err *err)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return err_set(err, errno, "socket to the process that watches the restore");
	w->sock = fds[0];
	w->pid = fork();
	if (w->pid == 0)
		warden_main(fds[1], w->pids, (int *)(w->pids + m->nprocs + 1), w->live);
	close(fds[1]);
	return w->pid < 0 ? err_set(err, errno, "fork the process that watches the restore") : 0;
}

static void end_one(struct warden *w)
{
	if (w->sock >= 0)
		close(w->sock);
	while (w->pid > 0 && waitpid(w->pid, NULL, 0) < 0 && errno == EINTR)
		;
	w->sock = -1;
	w->pid = 0;
}

int warden_start(struct warden *w, const struct model *m, bool *live, struct err *err)
{
	int ret;

	*w = (struct warden){.sock = -1};
	w->live = live;
	if (!live)
		w->live = w->page = mmap(NULL, sizeof(*live), PROT_READ | PROT_WRITE,
					 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	w->pids = list_pids(m, &w->len);
	if (w->live == MAP_FAILED || !w->pids)
		return err_set(err, errno, "memory for the process that watches the restore");
	/* The tree's pids are free, and must be: the next one, then. */
	while ((ret = fork_one(w, m, err)) == 0 && is_wanted(m, (uint32_t)w->pid))
		end_one(w);
	return ret;
}

int warden_arm(struct warden *w, struct err *err)
{
	char byte = 'a';
	ssize_t n = send(w->sock, &byte, 1, MSG_NOSIGNAL);

	while (n == 1 && (n = read(w->sock, &byte, 1)) < 0 && errno == EINTR)
		n = 1;
	if (n == 1)
		return 0;
	err_fail(
		err, EPIPE, ERR_GUARDIAN,
		"process %d, which watches the restore, was killed or is out of descriptors: nothing "
		"of the tree is left",
		w->pid);
	err_hint(err, "try again; the out-of-memory killer and `kill -9` end it");
	return -EPIPE;
}

void warden_switch(struct warden *w)
{
	__atomic_store_n(w->live, true, __ATOMIC_SEQ_CST);
}

void warden_end(struct warden *w)
{
	end_one(w);
	if (w->pids)
		munmap(w->pids, w->len);
	if (w->page && w->page != MAP_FAILED)
		munmap(w->page, sizeof(*w->page));
	*w = (struct warden){.sock = -1};
}
