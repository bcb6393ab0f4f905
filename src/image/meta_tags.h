/* SPDX-License-Identifier: MIT */
/*
 * Tags of memory to and from Mm.tags: a run of pages each, packed as blocks of pages are.
 */
#ifndef IMAGE_META_TAGS_H
#define IMAGE_META_TAGS_H

#include "src/image/meta.h"

/* -ENOMEM without a text. */
int meta_put_tags(struct meta_out *o, const struct m_mm *mm, Im__Mm *to);
/* -EBADMSG with @name. Whether they are in mappings that have tags is check.c's to see. */
int meta_get_tags(struct meta_in *in, const char *name, const Im__Mm *from, struct m_mm *mm);

#endif
