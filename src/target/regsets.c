/* SPDX-License-Identifier: MIT */
/* Every register set of a stopped thread, known or not. */
#include "src/target/regsets.h"

#include <errno.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

static int64_t read_by_ptrace(pid_t tid, uint32_t note, void *buf, size_t len)
{
	struct iovec iov = {buf, len};

	if (ptrace(PTRACE_GETREGSET, tid, note, &iov) < 0)
		return -errno;
	return (int64_t)iov.iov_len;
}

/* The guardian has one thread. */
struct regsets *regsets_host(void)
{
	static struct regsets host = {.read = read_by_ptrace};

	host.arch = arch_host();
	return &host;
}

const struct arch_regset *regsets_listed(const struct arch_desc *arch, uint32_t note)
{
	for (const struct arch_regset *a = arch->regsets; a->note; a++)
		if (a->note == note)
			return a;
	return NULL;
}

int regsets_add(struct model *m, struct m_thread *t, uint32_t note, const void *data, size_t len,
		struct err *err)
{
	struct m_regset *s = model_push(m, &t->regsets, &t->nregsets, sizeof(*s));

	if (s)
		s->data = model_alloc(m, len);
	if (!s || !s->data)
		return err_set(err, ENOMEM, "registers of thread %u", t->tid);
	s->note = note;
	s->len = (uint32_t)len;
	memcpy(s->data, data, len);
	return 0;
}

/* @ret_why: why there is none, 0: there is. A set that the thread does not have is no error. */
static int take(const struct regsets *r, struct model *m, struct m_thread *t, uint32_t note,
		int *ret_why, struct err *err)
{
	static uint8_t buf[ARCH_REGSET_MAX];
	int64_t n = r->read((pid_t)t->tid, note, buf, sizeof(buf));

	*ret_why = n < 0 ? (int)-n : 0;
	if (n == -ESRCH)
		return err_set(err, ESRCH, "read registers of thread %u", t->tid);
	if (n == (int64_t)sizeof(buf))
		return err_fail(err, EOVERFLOW, ERR_UNSUPPORTED,
				"register set %#x of thread %u has more than %zu bytes, which no "
				"image has room for",
				note, t->tid, sizeof(buf) - 1);
	return n > 0 ? regsets_add(m, t, note, buf, (size_t)n, err) : 0;
}

static int read_listed(struct regsets *r, struct model *m, struct m_thread *t, struct err *err)
{
	const struct arch_regset *first = r->arch->regsets + 1;
	int ret = 0, why = 0;

	for (const struct arch_regset *a = first; ret == 0 && a->note; a++) {
		uint64_t bit = 1ull << (a - first);

		if (r->absent & bit)
			continue;
		ret = take(r, m, t, a->note, &why, err);
		/* EINVAL: of no thread; but a set that varies may be of those in another mode. */
		r->absent |= why == EINVAL && a->size ? bit : 0;
	}
	return ret;
}

/* Notes that are the kernel's to give, and that the list lacks. */
static uint64_t not_listed(const struct arch_desc *arch)
{
	uint64_t ret = 0;

	for (uint32_t note = arch->first_note; note && note <= arch->last_note; note++)
		if (!regsets_listed(arch, note))
			ret |= 1ull << (note - arch->first_note);
	return ret;
}

/*
 * The first thread is asked for all that there may be. EINVAL alone is the kernel's word that it
 * has no such set: ENODATA and ENODEV say that this thread has nothing in it.
 */
static int read_unheard(struct regsets *r, struct model *m, struct m_thread *t, struct err *err)
{
	int ret = 0, why = 0;

	if (!r->looked)
		r->unheard = not_listed(r->arch);
	for (uint64_t left = r->unheard; ret == 0 && left; left &= left - 1) {
		ret = take(r, m, t, r->arch->first_note + (uint32_t)__builtin_ctzll(left), &why,
			   err);
		if (why == EINVAL && !r->looked)
			r->unheard &= ~(left & -left);
	}
	r->looked |= ret == 0;
	return ret;
}

int regsets_read(struct regsets *r, struct model *m, struct m_thread *t, struct err *err)
{
	int ret = read_listed(r, m, t, err);

	return ret < 0 ? ret : read_unheard(r, m, t, err);
}
