/* SPDX-License-Identifier: MIT */
/*
 * What stands before the text of a record: a template, compiled.
 *
 *	%t seconds since the log was opened, 00.000000    %T date and time of day
 *	%p pid   %i tid   %c name of the thread           %l level   %L its first letter
 *	%f file  %b file without folders  %n line         %F function
 *	%S number of the site   %s number of the stream   %% a percent sign
 *
 * A number before the letter is a width; a minus aligns to the left: %-5l.
 */
#ifndef BINDECODE_DECODE_PREFIX_H
#define BINDECODE_DECODE_PREFIX_H

#include "tools/bindecode/decode.h"

#define DEC_PREFIX_DEFAULT "(%t) %5i %-5l %b:%n: "
#define DEC_PREFIX_WALL	   "%T %5i %-5l %b:%n: "

struct dec_prefix;

/*
 * One object may serve several logs, but a log only one object: it notes at a site what it prints
 * for it. -EINVAL: @template has a letter that is not in the list.
 */
int dec_prefix_new(struct dec_prefix **ret, const char *template, bool utc, struct err *err);
void dec_prefix_free(struct dec_prefix *p);
void dec_prefix_put(struct dec_prefix *p, const struct dec_record *rec, struct dec_buf *b);

/* A date and time of day as 2026-11-23 12:00:00.000000, from the cache in @p. */
void dec_prefix_put_wall(struct dec_prefix *p, int64_t real_ns, struct dec_buf *b);

#endif
