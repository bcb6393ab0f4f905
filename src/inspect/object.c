/* SPDX-License-Identifier: MIT */
/* Mapped files on disk: opened once, held against what the model says of them. */
#include "src/inspect/object.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"

/* Where distributions put separate debug files. */
#define DEBUG_DIR "/usr/lib/debug/.build-id"

struct objects {
	const struct model *m;
	struct object **of; /* [id - 1] */
};

static void hex(char *text, size_t len, const uint8_t *id, size_t id_len)
{
	size_t n = 0;

	if (len)
		text[0] = '\0';
	for (size_t i = 0; i < id_len && n + 3 <= len; i++)
		n += (size_t)snprintf(text + n, len - n, "%02x", id[i]);
}

struct objects *objects_new(const struct model *m)
{
	struct objects *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	o->m = m;
	o->of = calloc((size_t)m->nfiles + 1, sizeof(struct object *));
	if (!o->of)
		free(take_ptr(&o));
	return o;
}

void objects_free(struct objects *o)
{
	if (!o)
		return;
	for (uint32_t i = 0; i < o->m->nfiles; i++) {
		struct object *obj = o->of[i];

		if (!obj)
			continue;
		elf_close(obj->debug);
		elf_close(obj->elf);
		if (obj->fd >= 0)
			close(obj->fd);
		free(obj);
	}
	free(o->of);
	free(o);
}

__attribute__((format(printf, 3, 4))) static void verdict(struct object *obj,
							  enum object_state state, const char *fmt,
							  ...)
{
	va_list ap;

	obj->state = state;
	va_start(ap, fmt);
	vsnprintf(obj->why, sizeof(obj->why), fmt, ap);
	va_end(ap);
}

/* The build id says it all: the same bytes under a new name or date are the same object. */
static void compare_build_id(struct object *obj)
{
	const struct m_file *f = obj->file;
	char now[2 * 20 + 1], then[2 * 20 + 1];
	const uint8_t *id = NULL;
	size_t len = 0;

	if (obj->elf)
		id = elf_build_id(obj->elf, &len);
	if (id && len == f->build_id_len && !memcmp(id, f->build_id, len)) {
		obj->state = OBJECT_SAME;
		return;
	}
	hex(then, sizeof(then), f->build_id, f->build_id_len);
	hex(now, sizeof(now), id, len);
	verdict(obj, OBJECT_CHANGED, "build id was %s, on disk it is %s", then,
		id ? now : "absent");
}

static void compare_stat(struct object *obj, const struct stat *st)
{
	const struct m_file *f = obj->file;
	int64_t mtime_ns = st->st_mtim.tv_sec * 1000000000LL + st->st_mtim.tv_nsec;

	if (f->deleted)
		verdict(obj, OBJECT_CHANGED, "was deleted before the dump");
	else if (f->size && f->size != (uint64_t)st->st_size)
		verdict(obj, OBJECT_CHANGED, "size was %" PRIu64 ", on disk it is %" PRIu64,
			f->size, (uint64_t)st->st_size);
	else if (f->mtime_ns && f->mtime_ns != mtime_ns)
		verdict(obj, OBJECT_CHANGED, "changed on disk since the dump");
	else
		obj->state = f->mtime_ns ? OBJECT_SAME : OBJECT_UNCHECKED;
}

static void object_open(struct object *obj)
{
	const struct m_file *f = obj->file;
	cleanup_fd int fd = -1;
	struct stat st;

	if (!f->path || f->path[0] != '/') {
		verdict(obj, OBJECT_ABSENT, "not a file with a path");
		return;
	}
	fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) < 0) {
		verdict(obj, OBJECT_ABSENT, "cannot be opened: %s", strerrordesc_np(errno));
		return;
	}
	if (!S_ISREG(st.st_mode)) {
		verdict(obj, OBJECT_ABSENT, "is no regular file any more");
		return;
	}
	obj->elf = elf_of_fd(fd, f->path, NULL);
	if (f->build_id_len)
		compare_build_id(obj);
	else
		compare_stat(obj, &st);
	if (obj->state == OBJECT_CHANGED) {
		elf_close(take_ptr(&obj->elf));
		return;
	}
	obj->fd = take_fd(&fd);
}

struct object *objects_get(struct objects *o, uint32_t file_id)
{
	const struct m_file *f = model_file(o->m, file_id);
	struct object *obj;

	if (!f)
		return NULL;
	obj = o->of[file_id - 1];
	if (obj)
		return obj;
	obj = calloc(1, sizeof(*obj));
	if (!obj)
		return NULL;
	obj->file = f;
	obj->fd = -1;
	object_open(obj);
	o->of[file_id - 1] = obj;
	return obj;
}

/* The debug file must carry the same build id: its name alone is only a claim. */
static void open_debug(struct object *obj)
{
	char id_text[2 * 64 + 1], path[sizeof(DEBUG_DIR) + sizeof(id_text) + 16];
	const uint8_t *id, *debug_id;
	size_t len, debug_len;

	obj->debug_tried = true;
	id = elf_build_id(obj->elf, &len);
	if (!id || len < 2)
		return;
	hex(id_text, sizeof(id_text), id, len);
	snprintf(path, sizeof(path), DEBUG_DIR "/%.2s/%s.debug", id_text, id_text + 2);
	obj->debug = elf_open(path, NULL);
	if (!obj->debug)
		return;
	debug_id = elf_build_id(obj->debug, &debug_len);
	if (!debug_id || debug_len != len || memcmp(id, debug_id, len))
		elf_close(take_ptr(&obj->debug));
}

bool object_symbol(struct object *obj, uint64_t vaddr, const char **ret_name, uint64_t *ret_start)
{
	if (!obj->elf)
		return false;
	if (!elf_has_symtab(obj->elf) && !obj->debug_tried)
		open_debug(obj);
	if (obj->debug && elf_symbol(obj->debug, vaddr, ret_name, ret_start))
		return true;
	return elf_symbol(obj->elf, vaddr, ret_name, ret_start);
}

void object_build_id(const struct object *obj, char *text, size_t len)
{
	const uint8_t *id = NULL;
	size_t id_len = 0;

	if (obj->elf)
		id = elf_build_id(obj->elf, &id_len);
	else if (obj->file)
		id = obj->file->build_id, id_len = obj->file->build_id_len;
	hex(text, len, id, id_len);
}
