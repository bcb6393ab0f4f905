/* SPDX-License-Identifier: MIT */
/* Reads dictionary entries: argument types, names, literal arguments, and where arguments lie. */
#include <errno.h>
#include <stdio.h>

#include "binlog/format.h"
#include "tools/bindecode/decode_op.h"

static uint32_t load32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return binlog_le32(v);
}

static unsigned field_len(unsigned type)
{
	switch (type) {
	case BINLOG_T_I32:
	case BINLOG_T_U32:
	case BINLOG_T_STR:
	case BINLOG_T_WIDE:
		return 4;
	case BINLOG_T_I64:
	case BINLOG_T_U64:
	case BINLOG_T_F64:
	case BINLOG_T_PTR:
		return 8;
	case BINLOG_T_I128:
	case BINLOG_T_U128:
	case BINLOG_T_LDBL:
		return 16;
	default:
		return 0;
	}
}

static bool is_string(unsigned type)
{
	return type == BINLOG_T_STR || type == BINLOG_T_WIDE;
}

/* Places every argument; false: a type that this version does not have. */
static bool place_args(struct dec_site *s, const uint8_t *types)
{
	uint32_t off = (s->flags & BINLOG_S_LEVEL ? 4 : 0) + (s->flags & BINLOG_S_ERRNO ? 4 : 0);

	for (uint32_t i = 0; i < s->nargs; i++) {
		struct dec_arg *a = &s->args[i];

		a->type = types[i] & ~BINLOG_T_LITERAL;
		a->literal = types[i] & BINLOG_T_LITERAL;
		if (!field_len(a->type))
			return false;
		if (a->literal)
			continue;
		a->off = off;
		off += field_len(a->type);
		if (is_string(a->type)) {
			a->slot = s->nslots;
			s->slots[s->nslots++] = a->off;
		}
	}
	s->fixed = off;
	return true;
}

static bool read_literals(struct dec_site *s, struct bytes *b, char **store)
{
	for (uint32_t i = 0; i < s->nargs; i++) {
		struct dec_arg *a = &s->args[i];
		const void *p;

		if (!a->literal)
			continue;
		if (!is_string(a->type)) {
			if (field_len(a->type) == 16 || a->type == BINLOG_T_F64)
				return false;
			a->value = bytes_u64(b);
			continue;
		}
		a->slot = bytes_u32(b);
		if (a->slot >= BINLOG_STR_SPECIAL)
			continue;
		p = bytes_take(b, a->slot);
		if (!p)
			return false;
		a->text = memcpy(*store, p, a->slot);
		*store += a->slot;
	}
	return bytes_ok(b);
}

static char *store_name(char **store, const void *p, uint32_t len)
{
	char *ret = *store;

	memcpy(ret, p, len);
	ret[len] = '\0';
	*store += len + 1;
	return ret;
}

int dec_site_make(struct dec_site *ret, struct bytes *b, uint32_t id, const struct dec_world *w)
{
	struct dec_site s = {.id = id};
	uint32_t fmt_len, file_len, func_len;
	const uint8_t *types;
	const void *fmt, *file, *func;
	size_t room;
	char *store;
	int r;

	s.line = bytes_u32(b);
	s.level = bytes_u8(b);
	s.flags = bytes_u8(b);
	s.nargs = bytes_u16(b);
	fmt_len = bytes_u32(b);
	file_len = bytes_u32(b);
	func_len = bytes_u32(b);
	types = bytes_take(b, s.nargs);
	fmt = bytes_take(b, fmt_len);
	file = bytes_take(b, file_len);
	func = bytes_take(b, func_len);
	if (!bytes_ok(b))
		return -EBADMSG;
	/* What an INLINE record still holds are its arguments, no literals: none are copied. */
	room = (sizeof(*s.args) + sizeof(*s.slots)) * s.nargs + (size_t)fmt_len + file_len +
	       func_len + 3 + (id == BINLOG_R_INLINE ? 0 : bytes_left(b));
	s.storage = calloc(1, room);
	if (!s.storage)
		return -ENOMEM;
	s.args = s.storage;
	s.slots = (uint32_t *)(s.args + s.nargs);
	store = (char *)(s.slots + s.nargs);
	s.fmt = store_name(&store, fmt, fmt_len);
	s.file = store_name(&store, file, file_len);
	s.func = store_name(&store, func, func_len);
	r = place_args(&s, types) ? 0 : -EBADMSG;
	for (uint32_t i = 0; !r && id == BINLOG_R_INLINE && i < s.nargs; i++)
		r = s.args[i].literal ? -EBADMSG : 0;
	if (!r && !read_literals(&s, b, &store))
		r = -EBADMSG;
	if (!r)
		r = dec_site_compile(&s, w);
	if (r) {
		dec_site_free(&s);
		return r;
	}
	*ret = s;
	return 0;
}

void dec_site_free(struct dec_site *s)
{
	if (!s)
		return;
	for (uint32_t i = 0; i < s->nops; i++)
		free((char *)s->ops[i].text);
	free(s->ops);
	free(s->storage);
	memset(s, 0, sizeof(*s));
}

int64_t dec_site_need(const struct dec_site *s, const uint8_t *p, uint64_t len)
{
	uint64_t need = s->fixed;

	if (need > len)
		return -1;
	for (uint32_t i = 0; i < s->nslots; i++) {
		uint32_t slot = load32(p + s->slots[i]);

		if (slot < BINLOG_STR_SPECIAL)
			need += slot;
		else if (slot < BINLOG_STR_BAD && slot - BINLOG_STR_ERRNO > 0xffff)
			return -1;
	}
	return need <= len ? (int64_t)need : -1;
}

unsigned dec_site_level(const struct dec_site *s, const uint8_t *p)
{
	return s->flags & BINLOG_S_LEVEL ? load32(p) : s->level;
}

int dec_site_errno(const struct dec_site *s, const uint8_t *p)
{
	if (!(s->flags & BINLOG_S_ERRNO))
		return 0;
	return (int)load32(p + (s->flags & BINLOG_S_LEVEL ? 4 : 0));
}

const char *dec_errno_text(const struct dec_world *w, int errnum, char tmp[40])
{
	const char *text;

	if (w->nerrnos) {
		if (errnum >= 0 && (uint32_t)errnum < w->nerrnos && w->errnos[errnum])
			return w->errnos[errnum];
	} else {
		text = strerrordesc_np(errnum);
		if (text)
			return text;
	}
	snprintf(tmp, 40, "Unknown error %d", errnum);
	return tmp;
}

static void set_text(struct dec_value *v, const struct dec_world *w, uint32_t slot)
{
	if (slot < BINLOG_STR_SPECIAL) {
		v->len = slot;
	} else if (slot < BINLOG_STR_BAD) {
		v->errnum = (int)(slot - BINLOG_STR_ERRNO);
		v->text = dec_errno_text(w, v->errnum, v->tmp);
		v->len = (uint32_t)strlen(v->text);
	} else {
		v->null = slot == BINLOG_STR_NULL;
		v->bad = slot == BINLOG_STR_BAD;
		v->text = NULL;
	}
}

static unsigned __int128 extend(unsigned type, uint64_t v)
{
	switch (type) {
	case BINLOG_T_I32:
		return (unsigned __int128)(__int128)(int32_t)v;
	case BINLOG_T_U32:
		return (uint32_t)v;
	case BINLOG_T_I64:
		return (unsigned __int128)(__int128)(int64_t)v;
	default:
		return v;
	}
}

void dec_site_value(const struct dec_site *s, const struct dec_world *w, const uint8_t *p,
		    uint32_t arg, struct dec_value *ret)
{
	const struct dec_arg *a = &s->args[arg];
	struct bytes b = bytes_of(a->literal ? p : p + a->off, field_len(a->type));

	ret->type = a->type;
	ret->null = ret->bad = false;
	ret->errnum = -1;
	ret->text = NULL;
	ret->len = 0;
	if (a->literal && is_string(a->type)) {
		ret->text = a->text;
		set_text(ret, w, a->slot);
	} else if (a->literal) {
		ret->u = extend(a->type, a->value);
	} else if (is_string(a->type)) {
		ret->text = (const char *)p + s->fixed;
		for (uint32_t i = 0; i < a->slot; i++) {
			uint32_t slot = load32(p + s->slots[i]);

			ret->text += slot < BINLOG_STR_SPECIAL ? slot : 0;
		}
		set_text(ret, w, load32(p + a->off));
	} else if (a->type == BINLOG_T_LDBL) {
		ret->raw = p + a->off;
	} else if (field_len(a->type) == 16) {
		ret->u = bytes_u64(&b);
		ret->u |= (unsigned __int128)bytes_u64(&b) << 64;
	} else {
		ret->u = extend(a->type, bytes_uint(&b, field_len(a->type)));
	}
}
