/* SPDX-License-Identifier: MIT */
/*
 * The model to and from the messages of an image; one file per group of messages.
 *
 * Writing: meta_put_*() makes one file in @o->img->out and stores it. Messages point into the model
 * and into a scratch arena that is emptied before each file.
 * Reading: meta_get_*() adds what one file says to the model. They check what is needed to store
 * it; cross-references are check.h's.
 */
#ifndef IMAGE_META_H
#define IMAGE_META_H

#include "src/image/core.pb-c.h"
#include "src/image/files.pb-c.h"
#include "src/image/mm.pb-c.h"
#include "src/image/model.h"
#include "src/image/store.h"
#include "src/image/tree.pb-c.h"

/* docs/IMAGES.md */
enum { META_VERSION_MAJOR = 1, META_VERSION_MINOR = 0 };

/* Sets an optional field; the second one only when it says something. */
#define META_SET(msg, field, v)	   ((msg)->has_##field = true, (msg)->field = (v))
#define META_SET_NZ(msg, field, v) ((msg)->has_##field = (v) != 0, (msg)->field = (v))
/* An optional field, 0 when absent. */
#define META_GET(msg, field) ((msg)->has_##field ? (msg)->field : 0)

#define META_HOST_BIG_ENDIAN (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)

struct meta_out {
	struct image *img;
	const struct model *m;
	struct arena *scratch;
	struct err *err;
	uint32_t nhelpers; /* files made for CRIU alone, with ids after the model's */
};

/*
 * @n zeroed items of @size bytes in @*items and pointers to them in @*ptrs, as repeated fields
 * want them. False when the scratch arena is full.
 */
bool meta_array(struct arena *a, size_t n, size_t size, void *items, void *ptrs);
/* -ENOMEM with its text. */
int meta_nomem(struct err *err, const char *what);

int meta_write(struct image *img, const struct model *m, struct err *err);
int meta_write_inventory(struct image *img, const struct model *m, const char *name,
			 struct err *err);

int meta_put_pstree(struct meta_out *o);
int meta_put_ids(struct meta_out *o, const struct m_proc *p);
int meta_put_core(struct meta_out *o, const struct m_proc *p, uint32_t thread);
int meta_put_mm(struct meta_out *o, const struct m_proc *p);
int meta_put_fs(struct meta_out *o, const struct m_proc *p);
int meta_put_fdinfo(struct meta_out *o, const struct m_fdtable *t);
int meta_put_files(struct meta_out *o);
int meta_put_memfd(struct meta_out *o);
int meta_put_pipes(struct meta_out *o);
int meta_put_ghosts(struct meta_out *o);
int meta_put_locks(struct meta_out *o);
int meta_put_queues(struct meta_out *o);
int meta_put_streams(struct meta_out *o);
int meta_put_ttys(struct meta_out *o);
int meta_put_timens(struct meta_out *o);
int meta_put_seccomp(struct meta_out *o);
/* Where chain @id of the model begins in seccomp.img; false when there is none. */
bool meta_seccomp_index(const struct model *m, uint32_t id, uint32_t *ret);

/* The socket's member of @to: 1, 0 when nothing is known of it, or -ENOMEM. */
int meta_put_socket(struct meta_out *o, const struct m_file *f, Im__Fown *fown, Im__File *to);

/* Parts of the inventory and of core files. */
void meta_put_root_ids(const struct model *m, Im__Ids *ids);
void meta_put_ns(const struct m_ns *ns, Im__Namespaces *ret);
void meta_get_ns(const Im__Namespaces *ns, struct m_ns *ret);

/*
 * Which file a mapping of a memfd names: its own, else a helper made for its segment. Helpers come
 * after the model's files: first the segments', by segment id, then the paths of FIFOs, by file,
 * then the other names of files, by file.
 */
uint32_t meta_memfd_file(const struct model *m, const struct m_vma *v);
uint32_t meta_link_helper(const struct model *m, uint32_t file_id);

struct meta_in {
	int dirfd;
	struct model *m;
	struct err *err;
	bool big_endian;
	bool stock; /* made by CRIU: no additions of ours */
	/* ids of the image's files, ascending: [i] is model file i + 1 */
	uint32_t nfile_ids;
	uint32_t *file_ids;
};

/* The inventory and nothing else: -ENOENT, -EBADMSG; its own checksum is verified. */
int meta_load_inventory(int dirfd, struct store_in *ret, struct err *err);
const Im__Inventory *meta_inventory(const struct store_in *in);
enum image_format meta_inventory_format(const Im__Inventory *inv);

/* Everything; not yet seen by check_model(). */
struct model *meta_read(int dirfd, struct err *err);

int meta_get_inventory(struct meta_in *in, const Im__Inventory *inv);
int meta_get_pstree(struct meta_in *in);
int meta_get_ids(struct meta_in *in, struct m_proc *p);
int meta_get_core(struct meta_in *in, struct m_proc *p, uint32_t thread);
int meta_get_mm(struct meta_in *in, struct m_proc *p);
int meta_get_fs(struct meta_in *in, struct m_proc *p);
int meta_get_fdinfo(struct meta_in *in, uint32_t id);
int meta_get_files(struct meta_in *in);
int meta_get_timens(struct meta_in *in);
/* After all core files, which left in m_thread.seccomp_chain an index into this one. */
int meta_get_seccomp(struct meta_in *in);
/* Before the files: */
int meta_get_ttys(struct meta_in *in);
/* The place of the terminal @id of the image, from 1; UINT32_MAX when it is not there. */
uint32_t meta_tty(const struct meta_in *in, uint32_t id);
int meta_get_socket(struct meta_in *in, const Im__File *from, struct m_file *f);
const Im__Fown *meta_socket_fown(const Im__File *from);
/* These need the files, the last one the descriptor tables. */
int meta_get_pipes(struct meta_in *in);
int meta_get_queues(struct meta_in *in);
int meta_get_ghosts(struct meta_in *in);
int meta_get_locks(struct meta_in *in);
/* A file that need not be there: 1 when it was, 0 when not. */
int meta_load(struct meta_in *in, enum frame_id id, const char *name, struct store_in *ret);

/* Copies into the model; NULL stays NULL. -ENOMEM. */
int meta_get_str(struct meta_in *in, const char *from, char **to);
int meta_get_bytes(struct meta_in *in, const ProtobufCBinaryData *from, uint8_t **to,
		   uint32_t *to_len);

/*
 * Images that are not ours have no list of segments. memfd.img gives those of memfds; their
 * m_shm.ino is the number of the pagemap file and m_shm.dev the inode_id.
 */
int meta_get_memfd(struct meta_in *in);
uint32_t meta_stock_inode(const struct meta_in *in, uint32_t inode_id);
/* A file that is mapped has an entry of its own, read-only whatever it is: the mapping knows. */
void meta_stock_mapped(struct meta_in *in, uint32_t file_id, uint32_t fdflags);
/*
 * The segment that a mapping names, made when it is new: of memfd @file_id (of the model), or, when
 * that is 0, of number @shmid. @end: the segment reaches at least to here.
 */
int meta_stock_segment(struct meta_in *in, uint32_t file_id, uint64_t shmid, uint64_t end,
		       bool sysv, uint32_t *ret);

/* A file id of the image as one of the model; 0 stays 0, and what is not there becomes 0xffffffff.
 */
uint32_t meta_file_id(const struct meta_in *in, uint32_t id);

#endif
