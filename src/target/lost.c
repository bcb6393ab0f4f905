/* SPDX-License-Identifier: MIT */
/* Register sets of which injected calls leave nothing: saved before, put back behind. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#include "src/target/regsets.h"
#include "src/target/remote.h"

void lost_drop(struct task *task)
{
	for (unsigned i = 0; i < ARCH_LOST_NOTES; i++) {
		free((void *)(uintptr_t)task->lost[i].data);
		task->lost[i] = (struct arch_set){0};
	}
}

int lost_save(struct task *task, struct err *err)
{
	static uint8_t buf[ARCH_REGSET_MAX];
	static uint32_t absent; /* of this CPU, by position */
	const uint32_t *notes = arch_inject.lost_notes;

	lost_drop(task);
	for (unsigned i = 0; notes && notes[i]; i++) {
		struct iovec iov = {buf, sizeof(buf)};
		struct arch_set *set = &task->lost[i];
		uint8_t *data;

		if (absent >> i & 1)
			continue;
		if (ptrace(PTRACE_GETREGSET, task->tid, notes[i], &iov) < 0) {
			const struct arch_regset *a = regsets_listed(arch_host(), notes[i]);

			/* As in regsets.c: one that varies may be another thread's. */
			absent |= errno == EINVAL && a && a->size ? 1u << i : 0;
			continue;
		}
		if (!arch_inject.is_lost(&(struct arch_set){notes[i], (uint32_t)iov.iov_len, buf}))
			continue;
		data = malloc(iov.iov_len);
		if (!data)
			return err_set(err, ENOMEM, "registers of thread %d", task->tid);
		memcpy(data, buf, iov.iov_len);
		*set = (struct arch_set){notes[i], (uint32_t)iov.iov_len, data};
	}
	return 0;
}

void lost_put(const struct task *task)
{
	for (unsigned i = 0; i < ARCH_LOST_NOTES; i++) {
		const struct arch_set *set = &task->lost[i];
		struct iovec iov = {(void *)(uintptr_t)set->data, set->len};

		if (set->len)
			ptrace(PTRACE_SETREGSET, task->tid, set->note, &iov);
	}
}
