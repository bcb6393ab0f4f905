/* SPDX-License-Identifier: MIT */
/* A made log (mklog.h) and what the decoder says of it. */
#ifndef TESTS_UNIT_BINDECODE_DECODED_H
#define TESTS_UNIT_BINDECODE_DECODED_H

#include "tests/unit/bindecode/mklog.h"
#include "tools/bindecode/decode.h"

static const uint8_t one_int[] = {BINLOG_T_I32};

/* Site 16: "x=%d\n", an error; 17: "s=%s\n", debug. */
static inline void add_dict(struct mk *m)
{
	mk_dict_begin(m, 16);
	mk_site(m, BINLOG_ERR, "src/a.c", 7, "main", "x=%d\n", 1, one_int);
	mk_site(m, BINLOG_DEBUG, "b.c", 9, "other", "s=%s\n", 1, (uint8_t[]){BINLOG_T_STR});
	mk_dict_end(m);
}

/* All text of the log, each record's, in order; the caller frees. @ret_d may be NULL. */
static inline char *decode_flags(const struct mk *m, unsigned flags, struct decode **ret_d)
{
	struct err err = {0};
	struct decode *d;
	struct dec_record rec;
	struct dec_buf b;
	int r;

	dec_buf_init(&b);
	assert_int_equal(decode_new(&d, &err), 0);
	if (decode_add_mem(d, "log", m->p, m->len, flags, &err))
		fail_msg("%s", err.msg);
	while ((r = decode_next(d, &rec, &err)) > 0) {
		if (rec.event == DEC_CALL)
			decode_text(&rec, &b);
		else
			dec_buf_printf(&b, "lost %d\n", (int)rec.loss.records);
	}
	assert_int_equal(r, 0);
	dec_buf_chr(&b, '\0');
	if (ret_d)
		*ret_d = d;
	else
		decode_free(d);
	return b.p;
}

static inline void expect(const struct mk *m, const char *want, struct dec_counts *ret)
{
	struct decode *d;
	char *got = decode_flags(m, 0, &d);

	assert_string_equal(got, want);
	free(got);
	*ret = *dec_log_counts(decode_log(d, 0));
	decode_free(d);
}

/* How many records there are. */
static inline unsigned count(const struct mk *m, struct dec_counts *ret)
{
	struct decode *d;

	free(decode_flags(m, 0, &d));
	*ret = *dec_log_counts(decode_log(d, 0));
	decode_free(d);
	return (unsigned)ret->records;
}

static inline int open_fails(const void *p, size_t len, struct err *err)
{
	struct decode *d;
	int r;

	memset(err, 0, sizeof(*err));
	assert_int_equal(decode_new(&d, err), 0);
	r = decode_add_mem(d, "log", p, len, 0, err);
	decode_free(d);
	return r;
}

#endif
