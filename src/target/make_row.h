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
	int *segments;	   /* [i]: segment i + 1; -1: none */
	struct made_sysv {
		int id;
		bool made; /* by us: removed again when all have attached it */
	} * sysv;	   /* [i]: segment i + 1, where it is one of System V */
	int *ghosts;	   /* [i]: O_PATH of ghost i + 1; -1: not needed yet */
	int first_fd;
	uint32_t largefile; /* O_LARGEFILE as the kernel shows it */
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

extern const struct make_row make_path, make_pipe, make_fifo, make_eventfd, make_signalfd,
	make_timerfd, make_pidfd, make_ns, make_epoll, make_inotify, make_memfd;

/* Takes @fd, in every case, as the description @file_id; it gets another number. */
int make_put(struct make *mk, uint32_t file_id, int fd, struct err *err);

/* "file 7 (/etc/passwd)": what an error is about. Valid until the next call. */
const char *make_name(const struct m_file *f);

/*
 * make_ghost.c: opens what @f's path leads or led to: a deleted file is made again from the image
 * or found by another name. A descriptor, any number.
 */
int make_open(struct make *mk, const struct m_file *f, int flags, struct err *err);
/* Takes away the names that the dump gave to files for us. */
void make_forget_links(const struct make *mk);
/* Another description of what is open at @fd. */
int make_reopen(int fd, const struct m_file *f, int flags, struct err *err);

/* make_epoll.c: what all epoll instances watch. */
int make_epoll_items(struct make *mk, struct err *err);
/* make_lock.c: locks that belong to descriptions. */
int make_locks(struct make *mk, struct err *err);
/* make_sysv.c */
int make_sysv(struct make *mk, const struct m_shm *s, struct err *err);
void make_sysv_remove(struct make *mk);

/* make_memfd.c */
int make_segments(struct make *mk, struct err *err);
int make_seal_rest(struct make *mk, struct err *err);

/* Open flags that fcntl(F_SETFL) can put right when a description was made without. */
int make_set_flags(int fd, const struct m_file *f, struct err *err);

#endif
