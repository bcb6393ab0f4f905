/* SPDX-License-Identifier: MIT */
/* Decides which records are wanted. */
#include <fnmatch.h>
#include <time.h>

#include "tools/bindecode/filter.h"

enum { UNKNOWN, WANTED, UNWANTED }; /* dec_site.mark */

void filter_init(struct filter *f)
{
	memset(f, 0, sizeof(*f));
	f->level = -1;
	dec_buf_init(&f->text);
}

void filter_deinit(struct filter *f)
{
	if (f->has_regex)
		regfree(&f->regex);
	dec_buf_deinit(&f->text);
}

int filter_set_regex(struct filter *f, const char *pattern, bool ignore_case, struct err *err)
{
	char why[128];
	int r = regcomp(&f->regex, pattern,
			REG_EXTENDED | REG_NOSUB | (ignore_case ? REG_ICASE : 0));

	if (r) {
		regerror(r, &f->regex, why, sizeof(why));
		return err_fail(err, EINVAL, ERR_USAGE,
				"--grep takes an extended regular expression, not \"%s\": %s",
				pattern, why);
	}
	f->has_regex = true;
	return 0;
}

/* Seconds with a fraction, exactly; false: something else. */
static bool parse_seconds(const char *text, int64_t *ret)
{
	bool neg = *text == '-';
	const char *p = text + (neg || *text == '+');
	int64_t ns = 0;
	int64_t unit = 1000000000;

	if (*p < '0' || *p > '9')
		return false;
	for (; *p >= '0' && *p <= '9'; p++) {
		if (ns > INT64_MAX / unit / 16)
			return false;
		ns = ns * 10 + (*p - '0');
	}
	ns *= unit;
	if (*p == '.')
		for (p++; *p >= '0' && *p <= '9'; p++)
			ns += (*p - '0') * (unit /= 10);
	*ret = neg ? -ns : ns;
	return !*p;
}

int filter_parse_time(struct filter_time *ret, const char *text, int64_t open_real_ns, bool utc,
		      struct err *err)
{
	static const char *const forms[] = {
		"%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M",
		"%Y-%m-%d",	     "%H:%M:%S",	  "%H:%M"};
	time_t open = (time_t)(open_real_ns / 1000000000);

	*ret = (struct filter_time){.set = true};
	if (parse_seconds(text, &ret->ns))
		return 0;
	ret->real = true;
	for (unsigned i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
		struct tm tm;
		const char *end;
		int64_t frac = 0;
		char zero[32];

		if (!(utc ? gmtime_r(&open, &tm) : localtime_r(&open, &tm)))
			break;
		tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
		end = strptime(text, forms[i], &tm);
		if (!end)
			continue;
		if (*end == '.') {
			snprintf(zero, sizeof(zero), "0%s", end);
			if (!parse_seconds(zero, &frac))
				continue;
		} else if (*end) {
			continue;
		}
		tm.tm_isdst = -1;
		ret->ns = (int64_t)(utc ? timegm(&tm) : mktime(&tm)) * 1000000000 + frac;
		return 0;
	}
	err_fail(err, EINVAL, ERR_USAGE, "--since and --until take a time, not \"%s\"", text);
	err_hint(err, "seconds since the log was opened, or [YYYY-MM-DD ]HH:MM[:SS[.FRACTION]]");
	return -EINVAL;
}

static bool matches_path(const char *pattern, const char *path)
{
	const char *slash = strrchr(path, '/');
	size_t len = strlen(pattern), n = strlen(path);

	if (!fnmatch(pattern, path, 0) || (slash && !fnmatch(pattern, slash + 1, 0)))
		return true;
	/* Some of the last folders, as src/main.c for ../src/main.c. */
	return n > len && path[n - len - 1] == '/' && !strcmp(path + n - len, pattern);
}

static bool matches_file(const char *pattern, const struct dec_site *s)
{
	const char *colon = strrchr(pattern, ':');
	char name[512];

	if (!colon || !colon[1] || colon[1 + strspn(colon + 1, "0123456789")])
		return matches_path(pattern, s->file);
	if ((size_t)(colon - pattern) >= sizeof(name) || strtoul(colon + 1, NULL, 10) != s->line)
		return false;
	memcpy(name, pattern, (size_t)(colon - pattern));
	name[colon - pattern] = '\0';
	return matches_path(name, s->file);
}

static bool wants_site(const struct filter *f, const struct dec_site *s)
{
	bool hit = !f->nfiles;

	for (unsigned i = 0; i < f->nfiles && !hit; i++)
		hit = matches_file(f->files[i], s);
	if (!hit)
		return false;
	hit = !f->nfuncs;
	for (unsigned i = 0; i < f->nfuncs && !hit; i++)
		hit = !fnmatch(f->funcs[i], s->func, 0);
	return hit;
}

static bool is_in(const uint32_t *list, unsigned n, uint32_t v)
{
	bool hit = !n;

	for (unsigned i = 0; i < n && !hit; i++)
		hit = list[i] == v;
	return hit;
}

static int64_t time_as(const struct dec_record *rec, bool real)
{
	return real ? decode_real_ns(rec) : decode_relative_ns(rec);
}

bool filter_wants(struct filter *f, const struct dec_record *rec)
{
	struct dec_site *s = rec->site;
	bool hit;

	if (f->level >= 0 && rec->level > (unsigned)f->level)
		return false;
	if (s && s->mark == UNKNOWN)
		s->mark = wants_site(f, s) ? WANTED : UNWANTED;
	if (s && s->mark == UNWANTED)
		return false;
	if (!is_in(f->pids, f->npids, rec->pid) || !is_in(f->tids, f->ntids, rec->tid))
		return false;
	if (f->since.set && time_as(rec, f->since.real) < f->since.ns)
		return false;
	if (f->until.set && time_as(rec, f->until.real) > f->until.ns)
		return false;
	if (!f->has_regex || !s)
		return true;
	f->text.len = 0;
	decode_text(rec, &f->text);
	dec_buf_chr(&f->text, '\0');
	if (f->text.oom)
		return true;
	/* An expression sees the line without its end, so that $ is where one expects it. */
	if (f->text.len > 1 && f->text.p[f->text.len - 2] == '\n')
		f->text.p[f->text.len - 2] = '\0';
	hit = !regexec(&f->regex, f->text.p, 0, NULL, 0);
	return hit != f->invert;
}
