/* SPDX-License-Identifier: MIT */
/*
 * Where an ELF object's unwind table is: .eh_frame_hdr as the linker made it, or one built by a
 * walk over .eh_frame.
 */
#include <elf.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "src/inspect/elf_priv.h"

/* Pointer encodings of the LSB core specification, chapter 10.5. */
enum {
	PE_ABSPTR = 0x00,
	PE_UDATA2 = 0x02,
	PE_UDATA4 = 0x03,
	PE_UDATA8 = 0x04,
	PE_SDATA2 = 0x0a,
	PE_SDATA4 = 0x0b,
	PE_SDATA8 = 0x0c,
	PE_PCREL = 0x10,
	PE_DATAREL = 0x30,
	PE_OMIT = 0xff,
};

/* Bytes of an encoded pointer, 0: an encoding nobody writes here. */
static unsigned enc_size(uint8_t enc)
{
	switch (enc & 0x0f) {
	case PE_UDATA2:
	case PE_SDATA2:
		return 2;
	case PE_UDATA4:
	case PE_SDATA4:
		return 4;
	case PE_ABSPTR:
	case PE_UDATA8:
	case PE_SDATA8:
		return 8;
	}
	return 0;
}

static uint64_t enc_value(struct bytes *b, uint8_t enc)
{
	unsigned size = enc_size(enc);
	uint64_t v = bytes_uint(b, size);

	if ((enc & 0x08) && size < 8 && v >> (8 * size - 1))
		v |= ~0ULL << (8 * size);
	return v;
}

static uint64_t uleb(struct bytes *b)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 70 && bytes_ok(b); shift += 7) {
		uint8_t c = bytes_u8(b);

		if (shift < 64)
			v |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80))
			break;
	}
	return v;
}

/* The encoding of FDE addresses out of the CIE whose body starts at @pos; PE_OMIT: not usable. */
static uint8_t cie_enc(const uint8_t *sec, size_t len, size_t pos)
{
	struct bytes b = bytes_of(sec, len);
	const char *aug;
	uint8_t version;
	size_t max;

	bytes_seek(&b, pos);
	version = bytes_u8(&b);
	max = bytes_left(&b);
	aug = (const char *)sec + b.pos;
	if (!bytes_ok(&b) || strnlen(aug, max) == max)
		return PE_OMIT;
	bytes_take(&b, strlen(aug) + 1);
	if (aug[0] != 'z')
		return aug[0] ? PE_OMIT : PE_ABSPTR;
	uleb(&b); /* code alignment */
	uleb(&b); /* data alignment: as long, whatever its sign */
	if (version == 1)
		bytes_u8(&b);
	else
		uleb(&b);
	uleb(&b); /* length of the augmentation data */
	for (aug++; *aug; aug++) {
		if (*aug == 'R')
			return bytes_ok(&b) ? bytes_u8(&b) : PE_OMIT;
		if (*aug == 'L')
			bytes_u8(&b);
		else if (*aug == 'P') {
			uint8_t enc = bytes_u8(&b);

			if (!enc_size(enc))
				return PE_OMIT;
			bytes_take(&b, enc_size(enc));
		} else if (*aug != 'S' && *aug != 'B' && *aug != 'G') {
			return PE_OMIT;
		}
	}
	return PE_ABSPTR;
}

struct walk {
	struct elf *e;
	const struct elf_section *s;
	const uint8_t *sec;
	size_t max; /* pairs allocated */
};

static bool add_pair(struct walk *w, uint64_t start, uint64_t fde)
{
	struct elf *e = w->e;
	int64_t d_start = (int64_t)(start - e->unwind_base);
	int64_t d_fde = (int64_t)(fde - e->unwind_base);

	if (d_start != (int32_t)d_start || d_fde != (int32_t)d_fde)
		return true;
	if (e->nunwind == w->max) {
		size_t max = w->max ? w->max * 2 : 256;
		int32_t *p = reallocarray(e->unwind, max, 2 * sizeof(*p));

		if (!p)
			return false;
		e->unwind = p;
		w->max = max;
	}
	e->unwind[2 * e->nunwind] = (int32_t)d_start;
	e->unwind[2 * e->nunwind + 1] = (int32_t)d_fde;
	e->nunwind++;
	return true;
}

/* One entry at @at, its body in @b after the length; an FDE adds a pair. */
static bool walk_entry(struct walk *w, size_t at, struct bytes *b)
{
	size_t id_pos = b->pos;
	uint32_t id = bytes_u32(b);
	uint64_t field, start;
	uint8_t enc;

	if (!bytes_ok(b) || !id || id > id_pos)
		return true;
	/* An FDE's id is the distance back to its CIE; the CIE has its length, then its own id 0.
	 */
	if (id_pos - id + 8 > b->len)
		return true;
	enc = cie_enc(w->sec, w->s->size, id_pos - id + 8);
	if (enc == PE_OMIT || !enc_size(enc) || ((enc & 0x70) && (enc & 0x70) != PE_PCREL))
		return true;
	field = w->s->addr + b->pos;
	start = enc_value(b, enc);
	if ((enc & 0x70) == PE_PCREL)
		start += field;
	return !bytes_ok(b) || add_pair(w, start, w->s->addr + at);
}

static int by_start(const void *a, const void *b)
{
	const int32_t *x = a, *y = b;

	return x[0] < y[0] ? -1 : x[0] > y[0];
}

void elf_frame_index(struct elf *e)
{
	const struct elf_section *s = elf_section(e, ".eh_frame");
	cleanup_free uint8_t *sec = s ? elf_slurp(e, s->off, s->size) : NULL;
	struct walk w = {.e = e, .s = s, .sec = sec};
	size_t pos = 0;

	/* Not loaded, or without contents (separate debug files): nothing to point at. */
	if (!sec || !(s->flags & SHF_ALLOC) || s->type == SHT_NOBITS)
		return;
	e->unwind_base = s->addr;
	while (s->size - pos >= 8) {
		struct bytes b = bytes_of_order(sec, s->size, e->big);
		size_t at = pos;
		uint32_t len;

		bytes_seek(&b, pos);
		len = bytes_u32(&b);
		/* 0 ends the list; 0xffffffff is the 64-bit form, which no x86 or ARM linker writes
		 */
		if (!len || len > bytes_left(&b))
			break;
		pos = b.pos + len;
		b.len = pos;
		if (!walk_entry(&w, at, &b))
			break;
	}
	if (e->nunwind)
		qsort(e->unwind, e->nunwind, 2 * sizeof(*e->unwind), by_start);
}

/* The linker's table: version 1, count as udata4, pairs as datarel sdata4. */
static bool from_hdr(const struct elf *e, struct elf_unwind *ret)
{
	uint8_t buf[4 + 8 + 8];
	ssize_t len = elf_read(e, e->hdr_off, buf, sizeof(buf));
	struct bytes b = bytes_of_order(buf, len > 0 ? (size_t)len : 0, e->big);
	uint8_t version = bytes_u8(&b), ptr_enc = bytes_u8(&b), count_enc = bytes_u8(&b),
		table_enc = bytes_u8(&b);
	uint64_t n;

	if (version != 1 || table_enc != (PE_DATAREL | PE_SDATA4) || count_enc == PE_OMIT)
		return false;
	bytes_take(&b, ptr_enc == PE_OMIT ? 0 : enc_size(ptr_enc));
	if (!enc_size(count_enc))
		return false;
	n = enc_value(&b, count_enc);
	if (!bytes_ok(&b) || !n || e->hdr_len < b.pos || n > (e->hdr_len - b.pos) / 8)
		return false;
	*ret = (struct elf_unwind){.base = e->hdr_vaddr, .vaddr = e->hdr_vaddr + b.pos, .n = n};
	return true;
}

bool elf_unwind_table(struct elf *e, struct elf_unwind *ret)
{
	if (e->hdr_len && from_hdr(e, ret))
		return true;
	if (!e->unwind_tried) {
		e->unwind_tried = true;
		elf_frame_index(e);
	}
	if (!e->nunwind)
		return false;
	*ret = (struct elf_unwind){.base = e->unwind_base, .table = e->unwind, .n = e->nunwind};
	return true;
}
