/* SPDX-License-Identifier: MIT */
/*
 * How one kind of file is made: a row of the table in make.c.
 *
 * A hook that is NULL has nothing to do. Hooks are called in the order of file ids, each for all
 * files before the next one.
 */
#ifndef TARGET_MAKE_ROW_H
#define TARGET_MAKE_ROW_H

#include "src/target/make.h"

/* What is known of a file of the model beside the model. */
struct made {
	int fd;	       /* -1: not made */
	bool wanted;   /* something refers to it */
	bool in_table; /* a descriptor does */
	bool mapped;   /* its contents are not in the image, but memory of the tree */
};

struct make {
	const struct model *m;
	const struct make_opts *opts;
	struct made *made; /* [i]: file i + 1 */
	int first_fd;
};

enum { MAKE_LATER = 1 };

struct make_row {
	/*
	 * Makes @f and hands it to make_put(); it may make and put others of its kind at the same
	 * time, which are then not asked for. 0, MAKE_LATER when it needs a process of the tree
	 * (it is called again by make_late(), @late is true then), or -errno.
	 */
	int (*open)(struct make *mk, const struct m_file *f, bool late, struct err *err);
	/* All descriptions and all processes are there. */
	int (*late)(struct make *mk, const struct m_file *f, int fd, struct err *err);
	/* The last thing before the tree runs. */
	int (*finish)(struct make *mk, const struct m_file *f, int fd, struct err *err);
};

extern const struct make_row make_path;

/* Takes @fd, in every case, as the description @file_id; it gets another number. */
int make_put(struct make *mk, uint32_t file_id, int fd, struct err *err);

/* "file 7 (/etc/passwd)": what an error is about. Valid until the next call. */
const char *make_name(const struct m_file *f);

/* Open flags that fcntl(F_SETFL) can put right when a description was made without. */
int make_set_flags(int fd, const struct m_file *f, struct err *err);

#endif
