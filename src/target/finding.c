/* SPDX-License-Identifier: MIT */
/* The list of what an image does not carry. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "src/target/collect.h"

static int finding_push(struct model *m, uint32_t pid, bool fatal, bool passing, const char *fmt,
			va_list ap)
{
	struct m_finding *e = model_push(m, &m->findings, &m->nfindings, sizeof(*e));

	if (!e)
		return -ENOMEM;
	e->pid = pid;
	e->fatal = fatal;
	e->passing = passing;
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	for (unsigned char *c = (unsigned char *)e->text; *c; c++)
		if (*c < ' ' || *c == 0x7f)
			*c = '?';
	return 0;
}

int finding_add(struct model *m, uint32_t pid, const char *fmt, ...)
{
	va_list ap;
	int ret;

	va_start(ap, fmt);
	ret = finding_push(m, pid, false, false, fmt, ap);
	va_end(ap);
	return ret;
}

int finding_fatal(struct model *m, uint32_t pid, const char *fmt, ...)
{
	va_list ap;
	int ret;

	va_start(ap, fmt);
	ret = finding_push(m, pid, true, false, fmt, ap);
	va_end(ap);
	return ret;
}

int finding_passing(struct model *m, uint32_t pid, const char *fmt, ...)
{
	va_list ap;
	int ret;

	va_start(ap, fmt);
	ret = finding_push(m, pid, true, true, fmt, ap);
	va_end(ap);
	return ret;
}
