/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arrays.c - everything that knows NumPy: the memory of arrays and other buffers, and the
 * description (dtype and shape) that travels with a message, whose bytes description.c knows; block
 * numbers. It never copies data, and trusts no description.
 */
#include "paged.h"

#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#define NPY_TARGET_VERSION NPY_1_22_API_VERSION
#include <numpy/arrayobject.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef PyDataType_ELSIZE /* a function in NumPy 2, where the field is hidden */
#if NPY_ABI_VERSION < 0x02000000
#define PyDataType_ELSIZE(dtype) ((dtype)->elsize)
#endif
#endif

int kvi_py_import_numpy(void)
{
	return _import_array();
}

PyObject *kvi_py_get_numpy_build(void)
{
	return PyUnicode_FromFormat("ABI 0x%x, API 0x%x", NPY_ABI_VERSION, NPY_API_VERSION);
}

/* ---- memory ---- */

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
	if (PyObject_CheckBuffer(object) || kvi_py_is_tensor(object))
		return 0;
	PyErr_Format(PyExc_TypeError,
		     "%s must be an ndarray, another C-contiguous buffer or a DLPack tensor, not "
		     "%.200s",
		     name, Py_TYPE(object)->tp_name);
	return -1;
}

/* The buffer of object, or its tensor's, which must be C-contiguous. */
static int get_contiguous(PyObject *object, const char *name, Py_buffer *view)
{
	/* An array's format is not needed, and some dtypes, such as datetime64, have none. */
	int flags = PyArray_Check(object) ? PyBUF_C_CONTIGUOUS : PyBUF_C_CONTIGUOUS | PyBUF_FORMAT;

	if (!PyObject_CheckBuffer(object))
		return kvi_py_get_tensor(object, name, true, view);
	if (PyObject_GetBuffer(object, view, flags) == 0)
		return 0;
	if (PyErr_ExceptionMatches(PyExc_BufferError))
		PyErr_Format(PyExc_TypeError,
			     "%s is not C-contiguous; pass np.ascontiguousarray(%s)", name, name);
	return -1;
}

int kvi_py_get_view(PyObject *object, const char *name, bool writable, Py_buffer *view)
{
	if (check_exporter(object, name) < 0 || get_contiguous(object, name, view) < 0)
		return -1;
	const char *problem = kvi_py_has_objects(view->format) ? "holds Python objects" : NULL;
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
	char simple[KVI_PY_SIMPLE_LEN_MAX];

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
		int rc = text == NULL
				 ? -1
				 : kvi_py_put_description(meta, text, (size_t)len,
							  PyArray_NDIM(array), PyArray_DIMS(array));
		Py_DECREF(object);
		return rc;
	}
	return kvi_py_put_description(meta, simple, strlen(simple), PyArray_NDIM(array),
				      PyArray_DIMS(array));
}

int kvi_py_describe(PyObject *object, const Py_buffer *view, struct kvi_py_meta *meta)
{
	return PyArray_Check(object) ? describe_array((PyArrayObject *)object, meta)
				     : kvi_py_describe_buffer(view, meta);
}

/* ---- reading a description ---- */

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
	if (!kvi_py_is_simple_dtype(text, len)) {
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
	if (bytes[0] != KVI_PY_META_VERSION) {
		snprintf(why, KVT_TEXT_LEN,
			 "the description has version %d, not %d; recv_kv_into can receive it",
			 bytes[0], KVI_PY_META_VERSION);
		return 0;
	}
	size_t text_len = meta_len < KVI_PY_META_HEADER_LEN ? 0 : bytes[2] | (size_t)bytes[3] << 8;
	description->dim_count = meta_len < KVI_PY_META_HEADER_LEN ? 0 : bytes[1];
	size_t dims_len = (size_t)description->dim_count * sizeof(int64_t);
	if (description->dim_count > KVI_PY_DIMS_MAX ||
	    meta_len != KVI_PY_META_HEADER_LEN + text_len + dims_len) {
		snprintf(why, KVT_TEXT_LEN, "the message's description is damaged");
		return 0;
	}

	PyObject *dtype = parse_dtype((const char *)bytes + KVI_PY_META_HEADER_LEN, text_len);
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
	    !kvi_py_read_dims(bytes + KVI_PY_META_HEADER_LEN + text_len,
			      (size_t)PyDataType_ELSIZE(descr), len, description)) {
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

/* ---- strided memory ---- */

int kvi_py_get_strided(PyObject *object, const char *name, Py_buffer *view)
{
	/* As above, an array's format is not asked for. */
	bool is_array = PyArray_Check(object);

	if (is_array && PyDataType_REFCHK(PyArray_DESCR((PyArrayObject *)object))) {
		PyErr_Format(PyExc_TypeError, "%s holds Python objects (dtype %S)", name,
			     (PyObject *)PyArray_DESCR((PyArrayObject *)object));
		return -1;
	}
	if (!PyObject_CheckBuffer(object) && kvi_py_is_tensor(object))
		return kvi_py_get_tensor(object, name, false, view);
	if (!PyObject_CheckBuffer(object)) {
		PyErr_Format(PyExc_TypeError,
			     "%s must be an ndarray, another buffer or a DLPack tensor, not %.200s",
			     name, Py_TYPE(object)->tp_name);
		return -1;
	}
	if (PyObject_GetBuffer(object, view,
			       is_array ? PyBUF_STRIDES : PyBUF_STRIDES | PyBUF_FORMAT) < 0)
		return -1;
	if (!kvi_py_has_objects(view->format))
		return 0;
	PyErr_Format(PyExc_TypeError, "%s holds Python objects", name);
	PyBuffer_Release(view);
	return -1;
}

PyObject *kvi_py_wrap_blocks(void *data, size_t count, PyObject *dtype, PyObject *shape,
			     bool read_only, PyObject *base)
{
	npy_intp dims[NPY_MAXDIMS] = { (npy_intp)count };
	Py_ssize_t dim_count = PyTuple_GET_SIZE(shape);

	for (Py_ssize_t i = 0; i < dim_count; i++)
		dims[i + 1] = (npy_intp)PyLong_AsSsize_t(PyTuple_GET_ITEM(shape, i));
	PyObject *array = PyArray_NewFromDescr(&PyArray_Type, (PyArray_Descr *)Py_NewRef(dtype),
					       (int)dim_count + 1, dims, NULL, data,
					       read_only ? NPY_ARRAY_CARRAY_RO : NPY_ARRAY_CARRAY,
					       NULL);
	if (array != NULL && PyArray_SetBaseObject((PyArrayObject *)array, Py_NewRef(base)) < 0)
		Py_CLEAR(array);
	return array;
}

/* The product of a shape and an item, or 0 with an exception. */
static size_t get_block_len(PyObject *shape, size_t item_len)
{
	size_t len = item_len;

	if (PyTuple_GET_SIZE(shape) >= NPY_MAXDIMS) {
		PyErr_Format(PyExc_ValueError, "shape has %zd dimensions", PyTuple_GET_SIZE(shape));
		return 0;
	}
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(shape); i++) {
		long long dim;
		if (kvi_py_parse_int(PyTuple_GET_ITEM(shape, i), "a dimension", 1, PY_SSIZE_T_MAX,
				     &dim) < 0)
			return 0;
		if (__builtin_mul_overflow(len, (size_t)dim, &len) || len > PY_SSIZE_T_MAX) {
			PyErr_SetString(PyExc_ValueError, "shape is too large");
			return 0;
		}
	}
	return len;
}

int kvi_py_resolve_block(PyObject **dtype, PyObject **shape, size_t *block_len)
{
	PyArray_Descr *descr = NULL;
	PyObject *dims = NULL;
	size_t len = *block_len;

	if (*dtype == Py_None)
		descr = PyArray_DescrFromType(NPY_UINT8);
	else if (PyArray_DescrConverter(*dtype, &descr) != NPY_SUCCEED)
		return -1;
	size_t item_len = (size_t)PyDataType_ELSIZE(descr);
	if (PyDataType_REFCHK(descr) || item_len == 0) {
		PyErr_Format(PyExc_TypeError, "dtype %S cannot be in shared memory",
			     (PyObject *)descr);
	} else if (*shape != Py_None) {
		dims = PyIndex_Check(*shape) ? PyTuple_Pack(1, *shape) : PySequence_Tuple(*shape);
		len = dims == NULL ? 0 : get_block_len(dims, item_len);
	} else if (len == 0) {
		PyErr_SetString(PyExc_ValueError, "pass block_nbytes, or the shape of a block");
	} else {
		dims = Py_BuildValue("(n)", (Py_ssize_t)(len / item_len));
	}
	if (!PyErr_Occurred() && ((*block_len != 0 && len != *block_len) || len % item_len != 0))
		PyErr_Format(PyExc_ValueError,
			     "block_nbytes=%zu is not what dtype and shape of a block make",
			     *block_len);
	if (PyErr_Occurred()) {
		Py_XDECREF(dims);
		Py_DECREF(descr);
		return -1;
	}
	*dtype = (PyObject *)descr;
	*shape = dims;
	*block_len = len;
	return 0;
}

/* ---- block numbers and spans ---- */

/* object as a one-dimensional array of integers; whatever NumPy makes one of is taken. */
static PyArrayObject *get_integers(PyObject *object, const char *name, const char *kinds,
				   const char *wanted)
{
	PyArrayObject *array = (PyArrayObject *)PyArray_FROM_O(object);
	if (array == NULL)
		return NULL;
	if (PyArray_NDIM(array) != 1) {
		PyErr_Format(PyExc_ValueError, "%s must have one dimension, not %d", name,
			     PyArray_NDIM(array));
		goto err_array;
	}
	if (PyArray_SIZE(array) == 0 && !PyArray_Check(object)) {
		Py_DECREF(
			array); /* an empty list says nothing of a type, and NumPy guesses float */
		npy_intp none = 0;
		return (PyArrayObject *)PyArray_SimpleNew(1, &none, NPY_INT64);
	}
	PyArray_Descr *dtype = PyArray_DESCR(array);
	if (strchr(kinds, dtype->kind) == NULL || dtype->type_num >= NPY_USERDEF) {
		PyErr_Format(PyExc_TypeError, "%s must be %s, not %S", name, wanted,
			     (PyObject *)dtype);
		goto err_array;
	}
	return array;

err_array:
	Py_DECREF(array);
	return NULL;
}

/* array as contiguous, aligned, native memory of a type; a copy only where it is not. Uses it up. */
static PyObject *make_plain(PyArrayObject *array, int type)
{
	PyObject *plain = PyArray_FromArray(array, PyArray_DescrFromType(type),
					    NPY_ARRAY_CARRAY_RO | NPY_ARRAY_NOTSWAPPED);
	Py_DECREF(array);
	return plain;
}

/* Fill in where the numbers are, when all arrays have the same length. */
static int finish_indices(struct kvi_py_indices *indices, int array_count, const char *const *names)
{
	indices->count = (size_t)PyArray_SIZE((PyArrayObject *)indices->arrays[0]);
	for (int i = 0; i < array_count; i++) {
		PyArrayObject *array = (PyArrayObject *)indices->arrays[i];
		size_t count = (size_t)PyArray_SIZE(array);
		if (count != indices->count) {
			PyErr_Format(PyExc_ValueError, "%s has %zu numbers and %s has %zu",
				     names[0], indices->count, names[i], count);
			return -1;
		}
		indices->data[i] = PyArray_DATA(array);
	}
	return 0;
}

int kvi_py_get_blocks(PyObject *local, PyObject *remote, struct kvi_py_indices *indices)
{
	static const char *const names[] = { "local_idx", "remote_idx" };
	PyObject *objects[2] = { local, remote };
	PyArrayObject *arrays[2] = { NULL, NULL };

	for (int i = 0; i < 2; i++) {
		arrays[i] = get_integers(objects[i], names[i], "i", "int32 or int64");
		if (arrays[i] == NULL)
			goto err_arrays;
		if (PyArray_ITEMSIZE(arrays[i]) < 4) {
			PyErr_Format(PyExc_TypeError, "%s must be int32 or int64, not %S", names[i],
				     (PyObject *)PyArray_DESCR(arrays[i]));
			goto err_arrays;
		}
	}
	bool is_wide = PyArray_ITEMSIZE(arrays[0]) == 8 || PyArray_ITEMSIZE(arrays[1]) == 8;
	indices->item_len = is_wide ? 8 : 4;
	indices->arrays[0] = make_plain(arrays[0], is_wide ? NPY_INT64 : NPY_INT32);
	indices->arrays[1] = make_plain(arrays[1], is_wide ? NPY_INT64 : NPY_INT32);
	if (indices->arrays[0] == NULL || indices->arrays[1] == NULL)
		return -1;
	return finish_indices(indices, 2, names);

err_arrays:
	Py_XDECREF(arrays[0]);
	Py_XDECREF(arrays[1]);
	return -1;
}

/* The same bits mean the same number where none is negative. */
static int check_sign(PyObject *array, const char *name)
{
	const int64_t *numbers = PyArray_DATA((PyArrayObject *)array);
	npy_intp count = PyArray_SIZE((PyArrayObject *)array);

	for (npy_intp i = 0; i < count; i++) {
		if (numbers[i] < 0) {
			PyErr_Format(PyExc_ValueError, "%s[%zd] is %lld", name, (Py_ssize_t)i,
				     (long long)numbers[i]);
			return -1;
		}
	}
	return 0;
}

int kvi_py_get_spans(PyObject *const objects[3], struct kvi_py_indices *indices)
{
	static const char *const names[] = { "local_off", "remote_off", "nbytes" };

	indices->item_len = sizeof(uint64_t);
	for (int i = 0; i < 3; i++) {
		PyArrayObject *array = get_integers(objects[i], names[i], "iu", "integers");
		if (array == NULL)
			return -1;
		bool is_signed = PyArray_ISSIGNED(array);
		indices->arrays[i] = make_plain(array, is_signed ? NPY_INT64 : NPY_UINT64);
		if (indices->arrays[i] == NULL ||
		    (is_signed && check_sign(indices->arrays[i], names[i]) < 0))
			return -1;
	}
	return finish_indices(indices, 3, names);
}

void kvi_py_release_indices(struct kvi_py_indices *indices)
{
	for (int i = 0; i < 3; i++)
		Py_CLEAR(indices->arrays[i]);
}

static bool has_outside(const void *numbers, size_t item_len, size_t count, size_t limit)
{
	for (size_t i = 0; i < count; i++) {
		int64_t number = item_len == 8 ? ((const int64_t *)numbers)[i]
					       : ((const int32_t *)numbers)[i];
		if (number < 0 || (uint64_t)number >= limit)
			return true;
	}
	return false;
}

bool kvi_py_is_outside(const struct kvi_py_indices *indices, size_t local_count,
		       size_t remote_count)
{
	return has_outside(indices->data[0], indices->item_len, indices->count, local_count) ||
	       has_outside(indices->data[1], indices->item_len, indices->count, remote_count);
}
