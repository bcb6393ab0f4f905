/* SPDX-License-Identifier: MIT */
/* The open log: open, close, levels, sink. */
#include "binlog/internal.h" /* first */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"

#define TRIMMING 0x80000000u /* in header.writers */

int binlog_gate = -1;
int binlog_sink_level = -1;
int binlog_file_level = -1;

static struct binlog_log *current; /* NULL: no log is open */
static struct binlog_proc *proc;
static uint32_t generation;
static uint32_t open_generation; /* of `current`; 0: no log is open */

struct sink {
	void (*fn)(void *ctx, const struct binlog_line *line);
	void *ctx;
};

static struct sink sinks[2]; /* the one not in use is written */
static const struct sink *sink;

void binlog_shield(struct binlog_shield *ret)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &ret->signals);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &ret->cancel);
}

void binlog_unshield(const struct binlog_shield *s)
{
	pthread_setcancelstate(s->cancel, NULL);
	pthread_sigmask(SIG_SETMASK, &s->signals, NULL);
}

static void futex(int *word, int op, int value)
{
	syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

/* --- pages that a fork wipes ------------------------------------------------------------------ */

/*
 * A child of vfork() or CLONE_VM never comes here and finds a pid that is not its own. One of a
 * bare clone system call does not either, but finds none, and the first that logs becomes it.
 */
static void begin_child(void)
{
	if (!proc)
		return;
	if (BINLOG_LOAD(proc->pid)) {
		/* MADV_WIPEONFORK came with 4.14. Without it, a bare clone is not covered. */
		memset(proc, 0, sizeof(*proc));
		if (BINLOG_LOAD(binlog_self->ring))
			memset(binlog_self, 0, BINLOG_ALIGN);
	}
	__atomic_store_n(&proc->pid, getpid(), __ATOMIC_RELAXED);
}

void *binlog_wiped_page(void)
{
	static int registered;
	void *page = mmap(NULL, BINLOG_ALIGN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);

	if (page == MAP_FAILED)
		return NULL;
	(void)madvise(page, BINLOG_ALIGN, MADV_WIPEONFORK);
	if (!__atomic_exchange_n(&registered, 1, __ATOMIC_RELAXED))
		pthread_atfork(NULL, NULL, begin_child);
	return page;
}

struct binlog_proc *binlog_proc(void)
{
	struct binlog_proc *p = __atomic_load_n(&proc, __ATOMIC_ACQUIRE);
	struct binlog_proc *none = NULL;

	if (p) {
		int unknown = 0;

		if (!BINLOG_LOAD(p->pid))
			__atomic_compare_exchange_n(&p->pid, &unknown, getpid(), false,
						    __ATOMIC_RELAXED, __ATOMIC_RELAXED);
		return p;
	}
	p = binlog_wiped_page();
	if (p)
		p->pid = getpid();
	if (p && !__atomic_compare_exchange_n(&proc, &none, p, false, __ATOMIC_ACQ_REL,
					      __ATOMIC_ACQUIRE)) {
		munmap(p, BINLOG_ALIGN);
		p = none;
	}
	return p;
}

uint32_t binlog_open_generation(void)
{
	return __atomic_load_n(&open_generation, __ATOMIC_ACQUIRE);
}

struct binlog_log *binlog_enter(void)
{
	struct binlog_log *log;

	if (!__atomic_load_n(&current, __ATOMIC_RELAXED))
		return NULL;
	__atomic_fetch_add(&proc->users, 1, __ATOMIC_SEQ_CST);
	log = __atomic_load_n(&current, __ATOMIC_SEQ_CST);
	if (!log)
		binlog_leave();
	return log;
}

void binlog_leave(void)
{
	if (__atomic_fetch_sub(&proc->users, 1, __ATOMIC_SEQ_CST) == 1 &&
	    __atomic_load_n(&proc->closing, __ATOMIC_SEQ_CST))
		futex(&proc->users, FUTEX_WAKE, 1);
}

void binlog_lock(void)
{
	struct binlog_proc *p = binlog_proc();
	int v = 0;

	if (__atomic_compare_exchange_n(&p->lock, &v, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return;
	while (__atomic_exchange_n(&p->lock, 2, __ATOMIC_ACQUIRE))
		futex(&p->lock, FUTEX_WAIT, 2);
}

void binlog_unlock(void)
{
	struct binlog_proc *p = binlog_proc();

	if (__atomic_exchange_n(&p->lock, 0, __ATOMIC_RELEASE) == 2)
		futex(&p->lock, FUTEX_WAKE, 1);
}

/* --- levels and sink -------------------------------------------------------------------------- */

static void set_gate(void)
{
	int file = __atomic_load_n(&current, __ATOMIC_RELAXED) ? binlog_file_level : -1;
	int gate = file > binlog_sink_level ? file : binlog_sink_level;

	__atomic_store_n(&binlog_gate, gate, __ATOMIC_RELEASE);
}

void binlog_set_level(int level)
{
	struct binlog_shield shield;

	binlog_shield(&shield);
	if (binlog_proc()) {
		binlog_lock();
		__atomic_store_n(&binlog_file_level, level, __ATOMIC_RELAXED);
		binlog_dict_words();
		set_gate();
		binlog_unlock();
	}
	binlog_unshield(&shield);
}

int binlog_level(void)
{
	return __atomic_load_n(&binlog_file_level, __ATOMIC_RELAXED);
}

void binlog_set_sink(void (*fn)(void *ctx, const struct binlog_line *line), void *ctx, int level)
{
	struct sink *other = sink == &sinks[0] ? &sinks[1] : &sinks[0];
	struct binlog_shield shield;

	binlog_shield(&shield);
	if (binlog_proc()) {
		binlog_lock();
		*other = (struct sink){fn, ctx};
		__atomic_store_n(&sink, fn ? other : NULL, __ATOMIC_RELEASE);
		__atomic_store_n(&binlog_sink_level, fn ? level : -1, __ATOMIC_RELAXED);
		binlog_dict_words();
		set_gate();
		binlog_unlock();
	}
	binlog_unshield(&shield);
}

void binlog_sink(const struct binlog_line *line)
{
	const struct sink *s = __atomic_load_n(&sink, __ATOMIC_ACQUIRE);

	if (s)
		s->fn(s->ctx, line);
}

void binlog_sink_fd(void *ctx, const struct binlog_line *line)
{
	(void)!io_write(*(const int *)ctx, line->text, line->len);
}

int binlog_sink_descriptor(void)
{
	const struct sink *s = __atomic_load_n(&sink, __ATOMIC_ACQUIRE);

	return s && s->fn == binlog_sink_fd ? *(const int *)s->ctx : -1;
}

/* --- writers: who may cut the tail ------------------------------------------------------------ */

void binlog_writer_add(struct binlog_log *log)
{
	uint32_t old = __atomic_load_n(&log->hdr->writers, __ATOMIC_RELAXED);
	int tries = 1000;

	for (;;) {
		uint32_t n = binlog_le32(old);

		if (n & TRIMMING) {
			/* Another process cuts the tail, in one call. If it died there, go on. */
			const struct timespec ts = {0, 100000};

			nanosleep(&ts, NULL);
			if (--tries == 0)
				n &= ~TRIMMING;
			else {
				old = __atomic_load_n(&log->hdr->writers, __ATOMIC_RELAXED);
				continue;
			}
		}
		if (__atomic_compare_exchange_n(&log->hdr->writers, &old, binlog_le32(n + 1), false,
						__ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
			/* Whoever came before may have taken itself for the last. */
			__atomic_store_n(&log->hdr->closed, 0, __ATOMIC_RELEASE);
			return;
		}
	}
}

/* The last writer cuts what was allocated ahead, and says that the log is complete. */
static void writer_remove(struct binlog_log *log)
{
	uint32_t one = binlog_le32(1);
	struct binlog_calib now;

	if (!__atomic_compare_exchange_n(&log->hdr->writers, &one, binlog_le32(TRIMMING), false,
					 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
		binlog_add32(&log->hdr->writers, (uint32_t)-1);
		return;
	}
	binlog_calibrate(&now);
	log->hdr->close.mono_ns = binlog_le64(now.mono_ns);
	log->hdr->close.real_ns = binlog_le64(now.real_ns);
	__atomic_store_n(&log->hdr->close.ticks, binlog_le64(now.ticks), __ATOMIC_RELEASE);
	if (binlog_fd_is_ours(log) && ftruncate(log->fd, (off_t)binlog_le64(log->hdr->next)) == 0)
		log->hdr->preallocated = log->hdr->next;
	__atomic_store_n(&log->hdr->closed, binlog_le32(1), __ATOMIC_RELEASE);
	__atomic_store_n(&log->hdr->writers, 0, __ATOMIC_RELEASE);
}

/* --- open ------------------------------------------------------------------------------------- */

static unsigned ldbl_kind(void)
{
#if __LDBL_MANT_DIG__ == 53
	return BINLOG_LDBL_F64;
#elif __LDBL_MANT_DIG__ == 64
	return BINLOG_LDBL_X87;
#elif __LDBL_MANT_DIG__ == 113
	return BINLOG_LDBL_F128;
#else
	return BINLOG_LDBL_DD;
#endif
}

static unsigned machine(void)
{
#if defined(__x86_64__)
	return 62;
#elif defined(__aarch64__)
	return 183;
#elif defined(__powerpc64__)
	return 21;
#elif defined(__s390x__)
	return 22;
#else
	return 0;
#endif
}

static int hex(int c)
{
	return c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
}

static void read_boot_id(uint8_t ret[16])
{
	char text[40] = "";
	cleanup_fd int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	unsigned n = 0;

	if (fd < 0 || io_read(fd, text, sizeof(text) - 1) < 36)
		return;
	for (const char *p = text; n < 32 && *p; p++)
		if (*p != '-') {
			ret[n / 2] = (uint8_t)(ret[n / 2] << 4 | hex(*p));
			n++;
		}
}

static void fill_header(struct binlog_header *h, const struct binlog_log *log,
			const struct binlog_calib *now)
{
	ssize_t n;

	memcpy(h->magic, BINLOG_MAGIC, 8);
	h->bom = binlog_le32(BINLOG_BOM);
	h->major = binlog_le16(BINLOG_MAJOR);
	h->minor = binlog_le16(BINLOG_MINOR);
	h->len = binlog_le32(sizeof(*h));
	h->machine = binlog_le16((uint16_t)machine());
	h->pointer_size = sizeof(void *);
	h->big_endian = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;
	h->wchar_size = sizeof(wchar_t);
	h->ldbl = (uint8_t)ldbl_kind();
	h->char_signed = (char)-1 < 0;
	h->counter = BINLOG_COUNTER;
	h->shift = BINLOG_SHIFT;
	h->pid = binlog_le32((uint32_t)getpid());
	h->open = (struct binlog_calib){binlog_le64(now->ticks), binlog_le64(now->mono_ns),
					binlog_le64(now->real_ns)};
	read_boot_id(h->boot_id);
	n = readlink("/proc/self/exe", h->program, sizeof(h->program));
	if (n == sizeof(h->program)) {
		/* A long path: its end says more. */
		const char *path = (const char *)(uintptr_t)getauxval(AT_EXECFN);
		size_t len = path ? strlen(path) : 0;
		size_t skip = len > sizeof(h->program) - 1 ? len - (sizeof(h->program) - 1) : 0;

		memset(h->program, 0, sizeof(h->program));
		memcpy(h->program, path ? path + skip : "", len - skip);
	}
	gethostname(h->host, sizeof(h->host) - 1);

	h->next = binlog_le64(sizeof(*h));
	h->next_site = binlog_le32(BINLOG_SITE_FIRST);
	/* So that no stream of an earlier log of this process has the same positions. */
	h->next_stream = binlog_le32(1 + ((log->generation - 1) & 0xfff) * 65536);
	h->writers = binlog_le32(1);
	h->max_len = binlog_le64(log->max_len);
}

/* Out of the way of programs that hand out low numbers themselves. */
static int move_up(int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, 64);

	if (high < 0)
		return fd;
	close(fd);
	return high;
}

static int create(const char *path, const struct binlog_opts *opts)
{
	const int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC;
	int fd = open(path, flags, (mode_t)opts->mode);

	if (fd >= 0 || errno != EEXIST || opts->keep)
		return fd < 0 ? -errno : move_up(fd);
	struct stat st;

	if (lstat(path, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EEXIST;
	if (unlink(path) < 0)
		return -errno;
	fd = open(path, flags, (mode_t)opts->mode);
	return fd < 0 ? -errno : move_up(fd);
}

/* Everything but the gate. On failure the file is left for the caller to see what was wrong. */
static int start(struct binlog_log *log, struct binlog_module *mod, struct err *err,
		 const char *path)
{
	struct binlog_header *h;
	struct binlog_calib now;
	struct stat st;
	int r;

	if (fstat(log->fd, &st) < 0)
		return err_set(err, errno, "stat log %s", path);
	log->dev = st.st_dev;
	log->ino = st.st_ino;
	r = binlog_space_back(log, 0, sizeof(*h));
	if (r < 0)
		return err_set(err, -r, "allocate log %s", path);
	h = mmap(NULL, sizeof(*h), PROT_READ | PROT_WRITE, MAP_SHARED, log->fd, 0);
	if (h == MAP_FAILED)
		return err_set(err, errno, "map log %s", path);
	log->hdr = h;
	binlog_calibrate(&now);
	if (getrandom(h->log_id, sizeof(h->log_id), 0) != sizeof(h->log_id))
		memcpy(h->log_id, &now, sizeof(h->log_id)); /* better than nothing */
	memcpy(&log->tag, h->log_id, 4);
	log->tag = binlog_le32(log->tag);
	fill_header(h, log, &now);
	r = binlog_errno_write(log);
	if (r == 0)
		r = binlog_dict_open(log, mod);
	if (r < 0) {
		munmap(h, sizeof(*h));
		return err_set(err, -r, "write dictionary of log %s", path);
	}
	h->ticks_hz = binlog_le64(binlog_ticks_hz(&now));
	h->check = binlog_le32((uint32_t)binlog_sum(h, 512));
	return 0;
}

int binlog_open_module(const char *path, const struct binlog_opts *opts, struct binlog_module *mod,
		       struct err *err)
{
	const struct binlog_opts standard = BINLOG_OPTS_DEFAULT;
	struct binlog_log *log;
	struct binlog_shield shield;
	int r;

	if (!opts)
		opts = &standard;
	if (!binlog_proc())
		return err_set(err, ENOMEM, "open log %s", path);
	if (__atomic_load_n(&current, __ATOMIC_RELAXED))
		return err_set(err, EBUSY, "open log %s: another log is open", path);
	log = calloc(1, sizeof(*log));
	if (!log)
		return err_set(err, ENOMEM, "open log %s", path);
	log->fd = create(path, opts);
	if (log->fd < 0) {
		r = err_set(err, -log->fd, "create log %s", path);
		free(log);
		return r;
	}
	log->max_len = opts->max_len;

	binlog_shield(&shield);
	binlog_dict_find(mod);
	binlog_lock();
	log->generation = ++generation;
	__atomic_store_n(&binlog_file_level, opts->level, __ATOMIC_RELAXED);
	r = start(log, mod, err, path);
	if (r == 0) {
		__atomic_store_n(&proc->attached, 1, __ATOMIC_RELEASE);
		__atomic_store_n(&current, log, __ATOMIC_SEQ_CST);
		__atomic_store_n(&open_generation, log->generation, __ATOMIC_RELEASE);
		set_gate();
	}
	binlog_unlock();
	binlog_unshield(&shield);
	if (r < 0) {
		close(log->fd);
		free(log);
	}
	return r;
}

void binlog_close(void)
{
	struct binlog_log *log;
	struct binlog_shield shield;
	int users;

	if (!binlog_proc())
		return;
	binlog_shield(&shield);
	binlog_lock();
	log = __atomic_load_n(&current, __ATOMIC_RELAXED);
	if (log) {
		__atomic_store_n(&proc->closing, 1, __ATOMIC_SEQ_CST);
		__atomic_store_n(&open_generation, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&current, NULL, __ATOMIC_SEQ_CST);
		set_gate();
		while ((users = __atomic_load_n(&proc->users, __ATOMIC_SEQ_CST)) != 0)
			futex(&proc->users, FUTEX_WAIT, users);
		__atomic_store_n(&proc->closing, 0, __ATOMIC_SEQ_CST);
		binlog_rings_close(log);
		if (__atomic_exchange_n(&proc->attached, 0, __ATOMIC_ACQ_REL))
			writer_remove(log);
		munmap(log->hdr, sizeof(*log->hdr));
		if (binlog_fd_is_ours(log))
			close(log->fd);
		free(log);
	}
	binlog_unlock();
	binlog_unshield(&shield);
}

int binlog_sync(void)
{
	struct binlog_shield shield;
	struct binlog_log *log;
	int r = -EBADF;

	binlog_shield(&shield);
	log = binlog_enter();
	if (log) {
		r = !binlog_fd_is_ours(log) ? -EBADF : fdatasync(log->fd) < 0 ? -errno : 0;
		binlog_leave();
	}
	binlog_unshield(&shield);
	return r;
}

int binlog_fd(void)
{
	struct binlog_shield shield;
	struct binlog_log *log;
	int fd = -1;

	binlog_shield(&shield);
	log = binlog_enter();
	if (log) {
		fd = log->fd;
		binlog_leave();
	}
	binlog_unshield(&shield);
	return fd;
}

static void read_stats(const struct binlog_header *h, struct binlog_stats *ret)
{
	ret->lost_records = binlog_le64(__atomic_load_n(&h->lost_records, __ATOMIC_RELAXED));
	ret->lost_bytes = binlog_le64(__atomic_load_n(&h->lost_bytes, __ATOMIC_RELAXED));
	ret->file_len = binlog_le64(__atomic_load_n(&h->next, __ATOMIC_RELAXED));
	ret->streams =
		(binlog_le32(__atomic_load_n(&h->next_stream, __ATOMIC_RELAXED)) - 1) & 0xffff;
	ret->sites =
		binlog_le32(__atomic_load_n(&h->next_site, __ATOMIC_RELAXED)) - BINLOG_SITE_FIRST;
}

int binlog_stats(struct binlog_stats *ret)
{
	struct binlog_shield shield;
	struct binlog_log *log;
	int r = -EBADF;

	binlog_shield(&shield);
	log = binlog_enter();
	if (log) {
		read_stats(log->hdr, ret);
		binlog_leave();
		r = 0;
	}
	binlog_unshield(&shield);
	return r;
}
