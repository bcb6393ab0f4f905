/* SPDX-License-Identifier: MIT */
/* The shadow stack of a stopped thread: what the way back takes from there. */
#include <errno.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#include "src/target/remote.h"

bool shadow_read(const struct task *task, struct task_shadow *ret)
{
	const struct arch_shadow *s = arch_inject.shadow;
	struct iovec iov = {ret->set, sizeof(ret->set)};
	uint64_t features;

	*ret = (struct task_shadow){0};
	/* ENODEV, EINVAL: it has none, this CPU or kernel knows of none. */
	if (!s || ptrace(PTRACE_GETREGSET, task->tid, s->note, &iov) < 0 ||
	    iov.iov_len < s->pointer_off + sizeof(ret->pointer))
		return false;
	memcpy(&features, ret->set, sizeof(features));
	if (s->on && !(features & s->on))
		return false;
	memcpy(&ret->pointer, ret->set + s->pointer_off, sizeof(ret->pointer));
	ret->len = (uint32_t)iov.iov_len;
	return true;
}

static int move(const struct task *task, uint64_t pointer)
{
	const struct arch_shadow *s = arch_inject.shadow;
	uint8_t set[SHADOW_SET];
	struct iovec iov = {set, task->shadow.len};

	memcpy(set, task->shadow.set, sizeof(set));
	memcpy(set + s->pointer_off, &pointer, sizeof(pointer));
	return ptrace(PTRACE_SETREGSET, task->tid, s->note, &iov) < 0 ? -errno : 0;
}

void shadow_of_loop(struct task *task)
{
	const struct arch_shadow *s = arch_inject.shadow;

	if (!s || !s->loop_token)
		task->shadow.lower = 0;
	else if (task->shadow.len || shadow_read(task, &task->shadow))
		task->shadow.lower = sizeof(task->shadow.below);
}

int shadow_enter(struct task *task)
{
	struct task_shadow *s = &task->shadow;
	const uint64_t at = s->pointer - sizeof(s->below);
	uint64_t words[2];

	if (!s->len || !s->lower)
		return 0;
	if (s->lower == sizeof(s->below) && !s->token) {
		errno = 0;
		s->below = (uint64_t)ptrace(PTRACE_PEEKDATA, task->tid, at, 0);
		if (errno)
			return -errno;
		arch_inject.shadow->words(s->pointer, 0, words);
		if (ptrace(PTRACE_POKEDATA, task->tid, at, words[1]) < 0)
			return -errno;
		s->token = true;
	}
	s->lowered = true;
	return move(task, s->pointer - s->lower);
}

void shadow_leave(struct task *task)
{
	struct task_shadow *s = &task->shadow;

	if (s->lowered)
		move(task, s->pointer);
	if (s->token)
		ptrace(PTRACE_POKEDATA, task->tid, s->pointer - sizeof(s->below), s->below);
	s->lowered = s->token = false;
}
