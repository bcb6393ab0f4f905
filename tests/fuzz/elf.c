/* SPDX-License-Identifier: MIT */
/* The ELF reader on arbitrary bytes. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "src/inspect/elf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct elf *e = elf_of_bytes(data, len, NULL);
	size_t sum = 0;
	struct elf_unwind u;
	const char *name;
	uint64_t v;
	size_t n;

	if (!e)
		return 0;
	elf_build_id(e, &n);
	elf_vaddr_of(e, len / 2, &v);
	for (uint64_t a = 0; a < 0x4000; a += 0x40)
		if (elf_symbol(e, a, &name, &v))
			sum += strlen(name);
	if (elf_unwind_table(e, &u) && u.table)
		sum += (size_t)u.table[2 * u.n - 1];
	/* so that nothing of it is left out */
	__asm__ volatile("" : : "r"(sum));
	elf_close(e);
	return 0;
}
