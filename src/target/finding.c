/* SPDX-License-Identifier: MIT */
/* The list of what an image does not carry. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "src/target/collect.h"

int finding_add(struct model *m, uint32_t pid, const char *fmt, ...)
{
	struct m_finding *e = model_push(m, &m->findings, &m->nfindings, sizeof(*e));
	va_list ap;

	if (!e)
		return -ENOMEM;
	e->pid = pid;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	for (unsigned char *c = (unsigned char *)e->text; *c; c++)
		if (*c < ' ' || *c == 0x7f)
			*c = '?';
	return 0;
}
