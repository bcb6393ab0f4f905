/* SPDX-License-Identifier: MIT */
/* Kernel objects without a path: eventfd, signalfd, timerfd, pidfd, namespaces of our own. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "src/target/make_row.h"

/* Linux 3.17, with CONFIG_CHECKPOINT_RESTORE */
#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif

static int put_or_fail(struct make *mk, const struct m_file *f, int fd, struct err *err)
{
	if (fd < 0)
		return err_set(err, errno, "make %s", make_name(f));
	return make_put(mk, f->id, fd, err);
}

/* --- eventfd, signalfd ---------------------------------------------------------------------- */

static int eventfd_open(struct make *mk, const struct m_file *f, bool late, struct err *err)
{
	int flags = EFD_CLOEXEC | (f->flags & O_NONBLOCK ? EFD_NONBLOCK : 0) |
		    (f->eventfd_semaphore ? EFD_SEMAPHORE : 0);
	cleanup_fd int fd = eventfd(0, flags);

	if (fd >= 0 && f->eventfd_count && write(fd, &f->eventfd_count, 8) != 8)
		return err_set(err, errno, "set %s to %" PRIu64, make_name(f), f->eventfd_count);
	return put_or_fail(mk, f, take_fd(&fd), err);
}

static int signalfd_open(struct make *mk, const struct m_file *f, bool late, struct err *err)
{
	return put_or_fail(mk, f,
			   (int)syscall(SYS_signalfd4, -1, &f->signalfd_mask, 8,
					O_CLOEXEC | (int)(f->flags & O_NONBLOCK)),
			   err);
}

/* --- timerfd -------------------------------------------------------------------------------- */

static int timerfd_open(struct make *mk, const struct m_file *f, bool late, struct err *err)
{
	return put_or_fail(
		mk, f,
		timerfd_create((int)f->timerfd.clockid, O_CLOEXEC | (int)(f->flags & O_NONBLOCK)),
		err);
}

static struct timespec timespec_of(uint64_t ns)
{
	return (struct timespec){(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
}

/* An alarm is counted on the clock without one. */
static uint64_t timerfd_now_ns(uint32_t clockid)
{
	return clock_ns(clockid == CLOCK_REALTIME_ALARM	  ? CLOCK_REALTIME
			: clockid == CLOCK_BOOTTIME_ALARM ? CLOCK_BOOTTIME
							  : (clockid_t)clockid);
}

/* The value is the time that is left, of timers for a point in time, too. */
static int timerfd_arm(struct make *mk, const struct m_file *f, int fd, struct err *err)
{
	int flags = (int)f->timerfd.settime_flags & (TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET);
	uint64_t value = f->timerfd.value_ns, ticks = f->timerfd.ticks;
	struct itimerspec it = {.it_interval = timespec_of(f->timerfd.interval_ns)};

	if (!value && f->timerfd.interval_ns)
		value = 1;
	if (value && flags & TFD_TIMER_ABSTIME)
		value += timerfd_now_ns(f->timerfd.clockid);
	it.it_value = timespec_of(value);
	if (value && timerfd_settime(fd, flags, &it, NULL) < 0)
		return err_set(err, errno, "arm %s", make_name(f));
	if (ticks && ioctl(fd, TFD_IOC_SET_TICKS, &ticks) < 0) {
		err_set(err, errno, "set %" PRIu64 " unread ticks of %s", ticks, make_name(f));
		err_hint(err, "the kernel must have CONFIG_CHECKPOINT_RESTORE");
		return -err->errnum;
	}
	return 0;
}

/* --- pidfd ---------------------------------------------------------------------------------- */

/* A process that ends at once; its number stays taken until it is waited for. */
static int dead_pidfds(struct make *mk, const struct m_file *f, struct err *err)
{
	pid_t pid = fork();
	int ret = 0;

	if (pid < 0)
		return err_set(err, errno, "make %s", make_name(f));
	if (pid == 0)
		_exit(0);
	/* Several that were of one process are again. */
	for (uint32_t i = f->id - 1; ret == 0 && i < mk->m->nfiles; i++) {
		const struct m_file *g = &mk->m->files[i];
		int fd;

		if (!mk->made[i].wanted || mk->made[i].fd >= 0 || g->type != M_FILE_PIDFD ||
		    g->pidfd_pid >= 0 || (g != f && g->ino != f->ino))
			continue;
		fd = (int)syscall(SYS_pidfd_open, pid, g->flags & O_NONBLOCK);
		ret = put_or_fail(mk, g, fd, err);
	}
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return ret;
}

static int pidfd_open_row(struct make *mk, const struct m_file *f, bool late, struct err *err)
{
	int fd;

	if (!late)
		return MAKE_LATER;
	if (f->pidfd_pid < 0)
		return dead_pidfds(mk, f, err);
	/* O_EXCL is PIDFD_THREAD, Linux 6.9 */
	fd = (int)syscall(SYS_pidfd_open, f->pidfd_pid, f->flags & (O_NONBLOCK | O_EXCL));
	if (fd < 0 && errno == ESRCH && !model_proc(mk->m, (uint32_t)f->pidfd_pid))
		return dead_pidfds(mk, f, err);
	return put_or_fail(mk, f, fd, err);
}

/* --- namespaces ----------------------------------------------------------------------------- */

/* "uts:[4026531838]" */
static int ns_open(struct make *mk, const struct m_file *f, bool late, struct err *err)
{
	const char *colon = f->path ? strchr(f->path, ':') : NULL;
	cleanup_fd int fd = -1;
	char path[64];
	struct stat st;

	if (!colon || colon - f->path > 16)
		return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED, "%s: of no namespace known",
				make_name(f));
	snprintf(path, sizeof(path), "/proc/self/ns/%.*s", (int)(colon - f->path), f->path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, errno, "open %s for %s", path, make_name(f));
	if (st.st_ino != f->ino)
		return err_fail(err, ESTALE, ERR_CHANGED,
				"%s: is another namespace than ours, which is %" PRIu64,
				make_name(f), (uint64_t)st.st_ino);
	return make_put(mk, f->id, take_fd(&fd), err);
}

const struct make_row make_eventfd = {.open = eventfd_open};
const struct make_row make_signalfd = {.open = signalfd_open};
const struct make_row make_timerfd = {.open = timerfd_open, .finish = timerfd_arm};
const struct make_row make_pidfd = {.open = pidfd_open_row};
const struct make_row make_ns = {.open = ns_open};
