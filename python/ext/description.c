/* SPDX-License-Identifier: Apache-2.0 */
/*
 * description.c - the bytes that tell dtype and shape of a message, as far as they need no NumPy. It
 * trusts none of them.
 *
 * A description is
 *
 *	u8   version, 1
 *	u8   number of dimensions
 *	u16  length of the dtype's text, little-endian
 *	     the dtype's text: what dtype.str gives, or JSON of dtype.descr for a structured one
 *	i64  each dimension, little-endian
 *
 * A message without one, as C programs send, is an array of uint8.
 */
#include "ext.h"

#include <ctype.h>
#include <endian.h>
#include <stdio.h>
#include <string.h>

#define NATIVE_ORDER (__BYTE_ORDER == __LITTLE_ENDIAN ? '<' : '>')

/* True when a buffer format has an object pointer in it; field names stand between colons. */
bool kvi_py_has_objects(const char *format)
{
	bool in_name = false;

	for (; format != NULL && *format != '\0'; format++) {
		if (*format == ':')
			in_name = !in_name;
		else if (*format == 'O' && !in_name)
			return true;
	}
	return false;
}

/* Put header, text and shape together. */
int kvi_py_put_description(struct kvi_py_meta *meta, const char *text, size_t text_len,
			   int dim_count, const Py_ssize_t *dims)
{
	size_t len = KVI_PY_META_HEADER_LEN + text_len + (size_t)dim_count * sizeof(int64_t);
	if (len > sizeof(meta->bytes)) {
		PyErr_Format(PyExc_ValueError,
			     "the dtype's description takes %zu bytes, more than the %zu allowed",
			     len, sizeof(meta->bytes));
		return -1;
	}
	meta->bytes[0] = KVI_PY_META_VERSION;
	meta->bytes[1] = (unsigned char)dim_count;
	meta->bytes[2] = (unsigned char)text_len;
	meta->bytes[3] = (unsigned char)(text_len >> 8);
	memcpy(meta->bytes + KVI_PY_META_HEADER_LEN, text, text_len);
	unsigned char *next = meta->bytes + KVI_PY_META_HEADER_LEN + text_len;
	for (int i = 0; i < dim_count; i++, next += sizeof(int64_t)) {
		uint64_t dim = htole64((uint64_t)dims[i]);
		memcpy(next, &dim, sizeof(dim));
	}
	meta->len = len;
	return 0;
}

/* The letter NumPy has for the kind of a buffer's items, or 0 when they are not plain numbers. */
static char get_kind(const char *format)
{
	size_t digits = strspn(format, "0123456789");

	if (digits > 0 && strcmp(format + digits, "x") == 0)
		return 'V';
	if (strcmp(format, "Zf") == 0 || strcmp(format, "Zd") == 0)
		return 'c';
	if (format[0] == '\0' || format[1] != '\0')
		return 0;
	if (strchr("bhilqn", format[0]) != NULL)
		return 'i';
	if (strchr("BHILQN", format[0]) != NULL)
		return 'u';
	if (strchr("efdg", format[0]) != NULL)
		return 'f';
	return format[0] == '?' ? 'b' : 0;
}

/* Describe a buffer that is no array: its numbers, or else its bytes. */
int kvi_py_describe_buffer(const Py_buffer *view, struct kvi_py_meta *meta)
{
	const char *format = view->format != NULL ? view->format : "B";
	char order = NATIVE_ORDER;
	char text[KVI_PY_SIMPLE_LEN_MAX];

	if (*format == '>' || *format == '!')
		order = '>';
	else if (*format == '<')
		order = '<';
	if (strchr("@=<>!", *format) != NULL)
		format += *format != '\0';
	char kind = get_kind(format);
	bool has_shape = view->shape != NULL || view->ndim == 0;
	if (kind == 0 || !has_shape || view->ndim > KVI_PY_DIMS_MAX)
		return kvi_py_put_description(meta, "|u1", 3, 1, &view->len);
	if (view->itemsize == 1 || kind == 'V')
		order = '|';
	snprintf(text, sizeof(text), "%c%c%zd", order, kind, view->itemsize);
	return kvi_py_put_description(meta, text, strlen(text), view->ndim, view->shape);
}

/* True for what dtype.str gives: byte order, kind, size, and a unit for times: "<f4", "<M8[ns]". */
bool kvi_py_is_simple_dtype(const char *text, size_t len)
{
	size_t i = 2;

	if (len < 3 || len >= KVI_PY_SIMPLE_LEN_MAX || memchr(text, '\0', len) != NULL ||
	    strchr("<>|", text[0]) == NULL || strchr("biufcSUVmM", text[1]) == NULL)
		return false;
	while (i < len && isdigit((unsigned char)text[i]))
		i++;
	if (i == 2 || i > 12)
		return false;
	if (i == len)
		return true;
	if (strchr("mM", text[1]) == NULL || text[i] != '[' || text[len - 1] != ']')
		return false;
	for (i++; i < len - 1; i++) {
		if (!isalnum((unsigned char)text[i]))
			return false;
	}
	return true;
}

/* Read the dimensions; false unless they and the item make exactly len bytes. */
bool kvi_py_read_dims(const unsigned char *next, size_t item_len, size_t len,
		      struct kvi_py_description *description)
{
	size_t total = item_len; /* counting no dimension of 0, as NumPy does to bound arrays */
	bool is_empty = false;

	for (int i = 0; i < description->dim_count; i++, next += sizeof(uint64_t)) {
		uint64_t dim;
		memcpy(&dim, next, sizeof(dim));
		dim = le64toh(dim);
		if (dim > PY_SSIZE_T_MAX)
			return false;
		description->dims[i] = (Py_ssize_t)dim;
		if (dim == 0)
			is_empty = true;
		else if (__builtin_mul_overflow(total, dim, &total) || total > PY_SSIZE_T_MAX)
			return false;
	}
	return (is_empty ? 0 : total) == len;
}
