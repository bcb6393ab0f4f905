/* SPDX-License-Identifier: MIT */
/* Images kept in tests/golden, made from text by a tool that is not ours, are read for ever. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/image/scratch.h"
#include "src/image/image.h"

static char *root; /* of the source tree */

static const char *golden(const char *name)
{
	static char path[8192];

	snprintf(path, sizeof(path), "%s/tests/golden/%s", root, name);
	return path;
}

/* The rule of mkimage.py. */
static void page(unsigned k, uint8_t *to)
{
	for (unsigned i = 0; i < 4096; i++)
		to[i] = k ? (uint8_t)(k * 37 + i * 11 + i / 256) : 0;
}

static void page_is(struct image_mem *mem, uint64_t space, uint64_t addr, unsigned k)
{
	struct err err = {0};
	uint8_t got[4096], want[4096];

	page(k, want);
	assert_int_equal(image_mem_read(mem, space, addr, got, 4096, &err), 4096);
	assert_memory_equal(got, want, 4096);
}

static void print(void *arg, const char *line)
{
	printf("  %s\n", line);
}

static struct model *open_golden(const char *name, struct image **img, struct image_mem **mem)
{
	struct image_verify res;
	struct err err = {0};
	struct model *m;

	image_verify(golden(name), 1, print, NULL, &res, &err);
	assert_no_err(&err);
	*img = image_open(golden(name), &err);
	assert_no_err(&err);
	m = image_read_model(*img, &err);
	assert_no_err(&err);
	*mem = image_mem_open(*img, &err);
	assert_no_err(&err);
	return m;
}

static void close_golden(struct model *m, struct image *img, struct image_mem *mem)
{
	image_mem_close(mem);
	model_free(m);
	image_close(img);
}

/* --- ours ----------------------------------------------------------------------------------- */

static void ours_threads(const struct m_proc *p)
{
	const struct m_thread *t = p->threads;

	assert_int_equal(p->nthreads, 2);
	assert_string_equal(t[0].comm, "gold");
	assert_int_equal(t[0].pc, 0x10080);
	assert_int_equal(t[0].sp, 0x7ff00);
	assert_int_equal(t[0].nregsets, 1);
	assert_int_equal(t[0].sigmask, 0x4000);
	assert_int_equal(t[0].nice, -5);
	assert_int_equal(t[0].pending.n, 1);
	assert_int_equal(t[0].pending.info[0].data[0], 10);
	assert_int_equal(t[0].creds.cap_bnd, 0x1ffffffffff);
	assert_int_equal(t[0].creds.ngroups, 2);
	assert_int_equal(t[0].creds.groups[1], 24);
	assert_int_equal(t[0].affinity_len, 1);
	assert_int_equal(t[0].affinity[0], 3);
	assert_int_equal(t[0].clear_tid_addr, 0x7777);
	assert_int_equal(t[1].tid, 301);
	assert_int_equal(t[1].pc, 4);
	assert_int_equal(t[1].sigmask, 0x200);
	assert_true(t[1].in_syscall);
	assert_int_equal(t[1].syscall_ret, -512);
}

static void ours_files(const struct model *m)
{
	const struct m_file *f = m->files;

	assert_int_equal(m->nfiles, 3);
	assert_string_equal(f[0].path, "/usr/bin/gold");
	assert_int_equal(f[0].pos, 17);
	assert_int_equal(f[0].ino, 99);
	assert_int_equal(f[0].mtime_ns, -5);
	assert_int_equal(f[1].mnt_id, 25);
	assert_int_equal(f[2].type, M_FILE_EVENTFD);
	assert_int_equal(f[2].eventfd_count, 77);
	assert_true(f[2].eventfd_semaphore);
	assert_int_equal(m->fdtables[0].fds[1].fd, 5);
	assert_true(m->fdtables[0].fds[1].cloexec);
}

static void format_1_0(void **state)
{
	struct image_mem *mem;
	struct image *img;
	struct model *m = open_golden("image-1.0", &img, &mem);
	const struct m_proc *p = m->procs;

	assert_int_equal(m->nprocs, 2);
	assert_string_equal(p[0].comm, "gold");
	assert_string_equal(p[0].cmdline, "gold --rush");
	assert_int_equal(p[0].oom_score_adj, -500);
	assert_int_equal(p[0].itimers[0].value_us, 1000001);
	assert_int_equal(p[0].rlimits[15].cur, 1024);
	assert_true(p[0].rlimits[15].max == UINT64_MAX);
	assert_int_equal(p[0].umask, 18);
	assert_int_equal(p[1].state, M_DEAD);
	assert_int_equal(p[1].exit_code, 256);
	assert_int_equal(p[1].ppid, 300);
	assert_int_equal(p[0].mm.nvmas, 3);
	assert_int_equal(p[0].mm.vmas[0].kind, M_VMA_FILE_PRIVATE);
	assert_int_equal(p[0].mm.vmas[1].flags, M_VMF_GROWSDOWN | M_VMF_STACK);
	assert_int_equal(p[0].mm.vmas[2].shm_id, 1);
	ours_threads(p);
	ours_files(m);
	assert_int_equal(m->shms[0].size, 16384);
	assert_string_equal(m->findings[0].text, "fd 9: io_uring instance: not supported");
	assert_string_equal(m->hostname, "goldmine");
	page_is(mem, MD_SPACE_PROC(300), 0x10000, 1);
	page_is(mem, MD_SPACE_PROC(300), 0x11000, 2);
	page_is(mem, MD_SPACE_PROC(300), 0x12000, 0);
	page_is(mem, MD_SPACE_PROC(300), 0x7f000, 3);
	page_is(mem, MD_SPACE_SHMEM(1), 0x1000, 4);
	close_golden(m, img, mem);
}

/* --- CRIU's --------------------------------------------------------------------------------- */

static void stock_regsets(const struct m_thread *t)
{
	const struct m_regset *fp = model_regset(t, 2), *xs = model_regset(t, 0x202);
	static const uint8_t words[] = {0x11, 0x22, 0x33, 0x54};

	assert_int_equal(t->pc, 0x40010);
	assert_int_equal(t->sp, 0x41ff0);
	assert_int_equal(fp->len, 512);
	assert_int_equal(fp->data[32], words[0]);
	assert_int_equal(fp->data[160 + 255], words[1]);
	assert_int_equal(xs->len, 2696);
	assert_memory_equal(xs->data, fp->data, 416);
	assert_int_equal(xs->data[512], 7);
	assert_int_equal(xs->data[464] | xs->data[465] << 8, 1 << 9 | 7);
	assert_int_equal(xs->data[576 + 255], words[2]);
	assert_int_equal(xs->data[2688], words[3]);
}

static void criu_4_2(void **state)
{
	struct image_mem *mem;
	struct image *img;
	struct model *m = open_golden("criu-4.2", &img, &mem);
	const struct m_proc *p = m->procs;

	assert_int_equal(image_format(img), IMAGE_CRIU);
	assert_int_equal(m->elf_machine, 62);
	assert_int_equal(p->threads[0].sigmask, 0x10);
	assert_int_equal(p->loginuid, UINT32_MAX);
	stock_regsets(&p->threads[0]);
	/* ids 7, 11, 40 and 90 become 1 to 4 */
	assert_int_equal(m->nfiles, 4);
	assert_string_equal(m->files[0].path, "pipe:[31337]");
	assert_string_equal(model_file(m, p->cwd_file_id)->path, "/");
	assert_string_equal(model_file(m, p->mm.exe_file_id)->path, "/bin/stock");
	assert_int_equal(m->files[2].build_id_len, 8);
	assert_int_equal(m->files[2].build_id[7], 8);
	assert_int_equal(p->mm.nvmas, 5);
	assert_int_equal(p->mm.vmas[0].flags, M_VMF_HEAP | M_VMF_NOHUGEPAGE);
	assert_int_equal(p->mm.vmas[1].kind, M_VMA_SHMEM);
	assert_int_equal(p->mm.vmas[4].kind, M_VMA_VVAR);
	assert_int_equal(p->mm.nguards, 1);
	assert_int_equal(m->nshms, 2);
	assert_true(m->shms[0].memfd);
	assert_false(m->shms[1].memfd);
	page_is(mem, MD_SPACE_PROC(400), 0x41000, 2);
	page_is(mem, MD_SPACE_SHMEM(p->mm.vmas[1].shm_id), 0x2000, 5);
	page_is(mem, MD_SPACE_SHMEM(p->mm.vmas[2].shm_id), 0, 6);
	close_golden(m, img, mem);
}

static void criu_4_2_tree(void **state)
{
	struct image_mem *mem;
	struct image *img;
	struct model *m = open_golden("criu-4.2-tree", &img, &mem);
	const struct m_proc *p = m->procs;

	assert_int_equal(m->nprocs, 2);
	assert_int_equal(p[1].state, M_DEAD);
	assert_int_equal(p[1].pid, 401);
	assert_int_equal(p[1].exit_code, 1792);
	assert_int_equal(p[0].mm.nvmas, 3);
	assert_int_equal(p[0].mm.vmas[1].kind, M_VMA_FILE_SHARED);
	assert_int_equal(model_file(m, p[0].mm.vmas[1].file_id)->flags & O_ACCMODE, O_RDWR);
	assert_int_equal(model_file(m, p[0].mm.vmas[2].file_id)->flags & O_ACCMODE, O_RDONLY);
	assert_int_equal(m->files[0].isk->proto, 17);
	assert_false(m->files[0].isk->has_tcp);
	close_golden(m, img, mem);
}

/* --- the text ------------------------------------------------------------------------------- */

static void text_makes_the_same(void **state)
{
	static const char *const names[] = {"image-1.0", "criu-4.2", "criu-4.2-tree"};
	char command[sizeof(scratch_path) * 8];

	if (system("/usr/bin/python3 -c '' 2>/dev/null"))
		skip();
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(command, sizeof(command),
			 "PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 '%s/tests/lib/mkimage.py' "
			 "'%s/tests/golden/%s.txt' %s && diff -r %s '%s/tests/golden/%s'",
			 root, root, names[i], names[i], names[i], root, names[i]);
		assert_int_equal(system(command), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(format_1_0),
		cmocka_unit_test(criu_4_2),
		cmocka_unit_test(criu_4_2_tree),
		cmocka_unit_test(text_makes_the_same),
	};

	root = getcwd(NULL, 0);
	if (access("tests/golden", F_OK)) {
		printf("tests/golden is not below the working directory\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, scratch_enter, scratch_leave);
}
