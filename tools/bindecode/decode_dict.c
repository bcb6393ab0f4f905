/* SPDX-License-Identifier: MIT */
/* Reads the dictionaries of a log: call sites and errno texts. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "tools/bindecode/decode_log.h"
#include "tools/bindecode/decode_sum.h"

enum { DICT_MAX = 256 << 20, ERRNO_MAX = 65536 };

static int bad_dict(struct dec_log *log, uint64_t off, uint64_t len, const char *why)
{
	log->counts.bad_dicts++;
	dec_log_add_note(log, off, len, "%s", why);
	return 0;
}

/* The payload of a block under its sum; NULL in @ret: it is damaged, which is noted. */
static int read_payload(struct dec_log *log, uint64_t off, const struct binlog_block *h,
			uint8_t **ret, struct err *err)
{
	uint64_t used = h->dict.used;
	uint8_t *p;
	ssize_t n;

	*ret = NULL;
	if (used > h->len - sizeof(*h) || used > DICT_MAX)
		return bad_dict(log, off, h->len, "a dictionary longer than its block");
	p = malloc(used ? used : 1);
	if (!p)
		return err_set(err, ENOMEM, "dictionary of %s", log->name);
	n = dec_source_read(&log->src, off + sizeof(*h), p, used);
	if (n < 0) {
		free(p);
		return err_set(err, (int)-n, "read %s at %" PRIu64, log->name, off);
	}
	if ((uint64_t)n != used || dec_sum(p, used) != h->dict.sum) {
		free(p);
		return bad_dict(log, off, h->len, "a dictionary whose sum is wrong");
	}
	*ret = p;
	return 0;
}

static void hex(char *to, size_t room, const uint8_t *p, size_t n)
{
	*to = '\0';
	for (size_t i = 0; i < n && 2 * i + 3 <= room; i++)
		snprintf(to + 2 * i, 3, "%02x", p[i]);
}

/* The main dictionary must be that of the program that opened the log. */
static int check_owner(const struct dec_log *log, const struct binlog_block *h, const uint8_t *id,
		       uint32_t id_len, struct err *err)
{
	const struct binlog_header *head = &log->header;
	uint8_t sum[8];
	char has[65], want[65];

	if (!(h->flags & BINLOG_DICT_MAIN))
		return 0;
	if (head->build_id_kind == 2) {
		bytes_put_u64(sum, h->dict.sum);
		id = sum;
		id_len = sizeof(sum);
	}
	if (id_len == head->build_id_len && id_len <= sizeof(head->build_id) &&
	    !memcmp(id, head->build_id, id_len))
		return 0;
	hex(has, sizeof(has), id, id_len);
	hex(want, sizeof(want), head->build_id,
	    head->build_id_len <= sizeof(head->build_id) ? head->build_id_len : 0);
	err_fail(err, EBADMSG, ERR_IMAGE,
		 "%s: the dictionary in it is not that of the program that wrote it: build-id %s, "
		 "expected %s",
		 log->name, *has ? has : "none", *want ? want : "none");
	err_hint(err, "the file was put together from two logs, or damaged on purpose");
	return -EBADMSG;
}

static int add_site(struct dec_log *log, uint32_t id, const struct dec_site *s)
{
	if (id >= log->nsites) {
		uint32_t n = log->nsites ? log->nsites : 256;
		struct dec_site **sites;

		while (n <= id)
			n *= 2;
		sites = realloc(log->sites, n * sizeof(*sites));
		if (!sites)
			return -ENOMEM;
		memset(sites + log->nsites, 0, (n - log->nsites) * sizeof(*sites));
		log->sites = sites;
		log->nsites = n;
	}
	if (log->sites[id])
		return -EEXIST;
	log->sites[id] = malloc(sizeof(*s));
	if (!log->sites[id])
		return -ENOMEM;
	*log->sites[id] = *s;
	log->counts.sites++;
	return 0;
}

/* One entry; 0, -EBADMSG, -ENOMEM. */
static int read_site(struct dec_log *log, uint32_t id, struct bytes *b, uint64_t off)
{
	uint32_t len = bytes_u32(b);
	const uint8_t *p = len >= 4 ? bytes_take(b, len - 4) : NULL;
	struct bytes entry = bytes_of(p, p ? len - 4 : 0);
	struct dec_site s;
	int r;

	if (!p)
		return -EBADMSG;
	r = dec_site_make(&s, &entry, id, &log->world);
	if (r == -EBADMSG) { /* a type of a later version: that site alone is lost */
		log->counts.bad_sites++;
		dec_log_add_note(log, off, 0, "site %u has no readable entry", id);
		return 0;
	}
	if (r)
		return r;
	if (s.fault) {
		log->counts.bad_sites++;
		dec_log_add_note(log, off, 0, "site %u, %.40s:%u: %s", id, s.file, s.line, s.fault);
	}
	r = add_site(log, id, &s);
	if (r)
		dec_site_free(&s);
	if (r == -EEXIST) {
		log->counts.doubled_sites++;
		dec_log_add_note(log, off, 0, "site %u has a second entry, not taken", id);
	}
	return r == -EEXIST ? 0 : r;
}

int dec_dict_read(struct dec_log *log, uint64_t off, const struct binlog_block *h, struct err *err)
{
	cleanup_free uint8_t *p = NULL;
	struct bytes b;
	const uint8_t *id;
	uint32_t id_len;
	int r = read_payload(log, off, h, &p, err);

	if (r || !p)
		return r;
	b = bytes_of(p, h->dict.used);
	id_len = bytes_u32(&b);
	id = bytes_take(&b, id_len);
	bytes_take(&b, bytes_u32(&b)); /* name of the module */
	if (!bytes_ok(&b) || h->dict.base < BINLOG_SITE_FIRST ||
	    (uint64_t)h->dict.base + h->dict.count > BINLOG_SITE_MAX + 1ULL)
		return bad_dict(log, off, h->len, "a dictionary with a damaged head");
	r = check_owner(log, h, id, id_len, err);
	for (uint32_t i = 0; !r && i < h->dict.count; i++) {
		r = read_site(log, h->dict.base + i, &b, off);
		if (r == -EBADMSG)
			return bad_dict(log, off, h->len, "a dictionary with a damaged entry");
		if (r == -ENOMEM)
			return err_set(err, ENOMEM, "dictionary of %s", log->name);
	}
	return r;
}

static int set_errno(struct dec_world *w, uint32_t number, const char *text, uint32_t len)
{
	if (number >= w->nerrnos) {
		uint32_t n = number + 64;
		char **errnos = realloc(w->errnos, n * sizeof(*errnos));

		if (!errnos)
			return -ENOMEM;
		memset(errnos + w->nerrnos, 0, (n - w->nerrnos) * sizeof(*errnos));
		w->errnos = errnos;
		w->nerrnos = n;
	}
	if (w->errnos[number])
		return 0;
	w->errnos[number] = strndup(text, len);
	return w->errnos[number] ? 0 : -ENOMEM;
}

int dec_errno_read(struct dec_log *log, uint64_t off, const struct binlog_block *h, struct err *err)
{
	cleanup_free uint8_t *p = NULL;
	struct bytes b;
	int r = read_payload(log, off, h, &p, err);

	if (r || !p)
		return r;
	b = bytes_of(p, h->dict.used);
	for (uint32_t i = 0; i < h->dict.count; i++) {
		uint32_t number = bytes_u32(&b);
		uint32_t len = bytes_u32(&b);
		const char *text = bytes_take(&b, len);

		if (!text || number >= ERRNO_MAX)
			return bad_dict(log, off, h->len, "an errno table with a damaged entry");
		if (set_errno(&log->world, number, text, len))
			return err_set(err, ENOMEM, "errno texts of %s", log->name);
	}
	return 0;
}
