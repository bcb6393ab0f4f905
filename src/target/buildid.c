/* SPDX-License-Identifier: MIT */
/* The build id of an ELF file. */
#include "src/target/buildid.h"

#include <elf.h>
#include <endian.h>
#include <string.h>

#include "base/bytes.h"
#include "base/io.h"

/* Linkers put the note within the first page or two; a note section with much else is bounded. */
enum { PHDRS_MAX = 256, NOTES_MAX = 16 << 10 };

static uint64_t align4(uint64_t v)
{
	return (v + 3) & ~(uint64_t)3;
}

/* @notes: a PT_NOTE segment, as far as it was read. */
static int find_note(const uint8_t *notes, size_t len, uint8_t ret[BUILDID_MAX])
{
	for (size_t pos = 0; len - pos >= sizeof(Elf64_Nhdr);) {
		Elf64_Nhdr h;
		uint64_t name = pos + sizeof(h), desc;

		memcpy(&h, notes + pos, sizeof(h));
		desc = name + align4(h.n_namesz);
		if (desc > len || h.n_descsz > len - desc)
			return 0;
		if (h.n_type == NT_GNU_BUILD_ID && h.n_namesz == 4 &&
		    !memcmp(notes + name, "GNU", 4) && h.n_descsz > 0 &&
		    h.n_descsz <= BUILDID_MAX) {
			memcpy(ret, notes + desc, h.n_descsz);
			return (int)h.n_descsz;
		}
		pos = desc + align4(h.n_descsz);
		if (pos > len)
			return 0;
	}
	return 0;
}

int buildid_read(int fd, uint8_t ret[BUILDID_MAX])
{
	uint8_t head[sizeof(Elf64_Ehdr)], notes[NOTES_MAX];
	Elf64_Phdr ph[PHDRS_MAX];
	Elf64_Ehdr eh;
	ssize_t n = io_pread(fd, head, sizeof(head), 0);

	if (n < 0)
		return (int)n;
	if ((size_t)n < sizeof(eh) || memcmp(head, ELFMAG, SELFMAG) ||
	    head[EI_CLASS] != ELFCLASS64 ||
	    head[EI_DATA] != (BYTE_ORDER == LITTLE_ENDIAN ? ELFDATA2LSB : ELFDATA2MSB))
		return 0;
	memcpy(&eh, head, sizeof(eh));
	if (eh.e_phentsize != sizeof(ph[0]) || eh.e_phnum > PHDRS_MAX || eh.e_phoff > INT64_MAX / 2)
		return 0;
	n = io_pread(fd, ph, eh.e_phnum * sizeof(ph[0]), eh.e_phoff);
	if (n < 0)
		return (int)n;
	for (size_t i = 0; i < (size_t)n / sizeof(ph[0]); i++) {
		size_t len = ph[i].p_filesz < NOTES_MAX ? ph[i].p_filesz : NOTES_MAX;
		ssize_t got;
		int found;

		if (ph[i].p_type != PT_NOTE || ph[i].p_offset > INT64_MAX / 2)
			continue;
		got = io_pread(fd, notes, len, ph[i].p_offset);
		if (got < 0)
			return (int)got;
		found = find_note(notes, (size_t)got, ret);
		if (found)
			return found;
	}
	return 0;
}
