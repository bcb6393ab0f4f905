/* SPDX-License-Identifier: MIT */
/* The table of output forms. */
#include "tools/bindecode/out.h"

const struct out_form *out_find(const char *name)
{
	static const struct out_form *const forms[] = {&out_text, &out_json, &out_csv, &out_trace};

	for (unsigned i = 0; i < sizeof(forms) / sizeof(*forms); i++)
		if (!strcmp(forms[i]->name, name))
			return forms[i];
	return NULL;
}

int out_init(struct out *o, const struct out_form *form, const struct out_opts *opts,
	     struct err *err)
{
	const char *template = form->prefix;

	memset(o, 0, sizeof(*o));
	o->form = form;
	o->opts = opts;
	dec_buf_init(&o->text);
	if (form == &out_text && opts->prefix)
		template = opts->prefix;
	else if (form == &out_text && opts->raw)
		template = NULL;
	else if (form == &out_text && opts->wall)
		template = DEC_PREFIX_WALL;
	return template && *template ? dec_prefix_new(&o->prefix, template, opts->utc, err) : 0;
}

void out_deinit(struct out *o)
{
	dec_prefix_free(o->prefix);
	dec_buf_deinit(&o->text);
	free(o->seen);
}
