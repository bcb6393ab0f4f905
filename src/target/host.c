/* SPDX-License-Identifier: MIT */
/* The machine and the moment of a dump. */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "arch/arch.h"
#include "base/clock.h"
#include "src/target/gather.h"

static_assert((int)ARCH_INS_WORDS <= (int)M_CPU_WORDS, "room for words of instructions");

/* A random UUID, version 4. */
static void name_run(struct model *m)
{
	uint8_t b[16] = {0};

	if (getrandom(b, sizeof(b), 0) != (ssize_t)sizeof(b))
		memcpy(b, &m->realtime_ns, sizeof(m->realtime_ns));
	b[6] = (b[6] & 0x0f) | 0x40;
	b[8] = (b[8] & 0x3f) | 0x80;
	snprintf(m->run_id, sizeof(m->run_id),
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
		 b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
		 b[15]);
}

void host_ready(void)
{
	uint32_t words[ARCH_INS_WORDS];

	arch_host_ins(words);
}

void host_collect(struct model *m)
{
	struct utsname u = {0};

	uname(&u);
	m->elf_machine = arch_host()->elf_machine;
	m->page_size = (uint32_t)sysconf(_SC_PAGESIZE);
	if (arch_host_ins(m->cpu_words))
		m->ncpu_words = ARCH_INS_WORDS;
	m->monotonic_ns = clock_ns(CLOCK_MONOTONIC);
	m->boottime_ns = clock_ns(CLOCK_BOOTTIME);
	m->realtime_ns = clock_ns(CLOCK_REALTIME);
	m->uptime_us = m->boottime_ns / 1000;
	snprintf(m->kernel, sizeof(m->kernel), "%.40s %.50s", u.release, u.version);
	snprintf(m->hostname, sizeof(m->hostname), "%s", u.nodename);
	name_run(m);
}
