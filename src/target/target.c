/* SPDX-License-Identifier: MIT */
/* The tool's end of the guardian: one function for each command. */
#include "src/target/target.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/target/collect.h"
#include "src/target/guard.h"
#include "src/target/limits.h"
#include "src/target/turn.h"

struct target {
	pid_t root;
	pid_t guardian; /* 0: reaped */
	int sock;
	struct target_times times;
	struct target_opts opts;
	struct target_tracks *tracks; /* shared with the guardian */
	bool leave_guards;
	bool owed; /* a reply to a command that was begun */
	char note[200];
};

static void target_free(struct target *t)
{
	munmap(t->tracks, sizeof(*t->tracks));
	free(t);
}

static void note_stranger(struct target *t, const struct ucred *who)
{
	char name[64] = "somebody else";

	if (who->pid > 0)
		snprintf(name, sizeof(name), "pid %d, which is user %u's,", who->pid, who->uid);
	snprintf(t->note, sizeof(t->note),
		 "pid %d: %s has the name by which two dumps of one process keep clear of each "
		 "other: see that no other is under way",
		 t->root, name);
}

/* Ours alone while it lasts; a list of findings changes nothing, and needs no turn. */
static int take_turn(struct target *t, int *ret_fd, struct err *err)
{
	struct ucred stranger;
	int ret;

	*ret_fd = -1;
	if (t->opts.survey_all)
		return 0;
	ret = turn_take(t->root, ret_fd, &stranger, err);
	if (ret == 0 && stranger.pid >= 0)
		note_stranger(t, &stranger);
	return ret;
}

struct target *target_open(pid_t root, struct model *m, const struct target_opts *opts,
			   struct err *err)
{
	struct target *t = calloc(1, sizeof(*t));
	cleanup_fd int turn_fd = -1;
	int fds[2];

	if (!t) {
		err_set(err, ENOMEM, "target of pid %d", root);
		return NULL;
	}
	t->root = root;
	t->sock = -1;
	if (opts)
		t->opts = *opts;
	t->tracks = mmap(NULL, sizeof(*t->tracks), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (t->tracks == MAP_FAILED) {
		err_set(err, errno, "reserve memory shared with the guardian");
		free(t);
		return NULL;
	}
	if (take_turn(t, &turn_fd, err) < 0) {
		target_free(t);
		return NULL;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0) {
		err_set(err, errno, "socket to the guardian");
		target_free(t);
		return NULL;
	}
	t->sock = fds[0];
	t->guardian = fork();
	if (t->guardian < 0) {
		err_set(err, errno, "fork the guardian");
		close(fds[0]);
		close(fds[1]);
		target_free(t);
		return NULL;
	}
	if (t->guardian == 0) {
		/* Ours alone: while the guardian held this end it would never see ours close. */
		close(fds[0]);
		guard_main(fds[1], root, m, t->tracks, turn_fd, &t->opts);
	}
	/* As the turn's: when the guardian ends, however it does, the next dump may begin. */
	close(fds[1]);
	return t;
}

/* A guardian that was killed may have left some raised. */
static void end_guardian(struct target *t)
{
	while (t->guardian > 0 && waitpid(t->guardian, NULL, 0) < 0 && errno == EINTR)
		;
	if (t->guardian > 0)
		limits_put_back(&t->tracks->limits);
	t->guardian = 0;
}

/* The guardian did not answer: it is dead, or will be before this returns. */
static int guard_lost(struct target *t, struct err *err)
{
	int status = 0;
	pid_t gone = 0;

	close(t->sock);
	t->sock = -1;
	if (t->guardian > 0)
		gone = waitpid(t->guardian, &status, 0);
	limits_put_back(&t->tracks->limits);
	if (gone > 0 && WIFSIGNALED(status))
		err_fail(err, EPIPE, ERR_GUARDIAN,
			 "the guardian process %d was killed by signal %d (%s): process %d was let "
			 "go and runs on",
			 t->guardian, WTERMSIG(status), strsignal(WTERMSIG(status)), t->root);
	else
		err_fail(err, EPIPE, ERR_GUARDIAN,
			 "the guardian process %d has ended: process %d was let go and runs on",
			 t->guardian, t->root);
	err_hint(err, "try again; the out-of-memory killer and `kill -9` end a guardian");
	t->guardian = 0;
	return -EPIPE;
}

/*
 * Until the guardian answers. A thread that does not stop may keep it for as long as the freeze may
 * take: whoever wants the tool to end does not wait for that. A guardian whose tool has closed its
 * end gives up, puts everything back and ends.
 */
static int await_reply(struct target *t, struct err *err)
{
	enum { LOOK_MS = 50 }; /* a signal may come between the look and the poll */
	struct pollfd fd = {.fd = t->sock, .events = POLLIN};

	while (t->opts.stop) {
		if (t->opts.stop(t->opts.stop_arg)) {
			close(t->sock);
			t->sock = -1;
			end_guardian(t);
			return err_fail(
				err, EINTR, ERR_INTERRUPTED,
				"interrupted by a signal: dump of pid %d given up, no image "
				"written",
				t->root);
		}
		if (poll(&fd, 1, LOOK_MS) > 0)
			break;
	}
	return 0;
}

static int take_reply(struct target *t, struct err *err)
{
	struct guard_reply reply;
	ssize_t n;

	t->owed = false;
	do {
		n = recv(t->sock, &reply, sizeof(reply), 0);
	} while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(reply))
		return guard_lost(t, err);
	t->times = reply.times;
	if (reply.ret < 0)
		err_take(err, &reply.err);
	return reply.ret;
}

static int begin_cmd(struct target *t, const struct guard_cmd *cmd, struct err *err)
{
	struct err drop = {0};
	ssize_t n;

	if (t->owed)
		take_reply(t, &drop);
	if (t->sock < 0)
		return err_fail(err, EPIPE, ERR_GUARDIAN,
				"the guardian has ended: process %d was let go and runs on",
				t->root);
	do {
		n = send(t->sock, cmd, sizeof(*cmd), MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(*cmd))
		return guard_lost(t, err);
	t->owed = true;
	return 0;
}

static int begin(struct target *t, enum guard_op op, uint32_t arg, struct err *err)
{
	return begin_cmd(t, &(struct guard_cmd){.op = op, .arg = arg}, err);
}

static int command(struct target *t, enum guard_op op, uint32_t arg, struct err *err)
{
	int ret = begin(t, op, arg, err);

	if (ret < 0)
		return ret;
	/* What ends a dump that is done is done to its end. */
	if (op != GUARD_THAW && op != GUARD_ALIVE && op != GUARD_UNTRACK && op != GUARD_RESUME &&
	    await_reply(t, err) < 0)
		return -EINTR;
	return take_reply(t, err);
}

int target_survey(struct target *t, struct err *err)
{
	return command(t, GUARD_SURVEY, 0, err);
}

int target_survey_begin(struct target *t, struct err *err)
{
	return begin(t, GUARD_SURVEY, 0, err);
}

int target_survey_end(struct target *t, struct err *err)
{
	if (await_reply(t, err) < 0)
		return -EINTR;
	return take_reply(t, err);
}

/* The guardian ends after a freeze that failed; when it has, everything runs again. */
static int freeze_command(struct target *t, enum guard_op op, uint32_t arg, struct err *err)
{
	int ret = command(t, op, arg, err);

	if (ret < 0 && t->sock >= 0) {
		close(t->sock);
		t->sock = -1;
		end_guardian(t);
	}
	return ret;
}

int target_track(struct target *t, enum target_way way, struct err *err)
{
	return freeze_command(t, GUARD_TRACK, way, err);
}

int target_pause(struct target *t, struct err *err)
{
	return freeze_command(t, GUARD_PAUSE, 0, err);
}

int target_resume(struct target *t, struct err *err)
{
	return command(t, GUARD_RESUME, 0, err);
}

int target_notes(const struct target *t)
{
	char path[48];
	int fd;

	if (!t->tracks->notes || t->guardian <= 0)
		return -ENOENT;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", t->guardian, t->tracks->notes);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

const struct target_tracks *target_tracks(const struct target *t)
{
	return t->tracks;
}

bool target_tracks_pid(const struct target *t, pid_t pid)
{
	for (uint32_t i = 0; i < t->tracks->n; i++)
		if (t->tracks->v[i].pid == (uint32_t)pid)
			return t->tracks->v[i].on;
	return false;
}

static uint64_t untracked(const struct target *t, pid_t pid, unsigned depth)
{
	enum { MOST_DEPTH = 64, CHILDREN = 1024 };
	uint64_t sum = target_tracks_pid(t, pid) ? 0 : target_private_bytes(pid);
	pid_t *v = depth < MOST_DEPTH ? malloc(CHILDREN * sizeof(*v)) : NULL;
	int n = v ? proc_children(pid, v, CHILDREN) : 0;

	for (int i = 0; i < n && i < CHILDREN; i++)
		sum += untracked(t, v[i], depth + 1);
	free(v);
	return sum;
}

uint64_t target_untracked_bytes(const struct target *t)
{
	return untracked(t, t->root, 0);
}

int target_survey_again(struct target *t, struct err *err)
{
	return command(t, GUARD_SURVEY_AGAIN, 0, err);
}

int target_survey_again_begin(struct target *t, struct err *err)
{
	return begin(t, GUARD_SURVEY_AGAIN, 0, err);
}

int target_survey_again_end(struct target *t, struct err *err)
{
	return target_survey_end(t, err);
}

int target_track_keep(struct target *t, uint64_t image, int notes_fd, struct err *err)
{
	int ret;

	t->tracks->since = image;
	t->tracks->notes = notes_fd > 0 ? notes_fd : 0;
	ret = command(t, GUARD_KEEP, 0, err);
	/* It goes on without us: not ours to wait for. */
	if (ret == 0) {
		close(t->sock);
		t->sock = -1;
		t->guardian = 0;
	}
	return ret;
}

int target_untrack(struct target *t, struct err *err)
{
	return command(t, GUARD_UNTRACK, 0, err);
}

int target_freeze(struct target *t, struct err *err)
{
	return freeze_command(t, GUARD_FREEZE, 0, err);
}

int target_collect(struct target *t, struct err *err)
{
	return command(t, GUARD_COLLECT, t->leave_guards, err);
}

int target_sure_begin(struct target *t, struct err *err)
{
	return t->tracks->unsure ? begin(t, GUARD_SURE, 0, err) : 0;
}

int target_sure_end(struct target *t, struct err *err)
{
	if (!t->owed)
		return 0;
	return await_reply(t, err) < 0 ? -EINTR : take_reply(t, err);
}

ssize_t target_read(struct target *t, pid_t pid, uint64_t addr, void *buf, size_t len,
		    struct err *err)
{
	const struct guard_cmd cmd = {.op = GUARD_READ,
				      .pid = pid,
				      .addr = addr,
				      .len = len < TARGET_READ ? len : TARGET_READ};
	int ret = begin_cmd(t, &cmd, err);

	if (ret == 0)
		ret = await_reply(t, err) < 0 ? -EINTR : take_reply(t, err);
	if (ret > 0)
		memcpy(buf, t->tracks->bytes, (size_t)ret);
	return ret;
}

void target_leave_guards(struct target *t)
{
	t->leave_guards = true;
}

int target_alive(struct target *t, struct err *err)
{
	return command(t, GUARD_ALIVE, 0, err);
}

int target_thaw(struct target *t, enum target_end end, struct err *err)
{
	return command(t, GUARD_THAW, end, err);
}

void target_release(struct target *t)
{
	if (!t)
		return;
	/* The guardian puts back and lets go whatever it still holds when it sees this close. */
	if (t->sock >= 0)
		close(t->sock);
	end_guardian(t);
	target_free(t);
}

const struct target_times *target_times(const struct target *t)
{
	return &t->times;
}

const char *target_note(const struct target *t)
{
	return t->note;
}
