/* SPDX-License-Identifier: MIT */
/* System calls that must all succeed in one stopped thread, as many as there are. */
#include "src/target/script.h"

#include <inttypes.h>
#include <string.h>

static struct arch_call calls[BATCH_CALLS];
static struct script_call notes[BATCH_CALLS];
static uint8_t data[BATCH_DATA];

static void restart(struct script *s)
{
	batch_init_big(&s->batch, s->r, calls, data);
}

void script_begin(struct script *s, struct remote *r, struct task *task)
{
	*s = (struct script){.r = r, .task = task};
	restart(s);
}

static int failed(const struct script *s, unsigned i, struct err *err)
{
	const struct script_call *n = &notes[i];
	int64_t ret = calls[i].ret;
	int errnum = ret < 0 ? (int)-ret : EPROTO;
	char at[24] = "";

	if (n->at)
		snprintf(at, sizeof(at), n->at < 0x10000 ? " %" PRIu64 : " %#" PRIx64, n->at);
	if (n->wants && ret >= 0)
		return err_set(err, errnum, "%s%s in process %d: got %" PRId64 " and not %" PRIu64,
			       n->what, at, s->r->proc->pid, ret, n->want);
	return err_set(err, errnum, "%s%s in process %d", n->what, at, s->r->proc->pid);
}

static bool good(unsigned i)
{
	if (notes[i].may_fail)
		return true;
	/* Addresses are results, too: only the last page of numbers are errors. */
	if (calls[i].ret < 0 && calls[i].ret > -4096)
		return false;
	return !notes[i].wants || (uint64_t)calls[i].ret == notes[i].want;
}

int script_run(struct script *s, struct err *err)
{
	int ret = s->error;

	if (ret == 0 && s->batch.ncalls)
		ret = remote_run(s->r, &s->task, &s->batch, 1, err);
	for (unsigned i = 0; ret == 0 && i < s->batch.ncalls; i++)
		if (!good(i))
			ret = failed(s, i, err);
	s->error = ret;
	return ret;
}

static void flush(struct script *s, struct err *err)
{
	script_run(s, err);
	restart(s);
}

void script_room(struct script *s, unsigned ncalls, size_t nbytes, struct err *err)
{
	if (s->batch.ncalls + ncalls > BATCH_CALLS || s->batch.ndata + nbytes + 16 > BATCH_DATA)
		flush(s, err);
}

uint64_t script_buf(struct script *s, const void *from, size_t len, struct err *err)
{
	uint64_t addr = s->error ? 0 : batch_buf(&s->batch, len);

	if (!addr) {
		if (!s->error)
			s->error = err_set(err, E2BIG, "%zu bytes for calls in process %d", len,
					   s->r->proc->pid);
		return 0;
	}
	if (from)
		memcpy(batch_data(&s->batch, addr), from, len);
	return addr;
}

void script_add(struct script *s, struct script_call call, struct err *err)
{
	int i;

	if (s->error)
		return;
	if (s->batch.ncalls == BATCH_CALLS)
		flush(s, err);
	i = batch_call6(&s->batch, call.nr, call.args);
	notes[i] = call;
}

int64_t script_ret(const struct script *s, unsigned i)
{
	return i < s->batch.ncalls ? calls[i].ret : -EINVAL;
}

void *script_data(struct script *s, uint64_t addr)
{
	return batch_data(&s->batch, addr);
}

int64_t script_one(struct remote *r, struct task *task, uint64_t nr, const uint64_t args[6],
		   struct err *err)
{
	struct script s;
	int ret;

	script_begin(&s, r, task);
	batch_call6(&s.batch, nr, args);
	ret = remote_run(r, &task, &s.batch, 1, err);
	return ret < 0 ? ret : calls[0].ret;
}
