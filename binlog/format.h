/* SPDX-License-Identifier: MIT */
/*
 * The log file, fixed-width fields only. docs/BINLOG.md is the specification; this is its shadow.
 *
 * Everything on disk is little endian, whatever the writer's CPU. The structs below give offsets
 * and sizes; on a big-endian machine their fields must be swapped when read or written.
 */
#ifndef BINLOG_FORMAT_H
#define BINLOG_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#define BINLOG_MAGIC \
	"\x89"       \
	"BLOG\r\n\x1a"
#define BINLOG_BOM	   0x01020304u
#define BINLOG_MAJOR	   1
#define BINLOG_MINOR	   1
#define BINLOG_ALIGN	   4096u /* every block starts at a multiple */
#define BINLOG_BLOCK_MAGIC 0x014b4c42u

enum binlog_block_type {
	BINLOG_BLOCK_DICT = 1,	/* call sites of one module */
	BINLOG_BLOCK_ERRNO = 2, /* errno texts of the writer's libc */
	BINLOG_BLOCK_RING = 3,	/* memory of one thread: a header page, then segments */
	BINLOG_BLOCK_CHUNK = 4, /* a finished segment, copied out of its ring */
	BINLOG_BLOCK_SEG = 5,	/* a segment inside a ring; never a block of its own */
};

/* The first 32 bytes of every block and segment, and what the next 32 mean by type. */
struct binlog_block {
	uint32_t magic;
	uint16_t type;
	uint16_t flags;
	uint32_t tag;	 /* first four bytes of the header's log_id */
	uint32_t check;	 /* low half of the sum of these 64 bytes with check = 0 */
	uint64_t offset; /* of this struct in the file */
	uint64_t len;	 /* of the whole block or segment, this struct included */
	union {
		struct {
			uint32_t stream;
			uint32_t pid;
			uint32_t tid;
			uint32_t used; /* CHUNK: record bytes after this struct; SEG: 0 */
			uint64_t pos;  /* stream position of this struct */
			uint64_t sum;  /* CHUNK: of the record bytes; SEG: 0 */
		} seg;
		struct {
			uint32_t base; /* DICT: number of the first site */
			uint32_t count;
			uint64_t used; /* payload bytes after this struct */
			uint64_t sum;  /* of the payload */
			uint64_t reserved;
		} dict;
		struct {
			uint32_t stream;
			uint32_t pid;
			uint32_t tid;
			uint32_t nsegs;
			uint32_t seg_len;
			uint32_t data; /* offset of the first segment from this struct */
			uint64_t reserved;
		} ring;
	};
};
_Static_assert(sizeof(struct binlog_block) == 64, "block header");

/* RING, behind its struct binlog_block: counters of the thread, the only fields that change. */
struct binlog_ring_state {
	uint64_t lost_records; /* by this thread, since the ring is its own */
	uint64_t lost_bytes;
};
_Static_assert(sizeof(struct binlog_ring_state) == 16, "ring state");

#define BINLOG_DICT_MAIN 1 /* flags of DICT: the program itself; its build-id is the header's */

struct binlog_calib {
	uint64_t ticks;	  /* counter >> shift */
	uint64_t mono_ns; /* CLOCK_MONOTONIC */
	uint64_t real_ns; /* CLOCK_REALTIME */
};
_Static_assert(sizeof(struct binlog_calib) == 24, "calibration");

enum binlog_counter {
	BINLOG_COUNTER_NS = 0, /* CLOCK_MONOTONIC itself */
	BINLOG_COUNTER_TSC = 1,
	BINLOG_COUNTER_CNTVCT = 2,
	BINLOG_COUNTER_TIMEBASE = 3,
	BINLOG_COUNTER_TOD = 4,
};

enum binlog_ldbl {
	BINLOG_LDBL_F64 = 1,  /* long double is double */
	BINLOG_LDBL_X87 = 2,  /* 80 bits, 6 bytes of zero behind */
	BINLOG_LDBL_F128 = 3, /* IEEE binary128 */
	BINLOG_LDBL_DD = 4,   /* two doubles, the larger first */
};

struct binlog_header {
	/* Immutable after open: 512 bytes under `check`. */
	uint8_t magic[8];
	uint32_t bom;
	uint16_t major;
	uint16_t minor;
	uint32_t len;	/* of the header: 4096 */
	uint32_t check; /* low half of the sum of bytes 0..511 with check = 0 */
	uint8_t log_id[16];
	uint16_t machine; /* ELF e_machine of the writer */
	uint8_t pointer_size;
	uint8_t big_endian; /* the writer's CPU, for information */
	uint8_t wchar_size;
	uint8_t ldbl;	     /* enum binlog_ldbl */
	uint8_t char_signed; /* plain char is signed */
	uint8_t counter;     /* enum binlog_counter */
	uint8_t shift;	     /* ticks = counter >> shift */
	uint8_t build_id_len;
	uint8_t build_id_kind; /* 1: NT_GNU_BUILD_ID, 2: sum of the dictionary */
	uint8_t reserved0;
	uint32_t pid;	   /* who opened the log */
	uint64_t ticks_hz; /* ticks per second, nominal or measured at open: good to 1e-3 */
	struct binlog_calib open;
	uint8_t boot_id[16];  /* /proc/sys/kernel/random/boot_id; zero: unknown */
	uint8_t build_id[64]; /* build_id_len bytes of it */
	char program[64];     /* NUL-padded */
	char host[64];
	uint8_t reserved1[216];
	/* Written while the log is live; each field is one aligned atomic word. */
	uint64_t next;	       /* offset of the first byte no block owns */
	uint64_t preallocated; /* file space is allocated up to here */
	uint32_t next_site;
	uint32_t next_stream;
	uint32_t writers;      /* processes attached; bit 31: the tail is being cut */
	uint32_t closed;       /* 1: closed by its last writer */
	uint64_t lost_records; /* of all threads and processes */
	uint64_t lost_bytes;
	uint64_t max_len;	   /* bound of the file in bytes, 0: none */
	struct binlog_calib close; /* zero until closed */
	uint64_t chunks;	   /* counted when they are whole; since 1.1 */
	uint8_t reserved2[3496];
};
_Static_assert(offsetof(struct binlog_header, open) == 64, "header: open");
_Static_assert(offsetof(struct binlog_header, build_id) == 104, "header: build_id");
_Static_assert(offsetof(struct binlog_header, next) == 512, "header: mutable part");
_Static_assert(offsetof(struct binlog_header, close) == 568, "header: close");
_Static_assert(offsetof(struct binlog_header, chunks) == 592, "header: chunks");
_Static_assert(sizeof(struct binlog_header) == 4096, "header");

/*
 * A record: this word, then the arguments, then zeros up to a multiple of 8.
 *
 *	63        44 43      32 31               0
 *	[ site : 20 ][ len : 12 ][ stamp : 32     ]	len in 8-byte words, this one included
 */
#define BINLOG_SITE_SHIFT 44
#define BINLOG_LEN_SHIFT  32
#define BINLOG_LEN_MASK	  0xfffu
#define BINLOG_SITE_MAX	  0xfffffu
#define BINLOG_RECORD_MAX (BINLOG_LEN_MASK * 8u)
#define BINLOG_SITE_FIRST 16u /* below: the numbers of enum binlog_internal */

enum binlog_internal {
	BINLOG_R_NONE = 0,    /* the whole word is zero: nothing here, skip 8 bytes */
	BINLOG_R_PENDING = 1, /* a call that never ended: skip len */
	BINLOG_R_EPOCH = 2,   /* struct binlog_calib; first in every segment */
	BINLOG_R_THREAD = 3,  /* struct binlog_r_thread */
	BINLOG_R_LOSS = 4,    /* struct binlog_r_loss */
	BINLOG_R_INLINE = 5,  /* struct binlog_r_inline: brings its own dictionary entry */
	BINLOG_R_FRAGMENT = 6 /* struct binlog_r_fragment: a piece of a long record */
};

struct binlog_r_thread {
	uint32_t pid;
	uint32_t tid;
	uint32_t ppid;
	uint32_t reserved;
	char comm[16];
};
_Static_assert(sizeof(struct binlog_r_thread) == 32, "thread record");

enum binlog_loss {
	BINLOG_LOSS_BOUND = 1, /* the size limit of the log */
	BINLOG_LOSS_WRITE = 2, /* a write failed with errnum */
	BINLOG_LOSS_RING = 3,  /* no ring could be had, errnum says why */
	BINLOG_LOSS_ARGS = 4,  /* one record too large for what was left */
};

struct binlog_r_loss {
	uint64_t records;
	uint64_t bytes;
	uint32_t reason;
	uint32_t errnum;
};
_Static_assert(sizeof(struct binlog_r_loss) == 24, "loss record");

/* Followed by types[nargs], then format, file, function (no NUL), then the arguments. */
struct binlog_r_inline {
	uint32_t line;
	uint8_t level;
	uint8_t flags; /* BINLOG_S_* */
	uint16_t nargs;
	uint32_t fmt_len;
	uint32_t file_len;
	uint32_t func_len;
};
_Static_assert(sizeof(struct binlog_r_inline) == 20, "inline record");

struct binlog_r_fragment {
	uint32_t id;	 /* of the long record, unique among the unfinished of its stream */
	uint32_t len;	 /* bytes that follow */
	uint64_t total;	 /* of the long record: its header word, its arguments, padded to 8 */
	uint64_t offset; /* of these bytes in it */
};
_Static_assert(sizeof(struct binlog_r_fragment) == 24, "fragment record");

/* A dictionary entry: this, types[nargs], format, file, function, then the literal arguments. */
struct binlog_d_site {
	uint32_t len; /* of the whole entry */
	uint32_t line;
	uint8_t level;
	uint8_t flags; /* BINLOG_S_* */
	uint16_t nargs;
	uint32_t fmt_len;
	uint32_t file_len;
	uint32_t func_len;
};
_Static_assert(sizeof(struct binlog_d_site) == 24, "site entry");

#define BINLOG_S_LEVEL 1 /* the record begins with a u32: the level is no constant */
#define BINLOG_S_ERRNO 2 /* then an i32: errno, for %m */

enum binlog_type {
	BINLOG_T_I32 = 1,
	BINLOG_T_U32 = 2,
	BINLOG_T_I64 = 3,
	BINLOG_T_U64 = 4,
	BINLOG_T_I128 = 5,
	BINLOG_T_U128 = 6,
	BINLOG_T_F64 = 7,
	BINLOG_T_LDBL = 8,  /* 16 bytes, see enum binlog_ldbl */
	BINLOG_T_PTR = 9,   /* 8 bytes */
	BINLOG_T_STR = 10,  /* a slot of 4 bytes, text behind the fixed part */
	BINLOG_T_WIDE = 11, /* the same; %ls or %lc, converted to bytes by the writer */
};
#define BINLOG_T_LITERAL 0x80 /* the value is in the dictionary, not in the record */

/* Slot of BINLOG_T_STR and BINLOG_T_WIDE: a length below 2^31, or one of these. */
#define BINLOG_STR_NULL	   0xffffffffu
#define BINLOG_STR_BAD	   0xfffffffeu /* a wide string with no multibyte form */
#define BINLOG_STR_SPECIAL 0x80000000u
#define BINLOG_STR_ERRNO   0x80000000u /* + number below 65536: the text of that errno */

enum binlog_level_number {
	BINLOG_MSG = 0, /* always shown */
	BINLOG_ERR = 1,
	BINLOG_WARN = 2,
	BINLOG_INFO = 3,
	BINLOG_DEBUG = 4,
};

/* A word as the disk has it, and back. */
static inline uint64_t binlog_le64(uint64_t v)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	return __builtin_bswap64(v);
#else
	return v;
#endif
}

static inline uint32_t binlog_le32(uint32_t v)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	return __builtin_bswap32(v);
#else
	return v;
#endif
}

static inline uint16_t binlog_le16(uint16_t v)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	return __builtin_bswap16(v);
#else
	return v;
#endif
}

#endif
