/* SPDX-License-Identifier: MIT */
/* What the log is told of a dump. */
#include "src/ops/dump_log.h"

#include <inttypes.h>

#include "binlog/pr.h"

/* Numbers and names only, stored raw: cheap enough for the freeze window. */
void dump_log_model(const struct model *m, size_t nranges)
{
	for (uint32_t i = 0; i < m->nprocs; i++) {
		const struct m_proc *p = &m->procs[i];

		pr_info("pid %u (%s): state %d, %u threads, %u mappings\n", p->pid, p->comm,
			p->state, p->nthreads, p->mm.nvmas);
		for (uint32_t j = 0; j < p->nthreads; j++)
			pr_debug("tid %u (%s): pc %#" PRIx64 " sp %#" PRIx64
				 " in system call: %d\n",
				 p->threads[j].tid, p->threads[j].comm, p->threads[j].pc,
				 p->threads[j].sp, p->threads[j].in_syscall);
	}
	pr_debug("%zu ranges to read\n", nranges);
}

/* An image has them; where there is none, this is all that tells. */
static void log_mappings(const struct model *m)
{
	for (uint32_t i = 0; i < m->nprocs; i++)
		for (uint32_t j = 0; j < m->procs[i].mm.nvmas; j++) {
			const struct m_vma *v = &m->procs[i].mm.vmas[j];

			pr_debug("pid %u: %" PRIx64 "-%" PRIx64
				 " prot %u flags %#x kind %d file %u\n",
				 m->procs[i].pid, v->start, v->end, v->prot, v->flags, v->kind,
				 v->file_id);
		}
}

void dump_log_result(const struct dump_opts *opts, const struct dump_result *r,
		     const struct model *m, int ret, const struct err *err)
{
	if (ret < 0 && m)
		log_mappings(m);
	for (uint32_t i = 0; i < r->nfindings; i++)
		pr_warn("pid %u: %s\n", r->findings[i].pid, r->findings[i].text);
	pr_info("read %" PRIu64 " bytes, wrote %" PRIu64 ", bottleneck %s; frozen %" PRIu64
		" us, memory %" PRIu64 " us, commit %" PRIu64 " us\n",
		r->mem.raw_bytes, r->mem.file_bytes, r->mem.bottleneck ? r->mem.bottleneck : "none",
		r->frozen_ns / 1000, r->memory_ns / 1000, r->commit_ns / 1000);
	if (ret < 0)
		pr_err("dump of pid %d into %s failed: %s\n", opts->pid, opts->dir, err->msg);
	else
		pr_info("dump of pid %d into %s done\n", opts->pid, opts->dir);
}
