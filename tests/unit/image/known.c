/* SPDX-License-Identifier: MIT */
/* What CRIU itself wrote for the same state, byte by byte, and what its restore insists on. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "src/image/core.pb-c.h"
#include "src/image/mm.pb-c.h"
#include "src/image/store.h"
#include "src/image/tree.pb-c.h"
#include "tests/unit/image/scratch.h"
#include "tests/unit/image/small_image.h"

enum { PID = 27863 };

/* The state whose files CRIU 4.2 wrote: see same_bytes_as_criu(). */
static struct model *known_model(void)
{
	static const uint32_t tids[] = {27863, 27865, 27866};
	struct model *m = small_model(3);
	struct m_proc *p = &m->procs[0];

	for (unsigned i = 0; i < 3; i++)
		p->threads[i].tid = tids[i];
	p->pid = p->pgid = p->sid = PID;
	p->ns = (struct m_ns){11, 12, 13, 14, 15, 16, 17, 18};
	m->tool_ns = p->ns;
	strcpy(m->run_id, "01234567-89ab-4cde-8f01-23456789abcd");
	m->net_lock = M_NET_LOCK_NFTABLES;
	for (unsigned i = 0; i < 8; i++)
		small_file(m, M_FILE_REG, "/");
	p->cwd_file_id = 10;
	p->root_file_id = 11;
	p->umask = 18;
	m->fdtables[0].n = 1;
	m->fdtables[0].fds[0] = (struct m_fd){.fd = 0, .file_id = 4};
	m->files[3].type = M_FILE_REG;
	return m;
}

static void write_known(struct model *m)
{
	struct err err = {0};
	struct image *img = image_create("x", IMAGE_STASIS, &err);

	assert_no_err(&err);
	image_write_model(img, m, &err);
	image_commit(img, m, &err);
	assert_no_err(&err);
	image_close(img);
}

static void file_is(const char *name, const char *hex)
{
	uint8_t got[256], want[256];
	size_t n = 0;
	int fd = open(name, O_RDONLY);
	ssize_t len = read(fd, got, sizeof(got));

	close(fd);
	for (const char *p = hex; *p; p += *p == ' ' ? 1 : 2)
		if (*p != ' ')
			want[n++] = (uint8_t)strtoul((char[3]){p[0], p[1], 0}, NULL, 16);
	assert_int_equal(len, n);
	assert_memory_equal(got, want, n);
}

static void same_bytes_as_criu(void **state)
{
	struct model *m;

	/* It writes numbers outside of messages in the byte order of its machine. */
	if (BYTE_ORDER != LITTLE_ENDIAN)
		skip();
	m = known_model();
	write_known(m);
	file_is("x/pstree.img", "19435654 30302750 1a000000 08d7d901 1000 18d7d901 20d7d901 "
				"28d7d901 28d9d901 28dad901");
	file_is("x/ids-27863.img", "19435654 30204354 18000000 0802 1002 1802 2002 2801 3002 3803 "
				   "4004 4806 5007 5808 6005");
	file_is("x/fs-27863.img", "19435654 12394051 06000000 080a 100b 1812");
	file_is("x/fdinfo-2.img", "19435654 32372156 08000000 0804 1000 1801 2000");
	file_is("x/seccomp.img", "19435654 49304164 00000000");
	scratch_remove("x");
	model_free(m);
}

/* --- what restore insists on ---------------------------------------------------------------- */

static ProtobufCMessage *load(enum frame_id id, const char *name, struct store_in *in)
{
	int dirfd = open("x", O_RDONLY | O_DIRECTORY);
	struct err err = {0};
	ProtobufCMessage *msg;

	store_load(dirfd, id, name, in, &err);
	assert_no_err(&err);
	close(dirfd);
	assert_int_equal(frame_next(&in->f, &msg, NULL, &err), 1);
	return msg;
}

static void cores(void **state)
{
	struct model *m = known_model();
	struct store_in in;
	const Im__Core *c;

	m->procs[0].threads[0].sigmask = 0x1111;
	m->procs[0].threads[1].sigmask = 0x2222;
	m->procs[0].threads[0].nice = -7;
	memset(m->procs[0].threads[0].regsets[0].data + 128, 0x55, 8);
	write_known(m);
	c = (const Im__Core *)load(FRAME_CORE, "core-27863.img", &in);
	assert_int_equal(c->mtype, 1);
	assert_null(c->ids);
	assert_int_equal(c->tc->n_sigactions, 62);
	assert_int_equal(c->tc->rlimits->n_rlimits, 16);
	assert_non_null(c->tc->timers);
	assert_int_equal(c->tc->blk_sigset, 0x1111);
	assert_false(c->thread_core->has_blk_sigset);
	assert_non_null(c->thread_core->creds);
	assert_int_equal(c->thread_core->sched_nice, -7);
	assert_int_equal(c->thread_info->gpregs->ip, 0x5555555555555555);
	store_unload(&in);
	c = (const Im__Core *)load(FRAME_CORE, "core-27865.img", &in);
	assert_null(c->tc);
	assert_null(c->ids);
	assert_int_equal(c->thread_core->blk_sigset, 0x2222);
	assert_non_null(c->thread_core->creds);
	assert_non_null(c->thread_info);
	store_unload(&in);
	scratch_remove("x");
	model_free(m);
}

static void vmas(void **state)
{
	struct model *m = known_model();
	struct m_mm *mm = &m->procs[0].mm;
	struct m_guard *g = model_push(m, &mm->guards, &mm->nguards, sizeof(*g));
	struct store_in in;
	const Im__Mm *msg;

	*g = (struct m_guard){0x15000, 0x16000};
	small_vma(m, 0x100000, 0x104000, M_VMA_VVAR);
	small_vma(m, 0x104000, 0x106000, M_VMA_VVAR);
	small_vma(m, 0x106000, 0x108000, M_VMA_VDSO);
	small_vma(m, 0xfff000, 0x1000000, M_VMA_VSYSCALL);
	m->shms[0].memfd = true;
	write_known(m);
	msg = (const Im__Mm *)load(FRAME_MM, "mm-27863.img", &in);
	/* four of the small image, one for both vvar, vdso, vsyscall; the guard last */
	assert_int_equal(msg->n_vmas, 8);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(msg->vmas[i]->fd, -1);
	assert_int_equal(msg->vmas[3]->status, 0x4081);
	assert_int_equal(msg->vmas[3]->flags, 1);
	assert_int_equal(msg->vmas[3]->shmid, m->nfiles + 1);
	assert_int_equal(msg->vmas[4]->status, 0x1201);
	assert_int_equal(msg->vmas[4]->start, 0x100000);
	assert_int_equal(msg->vmas[4]->end, 0x106000);
	assert_int_equal(msg->vmas[5]->status, 0x209);
	assert_int_equal(msg->vmas[6]->status, 0x204);
	assert_int_equal(msg->vmas[7]->status, 0x10000);
	assert_int_equal(msg->vmas[7]->start, 0x15000);
	store_unload(&in);
	scratch_remove("x");
	model_free(m);
}

static void page_maps(void **state)
{
	struct err err = {0};
	struct store_in in;
	ProtobufCMessage *msg;
	const Im__PagemapEntry *e;

	small_image("x", IMAGE_CRIU, 1, 2, &err);
	assert_no_err(&err);
	assert_int_equal(((Im__PagemapHead *)load(FRAME_PAGEMAP, "pagemap-100.img", &in))->pages_id,
			 1);
	assert_int_equal(frame_next(&in.f, &msg, NULL, &err), 1);
	e = (const Im__PagemapEntry *)msg;
	assert_int_equal(e->compat_nr_pages, 3);
	assert_int_equal(e->nr_pages, 3);
	assert_int_equal(e->flags, 4);
	assert_int_equal(frame_next(&in.f, &msg, NULL, &err), 1);
	assert_int_equal(((const Im__PagemapEntry *)msg)->flags, 6);
	store_unload(&in);
	scratch_remove("x");
}

static void inventory(void **state)
{
	struct model *m = known_model();
	const Im__Inventory *inv;
	struct store_in in;

	write_known(m);
	inv = (const Im__Inventory *)load(FRAME_INVENTORY, "inventory.img", &in);
	assert_int_equal(inv->img_version, 2);
	assert_true(inv->has_fdinfo_per_id && inv->fdinfo_per_id);
	assert_true(inv->has_ns_per_id && inv->ns_per_id);
	assert_int_equal(inv->root_ids->files_id, 1);
	assert_int_equal(inv->root_ids->net_ns_id, 2);
	assert_int_equal(inv->root_cg_set, 1);
	assert_non_null(inv->plugins_entry);
	assert_int_equal(inv->plugins_entry->n_plugins, 0);
	assert_string_equal(inv->dump_criu_run_id, m->run_id);
	assert_int_equal(inv->network_lock_method, 1);
	store_unload(&in);
	scratch_remove("x");
	model_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_bytes_as_criu),
		cmocka_unit_test(cores),
		cmocka_unit_test(vmas),
		cmocka_unit_test(page_maps),
		cmocka_unit_test(inventory),
	};

	return cmocka_run_group_tests(tests, scratch_enter, scratch_leave);
}
