/* SPDX-License-Identifier: MIT */
/* The inventory: what the image is, what is in its directory, and the last checksum. */
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "src/image/meta.h"

enum {
	IMG_VERSION = 2,
	STOCK_PAGE = 4096, /* until a program's auxiliary vector says better */
	SUM_LEN = 8,	   /* the value of the last field ends the file */
};

/* An inventory with everything it points to. */
struct inventory_msg {
	Im__Inventory inv;
	Im__Ids root_ids;
	Im__Plugins plugins;
	Im__ImageInfo info;
	Im__Namespaces tool_ns;
};

/* --- writing -------------------------------------------------------------------------------- */

static bool put_segments(struct inventory_msg *msg, struct arena *a, const struct model *m)
{
	Im__Segment *items;

	msg->info.n_segments = m->nshms;
	if (!meta_array(a, m->nshms, sizeof(*items), &items, &msg->info.segments))
		return false;
	for (uint32_t i = 0; i < m->nshms; i++) {
		const struct m_shm *s = &m->shms[i];
		Im__Segment *to = &items[i];

		im__segment__init(to);
		to->id = s->id;
		to->name = s->name;
		META_SET_NZ(to, dev, s->dev);
		META_SET_NZ(to, ino, s->ino);
		META_SET_NZ(to, size, s->size);
		META_SET_NZ(to, uid, s->uid);
		META_SET_NZ(to, gid, s->gid);
		META_SET_NZ(to, mode, s->mode);
		META_SET(to, seals, s->seals);
		to->has_seals = s->seals_known;
		META_SET_NZ(to, memfd, s->memfd);
		META_SET_NZ(to, sysv, s->sysv);
		META_SET_NZ(to, hugetlb, s->hugetlb);
	}
	return true;
}

static bool put_findings(struct inventory_msg *msg, struct arena *a, const struct model *m)
{
	Im__Finding *items;

	msg->info.n_findings = m->nfindings;
	if (!meta_array(a, m->nfindings, sizeof(*items), &items, &msg->info.findings))
		return false;
	for (uint32_t i = 0; i < m->nfindings; i++) {
		im__finding__init(&items[i]);
		META_SET_NZ(&items[i], pid, m->findings[i].pid);
		items[i].text = m->findings[i].text;
		META_SET_NZ(&items[i], fatal, m->findings[i].fatal);
	}
	return true;
}

static bool put_info(struct inventory_msg *msg, struct arena *a, const struct image *img,
		     const struct model *m)
{
	Im__ImageInfo *to = &msg->info;

	im__image_info__init(to);
	to->version_major = META_VERSION_MAJOR;
	to->version_minor = META_VERSION_MINOR;
	to->pages = img->format == IMAGE_CRIU ? IM__PAGE_HOME__PAGES_CRIU
					      : IM__PAGE_HOME__PAGES_BLOCK_FILE;
	to->tool = (char *)"stasis " STASIS_VERSION;
	META_SET(to, elf_machine, m->elf_machine);
	META_SET(to, page_size, m->page_size);
	META_SET(to, big_endian, META_HOST_BIG_ENDIAN);
	to->kernel = (char *)m->kernel;
	to->hostname = (char *)m->hostname;
	META_SET(to, uptime_us, m->uptime_us);
	META_SET(to, monotonic_ns, m->monotonic_ns);
	META_SET(to, boottime_ns, m->boottime_ns);
	META_SET(to, realtime_ns, m->realtime_ns);
	im__namespaces__init(&msg->tool_ns);
	meta_put_ns(&m->tool_ns, &msg->tool_ns);
	to->tool_ns = &msg->tool_ns;
	to->n_cpu_words = m->ncpu_words;
	to->cpu_words = (uint32_t *)m->cpu_words;
	msg->inv.stasis = to;
	return put_segments(msg, a, m) && put_findings(msg, a, m);
}

static bool put_manifest(struct inventory_msg *msg, struct arena *a, const struct image *img)
{
	Im__ManifestEntry *items;

	msg->inv.n_manifest = img->nfiles;
	if (!meta_array(a, img->nfiles, sizeof(*items), &items, &msg->inv.manifest))
		return false;
	for (uint32_t i = 0; i < img->nfiles; i++) {
		const struct store_file *f = &img->files[i];

		im__manifest_entry__init(&items[i]);
		items[i].name = (char *)f->name;
		items[i].check = f->check;
		items[i].size = f->size;
		META_SET(&items[i], sum, f->sum);
		items[i].has_sum = f->check != IM__FILE_CHECK__CHECK_RUNS;
	}
	return true;
}

static Im__Lsm lsm_of(const struct model *m)
{
	for (uint32_t i = 0; i < m->nprocs; i++) {
		const char *profile =
			m->procs[i].nthreads ? m->procs[i].threads[0].creds.lsm_profile : NULL;

		/* user:role:type:level against a profile's name or path */
		if (profile)
			return strchr(profile, ':') && strchr(strchr(profile, ':') + 1, ':')
				       ? IM__LSM__SELINUX
				       : IM__LSM__APPARMOR;
	}
	return IM__LSM__NO_LSM;
}

static void put_criu(struct inventory_msg *msg, const struct model *m)
{
	Im__Inventory *inv = &msg->inv;

	im__inventory__init(inv);
	inv->img_version = IMG_VERSION;
	META_SET(inv, fdinfo_per_id, true);
	META_SET(inv, ns_per_id, true);
	im__ids__init(&msg->root_ids);
	meta_put_root_ids(m, &msg->root_ids);
	inv->root_ids = &msg->root_ids;
	/* All are in the cgroups of the tool as far as CRIU is told: it shall not move them. */
	META_SET(inv, root_cg_set, 1);
	META_SET(inv, lsmtype, lsm_of(m));
	META_SET(inv, dump_uptime, m->uptime_us);
	META_SET(inv, network_lock_method, m->net_lock);
	im__plugins__init(&msg->plugins);
	inv->plugins_entry = &msg->plugins;
	/* CRIU names things on the host after the run. */
	if (m->run_id[0])
		inv->dump_criu_run_id = (char *)m->run_id;
}

int meta_write_inventory(struct image *img, const struct model *m, const char *name,
			 struct err *err)
{
	struct arena *a = arena_new((size_t)1 << 30, false);
	struct inventory_msg *msg = a ? arena_alloc(a, sizeof(*msg)) : NULL;
	struct frame_out *out = &img->out;
	uint64_t sum;
	int ret;

	if (msg)
		put_criu(msg, m);
	if (!msg || !put_info(msg, a, img, m) || !put_manifest(msg, a, img)) {
		arena_free(a);
		return meta_nomem(err, name);
	}
	META_SET(&msg->inv, sum, 0);
	frame_begin(out, FRAME_INVENTORY);
	frame_add(out, &msg->inv.base);
	arena_free(a);
	if (out->failed)
		return meta_nomem(err, name);
	sum = store_sum(out->buf, out->len - SUM_LEN);
	bytes_put_u64(out->buf + out->len - SUM_LEN, sum);
	ret = store_put(img, name, err);
	if (!ret)
		img->nfiles--; /* it is not in its own manifest */
	return ret;
}

/* --- reading -------------------------------------------------------------------------------- */

const Im__Inventory *meta_inventory(const struct store_in *in)
{
	return (const Im__Inventory *)in->user;
}

enum image_format meta_inventory_format(const Im__Inventory *inv)
{
	return inv->stasis && inv->stasis->pages == IM__PAGE_HOME__PAGES_BLOCK_FILE ? IMAGE_STASIS
										    : IMAGE_CRIU;
}

static int check_sum(const struct store_in *in, const Im__Inventory *inv, struct err *err)
{
	struct bytes b = in->all;
	uint64_t sum;

	/* A stock inventory has none, and nothing of ours that would need one. */
	if (!inv->has_sum && !inv->stasis && !inv->n_manifest)
		return 0;
	if (!inv->has_sum)
		return err_fail(err, EBADMSG, ERR_IMAGE, INVENTORY_FILE ": has no checksum");
	bytes_seek(&b, b.len - SUM_LEN);
	sum = store_sum(in->all.start, in->all.len - SUM_LEN);
	if (bytes_u64(&b) != inv->sum || inv->sum != sum)
		return err_fail(err, EBADMSG, ERR_IMAGE,
				INVENTORY_FILE ": checksum %016" PRIx64 ", its bytes have "
					       "%016" PRIx64,
				inv->sum, sum);
	return 0;
}

static int check_version(const Im__Inventory *inv, struct err *err)
{
	const Im__ImageInfo *info = inv->stasis;

	if (inv->img_version != IMG_VERSION)
		return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
				INVENTORY_FILE ": images of version %u, not 2", inv->img_version);
	if (info && (info->version_major != META_VERSION_MAJOR ||
		     info->version_minor > META_VERSION_MINOR)) {
		err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
			 INVENTORY_FILE ": format %u.%u is newer than this tool's %d.%d",
			 info->version_major, info->version_minor, META_VERSION_MAJOR,
			 META_VERSION_MINOR);
		err_hint(err, "it was written by %s", info->tool ? info->tool : "another version");
		return -EOPNOTSUPP;
	}
	return 0;
}

int meta_load_inventory(int dirfd, struct store_in *ret, struct err *err)
{
	struct store_in in;
	ProtobufCMessage *msg;
	int e;

	e = store_load(dirfd, FRAME_INVENTORY, INVENTORY_FILE, &in, err);
	if (e)
		return e;
	e = frame_single(&in.f, &msg, err);
	if (!e)
		e = check_sum(&in, (const Im__Inventory *)msg, err);
	if (!e)
		e = check_version((const Im__Inventory *)msg, err);
	if (e) {
		store_unload(&in);
		return e;
	}
	*ret = in;
	ret->user = msg;
	return 0;
}

static int get_segment(struct meta_in *in, const Im__Segment *from)
{
	struct m_shm *s = model_push(in->m, &in->m->shms, &in->m->nshms, sizeof(*s));

	if (!s)
		return meta_nomem(in->err, INVENTORY_FILE);
	if (from->id != in->m->nshms)
		return err_fail(in->err, EBADMSG, ERR_IMAGE, INVENTORY_FILE ": segment %u at %u",
				from->id, in->m->nshms);
	s->id = from->id;
	s->dev = META_GET(from, dev);
	s->ino = META_GET(from, ino);
	s->size = META_GET(from, size);
	s->uid = META_GET(from, uid);
	s->gid = META_GET(from, gid);
	s->mode = META_GET(from, mode);
	s->seals = META_GET(from, seals);
	s->seals_known = from->has_seals;
	s->memfd = META_GET(from, memfd);
	s->sysv = META_GET(from, sysv);
	s->hugetlb = META_GET(from, hugetlb);
	s->fd = -1;
	return meta_get_str(in, from->name, &s->name);
}

static int get_finding(struct meta_in *in, const Im__Finding *from)
{
	struct m_finding *f = model_push(in->m, &in->m->findings, &in->m->nfindings, sizeof(*f));

	if (!f)
		return meta_nomem(in->err, INVENTORY_FILE);
	f->pid = META_GET(from, pid);
	f->fatal = META_GET(from, fatal);
	snprintf(f->text, sizeof(f->text), "%s", from->text);
	return 0;
}

static int get_info(struct meta_in *in, const Im__ImageInfo *from)
{
	struct model *m = in->m;
	uint32_t page = META_GET(from, page_size);
	int ret = 0;

	if (META_GET(from, elf_machine) > UINT16_MAX || !page || page & (page - 1))
		return err_fail(in->err, EBADMSG, ERR_IMAGE,
				INVENTORY_FILE ": machine %u, page size %u",
				META_GET(from, elf_machine), page);
	if (from->n_cpu_words > M_CPU_WORDS)
		return err_fail(in->err, EBADMSG, ERR_IMAGE,
				INVENTORY_FILE ": %zu words of instructions, of at most %d",
				from->n_cpu_words, M_CPU_WORDS);
	m->ncpu_words = (uint32_t)from->n_cpu_words;
	for (uint32_t i = 0; i < m->ncpu_words; i++)
		m->cpu_words[i] = from->cpu_words[i];
	m->elf_machine = (uint16_t)META_GET(from, elf_machine);
	m->page_size = page;
	in->big_endian = META_GET(from, big_endian);
	snprintf(m->kernel, sizeof(m->kernel), "%s", from->kernel ? from->kernel : "");
	snprintf(m->hostname, sizeof(m->hostname), "%s", from->hostname ? from->hostname : "");
	m->uptime_us = META_GET(from, uptime_us);
	m->monotonic_ns = META_GET(from, monotonic_ns);
	m->boottime_ns = META_GET(from, boottime_ns);
	m->realtime_ns = META_GET(from, realtime_ns);
	meta_get_ns(from->tool_ns, &m->tool_ns);
	for (size_t i = 0; !ret && i < from->n_segments; i++)
		ret = get_segment(in, from->segments[i]);
	for (size_t i = 0; !ret && i < from->n_findings; i++)
		ret = get_finding(in, from->findings[i]);
	return ret;
}

/* It becomes part of the name of a table of the host's firewall. */
static int get_run(struct meta_in *in, const Im__Inventory *inv)
{
	const char *id = inv->dump_criu_run_id ? inv->dump_criu_run_id : "";
	uint32_t lock = META_GET(inv, network_lock_method);

	if (lock > M_NET_LOCK_SKIP)
		return err_fail(in->err, EBADMSG, ERR_IMAGE, INVENTORY_FILE ": network lock %u",
				lock);
	if (strlen(id) >= sizeof(in->m->run_id) || id[strspn(id, "0123456789abcdefABCDEF-")])
		return err_fail(in->err, EBADMSG, ERR_IMAGE,
				INVENTORY_FILE ": the id of the run is not one");
	in->m->net_lock = (enum m_net_lock)lock;
	snprintf(in->m->run_id, sizeof(in->m->run_id), "%s", id);
	return 0;
}

int meta_get_inventory(struct meta_in *in, const Im__Inventory *inv)
{
	int ret = get_run(in, inv);

	if (ret < 0)
		return ret;
	if (inv->stasis)
		return get_info(in, inv->stasis);
	in->stock = true;
	in->m->uptime_us = META_GET(inv, dump_uptime);
	/* CRIU says nowhere how long a page is; the program was told: meta_get_mm(). */
	in->m->page_size = STOCK_PAGE;
	return 0;
}
