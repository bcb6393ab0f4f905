/* SPDX-License-Identifier: MIT */
/*
 * The self-checking victim: one program, a table of scenarios.
 *
 * A scenario builds a state, writes what is known about it as facts, says ready and then checks
 * itself for ever. Its state lies at fixed addresses, and it talks through a control file that is
 * mapped shared (ctl.c), so that it can be asked the same way before a dump, after it and after a
 * restore: no pipe, no socket and no descriptor is needed for that.
 *
 * Facts are lines of a text file, for tests that compare them with an image (tests/README.md).
 */
#ifndef VICTIM_VICTIM_H
#define VICTIM_VICTIM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct scenario {
	const char *name;
	const char *about;
	void (*setup)(void);
	void (*check)(void);  /* again and again; NULL: its threads or processes do it */
	void (*finish)(void); /* once, when asked to end: checks that use the state up; or NULL */
};

/* One table per file, each ending with a NULL name. */
extern const struct scenario memory_scenarios[];
extern const struct scenario mapping_scenarios[];
extern const struct scenario stack_scenarios[];
extern const struct scenario register_scenarios[];
extern const struct scenario signal_scenarios[];
extern const struct scenario timer_scenarios[];
extern const struct scenario file_scenarios[];
extern const struct scenario descriptor_scenarios[];
extern const struct scenario process_scenarios[];
extern const struct scenario blocked_scenarios[];
extern const struct scenario storm_scenarios[];
extern const struct scenario heap_scenarios[];
extern const struct scenario socket_scenarios[];
extern const struct scenario tty_scenarios[];
extern const struct scenario consistent_scenarios[];
extern const struct scenario change_scenarios[];
extern const struct scenario kernel_scenarios[];
extern const struct scenario queue_scenarios[];
extern const struct scenario attribute_scenarios[];
extern const struct scenario area_scenarios[];
extern const struct scenario holder_scenarios[];
extern const struct scenario lineage_scenarios[];
extern const struct scenario mutex_scenarios[];
extern const struct scenario cow_scenarios[];
extern const struct scenario edge_scenarios[];
extern const struct scenario key_scenarios[];

/* --- main.c: options of the form --name value ----------------------------------------------- */
uint64_t opt_u64(const char *name, uint64_t fallback);
const char *opt_str(const char *name, const char *fallback);
/* The directory of the control file, absolute, without a slash at the end. */
const char *v_dir(void);
/* The path of this program, for scenarios that exec it again. */
const char *v_self(void);

/* Execs this program with the same arguments; the new one goes on with the same control page. */
void v_exec_again(void);
/* How often v_exec_again() was called before this program began; 0 in the first one. */
unsigned v_resumed(void);

/* --- ctl.c: being asked --------------------------------------------------------------------- */
/* Records the first thing that went wrong, from any thread or process of the victim. */
__attribute__((format(printf, 1, 2))) void v_bad(const char *fmt, ...);
/* The state cannot be built here: ends the victim with exit status 77 and the reason. */
__attribute__((format(printf, 1, 2), noreturn)) void v_skip(const char *fmt, ...);
/* The state could not be built: ends the victim with exit status 1. errno is added when not 0. */
__attribute__((format(printf, 1, 2), noreturn)) void v_die(const char *fmt, ...);
__attribute__((format(printf, 1, 2))) void v_fact(const char *fmt, ...);
/* True when somebody asked the victim to end or its directory is gone. Any process of the victim.
 */
bool v_quitting(void);
/* A counter in the control page that any process of the victim may use to wait for others. */
void v_tick(void);
void v_await_ticks(unsigned n);

/* Checks and answers on the calling thread until the victim is to end; then ends the process. */
void v_serve(const struct scenario *s) __attribute__((noreturn));
int ctl_run(const struct scenario *s, const char *dir);
int ctl_client(const char *what, const char *dir, unsigned timeout_s);

/* --- gate.c: checked while nobody writes, written at a pace */
/* In shared memory where writers are in several processes. */
struct gate {
	_Atomic uint32_t closed, waiting; /* futexes */
};

void gate_wait(struct gate *g);

/* Between two steps of a writer. */
static inline void gate_pass(struct gate *g)
{
	if (__builtin_expect(atomic_load_explicit(&g->closed, memory_order_relaxed), 0))
		gate_wait(g);
}

/* Returns when so many writers stand before it; false when the victim ends or they do not come. To
 * be opened in every case.
 */
bool gate_close(struct gate *g, unsigned nwriters);
void gate_open(struct gate *g);

struct pace {
	uint64_t steps, next_ns;
};

/* After each step of a writer that makes @per_s of them a second; 0: as many as it can. */
void pace(struct pace *p, uint64_t per_s);
/* xorshift64*; @state is never 0. */
uint64_t random_next(uint64_t *state);

/* --- pattern.c: known contents -------------------------------------------------------------- */
/* A multiple of a page: Debian's kernels for ppc64le have 64 KiB or 4. */
#ifdef __powerpc64__
enum { PAGE = 65536 };
#else
enum { PAGE = 4096 };
#endif

/* Scenario number n's home: 4 GiB that nothing else uses. */
#define HOME(n) (0x200000000000ULL + (uint64_t)(n)*0x100000000ULL)

/* mmap at exactly @addr; ends the victim when that fails. */
void *map_at(uint64_t addr, size_t len, int prot, int flags, int fd, off_t off);
/* Fills with random-looking words that depend on @seed and the position. Lengths: multiples of 8.
 */
void fill(void *p, size_t len, uint64_t seed);
/* The first wrong byte's offset, or -1. */
ssize_t wrong(const void *p, size_t len, uint64_t seed);
/* v_bad() when the contents differ. */
void expect_filled(const void *p, size_t len, uint64_t seed, const char *what);
uint32_t crc32_of(uint32_t crc, const void *p, size_t len);
/* Facts: @kind is "region" (private), "shm" (shared memory). Contents must never change again. */
void fact_memory(const char *kind, const void *p, size_t len, const char *name);

/* A thread that starts with every signal blocked and never ends the victim when it fails to start.
 */
void start_thread(void *(*fn)(void *), void *arg);
pid_t gettid_(void);
uint64_t now_ns(void);
void sleep_ms(unsigned ms);

#endif
