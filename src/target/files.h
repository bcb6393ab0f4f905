/* SPDX-License-Identifier: MIT */
/*
 * The tables behind struct files, for the files of this folder that fill them.
 *
 * Everything in the model lives in its arena; what is only needed while collecting is on the heap
 * of the guardian. Ids are positions in the model's arrays plus one. One thread.
 */
#ifndef TARGET_FILES_H
#define TARGET_FILES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/err.h"
#include "src/image/model.h"
#include "src/target/collect.h"
#include "src/target/fileid.h"
#include "src/target/idmap.h"
#include "src/target/proctext.h"
#include "src/target/same.h"
#include "src/target/smaps.h"

/* A process to look at: /proc of its main thread, or of a living one. */
struct proc_at {
	uint32_t pid; /* the process, for messages */
	pid_t tid;    /* whose /proc it is */
	int dir;      /* O_PATH of /proc/TID, -1: nothing left to look at */
	bool foreign; /* another mount namespace than ours */
};

/* A kernel's own file system: shared memory or huge pages that no path leads to. */
struct segment_fs {
	uint64_t dev;
	uint32_t page_shift; /* of huge pages, 0: plain shared memory */
};

/* What maps prints of a file, and what we made of it. */
struct mapped {
	uint64_t ino;
	uint32_t major, minor;
	uint32_t file_id;
	bool rw;
	bool id_tried;	  /* build id: looked for */
	const char *name; /* in the arena */
};

struct buildid {
	uint64_t dev, ino, size;
	int64_t mtime_ns;
	uint32_t len;
	uint8_t id[64];
};

struct summed {
	uint64_t dev, ino, size;
	int64_t mtime_ns;
	uint32_t sum;
};

struct survey {
	pid_t tid;
	uint64_t cost_ns; /* what reading it took */
	struct smaps smaps;
};

struct tty_range {
	uint32_t major, first, last;
};

enum { SEGMENT_FS_MAX = 8, TTY_RANGES_MAX = 64 };

struct pipe_seen;

/* A connection that nobody has accepted: its listening socket and its place in the queue there. */
struct sk_pending {
	uint32_t client, listener, place;
};

/* A description that no table has: it was in a queue, and a descriptor of ours keeps it open. */
struct passed {
	uint32_t id;
	int own;
};

struct files {
	struct model *m;
	struct segment_fs segment_fs[SEGMENT_FS_MAX];
	uint32_t nsegment_fs;
	struct tty_range ttys[TTY_RANGES_MAX];
	uint32_t nttys;
	/* options */
	bool hands_off, link_remap;
	uint64_t ghost_limit;
	struct fileid_opts file_id;
	/* by what is seen */
	struct idmap by_print, by_path, by_segment, by_buildid, by_survey, by_pipe, by_ghost,
		by_sum;
	struct mapped *mapped;
	uint32_t nmapped, mapped_room;
	struct buildid *buildids;
	uint32_t nbuildids, buildids_room;
	struct survey *surveys;
	uint32_t nsurveys, surveys_room;
	struct summed *summed;
	uint32_t nsummed, summed_room;
	struct pipe_seen *pipes; /* beside m->pipes */
	uint32_t npipes, pipes_room;
	int tee[2]; /* a pipe of ours, -1: not made yet */
	int diag;   /* a netlink socket of ours, -1: not made yet */
	uint32_t diag_seq;
	struct idmap by_socket; /* sockets by inode: file ids */
	uint32_t nindexed;	/* files looked at for it */
	struct sk_pending *pending;
	uint32_t npending, pending_room;
	struct passed *passed;
	uint32_t npassed, passed_room;
	/* of a tree that runs: */
	struct idmap by_holder; /* sockets and terminals: pids that have them open */
	bool holders_listed;
	uint64_t in_flight; /* descriptors in queues of the tree's unix sockets */
	bool tcp_established, tcp_close, ext_unix, shell_job, hold; /* options */
	/* connections: hold.c */
	const struct m_inet **held;
	uint32_t nheld;
	int hold_fd; /* as long as it is open nothing of them travels; -1: no such thing */
	int *grasped;
	uint32_t ngrasped, grasped_room;
	uint32_t *lock_files; /* beside m->locks: what file each is on */
	uint32_t nlock_files, lock_files_room;
	/* by kcmp; next ids from 2 */
	struct same same;
	bool told_blind;
	uint32_t next_vm, next_files, next_fs, next_sighand;
	uint64_t survey_worth_ns; /* cheaper surveys are not relied on */
	bool distrust;		  /* nor are others, of the process that is looked at */
	bool inherited;		  /* what its mappings are beside `maps` is from a survey */
	/* used again for every process */
	struct smaps smaps;
	bool kept;	     /* for a list of findings: a keeper's doing */
	struct dirty *dirty; /* of whom VmFlags "uw" is our doing; NULL: of nobody */
	bool leave_guards;   /* somebody else looks for guard regions */
	struct proctext link, text, segment_link;
	struct m_fd *fds;
	uint32_t nfds, fds_room;
};

/* What @p shares, or does not, in ways that no restore makes: findings. */
int shares_collect(struct files *f, const struct m_proc *p, struct err *err);

/* -ESRCH when there is no such process; at->dir is -1 with 0 when all its threads have exited. */
int proc_at_open(struct files *f, const struct m_proc *p, struct proc_at *ret, struct err *err);
void proc_at_close(struct proc_at *at);

/*
 * statx() of what the link @name below @at leads to. Never asks a file server: one that is part of
 * the frozen tree could not answer.
 */
int proc_at_stat(const struct proc_at *at, const char *name, struct statx *ret);

/* "map_files/START-END", below a proc_at. */
void map_files_name(char ret[64], const struct smaps_vma *v);

/* The device number as stat(2) gives it. */
uint64_t statx_dev(const struct statx *stx);

/* A NUL-terminated element for a heap array that doubles; NULL without memory. */
void *files_push(void *array, uint32_t *n, uint32_t *room, size_t size);

/* -errno of a step on @what of @at's process, with the text; -ENOENT means that it has gone. */
int files_fail(struct err *err, int error, const struct proc_at *at, const char *what);

/*
 * A finding when the name of what @at has open as @what ("fd 3", "cwd") is not its name here. Only
 * in a survey. -ENOMEM.
 */
int files_astray(struct files *f, const struct proc_at *at, const char *what,
		 const struct m_file *file, const struct statx *stx);

/*
 * Cuts " (deleted)" off @path and says whether the kernel put it there: a name may really end so.
 * @stx is what the path's link leads to.
 */
bool files_deleted(const struct proc_at *at, char *path, const struct statx *stx);

/* If options ask for one: of what @link below @at leads to, from the cache or by reading it. */
void files_checksum(struct files *f, const struct proc_at *at, const char *link,
		    struct m_file *file);

/* Fills what @stx knows. */
void files_fill(struct m_file *file, const struct statx *stx);
/* Adds @file with the next id, which is returned; 0 without memory. */
uint32_t files_add(struct files *f, const struct m_file *file);

/* The file that the link @name below @at (exe, cwd, root) leads to; id 0 when it cannot be read. */
int files_link(struct files *f, const struct proc_at *at, const char *name, uint32_t *ret_id,
	       struct err *err);

/* The file mapped at @v of f->smaps, whose printed name is @name, in the arena. */
int files_mapped(struct files *f, const struct proc_at *at, const struct smaps_vma *v,
		 const char *name, uint32_t *ret_id, struct err *err);

/*
 * The build id of the file mapped at @v, from the cache or the file; NULL when it cannot be had.
 * Good until the next call.
 */
const struct buildid *files_build_id(struct files *f, const struct proc_at *at,
				     const struct smaps_vma *v);

/* guards.c: regions made by MADV_GUARD_INSTALL, of a process whose VMAs are known. */
int guards_collect(struct model *m, const struct proc_at *at, struct m_mm *mm, struct err *err);

/* pipes.c: @file is one end of it; @dup is ours, or -1. Contents are read once for each pipe. */
int files_pipe(struct files *f, const struct proc_at *at, uint32_t fd, int dup,
	       const struct m_file *file, struct err *err);
int pipes_finish(struct files *f, struct err *err);
void pipes_deinit(struct files *f);

/* locks.c: those that @text, the fdinfo of @fd, has. */
int files_locks(struct files *f, const struct proc_at *at, uint32_t fd, uint32_t file_id,
		const char *text, struct err *err);

/*
 * ghosts.c: the path of @file is gone; @link below @at leads to it. Sets ghost_id or link_path. It
 * is called @what ("fd 7") in findings.
 */
int files_gone(struct files *f, const struct proc_at *at, const char *link, const char *what,
	       const struct statx *stx, struct m_file *file, struct err *err);

/* watches.c, epoll.c: @file is descriptor @fd of @p; everything else has been seen. */
int watches_finish(struct files *f, const struct m_proc *p, uint32_t fd, struct m_file *file,
		   struct err *err);
int epoll_finish(struct files *f, const struct m_proc *p, uint32_t fd, struct m_file *file,
		 struct err *err);

/* segment.c: NULL when @dev is an ordinary file system. */
const struct segment_fs *segment_fs_find(const struct files *f, uint64_t dev);
void segment_fs_init(struct files *f);
/*
 * The segment that @name below @at ("map_files/A-B", "fd/7") leads to, printed as @print. @v is the
 * mapping, or NULL for a descriptor.
 */
int files_segment(struct files *f, const struct proc_at *at, const char *name, const char *print,
		  uint64_t dev, uint64_t ino, const struct smaps_vma *v, uint32_t *ret_id,
		  struct err *err);

#endif
