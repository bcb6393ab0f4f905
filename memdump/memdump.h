/* SPDX-License-Identifier: MIT */
/*
 * memdump moves memory: reader -> pack -> writer, on all CPUs, in bounded memory.
 *
 *	reader ──▶ block ──pack──▶ block ──▶ writer
 *	one thread      all threads      one thread
 *	at a time                        at a time
 *
 * Every thread of a run does whatever there is to do; reading and writing are roles that one thread
 * at a time takes. So a plug needs no lock, but must not care which thread calls.
 *
 * The library stands alone (base/ and the codecs): it prints nothing and keeps no globals, so two
 * runs may share a process. All lengths are bytes; all target addresses are uint64_t.
 *
 * A block is the unit that flows. It holds up to md_opts.block_size bytes of one space (an address
 * space or a shared segment), made of up to MD_BLOCK_EXTENTS extents in ascending address order, so
 * that a sparse address space fills blocks as well as a dense one:
 *
 *	raw    │ 0x1000..0x3000 │ 0x9000..0xa000 │        raw_len = 0x3000
 *	offset  0                0x2000
 *
 * Blocks arrive at the writer in any order. A block has one owner; whoever has it passes it on or
 * calls md_block_done(), on every path.
 */
#ifndef MEMDUMP_MEMDUMP_H
#define MEMDUMP_MEMDUMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

enum {
	MD_BLOCK_MIN = 64 << 10,
	MD_BLOCK_MAX = 4 << 20,
	MD_BLOCK_EXTENTS = 512,	      /* most extents in one block */
	MD_BLOCK_HEADROOM = 12 << 10, /* bytes before data that belong to the writer */
};

/* Chosen by measurement: the table is in docs/INTERNALS.md. */
#define MD_DEFAULT_CODEC      MD_CODEC_LZ4
#define MD_DEFAULT_LEVEL      1
#define MD_DEFAULT_BLOCK_SIZE (256u << 10)
#define MD_DEFAULT_POOL_BYTES ((size_t)32 << 20)
/* With a block size that was asked for, when that much is needed. */
#define MD_MOST_POOL_BYTES ((size_t)104 << 20)

/* Codec numbers are on disk: never renumber. */
enum md_codec_id {
	MD_CODEC_NONE = 0, /* payload is the raw bytes */
	MD_CODEC_LZ4 = 1,  /* one LZ4 block, no frame */
	MD_CODEC_ZSTD = 2, /* one zstd frame */
	MD_CODEC_ZERO = 3, /* all bytes zero, no payload */
	MD_CODEC_MAP = 4,  /* no pages: a record that says which pages a space has */
	MD_CODEC_SAME = 5, /* no payload: another process has them, at the same addresses */
	MD_NCODECS = 6,
};

/* A space: one address space (the pid) or one shared segment (the shmid). On disk as is. */
#define MD_SPACE_PROC(pid)    ((uint64_t)(uint32_t)(pid))
#define MD_SPACE_SHMEM(shmid) (1ULL << 56 | (uint64_t)(shmid))
#define MD_SPACE_KIND(space)  ((unsigned)((space) >> 56)) /* 0 process, 1 shared segment */
#define MD_SPACE_ID(space)    ((space)&0xffffffffffffffULL)

struct md_extent {
	uint64_t addr; /* page aligned; for a shared segment the offset in it */
	uint64_t len;  /* multiple of the page size */
};

/* Which pages of a range are wanted. */
enum md_pick {
	MD_PICK_PRESENT, /* present or swapped, not the shared zero page: anonymous memory */
	MD_PICK_COW,  /* of those only the ones no longer backed by the file: private file maps */
	MD_PICK_ALL,  /* every page: vDSO, or a list that was scanned before */
	MD_PICK_DATA, /* of a descriptor: what SEEK_DATA finds */
	/*
	 * Every page, and the process has just written it: nobody looks whether it has it in common
	 * with another. Should it, it is given a copy of its own (see reader_vm.c).
	 */
	MD_PICK_OWN,
	/*
	 * Of memory that a userfaultfd with WP_ASYNC has (PAGEMAP_SCAN, Linux 6.7; other memory is
	 * passed over by the first two). A page is write protected before it is read, so that a
	 * write between the two is seen by the next look.
	 */
	MD_PICK_TRACK,	 /* what MD_PICK_PRESENT means; from now on its writes are told */
	MD_PICK_DIRTY,	 /* of that what was written since it was last looked at */
	MD_PICK_TRACKED, /* what MD_PICK_PRESENT means, protecting nothing: md_scan_tracked() */
};

struct md_range {
	uint64_t space;
	uint64_t addr; /* in the target; for MD_PICK_DATA the offset in the file */
	uint64_t len;
	/* Only for a shared segment read through a mapping (fd -1): the offset that @addr is. */
	uint64_t stored_as;
	int pid; /* read from this process ... */
	int fd;	 /* ... or, when not -1, from this descriptor (shared memory, memfd) */
	enum md_pick pick;
	/*
	 * A process that may have the same pages at the same addresses, as it has forked this one;
	 * 0: none. Where that can be told (CAP_SYS_ADMIN), and its ranges are in the list before,
	 * they are not read but stored as MD_CODEC_SAME. Not for files with rounds, maps or a
	 * parent.
	 */
	int kin;
};

struct md_opts {
	enum md_codec_id codec; /* NONE, LZ4 or ZSTD */
	int level;		/* lz4: acceleration >= 1; zstd: level, negative allowed */
	unsigned threads;	/* the calling one included; 0: all CPUs this process may use */
	uint32_t block_size;	/* 0: the default; MD_BLOCK_MIN..MD_BLOCK_MAX, power of two */
	/*
	 * Most memory for blocks and codec contexts; 0: the default. The smallest pool holds
	 * writer.holds + 2 per worker + 2 blocks: where that does not fit there are fewer workers
	 * than asked for, and with block_size 0 smaller blocks. With a block_size and no pool_bytes
	 * the pool grows up to MD_MOST_POOL_BYTES first.
	 */
	size_t pool_bytes;
	/*
	 * Stored with every block of the run: of several copies of a page in one file the one of
	 * the highest round counts. Within one round no page may be read twice.
	 */
	uint32_t round;
	/*
	 * Further runs to the same writer follow: it pauses instead of completing its output.
	 * Whoever asks for that ends the writer with a run without it, or with md_writer_finish().
	 */
	bool more;
	/* Asked between blocks, by one thread at a time; true: stop with -EINTR. May be NULL. */
	bool (*stop)(void *arg);
	void *stop_arg;
	/* Written by the run with relaxed atomics, for a progress display. May be NULL. */
	struct md_progress *progress;
};

struct md_progress {
	uint64_t raw_bytes;    /* read from the target so far */
	uint64_t packed_bytes; /* given to the writer so far */
	uint64_t raw_total;    /* what raw_bytes will be, where that is known; else 0 */
};

/* busy + wait = wall time * threads. The stage with the least to spare is the bottleneck. */
struct md_stage_stats {
	uint64_t busy_ns; /* at work, summed over the threads */
	uint64_t wait_ns; /* not at work in this stage */
	unsigned threads; /* at most in this stage at a time */
};

struct md_stats {
	uint64_t raw_bytes;	     /* bytes that were read from the target */
	uint64_t packed_bytes;	     /* payload bytes that were written */
	uint64_t file_bytes;	     /* the writer's whole output: headers, payload, index */
	uint64_t same_bytes;	     /* not read: another process of the run has the same pages */
	uint64_t blocks[MD_NCODECS]; /* by enum md_codec_id, as stored */
	uint64_t extents;
	uint64_t vanished_bytes; /* pages that were gone when their turn came */
	uint64_t wall_ns;
	struct md_stage_stats read, pack, write;
	bool io_uring;		  /* false: pwrite instead */
	char io_uring_reason[96]; /* why not */
	bool direct;		  /* O_DIRECT was asked for and works */
	char direct_reason[96];	  /* why it does not, when it was asked for */
	const char *bottleneck;	  /* "read", "pack" or "write": static text */
	uint32_t block_size;	  /* as used */
	size_t pool_bytes;	  /* as used: buffers of all blocks */
};

struct md_block {
	/* set by the reader */
	uint64_t space;
	uint64_t space_off; /* raw bytes of this space in the blocks before this one */
	uint32_t raw_len;
	uint32_t nextents;
	struct md_extent *extents; /* MD_BLOCK_EXTENTS of them */
	/*
	 * block_size bytes, page aligned. Behind the pack stage the raw bytes are still there when
	 * codec is NONE or ZERO (with md_opts.codec NONE always), else they are lost.
	 */
	uint8_t *raw;
	uint32_t round; /* md_opts.round, by the pipe */
	/*
	 * Set by the pack stage, or by the reader to MD_CODEC_SAME: the pages of process same_as.
	 * There are no raw bytes then, and raw_len may be more than block_size.
	 */
	enum md_codec_id codec;
	uint32_t same_as;
	uint32_t packed_len; /* 0 for a zero block, or one without raw bytes */
	/*
	 * What to store, page aligned. MD_BLOCK_HEADROOM bytes before it and the bytes behind it up
	 * to the next page boundary are the writer's to fill.
	 */
	uint8_t *data;
	uint64_t sum; /* XXH3 64 of the packed_len bytes at data, 0 when there are none */
	/* the pipe's own */
	struct md_pool *pool;
	struct md_block *next;
};

void md_block_done(struct md_block *b);

struct md_reader {
	/*
	 * Fills @b (space, extents, raw). 1: filled, 0: end, -errno. One thread at a time.
	 * A page that is gone is left out, not an error.
	 */
	int (*next)(struct md_reader *r, struct md_block *b, uint32_t block_size, struct err *err);
	void (*close)(struct md_reader *r);
	uint64_t vanished_bytes; /* read after the run */
	/* Told of each run of pages that was left out. NULL: nobody asks. */
	void (*vanished)(void *arg, uint64_t space, uint64_t addr, uint64_t len);
	void *vanished_arg;
	/*
	 * Asked for pages that this process cannot read: what its own process may not read either
	 * takes force, which a kernel may grant to the thread that traces it alone (Linux 6.12,
	 * proc_mem.force_override=ptrace). How many bytes of @len, whole pages, are in @buf; 0:
	 * nobody can read the first; -errno. NULL: there is nobody to ask.
	 */
	ssize_t (*ask)(void *arg, int pid, uint64_t addr, void *buf, size_t len, struct err *err);
	void *ask_arg;
};

/*
 * One thread at a time; all that called put() live until pause(), flush() or abandon() has
 * returned.
 *
 *	start put ... pause	start put ... pause	start put ... flush	sync
 *	└ run with more ──┘	└ run with more ──┘	└ the last run ───┘
 */
struct md_writer {
	unsigned holds; /* most blocks kept after put() returned */
	/* The pool's memory, before a run's first put(), for registered buffers. May be NULL. */
	int (*start)(struct md_writer *w, void *mem, size_t len, size_t buf_size, struct err *err);
	/* Takes @b in every case, success or not. */
	int (*put)(struct md_writer *w, struct md_block *b, struct err *err);
	/*
	 * The end of a run after which another comes. Returns, success or not, only when no taken
	 * block is in use and the pool's memory is let go. NULL: one run is all it can take.
	 */
	int (*pause)(struct md_writer *w, struct err *err);
	/*
	 * Completes the output, as far as the kernel. Returns, success or not, only when no taken
	 * block is in use.
	 */
	int (*flush)(struct md_writer *w, struct err *err);
	/*
	 * After an error, instead of flush(): gives back every taken block and writes nothing more.
	 * NULL is allowed when holds is 0.
	 */
	void (*abandon)(struct md_writer *w);
	/*
	 * After flush(): waits until the output is safe on disk. Not part of a run, for that may
	 * take long, and whoever is dumped need not stand still for it. May be NULL.
	 */
	int (*sync)(struct md_writer *w, struct err *err);
	void (*close)(struct md_writer *w);
	/*
	 * Set between runs, by whoever makes them. True: threads of the run write to the page cache
	 * themselves. Else io_uring may have threads of the kernel do it, which keep to no
	 * affinity.
	 */
	bool by_itself;
	/* filled by the writer, read after pause() or flush() */
	uint64_t file_bytes;
	bool io_uring;
	char io_uring_reason[96];
	bool direct;
	char direct_reason[96];
};

/*
 * Moves everything from @r to @w. Owns pool, queues and threads; closes neither plug. After the
 * first error every stage drains: blocks go back, nothing more is written, threads are joined, and
 * that error returns. @stats may be NULL; it is filled on failure too.
 */
int md_run(struct md_reader *r, struct md_writer *w, const struct md_opts *opts,
	   struct md_stats *stats, struct err *err);

/*
 * Completes the output after a last run that was told of more. No run may be going on; after a
 * failed one this fails. Then sync() and close() as ever.
 */
int md_writer_finish(struct md_writer *w, struct err *err);

/*
 * Whether md_run() would take these options: -EINVAL with the reason, for a look before anything is
 * stopped for the run's sake.
 */
int md_run_check(const struct md_writer *w, const struct md_opts *opts, struct err *err);

/*
 * Reads ranges of processes and descriptors; copies the list. Which pages: PAGEMAP_SCAN (Linux 6.7)
 * where the kernel has it, else /proc/PID/pagemap. -ESRCH when a process is gone.
 */
struct md_reader *md_reader_vm_new(const struct md_range *ranges, size_t n, struct err *err);

/* From now on a process that has ended is passed over: its pages have vanished. */
void md_reader_vm_skip_gone(struct md_reader *r);

/*
 * Pages read into memory that was reserved and touched before, to be packed and written when
 * nobody stands still for it any more.
 */
struct md_capture;
struct md_capture *md_capture_new(size_t bytes, struct err *err);
void md_capture_free(struct md_capture *c); /* NULL is allowed */
/* Keeps what @r reads. 0: all of it; 1: no more room, @r goes on with the next block; -errno. */
int md_capture_fill(struct md_capture *c, struct md_reader *r, struct err *err);
size_t md_capture_bytes(const struct md_capture *c);
/* What was kept; any block size. @c outlives it. */
struct md_reader *md_capture_reader(const struct md_capture *c, struct err *err);

/*
 * The extents of one range that md_reader_vm_new() would read, in ascending order, merged.
 * @emit returns 0 to go on or -errno, which is passed on. For an image whose page map must be
 * known before its pages (CRIU's).
 */
int md_scan(const struct md_range *range, int (*emit)(void *arg, const struct md_extent *e),
	    void *arg, struct err *err);

/* Whether this kernel, and whoever watches our system calls, has PAGEMAP_SCAN for that. */
bool md_can_track(void);

/*
 * The same with MD_PICK_TRACKED in mind, for many ranges: @clean when the page was read before and
 * has not been written since. Extents of the same kind are merged within a range.
 */
int md_scan_tracked(const struct md_range *ranges, size_t n,
		    int (*emit)(void *arg, const struct md_range *range, const struct md_extent *e,
				bool clean),
		    void *arg, struct err *err);

/*
 * The same look taken by several threads, which are made, and whose memory is touched, before: for
 * a moment in which somebody stands still. From md_look_begin() to md_look_end() the page tables of
 * the ranges must not change but by writes to pages that may be clean or not.
 *
 *	md_look_new()    at leisure: @ranges as they are then, cut in slices
 *	md_look_begin()  the others look; the caller does something else
 *	md_look_end()    the caller looks, too, until nothing is left
 *	md_look_each()   what was seen, for the ranges as they really are
 *
 * One thread calls. A range that md_look_new() did not know is looked at by md_look_each().
 */
struct md_look;
enum md_seen {
	MD_SEEN_CLEAN,	 /* read before and not written since, if it is there */
	MD_SEEN_WRITTEN, /* tracked, and written since */
	MD_SEEN_OTHER,	 /* to be read, too: not tracked */
	MD_SEEN_GUARD,	 /* a region of MADV_GUARD_INSTALL: there is nothing to read (Linux 6.16) */
};
typedef int md_seen_fn(void *arg, const struct md_range *range, const struct md_extent *e,
		       enum md_seen seen);
/* @threads: the caller's included; 0: as many as CPUs. @nregions: room for what is not clean. */
struct md_look *md_look_new(const struct md_range *ranges, size_t n, unsigned threads,
			    size_t nregions, struct err *err);
/*
 * Before it begins: no slice of process *@pid is begun while it is that one, which another thread
 * or process changes, and tells by FUTEX_WAKE. It makes calls, and would wait for the look, not for
 * a slice of it: on the same CPU for 3 ms; and for the lock of its mappings for 4 ms, since the
 * kernel lets who asks for it to read again and again pass by a writer that sleeps. Who is given
 * way for a millisecond at a time is given none any more.
 */
void md_look_give_way(struct md_look *l, const uint32_t *pid);
void md_look_begin(struct md_look *l);
void md_look_end(struct md_look *l);
/* @l NULL: looks now, alone. @emit as for md_scan_tracked(). */
int md_look_each(const struct md_look *l, const struct md_range *ranges, size_t n, md_seen_fn *emit,
		 void *arg, struct err *err);
void md_look_free(struct md_look *l); /* NULL is allowed */

struct md_file_opts {
	bool direct;   /* O_DIRECT; where the filesystem refuses, plain writes and direct_reason */
	bool no_uring; /* pwrite from the start */
	uint32_t page_size; /* of the target; written in the file header */
	/* Pages that a map names and the file does not store are in the file of this id. */
	bool has_parent;
	uint64_t parent_id;
};

/*
 * Writes a block file (docs/FORMAT.md), created with O_EXCL and mode 0600 as @name below @dirfd.
 * flush() writes index and trailer, sync() is an fsync. close() before a successful flush() leaves
 * a torn file. Takes any number of runs.
 */
struct md_writer *md_writer_file_open(int dirfd, const char *name, const struct md_file_opts *opts,
				      struct err *err);

/* md_file_id() of what such a writer writes. */
uint64_t md_writer_file_id(struct md_writer *w);

/*
 * Says which pages @space has, all of them: @n extents, page aligned, ascending, not overlapping; 0
 * for a space without a page. What is stored but not named does not count, and what is named but
 * not stored comes from the parent. Once per space, at any time before flush() but not during a
 * run. -EINVAL when @map is none, -EEXIST when the space has one.
 */
int md_writer_file_map(struct md_writer *w, uint64_t space, const struct md_extent *map, size_t n,
		       struct err *err);

/*
 * A block file for random access. Threads: one object belongs to one thread at a time. Every block
 * is checked against its checksum before a byte of it is handed out.
 *
 * What it shows is what counts: of each page the copy of the highest round, no page that a map does
 * not name, and from the parents what is not stored here. A file with a parent opens only with all
 * of the chain, up to 256 files: @dirfd/parent/@name, @dirfd/parent/parent/@name, ... whose ids are
 * as the children have them; "parent" may be a symbolic link. -EBADMSG when one is missing, is
 * another file, or lacks a page that is needed.
 */
struct md_file;
enum {
	/*
	 * A torn file: rebuild the index from the block headers. Its pages may be older than they
	 * should be, or missing, where a later copy was lost.
	 */
	MD_FILE_REBUILD = 1,
};
struct md_file *md_file_open(int dirfd, const char *name, unsigned flags, struct err *err);
void md_file_close(struct md_file *f);
uint32_t md_file_page_size(const struct md_file *f);
/* What a child names its parent by: md_file_opts.parent_id. */
uint64_t md_file_id(const struct md_file *f);
/* Spaces in ascending order, those without a page too; false at the end. */
bool md_file_space(const struct md_file *f, size_t i, uint64_t *ret_space);
struct md_stored {
	uint64_t space;
	enum md_codec_id codec;
	uint32_t raw_len, packed_len, nextents, round;
	uint32_t live_len; /* of raw_len what counts */
	uint32_t same_as;  /* for MD_CODEC_SAME */
};
/*
 * Records of this file alone as the index lists them, space by space, maps (MD_CODEC_MAP) among
 * them; false at the end.
 */
bool md_file_block(const struct md_file *f, size_t i, struct md_stored *ret);
/*
 * The first extent of pages of @space that ends above @addr, cut at @addr, merged with its
 * neighbours; 1 found, 0 none.
 */
int md_file_extent(const struct md_file *f, uint64_t space, uint64_t addr,
		   struct md_extent *ret_extent);
/*
 * The same, not merged, and whose pages they are: *ret_space is @space, or that of the process that
 * has the same ones. Of a file with rounds, maps or a parent always @space.
 */
int md_file_origin(const struct md_file *f, uint64_t space, uint64_t addr,
		   struct md_extent *ret_extent, uint64_t *ret_space);
/*
 * Copies bytes from @addr on, at most @len; the number copied, 0 when @space has no page at @addr,
 * -EBADMSG when its block is damaged.
 */
ssize_t md_file_read(struct md_file *f, uint64_t space, uint64_t addr, void *buf, size_t len,
		     struct err *err);

/* Where the bytes of an image go. Any thread of the run calls, several at a time. */
struct md_sink {
	/* @buf NULL: @len zero bytes. 0 or -errno. */
	int (*write)(void *arg, uint64_t space, uint64_t addr, const void *buf, uint64_t len,
		     struct err *err);
	void *arg;
};

struct md_fill_opts {
	unsigned threads;	 /* the calling one included; 0: all CPUs this process may use */
	bool (*stop)(void *arg); /* as in md_opts */
	void *stop_arg;
	struct md_progress *progress; /* may be NULL */
	/* The spaces whose blocks are wanted; NULL: all. The calling thread asks, before the run.
	 */
	bool (*want)(void *arg, uint64_t space);
	void *want_arg;
};

struct md_fill_stats {
	uint64_t blocks, raw_bytes, packed_bytes, wall_ns;
	uint64_t read_ns, unpack_ns,
		write_ns; /* busy, summed over the threads; read: and checked */
	uint64_t cpu_ns;  /* of the threads, while they did that */
	unsigned threads;
};

/*
 * The other way round: every page of the wanted spaces of a whole file and its parents to @sink,
 * once, each block checked against its checksum and unpacked on the way, on all threads at once,
 * file by file and each in its order. Pages that md_file_origin() says are another process's are
 * left out. Blocks of which nothing counts are not read. After the first error no block is begun;
 * that error returns. @stats, which may be NULL, counts blocks that were read and the bytes of them
 * that count.
 */
int md_file_fill(int dirfd, const char *name, const struct md_fill_opts *opts,
		 const struct md_sink *sink, struct md_fill_stats *stats, struct err *err);

struct md_verify {
	uint64_t blocks, raw_bytes, packed_bytes;
	uint64_t blocks_by_codec[MD_NCODECS];
	uint64_t maps;	      /* map records */
	uint64_t stale_bytes; /* raw bytes that do not count: older rounds, dropped pages */
	unsigned parents;     /* verified too; counted in bad alone */
	unsigned bad;	      /* damaged places found */
};
/*
 * Reads every byte of the file and of its parents: headers, index, payload checksums, lengths,
 * overlaps, unpacking, maps, and that each file has what its child takes from it, on @threads
 * threads (0: all CPUs). @report gets each finding as one line, on the calling thread; one about a
 * parent begins with its number and directory. 0: whole; -EBADMSG: damaged.
 */
int md_file_verify(int dirfd, const char *name, unsigned threads,
		   void (*report)(void *arg, const char *line), void *arg, struct md_verify *ret,
		   struct err *err);

/* "lz4", "lz4:3", "zstd:-5", "none" -> codec and level. -EINVAL tells what is allowed. */
int md_codec_parse(const char *text, enum md_codec_id *ret_codec, int *ret_level, struct err *err);
const char *md_codec_name(enum md_codec_id id);

#endif
