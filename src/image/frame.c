/* SPDX-License-Identifier: MIT */
/* The container of metadata: magics, then entries with a size before each. */
#include "src/image/frame.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "src/image/core.pb-c.h"
#include "src/image/files.pb-c.h"
#include "src/image/misc.pb-c.h"
#include "src/image/mm.pb-c.h"
#include "src/image/tree.pb-c.h"

/* docs/IMAGES.md, "Container" */
static const uint32_t magic_common = 0x54564319;
static const uint32_t magic_service = 0x55105940;

static const struct frame_kind kinds[] = {
	[FRAME_INVENTORY] = {"inventory", 0x58313116, &im__inventory__descriptor, NULL},
	[FRAME_PSTREE] = {"pstree", 0x50273030, &im__tree_node__descriptor,
			  &im__tree_node__descriptor},
	[FRAME_IDS] = {"ids", 0x54432030, &im__ids__descriptor, NULL},
	[FRAME_CORE] = {"core", 0x55053847, &im__core__descriptor, NULL},
	[FRAME_MM] = {"mm", 0x57492820, &im__mm__descriptor, NULL},
	[FRAME_PAGEMAP] = {"pagemap", 0x56084025, &im__pagemap_head__descriptor,
			   &im__pagemap_entry__descriptor},
	[FRAME_FDINFO] = {"fdinfo", 0x56213732, &im__fdinfo__descriptor, &im__fdinfo__descriptor},
	[FRAME_FILES] = {"files", 0x56303138, &im__file__descriptor, &im__file__descriptor},
	[FRAME_FS] = {"fs", 0x51403912, &im__fs__descriptor, NULL},
	[FRAME_MEMFD] = {"memfd", 0x48453499, &im__memfd_inode__descriptor,
			 &im__memfd_inode__descriptor},
	[FRAME_TIMENS] = {"timens", 0x43114433, &im__timens__descriptor, NULL},
	[FRAME_SECCOMP] = {"seccomp", 0x64413049, &im__seccomp__descriptor, NULL},
	[FRAME_STATS] = {"stats", 0x57093306, &im__stats__descriptor, NULL},
	[FRAME_PIPES_DATA] = {"pipes-data", 0x56453709, &im__pipe_data__descriptor,
			      &im__pipe_data__descriptor},
	[FRAME_FIFO_DATA] = {"fifo-data", 0x59333054, &im__pipe_data__descriptor,
			     &im__pipe_data__descriptor},
	[FRAME_REMAP] = {"remap-fpath", 0x59133954, &im__remap_path__descriptor,
			 &im__remap_path__descriptor},
	[FRAME_GHOST] = {"ghost-file", 0x52583605, &im__ghost_file__descriptor,
			 &im__ghost_chunk__descriptor},
	[FRAME_FILELOCKS] = {"filelocks", 0x54323616, &im__file_lock__descriptor,
			     &im__file_lock__descriptor},
	[FRAME_SK_QUEUES] = {"sk-queues", 0x56264026, &im__sk_packet__descriptor,
			     &im__sk_packet__descriptor},
	[FRAME_TCP_STREAM] = {"tcp-stream", 0x51465506, &im__tcp_stream__descriptor, NULL},
	[FRAME_TTY_INFO] = {"tty-info", 0x59453036, &im__tty_info__descriptor,
			    &im__tty_info__descriptor},
	[FRAME_TTY_DATA] = {"tty-data", 0x59413026, &im__tty_data__descriptor,
			    &im__tty_data__descriptor},
	[FRAME_OTHERS] = {"utsns", 0x54473203, NULL, NULL},
	{"ipcns-var", 0x53115007, NULL, NULL},
	{"ipcns-shm", 0x46283044, NULL, NULL},
	{"ipcns-msg", 0x55453737, NULL, NULL},
	{"ipcns-sem", 0x59573019, NULL, NULL},
	{"mountpoints", 0x55563928, NULL, NULL},
	{"netdev", 0x57373951, NULL, NULL},
	{"netns", 0x55933752, NULL, NULL},
	{"autofs", 0x49353943, NULL, NULL},
	{"binfmt-misc", 0x67343323, NULL, NULL},
	{"cgroup", 0x59383330, NULL, NULL},
	{"cpuinfo", 0x61404013, NULL, NULL},
	{"userns", 0x55474906, NULL, NULL},
	{"pidns", 0x61157326, NULL, NULL},
	{"bpfmap-data", 0x64324033, NULL, NULL},
	{"apparmor", 0x59423047, NULL, NULL},
	{"irmap-cache", 0x57004059, NULL, NULL},
};

enum { NKINDS = sizeof(kinds) / sizeof(kinds[0]) };

const struct frame_kind *frame_kind(enum frame_id id)
{
	return &kinds[id];
}

bool frame_names_image(const char *name)
{
	for (unsigned i = 0; i <= NKINDS; i++) {
		const char *kind = i < NKINDS ? kinds[i].name : "pages";
		size_t len = strlen(kind);

		if (strncmp(name, kind, len))
			continue;
		/* Most numbers are decimal, those of ghost files and TCP streams hexadecimal. */
		if (name[len] == '-')
			len += 1 + strspn(name + len + 1, "0123456789abcdef");
		if (!strcmp(name + len, ".img"))
			return true;
		/* pagemap-shmem-7.img */
		if (!strncmp(name, "pagemap-shmem-", 14))
			return !strcmp(name + 14 + strspn(name + 14, "0123456789"), ".img");
	}
	return false;
}

static const struct frame_kind *kind_of_magic(uint32_t magic)
{
	for (unsigned i = 0; i < NKINDS; i++)
		if (kinds[i].magic == magic)
			return &kinds[i];
	return NULL;
}

/* --- writing -------------------------------------------------------------------------------- */

static uint8_t *out_room(struct frame_out *o, size_t len)
{
	uint8_t *p;

	if (o->failed)
		return NULL;
	if (len > o->cap - o->len) {
		size_t cap = o->len + len > 2 * o->cap ? o->len + len + 4096 : 2 * o->cap;

		p = realloc(o->buf, cap);
		if (!p) {
			o->failed = true;
			return NULL;
		}
		o->buf = p;
		o->cap = cap;
	}
	p = o->buf + o->len;
	o->len += len;
	return p;
}

static void out_u32(struct frame_out *o, uint32_t v)
{
	uint8_t *p = out_room(o, sizeof(v));

	if (p)
		memcpy(p, &v, sizeof(v)); /* host byte order: that of the dumping machine */
}

void frame_begin(struct frame_out *o, enum frame_id id)
{
	o->len = 0;
	o->failed = false;
	if (id != FRAME_INVENTORY)
		out_u32(o, id == FRAME_STATS ? magic_service : magic_common);
	out_u32(o, kinds[id].magic);
}

void frame_add(struct frame_out *o, const ProtobufCMessage *msg)
{
	size_t len = protobuf_c_message_get_packed_size(msg);
	uint8_t *p;

	if (len > UINT32_MAX) {
		o->failed = true;
		return;
	}
	out_u32(o, (uint32_t)len);
	p = out_room(o, len);
	if (p)
		protobuf_c_message_pack(msg, p);
}

void frame_bytes(struct frame_out *o, const void *data, size_t len)
{
	uint8_t *p = len ? out_room(o, len) : NULL;

	if (p)
		memcpy(p, data, len);
}

void frame_deinit(struct frame_out *o)
{
	free(o->buf);
	memset(o, 0, sizeof(*o));
}

/* --- reading -------------------------------------------------------------------------------- */

size_t frame_arena_size(uint64_t len)
{
	const uint64_t most = (uint64_t)4 << 30, least = 16 << 20;

	/*
	 * The file itself and its messages: an honest byte becomes ten of memory, a hostile one (an
	 * empty sub-message has two bytes) up to a hundred.
	 */
	return (size_t)(len > (most - least) / 32 ? most : least + 32 * len);
}

static uint32_t take_u32(struct frame_in *f)
{
	uint32_t v = bytes_u32(&f->b);

	return f->big_endian ? __builtin_bswap32(v) : v;
}

static void *arena_cb_alloc(void *arena, size_t len)
{
	return arena_alloc(arena, len);
}

static void arena_cb_free(void *arena, void *p)
{
}

static bool is_first_magic(uint32_t v)
{
	return v == magic_common || v == magic_service || v == kinds[FRAME_INVENTORY].magic;
}

int frame_open(struct frame_in *f, const char *name, const void *data, size_t len,
	       struct arena *arena, struct err *err)
{
	uint32_t first, magic;

	*f = (struct frame_in){
		.name = name,
		.b = bytes_of(data, len),
		.arena = arena,
		.allocator = {arena_cb_alloc, arena_cb_free, arena},
	};
	first = bytes_u32(&f->b);
	if (bytes_ok(&f->b) && is_first_magic(__builtin_bswap32(first))) {
		f->big_endian = true;
		first = __builtin_bswap32(first);
	}
	if (!bytes_ok(&f->b) || !is_first_magic(first))
		return err_fail(err, EBADMSG, ERR_IMAGE, "%s: no magic at offset 0", name);
	magic = first == kinds[FRAME_INVENTORY].magic ? first : take_u32(f);
	if (!bytes_ok(&f->b))
		return err_fail(err, EBADMSG, ERR_IMAGE, "%s: ends at offset %zu, in its magics",
				name, len);
	f->kind = kind_of_magic(magic);
	return 0;
}

int frame_open_as(struct frame_in *f, enum frame_id id, const char *name, const void *data,
		  size_t len, struct arena *arena, struct err *err)
{
	int ret = frame_open(f, name, data, len, arena, err);

	if (ret)
		return ret;
	if (f->kind != &kinds[id])
		return err_fail(err, EBADMSG, ERR_IMAGE,
				"%s: magic at offset 4 is of %s, not of %s", name,
				f->kind ? f->kind->name : "no known file", kinds[id].name);
	return 0;
}

/* Raw bytes that belong to @msg. */
static uint64_t payload_len(struct frame_in *f, const ProtobufCMessage *msg)
{
	if (msg->descriptor == &im__pipe_data__descriptor)
		return ((const Im__PipeData *)msg)->bytes;
	if (msg->descriptor == &im__sk_packet__descriptor)
		return ((const Im__SkPacket *)msg)->length;
	if (msg->descriptor == &im__tcp_stream__descriptor)
		return (uint64_t)((const Im__TcpStream *)msg)->inq_len +
		       ((const Im__TcpStream *)msg)->outq_len;
	if (msg->descriptor == &im__ghost_chunk__descriptor)
		return ((const Im__GhostChunk *)msg)->len;
	if (msg->descriptor == &im__ghost_file__descriptor) {
		const Im__GhostFile *g = (const Im__GhostFile *)msg;

		f->chunked = g->has_chunks && g->chunks;
		return f->chunked ? 0 : bytes_left(&f->b);
	}
	return 0;
}

int frame_next(struct frame_in *f, ProtobufCMessage **ret, struct bytes *payload, struct err *err)
{
	const ProtobufCMessageDescriptor *desc;
	size_t at = f->b.pos;
	ProtobufCMessage *msg;
	const uint8_t *p;
	uint64_t extra;
	uint32_t size;

	assert(f->kind && f->kind->first);
	if (!bytes_left(&f->b))
		return 0;
	size = take_u32(f);
	p = bytes_take(&f->b, size);
	if (!bytes_ok(&f->b))
		return err_fail(err, EBADMSG, ERR_IMAGE,
				"%s: entry %u at offset %zu: cut short, file ends at %zu", f->name,
				f->entries, at, f->b.len);
	desc = f->entries ? f->kind->rest : f->kind->first;
	if (!desc)
		return err_fail(err, EBADMSG, ERR_IMAGE,
				"%s: entry %u at offset %zu: there should be only one", f->name,
				f->entries, at);
	msg = protobuf_c_message_unpack(desc, &f->allocator, size, p);
	if (!msg)
		return err_fail(err, EBADMSG, ERR_IMAGE,
				"%s: entry %u at offset %zu: not a valid %s message of %u bytes",
				f->name, f->entries, at, desc->short_name, size);
	extra = payload_len(f, msg);
	p = extra <= SIZE_MAX ? bytes_take(&f->b, (size_t)extra) : NULL;
	if (!p)
		return err_fail(err, EBADMSG, ERR_IMAGE,
				"%s: entry %u at offset %zu: its data is cut short, file ends at "
				"%zu",
				f->name, f->entries, at, f->b.len);
	if (payload)
		*payload = bytes_of(p, (size_t)extra);
	f->entries++;
	*ret = msg;
	return 1;
}

int frame_single(struct frame_in *f, ProtobufCMessage **ret, struct err *err)
{
	size_t at;
	int n = frame_next(f, ret, NULL, err);

	if (n < 0)
		return n;
	at = f->b.pos;
	if (!n)
		return err_fail(err, EBADMSG, ERR_IMAGE, "%s: has no entry", f->name);
	if (bytes_left(&f->b))
		return err_fail(err, EBADMSG, ERR_IMAGE,
				"%s: %zu bytes too many at offset %zu, after its only entry",
				f->name, bytes_left(&f->b), at);
	return 0;
}
