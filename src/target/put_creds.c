/* SPDX-License-Identifier: MIT */
/* Credentials of every thread: taken step by step, then looked at, for no right may be left over.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "src/target/procfs.h"
#include "src/target/put.h"
#include "src/target/put_list.h"

enum {
	NGROUPS = 65536, /* NGROUPS_MAX */
	FEW_GROUPS = 512,
	NCAPS = 64,
	LABEL = 256,
};

/* One thread's, as they are now. */
struct creds {
	struct procfs_status st;
	uint32_t securebits;
};

static struct list list;

static int read_status(struct remote *r, const struct m_proc *p, const struct m_thread *t,
		       struct procfs_status *ret_st, struct err *err)
{
	/* The text keeps the groups. */
	int ret = procfs_status((pid_t)t->tid, r->tree->text, TREE_TEXT, ret_st);

	return ret < 0 ? err_set(err, -ret, "status of thread %u of process %u", t->tid, p->pid)
		       : 0;
}

/* --- what there is ---------------------------------------------------------------------------- */

static bool same_groups(const struct procfs_status *st, const struct m_creds *want)
{
	const char *s = st->groups;
	uint32_t n = 0;
	uint64_t v;

	while (s && procfs_dec(&s, &v))
		if (n == want->ngroups || want->groups[n++] != v)
			return false;
	return n == want->ngroups;
}

static int mismatch(const struct m_thread *t, const char *what, uint64_t want, uint64_t got,
		    struct err *err)
{
	err_fail(err, EPERM, ERR_PERM, "%s of thread %u: wanted %#" PRIx64 ", got %#" PRIx64, what,
		 t->tid, want, got);
	if (want & ~got)
		err_hint(err,
			 "the restoring command has less than the program had: restore as root, "
			 "or as the user, and with the capabilities, of the dump");
	return -EPERM;
}

/* What the kernel could not have told. */
static int check_wanted(const struct m_thread *t, struct err *err)
{
	const struct m_creds *c = &t->creds;

	if (c->ngroups > NGROUPS)
		return err_fail(err, EBADMSG, ERR_IMAGE, "thread %u has %u groups", t->tid,
				c->ngroups);
	if (c->no_new_privs > 1)
		return err_fail(err, EBADMSG, ERR_IMAGE, "thread %u: no_new_privs is %u", t->tid,
				c->no_new_privs);
	if ((c->cap_eff & ~c->cap_prm) || (c->cap_amb & ~(c->cap_prm & c->cap_inh)))
		return err_fail(err, EBADMSG, ERR_IMAGE,
				"thread %u: effective capabilities %#" PRIx64
				" or ambient %#" PRIx64 " are not among the permitted %#" PRIx64,
				t->tid, c->cap_eff, c->cap_amb, c->cap_prm);
	return 0;
}

/* The kernel may have a mode behind it: "name (enforce)". */
static bool same_label(const char *has, const char *want)
{
	size_t len = strlen(want);

	return !strncmp(has, want, len) && (!has[len] || !strncmp(has + len, " (", 2));
}

/*
 * A security label confines; a program that had one must not run without. Labels are not put back,
 * so it must be there already.
 */
static int check_label(const struct m_proc *p, const struct m_thread *t, struct err *err)
{
	char has[LABEL] = "";
	ssize_t n = procfs_read(has, sizeof(has), "/proc/%u/task/%u/attr/current", p->pid, t->tid);

	while (n > 0 && (has[n - 1] == '\n' || !has[n - 1]))
		has[--n] = '\0';
	if (!t->creds.lsm_profile || (n > 0 && same_label(has, t->creds.lsm_profile)))
		return 0;
	err_fail(err, EPERM, ERR_UNSUPPORTED,
		 "security label of thread %u of process %u: wanted %.100s, got %.100s", t->tid,
		 p->pid, t->creds.lsm_profile, n > 0 ? has : "none");
	err_hint(err, "labels are not put back: run the restore itself under that label");
	return -EPERM;
}

/* --- getting there ---------------------------------------------------------------------------- */

static void add_prctl(struct list *l, uint64_t option, uint64_t a, uint64_t b, const char *what)
{
	struct list_call *c = list_add(l, SYS_prctl, option, what);

	c->args[1] = a;
	c->args[2] = b;
}

static void add_set3(struct list *l, uint64_t nr, uint32_t a, uint32_t b, uint32_t d,
		     const char *what)
{
	struct list_call *c = list_add(l, nr, a, what);

	c->args[1] = b;
	c->args[2] = d;
}

static void add_groups(struct list *l, const struct m_creds *want)
{
	struct list_call *c =
		list_add(l, SYS_setgroups, want->ngroups, "set the supplementary groups");

	if (want->ngroups)
		list_give(c, 1, want->groups, want->ngroups * sizeof(*want->groups));
}

/* What capset(2) wants. */
struct capset {
	struct __user_cap_header_struct head;
	struct __user_cap_data_struct data[2];
};

static void add_capset(struct list *l, struct capset *s, uint64_t inh, uint64_t prm, uint64_t eff,
		       const char *what)
{
	struct list_call *c = list_add(l, SYS_capset, 0, what);

	s->head.version = _LINUX_CAPABILITY_VERSION_3;
	s->head.pid = 0;
	for (unsigned i = 0; i < 2; i++) {
		s->data[i].inheritable = (uint32_t)(inh >> (32 * i));
		s->data[i].permitted = (uint32_t)(prm >> (32 * i));
		s->data[i].effective = (uint32_t)(eff >> (32 * i));
	}
	list_give(c, 0, &s->head, sizeof(s->head));
	list_give(c, 1, s->data, sizeof(s->data));
}

static bool same_ids(const struct procfs_status *st, const struct m_creds *want)
{
	const uint32_t uid[4] = {want->uid, want->euid, want->suid, want->fsuid};
	const uint32_t gid[4] = {want->gid, want->egid, want->sgid, want->fsgid};

	return !memcmp(uid, st->uid, sizeof(uid)) && !memcmp(gid, st->gid, sizeof(gid));
}

/* Ids in one step each; capabilities permitted stay so, but none is effective after it. */
static void add_ids(struct list *l, const struct creds *has, const struct m_creds *want,
		    struct capset caps[2])
{
	const struct procfs_status *st = &has->st;

	if (same_ids(st, want))
		return;
	add_prctl(l, PR_SET_KEEPCAPS, 1, 0, "keep capabilities");
	add_set3(l, SYS_setresgid, want->gid, want->egid, want->sgid, "set the group ids");
	add_set3(l, SYS_setfsgid, want->fsgid, 0, 0, "set the file system group id");
	add_set3(l, SYS_setresuid, want->uid, want->euid, want->suid, "set the user ids");
	add_capset(l, &caps[0], st->cap_inh, st->cap_prm, st->cap_prm, "raise capabilities");
	add_set3(l, SYS_setfsuid, want->fsuid, 0, 0, "set the file system user id");
	/* The file system's id takes capabilities away, too. */
	add_capset(l, &caps[1], st->cap_inh, st->cap_prm, st->cap_prm, "raise capabilities");
}

static void add_bounding(struct list *l, uint64_t has, uint64_t want)
{
	for (unsigned cap = 0; cap < NCAPS; cap++)
		if ((has & ~want) >> cap & 1)
			add_prctl(l, PR_CAPBSET_DROP, cap, 0, "drop a capability from the bounds");
}

static void add_ambient(struct list *l, uint64_t has, uint64_t want, bool ids_changed)
{
	/* Changed user ids may have cleared it. */
	if (has == want && !(has && ids_changed))
		return;
	add_prctl(l, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, "clear ambient capabilities");
	for (unsigned cap = 0; cap < NCAPS; cap++)
		if (want >> cap & 1)
			add_prctl(l, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap,
				  "raise an ambient capability");
}

/* Setting them needs CAP_SETPCAP, their lowest bit, KEEP_CAPS, does not. */
static void add_securebits(struct list *l, uint32_t has, uint32_t want, bool ids_changed)
{
	const uint32_t keep = 1u << SECURE_KEEP_CAPS;

	/* Where KEEP_CAPS is locked not even its own value may be set. */
	if (has == want && !ids_changed)
		return;
	if ((has & ~keep) == (want & ~keep))
		add_prctl(l, PR_SET_KEEPCAPS, (want & keep) != 0, 0, "set or clear KEEP_CAPS");
	else
		add_prctl(l, PR_SET_SECUREBITS, want, 0, "set the secure bits");
}

/*
 * Inheritable ones while the bounds are wide; ambient ones while the secure bits allow it and all
 * that is wanted is permitted; permitted and effective ones last, for every step needs some.
 */
static void add_caps(struct list *l, const struct creds *has, const struct m_creds *want,
		     struct capset caps[2])
{
	const struct procfs_status *st = &has->st;

	if (st->cap_inh != want->cap_inh)
		add_capset(l, &caps[0], want->cap_inh, st->cap_prm, st->cap_prm,
			   "set inheritable capabilities");
	add_ambient(l, st->cap_amb, want->cap_amb, !same_ids(st, want));
	add_bounding(l, st->cap_bnd, want->cap_bnd);
	add_securebits(l, has->securebits, want->securebits, !same_ids(st, want));
	if (want->no_new_privs && !st->no_new_privs)
		add_prctl(l, PR_SET_NO_NEW_PRIVS, 1, 0, "set no_new_privs");
	add_capset(l, &caps[1], want->cap_inh, want->cap_prm, want->cap_eff, "set capabilities");
}

static int fill_ask(struct list *l, struct remote *r, const struct m_proc *p, uint32_t i, void *arg,
		    struct err *err)
{
	add_prctl(l, PR_GET_SECUREBITS, 0, 0, "read the secure bits");
	return check_wanted(&p->threads[i], err);
}

static int done_ask(const struct list *l, struct remote *r, const struct m_proc *p, uint32_t i,
		    void *arg, struct err *err)
{
	uint32_t *bits = arg;

	bits[i] = (uint32_t)l->calls[0].ret;
	return check_label(p, &p->threads[i], err);
}

static int fill_creds(struct list *l, struct remote *r, const struct m_proc *p, uint32_t i,
		      void *arg, struct err *err)
{
	static struct capset caps[REMOTE_SLOTS][4];
	const struct m_thread *t = &p->threads[i];
	struct capset *c = caps[i % r->nslots];
	struct creds has = {.securebits = ((const uint32_t *)arg)[i]};
	int ret = read_status(r, p, t, &has.st, err);

	if (ret < 0)
		return ret;
	/* What cannot be had back. */
	if (t->creds.cap_prm & ~has.st.cap_prm)
		return mismatch(t, "permitted capabilities", t->creds.cap_prm, has.st.cap_prm, err);
	if (t->creds.cap_bnd & ~has.st.cap_bnd)
		return mismatch(t, "bounding capabilities", t->creds.cap_bnd, has.st.cap_bnd, err);
	if (has.st.no_new_privs && !t->creds.no_new_privs)
		return mismatch(t, "no_new_privs", 0, 1, err);
	/* While the thread may still change them. */
	if (t->creds.ngroups <= FEW_GROUPS && !same_groups(&has.st, &t->creds))
		add_groups(l, &t->creds);
	add_ids(l, &has, &t->creds, c);
	add_caps(l, &has, &t->creds, c + 2);
	return 0;
}

/* Too long for what threads do side by side. */
static int put_many_groups(struct remote *r, const struct m_proc *p, uint32_t i, struct err *err)
{
	const struct m_creds *want = &p->threads[i].creds;
	struct procfs_status st;
	int ret;

	if (want->ngroups <= FEW_GROUPS)
		return 0;
	ret = read_status(r, p, &p->threads[i], &st, err);
	if (ret < 0 || same_groups(&st, want))
		return ret;
	list_begin(&list);
	add_groups(&list, want);
	return list_run(&list, r, tree_proc_task(r->tree, r->proc, i), err);
}

/* --- what any change of credentials clears ---------------------------------------------------- */

static int fill_death(struct list *l, struct remote *r, const struct m_proc *p, uint32_t i,
		      void *arg, struct err *err)
{
	add_prctl(l, PR_SET_PDEATHSIG, p->threads[i].pdeath_sig, 0, "set the parent-death signal");
	add_prctl(l, PR_GET_SECUREBITS, 0, 0, "read the secure bits");
	return 0;
}

/* --- a last look ------------------------------------------------------------------------------ */

static int verify(struct remote *r, const struct m_proc *p, const struct m_thread *t,
		  uint32_t securebits, struct err *err)
{
	const struct m_creds *c = &t->creds;
	struct procfs_status st;
	int ret = read_status(r, p, t, &st, err);

	if (ret < 0)
		return ret;
	const struct {
		const char *what;
		uint64_t want, got;
	} all[] = {
		{"real user id", c->uid, st.uid[0]},
		{"effective user id", c->euid, st.uid[1]},
		{"saved user id", c->suid, st.uid[2]},
		{"file system user id", c->fsuid, st.uid[3]},
		{"real group id", c->gid, st.gid[0]},
		{"effective group id", c->egid, st.gid[1]},
		{"saved group id", c->sgid, st.gid[2]},
		{"file system group id", c->fsgid, st.gid[3]},
		{"inheritable capabilities", c->cap_inh, st.cap_inh},
		{"permitted capabilities", c->cap_prm, st.cap_prm},
		{"effective capabilities", c->cap_eff, st.cap_eff},
		{"bounding capabilities", c->cap_bnd, st.cap_bnd},
		{"ambient capabilities", c->cap_amb, st.cap_amb},
		{"no_new_privs", c->no_new_privs, st.no_new_privs},
		{"secure bits", c->securebits, securebits},
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i].want != all[i].got)
			return mismatch(t, all[i].what, all[i].want, all[i].got, err);
	if (same_groups(&st, c))
		return 0;
	return err_fail(err, EPERM, ERR_PERM, "groups of thread %u: wanted %u of them, got %.200s",
			t->tid, c->ngroups, st.groups ? st.groups : "none");
}

static int done_death(const struct list *l, struct remote *r, const struct m_proc *p, uint32_t i,
		      void *arg, struct err *err)
{
	return verify(r, p, &p->threads[i], (uint32_t)l->calls[1].ret, err);
}

static int put_dumpable(struct remote *r, const struct m_proc *p, struct err *err)
{
	list_begin(&list);
	/* 2, "for root only", cannot be asked for; 0 allows no more than it did. */
	add_prctl(&list, PR_SET_DUMPABLE, p->mm.dumpable == 1, 0, "set dumpable");
	return list_run(&list, r, tree_proc_task(r->tree, r->proc, 0), err);
}

int put_creds(struct remote *r, const struct m_proc *p, struct err *err)
{
	uint32_t *bits = calloc(p->nthreads + (size_t)1, sizeof(*bits));
	const struct list_each ask = {fill_ask, done_ask, bits}, creds = {fill_creds, NULL, bits};
	const struct list_each death = {fill_death, done_death, NULL};
	int ret;

	if (!bits)
		return err_set(err, ENOMEM, "credentials of %u threads", p->nthreads);
	ret = list_run_each(&ask, r, p, err);
	for (uint32_t i = 0; ret == 0 && i < p->nthreads; i++)
		ret = put_many_groups(r, p, i, err);
	if (ret == 0)
		ret = list_run_each(&creds, r, p, err);
	if (ret == 0)
		ret = list_run_each(&death, r, p, err);
	if (ret == 0)
		ret = put_dumpable(r, p, err);
	free(bits);
	return ret;
}
