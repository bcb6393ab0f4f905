/* SPDX-License-Identifier: MIT */
/* What the log is told of a dump. */
#ifndef STASIS_OPS_DUMP_LOG_H
#define STASIS_OPS_DUMP_LOG_H

#include "src/image/model.h"
#include "src/ops/ops.h"

/* Of a tree that stands still, while it does. */
void dump_log_model(const struct model *m, size_t nranges);

/* At the end, whatever it is; @m may be NULL. */
void dump_log_result(const struct dump_opts *opts, const struct dump_result *r,
		     const struct model *m, int ret, const struct err *err);

#endif
