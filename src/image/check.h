/* SPDX-License-Identifier: MIT */
/*
 * Cross-references of a model: who names whom, and whether that one is there.
 */
#ifndef IMAGE_CHECK_H
#define IMAGE_CHECK_H

#include "src/image/model.h"

/* Gets each finding as one line. */
typedef void check_report(void *arg, const char *line);

/* Pids, thread ids and parents: what must hold before files are opened by these numbers. */
unsigned check_tree(const struct model *m, check_report *report, void *arg);
/* Looks at everything; the number of findings. */
unsigned check_model(const struct model *m, check_report *report, void *arg);

#endif
