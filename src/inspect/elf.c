/* SPDX-License-Identifier: MIT */
/* ELF headers, bounded: load segments, sections, build id. */
#include "src/inspect/elf.h"

#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "src/inspect/elf_priv.h"

ssize_t elf_read(const struct elf *e, uint64_t off, void *buf, size_t len)
{
	if (off >= e->size)
		return 0;
	if (len > e->size - off)
		len = e->size - off;
	if (e->fd >= 0)
		return io_pread(e->fd, buf, len, off);
	memcpy(buf, e->data + off, len);
	return (ssize_t)len;
}

uint8_t *elf_slurp(const struct elf *e, uint64_t off, uint64_t len)
{
	cleanup_free uint8_t *p = NULL;

	if (len > ELF_MAX_TABLE || off > e->size || len > e->size - off)
		return NULL;
	p = malloc(len + 1);
	if (!p || elf_read(e, off, p, len) != (ssize_t)len)
		return NULL;
	p[len] = '\0';
	return take_ptr(&p);
}

static void read_build_id(struct elf *e, uint64_t off, uint64_t len)
{
	cleanup_free uint8_t *p = NULL;
	struct bytes b;

	/* Notes in executables are small; a longer segment is no note segment. */
	if (e->build_id_len || len > 1 << 20)
		return;
	p = elf_slurp(e, off, len);
	if (!p)
		return;
	b = bytes_of_order(p, len, e->big);
	while (bytes_left(&b) >= sizeof(Elf64_Nhdr)) {
		uint32_t namesz = bytes_u32(&b), descsz = bytes_u32(&b), type = bytes_u32(&b);
		const char *name = bytes_take(&b, ((uint64_t)namesz + 3) & ~3ULL);
		const uint8_t *desc = bytes_take(&b, descsz);

		if (!name || !desc)
			return;
		if (type == NT_GNU_BUILD_ID && namesz == 4 && !memcmp(name, "GNU", 4) && descsz &&
		    descsz <= ELF_MAX_BUILD_ID) {
			memcpy(e->build_id, desc, descsz);
			e->build_id_len = descsz;
			return;
		}
		bytes_take(&b, -descsz & 3);
	}
}

static int add_load(struct elf *e, const struct elf_load *l)
{
	/* A segment whose end wraps cannot have been loaded. */
	if (l->filesz > l->memsz || l->off + l->filesz < l->off || l->vaddr + l->memsz < l->vaddr)
		return -EBADMSG;
	e->loads[e->nloads++] = *l;
	return 0;
}

static int read_phdrs(struct elf *e, uint64_t off, uint32_t n)
{
	cleanup_free uint8_t *p = NULL;
	struct bytes b;

	if (n > ELF_MAX_PHDRS)
		return -EBADMSG;
	p = elf_slurp(e, off, (uint64_t)n * sizeof(Elf64_Phdr));
	e->loads = calloc(n + 1, sizeof(*e->loads));
	if (!p || !e->loads)
		return p ? -ENOMEM : -EBADMSG;
	b = bytes_of_order(p, (size_t)n * sizeof(Elf64_Phdr), e->big);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t type = bytes_u32(&b);
		struct elf_load l = {.flags = bytes_u32(&b)};
		int err = 0;

		l.off = bytes_u64(&b);
		l.vaddr = bytes_u64(&b);
		bytes_u64(&b);
		l.filesz = bytes_u64(&b);
		l.memsz = bytes_u64(&b);
		bytes_u64(&b);
		if (type == PT_LOAD)
			err = add_load(e, &l);
		else if (type == PT_NOTE)
			read_build_id(e, l.off, l.filesz);
		else if (type == PT_GNU_EH_FRAME)
			e->hdr_vaddr = l.vaddr, e->hdr_off = l.off, e->hdr_len = l.filesz;
		if (err)
			return err;
	}
	return 0;
}

/* Section headers are not needed to run: when they are damaged, the object just has no symbols. */
static void read_sections(struct elf *e, uint64_t off, uint32_t n, uint32_t strndx)
{
	cleanup_free uint8_t *p = NULL;
	struct bytes b;

	if (!n || n > ELF_MAX_SECTIONS)
		return;
	p = elf_slurp(e, off, (uint64_t)n * sizeof(Elf64_Shdr));
	e->sections = p ? calloc(n, sizeof(*e->sections)) : NULL;
	if (!e->sections)
		return;
	e->nsections = n;
	b = bytes_of_order(p, (size_t)n * sizeof(Elf64_Shdr), e->big);
	for (uint32_t i = 0; i < n; i++) {
		struct elf_section *s = &e->sections[i];

		s->name = bytes_u32(&b);
		s->type = bytes_u32(&b);
		s->flags = bytes_u64(&b);
		s->addr = bytes_u64(&b);
		s->off = bytes_u64(&b);
		s->size = bytes_u64(&b);
		s->link = bytes_u32(&b);
		bytes_u32(&b);
		bytes_u64(&b);
		s->entsize = bytes_u64(&b);
		/* A separate debug file has no PT_NOTE contents, but the note section. */
		if (s->type == SHT_NOTE)
			read_build_id(e, s->off, s->size);
	}
	if (strndx < n && e->sections[strndx].type == SHT_STRTAB) {
		e->shstrtab =
			(char *)elf_slurp(e, e->sections[strndx].off, e->sections[strndx].size);
		e->shstrtab_len = e->sections[strndx].size;
	}
}

static int read_headers(struct elf *e)
{
	uint8_t buf[sizeof(Elf64_Ehdr)];
	uint64_t phoff, shoff;
	uint16_t type, phentsize, phnum, shentsize, shnum, shstrndx;
	struct bytes b;
	int err;

	if (elf_read(e, 0, buf, sizeof(buf)) != (ssize_t)sizeof(buf))
		return -EBADMSG;
	if (memcmp(buf, ELFMAG, SELFMAG) || buf[EI_CLASS] != ELFCLASS64 ||
	    (buf[EI_DATA] != ELFDATA2LSB && buf[EI_DATA] != ELFDATA2MSB))
		return -EBADMSG;
	e->big = buf[EI_DATA] == ELFDATA2MSB;
	b = bytes_of_order(buf, sizeof(buf), e->big);
	bytes_seek(&b, EI_NIDENT);
	type = bytes_u16(&b);
	e->machine = bytes_u16(&b);
	bytes_take(&b, 4 + 8);
	phoff = bytes_u64(&b);
	shoff = bytes_u64(&b);
	bytes_take(&b, 4 + 2);
	phentsize = bytes_u16(&b);
	phnum = bytes_u16(&b);
	shentsize = bytes_u16(&b);
	shnum = bytes_u16(&b);
	shstrndx = bytes_u16(&b);
	if ((type != ET_EXEC && type != ET_DYN) || (phnum && phentsize != sizeof(Elf64_Phdr)))
		return -EBADMSG;
	err = read_phdrs(e, phoff, phnum);
	if (err)
		return err;
	if (shentsize == sizeof(Elf64_Shdr))
		read_sections(e, shoff, shnum, shstrndx);
	return 0;
}

static struct elf *elf_new(int fd, const void *data, uint64_t size)
{
	struct elf *e = calloc(1, sizeof(*e));

	if (e) {
		e->fd = fd;
		e->data = data;
		e->size = size;
	}
	return e;
}

struct elf *elf_of_fd(int fd, const char *path, struct err *err)
{
	struct stat st;
	struct elf *e;
	int ret;

	if (fstat(fd, &st) < 0) {
		err_set(err, errno, "stat %s", path);
		return NULL;
	}
	if (!S_ISREG(st.st_mode)) {
		err_fail(err, EINVAL, ERR_OTHER, "%s is not a regular file", path);
		return NULL;
	}
	e = elf_new(fd, NULL, (uint64_t)st.st_size);
	if (!e) {
		err_set(err, ENOMEM, "open %s", path);
		return NULL;
	}
	ret = read_headers(e);
	if (!ret)
		return e;
	elf_close(e);
	if (ret == -EBADMSG)
		err_fail(err, EBADMSG, ERR_OTHER, "%s is not a 64-bit ELF file", path);
	else
		err_set(err, -ret, "read %s", path);
	return NULL;
}

struct elf *elf_open(const char *path, struct err *err)
{
	/* O_NONBLOCK: a path that is a FIFO today must not hold us up. */
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct elf *e;

	if (fd < 0) {
		err_set(err, errno, "open %s", path);
		return NULL;
	}
	e = elf_of_fd(fd, path, err);
	if (e) {
		take_fd(&fd);
		e->own_fd = true;
	}
	return e;
}

struct elf *elf_of_bytes(const void *data, size_t len, struct err *err)
{
	struct elf *e = elf_new(-1, data, len);
	int ret;

	if (!e) {
		err_set(err, ENOMEM, "parse an ELF object of %zu bytes", len);
		return NULL;
	}
	ret = read_headers(e);
	if (!ret)
		return e;
	elf_close(e);
	err_set(err, -ret, "parse an ELF object of %zu bytes", len);
	return NULL;
}

void elf_close(struct elf *e)
{
	if (!e)
		return;
	if (e->own_fd)
		close(e->fd);
	free(e->loads);
	free(e->sections);
	free(e->shstrtab);
	free(e->syms);
	free(e->reach);
	free(e->strtab);
	free(e->unwind);
	free(e);
}

uint16_t elf_machine(const struct elf *e)
{
	return e->machine;
}

const uint8_t *elf_build_id(const struct elf *e, size_t *ret_len)
{
	*ret_len = e->build_id_len;
	return e->build_id_len ? e->build_id : NULL;
}

size_t elf_nloads(const struct elf *e)
{
	return e->nloads;
}

const struct elf_load *elf_load(const struct elf *e, size_t i)
{
	return i < e->nloads ? &e->loads[i] : NULL;
}

bool elf_vaddr_of(const struct elf *e, uint64_t off, uint64_t *ret_vaddr)
{
	for (size_t i = 0; i < e->nloads; i++) {
		const struct elf_load *l = &e->loads[i];

		if (off >= l->off && off - l->off < l->filesz) {
			*ret_vaddr = l->vaddr + (off - l->off);
			return true;
		}
	}
	return false;
}

const struct elf_section *elf_section(const struct elf *e, const char *name)
{
	for (size_t i = 0; e->shstrtab && i < e->nsections; i++)
		if (e->sections[i].name < e->shstrtab_len &&
		    !strcmp(e->shstrtab + e->sections[i].name, name))
			return &e->sections[i];
	return NULL;
}
