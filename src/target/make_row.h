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
	/* signalfds that an epoll instance watches, where a process can do it */
	struct made_watch {
		const struct m_file *f;
		const struct m_epoll_target *t;
		uint32_t pid, ep, fd; /* whose calls, and their numbers there */
	} * watches;
	uint32_t nwatches;
	/* files that were taken for the ones that were dumped without a checksum, the first one */
	uint32_t nunsummed;
	const struct m_file *unsummed;
	int first_fd;
	uint32_t largefile; /* O_LARGEFILE as the kernel shows it */
	/* sockets */
	int *peers; /* [i]: ours, what it sends arrives at file i + 1; -1: none */
	bool unix_opened, unix_fed, inet_opened, finished;
	bool asked_rights, lends_rights;
	int *paths; /* [i]: O_PATH of what file i + 1, a unix socket, is bound to; -1: no path */
	uint32_t nbound;
	uint32_t *bound; /* files whose paths were not there before */
	/* terminals: [i]: of tty i + 1, a slave in most cases; -1: not open */
	int *ttys;
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
	make_timerfd, make_pidfd, make_ns, make_epoll, make_inotify, make_memfd, make_unix,
	make_inet, make_netlink, make_packet, make_tty;

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
/* Those of processes, by make_inside.c: 1 when a call was added, 0: not @p's, -1: no room. */
int make_lock_call(const struct make *mk, uint32_t i, const struct m_proc *p, struct batch *b);
bool make_lock_inside(const struct make *mk, uint32_t i, const struct m_proc *p);
int make_lock_failed(const struct make *mk, uint32_t i, int error, struct err *err);
/* make_inside.c: which items of epoll instances are left to processes. */
int make_plan_watches(struct make *mk, struct err *err);
bool make_watched_inside(const struct make *mk, const struct m_epoll_target *t);
/* make_sysv.c */
int make_sysv(struct make *mk, const struct m_shm *s, struct err *err);
void make_sysv_remove(struct make *mk);

/* make_memfd.c */
/* Of huge pages, as a mapping of it says; 0: the default size. */
unsigned make_huge_bits(const struct model *m, const struct m_shm *s);
int make_segments(struct make *mk, struct err *err);
int make_seal_rest(struct make *mk, struct err *err);

/*
 * make_sk.c: options of a socket: before it is bound, as far as that depends on them, and all of
 * them once its queues are full.
 */
int make_sk_early(int sk, const struct m_file *f, const struct m_sk_opts *o, struct err *err);
int make_sk_opts(int sk, const struct m_file *f, const struct m_sk_opts *o, struct err *err);
/* Room for @len bytes, whatever was asked for. */
void make_sk_room(int sk, int name, uint64_t len);
int make_sk_int(int sk, int level, int name, int value);

/* make_user.c: as whom the other end sees it. 0, or -1 with errno. */
struct make_user {
	bool known; /* else: as the tool */
	uint32_t uid, gid;
};
int make_user_listen(struct make_user user, int sk, int backlog);
int make_user_pair(struct make_user user, int type, int *ret_pair);
int make_user_connect(struct make_user user, int sk, const void *addr, unsigned len);

/* make_bind.c: names of unix sockets. */
/* @passing: only for as long as somebody connects, so a path that was not there goes again. */
int make_unix_bind(struct make *mk, const struct m_file *f, int sk, bool passing, struct err *err);
/* @path: O_PATH of it, -1: by its name. */
int make_unix_connect(const struct m_file *f, const struct m_unix *to, int path,
		      struct make_user user, int sk, struct err *err);
/* The name by which the socket behind @path is found whatever has become of its own. */
unsigned make_unix_addr(int path, void *ret_sockaddr_un);
/* After a failure: paths that were made. */
void make_unix_undo(struct make *mk);
/* make_queue.c: messages that nobody has read, into all unix sockets. */
int make_unix_feed(struct make *mk, struct err *err);
/* make_tcp.c, in the order of use */
/* Before it is bound: in repair mode, with its sequence numbers. */
int make_tcp_begin(const struct model *m, int sk, const struct m_file *f, struct err *err);
/* Connected: options, what it has received. */
int make_tcp_connect(int sk, const struct m_file *f, struct err *err);
/* What is under way, windows. */
int make_tcp_refill(const struct model *m, int sk, const struct m_file *f, struct err *err);
int make_tcp_let_go(const struct model *m, int sk, const struct m_file *f, struct err *err);
/* What was not sent yet, ends of streams. */
int make_tcp_rest(const struct model *m, int sk, const struct m_file *f, struct err *err);

/* Open flags that fcntl(F_SETFL) can put right when a description was made without. */
int make_set_flags(int fd, const struct m_file *f, struct err *err);

#endif
