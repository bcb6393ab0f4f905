/* SPDX-License-Identifier: MIT */
/* The CPUs this program knows, one row each. */
#include "arch/arch.h"

#include <string.h>
#include <sys/auxv.h>

static const struct arch_desc *const archs[] = {
	&arch_x86_64,
	&arch_aarch64,
	&arch_ppc64,
	&arch_s390,
};

enum { NARCHS = sizeof(archs) / sizeof(archs[0]) };

const struct arch_desc *arch_by_machine(uint16_t elf_machine)
{
	for (unsigned i = 0; i < NARCHS; i++)
		if (archs[i]->elf_machine == elf_machine)
			return archs[i];
	return NULL;
}

const struct arch_desc *arch_by_march(uint32_t criu_march)
{
	for (unsigned i = 0; i < NARCHS; i++)
		if (archs[i]->criu_march == criu_march)
			return archs[i];
	return NULL;
}

const struct arch_desc *arch_host(void)
{
	return arch_by_machine(arch_inject.elf_machine);
}

const struct arch_tags *arch_host_tags(void)
{
	const struct arch_tags *t = arch_host()->tags;

	return t && getauxval(t->hwcap_type) & t->hwcap ? t : NULL;
}

bool arch_host_ins(uint32_t ret[ARCH_INS_WORDS])
{
	uint32_t has[ARCH_INS_WORDS];

	if (!arch_inject.ins_words)
		return false;
	arch_inject.ins_words(has);
	memset(ret, 0, sizeof(has));
	for (const struct arch_ins *i = arch_host()->ins; i->name; i++)
		ret[i->word] |= has[i->word] & 1u << i->bit;
	return true;
}
