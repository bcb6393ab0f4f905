/* SPDX-License-Identifier: MIT */
/* The ELF reader: against this program, the vDSO, and every damage one byte can do to it. */
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "src/inspect/elf.h"

extern const char __ehdr_start[];

/* A copy that ends where the next page is not mapped. */
struct tail {
	uint8_t *map, *data;
	size_t map_len;
};

static struct tail tail_of(const void *p, size_t len)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct tail t = {.map_len = (len + page - 1) / page * page + page};

	t.map = mmap(NULL, t.map_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(t.map, MAP_FAILED);
	assert_int_equal(mprotect(t.map + t.map_len - page, page, PROT_NONE), 0);
	t.data = t.map + t.map_len - page - len;
	memcpy(t.data, p, len);
	return t;
}

static void tail_free(struct tail *t)
{
	munmap(t->map, t->map_len);
}

__attribute__((noinline)) static int a_local_function(int x)
{
	__asm__ volatile("" : "+r"(x));
	return x * 3;
}

static void own_symbol(void **state)
{
	struct err err = {0};
	struct elf *e = elf_open("/proc/self/exe", &err);
	uint64_t addr = (uintptr_t)a_local_function - (uintptr_t)__ehdr_start, start = 0;
	const char *name = NULL;
	size_t len = 0;

	assert_non_null(e);
	assert_true(elf_nloads(e) >= 2);
	addr += elf_load(e, 0)->vaddr;
	assert_int_equal(a_local_function(1), 3);
	assert_true(elf_symbol(e, addr + 1, &name, &start));
	assert_string_equal(name, "a_local_function");
	assert_int_equal(start, addr);
	assert_true(elf_has_symtab(e));
	assert_non_null(elf_build_id(e, &len));
	assert_int_equal(len, 20);
	assert_false(elf_symbol(e, 1, &name, &start));
	elf_close(e);
}

static size_t vdso_len(const uint8_t *vdso)
{
	const Elf64_Ehdr *eh = (const void *)vdso;

	return eh->e_shoff + (size_t)eh->e_shnum * sizeof(Elf64_Shdr);
}

/* The name a person expects where one address has several. */
static void best_name(void **state)
{
	const uint8_t *vdso = (void *)getauxval(AT_SYSINFO_EHDR);
	struct err err = {0};
	struct elf *e = vdso ? elf_of_bytes(vdso, vdso_len(vdso), &err) : NULL;
	const char *name = NULL;
	uint64_t start = 0;
	size_t len;

	if (!e)
		skip();
	/* clock_gettime is a weak alias of the global __vdso_clock_gettime */
	for (uint64_t a = 0; a < 8192 && (!name || !strstr(name, "clock_gettime")); a++)
		elf_symbol(e, a, &name, &start);
	assert_non_null(name);
	assert_string_equal(name, "clock_gettime");
	assert_false(elf_has_symtab(e));
	assert_non_null(elf_build_id(e, &len));
	elf_close(e);
}

/* The whole file, for patching. */
static uint8_t *slurp_self(size_t *ret_len)
{
	cleanup_file FILE *f = fopen("/proc/self/exe", "re");
	struct stat st;
	uint8_t *p;

	assert_non_null(f);
	assert_int_equal(fstat(fileno(f), &st), 0);
	p = malloc((size_t)st.st_size);
	assert_int_equal(io_pread(fileno(f), p, (size_t)st.st_size, 0), st.st_size);
	*ret_len = (size_t)st.st_size;
	return p;
}

static void *patch_phdr(uint8_t *p, uint32_t from, uint32_t to)
{
	Elf64_Ehdr *eh = (void *)p;
	Elf64_Phdr *ph = (void *)(p + eh->e_phoff);

	for (unsigned i = 0; i < eh->e_phnum; i++)
		if (ph[i].p_type == from) {
			ph[i].p_type = to;
			return &ph[i];
		}
	return NULL;
}

/* What the walk over .eh_frame finds is what the linker put in .eh_frame_hdr. */
static void walk_equals_linker(void **state)
{
	size_t len;
	cleanup_free uint8_t *p = slurp_self(&len);
	struct err err = {0};
	struct elf *e = elf_of_bytes(p, len, &err);
	struct elf_unwind hdr, walk;
	const Elf64_Phdr *ph;
	const int32_t *t;

	assert_non_null(e);
	assert_true(elf_unwind_table(e, &hdr));
	assert_true(hdr.vaddr);
	elf_close(e);
	ph = patch_phdr(p, PT_GNU_EH_FRAME, PT_NULL);
	assert_non_null(ph);
	e = elf_of_bytes(p, len, &err);
	assert_non_null(e);
	assert_true(elf_unwind_table(e, &walk));
	assert_non_null(walk.table);
	assert_int_equal(walk.n, hdr.n);
	t = (void *)(p + ph->p_offset + (hdr.vaddr - ph->p_vaddr));
	for (size_t i = 0; i < hdr.n; i++) {
		assert_int_equal(walk.base + (uint64_t)walk.table[2 * i],
				 hdr.base + (uint64_t)t[2 * i]);
		assert_int_equal(walk.base + (uint64_t)walk.table[2 * i + 1],
				 hdr.base + (uint64_t)t[2 * i + 1]);
	}
	elf_close(e);
}

static void vaddr_of_offset(void **state)
{
	struct err err = {0};
	struct elf *e = elf_open("/proc/self/exe", &err);
	uint64_t vaddr;

	assert_non_null(e);
	for (size_t i = 0; i < elf_nloads(e); i++) {
		const struct elf_load *l = elf_load(e, i);

		assert_true(elf_vaddr_of(e, l->off + l->filesz - 1, &vaddr));
		assert_int_equal(vaddr, l->vaddr + l->filesz - 1);
	}
	assert_false(elf_vaddr_of(e, UINT64_MAX, &vaddr));
	elf_close(e);
}

static void refuses(void **state)
{
	struct err err = {0};

	assert_null(elf_open("/dev/null", &err));
	assert_int_equal(err.errnum, EINVAL);
	err_clear(&err);
	assert_null(elf_open("/proc/self/cmdline", &err));
	assert_int_equal(err.errnum, EBADMSG);
	err_clear(&err);
	assert_null(elf_open("/nowhere/at/all", &err));
	assert_int_equal(err.errnum, ENOENT);
	assert_null(elf_of_bytes("", 0, NULL));
}

/* Everything the reader offers; results do not matter, staying inside the object does. */
static void exercise(const uint8_t *p, size_t len)
{
	struct elf *e = elf_of_bytes(p, len, NULL);
	struct elf_unwind u;
	const char *name;
	uint64_t v;
	size_t n;

	if (!e)
		return;
	elf_build_id(e, &n);
	elf_vaddr_of(e, 0x400, &v);
	for (uint64_t a = 0; a < 0x2000; a += 0x80)
		if (elf_symbol(e, a, &name, &v))
			assert_true(strlen(name) < len);
	elf_unwind_table(e, &u);
	elf_close(e);
}

static void truncated_anywhere(void **state)
{
	const uint8_t *vdso = (void *)getauxval(AT_SYSINFO_EHDR);

	if (!vdso)
		skip();
	for (size_t len = 0; len <= vdso_len(vdso); len += 1 + len / 256) {
		struct tail t = tail_of(vdso, len);

		exercise(t.data, len);
		tail_free(&t);
	}
}

static void damaged_anywhere(void **state)
{
	const uint8_t *vdso = (void *)getauxval(AT_SYSINFO_EHDR);
	struct tail t;
	size_t len;

	if (!vdso)
		skip();
	len = vdso_len(vdso);
	t = tail_of(vdso, len);
	/* Wrong section types make the reader walk everything as if it were frames and symbols. */
	patch_phdr(t.data, PT_GNU_EH_FRAME, PT_NULL);
	for (size_t i = 0; i < len; i++) {
		static const uint8_t values[] = {0x00, 0x7f, 0x80, 0xff};
		uint8_t was = t.data[i];

		/* headers and tables in full, code sparsely */
		if (i > 0x800 && i < len - 0x600 && i % 17)
			continue;
		for (size_t v = 0; v < sizeof(values); v++) {
			t.data[i] = values[v];
			exercise(t.data, len);
		}
		t.data[i] = was;
	}
	tail_free(&t);
}

/* --- the byte order of another CPU ---------------------------------------------------------- */

static uint8_t *put(uint8_t *p, uint64_t v, unsigned size, bool big)
{
	for (unsigned i = 0; i < size; i++)
		p[i] = (uint8_t)(v >> 8 * (big ? size - 1 - i : i));
	return p + size;
}

enum { NOTE = 0x200, SYMS = 0x240, STRS = 0x280, SECTIONS = 0x2c0, TINY_LEN = 0x400 };

static void put_section(uint8_t *p, uint32_t type, uint64_t off, uint64_t len, uint32_t link,
			uint64_t entsize, bool big)
{
	p = put(p + 4, type, 4, big);
	p = put(p + 16, off, 8, big);
	p = put(p, len, 8, big);
	p = put(p, link, 4, big);
	put(p + 12, entsize, 8, big);
}

/* A program of 0x400 bytes at 0x1000000, with a build id and the function "twice" at +0x120. */
static void tiny(uint8_t *elf, bool big)
{
	uint8_t *p = elf;

	memset(elf, 0, TINY_LEN);
	memcpy(p,
	       "\x7f"
	       "ELF\2",
	       5);
	p[EI_DATA] = big ? ELFDATA2MSB : ELFDATA2LSB;
	p[EI_VERSION] = 1;
	p = put(p + EI_NIDENT, ET_EXEC, 2, big);
	p = put(p, EM_S390, 2, big);
	p = put(p, 1, 4, big);
	p = put(p + 8, 64, 8, big);
	p = put(p, SECTIONS, 8, big);
	p = put(p + 4, 64, 2, big);
	p = put(p, sizeof(Elf64_Phdr), 2, big);
	p = put(p, 2, 2, big);
	p = put(p, sizeof(Elf64_Shdr), 2, big);
	p = put(p, 3, 2, big);

	p = put(elf + 64, PT_LOAD, 4, big);
	p = put(p, PF_R | PF_X, 4, big);
	p = put(p + 8, 0x1000000, 8, big);
	p = put(p + 8, TINY_LEN, 8, big);
	put(p, TINY_LEN, 8, big);
	p = put(elf + 64 + sizeof(Elf64_Phdr), PT_NOTE, 4, big);
	p = put(p + 4, NOTE, 8, big);
	put(p + 16, 12 + 4 + 20, 8, big);

	p = put(elf + NOTE, 4, 4, big);
	p = put(p, 20, 4, big);
	p = put(p, NT_GNU_BUILD_ID, 4, big);
	memcpy(p, "GNU", 4);
	for (uint8_t i = 0; i < 20; i++)
		p[4 + i] = i + 1;
	p = put(elf + SYMS + sizeof(Elf64_Sym), 1, 4, big);
	*p++ = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC);
	p = put(p + 1, SHN_LORESERVE - 1, 2, big);
	p = put(p, 0x1000120, 8, big);
	put(p, 0x20, 8, big);
	memcpy(elf + STRS + 1, "twice", 6);
	put_section(elf + SECTIONS + sizeof(Elf64_Shdr), SHT_SYMTAB, SYMS, 2 * sizeof(Elf64_Sym), 2,
		    sizeof(Elf64_Sym), big);
	put_section(elf + SECTIONS + 2 * sizeof(Elf64_Shdr), SHT_STRTAB, STRS, 7, 0, 0, big);
}

static void either_order(void **state)
{
	for (int big = 0; big < 2; big++) {
		uint8_t bytes[TINY_LEN];
		const char *name = NULL;
		struct err err = {0};
		const uint8_t *id;
		uint64_t at = 0;
		struct elf *e;
		size_t len;

		tiny(bytes, big);
		e = elf_of_bytes(bytes, sizeof(bytes), &err);
		if (!e)
			fail_msg("%s: %s", big ? "big" : "little", err.msg);
		assert_int_equal(elf_machine(e), EM_S390);
		assert_int_equal(elf_nloads(e), 1);
		assert_int_equal(elf_load(e, 0)->vaddr, 0x1000000);
		assert_int_equal(elf_load(e, 0)->memsz, TINY_LEN);
		assert_int_equal(elf_load(e, 0)->flags, PF_R | PF_X);
		id = elf_build_id(e, &len);
		assert_int_equal(len, 20);
		assert_int_equal(id[19], 20);
		assert_true(elf_symbol(e, 0x100013f, &name, &at));
		assert_string_equal(name, "twice");
		assert_int_equal(at, 0x1000120);
		assert_false(elf_symbol(e, 0x1000140, &name, &at));
		assert_true(elf_vaddr_of(e, 0x123, &at));
		assert_int_equal(at, 0x1000123);
		elf_close(e);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(own_symbol),	      cmocka_unit_test(best_name),
		cmocka_unit_test(walk_equals_linker), cmocka_unit_test(vaddr_of_offset),
		cmocka_unit_test(either_order),	      cmocka_unit_test(refuses),
		cmocka_unit_test(truncated_anywhere), cmocka_unit_test(damaged_anywhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
