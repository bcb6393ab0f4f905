/* SPDX-License-Identifier: MIT */
/* What the files of the ELF reader share: the object's insides. */
#ifndef INSPECT_ELF_PRIV_H
#define INSPECT_ELF_PRIV_H

#include "src/inspect/elf.h"

enum {
	ELF_MAX_SECTIONS = 1 << 16,
	ELF_MAX_PHDRS = 1 << 12,
	ELF_MAX_BUILD_ID = 64,
	ELF_MAX_TABLE = 1 << 30, /* bytes of one symbol, string or frame section we would load */
};

struct elf_section {
	uint32_t name, type;
	uint64_t flags, addr, off, size;
	uint32_t link;
	uint64_t entsize;
};

struct elf_sym {
	uint64_t start, size;
	uint32_t name; /* offset in strtab */
	uint8_t rank;  /* higher is the better name for the same address */
};

struct elf {
	int fd; /* -1: in memory */
	bool own_fd;
	const uint8_t *data; /* in memory only */
	uint64_t size;
	uint16_t machine;
	bool big; /* endian */
	size_t nloads;
	struct elf_load *loads;
	uint64_t hdr_vaddr, hdr_off, hdr_len; /* PT_GNU_EH_FRAME, len 0: none */
	size_t build_id_len;
	uint8_t build_id[ELF_MAX_BUILD_ID];
	size_t nsections;
	struct elf_section *sections;
	char *shstrtab; /* NUL-terminated copy, NULL: none */
	size_t shstrtab_len;
	/* loaded at first use */
	bool syms_tried, syms_full;
	size_t nsyms;
	struct elf_sym *syms; /* ascending by start, one per start */
	uint64_t *reach;      /* [i]: highest end of syms[0..i] */
	char *strtab;
	size_t strtab_len;
	bool unwind_tried;
	int32_t *unwind; /* pairs */
	size_t nunwind;
	uint64_t unwind_base;
};

/* A copy of file bytes with a NUL behind them, for the caller to free. NULL: not all there. */
uint8_t *elf_slurp(const struct elf *e, uint64_t off, uint64_t len);
/* By name; NULL. */
const struct elf_section *elf_section(const struct elf *e, const char *name);
/* elf_frame.c: fills unwind, nunwind, unwind_base from .eh_frame. */
void elf_frame_index(struct elf *e);

#endif
