/* SPDX-License-Identifier: MIT */
/* The earlier image that an incremental dump refers to. */
#include "src/ops/parent.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "src/target/procfs.h"

static int of_another(const struct dump_opts *o, struct err *err, const char *what,
		      const char *name)
{
	err_fail(err, EINVAL, ERR_USAGE, "the earlier image %s is of another process: %s%s pid %d",
		 o->prev_dir, what, name, o->pid);
	err_hint(err, "name the last image of this process, or leave --prev-images-dir out");
	return -EINVAL;
}

static bool has_space(struct md_file *f, uint64_t want)
{
	uint64_t space;

	for (size_t i = 0; md_file_space(f, i, &space); i++)
		if (space == want)
			return true;
	return false;
}

/*
 * It has started at the same time of the same boot, or is what a restore has made of that image,
 * which gives back where the kernel had put its memory at random.
 */
static bool is_the_same(const struct model *m, const struct m_proc *p, const struct procfs_stat *st)
{
	if (p->start_time == st->start_time && m->boottime_ns <= clock_ns(CLOCK_BOOTTIME))
		return true;
	return p->mm.start_stack && p->mm.start_stack == st->start_stack &&
	       p->mm.start_code == st->start_code && p->mm.start_brk == st->start_brk &&
	       p->mm.arg_start == st->arg_start;
}

/* Numbers of processes are used again. */
static int check_process(const struct dump_opts *o, struct image *img, struct err *err)
{
	struct err why = {0};
	struct image *from = image_open_at(image_dirfd(img), o->prev_dir, &why);
	struct model *m = from ? image_read_model(from, &why) : NULL;
	const struct m_proc *p = m ? model_proc(m, (uint32_t)o->pid) : NULL;
	struct procfs_stat st;
	int ret = 0;

	if (!m)
		ret = err_fail(err, why.errnum, why.class, "the earlier image %s: %s", o->prev_dir,
			       why.msg);
	/* That it has gone is seen soon enough. */
	else if (p && procfs_stat(o->pid, 0, &st) == 0 && !is_the_same(m, p, &st))
		ret = of_another(o, err, p->comm,
				 ", which started at another time than this one, had");
	model_free(m);
	image_close(from);
	return ret;
}

/* The earlier image: opened, seen to be of this process, and linked to. */
int parent_open(const struct dump_opts *o, struct image *img, struct md_file **ret, struct err *err)
{
	cleanup_fd int dir =
		openat(image_dirfd(img), o->prev_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct err why = {0};
	int checked;

	if (dir < 0) {
		err_set(err, errno, "open the earlier image %s, as seen from %s", o->prev_dir,
			o->dir);
		err_hint(err, "--prev-images-dir is relative to the new image, as in criu: "
			      "../NAME for one beside it");
		return -err->errnum;
	}
	*ret = md_file_open(dir, IMAGE_BLOCK_FILE, 0, &why);
	if (!*ret && why.errnum == ENOENT) {
		err_fail(err, ENOENT, why.class,
			 "the earlier image %s has no " IMAGE_BLOCK_FILE
			 ": it is none that changes can be told from",
			 o->prev_dir);
		err_hint(err, "name the last image of this process (none of --image-format criu), "
			      "or leave --prev-images-dir out: the new image is a whole one then");
		return -ENOENT;
	}
	if (!*ret) {
		err_fail(err, why.errnum, why.class, "the earlier image %s: %s", o->prev_dir,
			 why.msg);
		err_hint(err,
			 "%s; or leave --prev-images-dir out: the new image is a whole one then",
			 why.hint[0] ? why.hint : "see what `stasis verify` says of it");
		return -err->errnum;
	}
	if (!has_space(*ret, MD_SPACE_PROC(o->pid)))
		return of_another(o, err, "it has no memory of", "");
	checked = check_process(o, img, err);
	if (checked < 0)
		return checked;
	return symlinkat(o->prev_dir, image_dirfd(img), "parent") < 0
		       ? err_set(err, errno, "link to the earlier image %s", o->prev_dir)
		       : 0;
}
