/* SPDX-License-Identifier: MIT */
/* --cpu-cap: in what a CPU must be as good as that of an image. */
#include <errno.h>
#include <string.h>

#include "src/cmd/cmd.h"
#include "src/ops/ops.h"

static const struct {
	const char *name;
	uint32_t checked;
} words[] = {
	{"none", 0},
	{"fpu", RESTORE_CPU_FPU},
	{"ins", RESTORE_CPU_INS},
	{"cpu", RESTORE_CPU_FPU | RESTORE_CPU_INS},
	{"all", RESTORE_CPU_FPU | RESTORE_CPU_INS},
};

enum { NWORDS = sizeof(words) / sizeof(words[0]), ALL = RESTORE_CPU_FPU | RESTORE_CPU_INS };

int cmd_cpu_cap(const char *text, uint32_t *ret_unchecked)
{
	/* A list that only takes away takes away from everything. */
	uint32_t checked = *text == '^' ? ALL : 0;

	for (const char *at = text;; at++) {
		size_t len = strcspn(at, ",");
		bool off = *at == '^';
		unsigned i = 0;

		while (i < NWORDS && (strlen(words[i].name) != len - off ||
				      strncmp(words[i].name, at + off, len - off) != 0))
			i++;
		if (i == NWORDS || (off && !words[i].checked))
			return -EINVAL;
		checked = off ? checked & ~words[i].checked : checked | words[i].checked;
		at += len;
		if (!*at)
			break;
	}
	*ret_unchecked = ALL & ~checked;
	return 0;
}
