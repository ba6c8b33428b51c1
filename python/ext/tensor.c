/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tensor.c - the memory of a DLPack tensor of the CPU, as a buffer like those of the buffer protocol. It
 * copies nothing, and looks at no data.
 */
#include "ext.h"

#include <stdio.h>
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

enum { DL_INT = 0, DL_UINT = 1, DL_FLOAT = 2, DL_COMPLEX = 5, DL_BOOL = 6 };

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

/* ---- what a view points to ---- */

/* In a capsule that is the view's object, and gives the tensor back at its end. */
struct holder {
	void *tensor; /* as its own capsule had it, or NULL */
	bool is_versioned;
	void *address; /* what data_ptr() of the tensor says; NULL: it does not say */
	char format[16];
	Py_ssize_t dims[DIMS_MAX];
	Py_ssize_t strides[DIMS_MAX]; /* in bytes */
};

static const char holder_name[] = "kvtrans_engine.tensor";

static void delete_tensor(void *tensor, bool is_versioned)
{
	struct dl_versioned *versioned = tensor;
	struct dl_managed *managed = tensor;

	if (is_versioned && versioned->deleter != NULL)
		versioned->deleter(versioned);
	else if (!is_versioned && managed->deleter != NULL)
		managed->deleter(managed);
}

static void free_holder(PyObject *capsule)
{
	struct holder *holder = PyCapsule_GetPointer(capsule, holder_name);
	PyObject *type, *value, *traceback;

	PyErr_Fetch(&type, &value, &traceback); /* giving a tensor back may run Python code */
	if (holder->tensor != NULL)
		delete_tensor(holder->tensor, holder->is_versioned);
	PyErr_Restore(type, value, traceback);
	PyMem_Free(holder);
}

/* ---- taking a tensor ---- */

bool kvi_py_is_tensor(PyObject *object)
{
	return PyObject_HasAttrString(object, "__dlpack__") &&
	       PyObject_HasAttrString(object, "__dlpack_device__");
}

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
static const struct dl_tensor *take_capsule(PyObject *capsule, struct holder *holder,
					    Py_buffer *view)
{
	holder->is_versioned = PyCapsule_IsValid(capsule, "dltensor_versioned");
	const char *name = holder->is_versioned ? "dltensor_versioned" : "dltensor";
	void *tensor = PyCapsule_GetPointer(capsule, name);
	if (tensor == NULL)
		return NULL;
	struct dl_versioned *versioned = tensor;
	if (holder->is_versioned && versioned->major != DL_MAJOR) {
		PyErr_Format(PyExc_BufferError, "the tensor is of DLPack %u, not %d",
			     versioned->major, DL_MAJOR);
		return NULL;
	}
	if (PyCapsule_SetName(capsule, holder->is_versioned ? "used_dltensor_versioned"
							    : "used_dltensor") < 0)
		return NULL;
	holder->tensor = tensor;
	view->readonly = holder->is_versioned && (versioned->flags & DL_READ_ONLY) != 0;
	return holder->is_versioned ? &versioned->tensor : &((struct dl_managed *)tensor)->tensor;
}

/* The items as struct has them. What it has no letter for, as bfloat16, are bytes of that number. */
static void put_format(const struct dl_tensor *tensor, struct holder *holder)
{
	static const struct {
		uint8_t type_code, bits;
		const char *format;
	} rows[] = {
		{ DL_INT, 8, "b" },	  { DL_INT, 16, "h" },	     { DL_INT, 32, "i" },
		{ DL_INT, 64, "q" },	  { DL_UINT, 8, "B" },	     { DL_UINT, 16, "H" },
		{ DL_UINT, 32, "I" },	  { DL_UINT, 64, "Q" },	     { DL_FLOAT, 16, "e" },
		{ DL_FLOAT, 32, "f" },	  { DL_FLOAT, 64, "d" },     { DL_BOOL, 8, "?" },
		{ DL_COMPLEX, 64, "Zf" }, { DL_COMPLEX, 128, "Zd" },
	};
	unsigned len = (unsigned)tensor->bits * tensor->lanes / 8;

	snprintf(holder->format, sizeof(holder->format), "%ux", len);
	for (size_t i = 0; tensor->lanes == 1 && i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i].type_code == tensor->type_code && rows[i].bits == tensor->bits)
			strcpy(holder->format, rows[i].format);
	}
}

static int read_tensor(const struct dl_tensor *tensor, const char *name, struct holder *holder,
		       Py_buffer *view)
{
	size_t bits = (size_t)tensor->bits * tensor->lanes;

	if (tensor->dim_count < 0 || tensor->dim_count > DIMS_MAX || bits == 0 || bits % 8 != 0) {
		PyErr_Format(PyExc_ValueError, "%s has items of %zu bits, not of whole bytes", name,
			     bits);
		return -1;
	}
	put_format(tensor, holder);
	view->buf = (char *)tensor->data + tensor->byte_offset;
	view->itemsize = (Py_ssize_t)(bits / 8);
	view->ndim = tensor->dim_count;
	view->format = holder->format;
	view->shape = holder->dims;
	view->strides = holder->strides;
	view->len = view->itemsize;
	for (int i = tensor->dim_count - 1; i >= 0; i--) {
		holder->dims[i] = (Py_ssize_t)tensor->shape[i];
		holder->strides[i] = tensor->strides == NULL
					     ? view->len
					     : (Py_ssize_t)tensor->strides[i] * view->itemsize;
		view->len *= holder->dims[i];
	}
	return 0;
}

/* Where a tensor says that it is, as torch's do; NULL when it has no such method. */
static int get_address(PyObject *object, void **address)
{
	*address = NULL;
	PyObject *number = PyObject_CallMethod(object, "data_ptr", NULL);
	if (number == NULL && !PyErr_ExceptionMatches(PyExc_AttributeError))
		return -1;
	if (number == NULL) {
		PyErr_Clear();
		return 0;
	}
	*address = PyLong_AsVoidPtr(number);
	Py_DECREF(number);
	return PyErr_Occurred() ? -1 : 0;
}

int kvi_py_check_tensor(PyObject *object, const Py_buffer *view)
{
	struct holder *holder;
	void *address;

	if (!PyCapsule_IsValid(view->obj, holder_name))
		return 0;
	holder = PyCapsule_GetPointer(view->obj, holder_name);
	if (holder->address == NULL)
		return 0;
	if (get_address(object, &address) < 0)
		return -1;
	if (address == holder->address)
		return 0;
	PyErr_Format(PyExc_ValueError,
		     "a tensor of the pool was at %p when it was registered and is at %p now: "
		     "close the pool and register it again",
		     holder->address, address);
	return -1;
}

int kvi_py_get_tensor(PyObject *object, const char *name, bool contiguous, Py_buffer *view)
{
	memset(view, 0, sizeof(*view));
	if (check_device(object, name) < 0)
		return -1;
	struct holder *holder = PyMem_Calloc(1, sizeof(*holder));
	if (holder == NULL) {
		PyErr_SetString(PyExc_MemoryError, "no memory to hold a tensor");
		return -1;
	}
	view->obj = PyCapsule_New(holder, holder_name, free_holder);
	if (view->obj == NULL) {
		PyMem_Free(holder);
		return -1;
	}
	PyObject *capsule = get_capsule(object);
	const struct dl_tensor *tensor = capsule == NULL ? NULL
							 : take_capsule(capsule, holder, view);
	Py_XDECREF(capsule);
	if (tensor != NULL && read_tensor(tensor, name, holder, view) == 0 &&
	    get_address(object, &holder->address) == 0) {
		/* Something else by the same name. */
		if (holder->address != view->buf)
			holder->address = NULL;
		if (!contiguous || PyBuffer_IsContiguous(view, 'C'))
			return 0;
		PyErr_Format(PyExc_TypeError, "%s is not C-contiguous; pass %s.contiguous()", name,
			     name);
	}
	PyBuffer_Release(view);
	return -1;
}
