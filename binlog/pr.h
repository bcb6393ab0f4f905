/* SPDX-License-Identifier: MIT */
/*
 * Drop-in names for programs that log with pr_err() and its family.
 *
 * A program with names of its own maps them in one header of its own, for example
 *
 *	#include "binlog/binlog.h"
 *	#define LOG_PREFIX "net: "
 *	#define log_debug(fmt, ...) BINLOG(BINLOG_DEBUG, LOG_PREFIX fmt, ##__VA_ARGS__)
 *	#define vlog(level, fmt, ap) binlog_vlog(level, __FILE__, __LINE__, __func__, fmt, ap)
 *
 * and changes no call. pr_fmt() may be defined before this header is included, as in the kernel.
 */
#ifndef BINLOG_PR_H
#define BINLOG_PR_H

#include "binlog/binlog.h"

#ifndef pr_fmt
#define pr_fmt(fmt) fmt
#endif

#define pr_msg(fmt, ...)   BINLOG(BINLOG_MSG, pr_fmt(fmt), ##__VA_ARGS__)
#define pr_err(fmt, ...)   BINLOG(BINLOG_ERR, pr_fmt(fmt), ##__VA_ARGS__)
#define pr_warn(fmt, ...)  BINLOG(BINLOG_WARN, pr_fmt(fmt), ##__VA_ARGS__)
#define pr_info(fmt, ...)  BINLOG(BINLOG_INFO, pr_fmt(fmt), ##__VA_ARGS__)
#define pr_debug(fmt, ...) BINLOG(BINLOG_DEBUG, pr_fmt(fmt), ##__VA_ARGS__)

/* With the text of errno and the newline, as in criu. */
#define pr_perror(fmt, ...) pr_err(fmt ": %m\n", ##__VA_ARGS__)

#endif
