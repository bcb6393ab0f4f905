/* SPDX-License-Identifier: MIT */
/*
 * Where an image is made before it has its name.
 *
 *	/a/b/NAME	absent, or an empty directory
 *	/a/b/.NAME.partial-PID		made here, renamed over NAME at the end
 *
 * With image->into, NAME is a directory with whatever is in it, and gets the files:
 *
 *	/a/b/NAME/.stasis.partial-PID	made here, moved up one by one at the end, the inventory
 * last
 *
 * An older image's files are replaced or, if this one has no such file, removed: a reader would
 * take them for this image's. What is no image's stays. A failure before the first move leaves the
 * older image as it was; one between moves leaves no image.
 *
 * An empty directory that cannot be replaced (a mount point, our own working directory, a parent
 * that is not ours to write) is filled in place instead; the inventory then appears last, by
 * rename, and before that there is no image.
 */
#ifndef IMAGE_PLACE_H
#define IMAGE_PLACE_H

#include "src/image/store.h"

/* Fills parent_fd, name, tmp, replace, in_place and dirfd of @img from its path. */
int place_make(struct image *img, struct err *err);
/* Gives the finished directory its name and makes that durable. */
int place_publish(struct image *img, struct err *err);
/* Takes everything away that place_make() and what followed put there. */
void place_remove(struct image *img);

#endif
