/* SPDX-License-Identifier: MIT */
/* One metadata file as JSON: whatever fields its entries have. */
#include "src/image/fields.h"
#include "src/inspect/show.h"

/* Where a value goes; the document was deeper than DOC_DEPTH when this is not 0. */
static int nested(struct doc *d)
{
	return doc_full(d) ? -EBADMSG : 0;
}

static int on_entry(void *arg, const char *kind, const char *message, unsigned n)
{
	struct doc *d = arg;

	doc_object(d, NULL);
	doc_str(d, "entry", message ? message : kind);
	return 0;
}

static int on_end(void *arg)
{
	doc_end(arg);
	return 0;
}

/* Numbers as numbers: which of them are addresses only the reader of the schema knows. */
static int on_scalar(void *arg, const char *name, const struct field_value *v)
{
	struct doc *d = arg;

	switch (v->kind) {
	case FIELD_UINT:
		doc_u64(d, name, v->u);
		break;
	case FIELD_INT:
		doc_i64(d, name, v->i);
		break;
	case FIELD_BOOL:
		doc_bool(d, name, v->u);
		break;
	case FIELD_ENUM:
		if (v->text)
			doc_strn(d, name, v->text, v->len);
		else
			doc_i64(d, name, v->i);
		break;
	case FIELD_STRING:
		doc_strn(d, name, v->text, v->len);
		break;
	case FIELD_BYTES:
		doc_bytes(d, name, v->data, v->len);
		break;
	}
	return 0;
}

static int on_message(void *arg, const char *name)
{
	int ret = nested(arg);

	if (!ret)
		doc_object(arg, name);
	return ret;
}

static int on_list(void *arg, const char *name)
{
	int ret = nested(arg);

	if (!ret)
		doc_array(arg, name);
	return ret;
}

static int on_payload(void *arg, const uint8_t *data, size_t len)
{
	doc_bytes(arg, "payload", data, len);
	return 0;
}

int show_fields(struct doc *d, struct image *img, const char *file, struct err *err)
{
	const struct field_visitor v = {
		.arg = d,
		.entry = on_entry,
		.entry_end = on_end,
		.scalar = on_scalar,
		.message = on_message,
		.message_end = on_end,
		.list = on_list,
		.list_end = on_end,
		.payload = on_payload,
	};
	int ret;

	doc_object(d, NULL);
	doc_str(d, "file", file);
	doc_array(d, "entries");
	ret = fields_walk(img, file, &v, err);
	if (ret) {
		/* only a message nested too deep comes without a text */
		return err_fail(err, -ret, ERR_IMAGE, "%s: messages nested too deep", file);
	}
	doc_end(d);
	doc_end(d);
	return 0;
}
