/* SPDX-License-Identifier: MIT */
/* Fuzz target: the texts of /proc, in which names are the target's own. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "src/image/model.h"
#include "src/target/fdinfo.h"
#include "src/target/procfs.h"
#include "src/target/smaps.h"
#include "src/target/timers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int parse(struct smaps *s, const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct procfs_lines l;
	int ret;

	if (!text)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	procfs_lines_text(&l, text, size);
	ret = smaps_parse(s, &l);
	free(text);
	return ret;
}

static void fuzz_maps(const uint8_t *data, size_t size)
{
	struct smaps a = {0}, b = {0};

	if (parse(&a, data, size) == 0) {
		for (uint32_t i = 0; i < a.n; i++) {
			const struct smaps_vma *v = &a.v[i];

			if (v->start >= v->end || (i && a.v[i - 1].end > v->start) ||
			    v->name >= a.len || v->vmflags >= a.len || v->page_shift > 63)
				abort();
		}
		/* The same text again is the same process. */
		if (parse(&b, data, size) < 0 || b.n != a.n || !smaps_inherit(&b, &a))
			abort();
	}
	smaps_deinit(&a);
	smaps_deinit(&b);
}

static void fuzz_fdinfo(struct model *m, const char *text)
{
	struct fdinfo info;

	fdinfo_parse(text, &info);
	for (int type = M_FILE_UND; type <= M_FILE_PIDFD; type++) {
		struct m_file file = {.type = (enum m_file_type)type};

		if (fdinfo_fill(m, text, &file) < 0)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct model *m = model_new(0);
	char *text = malloc(size + 1);
	struct procfs_status status;
	struct procfs_stat stat;
	struct m_proc p = {0};

	if (!m || !text)
		abort();
	fuzz_maps(data, size);
	memcpy(text, data, size);
	text[size] = '\0';
	fuzz_fdinfo(m, text);
	procfs_parse_stat(text, &stat);
	procfs_parse_status(text, &status);
	if (timers_parse(m, text, &p) < 0)
		abort();
	free(text);
	model_free(m);
	return 0;
}
