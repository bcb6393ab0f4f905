/* SPDX-License-Identifier: MIT */
/*
 * What a person is told about the state of a log.
 */
#ifndef BINDECODE_CHECK_H
#define BINDECODE_CHECK_H

#include "tools/bindecode/decode.h"

enum check_verdict { CHECK_SOUND, CHECK_LOST, CHECK_DAMAGED };

enum check_verdict check_verdict(const struct dec_log *log);
/* The full report of --check. */
void check_put(const struct dec_log *log, struct dec_buf *b);
/* The few lines that every run says if something was wrong; nothing else. */
void check_put_brief(const struct dec_log *log, struct dec_buf *b);

#endif
