/* SPDX-License-Identifier: MIT */
/*
 * Entries of the GDT that are a thread's own (set_thread_area): two in the main thread, loaded
 * nowhere; one in another thread, which reads memory through it; that and more in a child.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/victims/victim/registers.h"
#include "tests/victims/victim/victim.h"

enum {
	SET = 243, /* system calls of 32 bits */
	GET = 244,
	FIRST = 12,
	N = 3,
	NONE = 0x28, /* not present, no writing */
	RW = PROT_READ | PROT_WRITE,
	LOW = MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT,
	SHARED = MAP_SHARED | MAP_ANONYMOUS,
	DATA = 0x5eed,
};

/* struct user_desc */
struct desc {
	uint32_t entry, base, limit, flags;
};

struct want {
	struct desc d[N];
};

static struct want main_has, thread_has;
static uint32_t *data; /* where the thread's entry begins */
static _Atomic uint64_t *rounds;
static sigjmp_buf back;

/* Arguments of the calls lie below 4 GiB: one page for each caller. */
static long call(long nr, struct desc *low)
{
	long ret;

	__asm__ volatile("int $0x80"
			 : "=a"(ret)
			 : "a"(nr), "b"(low)
			 : "r8", "r9", "r10", "r11", "memory");
	return ret;
}

static struct desc *low_page(void)
{
	void *p = mmap(NULL, PAGE, RW, LOW, -1, 0);

	if (p == MAP_FAILED)
		v_skip("no memory below 4 GiB");
	return p;
}

static void set(struct want *w, struct desc *low, struct desc d)
{
	long ret;

	*low = d;
	ret = call(SET, low);
	if (ret)
		v_skip("set_thread_area: %s", strerrordesc_np((int)-ret));
	w->d[d.entry - FIRST] = d;
}

static void nothing(struct want *w)
{
	for (uint32_t i = 0; i < N; i++)
		w->d[i] = (struct desc){FIRST + i, 0, 0, NONE};
}

static void look(const struct want *w, struct desc *low, const char *who)
{
	for (uint32_t i = 0; i < N; i++) {
		const struct desc *d = &w->d[i];

		*low = (struct desc){FIRST + i, 0, 0, 0};
		if (call(GET, low) || memcmp(low, d, sizeof(*d)) != 0)
			v_bad("gdt: %s: entry %u: %#x, %#x, %#x, not %#x, %#x, %#x", who, FIRST + i,
			      low->base, low->limit, low->flags, d->base, d->limit, d->flags);
	}
}

static uint32_t read_by_gs(uint16_t *ret_selector)
{
	uint32_t value;
	uint16_t gs;

	__asm__ volatile("mov %%gs, %0\n\tmovl %%gs:4, %1" : "=r"(gs), "=r"(value));
	*ret_selector = gs;
	return value;
}

static void *other_thread(void *arg)
{
	const uint16_t selector = (FIRST + 1) << 3 | 3;
	struct desc *low = low_page();

	thread_has = main_has; /* they come with clone() */
	/* 32 bits, pages, usable by whom it pleases. */
	set(&thread_has, low, (struct desc){FIRST + 1, (uint32_t)(uintptr_t)data, 0xfffff, 0x51});
	__asm__ volatile("mov %0, %%gs" : : "r"(selector));
	v_tick();
	while (!v_quitting()) {
		uint16_t gs;
		uint32_t value = read_by_gs(&gs);

		if (gs != selector || value != DATA)
			v_bad("gdt: gs is %#x and leads to %#x", gs, value);
		look(&thread_has, low, "a thread");
		rounds[0]++;
		sleep_ms(10);
	}
	return NULL;
}

static void child(struct desc *low)
{
	set(&main_has, low, (struct desc){FIRST + 1, 0x9abc000, 0x1fff, 0x01});
	v_tick();
	while (!v_quitting()) {
		look(&main_has, low, "a child");
		rounds[1]++;
		sleep_ms(10);
	}
	_exit(0);
}

static void on_fault(int signo)
{
	siglongjmp(back, 1);
}

static struct desc *main_low;

void gdt_setup(void)
{
	/* Without calls of 32 bits there is a fault. */
	signal(SIGSEGV, on_fault);
	main_low = low_page();
	data = (uint32_t *)low_page();
	data[1] = DATA;
	rounds = mmap(NULL, PAGE, RW, SHARED, -1, 0);
	if (rounds == MAP_FAILED)
		v_die("mmap");
	nothing(&main_has);
	if (sigsetjmp(back, 1))
		v_skip("this kernel makes no calls of 32 bits");
	set(&main_has, main_low, (struct desc){FIRST, 0x1234000, 0xfffff, 0x51});
	signal(SIGSEGV, SIG_DFL);
	start_thread(other_thread, NULL);
	v_await_ticks(1);
	if (fork() == 0)
		child(main_low);
	v_await_ticks(2);
	/* Read-only, in bytes, no segment of data that grows downwards. */
	set(&main_has, main_low, (struct desc){FIRST + 2, 0x5678000, 0x10, 0x09});
}

void gdt_check(void)
{
	uint64_t seen[2] = {rounds[0], rounds[1]};

	look(&main_has, main_low, "the main thread");
	for (int i = 0; i < 2; i++)
		for (unsigned ms = 0; rounds[i] < seen[i] + 2; ms++) {
			if (ms == 60000) {
				v_bad("gdt: the %s stands still", i ? "child" : "thread");
				return;
			}
			sleep_ms(1);
		}
}
