/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error.c - the texts of error codes, all from KVT_ERROR_MAP. It never logs: the function that finds an
 * error does.
 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

enum kvt_err kvi_fail(struct kvt_error *error, enum kvt_err code, int provider_errno,
		      const char *format, ...)
{
	if (error == NULL)
		return code;

	/* Formatted in a buffer of its own: the arguments may point to the text that is replaced. */
	char text[KVT_TEXT_LEN];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);

	error->code = code;
	error->provider_errno = provider_errno;
	memcpy(error->text, text, strlen(text) + 1);
	return code;
}

void kvi_error_keep(struct kvi_kept_error *kept, enum kvt_err code, int provider_errno,
		    const char *text)
{
	kvi_free(kept->text);
	kept->code = code;
	kept->provider_errno = provider_errno;
	kept->text = kvi_alloc_string(text);
}

void kvi_error_drop(struct kvi_kept_error *kept)
{
	kvi_free(kept->text);
	*kept = (struct kvi_kept_error){ .code = KVT_OK };
}

const char *kvi_error_get_text(const struct kvi_kept_error *kept)
{
	if (kept->text != NULL)
		return kept->text;
	return kept->code == KVT_OK ? "" : kvt_err_get_text(kept->code);
}

#define NAME_CASE(code, value, scope, text)                                                        \
	case code:                                                                                 \
		return #code;

const char *kvt_err_get_name(enum kvt_err err)
{
	switch (err) {
	case KVT_OK:
		return "KVT_OK";
		KVT_ERROR_MAP(NAME_CASE)
	}
	return "unknown";
}

#define TEXT_CASE(code, value, scope, text)                                                        \
	case code:                                                                                 \
		return text;

const char *kvt_err_get_text(enum kvt_err err)
{
	switch (err) {
	case KVT_OK:
		return "success";
		KVT_ERROR_MAP(TEXT_CASE)
	}
	return "unknown error";
}

#define SCOPE_CASE(code, value, scope, text)                                                       \
	case code:                                                                                 \
		return KVT_SCOPE_##scope;

enum kvt_scope kvt_err_get_scope(enum kvt_err err)
{
	switch (err) {
	case KVT_OK:
		break;
		KVT_ERROR_MAP(SCOPE_CASE)
	}
	return KVT_SCOPE_NONE;
}
