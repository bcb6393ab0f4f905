/* SPDX-License-Identifier: MIT */
/*
 * The dictionary: call sites get numbers, and their texts go into the log.
 *
 * A module is the part of the section binlog_sites that lies in one program or shared object. It
 * keeps its numbers for the life of the process; each log gets the dictionary again. Everything
 * here happens under binlog_lock().
 */
#include "binlog/internal.h" /* first */

#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define NAMES 4096 /* errno numbers libc may have texts for */

uintptr_t binlog_errno_low;
uintptr_t binlog_errno_len;

static struct binlog_module *modules;

/* Text of errno in libc, sorted by address. */
static struct errtext {
	const char *text;
	uint32_t number;
} errtexts[256];
static unsigned nerrtexts;

/* --- modules ---------------------------------------------------------------------------------- */

struct object {
	uintptr_t addr; /* somewhere in it */
	const uint8_t *id;
	unsigned id_len;
	const char *name;
};

static void find_note(struct object *o, const char *p, const char *end)
{
	while (end - p >= (ptrdiff_t)sizeof(ElfW(Nhdr))) {
		const ElfW(Nhdr) *n = (const void *)p;
		const char *desc = p + sizeof(*n) + ((n->n_namesz + 3) & ~3u);

		if (n->n_type == NT_GNU_BUILD_ID && n->n_namesz == 4 && !memcmp(n + 1, "GNU", 4) &&
		    n->n_descsz <= sizeof(((struct binlog_header *)0)->build_id)) {
			o->id = (const uint8_t *)desc;
			o->id_len = n->n_descsz;
			return;
		}
		p = desc + ((n->n_descsz + 3) & ~3u);
	}
}

static int look_at_object(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct object *o = arg;
	bool ours = false;

	(void)size;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

		if (ph->p_type == PT_LOAD &&
		    o->addr - (info->dlpi_addr + ph->p_vaddr) < ph->p_memsz)
			ours = true;
	}
	if (!ours)
		return 0;
	o->name = info->dlpi_name;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		const char *p = (const char *)(info->dlpi_addr + ph->p_vaddr);

		if (ph->p_type == PT_NOTE && !o->id_len)
			find_note(o, p, p + ph->p_memsz);
	}
	return 1;
}

/*
 * The loader's lock is taken in here, and may be held by a thread that logs for the first time, in
 * a callback of dl_iterate_phdr(), and waits for ours.
 */
void binlog_dict_find(struct binlog_module *mod)
{
	struct object o = {.addr = (uintptr_t)mod};

	if (__atomic_load_n(&mod->name, __ATOMIC_ACQUIRE))
		return;
	dl_iterate_phdr(look_at_object, &o);
	__atomic_store_n(&mod->id, o.id, __ATOMIC_RELAXED);
	__atomic_store_n(&mod->id_len, o.id_len, __ATOMIC_RELAXED);
	__atomic_store_n(&mod->name, o.name ? o.name : "", __ATOMIC_RELEASE);
}

/* --- writing ---------------------------------------------------------------------------------- */

/* A block under construction; ends with p == NULL if there was no memory. */
struct build {
	char *map;
	char *p;
	size_t size;
};

static struct build build_of(size_t payload)
{
	struct build b = {.size = sizeof(struct binlog_block) + payload};

	b.size = (b.size + BINLOG_ALIGN - 1) & ~(size_t)(BINLOG_ALIGN - 1);
	b.map = mmap(NULL, b.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (b.map == MAP_FAILED)
		b.map = NULL;
	else
		b.p = b.map + sizeof(struct binlog_block);
	return b;
}

static void put_bytes(struct build *b, const void *data, size_t len)
{
	memcpy(b->p, data, len);
	b->p += len;
}

static void put_u32(struct build *b, uint32_t v)
{
	b->p = binlog_put4(b->p, v);
}

/* Writes the block and gives its memory back. */
static int finish(struct binlog_log *log, struct build *b, unsigned type, unsigned flags,
		  uint32_t base, uint32_t count, uint64_t *ret_sum)
{
	struct binlog_block *head = (void *)b->map;
	char *payload = b->map + sizeof(*head);
	size_t used = (size_t)(b->p - payload);
	uint64_t off;
	int r = binlog_space_take(log, b->size, BINLOG_ALIGN, &off);

	*ret_sum = binlog_sum(payload, used);
	if (r == 0) {
		head->flags = binlog_le16((uint16_t)flags);
		head->dict.base = binlog_le32(base);
		head->dict.count = binlog_le32(count);
		head->dict.used = binlog_le64(used);
		head->dict.sum = binlog_le64(*ret_sum);
		binlog_block_seal(head, log, type, off, b->size);
		r = binlog_space_write(log, off, &(struct iovec){b->map, b->size}, 1);
		if (r < 0)
			binlog_space_untake(log, off, b->size);
	}
	munmap(b->map, b->size);
	return r;
}

static size_t len_of(const char *s)
{
	return s ? strlen(s) : 0;
}

/* The type as the record has it, which the format may have changed. */
uint8_t binlog_stored_type(const struct binlog_arg *a)
{
	switch (a->use) {
	case BINLOG_USE_STR:
		return BINLOG_T_STR | (a->type & BINLOG_T_LITERAL);
	case BINLOG_USE_POINTER:
	case BINLOG_USE_NOTHING:
		return BINLOG_T_PTR;
	case BINLOG_USE_WSTR:
	case BINLOG_USE_WCHAR:
		return BINLOG_T_WIDE;
	default:
		return a->type;
	}
}

/* A literal of pointer type under %s is NULL or a wide string cast: it is not in the dictionary. */
static bool is_literal(const struct binlog_arg *a)
{
	return binlog_stored_type(a) & BINLOG_T_LITERAL;
}

static size_t site_len(const struct binlog_info *info)
{
	size_t len = sizeof(struct binlog_d_site) + info->nargs + len_of(info->fmt) +
		     len_of(info->file) + len_of(info->func);

	for (unsigned i = 0; i < info->nargs; i++) {
		const struct binlog_arg *a = &info->args[i];

		if (is_literal(a))
			len += (a->type & ~BINLOG_T_LITERAL) == BINLOG_T_STR
				       ? 4 + len_of(a->literal)
				       : 8;
	}
	return len;
}

static void put_site(struct build *b, const struct binlog_info *info)
{
	struct binlog_d_site d = {
		.len = binlog_le32((uint32_t)site_len(info)),
		.line = binlog_le32(info->line),
		.level = info->level,
		.flags = binlog_site_flags(info),
		.nargs = binlog_le16(info->nargs),
		.fmt_len = binlog_le32((uint32_t)len_of(info->fmt)),
		.file_len = binlog_le32((uint32_t)len_of(info->file)),
		.func_len = binlog_le32((uint32_t)len_of(info->func)),
	};

	put_bytes(b, &d, sizeof(d));
	for (unsigned i = 0; i < info->nargs; i++)
		*b->p++ = (char)binlog_stored_type(&info->args[i]);
	put_bytes(b, info->fmt ? info->fmt : "", len_of(info->fmt));
	put_bytes(b, info->file, len_of(info->file));
	put_bytes(b, info->func, len_of(info->func));
	for (unsigned i = 0; i < info->nargs; i++) {
		const struct binlog_arg *a = &info->args[i];

		if (!is_literal(a))
			continue;
		if ((a->type & ~BINLOG_T_LITERAL) == BINLOG_T_STR) {
			put_u32(b, a->literal ? (uint32_t)len_of(a->literal) : BINLOG_STR_NULL);
			put_bytes(b, a->literal ? a->literal : "", len_of(a->literal));
		} else {
			b->p = binlog_put8(b->p, (uint64_t)(uintptr_t)a->literal);
		}
	}
}

uint8_t binlog_site_flags(const struct binlog_info *info)
{
	return (uint8_t)((info->level == BINLOG_DYNAMIC ? BINLOG_S_LEVEL : 0) | info->args[-1].use);
}

/* Needs the general encoder: the inline code would store something else than the format wants. */
static bool is_special(const struct binlog_info *info)
{
	if (!info->fmt || binlog_site_flags(info))
		return true;
	for (unsigned i = 0; i < info->nargs; i++)
		if (info->args[i].use != BINLOG_USE_VALUE && !is_literal(&info->args[i]))
			return true;
	return false;
}

static void set_words(struct binlog_module *mod)
{
	for (struct binlog_site *s = mod->start; s < mod->stop; s++) {
		bool slow = !mod->generation || !mod->base || mod->gone || is_special(s->info) ||
			    s->info->level <= binlog_sink_level ||
			    s->info->level > binlog_file_level;
		uint32_t number = mod->base + (uint32_t)(s - mod->start);

		__atomic_store_n(&s->number, mod->base ? number : 0, __ATOMIC_RELAXED);
		__atomic_store_n(&s->word, slow ? 0 : number << 12, __ATOMIC_RELEASE);
	}
}

void binlog_dict_words(void)
{
	for (struct binlog_module *m = modules; m; m = m->next)
		set_words(m);
}

/* Numbers for @mod; false: there are none left, its calls are stored inline. */
static bool take_numbers(struct binlog_log *log, struct binlog_module *mod)
{
	uint32_t count = (uint32_t)(mod->stop - mod->start);
	uint32_t old = __atomic_load_n(&log->hdr->next_site, __ATOMIC_RELAXED);
	uint32_t base;
	uint32_t next;

	do {
		next = binlog_le32(old);
		base = mod->base ? mod->base : next;
		if ((uint64_t)base + count > BINLOG_SITE_MAX)
			return false;
		if (base + count > next)
			next = base + count;
	} while (!__atomic_compare_exchange_n(&log->hdr->next_site, &old, binlog_le32(next), false,
					      __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
	mod->base = base;
	return true;
}

static int dict_write(struct binlog_log *log, struct binlog_module *mod, bool is_main)
{
	const char *name = *mod->name ? mod->name : program_invocation_name;
	uint32_t count = (uint32_t)(mod->stop - mod->start);
	size_t size = 8;
	uint64_t sum;
	int r;

	size += mod->id_len + strlen(name);
	for (uint32_t i = 0; i < count; i++) {
		const struct binlog_info *info = mod->start[i].info;

		info->args[-1].use = 0;
		if (info->fmt && binlog_plan(info->fmt, info->args, info->nargs))
			info->args[-1].use = BINLOG_S_ERRNO;
		size += site_len(info);
	}
	struct build b = build_of(size);

	if (!b.p)
		return -ENOMEM;
	put_u32(&b, mod->id_len);
	if (mod->id_len)
		put_bytes(&b, mod->id, mod->id_len);
	put_u32(&b, (uint32_t)strlen(name));
	put_bytes(&b, name, strlen(name));
	for (uint32_t i = 0; i < count; i++)
		put_site(&b, mod->start[i].info);
	r = finish(log, &b, BINLOG_BLOCK_DICT, is_main ? BINLOG_DICT_MAIN : 0, mod->base, count,
		   &sum);
	if (is_main) {
		log->hdr->build_id_len = (uint8_t)(mod->id_len ? mod->id_len : 8);
		log->hdr->build_id_kind = mod->id_len ? 1 : 2;
		if (!mod->id_len)
			binlog_put8((char *)log->hdr->build_id, sum);
		else
			memcpy(log->hdr->build_id, mod->id, mod->id_len);
	}
	return r;
}

static int add(struct binlog_log *log, struct binlog_module *mod, bool is_main)
{
	struct binlog_module *m = modules;
	int r = 0;

	while (m && m != mod)
		m = m->next;
	if (!m && !mod->gone) {
		mod->next = modules;
		modules = mod;
	}
	if (take_numbers(log, mod)) {
		r = dict_write(log, mod, is_main);
		if (r < 0)
			mod->base = 0;
	}
	__atomic_store_n(&mod->generation, log->generation, __ATOMIC_RELEASE);
	set_words(mod);
	return r;
}

void binlog_dict_add(struct binlog_log *log, struct binlog_module *mod)
{
	if (mod->generation != log->generation)
		(void)add(log, mod, false);
}

void binlog_module_gone(struct binlog_module *mod)
{
	struct binlog_shield shield;

	if (mod->gone)
		return;
	binlog_shield(&shield);
	if (binlog_proc()) {
		binlog_lock();
		for (struct binlog_module **m = &modules; *m; m = &(*m)->next)
			if (*m == mod) {
				*m = mod->next;
				break;
			}
		mod->gone = true;
		set_words(mod);
		binlog_unlock();
	}
	binlog_unshield(&shield);
}

/* Numbers once given stay, in every log: who has none yet gets those above. */
static void keep_numbers(struct binlog_log *log, const struct binlog_module *mod)
{
	uint32_t end = mod->base + (uint32_t)(mod->stop - mod->start);
	uint32_t next = binlog_le32(log->hdr->next_site);

	if (mod->base && end > next)
		log->hdr->next_site = binlog_le32(end);
}

int binlog_dict_open(struct binlog_log *log, struct binlog_module *mod)
{
	int r;

	keep_numbers(log, mod);
	for (struct binlog_module *m = modules; m; m = m->next)
		keep_numbers(log, m);
	r = add(log, mod, true);

	for (struct binlog_module *m = modules; m && r == 0; m = m->next)
		if (m != mod)
			r = add(log, m, false);
	return r;
}

/* --- errno ------------------------------------------------------------------------------------ */

static int by_address(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t)((const struct errtext *)a)->text;
	uintptr_t y = (uintptr_t)((const struct errtext *)b)->text;

	return (x > y) - (x < y);
}

int binlog_errno_write(struct binlog_log *log)
{
	size_t size = 0;
	uint64_t sum;
	unsigned n = 0;

	for (int e = 0; e < NAMES && n < sizeof(errtexts) / sizeof(errtexts[0]); e++) {
		const char *text = strerrordesc_np(e);

		if (!text)
			continue;
		if (!nerrtexts)
			errtexts[n] = (struct errtext){text, (uint32_t)e};
		size += 8 + strlen(text);
		n++;
	}
	struct build b = build_of(size);

	if (!b.p)
		return -ENOMEM;
	for (int e = 0; e < NAMES; e++) {
		const char *text = strerrordesc_np(e);

		if (!text || b.p + 8 + strlen(text) > b.map + b.size)
			continue;
		put_u32(&b, (uint32_t)e);
		put_u32(&b, (uint32_t)strlen(text));
		put_bytes(&b, text, strlen(text));
	}
	if (!nerrtexts && n) {
		qsort(errtexts, n, sizeof(errtexts[0]), by_address);
		nerrtexts = n;
		binlog_errno_low = (uintptr_t)errtexts[0].text;
		binlog_errno_len = (uintptr_t)errtexts[n - 1].text + 1 - binlog_errno_low;
	}
	return finish(log, &b, BINLOG_BLOCK_ERRNO, 0, 0, n, &sum);
}

/* @s points between the texts: is it one of them? */
uint32_t binlog_errno_slot(const char *s)
{
	const struct errtext key = {s, 0};
	const struct errtext *t = bsearch(&key, errtexts, nerrtexts, sizeof(key), by_address);

	return t ? BINLOG_STR_ERRNO | t->number : (uint32_t)strlen(s);
}
