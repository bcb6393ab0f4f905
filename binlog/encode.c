/* SPDX-License-Identifier: MIT */
/*
 * The general encoder: every call the inline code does not do itself.
 *
 * These are calls of sites that have no number yet, formats that are no literals, strings with a
 * precision, wide characters, %m, levels that are no constants, long records, and every call that
 * the text sink wants to see.
 */
#include "binlog/internal.h" /* first */

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <wchar.h>

/* A long record is cut into pieces of this many bytes. */
#define PIECE ((uint32_t)(BINLOG_RECORD_MAX - 8 - sizeof(struct binlog_r_fragment)))

struct call {
	const char *fmt;
	const char *file;
	const char *func;
	unsigned line;
	int level;
	unsigned number; /* of the site; 0: store inline */
	uint8_t flags;	 /* BINLOG_S_*: what stands before the arguments */
	int errnum;
	unsigned nargs;
	const struct binlog_arg *args; /* planned */
	struct value values[BINLOG_PP_MAX];
	/* By measure(): */
	uint8_t types[BINLOG_PP_MAX];
	uint32_t slots[BINLOG_PP_MAX];
	uint64_t len; /* of the payload */
};

static void read_values(struct value *v, const struct binlog_arg *args, unsigned nargs, va_list ap)
{
	for (unsigned i = 0; i < nargs; i++) {
		switch (args[i].type & ~BINLOG_T_LITERAL) {
		case BINLOG_T_I32:
			v[i].word = (uint64_t)(int64_t)va_arg(ap, int);
			break;
		case BINLOG_T_U32:
			v[i].word = va_arg(ap, unsigned);
			break;
		case BINLOG_T_F64:
			v[i].f64 = va_arg(ap, double);
			break;
		case BINLOG_T_LDBL:
			v[i].ldbl = va_arg(ap, long double);
			break;
		case BINLOG_T_I128:
		case BINLOG_T_U128:
			v[i].wide = va_arg(ap, binlog_u128);
			break;
		case BINLOG_T_STR:
		case BINLOG_T_PTR:
			v[i].word = (uintptr_t)va_arg(ap, void *);
			break;
		default:
			v[i].word = va_arg(ap, uint64_t);
			break;
		}
	}
}

/* Bytes of a wide string, whole characters within @max; -1: it has no multibyte form. */
static int64_t wide_bytes(const wchar_t *s, uint64_t max, char *ret)
{
	mbstate_t state;
	char buf[MB_LEN_MAX];
	uint64_t len = 0;

	memset(&state, 0, sizeof(state));
	for (; len < max && *s; s++) {
		size_t n = wcrtomb(buf, *s, &state);

		if (n == (size_t)-1)
			return -1;
		if (n > max - len)
			break;
		if (ret)
			memcpy(ret + len, buf, n);
		len += n;
	}
	return (int64_t)len;
}

static uint64_t precision(const struct call *c, const struct binlog_arg *a)
{
	int prec = a->star >= 0 && (unsigned)a->star < c->nargs ? (int)c->values[a->star].word
								: a->prec;

	return prec < 0 ? BINLOG_STR_SPECIAL - 1 : (uint64_t)prec;
}

static uint32_t string_slot(const struct call *c, unsigned i)
{
	const struct binlog_arg *a = &c->args[i];
	const char *s = (const char *)(uintptr_t)c->values[i].word;

	if (a->use == BINLOG_USE_VALUE || !s)
		return binlog_slot(s);
	return (uint32_t)strnlen(s, precision(c, a));
}

static uint32_t wide_slot(const struct call *c, unsigned i)
{
	const struct binlog_arg *a = &c->args[i];
	wchar_t one[2] = {(wchar_t)c->values[i].word, 0};
	int64_t len;

	if (a->use == BINLOG_USE_WCHAR) {
		len = one[0] ? wide_bytes(one, MB_LEN_MAX, NULL) : 1;
	} else {
		const wchar_t *s = (const wchar_t *)(uintptr_t)c->values[i].word;

		if (!s)
			return BINLOG_STR_NULL;
		len = wide_bytes(s, precision(c, a), NULL);
	}
	return len < 0 ? BINLOG_STR_BAD : (uint32_t)len;
}

/* Types, slots and length; nothing of the caller's is looked at afterwards but text. */
static void measure(struct call *c)
{
	c->len = 0;
	if (!c->number)
		c->len += sizeof(struct binlog_r_inline) + c->nargs + strlen(c->fmt) +
			  strlen(c->file) + strlen(c->func);
	c->len += c->flags & BINLOG_S_LEVEL ? 4 : 0;
	c->len += c->flags & BINLOG_S_ERRNO ? 4 : 0;
	for (unsigned i = 0; i < c->nargs; i++) {
		c->types[i] = binlog_stored_type(&c->args[i]);
		if (!c->number)
			c->types[i] &= (uint8_t)~BINLOG_T_LITERAL;
		c->len += (uint64_t)BINLOG_FIELD_LEN(c->types[i]);
		if (c->types[i] == BINLOG_T_STR)
			c->slots[i] = string_slot(c, i);
		else if (c->types[i] == BINLOG_T_WIDE)
			c->slots[i] = wide_slot(c, i);
		else
			continue;
		c->len += binlog_slot_len(c->slots[i]);
	}
}

static char *put_inline_entry(char *p, const struct call *c)
{
	size_t fmt_len = strlen(c->fmt);
	size_t file_len = strlen(c->file);
	size_t func_len = strlen(c->func);
	struct binlog_r_inline r = {
		.line = binlog_le32(c->line),
		.level = (uint8_t)c->level,
		.flags = c->flags,
		.nargs = binlog_le16((uint16_t)c->nargs),
		.fmt_len = binlog_le32((uint32_t)fmt_len),
		.file_len = binlog_le32((uint32_t)file_len),
		.func_len = binlog_le32((uint32_t)func_len),
	};

	p = (char *)memcpy(p, &r, sizeof(r)) + sizeof(r);
	p = (char *)memcpy(p, c->types, c->nargs) + c->nargs;
	p = (char *)memcpy(p, c->fmt, fmt_len) + fmt_len;
	p = (char *)memcpy(p, c->file, file_len) + file_len;
	return (char *)memcpy(p, c->func, func_len) + func_len;
}

static char *put_field(char *p, const struct call *c, unsigned i)
{
	const struct value *v = &c->values[i];

	switch (c->types[i]) {
	case BINLOG_T_F64:
		return binlog_put_double(p, v->f64);
	case BINLOG_T_LDBL:
		return binlog_put_ldouble(p, v->ldbl);
	case BINLOG_T_I128:
	case BINLOG_T_U128:
		return binlog_put16(p, v->wide);
	case BINLOG_T_STR:
	case BINLOG_T_WIDE:
		return binlog_put4(p, c->slots[i]);
	case BINLOG_T_I32:
	case BINLOG_T_U32:
		return binlog_put4(p, (uint32_t)v->word);
	default:
		return binlog_put8(p, c->args[i].use == BINLOG_USE_NOTHING ? 0 : v->word);
	}
}

static char *put_text(char *p, const struct call *c, unsigned i)
{
	uint32_t len = binlog_slot_len(c->slots[i]);
	const void *s = (const void *)(uintptr_t)c->values[i].word;
	wchar_t one[2] = {(wchar_t)c->values[i].word, 0};

	if (!len)
		return p;
	if (c->types[i] == BINLOG_T_STR)
		memcpy(p, s, len);
	else if (c->args[i].use == BINLOG_USE_WSTR)
		wide_bytes(s, len, p);
	else if (one[0])
		wide_bytes(one, len, p);
	return p + len;
}

static void put_payload(char *p, const struct call *c)
{
	if (!c->number)
		p = put_inline_entry(p, c);
	if (c->flags & BINLOG_S_LEVEL)
		p = binlog_put4(p, (uint32_t)c->level);
	if (c->flags & BINLOG_S_ERRNO)
		p = binlog_put4(p, (uint32_t)c->errnum);
	for (unsigned i = 0; i < c->nargs; i++)
		if (!(c->types[i] & BINLOG_T_LITERAL))
			p = put_field(p, c, i);
	for (unsigned i = 0; i < c->nargs; i++)
		if (c->types[i] == BINLOG_T_STR || c->types[i] == BINLOG_T_WIDE)
			p = put_text(p, c, i);
}

static bool put_fragment(const char *image, uint64_t total, uint64_t off, uint32_t id)
{
	uint32_t n = total - off < PIECE ? (uint32_t)(total - off) : PIECE;
	struct binlog_r_fragment r = {binlog_le32(id), binlog_le32(n), binlog_le64(total),
				      binlog_le64(off)};
	uint64_t len = (8 + sizeof(r) + n + 7) & ~7ull;
	uint64_t ticks;
	struct binlog_place place = binlog_reserve(len, &ticks);

	if (!place.at)
		return false;
	memcpy(place.at + 8, &r, sizeof(r));
	memcpy(place.at + 8 + sizeof(r), image + off, n);
	binlog_commit(place, BINLOG_R_FRAGMENT << 12 | (uint32_t)(len / 8), ticks, len);
	return true;
}

/* Too long for a record: built in memory of its own, stored in pieces. */
static void put_long(const struct call *c, uint32_t site)
{
	static uint32_t ids;
	uint32_t id = __atomic_add_fetch(&ids, 1, __ATOMIC_RELAXED);
	uint64_t total = (8 + c->len + 7) & ~7ull;
	char *image = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (image == MAP_FAILED) {
		struct binlog_shield shield;
		struct binlog_log *log;

		binlog_shield(&shield);
		log = binlog_enter();
		if (log) {
			binlog_count_lost(log, 1, total);
			binlog_leave();
		}
		binlog_unshield(&shield);
		return;
	}
	binlog_put8(image, (uint64_t)site << BINLOG_SITE_SHIFT | (uint32_t)binlog_ticks());
	put_payload(image + 8, c);
	for (uint64_t off = 0; off < total; off += PIECE)
		if (!put_fragment(image, total, off, id))
			break;
	munmap(image, total);
}

static void record(struct call *c)
{
	uint32_t site = c->number ? c->number : BINLOG_R_INLINE;
	struct binlog_place place;
	uint64_t ticks;
	uint64_t len;

	measure(c);
	len = (8 + c->len + 7) & ~7ull;
	if (len > BINLOG_RECORD_MAX) {
		put_long(c, site);
		return;
	}
	place = binlog_reserve(len, &ticks);
	if (!place.at)
		return;
	put_payload(place.at + 8, c);
	binlog_commit(place, site << 12 | (uint32_t)(len / 8), ticks, len);
}

static void show(const struct call *c)
{
	char small[1024];
	char *text = small;
	int len =
		binlog_text(small, sizeof(small), c->fmt, c->args, c->values, c->nargs, c->errnum);
	size_t size = (size_t)len + 1;

	if (len < 0)
		return;
	if (size > sizeof(small)) {
		text = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (text == MAP_FAILED) {
			text = small;
			len = sizeof(small) - 1;
		} else {
			binlog_text(text, size, c->fmt, c->args, c->values, c->nargs, c->errnum);
		}
	}
	binlog_sink(&(struct binlog_line){c->level, c->line, c->file, c->func, text, (size_t)len});
	if (text != small)
		munmap(text, size);
}

static void emit(struct call *c)
{
	if (c->level <= __atomic_load_n(&binlog_file_level, __ATOMIC_RELAXED))
		record(c);
	if (c->level <= __atomic_load_n(&binlog_sink_level, __ATOMIC_RELAXED))
		show(c);
}

/* Makes sure that the open log has the dictionary of @mod; false: there is no log. */
static bool make_known(struct binlog_module *mod)
{
	uint32_t generation = binlog_open_generation();
	struct binlog_shield shield;
	struct binlog_log *log;

	if (!generation)
		return false;
	if (__atomic_load_n(&mod->generation, __ATOMIC_ACQUIRE) == generation)
		return true;
	binlog_shield(&shield);
	binlog_dict_find(mod);
	binlog_lock();
	log = binlog_enter();
	if (log) {
		binlog_dict_add(log, mod);
		binlog_leave();
	}
	binlog_unlock();
	binlog_unshield(&shield);
	return log;
}

void binlog_slow(struct binlog_site *site, struct binlog_module *mod, int level, const char *fmt,
		 ...)
{
	const struct binlog_info *info = site->info;
	int saved = errno;
	struct binlog_arg args[BINLOG_PP_MAX];
	struct call c = {
		.fmt = fmt,
		.file = info->file,
		.func = info->func,
		.line = info->line,
		.level = level,
		.errnum = saved,
		.nargs = info->nargs,
		.args = info->args,
	};
	va_list ap;

	va_start(ap, fmt);
	read_values(c.values, info->args, info->nargs, ap);
	va_end(ap);
	if (make_known(mod) && info->fmt)
		c.number = __atomic_load_n(&site->number, __ATOMIC_RELAXED);
	if (c.number) {
		c.flags = binlog_site_flags(info);
	} else {
		memcpy(args, info->args, info->nargs * sizeof(args[0]));
		if (binlog_plan(fmt, args, info->nargs))
			c.flags = BINLOG_S_ERRNO;
		c.args = args;
	}
	emit(&c);
	errno = saved;
}

void binlog_vlog(int level, const char *file, unsigned line, const char *func, const char *fmt,
		 va_list ap)
{
	int saved = errno;
	struct binlog_arg args[BINLOG_PP_MAX];
	struct call c = {
		.fmt = fmt,
		.file = file,
		.func = func,
		.line = line,
		.level = level,
		.errnum = saved,
		.args = args,
	};
	va_list copy;
	int n;

	if (level > __atomic_load_n(&binlog_gate, __ATOMIC_RELAXED))
		return;
	n = binlog_types_of(fmt, args, BINLOG_PP_MAX);
	if (n < 0) {
		/* More arguments than a record has: the format alone is better than nothing. */
		c.fmt = "(too many arguments) %s";
		args[0] = (struct binlog_arg){.type = BINLOG_T_STR};
		c.values[0].word = (uintptr_t)fmt;
		n = 1;
	} else {
		va_copy(copy, ap);
		read_values(c.values, args, (unsigned)n, copy);
		va_end(copy);
	}
	c.nargs = (unsigned)n;
	if (binlog_plan(c.fmt, args, c.nargs))
		c.flags = BINLOG_S_ERRNO;
	emit(&c);
	errno = saved;
}
