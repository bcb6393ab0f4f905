/* SPDX-License-Identifier: MIT */
/* Reports on the state of a log. */
#include <inttypes.h>

#include "tools/bindecode/check.h"

struct item {
	const char *text;
	uint64_t n;
};

enum check_verdict check_verdict(const struct dec_log *log)
{
	const struct dec_counts *c = dec_log_counts(log);
	bool lost = c->lost_records || c->losses;

	if (c->bad_header || c->skipped_bytes || c->bad_chunks || c->bad_dicts || c->bad_sites ||
	    c->doubled_sites || c->unknown_sites || c->cut_bytes || c->missing_chunks ||
	    (!lost &&
	     (c->missing_bytes || c->empty_bytes || c->lost_streams || c->broken_fragments)))
		return CHECK_DAMAGED;
	return lost ? CHECK_LOST : CHECK_SOUND;
}

static void put_items(struct dec_buf *b, const struct item *items, unsigned n, bool zeros)
{
	for (unsigned i = 0; i < n; i++)
		if (items[i].n || zeros)
			dec_buf_printf(b, "  %12" PRIu64 "  %s\n", items[i].n, items[i].text);
}

#define COUNT(a) ((unsigned)(sizeof(a) / sizeof(*(a))))

static void put_damage(const struct dec_counts *c, struct dec_buf *b)
{
	const struct item items[] = {
		{"headers damaged", c->bad_header},
		{"bytes skipped: neither block nor record", c->skipped_bytes},
		{"chunks whose sum is wrong, without a copy", c->bad_chunks},
		{"dictionaries not readable", c->bad_dicts},
		{"sites whose format does not fit their arguments", c->bad_sites},
		{"sites that two dictionaries claim", c->doubled_sites},
		{"calls of sites that are in no dictionary", c->unknown_sites},
		{"bytes of threads' records that are nowhere", c->missing_bytes},
		{"long records of which a part is missing", c->broken_fragments},
		{"bytes cut off the end of the file", c->cut_bytes},
		{"bytes of the file that are empty where blocks were", c->empty_bytes},
		{"streams of which nothing is there", c->lost_streams},
		{"chunks that were written and are not there", c->missing_chunks},
	};

	put_items(b, items, COUNT(items), false);
}

static void put_notes(const struct dec_log *log, struct dec_buf *b)
{
	const struct dec_note *n;

	for (unsigned i = 0; (n = dec_log_note(log, i)); i++) {
		dec_buf_printf(b, "  offset %" PRIu64, n->off);
		if (n->len)
			dec_buf_printf(b, ", %" PRIu64 " bytes", n->len);
		dec_buf_printf(b, ": %s\n", n->text);
	}
}

static const char *machine_name(unsigned machine)
{
	switch (machine) {
	case 62:
		return "x86-64";
	case 183:
		return "aarch64";
	case 21:
		return "ppc64";
	case 22:
		return "s390";
	default:
		return "another CPU";
	}
}

void check_put(const struct dec_log *log, struct dec_buf *b)
{
	static const char *const verdicts[] = {"sound", "sound, but records were lost", "damaged"};
	const struct binlog_header *h = dec_log_header(log);
	const struct dec_counts *c = dec_log_counts(log);
	const struct item contents[] = {
		{"records", c->records}, {"bytes of records", c->bytes}, {"blocks", c->blocks},
		{"chunks", c->chunks},	 {"rings of threads", c->rings}, {"call sites", c->sites},
	};
	const struct item harmless[] = {
		{"records lost, by the writer's own count", c->lost_records},
		{"bytes of lost records", c->lost_bytes},
		{"places where the writer says that it lost some", c->losses},
		{"calls that never ended", c->pending},
		{"bytes of such calls", c->torn_bytes},
		{"chunks cut short, read from the ring instead", c->torn_chunks},
		{"bytes handed out that were not filled", c->unfilled_bytes},
		{"streams that were not begun", c->unbegun_streams},
		{"blocks and records of a later version", c->later_kinds},
		{"calls with a width, precision or text beyond belief, or a wide string without text",
		 c->bad_values},
	};

	dec_buf_printf(b, "%s: format %u.%u, %s, %s-endian, pid %u, program ", dec_log_name(log),
		       h->major, h->minor, machine_name(h->machine),
		       h->big_endian ? "big" : "little", h->pid);
	dec_buf_printf(b, "%.64s on %.64s, %s\n", h->program, h->host,
		       h->closed == 1 ? "closed" : "not closed: live, or its writer died");
	dec_buf_str(b, "  build-id      ");
	for (unsigned i = 0; i < h->build_id_len && i < sizeof(h->build_id); i++)
		dec_buf_printf(b, "%02x", h->build_id[i]);
	dec_buf_chr(b, '\n');
	put_items(b, contents, COUNT(contents), true);
	put_items(b, harmless, COUNT(harmless), false);
	put_damage(c, b);
	put_notes(log, b);
	dec_buf_printf(b, "%s: %s\n", dec_log_name(log), verdicts[check_verdict(log)]);
}

void check_put_brief(const struct dec_log *log, struct dec_buf *b)
{
	const struct dec_counts *c = dec_log_counts(log);
	enum check_verdict v = check_verdict(log);

	if (v == CHECK_DAMAGED) {
		dec_buf_printf(b, "bindecode: %s is damaged:\n", dec_log_name(log));
		put_damage(c, b);
		put_notes(log, b);
	}
	if (c->lost_records)
		dec_buf_printf(b,
			       "bindecode: %s: the writer lost %" PRIu64 " records (%" PRIu64
			       " bytes)\n",
			       dec_log_name(log), c->lost_records, c->lost_bytes);
}
