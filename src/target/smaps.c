/* SPDX-License-Identifier: MIT */
/* The text of /proc/PID/maps and /proc/PID/smaps as an array. */
#include "src/target/smaps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "src/image/model.h"

/* Longer than any path the kernel prints, escapes included. */
enum { LINE_ROOM = 256 << 10 };

void smaps_deinit(struct smaps *s)
{
	free(s->v);
	free(s->strings);
	*s = (struct smaps){.drop_wp = s->drop_wp};
}

bool smaps_trackable(const struct smaps *s, const struct smaps_vma *v)
{
	const char *name = smaps_string(s, v->name);

	return !v->shared && !v->ino &&
	       (!*name || !strcmp(name, "[heap]") || !strncmp(name, "[stack", 6) ||
		!strncmp(name, "[anon:", 6));
}

/* Offset of a copy of @str; 0 for the empty string and on failure. */
static uint32_t string_add(struct smaps *s, const char *str, int *error)
{
	size_t len = strlen(str) + 1;
	uint32_t off = (uint32_t)s->len;

	if (len == 1)
		return 0;
	if (s->len + len > s->strings_room) {
		size_t room = 2 * (s->len + len) + 4096;
		char *p = room < UINT32_MAX ? realloc(s->strings, room) : NULL;

		if (!p) {
			*error = -ENOMEM;
			return 0;
		}
		s->strings = p;
		s->strings_room = room;
	}
	memcpy(s->strings + off, str, len);
	s->len += len;
	return off;
}

static int smaps_reset(struct smaps *s)
{
	s->n = 0;
	s->keys = false;
	memset(s->recent, 0, sizeof(s->recent));
	if (!s->strings) {
		s->strings = malloc(4096);
		if (!s->strings)
			return -ENOMEM;
		s->strings_room = 4096;
	}
	s->strings[0] = '\0';
	s->len = 1;
	return 0;
}

static struct smaps_vma *vma_add(struct smaps *s)
{
	if (s->n == s->room) {
		uint32_t room = s->room ? 2 * s->room : 256;
		struct smaps_vma *v = realloc(s->v, room * sizeof(*v));

		if (!v)
			return NULL;
		s->v = v;
		s->room = room;
	}
	s->v[s->n] = (struct smaps_vma){0};
	return &s->v[s->n++];
}

static bool take(const char **p, char c)
{
	if (**p != c)
		return false;
	++*p;
	return true;
}

static bool take_perms(const char **p, struct smaps_vma *v)
{
	static const char set[] = "rwx";
	static const uint32_t prot[] = {PROT_READ, PROT_WRITE, PROT_EXEC};

	for (int i = 0; i < 3; i++, ++*p) {
		if (**p == set[i])
			v->prot |= prot[i];
		else if (**p != '-')
			return false;
	}
	v->shared = **p == 's';
	return take(p, 's') || take(p, 'p');
}

/* Name behind the fixed fields, or NULL when the line is not of that form. */
static const char *parse_head(const char *p, struct smaps_vma *v)
{
	uint64_t major, minor;

	if (!procfs_hex(&p, &v->start) || !take(&p, '-') || !procfs_hex(&p, &v->end) ||
	    !take(&p, ' ') || !take_perms(&p, v) || !take(&p, ' ') || !procfs_hex(&p, &v->pgoff) ||
	    !take(&p, ' ') || !procfs_hex(&p, &major) || !take(&p, ':') ||
	    !procfs_hex(&p, &minor) || !take(&p, ' ') || !procfs_dec(&p, &v->ino))
		return NULL;
	if (v->start >= v->end || major > UINT32_MAX || minor > UINT32_MAX)
		return NULL;
	v->major = (uint32_t)major;
	v->minor = (uint32_t)minor;
	while (*p == ' ')
		p++;
	return p;
}

static int head_line(struct smaps *s, const char *line)
{
	struct smaps_vma *v = vma_add(s);
	const char *name;
	int ret = 0;

	if (!v)
		return -ENOMEM;
	name = parse_head(line, v);
	if (!name || (s->n > 1 && v[-1].end > v->start))
		return -EBADMSG;
	if (s->n > 1 && v[-1].name && !strcmp(smaps_string(s, v[-1].name), name))
		v->name = v[-1].name;
	else
		v->name = string_add(s, name, &ret);
	return ret;
}

static const struct {
	char text[3];
	uint32_t bit;
} vm_flags[] = {
	{"gd", M_VMF_GROWSDOWN},  {"lo", M_VMF_LOCKED},	    {"sr", M_VMF_SEQ},
	{"rr", M_VMF_RAND},	  {"dc", M_VMF_DONTFORK},   {"mg", M_VMF_MERGEABLE},
	{"hg", M_VMF_HUGEPAGE},	  {"nh", M_VMF_NOHUGEPAGE}, {"dd", M_VMF_DONTDUMP},
	{"wf", M_VMF_WIPEONFORK}, {"ht", M_VMF_HUGETLB},    {"io", M_VMF_IO},
	{"pf", M_VMF_PFNMAP},	  {"nr", M_VMF_NORESERVE},  {"ac", M_VMF_ACCOUNT},
	{"sd", M_VMF_SOFTDIRTY},  {"ss", M_VMF_SHSTK},	    {"um", M_VMF_UFFD},
	{"uw", M_VMF_UFFD},	  {"ui", M_VMF_UFFD},	    {"sl", M_VMF_SEALED},
	{"dp", M_VMF_DROPPABLE},  {"ms", M_VMF_MAYSHARE},   {"mt", M_VMF_TAGS},
};

static void parse_vmflags(struct smaps_vma *v, const char *p)
{
	for (;; p += 2) {
		while (*p == ' ')
			p++;
		if (!p[0] || !p[1])
			return;
		for (size_t i = 0; i < sizeof(vm_flags) / sizeof(vm_flags[0]); i++)
			if (!memcmp(vm_flags[i].text, p, 2))
				v->flags |= vm_flags[i].bit;
		v->may_write |= !memcmp(p, "mw", 2);
		v->no_expand |= !memcmp(p, "de", 2);
	}
}

/* Few different lines make up a whole process. */
static uint32_t vmflags_string(struct smaps *s, const char *p, int *error)
{
	uint32_t off;
	int i;

	for (i = 0; i < SMAPS_RECENT; i++)
		if (s->recent[i] && !strcmp(smaps_string(s, s->recent[i]), p))
			break;
	if (i < SMAPS_RECENT) {
		off = s->recent[i];
	} else {
		off = string_add(s, p, error);
		i = SMAPS_RECENT - 1;
	}
	memmove(&s->recent[1], &s->recent[0], (size_t)i * sizeof(s->recent[0]));
	s->recent[0] = off;
	return off;
}

static bool drop_flag(char *line, const char *flag)
{
	size_t len = strlen(flag);
	char *at = strstr(line, flag);

	if (at)
		memmove(at, at + len, strlen(at + len) + 1);
	return at;
}

static int key_line(struct smaps *s, char *line)
{
	struct smaps_vma *v = s->n ? &s->v[s->n - 1] : NULL;
	int ret = 0;

	if (!v)
		return -EBADMSG;
	if (!strncmp(line, "KernelPageSize:", 15)) {
		const char *p = line + 15;
		uint64_t kb;

		if (!procfs_dec(&p, &kb) || !kb || kb > UINT64_MAX >> 10)
			return -EBADMSG;
		v->page_shift = (uint8_t)__builtin_ctzll(kb << 10);
	} else if (!strncmp(line, "ProtectionKey:", 14)) {
		const char *p = line + 14;
		uint64_t pkey;

		if (!procfs_dec(&p, &pkey) || pkey >= M_PKEYS)
			return -EBADMSG;
		v->pkey = (uint8_t)pkey;
		s->keys |= pkey != 0;
	} else if (!strncmp(line, "VmFlags: ", 9)) {
		char *end = line + strlen(line);

		while (end[-1] == ' ')
			*--end = '\0';
		if (s->drop_wp && smaps_trackable(s, v))
			v->wp = drop_flag(line + 8, " uw");
		v->flags = 0;
		parse_vmflags(v, line + 8);
		v->vmflags = vmflags_string(s, end > line + 9 ? line + 9 : "", &ret);
	}
	return ret;
}

int smaps_parse(struct smaps *s, struct procfs_lines *l)
{
	int ret = smaps_reset(s);
	char *line;

	while (ret == 0 && (line = procfs_lines_next(l))) {
		/* Addresses are printed in small letters, the keys of smaps begin with capitals. */
		if ((*line >= '0' && *line <= '9') || (*line >= 'a' && *line <= 'f'))
			ret = head_line(s, line);
		else
			ret = key_line(s, line);
	}
	return ret < 0 ? ret : -l->error;
}

int smaps_read(struct smaps *s, pid_t tid, const char *file)
{
	cleanup_free char *buf = malloc(LINE_ROOM);
	struct procfs_lines l;
	int ret;

	if (!buf)
		return -ENOMEM;
	ret = procfs_lines_open(&l, buf, LINE_ROOM, "/proc/%d/%s", tid, file);
	if (ret < 0)
		return ret;
	ret = smaps_parse(s, &l);
	procfs_lines_close(&l);
	return ret;
}

static bool vma_same(const struct smaps *a, const struct smaps_vma *x, const struct smaps *b,
		     const struct smaps_vma *y)
{
	return x->start == y->start && x->end == y->end && x->pgoff == y->pgoff &&
	       x->ino == y->ino && x->major == y->major && x->minor == y->minor &&
	       x->prot == y->prot && x->shared == y->shared &&
	       !strcmp(smaps_string(a, x->name), smaps_string(b, y->name));
}

bool smaps_inherit(struct smaps *s, const struct smaps *old)
{
	uint32_t j = 0;
	int error = 0;

	s->keys = old->keys;
	for (uint32_t i = 0; i < s->n; i++) {
		struct smaps_vma *v = &s->v[i];
		const struct smaps_vma *o;

		while (j < old->n && old->v[j].start < v->start)
			j++;
		if (j == old->n || !vma_same(s, v, old, &old->v[j]))
			return false;
		o = &old->v[j];
		v->flags = o->flags;
		v->page_shift = o->page_shift;
		v->pkey = o->pkey;
		v->may_write = o->may_write;
		v->no_expand = o->no_expand;
		v->vmflags = vmflags_string(s, smaps_string(old, o->vmflags), &error);
	}
	return error == 0;
}
