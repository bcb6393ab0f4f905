/* SPDX-License-Identifier: MIT */
/* What a dump tells when it has ended: one JSON object, or lines for people. */
#ifndef CMD_DUMP_RESULT_H
#define CMD_DUMP_RESULT_H

#include "src/ops/ops.h"

/* On standard output, after a failure, too. */
void dump_print_json(const struct dump_opts *o, const struct dump_result *r, const struct err *err);
/* All of them, also when one of them is the reason for a refusal. */
void dump_print_findings(const struct dump_result *r);
/* Notes, and the last line: size, ratio or what changed, time frozen, total time, GB/s. */
void dump_print_result(const struct dump_opts *o, const struct dump_result *r);

#endif
