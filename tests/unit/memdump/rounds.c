/* SPDX-License-Identifier: MIT */
/* timeout: 300 */
/*
 * Dumps in rounds, with maps and parents, of a memory that changes at random: read at random,
 * poured out, and by the second reader, it is always the memory of the last instant.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/memdump/layers.h"

enum { TRIALS = 60, PYTHON_EVERY = 10, DUMPS = 4 };

static uint64_t seed;

static unsigned below(unsigned n)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned)(seed >> 33) % n;
}

/* --- the memory, and what is dumped of it ----------------------------------------------------- */

/* Some pages written, some dropped, some new, in stretches. */
static void live(struct memory *m)
{
	for (unsigned n = below(8); n; n--) {
		unsigned s = below(NSPACES), at = below(NPAGES), len = 1 + below(12);
		bool drop = below(4) == 0;

		for (unsigned p = at; p < at + len && p < NPAGES; p++)
			m->version[s][p] = drop ? 0 : ++m->last;
	}
}

struct dump {
	unsigned stored[NSPACES][NPAGES]; /* version stored last, 0: none */
	uint64_t bytes;			  /* raw, of all rounds */
};

/* All of one space together, spaces in a random order. */
static size_t choose(const struct memory *m, struct dump *d, const unsigned *wanted,
		     struct pick *ret)
{
	unsigned first = below(NSPACES);
	size_t n = 0;

	for (unsigned i = 0; i < NSPACES; i++) {
		unsigned s = (first + i) % NSPACES;

		for (unsigned p = 0; p < NPAGES; p++) {
			if (!m->version[s][p] || !wanted[s * NPAGES + p])
				continue;
			ret[n++] = (struct pick){s, p, m->version[s][p]};
			d->stored[s][p] = m->version[s][p];
		}
	}
	d->bytes += n * MADE_PAGE;
	return n;
}

static void put_map(struct md_writer *w, const struct memory *m, unsigned s)
{
	struct md_extent map[NPAGES];
	struct err err = {0};
	size_t n = 0;

	for (unsigned p = 0; p < NPAGES; p++) {
		if (!m->version[s][p])
			continue;
		if (n && map[n - 1].addr + map[n - 1].len == layer_addr(p) && below(3))
			map[n - 1].len += MADE_PAGE;
		else
			map[n++] = (struct md_extent){layer_addr(p), MADE_PAGE};
	}
	if (md_writer_file_map(w, layer_space[s], map, n, &err))
		fail_msg("%s", err.msg);
	assert_int_equal(md_writer_file_map(w, layer_space[s], map, n, &err), -EEXIST);
}

/* Whether the space, without a map, is what is stored: nothing dropped, nothing left to a parent.
 */
static bool needs_map(const struct memory *m, const struct dump *d, unsigned s)
{
	for (unsigned p = 0; p < NPAGES; p++)
		if (m->version[s][p] != d->stored[s][p])
			return true;
	return false;
}

static void put_maps(struct md_writer *w, const struct memory *m, const struct dump *d)
{
	for (unsigned s = 0; s < NSPACES; s++)
		if (needs_map(m, d, s) || below(2))
			put_map(w, m, s);
}

/*
 * One dump: rounds while the memory lives on, the last of them of all that changed since it was
 * stored. @before is the memory at the parent's instant, whose pages need not be stored again.
 */
static void make_dump(int dirfd, struct memory *m, const struct memory *before, uint64_t parent,
		      struct dump *d)
{
	struct md_file_opts fo = {
		.page_size = MADE_PAGE,
		.no_uring = below(2),
		.direct = below(4) == 0,
		.has_parent = before != NULL,
		.parent_id = parent,
	};
	struct err err = {0};
	struct md_writer *w = md_writer_file_open(dirfd, "mem", &fo, &err);
	unsigned rounds = below(5), round = below(3);
	bool finish = below(2), maps_last = finish && below(2);

	assert_non_null(w);
	for (unsigned r = 0; r <= rounds; r++) {
		unsigned wanted[NSPACES * NPAGES];
		struct pick picks[NSPACES * NPAGES];
		bool last = r == rounds;

		live(m);
		for (unsigned i = 0; i < NSPACES * NPAGES; i++) {
			unsigned was = (&d->stored[0][0])[i];

			if (!was && before)
				was = (&before->version[0][0])[i];
			wanted[i] = ((&m->version[0][0])[i] != was && (last || below(4))) ||
				    below(10) == 0;
		}
		size_t n = choose(m, d, wanted, picks);

		if (last && !maps_last)
			put_maps(w, m, d);
		if (layer_run(w, picks, n, 1 + below(14), round, !last || finish, &err))
			fail_msg("%s", err.msg);
		round += 1 + below(3);
	}
	if (maps_last)
		put_maps(w, m, d);
	if (finish && md_writer_finish(w, &err))
		fail_msg("%s", err.msg);
	w->close(w);
}

/* --- what the readers say ------------------------------------------------------------------- */

static void check_extents(struct md_file *f, const struct memory *m)
{
	for (unsigned s = 0; s < NSPACES; s++) {
		uint64_t at = 0;
		struct md_extent e = {0};

		for (unsigned p = 0; p <= NPAGES; p++) {
			bool is = p < NPAGES && m->version[s][p];
			bool was = p && m->version[s][p - 1];

			if (is && !was) {
				assert_int_equal(md_file_extent(f, layer_space[s], at, &e), 1);
				assert_int_equal(e.addr, layer_addr(p));
			} else if (was && !is) {
				assert_int_equal(e.addr + e.len, layer_addr(p));
				at = e.addr + e.len;
			}
		}
		assert_int_equal(md_file_extent(f, layer_space[s], at, &e), 0);
	}
}

static void check_reads(struct md_file *f, const struct memory *m)
{
	static uint8_t got[NPAGES * MADE_PAGE], want[MADE_PAGE];
	struct err err = {0};

	for (unsigned n = 0; n < 150; n++) {
		unsigned s = below(NSPACES), first = below(NPAGES), p = first;
		unsigned skip = below(MADE_PAGE);
		size_t len = below(2) ? sizeof(got) : 1 + below(20 * MADE_PAGE);
		ssize_t ret =
			md_file_read(f, layer_space[s], layer_addr(first) + skip, got, len, &err);
		size_t at = 0;

		if (ret < 0)
			fail_msg("%s", err.msg);
		while (at < len && p < NPAGES && m->version[s][p]) {
			size_t k = MADE_PAGE - skip < len - at ? MADE_PAGE - skip : len - at;

			layer_page(m->version[s][p++], want);
			assert_true(at + k <= (size_t)ret);
			assert_memory_equal(got + at, want + skip, k);
			at += k;
			skip = 0;
		}
		assert_int_equal(ret, at);
	}
}

struct poured {
	unsigned times[NSPACES][NPAGES];
	const struct memory *m;
	unsigned wrong;
};

static unsigned number_of(uint64_t space)
{
	unsigned s = 0;

	while (s < NSPACES && layer_space[s] != space)
		s++;
	return s;
}

static int pour(void *arg, uint64_t space, uint64_t addr, const void *buf, uint64_t len,
		struct err *err)
{
	static const uint8_t zeros[MADE_PAGE];
	struct poured *p = arg;
	unsigned s = number_of(space);
	uint8_t want[MADE_PAGE];

	for (uint64_t a = 0; a < len; a += MADE_PAGE) {
		uint64_t page = (addr + a - layer_addr(0)) / MADE_PAGE;

		if (s == NSPACES || page >= NPAGES) {
			__atomic_add_fetch(&p->wrong, 1, __ATOMIC_RELAXED);
			continue;
		}
		layer_page(p->m->version[s][page], want);
		if (memcmp(buf ? (const uint8_t *)buf + a : zeros, want, MADE_PAGE))
			__atomic_add_fetch(&p->wrong, 1, __ATOMIC_RELAXED);
		__atomic_add_fetch(&p->times[s][page], 1, __ATOMIC_RELAXED);
	}
	return 0;
}

static void check_fill(int dirfd, const struct memory *m)
{
	struct poured p = {.m = m};
	const struct md_sink sink = {.write = pour, .arg = &p};
	struct md_progress pr = {0};
	const struct md_fill_opts opts = {.threads = 1 + below(4), .progress = &pr};
	struct md_fill_stats st;
	struct err err = {0};
	uint64_t pages = 0;

	if (md_file_fill(dirfd, "mem", &opts, &sink, &st, &err))
		fail_msg("%s", err.msg);
	assert_int_equal(p.wrong, 0);
	for (unsigned s = 0; s < NSPACES; s++) {
		for (unsigned n = 0; n < NPAGES; n++) {
			assert_int_equal(p.times[s][n], m->version[s][n] != 0);
			pages += p.times[s][n];
		}
	}
	assert_int_equal(st.raw_bytes, pages * MADE_PAGE);
	assert_int_equal(pr.raw_bytes, pr.raw_total);
}

static void keep_line(void *arg, const char *line)
{
	snprintf(arg, 512, "%s", line);
}

static void check_verify(int dirfd, const struct memory *m, const struct dump *d, unsigned parents)
{
	char line[512] = "";
	struct err err = {0};
	struct md_verify v;
	uint64_t stale = d->bytes;

	if (md_file_verify(dirfd, "mem", 2, keep_line, line, &v, &err))
		fail_msg("%s", line);
	for (unsigned s = 0; s < NSPACES; s++)
		for (unsigned p = 0; p < NPAGES; p++)
			if (m->version[s][p] && d->stored[s][p])
				stale -= MADE_PAGE;
	assert_int_equal(v.raw_bytes, d->bytes);
	assert_int_equal(v.stale_bytes, stale);
	assert_int_equal(v.parents, parents);
}

/* The blocks of the file alone say the same of what counts. */
static void check_blocks(struct md_file *f, const struct memory *m, const struct dump *d)
{
	uint64_t raw = 0, live_bytes = 0, want = 0;
	struct md_stored b;

	for (size_t i = 0; md_file_block(f, i, &b); i++) {
		raw += b.raw_len;
		live_bytes += b.live_len;
	}
	for (unsigned s = 0; s < NSPACES; s++)
		for (unsigned p = 0; p < NPAGES; p++)
			if (m->version[s][p] && d->stored[s][p])
				want += MADE_PAGE;
	assert_int_equal(raw, d->bytes);
	assert_int_equal(live_bytes, want);
}

static void check_python(const struct made_dir *dir, unsigned n, const struct memory *m)
{
	for (unsigned s = 0; s < NSPACES; s++) {
		uint8_t want[MADE_PAGE], got[MADE_PAGE];
		char cmd[200];
		uint64_t addr;

		snprintf(cmd, sizeof(cmd),
			 "PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 tests/lib/read_stasis.py "
			 "%s/%u/mem %#llx",
			 dir->path, n, (unsigned long long)layer_space[s]);
		FILE *out = popen(cmd, "r");

		assert_non_null(out);
		for (unsigned p = 0; p < NPAGES; p++) {
			if (!m->version[s][p])
				continue;
			layer_page(m->version[s][p], want);
			assert_int_equal(fread(&addr, sizeof(addr), 1, out), 1);
			assert_int_equal(addr, layer_addr(p));
			assert_int_equal(fread(got, sizeof(got), 1, out), 1);
			assert_memory_equal(got, want, MADE_PAGE);
		}
		assert_int_equal(fread(&addr, 1, 1, out), 0);
		assert_int_equal(pclose(out), 0);
	}
}

static bool has_python(void)
{
	return !system("/usr/bin/python3 -c '' 2>/dev/null");
}

/* --- the trials ----------------------------------------------------------------------------- */

static void test_model(void **state)
{
	bool python = has_python();

	for (unsigned t = 0; t < TRIALS; t++) {
		struct made_dir dir = made_dir();
		struct memory m = {0}, before = {0};
		unsigned dumps = 1 + below(DUMPS);
		uint64_t parent = 0;

		for (unsigned n = 0; n < dumps; n++) {
			int fd = layer_dir(&dir, n);
			struct dump d = {0};
			struct err err = {0};
			struct md_file *f;

			make_dump(fd, &m, n ? &before : NULL, parent, &d);
			f = md_file_open(fd, "mem", 0, &err);
			if (!f)
				fail_msg("%s", err.msg);
			check_extents(f, &m);
			check_reads(f, &m);
			check_blocks(f, &m, &d);
			parent = md_file_id(f);
			md_file_close(f);
			check_fill(fd, &m);
			check_verify(fd, &m, &d, n);
			if (python && t % PYTHON_EVERY == 0)
				check_python(&dir, n, &m);
			before = m;
			close(fd);
		}
		layer_remove(&dir, dumps);
	}
	if (!python)
		print_message("without the second reader: there is no python3\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_model)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
