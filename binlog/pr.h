/* SPDX-License-Identifier: MIT */
/*
 * Drop-in names for programs that log with pr_err() and its family.
 *
 * A program with names of its own maps them in one header of its own, for example
 *
 *	#include "binlog/binlog.h"
 *	#define LOG_PREFIX "net: "
 *	#define log_error(...) BINLOG(BINLOG_ERR, __VA_ARGS__)
 *	#define log_debug(...) BINLOG(BINLOG_DEBUG, LOG_PREFIX __VA_ARGS__)
 *	#define log_trace(...) \
 *		BINLOG(5, "%s: " BINLOG_FORMAT(__VA_ARGS__), __func__ BINLOG_ARGS(__VA_ARGS__))
 *	#define vlog(level, fmt, ap) binlog_vlog(level, __FILE__, __LINE__, __func__, fmt, ap)
 *
 * and changes no call. These are ISO C; `fmt, ##__VA_ARGS__` of GNU C will do as well. pr_fmt() may
 * be defined before this header is included, as in the kernel.
 */
#ifndef BINLOG_PR_H
#define BINLOG_PR_H

#include "binlog/binlog.h"

#ifndef pr_fmt
#define pr_fmt(fmt) fmt
#endif

/* In two steps, so that a call may stand among the arguments of one of the same name. */
#define BINLOG_PR(level, ...) \
	BINLOG(level, pr_fmt(BINLOG_FORMAT(__VA_ARGS__)) BINLOG_ARGS(__VA_ARGS__))
#define BINLOG_PR_ERRNO(...) \
	BINLOG_PR(BINLOG_ERR, BINLOG_FORMAT(__VA_ARGS__) ": %m\n" BINLOG_ARGS(__VA_ARGS__))

#define pr_msg(...)   BINLOG_PR(BINLOG_MSG, __VA_ARGS__)
#define pr_err(...)   BINLOG_PR(BINLOG_ERR, __VA_ARGS__)
#define pr_warn(...)  BINLOG_PR(BINLOG_WARN, __VA_ARGS__)
#define pr_info(...)  BINLOG_PR(BINLOG_INFO, __VA_ARGS__)
#define pr_debug(...) BINLOG_PR(BINLOG_DEBUG, __VA_ARGS__)

/* With the text of errno and the newline, as in criu. */
#define pr_perror(...) BINLOG_PR_ERRNO(__VA_ARGS__)

#endif
