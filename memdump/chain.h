/* SPDX-License-Identifier: MIT */
/*
 * A block file with its parents, opened.
 *
 *	DIR/NAME  DIR/parent/NAME  DIR/parent/parent/NAME ...
 *
 * A parent is known by its file_id. Directories are opened one from the other, each by its link
 * "parent", which is followed; nothing below it is.
 */
#ifndef MEMDUMP_CHAIN_H
#define MEMDUMP_CHAIN_H

#include "memdump/index.h"
#include "memdump/reader_file.h"

enum {
	MD_CHAIN_MAX = 256, /* files */
	MD_WHERE_LEN = 240,
};

struct md_chain_file {
	struct md_raw_file raw;
	struct md_index_list list;
	char where[MD_WHERE_LEN]; /* "" or "parent 2, DIR/NAME: ", begins messages */
};

struct md_chain {
	struct md_chain_file *files; /* the file itself, its parent, ... */
	unsigned n;
	bool torn; /* the index of the first was rebuilt */
};

/*
 * All files and their indexes, nothing resolved yet. @flags as md_file_open()'s. -EBADMSG when a
 * parent is missing, is another file, or has the chain come back to a file in it.
 */
int md_chain_open(struct md_chain *c, int dirfd, const char *name, unsigned flags, struct err *err);
void md_chain_close(struct md_chain *c);
/* One file without rounds and maps: what it stores is what counts. */
static inline bool md_chain_is_plain(const struct md_chain *c)
{
	return c->n == 1 && !c->files[0].list.layered;
}
int md_chain_resolve(const struct md_chain *c, struct md_index *ret, struct err *err);

/*
 * The steps of opening, for who looks at one file after the other. @child is the number @depth - 1
 * of the chain and lies in @dirfd; the parent's directory, or -EBADMSG when it is not there.
 */
int md_parent_dir(int dirfd, const char *name, unsigned depth, char *ret_where, struct err *err);
/* Opens and compares with what @child says. */
int md_parent_open(struct md_raw_file *f, int dirfd, const char *name,
		   const struct md_raw_file *child, const char *where, struct err *err);
/* Puts @where before what @from says. */
int md_err_where(struct err *err, const char *where, const struct err *from);

/*
 * Of one file the pieces that count: those of block b are pieces[first[b]] to first[b + 1], by
 * space, then by address. Those of spaces that @want says no to are left out; NULL: none are.
 */
struct md_live {
	struct md_index_piece *pieces;
	size_t *first;
};
int md_live_init(struct md_live *l, const struct md_chain *c, const struct md_index *x,
		 unsigned file, bool (*want)(void *arg, uint64_t space), void *want_arg,
		 struct err *err);
void md_live_deinit(struct md_live *l);

#endif
