/* SPDX-License-Identifier: MIT */
/* The earlier image that an incremental dump refers to. */
#include "src/ops/parent.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/cleanup.h"

/* The earlier image: opened, seen to be of this process, and linked to. */
int parent_open(const struct dump_opts *o, struct image *img, struct md_file **ret, struct err *err)
{
	cleanup_fd int dir =
		openat(image_dirfd(img), o->prev_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint64_t space;
	struct err why = {0};

	if (dir < 0) {
		err_set(err, errno, "open the earlier image %s, as seen from %s", o->prev_dir,
			o->dir);
		err_hint(err, "--prev-images-dir is relative to the new image, as in criu: "
			      "../NAME for one beside it");
		return -err->errnum;
	}
	*ret = md_file_open(dir, IMAGE_BLOCK_FILE, 0, &why);
	if (!*ret)
		return err_fail(err, why.errnum, why.class, "the earlier image %s: %s", o->prev_dir,
				why.msg);
	for (size_t i = 0; md_file_space(*ret, i, &space); i++) {
		if (space != MD_SPACE_PROC(o->pid))
			continue;
		return symlinkat(o->prev_dir, image_dirfd(img), "parent") < 0
			       ? err_set(err, errno, "link to the earlier image %s", o->prev_dir)
			       : 0;
	}
	err_fail(err, EINVAL, ERR_USAGE,
		 "the earlier image %s is of another process: it has no "
		 "memory of pid %d",
		 o->prev_dir, o->pid);
	err_hint(err, "name the last image of this process, or leave --prev-images-dir out");
	return -EINVAL;
}
