/* SPDX-License-Identifier: MIT */
/* Every field of every entry of an image file, through the messages' own descriptions. */
#include "src/image/fields.h"

#include <string.h>

#include "src/image/store.h"

static int walk_message(const ProtobufCMessage *msg, const struct field_visitor *v);

/* --- one value ------------------------------------------------------------------------------ */

static size_t value_size(ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_DOUBLE:
		return 8;
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_MESSAGE:
		return sizeof(void *);
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	default:
		return 4;
	}
}

static void take_enum(const ProtobufCFieldDescriptor *f, struct field_value *ret)
{
	const ProtobufCEnumValue *e =
		protobuf_c_enum_descriptor_get_value(f->descriptor, (int)ret->i);

	ret->kind = FIELD_ENUM;
	ret->text = e ? e->name : NULL;
	ret->len = e ? strlen(e->name) : 0;
}

static void take_value(const ProtobufCFieldDescriptor *f, const void *p, struct field_value *ret)
{
	memset(ret, 0, sizeof(*ret));
	switch (f->type) {
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
		ret->kind = FIELD_INT;
		ret->i = *(const int32_t *)p;
		break;
	case PROTOBUF_C_TYPE_ENUM:
		ret->i = *(const int *)p;
		take_enum(f, ret);
		break;
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
		ret->kind = FIELD_INT;
		ret->i = *(const int64_t *)p;
		break;
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		ret->u = *(const uint64_t *)p;
		break;
	case PROTOBUF_C_TYPE_BOOL:
		ret->kind = FIELD_BOOL;
		ret->u = *(const protobuf_c_boolean *)p != 0;
		break;
	case PROTOBUF_C_TYPE_STRING:
		ret->kind = FIELD_STRING;
		ret->text = *(const char *const *)p;
		ret->len = strlen(ret->text);
		break;
	case PROTOBUF_C_TYPE_BYTES:
		ret->kind = FIELD_BYTES;
		ret->data = ((const ProtobufCBinaryData *)p)->data;
		ret->len = ((const ProtobufCBinaryData *)p)->len;
		break;
	default:
		ret->u = *(const uint32_t *)p;
		break;
	}
}

static int walk_value(const ProtobufCFieldDescriptor *f, const char *name, const void *p,
		      const struct field_visitor *v)
{
	struct field_value value;
	int ret;

	if (f->type != PROTOBUF_C_TYPE_MESSAGE) {
		take_value(f, p, &value);
		return v->scalar(v->arg, name, &value);
	}
	ret = v->message(v->arg, name);
	if (!ret)
		ret = walk_message(*(const ProtobufCMessage *const *)p, v);
	return ret ? ret : v->message_end(v->arg);
}

/* --- fields of a message -------------------------------------------------------------------- */

static int walk_list(const ProtobufCFieldDescriptor *f, const char *items, size_t n,
		     const struct field_visitor *v)
{
	int ret = v->list(v->arg, f->name);

	for (size_t i = 0; !ret && i < n; i++)
		ret = walk_value(f, NULL, items + i * value_size(f->type), v);
	return ret ? ret : v->list_end(v->arg);
}

static bool is_there(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *f)
{
	const char *base = (const char *)msg;

	if (f->label == PROTOBUF_C_LABEL_REQUIRED)
		return true;
	if (f->type == PROTOBUF_C_TYPE_MESSAGE || f->type == PROTOBUF_C_TYPE_STRING)
		return *(void *const *)(base + f->offset) != NULL;
	return *(const protobuf_c_boolean *)(base + f->quantifier_offset);
}

static int walk_message(const ProtobufCMessage *msg, const struct field_visitor *v)
{
	const ProtobufCMessageDescriptor *d = msg->descriptor;
	const char *base = (const char *)msg;
	int ret = 0;

	for (unsigned i = 0; !ret && i < d->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &d->fields[i];

		if (f->label == PROTOBUF_C_LABEL_REPEATED) {
			size_t n = *(const size_t *)(base + f->quantifier_offset);

			if (n)
				ret = walk_list(f, *(char *const *)(base + f->offset), n, v);
		} else if (is_there(msg, f)) {
			ret = walk_value(f, f->name, base + f->offset, v);
		}
	}
	return ret;
}

/* --- entries of a file ---------------------------------------------------------------------- */

static int walk_unknown(struct frame_in *f, const struct field_visitor *v)
{
	size_t len = bytes_left(&f->b);
	int ret = v->entry(v->arg, f->kind->name, NULL, 0);

	if (!ret && len)
		ret = v->payload(v->arg, bytes_take(&f->b, len), len);
	return ret ? ret : v->entry_end(v->arg);
}

static int walk_entry(struct frame_in *f, const ProtobufCMessage *msg, const struct bytes *payload,
		      const struct field_visitor *v)
{
	int ret = v->entry(v->arg, f->kind->name, msg->descriptor->short_name, f->entries - 1);

	if (!ret)
		ret = walk_message(msg, v);
	if (!ret && payload->len)
		ret = v->payload(v->arg, payload->start, payload->len);
	return ret ? ret : v->entry_end(v->arg);
}

static int walk_file(struct frame_in *f, const struct field_visitor *v, struct err *err)
{
	struct bytes payload;
	ProtobufCMessage *msg;
	int ret;

	if (!f->kind)
		return err_fail(err, EBADMSG, ERR_IMAGE, "%s: magic at offset 4 is not known",
				f->name);
	if (!f->kind->first)
		return walk_unknown(f, v);
	while ((ret = frame_next(f, &msg, &payload, err)) > 0) {
		ret = walk_entry(f, msg, &payload, v);
		if (ret)
			return ret;
	}
	return ret;
}

int fields_walk_bytes(const char *name, const void *data, size_t len, const struct field_visitor *v,
		      struct err *err)
{
	struct arena *a = arena_new(frame_arena_size(len), false);
	struct frame_in f;
	int ret;

	if (!a)
		return err_set(err, ENOMEM, "%s", name);
	ret = frame_open(&f, name, data, len, a, err);
	if (!ret)
		ret = walk_file(&f, v, err);
	arena_free(a);
	return ret;
}

static bool holds_pages(const char *name)
{
	return !strcmp(name, IMAGE_BLOCK_FILE) || !strncmp(name, "pages-", 6);
}

int fields_walk(const struct image *img, const char *name, const struct field_visitor *v,
		struct err *err)
{
	struct store_in in;
	int ret;

	if (strchr(name, '/') || !strcmp(name, ".."))
		return err_fail(err, EINVAL, ERR_USAGE, "%s: not the name of a file in the image",
				name);
	if (holds_pages(name))
		return err_fail(err, EMEDIUMTYPE, ERR_USAGE, "%s: holds pages, not fields", name);
	ret = store_load_any(img->dirfd, name, &in, err);
	if (ret)
		return ret;
	ret = walk_file(&in.f, v, err);
	store_unload(&in);
	return ret;
}
