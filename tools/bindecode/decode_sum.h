/* SPDX-License-Identifier: MIT */
/*
 * The checksum of the log format, docs/BINLOG.md section 1.1.
 */
#ifndef BINDECODE_DECODE_SUM_H
#define BINDECODE_DECODE_SUM_H

#include <stddef.h>
#include <stdint.h>

uint64_t dec_sum(const void *p, size_t len);
/* The sum with the four bytes at @zero taken for zero; @len at most 512. */
uint64_t dec_sum_without(const void *p, size_t len, size_t zero);

#endif
