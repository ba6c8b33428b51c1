/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arrays.c - everything that knows NumPy: the memory of arrays and other buffers, and the
 * description (dtype and shape) that travels with a message. It never copies data, and trusts no
 * description.
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

#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#define NPY_TARGET_VERSION NPY_1_22_API_VERSION
#include <numpy/arrayobject.h>

#include <ctype.h>
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef PyDataType_ELSIZE /* a function in NumPy 2, where the field is hidden */
#if NPY_ABI_VERSION < 0x02000000
#define PyDataType_ELSIZE(dtype) ((dtype)->elsize)
#endif
#endif

enum {
	META_VERSION = 1,
	META_HEADER_LEN = 4,
	SIMPLE_LEN_MAX = 32,
};

int kvi_py_import_numpy(void)
{
	return _import_array();
}

PyObject *kvi_py_get_numpy_build(void)
{
	return PyUnicode_FromFormat("ABI 0x%x, API 0x%x", NPY_ABI_VERSION, NPY_API_VERSION);
}

/* ---- memory ---- */

/* True when a buffer format has an object pointer in it; field names stand between colons. */
static bool has_objects(const char *format)
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

static int check_array(PyArrayObject *array, const char *name)
{
	if (PyDataType_REFCHK(PyArray_DESCR(array))) {
		PyErr_Format(PyExc_TypeError, "%s holds Python objects (dtype %S)", name,
			     (PyObject *)PyArray_DESCR(array));
		return -1;
	}
	if (!PyArray_IS_C_CONTIGUOUS(array)) {
		PyErr_Format(PyExc_TypeError,
			     "%s is not C-contiguous; pass np.ascontiguousarray(%s)", name, name);
		return -1;
	}
	return 0;
}

static int check_exporter(PyObject *object, const char *name)
{
	if (PyArray_Check(object))
		return check_array((PyArrayObject *)object, name);
	if (PyObject_CheckBuffer(object))
		return 0;
	PyErr_Format(PyExc_TypeError,
		     "%s must be an ndarray or another C-contiguous buffer, not %.200s", name,
		     Py_TYPE(object)->tp_name);
	return -1;
}

int kvi_py_get_view(PyObject *object, const char *name, bool writable, Py_buffer *view)
{
	/* An array's format is not needed, and some dtypes, such as datetime64, have none. */
	int flags = PyArray_Check(object) ? PyBUF_C_CONTIGUOUS : PyBUF_C_CONTIGUOUS | PyBUF_FORMAT;

	if (check_exporter(object, name) < 0)
		return -1;
	if (PyObject_GetBuffer(object, view, flags) < 0) {
		if (PyErr_ExceptionMatches(PyExc_BufferError))
			PyErr_Format(PyExc_TypeError,
				     "%s is not C-contiguous; pass np.ascontiguousarray(%s)", name,
				     name);
		return -1;
	}
	const char *problem = has_objects(view->format) ? "holds Python objects" : NULL;
	if (writable && view->readonly)
		problem = "is read-only memory, which cannot receive";
	if (problem != NULL) {
		PyErr_Format(PyExc_TypeError, "%s %s", name, problem);
		PyBuffer_Release(view);
		return -1;
	}
	return 0;
}

/* ---- describing ---- */

/* Put header, text and shape together. */
static int put_description(struct kvi_py_meta *meta, const char *text, size_t text_len,
			   int dim_count, const Py_ssize_t *dims)
{
	size_t len = META_HEADER_LEN + text_len + (size_t)dim_count * sizeof(int64_t);
	if (len > sizeof(meta->bytes)) {
		PyErr_Format(PyExc_ValueError,
			     "the dtype's description takes %zu bytes, more than the %zu allowed",
			     len, sizeof(meta->bytes));
		return -1;
	}
	meta->bytes[0] = META_VERSION;
	meta->bytes[1] = (unsigned char)dim_count;
	meta->bytes[2] = (unsigned char)text_len;
	meta->bytes[3] = (unsigned char)(text_len >> 8);
	memcpy(meta->bytes + META_HEADER_LEN, text, text_len);
	unsigned char *next = meta->bytes + META_HEADER_LEN + text_len;
	for (int i = 0; i < dim_count; i++, next += sizeof(int64_t)) {
		uint64_t dim = htole64((uint64_t)dims[i]);
		memcpy(next, &dim, sizeof(dim));
	}
	meta->len = len;
	return 0;
}

/* The text of a dtype that the fast path below does not know. */
static PyObject *make_dtype_text(PyArray_Descr *dtype)
{
	if (!PyDataType_HASFIELDS(dtype))
		return PyObject_GetAttrString((PyObject *)dtype, "str");
	PyObject *module = PyImport_ImportModule("kvtrans_engine._dtypes");
	if (module == NULL)
		return NULL;
	PyObject *text = PyObject_CallMethod(module, "describe", "O", dtype);
	Py_DECREF(module);
	return text;
}

static int describe_array(PyArrayObject *array, struct kvi_py_meta *meta)
{
	PyArray_Descr *dtype = PyArray_DESCR(array);
	Py_ssize_t item_len = PyArray_ITEMSIZE(array);
	bool is_builtin = dtype->type_num >= 0 && dtype->type_num < NPY_USERDEF;
	char simple[SIMPLE_LEN_MAX];

	if (item_len == 0) {
		PyErr_SetString(PyExc_TypeError, "the items of the array have no size");
		return -1;
	}
	if (is_builtin && PyTypeNum_ISNUMBER(dtype->type_num)) {
		char order = dtype->byteorder == NPY_NATIVE ? NPY_NATBYTE : dtype->byteorder;
		snprintf(simple, sizeof(simple), "%c%c%zd", order, dtype->kind, item_len);
	} else if (!is_builtin) {
		/* A dtype of another package, such as bfloat16: the receiver need not have it. */
		snprintf(simple, sizeof(simple), "|V%zd", item_len);
	} else {
		PyObject *object = make_dtype_text(dtype);
		if (object == NULL)
			return -1;
		Py_ssize_t len;
		const char *text = PyUnicode_AsUTF8AndSize(object, &len);
		int rc = text == NULL ? -1
				      : put_description(meta, text, (size_t)len,
							PyArray_NDIM(array), PyArray_DIMS(array));
		Py_DECREF(object);
		return rc;
	}
	return put_description(meta, simple, strlen(simple), PyArray_NDIM(array),
			       PyArray_DIMS(array));
}

/* The letter NumPy has for the kind of a buffer's items, or 0 when they are not plain numbers. */
static char get_kind(const char *format)
{
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
static int describe_buffer(const Py_buffer *view, struct kvi_py_meta *meta)
{
	const char *format = view->format != NULL ? view->format : "B";
	char order = NPY_NATBYTE;
	char text[SIMPLE_LEN_MAX];

	if (*format == '>' || *format == '!')
		order = '>';
	else if (*format == '<')
		order = '<';
	if (strchr("@=<>!", *format) != NULL)
		format += *format != '\0';
	char kind = get_kind(format);
	bool has_shape = view->shape != NULL || view->ndim == 0;
	if (kind == 0 || !has_shape || view->ndim > KVI_PY_DIMS_MAX)
		return put_description(meta, "|u1", 3, 1, &view->len);
	if (view->itemsize == 1)
		order = '|';
	snprintf(text, sizeof(text), "%c%c%zd", order, kind, view->itemsize);
	return put_description(meta, text, strlen(text), view->ndim, view->shape);
}

int kvi_py_describe(PyObject *object, const Py_buffer *view, struct kvi_py_meta *meta)
{
	return PyArray_Check(object) ? describe_array((PyArrayObject *)object, meta)
				     : describe_buffer(view, meta);
}

/* ---- reading a description ---- */

/* True for what dtype.str gives: byte order, kind, size, and a unit for times: "<f4", "<M8[ns]". */
static bool is_simple_dtype(const char *text, size_t len)
{
	size_t i = 2;

	if (len < 3 || len >= SIMPLE_LEN_MAX || memchr(text, '\0', len) != NULL ||
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

static PyObject *parse_dtype(const char *text, size_t len)
{
	if (len > 0 && text[0] == '[') {
		PyObject *module = PyImport_ImportModule("kvtrans_engine._dtypes");
		if (module == NULL)
			return NULL;
		PyObject *dtype = PyObject_CallMethod(module, "parse", "y#", text, (Py_ssize_t)len);
		Py_DECREF(module);
		return dtype;
	}
	if (!is_simple_dtype(text, len)) {
		PyErr_SetNone(PyExc_ValueError);
		return NULL;
	}
	PyObject *name = PyUnicode_DecodeASCII(text, (Py_ssize_t)len, NULL);
	PyArray_Descr *dtype = NULL;
	if (name != NULL)
		(void)PyArray_DescrConverter(name, &dtype);
	Py_XDECREF(name);
	return (PyObject *)dtype;
}

/* Read the dimensions; false unless they and the item make exactly len bytes. */
static bool read_dims(const unsigned char *next, size_t item_len, size_t len,
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

/* The message as plain bytes. */
static int describe_bytes(size_t len, struct kvi_py_description *description)
{
	description->dtype = (PyObject *)PyArray_DescrFromType(NPY_UINT8);
	description->dim_count = 1;
	description->dims[0] = (Py_ssize_t)len;
	return description->dtype == NULL ? -1 : 1;
}

int kvi_py_read_description(const void *meta, size_t meta_len, size_t len,
			    struct kvi_py_description *description, char why[KVT_TEXT_LEN])
{
	const unsigned char *bytes = meta;

	if (meta_len == 0)
		return describe_bytes(len, description);
	if (bytes[0] != META_VERSION) {
		snprintf(why, KVT_TEXT_LEN,
			 "the description has version %d, not %d; recv_kv_into can receive it",
			 bytes[0], META_VERSION);
		return 0;
	}
	size_t text_len = meta_len < META_HEADER_LEN ? 0 : bytes[2] | (size_t)bytes[3] << 8;
	description->dim_count = meta_len < META_HEADER_LEN ? 0 : bytes[1];
	size_t dims_len = (size_t)description->dim_count * sizeof(int64_t);
	if (description->dim_count > KVI_PY_DIMS_MAX ||
	    meta_len != META_HEADER_LEN + text_len + dims_len) {
		snprintf(why, KVT_TEXT_LEN, "the message's description is damaged");
		return 0;
	}

	PyObject *dtype = parse_dtype((const char *)bytes + META_HEADER_LEN, text_len);
	if (dtype == NULL) {
		if (PyErr_ExceptionMatches(PyExc_MemoryError) ||
		    !PyErr_ExceptionMatches(PyExc_Exception))
			return -1;
		PyErr_Clear();
		snprintf(why, KVT_TEXT_LEN, "the message's dtype is not one that NumPy here knows");
		return 0;
	}
	PyArray_Descr *descr = (PyArray_Descr *)dtype;
	if (!PyArray_DescrCheck(dtype) || PyDataType_REFCHK(descr) ||
	    PyDataType_ELSIZE(descr) <= 0 ||
	    !read_dims(bytes + META_HEADER_LEN + text_len, (size_t)PyDataType_ELSIZE(descr), len,
		       description)) {
		Py_DECREF(dtype);
		snprintf(why, KVT_TEXT_LEN,
			 "the message's dtype and shape do not make its %zu bytes", len);
		return 0;
	}
	description->dtype = dtype;
	return 1;
}

/*
 * The array owns data by NPY_ARRAY_OWNDATA, so it is an array like any other to its user. It has no
 * memory handler, and NumPy frees what has none with free(), which is right here. Only
 * array.resize() needs a handler, and says that it cannot do without.
 */
PyObject *kvi_py_adopt_array(struct kvi_py_description *description, void *data)
{
	PyObject *array = PyArray_NewFromDescr(&PyArray_Type, (PyArray_Descr *)description->dtype,
					       description->dim_count, description->dims, NULL,
					       data, data != NULL ? NPY_ARRAY_CARRAY : 0, NULL);
	description->dtype = NULL;
	if (array == NULL)
		free(data);
	else
		PyArray_ENABLEFLAGS((PyArrayObject *)array, NPY_ARRAY_OWNDATA);
	return array;
}
