/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.c - the memory of objects that register() takes, and how blocks lie in it. It copies nothing,
 * and looks at no data.
 */
#include "paged.h"

#include <string.h>

enum { DIMS_MAX = 64 };

/* ---- arrays of any origin ---- */

struct strided {
	char *base;
	size_t item_len;
	int dim_count;
	Py_ssize_t dims[DIMS_MAX];
	Py_ssize_t strides[DIMS_MAX]; /* in bytes */
	bool read_only;
};

static int read_view(const Py_buffer *view, const char *name, struct strided *array)
{
	if (view->ndim > DIMS_MAX || view->itemsize <= 0) {
		PyErr_Format(PyExc_ValueError, "%s has no items to cut into blocks", name);
		return -1;
	}
	array->base = view->buf;
	array->item_len = (size_t)view->itemsize;
	array->dim_count = view->ndim;
	array->read_only = view->readonly;
	if (view->ndim > 0 && view->shape == NULL) {
		PyErr_Format(PyExc_ValueError, "%s has no shape", name);
		return -1;
	}
	/* Those of ctypes have no strides although they were asked for. */
	Py_ssize_t next = view->itemsize;
	for (int i = view->ndim - 1; i >= 0; i--) {
		array->dims[i] = view->shape[i];
		array->strides[i] = view->strides != NULL ? view->strides[i] : next;
		next *= view->shape[i];
	}
	return 0;
}

/* ---- cutting ---- */

/* Bytes of the dimensions from first on when they lie without gaps, else 0. */
static size_t get_solid_len(const struct strided *array, int first)
{
	size_t len = array->item_len;

	for (int i = array->dim_count - 1; i >= first; i--) {
		if (array->dims[i] != 1 && array->strides[i] != (Py_ssize_t)len)
			return 0;
		len *= (size_t)array->dims[i];
	}
	return len;
}

/* The first axis numbers the blocks. */
static int cut_by_axis(const struct strided *array, const char *name, size_t block_len,
		       struct kvi_py_layout *layout)
{
	size_t len = array->dim_count == 0 ? 0 : get_solid_len(array, 1);
	Py_ssize_t stride = array->dim_count == 0 ? 0 : array->strides[0];

	if (array->dim_count < 2 && block_len == 0) {
		PyErr_Format(PyExc_ValueError,
			     "%s has %d dimensions, so nothing tells where its blocks end: pass "
			     "block_nbytes",
			     name, array->dim_count);
		return -1;
	}
	if (len == 0) {
		PyErr_Format(PyExc_ValueError,
			     "the blocks of %s (along its first axis) are not contiguous: pass a "
			     "list of arrays in which they are, or np.ascontiguousarray(%s)",
			     name, name);
		return -1;
	}
	if (block_len != 0 && block_len != len) {
		PyErr_Format(PyExc_ValueError,
			     "%s is not contiguous and its blocks (along its first axis) have %zu "
			     "bytes, not block_nbytes=%zu: leave block_nbytes out",
			     name, len, block_len);
		return -1;
	}
	if (array->dims[0] == 1)
		stride = (Py_ssize_t)len;
	if (stride < (Py_ssize_t)len) {
		PyErr_Format(PyExc_ValueError,
			     "the blocks of %s overlap or run backwards (stride %zd, block %zu "
			     "bytes)",
			     name, stride, len);
		return -1;
	}
	layout->block_len = len;
	layout->extent.count = (size_t)array->dims[0];
	layout->extent.stride = (size_t)stride;
	return 0;
}

/* Memory without gaps, blocks of a given size. */
static int cut_by_size(size_t len, const char *name, const struct kvi_py_cut *cut,
		       struct kvi_py_layout *layout)
{
	size_t stride = cut->stride != 0 ? cut->stride : cut->block_len;

	if (cut->stride == 0 && len % cut->block_len != 0) {
		PyErr_Format(PyExc_ValueError,
			     "%s has %zu bytes, which is no multiple of block_nbytes=%zu", name,
			     len, cut->block_len);
		return -1;
	}
	if (len < cut->block_len || stride < cut->block_len) {
		PyErr_Format(PyExc_ValueError,
			     "%s has %zu bytes: too small for block_nbytes=%zu with stride=%zu",
			     name, len, cut->block_len, stride);
		return -1;
	}
	layout->block_len = cut->block_len;
	layout->extent.count = (len - cut->block_len) / stride + 1;
	layout->extent.stride = stride;
	return 0;
}

static int cut_array(const struct strided *array, const char *name, const struct kvi_py_cut *cut,
		     struct kvi_py_layout *layout)
{
	size_t len = get_solid_len(array, 0);

	layout->extent.base = array->base;
	layout->read_only = array->read_only;
	for (int i = 0; i < array->dim_count; i++) {
		if (array->dims[i] == 0) {
			PyErr_Format(PyExc_ValueError, "%s is empty", name);
			return -1;
		}
	}
	if (cut->block_len != 0 && len != 0)
		return cut_by_size(len, name, cut, layout);
	if (cut->stride != 0) {
		PyErr_Format(PyExc_ValueError, "stride needs contiguous memory, which %s is not",
			     name);
		return -1;
	}
	return cut_by_axis(array, name, cut->block_len, layout);
}

int kvi_py_get_memory(PyObject *object, const char *name, const struct kvi_py_cut *cut,
		      Py_buffer *view, struct kvi_py_layout *layout)
{
	struct strided array = { .read_only = false };

	if (kvi_py_get_strided(object, name, view) < 0)
		return -1;
	if (read_view(view, name, &array) == 0 && cut_array(&array, name, cut, layout) == 0)
		return 0;
	PyBuffer_Release(view);
	return -1;
}
