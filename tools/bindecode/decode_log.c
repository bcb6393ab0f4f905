/* SPDX-License-Identifier: MIT */
/* Opens a log file and hands out the records of all its streams in the order of time. */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "tools/bindecode/decode_log.h"
#include "tools/bindecode/decode_sum.h"

/* A stream that was not opened yet stands this much before its first EPOCH. */
#define SLACK_TICKS (1ULL << 20)

void dec_log_add_note(struct dec_log *log, uint64_t off, uint64_t len, const char *fmt, ...)
{
	struct dec_note *n;
	va_list ap;

	if (!log->notes)
		log->notes = calloc(DEC_NOTES_MAX, sizeof(*log->notes));
	if (!log->notes || log->nnotes == DEC_NOTES_MAX)
		return;
	n = &log->notes[log->nnotes++];
	n->off = off;
	n->len = len;
	va_start(ap, fmt);
	vsnprintf(n->text, sizeof(n->text), fmt, ap);
	va_end(ap);
}

/* --- header ----------------------------------------------------------------------------------- */

static void swap_calib(struct binlog_calib *c)
{
	c->ticks = binlog_le64(c->ticks);
	c->mono_ns = binlog_le64(c->mono_ns);
	c->real_ns = binlog_le64(c->real_ns);
}

static void swap_file_header(struct binlog_header *h)
{
	h->bom = binlog_le32(h->bom);
	h->major = binlog_le16(h->major);
	h->minor = binlog_le16(h->minor);
	h->len = binlog_le32(h->len);
	h->check = binlog_le32(h->check);
	h->machine = binlog_le16(h->machine);
	h->pid = binlog_le32(h->pid);
	h->ticks_hz = binlog_le64(h->ticks_hz);
	swap_calib(&h->open);
	h->next = binlog_le64(h->next);
	h->preallocated = binlog_le64(h->preallocated);
	h->next_site = binlog_le32(h->next_site);
	h->next_stream = binlog_le32(h->next_stream);
	h->writers = binlog_le32(h->writers);
	h->closed = binlog_le32(h->closed);
	h->lost_records = binlog_le64(h->lost_records);
	h->lost_bytes = binlog_le64(h->lost_bytes);
	h->max_len = binlog_le64(h->max_len);
	h->chunks = h->minor ? binlog_le64(h->chunks) : 0;
	swap_calib(&h->close);
}

/* The tag that the first block of the file has, for a header that is damaged. */
static uint32_t guess_tag(const struct dec_log *log)
{
	uint8_t raw[sizeof(struct binlog_block)];
	uint32_t word;

	for (uint64_t off = BINLOG_ALIGN; off < log->src.len; off += BINLOG_ALIGN) {
		if (dec_source_read(&log->src, off, raw, sizeof(raw)) != (ssize_t)sizeof(raw))
			break;
		memcpy(&word, raw, sizeof(word));
		if (binlog_le32(word) != BINLOG_BLOCK_MAGIC)
			continue;
		memcpy(&word, raw + 12, sizeof(word));
		if ((uint32_t)dec_sum_without(raw, sizeof(raw), 12) != binlog_le32(word))
			continue;
		memcpy(&word, raw + 8, sizeof(word));
		return binlog_le32(word);
	}
	return log->tag;
}

static int bad_file(const struct dec_log *log, struct err *err, int errnum, const char *why)
{
	return err_fail(err, errnum, errnum == EOPNOTSUPP ? ERR_UNSUPPORTED : ERR_IMAGE, "%s: %s",
			log->name, why);
}

static int read_header(struct dec_log *log, struct err *err)
{
	struct binlog_header *h = &log->header;
	ssize_t n = dec_source_read(&log->src, 0, h, sizeof(*h));
	bool forced = log->flags & DEC_ADD_FORCE;
	uint32_t check, tag;

	if (n < 0)
		return err_set(err, (int)-n, "read %s", log->name);
	if (n < 8 || memcmp(h->magic, BINLOG_MAGIC, sizeof(h->magic)))
		return bad_file(log, err, EBADMSG, "not a binary log");
	if (n != (ssize_t)sizeof(*h))
		return bad_file(log, err, EBADMSG, "a binary log cut within its header");
	check = (uint32_t)dec_sum_without(h, 512, offsetof(struct binlog_header, check));
	memcpy(&tag, h->log_id, sizeof(tag));
	log->tag = binlog_le32(tag);
	swap_file_header(h);
	if (check == h->check) {
		forced = false;
	} else if (!forced) {
		bad_file(log, err, EBADMSG, "the header of the log is damaged");
		err_hint(err, "--force reads what can be read");
		return -EBADMSG;
	} else {
		dec_log_add_note(log, 0, 512, "the header of the log is damaged");
		log->counts.bad_header = 1;
		log->tag = guess_tag(log);
	}
	if (!forced && (h->bom != BINLOG_BOM || h->len != sizeof(*h)))
		return bad_file(log, err, EBADMSG, "not a binary log of this format");
	if (!forced && (h->major != BINLOG_MAJOR || h->minor > BINLOG_MINOR)) {
		err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
			 "%s: format %u.%u is later than %u.%u, which this program knows",
			 log->name, h->major, h->minor, BINLOG_MAJOR, BINLOG_MINOR);
		err_hint(err, "use the bindecode of the program that wrote it, or a newer one");
		return -EOPNOTSUPP;
	}
	if (forced && h->ldbl - 1u > 3u)
		h->ldbl = BINLOG_LDBL_X87;
	log->world.ldbl = h->ldbl;
	log->world.long_bits = h->pointer_size == 4 ? 32 : 64;
	return 0;
}

int dec_log_reread(struct dec_log *log, struct err *err)
{
	struct binlog_header h;
	int r = dec_source_refresh(&log->src);
	ssize_t n = dec_source_read(&log->src, 0, &h, sizeof(h));

	if (r)
		return err_set(err, -r, "stat %s", log->name);
	if (n != (ssize_t)sizeof(h))
		return n < 0 ? err_set(err, (int)-n, "read %s", log->name) : 0;
	swap_file_header(&h);
	log->header.next = h.next;
	log->header.writers = h.writers;
	log->header.closed = h.closed;
	log->header.lost_records = h.lost_records;
	log->header.lost_bytes = h.lost_bytes;
	log->header.close = h.close;
	log->counts.lost_records = h.lost_records;
	log->counts.lost_bytes = h.lost_bytes;
	return 0;
}

/* --- heap of streams -------------------------------------------------------------------------- */

static bool is_before(const struct dec_stream *a, const struct dec_stream *b)
{
	return a->key != b->key ? a->key < b->key : a->number < b->number;
}

static void sift_down(struct dec_log *log, size_t i)
{
	struct dec_stream **h = log->heap;
	struct dec_stream *s = h[i];

	for (;;) {
		size_t kid = 2 * i + 1;

		if (kid >= log->nheap)
			break;
		if (kid + 1 < log->nheap && is_before(h[kid + 1], h[kid]))
			kid++;
		if (!is_before(h[kid], s))
			break;
		h[i] = h[kid];
		i = kid;
	}
	h[i] = s;
}

static void push(struct dec_log *log, struct dec_stream *s)
{
	size_t i = log->nheap++;

	for (; i && is_before(s, log->heap[(i - 1) / 2]); i = (i - 1) / 2)
		log->heap[i] = log->heap[(i - 1) / 2];
	log->heap[i] = s;
	s->in_heap = true;
}

static void pop(struct dec_log *log)
{
	log->heap[0]->in_heap = false;
	log->heap[0] = log->heap[--log->nheap];
	if (log->nheap)
		sift_down(log, 0);
}

/* Enters every stream by the time of its first EPOCH, without reading further. */
static void push_all(struct dec_log *log)
{
	for (size_t i = 0; i < log->nstreams; i++) {
		struct dec_stream *s = log->streams[i];

		if (s->in_heap || s->primed)
			continue;
		if (log->flags & DEC_ADD_TAIL && s->nsegs > 2) {
			s->seg = s->nsegs - 2;
			s->want = s->segs[s->seg].pos;
		}
		s->key = s->seg < s->nsegs ? s->segs[s->seg].epoch.ticks : 0;
		s->key = s->key > SLACK_TICKS ? s->key - SLACK_TICKS : 0;
		push(log, s);
	}
}

/* Moves the root on to its next record. */
static int advance(struct dec_log *log, struct err *err)
{
	struct dec_stream *s = log->heap[0];
	int r;

	if (!s->primed) {
		s->primed = true;
		s->key = 0;
	}
	r = dec_stream_next(s, err);
	if (r < 0)
		return r;
	s->has_head = r == 1;
	if (r == 1)
		sift_down(log, 0);
	else
		pop(log);
	return 0;
}

int dec_log_next(struct dec_log *log, struct dec_record *ret, struct err *err)
{
	struct dec_stream *s;
	int r;

	if (log->taken) {
		log->taken->has_head = false;
		log->taken = NULL;
	}
	for (;;) {
		if (!log->nheap)
			return 0;
		s = log->heap[0];
		if (s->has_head)
			break;
		r = advance(log, err);
		if (r)
			return r;
	}
	log->taken = s;
	*ret = s->head;
	ret->log = log;
	ret->stream = s->number;
	ret->pid = s->pid;
	ret->tid = s->tid;
	ret->comm = s->comm;
	ret->ticks = s->ticks;
	if (ret->event == DEC_CALL) {
		log->counts.records++;
		log->counts.bytes += ret->len;
	}
	return 1;
}

int64_t dec_log_ns(struct dec_log *log, uint64_t ticks)
{
	return log->by_real ? dec_time_real(&log->time, ticks) : dec_time_mono(&log->time, ticks);
}

/* --- life ------------------------------------------------------------------------------------- */

int dec_log_open(struct dec_log **ret, const char *name, struct dec_source src, unsigned flags,
		 struct err *err)
{
	struct dec_log *log = calloc(1, sizeof(*log));
	int r;

	if (!log) {
		dec_source_close(&src);
		return err_set(err, ENOMEM, "open %s", name);
	}
	log->src = src;
	log->flags = flags;
	log->walk_from = BINLOG_ALIGN;
	log->name = strdup(name);
	r = log->name ? 0 : err_set(err, ENOMEM, "open %s", name);
	r = r ? r : read_header(log, err);
	r = r ? r : dec_index_walk(log, err);
	r = r ? r : dec_index_time(log, err);
	if (r) {
		dec_log_close(log);
		return r;
	}
	dec_log_account(log);
	push_all(log);
	*ret = log;
	return 0;
}

void dec_log_close(struct dec_log *log)
{
	if (!log)
		return;
	for (size_t i = 0; i < log->nstreams; i++)
		dec_stream_free(log->streams[i]);
	for (uint32_t i = 0; i < log->nsites; i++) {
		if (log->sites[i])
			dec_site_free(log->sites[i]);
		free(log->sites[i]);
	}
	for (uint32_t i = 0; i < log->world.nerrnos; i++)
		free(log->world.errnos[i]);
	free(log->world.errnos);
	free(log->streams);
	free(log->heap);
	free(log->sites);
	free(log->dicts);
	free(log->rings);
	free(log->gaps);
	free(log->notes);
	free(log->name);
	dec_time_deinit(&log->time);
	dec_source_close(&log->src);
	free(log);
}

int dec_log_refresh(struct dec_log *log, struct err *err)
{
	int r;

	log->fresh = false;
	r = dec_index_walk(log, err);
	for (size_t i = 0; !r && i < log->nstreams; i++) {
		struct dec_stream *s = log->streams[i];

		if (s->in_heap || !s->primed)
			continue;
		r = dec_stream_reload(s, err);
		if (r)
			break;
		r = dec_stream_next(s, err);
		if (r == 1) {
			s->has_head = true;
			log->fresh = true;
			push(log, s);
			r = 0;
		}
	}
	if (!r && log->fresh)
		r = dec_index_time(log, err);
	push_all(log);
	return r ? r : log->fresh;
}

/* Whether @pid runs on this machine, as far as can be seen. */
static bool is_alive(uint32_t pid)
{
	return pid && pid <= INT32_MAX && (!kill((pid_t)pid, 0) || errno == EPERM);
}

/* The log was written since this machine was started; true, too, if that cannot be told. */
static bool is_ours(const struct binlog_header *h)
{
	cleanup_fd int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	static const uint8_t unknown[16];
	char text[37] = "";
	uint8_t id[16];
	const char *p = text;

	if (fd < 0 || io_read(fd, text, 36) != 36 || !memcmp(h->boot_id, unknown, 16))
		return true;
	for (int i = 0; i < 16; i++, p += 2) {
		unsigned v;

		p += *p == '-';
		if (sscanf(p, "%2x", &v) != 1)
			return true;
		id[i] = (uint8_t)v;
	}
	return !memcmp(id, h->boot_id, 16);
}

bool dec_log_ended(const struct dec_log *log)
{
	if (log->header.closed == 1 || log->src.fd < 0 || !is_ours(&log->header))
		return true;
	if (is_alive(log->header.pid))
		return false;
	for (size_t i = 0; i < log->nstreams; i++)
		if (is_alive(log->streams[i]->pid))
			return false;
	for (uint32_t i = 0; i < log->nrings; i++) {
		struct binlog_block h;

		if (dec_index_header((struct dec_log *)log, log->rings[i], &h) &&
		    is_alive(h.ring.pid))
			return false;
	}
	return true;
}
