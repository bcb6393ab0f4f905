/* SPDX-License-Identifier: MIT */
/*
 * What the parts of image_verify() share: findings are counted and told one by one.
 */
#ifndef IMAGE_VERIFY_H
#define IMAGE_VERIFY_H

#include "src/image/image.h"

struct verify {
	struct image *img;
	const struct model *m; /* NULL when the metadata cannot be read */
	unsigned threads;
	void (*report)(void *arg, const char *line);
	void *arg;
	struct image_verify *ret;
	/* sums of what was told last, in a ring: two passes meet the same damage */
	uint64_t told[64];
	unsigned ntold;
};

__attribute__((format(printf, 2, 3))) void verify_bad(struct verify *v, const char *fmt, ...);
/* An error that is a finding; cleared for the next one. */
void verify_err(struct verify *v, struct err *err);

/* Pages: of the block file, or of CRIU's page files. -errno when looking itself fails. */
int verify_pages(struct verify *v, struct err *err);

#endif
