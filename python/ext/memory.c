/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.c - the memory of objects that register() takes, and how blocks lie in it: any buffer, or a
 * DLPack tensor of the CPU. It copies nothing, and looks at no data.
 */
#include "paged.h"

#include <string.h>

enum { DIMS_MAX = 64 };

/* ---- DLPack, as its specification lays it out ---- */

enum {
	DL_CPU = 1,
	DL_CUDA_HOST = 3,
	DL_ROCM_HOST = 11,
	DL_MAJOR = 1,
	DL_READ_ONLY = 1,
};

struct dl_tensor {
	void *data;
	int32_t device_type;
	int32_t device_id;
	int32_t dim_count;
	uint8_t type_code;
	uint8_t bits;
	uint16_t lanes;
	int64_t *shape;
	int64_t *strides; /* in items; NULL: C-contiguous */
	uint64_t byte_offset;
};

struct dl_managed {
	struct dl_tensor tensor;
	void *context;
	void (*deleter)(struct dl_managed *self);
};

struct dl_versioned {
	uint32_t major;
	uint32_t minor;
	void *context;
	void (*deleter)(struct dl_versioned *self);
	uint64_t flags;
	struct dl_tensor tensor;
};

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

static int read_tensor(const struct dl_tensor *tensor, const char *name, struct strided *array)
{
	size_t bits = (size_t)tensor->bits * tensor->lanes;

	if (tensor->dim_count < 0 || tensor->dim_count > DIMS_MAX || bits == 0 || bits % 8 != 0) {
		PyErr_Format(PyExc_ValueError, "%s has items of %zu bits, not of whole bytes", name,
			     bits);
		return -1;
	}
	array->base = (char *)tensor->data + tensor->byte_offset;
	array->item_len = bits / 8;
	array->dim_count = tensor->dim_count;
	Py_ssize_t next = (Py_ssize_t)array->item_len;
	for (int i = tensor->dim_count - 1; i >= 0; i--) {
		array->dims[i] = (Py_ssize_t)tensor->shape[i];
		array->strides[i] = tensor->strides == NULL ? next
							    : (Py_ssize_t)tensor->strides[i] *
								      (Py_ssize_t)array->item_len;
		next *= array->dims[i];
	}
	return 0;
}

/* ---- taking a tensor ---- */

static int check_device(PyObject *object, const char *name)
{
	int type, id;

	PyObject *device = PyObject_CallMethod(object, "__dlpack_device__", NULL);
	if (device == NULL)
		return -1;
	int parsed = PyTuple_Check(device) && PyArg_ParseTuple(device, "ii", &type, &id);
	Py_DECREF(device);
	if (!parsed) {
		if (!PyErr_Occurred())
			PyErr_Format(PyExc_TypeError, "%s has no DLPack device", name);
		return -1;
	}
	if (type == DL_CPU || type == DL_CUDA_HOST || type == DL_ROCM_HOST)
		return 0;
	PyErr_Format(PyExc_TypeError,
		     "%s is on a device (DLPack type %d), not in the memory of the CPU: copy it "
		     "there",
		     name, type);
	return -1;
}

/* A capsule of the newer kind where the object knows it: only that tells of read-only memory. */
static PyObject *get_capsule(PyObject *object)
{
	PyObject *method = PyObject_GetAttrString(object, "__dlpack__");
	if (method == NULL)
		return NULL;
	PyObject *none = PyTuple_New(0);
	PyObject *options = Py_BuildValue("{s(ii)}", "max_version", DL_MAJOR, 0);
	PyObject *capsule = none == NULL || options == NULL ? NULL
							    : PyObject_Call(method, none, options);
	if (capsule == NULL && PyErr_ExceptionMatches(PyExc_TypeError)) {
		PyErr_Clear();
		capsule = PyObject_CallNoArgs(method);
	}
	Py_XDECREF(none);
	Py_XDECREF(options);
	Py_DECREF(method);
	return capsule;
}

/* Take over what a capsule holds; its new name tells that it has been taken. */
static const struct dl_tensor *take_capsule(PyObject *capsule, struct kvi_py_memory *memory,
					    bool *read_only)
{
	memory->is_versioned = PyCapsule_IsValid(capsule, "dltensor_versioned");
	const char *name = memory->is_versioned ? "dltensor_versioned" : "dltensor";
	void *tensor = PyCapsule_GetPointer(capsule, name);
	if (tensor == NULL)
		return NULL;
	struct dl_versioned *versioned = tensor;
	if (memory->is_versioned && versioned->major != DL_MAJOR) {
		PyErr_Format(PyExc_BufferError, "the tensor is of DLPack %u, not %d",
			     versioned->major, DL_MAJOR);
		return NULL;
	}
	if (PyCapsule_SetName(capsule, memory->is_versioned ? "used_dltensor_versioned"
							    : "used_dltensor") < 0)
		return NULL;
	memory->tensor = tensor;
	*read_only = memory->is_versioned && (versioned->flags & DL_READ_ONLY) != 0;
	return memory->is_versioned ? &versioned->tensor : &((struct dl_managed *)tensor)->tensor;
}

static int get_tensor(PyObject *object, const char *name, struct kvi_py_memory *memory,
		      struct strided *array)
{
	if (check_device(object, name) < 0)
		return -1;
	PyObject *capsule = get_capsule(object);
	if (capsule == NULL)
		return -1;
	const struct dl_tensor *tensor = take_capsule(capsule, memory, &array->read_only);
	Py_DECREF(capsule);
	return tensor == NULL ? -1 : read_tensor(tensor, name, array);
}

static void delete_tensor(void *tensor, bool is_versioned)
{
	struct dl_versioned *versioned = tensor;
	struct dl_managed *managed = tensor;

	if (is_versioned && versioned->deleter != NULL)
		versioned->deleter(versioned);
	else if (!is_versioned && managed->deleter != NULL)
		managed->deleter(managed);
}

void kvi_py_release_memory(struct kvi_py_memory *memory)
{
	PyObject *type, *value, *traceback;
	void *tensor = memory->tensor;

	memory->tensor = NULL;
	PyErr_Fetch(&type, &value, &traceback); /* both may run Python code */
	PyBuffer_Release(&memory->view);
	if (tensor != NULL)
		delete_tensor(tensor, memory->is_versioned);
	PyErr_Restore(type, value, traceback);
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
			     "block_bytes",
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
			     "bytes, not block_bytes=%zu: leave block_bytes out",
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
			     "%s has %zu bytes, which is no multiple of block_bytes=%zu", name, len,
			     cut->block_len);
		return -1;
	}
	if (len < cut->block_len || stride < cut->block_len) {
		PyErr_Format(PyExc_ValueError,
			     "%s has %zu bytes: too small for block_bytes=%zu with stride=%zu",
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

static bool is_tensor(PyObject *object)
{
	return PyObject_HasAttrString(object, "__dlpack__") &&
	       PyObject_HasAttrString(object, "__dlpack_device__");
}

int kvi_py_get_memory(PyObject *object, const char *name, const struct kvi_py_cut *cut,
		      struct kvi_py_memory *memory, struct kvi_py_layout *layout)
{
	struct strided array = { .read_only = false };
	int rc;

	memset(memory, 0, sizeof(*memory));
	if (PyObject_CheckBuffer(object) || !is_tensor(object)) {
		if (kvi_py_get_strided(object, name, &memory->view) < 0)
			return -1;
		rc = read_view(&memory->view, name, &array);
	} else {
		rc = get_tensor(object, name, memory, &array);
	}
	if (rc == 0)
		rc = cut_array(&array, name, cut, layout);
	if (rc < 0)
		kvi_py_release_memory(memory);
	return rc;
}
