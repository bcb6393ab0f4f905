/* SPDX-License-Identifier: MIT */
/*
 * An ELF object as far as a stack trace needs it: load segments, build id, symbols, unwind tables.
 *
 * The bytes are outside bytes: a file on disk that somebody may have replaced, truncated or forged,
 * or the vDSO out of an image. Every offset and length is checked against the size that was seen at
 * the open; nothing is mapped, so a file that shrinks later is a short read and not a signal.
 * 64-bit objects only, of either byte order.
 *
 * Ownership: elf_close() releases everything that was handed out. Threads: one at a time.
 */
#ifndef INSPECT_ELF_H
#define INSPECT_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct elf;

/* One PT_LOAD: file bytes [off, off+filesz) stand at vaddr, the rest up to memsz is zero. */
struct elf_load {
	uint64_t off, vaddr, filesz, memsz;
	uint32_t flags; /* PF_* */
};

/*
 * -EBADMSG in @err: no ELF object we read. Opening blocks on nothing: anything but a regular file
 * is refused with -EINVAL.
 */
struct elf *elf_open(const char *path, struct err *err);
/* The same over an open file, which the caller keeps open until elf_close(). */
struct elf *elf_of_fd(int fd, const char *path, struct err *err);
/* The same over @len bytes at @data, which must stay until elf_close(). */
struct elf *elf_of_bytes(const void *data, size_t len, struct err *err);
void elf_close(struct elf *e);

uint16_t elf_machine(const struct elf *e);
/* NT_GNU_BUILD_ID; NULL if it has none. */
const uint8_t *elf_build_id(const struct elf *e, size_t *ret_len);
size_t elf_nloads(const struct elf *e);
const struct elf_load *elf_load(const struct elf *e, size_t i);
/* Where the byte at file offset @off is loaded (before relocation); false: not loaded at all. */
bool elf_vaddr_of(const struct elf *e, uint64_t off, uint64_t *ret_vaddr);
/* File bytes; short at the end of the file. -errno. */
ssize_t elf_read(const struct elf *e, uint64_t off, void *buf, size_t len);

/*
 * The function that covers @vaddr: its name (valid until elf_close()) and where it begins. False:
 * no symbol covers it. The tables are read at the first call: .symtab, else .dynsym.
 */
bool elf_symbol(struct elf *e, uint64_t vaddr, const char **ret_name, uint64_t *ret_start);
/* Whether elf_symbol() has a full .symtab to look in, not only the dynamic symbols. */
bool elf_has_symtab(struct elf *e);

/*
 * The binary search table over .eh_frame, as pairs of signed 32-bit offsets relative to @base:
 * start of a function, its FDE. Ascending.
 */
struct elf_unwind {
	uint64_t base;	      /* vaddr both offsets are relative to */
	uint64_t vaddr;	      /* of the table in .eh_frame_hdr; 0: @table was built here instead */
	const int32_t *table; /* pairs, in the elf's memory; NULL when vaddr is set */
	size_t n;	      /* pairs */
};
/*
 * From PT_GNU_EH_FRAME; where the linker made none (static programs) by one walk over .eh_frame.
 * False: neither is usable.
 */
bool elf_unwind_table(struct elf *e, struct elf_unwind *ret);

#endif
