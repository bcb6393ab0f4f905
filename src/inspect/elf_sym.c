/* SPDX-License-Identifier: MIT */
/* Symbols of an ELF object: address to function name. */
#include <elf.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "src/inspect/elf_priv.h"

/*
 * One address often has several names (read, __read, __GI___libc_read). The best is a real
 * function, with a size, the least internal looking, and global; the rank puts them in this order.
 */
static uint8_t rank_of(uint8_t info, uint64_t size, const char *name)
{
	unsigned bind = ELF64_ST_BIND(info), type = ELF64_ST_TYPE(info);
	unsigned under = 0, rank = 0;

	while (under < 3 && name[under] == '_')
		under++;
	if (type != STT_NOTYPE)
		rank |= 1 << 6;
	if (size)
		rank |= 1 << 5;
	rank |= (3 - under) << 2;
	if (bind == STB_GLOBAL)
		rank |= 2;
	else if (bind == STB_WEAK)
		rank |= 1;
	return (uint8_t)rank;
}

/* ARM and RISC-V mark code and data with $x, $d: no names. */
static bool is_function(uint8_t info, uint16_t shndx, const char *name)
{
	unsigned type = ELF64_ST_TYPE(info);

	return (type == STT_FUNC || type == STT_GNU_IFUNC || type == STT_NOTYPE) &&
	       shndx != SHN_UNDEF && shndx != SHN_ABS && name[0] && name[0] != '$';
}

static int by_start(const void *a, const void *b)
{
	const struct elf_sym *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	if (x->rank != y->rank)
		return x->rank > y->rank ? -1 : 1;
	/* equal in rank: a fixed order, so that two runs print the same */
	return x->name < y->name ? -1 : x->name > y->name;
}

/* Only labels inside sections that hold code: NOTYPE symbols also mark tables. */
static bool in_code(const struct elf *e, uint16_t shndx)
{
	return shndx >= e->nsections || e->sections[shndx].flags & SHF_EXECINSTR;
}

static void parse_syms(struct elf *e, const uint8_t *p, uint64_t len)
{
	size_t max = len / sizeof(Elf64_Sym);
	struct bytes b = bytes_of_order(p, max * sizeof(Elf64_Sym), e->big);

	e->syms = calloc(max + 1, sizeof(*e->syms));
	for (size_t i = 0; e->syms && i < max; i++) {
		uint32_t name = bytes_u32(&b);
		uint8_t info = bytes_u8(&b);
		uint16_t shndx = (bytes_u8(&b), bytes_u16(&b));
		uint64_t value = bytes_u64(&b), size = bytes_u64(&b);
		const char *text = name < e->strtab_len ? e->strtab + name : "";

		if (!is_function(info, shndx, text) || !in_code(e, shndx) || value + size < value)
			continue;
		/* "name@@VERSION" in .symtab: the version is no part of the name */
		strchrnul(e->strtab + name + 1, '@')[0] = '\0';
		e->syms[e->nsyms++] = (struct elf_sym){
			.start = value,
			.size = size,
			.name = name,
			.rank = rank_of(info, size, text),
		};
	}
}

/* Sorts, keeps the best name of each address, and notes how far anything before reaches. */
static void order_syms(struct elf *e)
{
	size_t n = 0;
	uint64_t reach = 0;

	if (!e->nsyms)
		return;
	qsort(e->syms, e->nsyms, sizeof(*e->syms), by_start);
	for (size_t i = 0; i < e->nsyms; i++)
		if (!n || e->syms[i].start != e->syms[n - 1].start)
			e->syms[n++] = e->syms[i];
	e->nsyms = n;
	e->reach = calloc(n, sizeof(*e->reach));
	if (!e->reach) {
		e->nsyms = 0;
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if (e->syms[i].start + e->syms[i].size > reach)
			reach = e->syms[i].start + e->syms[i].size;
		e->reach[i] = reach;
	}
}

static bool load_from(struct elf *e, uint32_t type)
{
	for (size_t i = 0; i < e->nsections; i++) {
		const struct elf_section *s = &e->sections[i], *str;
		cleanup_free uint8_t *p = NULL;

		if (s->type != type || s->entsize != sizeof(Elf64_Sym) || s->link >= e->nsections)
			continue;
		str = &e->sections[s->link];
		p = elf_slurp(e, s->off, s->size);
		free(e->strtab);
		e->strtab = (char *)elf_slurp(e, str->off, str->size);
		e->strtab_len = e->strtab ? str->size : 0;
		if (!p || !e->strtab)
			continue;
		parse_syms(e, p, s->size);
		if (e->nsyms)
			return true;
		free(take_ptr(&e->syms));
	}
	return false;
}

static void load_syms(struct elf *e)
{
	if (e->syms_tried)
		return;
	e->syms_tried = true;
	e->syms_full = load_from(e, SHT_SYMTAB);
	if (!e->syms_full)
		load_from(e, SHT_DYNSYM);
	order_syms(e);
}

bool elf_has_symtab(struct elf *e)
{
	load_syms(e);
	return e->syms_full;
}

bool elf_symbol(struct elf *e, uint64_t vaddr, const char **ret_name, uint64_t *ret_start)
{
	size_t lo = 0, hi;

	load_syms(e);
	for (hi = e->nsyms; lo < hi;) {
		size_t mid = lo + (hi - lo) / 2;

		if (e->syms[mid].start <= vaddr)
			lo = mid + 1;
		else
			hi = mid;
	}
	/* The nearest before that covers the address; reach[] says when nothing before can. */
	for (size_t i = lo; i-- > 0;) {
		const struct elf_sym *s = &e->syms[i];

		/* A label without a size (hand-written assembly) covers up to the next symbol. */
		if (vaddr - s->start < s->size || (!s->size && i == lo - 1)) {
			*ret_name = e->strtab + s->name;
			*ret_start = s->start;
			return true;
		}
		if (e->reach[i] <= vaddr)
			return false;
	}
	return false;
}
