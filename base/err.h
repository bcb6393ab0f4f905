/* SPDX-License-Identifier: MIT */
/*
 * What failed, for a person: -errno, a class that picks the exit code, one line of context.
 *
 * A function that can fail for a reason worth telling takes `struct err *err` last. The lowest
 * place that knows the pid, address or path writes it with err_set(); callers pass it up unchanged.
 * The first error wins: a later err_set() on the same object leaves it alone, so that clean-up
 * after a failure cannot hide the cause.
 *
 * Ownership: the caller's storage, fixed size, no allocation: usable inside the freeze window.
 * Threads: one object belongs to one thread at a time.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#ifndef _GNU_SOURCE
/* Of glibc 2.32; its own header says so only to those who define _GNU_SOURCE. */
const char *strerrordesc_np(int errnum);
#endif

/*
 * The class is the exit code of the program: stable, documented in stasis(1). Never renumber.
 * 0 is success; 128+n is left to the shell.
 */
enum err_class {
	ERR_NONE = 0,
	ERR_OTHER = 1,	      /* none of the below */
	ERR_USAGE = 2,	      /* wrong command line */
	ERR_NO_PROCESS = 3,   /* no such pid */
	ERR_KTHREAD = 4,      /* a kernel thread has no memory to dump */
	ERR_ZOMBIE = 5,	      /* already dead */
	ERR_ABI = 6,	      /* 32-bit process, other CPU */
	ERR_PERM = 7,	      /* another user's process, missing capability */
	ERR_TRACED = 8,	      /* somebody else traces it, or dumps it */
	ERR_NOSPACE = 9,      /* disk full, quota */
	ERR_EXISTS = 10,      /* image directory exists already */
	ERR_READONLY = 11,    /* image directory cannot be written */
	ERR_IO = 12,	      /* EIO and the like from the disk */
	ERR_TARGET_GONE = 13, /* the target exited while being dumped */
	ERR_INTERRUPTED = 14, /* SIGINT, SIGTERM */
	ERR_IMAGE = 15,	      /* image damaged or not an image */
	ERR_UNSUPPORTED = 16, /* state of the target, or a kernel, we do not handle */
	ERR_NOMEM = 17,	      /* out of memory */
	ERR_GUARDIAN = 18,    /* the guardian process died: the target was let go */
	ERR_TIMEOUT = 19,     /* the target could not be stopped in time */
	ERR_CHANGED = 20,     /* a file is not the one that was dumped */
	ERR_BUDGET = 21,      /* the target would stand still for longer than allowed */
};

struct err {
	int errnum;	      /* positive errno, 0: nothing failed */
	enum err_class class; /* exit code */
	char msg[480];	      /* what, where, why: one line, no full stop */
	char hint[240];	      /* what to do about it; may be empty */
};

static inline enum err_class err_class_of(int errnum)
{
	switch (errnum) {
	case 0:
		return ERR_NONE;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return ERR_NOSPACE;
	case EPERM:
	case EACCES:
		return ERR_PERM;
	case EROFS:
		return ERR_READONLY;
	case EIO:
		return ERR_IO;
	case ESRCH:
		return ERR_TARGET_GONE;
	case EINTR:
		return ERR_INTERRUPTED;
	case EBADMSG:
		return ERR_IMAGE;
	case ENOMEM:
		return ERR_NOMEM;
	case EOPNOTSUPP:
		return ERR_UNSUPPORTED;
	default:
		return ERR_OTHER;
	}
}

/*
 * Records -> "fmt...: strerror(errnum)" unless @err is NULL or already holds an error.
 * Returns -errnum, so that `return err_set(err, errno, ...)` reads well. @errnum 0 is our own
 * mistake and becomes EINVAL.
 */
__attribute__((format(printf, 3, 4))) static inline int err_set(struct err *err, int errnum,
								const char *fmt, ...)
{
	if (errnum <= 0)
		errnum = EINVAL;
	if (err && !err->errnum) {
		va_list ap;
		size_t len;

		err->errnum = errnum;
		err->class = err_class_of(errnum);
		va_start(ap, fmt);
		vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
		va_end(ap);
		len = strlen(err->msg);
		snprintf(err->msg + len, sizeof(err->msg) - len, ": %s", strerrordesc_np(errnum));
		err->hint[0] = '\0';
	}
	return -errnum;
}

/*
 * As err_set(), for failures whose reason is not an errno text: @msg is the whole sentence.
 */
__attribute__((format(printf, 4, 5))) static inline int err_fail(struct err *err, int errnum,
								 enum err_class class,
								 const char *fmt, ...)
{
	if (errnum <= 0)
		errnum = EINVAL;
	if (err && !err->errnum) {
		va_list ap;

		err->errnum = errnum;
		err->class = class;
		va_start(ap, fmt);
		vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
		va_end(ap);
		err->hint[0] = '\0';
	}
	return -errnum;
}

/* Adds what to do next, once. Does nothing if there is no error. */
__attribute__((format(printf, 2, 3))) static inline void err_hint(struct err *err, const char *fmt,
								  ...)
{
	if (err && err->errnum && !err->hint[0]) {
		va_list ap;

		va_start(ap, fmt);
		vsnprintf(err->hint, sizeof(err->hint), fmt, ap);
		va_end(ap);
	}
}

static inline void err_clear(struct err *err)
{
	if (err)
		memset(err, 0, sizeof(*err));
}

/* Takes over @from if @err is still empty. Returns -errno of @from, 0 if there is none. */
static inline int err_take(struct err *err, const struct err *from)
{
	if (from->errnum && err && !err->errnum)
		*err = *from;
	return -from->errnum;
}

#endif
