/* SPDX-License-Identifier: MIT */
/* Who is in the tree and what is shared: pstree and ids files. */
#include <inttypes.h>
#include <string.h>

#include "src/image/meta.h"

/* --- namespaces ----------------------------------------------------------------------------- */

enum { NNS = 8 };

/*
 * In CRIU's messages a namespace is a small number. The tool's own get 1 to 8, in the order CRIU
 * gives them on a plain host; those of the dumped tree that differ come after.
 */
static void ns_inodes(const struct m_ns *ns, uint64_t ret[NNS])
{
	const uint64_t all[NNS] = {ns->pid,  ns->net, ns->ipc,	ns->uts,
				   ns->time, ns->mnt, ns->user, ns->cgroup};

	memcpy(ret, all, sizeof(all));
}

static uint32_t ns_number(const struct model *m, unsigned kind, uint64_t ino)
{
	uint64_t tool[NNS], seen[NNS];
	uint32_t next = NNS + 1;

	ns_inodes(&m->tool_ns, tool);
	if (!tool[kind] || !ino)
		return 0;
	if (tool[kind] == ino)
		return kind + 1;
	for (uint32_t i = 0; i < m->nprocs; i++) {
		ns_inodes(&m->procs[i].ns, seen);
		if (seen[kind] == ino)
			return next + i * NNS + kind;
	}
	return 0;
}

static void put_ns_ids(const struct model *m, const struct m_ns *ns, Im__Ids *ids)
{
	uint64_t ino[NNS];

	ns_inodes(ns, ino);
	META_SET_NZ(ids, pid_ns_id, ns_number(m, 0, ino[0]));
	META_SET_NZ(ids, net_ns_id, ns_number(m, 1, ino[1]));
	META_SET_NZ(ids, ipc_ns_id, ns_number(m, 2, ino[2]));
	META_SET_NZ(ids, uts_ns_id, ns_number(m, 3, ino[3]));
	META_SET_NZ(ids, time_ns_id, ns_number(m, 4, ino[4]));
	META_SET_NZ(ids, mnt_ns_id, ns_number(m, 5, ino[5]));
	META_SET_NZ(ids, user_ns_id, ns_number(m, 6, ino[6]));
	META_SET_NZ(ids, cgroup_ns_id, ns_number(m, 7, ino[7]));
}

void meta_put_ns(const struct m_ns *ns, Im__Namespaces *ret)
{
	META_SET_NZ(ret, pid, ns->pid);
	META_SET_NZ(ret, net, ns->net);
	META_SET_NZ(ret, ipc, ns->ipc);
	META_SET_NZ(ret, uts, ns->uts);
	META_SET_NZ(ret, mnt, ns->mnt);
	META_SET_NZ(ret, user, ns->user);
	META_SET_NZ(ret, cgroup, ns->cgroup);
	META_SET_NZ(ret, time, ns->time);
}

void meta_get_ns(const Im__Namespaces *ns, struct m_ns *ret)
{
	if (!ns)
		return;
	ret->pid = META_GET(ns, pid);
	ret->net = META_GET(ns, net);
	ret->ipc = META_GET(ns, ipc);
	ret->uts = META_GET(ns, uts);
	ret->mnt = META_GET(ns, mnt);
	ret->user = META_GET(ns, user);
	ret->cgroup = META_GET(ns, cgroup);
	ret->time = META_GET(ns, time);
}

/* --- ids ------------------------------------------------------------------------------------ */

/* The dumping tool's own: 1 everywhere, so that no dumped process has the same. */
void meta_put_root_ids(const struct model *m, Im__Ids *ids)
{
	ids->vm_id = 1;
	ids->files_id = 1;
	ids->fs_id = 1;
	ids->sighand_id = 1;
	put_ns_ids(m, &m->tool_ns, ids);
}

int meta_put_ids(struct meta_out *o, const struct m_proc *p)
{
	char name[STORE_NAME];
	Im__Ids ids = IM__IDS__INIT;

	ids.vm_id = p->vm_id;
	ids.files_id = p->fdtable_id;
	ids.fs_id = p->fs_id;
	ids.sighand_id = p->sighand_id;
	put_ns_ids(o->m, &p->ns, &ids);
	frame_begin(&o->img->out, FRAME_IDS);
	frame_add(&o->img->out, &ids.base);
	return store_put(o->img, store_name(name, "ids-%u.img", p->pid), o->err);
}

int meta_get_ids(struct meta_in *in, struct m_proc *p)
{
	char name[STORE_NAME];
	struct store_in file;
	ProtobufCMessage *msg;
	int ret;

	ret = store_load(in->dirfd, FRAME_IDS, store_name(name, "ids-%u.img", p->pid), &file,
			 in->err);
	if (ret)
		return ret;
	ret = frame_single(&file.f, &msg, in->err);
	if (!ret) {
		const Im__Ids *ids = (const Im__Ids *)msg;

		p->vm_id = ids->vm_id;
		p->fdtable_id = ids->files_id;
		p->fs_id = ids->fs_id;
		p->sighand_id = ids->sighand_id;
	}
	store_unload(&file);
	return ret;
}

/* --- pstree --------------------------------------------------------------------------------- */

static int add_node(struct meta_out *o, const struct m_proc *p)
{
	Im__TreeNode node = IM__TREE_NODE__INIT;
	uint32_t no_thread = 0;

	node.pid = p->pid;
	/* The root's parent is not part of the image; elsewhere its number would mean another. */
	node.ppid = p == o->m->procs ? 0 : p->ppid;
	node.pgid = p->pgid;
	node.sid = p->sid;
	/* CRIU takes a node without threads for one with a thread: a dead one has the number 0. */
	if (p->state == M_DEAD) {
		node.n_threads = 1;
		node.threads = &no_thread;
	} else if (p->nthreads) {
		node.n_threads = p->nthreads;
		node.threads = arena_alloc(o->scratch, p->nthreads * sizeof(*node.threads));
		if (!node.threads)
			return meta_nomem(o->err, "pstree.img");
		for (uint32_t i = 0; i < p->nthreads; i++)
			node.threads[i] = p->threads[i].tid;
	}
	frame_add(&o->img->out, &node.base);
	return 0;
}

int meta_put_pstree(struct meta_out *o)
{
	frame_begin(&o->img->out, FRAME_PSTREE);
	for (uint32_t i = 0; i < o->m->nprocs; i++) {
		int ret = add_node(o, &o->m->procs[i]);

		if (ret)
			return ret;
	}
	return store_put(o->img, "pstree.img", o->err);
}

static int get_node(struct meta_in *in, const Im__TreeNode *node)
{
	struct m_proc *p = model_push(in->m, &in->m->procs, &in->m->nprocs, sizeof(*p));

	if (!p)
		return meta_nomem(in->err, "pstree.img");
	p->pid = node->pid;
	p->ppid = node->ppid;
	p->pgid = node->pgid;
	p->sid = node->sid;
	p->nthreads = (uint32_t)node->n_threads;
	p->threads = model_alloc(in->m, node->n_threads * sizeof(*p->threads));
	if (!p->threads)
		return meta_nomem(in->err, "pstree.img");
	for (uint32_t i = 0; i < p->nthreads; i++)
		p->threads[i].tid = node->threads[i];
	/* That of a dead process. */
	if (p->nthreads == 1 && !p->threads[0].tid)
		p->nthreads = 0;
	return 0;
}

int meta_get_pstree(struct meta_in *in)
{
	struct store_in file;
	ProtobufCMessage *msg;
	int ret;

	ret = store_load(in->dirfd, FRAME_PSTREE, "pstree.img", &file, in->err);
	if (ret)
		return ret;
	while ((ret = frame_next(&file.f, &msg, NULL, in->err)) > 0) {
		ret = get_node(in, (const Im__TreeNode *)msg);
		if (ret)
			break;
	}
	store_unload(&file);
	return ret;
}
