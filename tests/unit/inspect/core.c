/* SPDX-License-Identifier: MIT */
/* Core files: what is in which segment, notes in the kernel's order, holes that cost nothing. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "src/inspect/inspect.h"
#include "tests/unit/inspect/made.h"

static struct {
	int fd;
	struct stat st;
	size_t n;
	Elf64_Ehdr eh;
	Elf64_Phdr *ph;
} core;

static void core_open(const char *path)
{
	Elf64_Shdr sh;

	core.fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(core.fd >= 0);
	assert_int_equal(fstat(core.fd, &core.st), 0);
	assert_int_equal(core.st.st_mode & 07777, 0600);
	assert_int_equal(io_pread(core.fd, &core.eh, sizeof(core.eh), 0), sizeof(core.eh));
	assert_memory_equal(core.eh.e_ident, ELFMAG, SELFMAG);
	assert_int_equal(core.eh.e_type, ET_CORE);
	core.n = core.eh.e_phnum;
	if (core.n == PN_XNUM) {
		assert_int_equal(io_pread(core.fd, &sh, sizeof(sh), core.eh.e_shoff), sizeof(sh));
		core.n = sh.sh_info;
	}
	core.ph = calloc(core.n, sizeof(*core.ph));
	assert_int_equal(io_pread(core.fd, core.ph, core.n * sizeof(*core.ph), core.eh.e_phoff),
			 core.n * sizeof(*core.ph));
	assert_int_equal(core.ph[0].p_type, PT_NOTE);
}

static void core_close(void)
{
	close(core.fd);
	free(core.ph);
}

/* Writes the core of what was made. */
static void core_of_made(void)
{
	struct image *img = made_open();
	struct err err = {0};
	char path[80];

	snprintf(path, sizeof(path), "%s/core", made.dir);
	if (inspect_core(img, path, 0, &err))
		fail_msg("%s", err.msg);
	core_open(path);
}

static const Elf64_Phdr *segment(uint64_t addr)
{
	for (size_t i = 1; i < core.n; i++)
		if (addr >= core.ph[i].p_vaddr && addr - core.ph[i].p_vaddr < core.ph[i].p_memsz)
			return &core.ph[i];
	return NULL;
}

/* The byte at @addr, -1: not in the file. */
static int byte_at(uint64_t addr)
{
	const Elf64_Phdr *p = segment(addr);
	uint8_t c;

	if (!p || addr - p->p_vaddr >= p->p_filesz)
		return -1;
	assert_int_equal(io_pread(core.fd, &c, 1, p->p_offset + (addr - p->p_vaddr)), 1);
	return c;
}

/* As the kernel has them: a segment for each mapping with tags, two tags a byte. */
static void tags_of_memory(void **state)
{
	enum { START = 0x10000, LEN = 0x8000, OTHER = 0x30000, TYPE = 0x70000002 };
	const Elf64_Phdr *p[2] = {NULL};
	struct m_tags *t;
	struct m_mm *mm;
	uint8_t has[LEN / 32], want[LEN / 32] = {0};
	unsigned n = 0;

	made_begin();
	made.m->elf_machine = EM_AARCH64;
	mm = &made.m->procs[0].mm;
	made_vma(START, LEN, M_VMA_ANON)->flags = M_VMF_TAGS;
	made_vma(OTHER, LEN, M_VMA_ANON)->flags = M_VMF_TAGS;
	made_vma(2 * OTHER, LEN, M_VMA_ANON);
	for (unsigned i = 0; i < 2; i++) {
		t = made_push(&mm->tags, &mm->ntags, sizeof(*t));
		*t = (struct m_tags){i ? OTHER : START + 0x2000, 0x1000, NULL};
		t->data = model_alloc(made.m, 128);
		memset(t->data, i ? 0x21 : 0x43, 128);
	}
	core_of_made();
	for (size_t i = 1; i < core.n; i++)
		if (core.ph[i].p_type == TYPE && n++ < 2)
			p[n - 1] = &core.ph[i];
	assert_int_equal(n, 2);
	assert_int_equal(p[0]->p_vaddr, START);
	assert_int_equal(p[1]->p_vaddr, OTHER);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(p[i]->p_memsz, LEN);
		assert_int_equal(p[i]->p_filesz, LEN / 32);
		memset(want, 0, sizeof(want));
		memset(want + (i ? 0 : 0x2000 / 32), i ? 0x21 : 0x43, 128);
		assert_int_equal(io_pread(core.fd, has, sizeof(has), p[i]->p_offset), sizeof(has));
		assert_memory_equal(has, want, sizeof(has));
	}
	core_close();
	made_end();
}

/* A heap of 4 GiB with three stored pages: all of it is readable, hardly any of it takes space. */
static void sparse_heap(void **state)
{
	made_begin();
	made_vma(0x100000000, 4ULL << 30, M_VMA_ANON);
	made_store(MD_SPACE_PROC(MADE_PID), 0x100001000, 0x11);
	made_store(MD_SPACE_PROC(MADE_PID), 0x180000000, 0);
	made_store(MD_SPACE_PROC(MADE_PID), 0x1fffff000, 0x22);
	core_of_made();
	assert_int_equal(core.n, 2);
	assert_int_equal(byte_at(0x100000000), 0);
	assert_int_equal(byte_at(0x100001fff), 0x11);
	assert_int_equal(byte_at(0x1fffff000), 0x22);
	assert_int_equal(byte_at(0x180000000), 0);
	assert_true(core.st.st_size >= 4LL << 30);
	assert_true(core.st.st_blocks * 512 < 1 << 20);
	core_close();
	made_end();
}

/* What is only reserved gives segments for its stored pages alone. */
static void reservations(void **state)
{
	struct m_vma *v;

	made_begin();
	v = made_vma(0x10000000000, 1ULL << 40, M_VMA_ANON);
	v->flags = M_VMF_NORESERVE;
	made_vma(0x30000000000, 1 << 20, M_VMA_ANON)->prot = PROT_NONE;
	made_store(MD_SPACE_PROC(MADE_PID), 0x10000001000, 1);
	made_store(MD_SPACE_PROC(MADE_PID), 0x10000004000, 2); /* near: one segment with a hole */
	made_store(MD_SPACE_PROC(MADE_PID), 0x10040000000, 3);
	made_store(MD_SPACE_PROC(MADE_PID), 0x30000002000, 4);
	core_of_made();
	assert_int_equal(core.n, 1 + 5 + 3);
	assert_int_equal(byte_at(0x10000000000), -1);
	assert_int_equal(byte_at(0x10000001000), 1);
	assert_int_equal(byte_at(0x10000002000), 0);
	assert_int_equal(byte_at(0x10000004fff), 2);
	assert_int_equal(byte_at(0x10040000000), 3);
	assert_int_equal(byte_at(0x10040001000), -1);
	assert_int_equal(byte_at(0x30000002000), 4);
	assert_int_equal(byte_at(0x30000000000), -1);
	assert_true(core.st.st_size < 1 << 20);
	core_close();
	made_end();
}

/*
 * A private mapping of this program: the page copied on write is there, the ELF header comes from
 * the disk, the rest is left to the debugger.
 */
static void file_mapping(void **state)
{
	cleanup_free char *self = realpath("/proc/self/exe", NULL);
	struct m_file *f;
	struct m_vma *v;

	made_begin();
	f = made_file(self);
	v = made_vma(0x400000, 4 * MADE_PAGE, M_VMA_FILE_PRIVATE);
	v->file_id = f->id;
	made_store(MD_SPACE_PROC(MADE_PID), 0x402000, 0x77);
	core_of_made();
	assert_int_equal(core.n, 1 + 4);
	assert_int_equal(byte_at(0x400000), 0x7f);
	assert_int_equal(byte_at(0x400001), 'E');
	assert_int_equal(byte_at(0x401000), -1);
	assert_int_equal(byte_at(0x402abc), 0x77);
	assert_int_equal(byte_at(0x403000), -1);
	core_close();
	made_end();
}

/* Of a file that changed not even the header is taken. */
static void changed_file_mapping(void **state)
{
	cleanup_free char *self = realpath("/proc/self/exe", NULL);
	struct m_file *f;

	made_begin();
	f = made_file(self);
	f->build_id_len = 20;
	f->build_id = model_alloc(made.m, 20);
	made_vma(0x400000, 4 * MADE_PAGE, M_VMA_FILE_PRIVATE)->file_id = f->id;
	core_of_made();
	assert_int_equal(core.n, 2);
	assert_int_equal(byte_at(0x400000), -1);
	core_close();
	made_end();
}

/* Shared memory by offset in its segment; a private copy of it by address, on top. */
static void shared_memory(void **state)
{
	struct m_shm *s;
	struct m_vma *v;

	made_begin();
	s = made_shm(8 * MADE_PAGE);
	v = made_vma(0x10000, 4 * MADE_PAGE, M_VMA_SHMEM);
	v->shared = true;
	v->shm_id = s->id;
	v->pgoff = 2 * MADE_PAGE;
	v = made_vma(0x20000, 4 * MADE_PAGE, M_VMA_SHMEM);
	v->shm_id = s->id;
	made_store(MD_SPACE_PROC(MADE_PID), 0x22000, 0);
	made_store(MD_SPACE_PROC(MADE_PID), 0x23000, 0x99);
	for (unsigned i = 0; i < 8; i++)
		if (i != 4)
			made_store(MD_SPACE_SHMEM(s->id), i * MADE_PAGE, (uint8_t)(0x10 + i));
	core_of_made();
	assert_int_equal(byte_at(0x10000), 0x12);
	assert_int_equal(byte_at(0x11000), 0x13);
	assert_int_equal(byte_at(0x12000), 0);
	assert_int_equal(byte_at(0x13fff), 0x15);
	assert_int_equal(byte_at(0x20000), 0x10);
	assert_int_equal(byte_at(0x21000), 0x11);
	assert_int_equal(byte_at(0x22000), 0); /* zeros written over the segment's 0x12 */
	assert_int_equal(byte_at(0x23000), 0x99);
	core_close();
	made_end();
}

/* More segments than e_phnum can say. */
static void many_segments(void **state)
{
	enum { N = 70000 };

	made_begin();
	for (uint64_t i = 0; i < N; i++)
		made_vma(0x10000000 + 2 * i * MADE_PAGE, MADE_PAGE, M_VMA_ANON);
	made_store(MD_SPACE_PROC(MADE_PID), 0x10000000 + 2ULL * (N - 1) * MADE_PAGE, 0x42);
	core_of_made();
	assert_int_equal(core.eh.e_phnum, PN_XNUM);
	assert_int_equal(core.n, N + 1);
	assert_int_equal(byte_at(0x10000000 + 2ULL * (N - 1) * MADE_PAGE), 0x42);
	core_close();
	made_end();
}

struct note {
	uint32_t type, len;
	const char *owner;
	const uint8_t *data;
};

static size_t read_notes(uint8_t *buf, size_t max, struct note *notes, size_t max_notes)
{
	size_t len = core.ph[0].p_filesz, n = 0, pos = 0;

	assert_true(len <= max);
	assert_int_equal(io_pread(core.fd, buf, len, core.ph[0].p_offset), len);
	while (pos < len && n < max_notes) {
		const Elf64_Nhdr *h = (const void *)(buf + pos);

		notes[n].type = h->n_type;
		notes[n].len = h->n_descsz;
		notes[n].owner = (const char *)(h + 1);
		pos += sizeof(*h) + ((h->n_namesz + 3) & ~3u);
		notes[n++].data = buf + pos;
		pos += (h->n_descsz + 3) & ~3u;
	}
	assert_int_equal(pos, len);
	return n;
}

static uint64_t get(const uint8_t *p, unsigned size)
{
	uint64_t v = 0;

	memcpy(&v, p, size);
	return v;
}

static void notes_in_order(void **state)
{
	static const uint32_t want[] = {NT_PRSTATUS, NT_PRPSINFO, NT_SIGINFO,
					NT_AUXV,     NT_FILE,	  NT_PRSTATUS};
	struct note notes[32];
	uint8_t buf[16384];
	struct m_mm *mm;
	size_t n, at = 0;

	made_begin();
	made_thread(MADE_PID + 1);
	mm = &made.m->procs[0].mm;
	mm->nauxv = 4;
	mm->auxv = model_alloc(made.m, 32);
	mm->auxv[0] = 6;
	mm->auxv[1] = 4096;
	made_vma(0x400000, MADE_PAGE, M_VMA_FILE_PRIVATE)->file_id = made_file("/a/b")->id;
	mm->vmas[0].pgoff = 3 * MADE_PAGE;
	core_of_made();
	n = read_notes(buf, sizeof(buf), notes, 32);
	/* other register sets may stand behind each thread */
	for (size_t i = 0; i < n && at < 6; i++)
		at += notes[i].type == want[at];
	assert_int_equal(at, 6);
	assert_int_equal(notes[0].type, NT_PRSTATUS);
	assert_int_equal(notes[0].len, 336);
	assert_int_equal(get(notes[0].data + 32, 4), MADE_PID);
	for (unsigned i = 0; i < MADE_PRSTATUS; i++)
		assert_int_equal(notes[0].data[112 + i], (uint8_t)(MADE_PID + i));
	assert_int_equal(notes[1].len, 136);
	assert_string_equal((const char *)notes[1].data + 40, "made");
	assert_string_equal((const char *)notes[1].data + 56, "made --by hand");
	assert_int_equal(notes[2].len, 128);
	assert_int_equal(notes[3].len, 32);
	assert_int_equal(get(notes[3].data + 8, 8), 4096);
	assert_int_equal(get(notes[4].data, 8), 1);
	assert_int_equal(get(notes[4].data + 16, 8), 0x400000);
	assert_int_equal(get(notes[4].data + 32, 8), 3);
	assert_string_equal((const char *)notes[4].data + 40, "/a/b");
	core_close();
	made_end();
}

/* A thread in a restarted system call appears as a debugger at it would show it. */
static void restart_undone(void **state)
{
	const struct arch_desc *arch = arch_host();
	struct note notes[32];
	uint8_t buf[16384];
	struct m_thread *t;
	uint64_t before = 0x1000, ret = 7;

	if (!arch->syscall_len)
		skip();
	made_begin();
	t = &made.m->procs[0].threads[0];
	memcpy(t->regsets[0].data + arch->pc_off, &before, 8);
	memcpy(t->regsets[0].data + arch->ret_off, &ret, 8);
	t->in_syscall = true;
	t->syscall_ret = -512;
	core_of_made();
	read_notes(buf, sizeof(buf), notes, 32);
	assert_int_equal(get(notes[0].data + 112 + arch->pc_off, 8), before + arch->syscall_len);
	assert_int_equal(get(notes[0].data + 112 + arch->ret_off, 8), (uint64_t)-512);
	assert_int_equal(get(notes[0].data + 112 + arch->sysno_off, 8), 7);
	core_close();
	made_end();
}

/* An existing file stays until the new one is whole; a failure leaves nothing beside it. */
static void replaced_whole(void **state)
{
	struct image *img;
	struct err err = {0};
	char path[80];
	FILE *f;

	made_begin();
	made_vma(0x10000, MADE_PAGE, M_VMA_ANON);
	img = made_open();
	snprintf(path, sizeof(path), "%s/core", made.dir);
	f = fopen(path, "w");
	fputs("old", f);
	fclose(f);
	assert_int_equal(inspect_core(img, path, MADE_PID + 5, &err), -ESRCH);
	assert_int_equal(err.class, ERR_NO_PROCESS);
	core.fd = open(path, O_RDONLY);
	assert_int_equal(lseek(core.fd, 0, SEEK_END), 3);
	close(core.fd);
	err_clear(&err);
	assert_int_equal(inspect_core(img, path, 0, &err), 0);
	core_open(path);
	core_close();
	snprintf(path, sizeof(path), "%s/no/such/dir", made.dir);
	assert_int_equal(inspect_core(img, path, 0, &err), -ENOENT);
	made_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sparse_heap),	  cmocka_unit_test(reservations),
		cmocka_unit_test(file_mapping),	  cmocka_unit_test(changed_file_mapping),
		cmocka_unit_test(shared_memory),  cmocka_unit_test(many_segments),
		cmocka_unit_test(notes_in_order), cmocka_unit_test(restart_undone),
		cmocka_unit_test(replaced_whole), cmocka_unit_test(tags_of_memory),
	};

	/* e2e/byte_order looks at a core file of a big-endian machine. */
	if (BYTE_ORDER != LITTLE_ENDIAN) {
		printf("the cores made here are those of a little-endian machine\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
