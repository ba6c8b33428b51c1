/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.c - the type Pool: memory that was registered, allocated by the engine or adopted, seen as blocks.
 * It moves nothing. users.c tells who owns a pool and what backs it.
 */
#include "paged.h"

#include <stdio.h>

/* ---- the library's pool, and what it lies in ---- */

static int backing_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct kvi_py_backing *backing = (struct kvi_py_backing *)self;

	Py_VISIT(Py_TYPE(self));
	for (size_t i = 0; i < backing->view_count; i++)
		Py_VISIT(backing->views[i].obj);
	return 0;
}

static void backing_dealloc(PyObject *self)
{
	struct kvi_py_backing *backing = (struct kvi_py_backing *)self;
	PyTypeObject *type = Py_TYPE(self);
	PyObject *error_type, *value, *traceback;

	PyObject_GC_UnTrack(self);
	PyErr_Fetch(&error_type, &value, &traceback);
	if (backing->handle != NULL && !kvi_py_is_forked(backing->owner)) {
		PyThreadState *thread = kvi_py_begin_close();
		kvt_pool_close(backing->handle);
		kvi_py_end_close(thread);
	}
	for (size_t i = 0; i < backing->view_count; i++)
		PyBuffer_Release(&backing->views[i]);
	PyMem_Free(backing->views);
	PyErr_Restore(error_type, value, traceback);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyType_Slot backing_slots[] = {
	{ Py_tp_dealloc, backing_dealloc },
	{ Py_tp_traverse, backing_traverse },
	{ 0, NULL },
};

PyType_Spec kvi_py_backing_spec = {
	.name = "kvtrans_engine._kvtrans.Backing",
	.basicsize = sizeof(struct kvi_py_backing),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
		 Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = backing_slots,
};

/* ---- making a pool ---- */

/* A pool with nothing of the library's in it, not yet open. */
static struct kvi_py_pool *make_pool(struct kvi_py_engine *engine)
{
	struct kvi_py_state *state = kvi_py_get_state((PyObject *)engine);
	PyTypeObject *type = state->pool_type;
	struct kvi_py_pool *pool = (struct kvi_py_pool *)type->tp_alloc(type, 0);
	if (pool == NULL)
		return NULL;
	pool->backing =
		(struct kvi_py_backing *)state->backing_type->tp_alloc(state->backing_type, 0);
	if (pool->backing == NULL) {
		Py_DECREF(pool);
		return NULL;
	}
	pool->backing->owner = engine->owner;
	return pool;
}

/* What memory the engine is to make or take: KVT_POOL_* bits. */
struct file {
	unsigned flags;
	int fd;
	uint64_t offset;
};
static const struct file NO_FILE = { .flags = 0 };

/* Register with the library, and put the pool among the engine's. */
static int open_pool(struct kvi_py_engine *engine, struct kvi_py_pool *pool,
		     const struct kvt_extent *extents, const struct file *file)
{
	struct kvt_pool_config config = KVT_POOL_CONFIG_INIT;
	struct kvt_error error = { 0 };

	config.flags = file->flags;
	config.file = file->fd;
	config.file_offset = file->offset;
	config.extents = extents;
	config.extent_count = pool->extent_count;
	config.block_len = pool->block_len;
	config.read_only = pool->read_only;
	if (kvi_py_enter(engine) < 0)
		return -1;
	PyThreadState *thread = PyEval_SaveThread();
	enum kvt_err err = kvt_pool_open(engine->handle, &config, &pool->backing->handle, &error);
	PyEval_RestoreThread(thread);
	if (err == KVT_OK && engine->closed) {
		err = KVT_E_CLOSED;
		error = (struct kvt_error){ err, 0, "the engine was closed meanwhile" };
	}
	int rc = -1;
	if (err != KVT_OK)
		kvi_py_raise(kvi_py_get_state((PyObject *)engine), &error, 0);
	else
		rc = PySet_Add(engine->pools, (PyObject *)pool);
	if (rc == 0)
		pool->engine = engine;
	kvi_py_leave(engine);
	return rc;
}

/* Take the memory of every array; all must have blocks of one size. */
static int take_arrays(struct kvi_py_pool *pool, const struct kvi_py_cut *cut,
		       struct kvt_extent *extents)
{
	struct kvi_py_backing *backing = pool->backing;
	char name[32] = "the array";

	for (size_t i = 0; i < pool->extent_count; i++) {
		struct kvi_py_layout layout = { .block_len = 0 };
		if (pool->extent_count > 1)
			snprintf(name, sizeof(name), "arrays[%zu]", i);
		if (kvi_py_get_memory(PyTuple_GET_ITEM(pool->arrays, (Py_ssize_t)i), name, cut,
				      &backing->views[i], &layout) < 0)
			return -1;
		backing->view_count = i + 1;
		if (i > 0 && layout.block_len != pool->block_len) {
			PyErr_Format(PyExc_ValueError,
				     "%s has blocks of %zu bytes, arrays[0] of %zu: register them "
				     "as two pools",
				     name, layout.block_len, pool->block_len);
			return -1;
		}
		extents[i] = layout.extent;
		pool->block_len = layout.block_len;
		if (i == 0 || layout.extent.count < pool->block_count)
			pool->block_count = layout.extent.count;
		pool->read_only |= layout.read_only;
	}
	return 0;
}

static int parse_size(PyObject *value, const char *name, size_t *size)
{
	long long number;

	*size = 0;
	if (value == Py_None)
		return 0;
	if (kvi_py_parse_int(value, name, 1, PY_SSIZE_T_MAX, &number) < 0)
		return -1;
	*size = (size_t)number;
	return 0;
}

PyObject *kvi_py_register(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "arrays", "block_nbytes", "stride", NULL };
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	PyObject *arrays, *block_len = Py_None, *stride = Py_None;
	struct kvi_py_cut cut;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OO:register", names, &arrays, &block_len,
					 &stride) ||
	    parse_size(block_len, "block_nbytes", &cut.block_len) < 0 ||
	    parse_size(stride, "stride", &cut.stride) < 0 || kvi_py_check_open(engine) < 0)
		return NULL;
	if (cut.stride != 0 && cut.block_len == 0) {
		PyErr_SetString(PyExc_ValueError, "stride needs block_nbytes");
		return NULL;
	}
	struct kvi_py_pool *pool = make_pool(engine);
	if (pool == NULL)
		return NULL;
	struct kvt_extent *extents = NULL;
	bool is_list = PyList_Check(arrays) || PyTuple_Check(arrays);
	pool->arrays = is_list ? PySequence_Tuple(arrays) : PyTuple_Pack(1, arrays);
	if (pool->arrays == NULL)
		goto err_pool;
	pool->extent_count = (size_t)PyTuple_GET_SIZE(pool->arrays);
	if (pool->extent_count < 1 || pool->extent_count > KVT_EXTENTS_MAX) {
		PyErr_Format(PyExc_ValueError, "a pool has 1 to %d arrays, not %zu",
			     KVT_EXTENTS_MAX, pool->extent_count);
		goto err_pool;
	}
	extents = PyMem_Calloc(pool->extent_count, sizeof(*extents));
	pool->backing->views = PyMem_Calloc(pool->extent_count, sizeof(*pool->backing->views));
	if (extents == NULL || pool->backing->views == NULL) {
		PyErr_SetString(PyExc_MemoryError, "no memory for the extents of a pool");
		goto err_pool;
	}
	if (take_arrays(pool, &cut, extents) < 0 || open_pool(engine, pool, extents, &NO_FILE) < 0)
		goto err_pool;
	PyMem_Free(extents);
	return (PyObject *)pool;

err_pool:
	PyMem_Free(extents);
	Py_DECREF(pool);
	return NULL;
}

/* An address and a size, which nothing but the caller's word stands for. */
static int take_address(PyObject *object, size_t block_len, struct kvt_extent *extent)
{
	PyObject *item = PySequence_Tuple(object), *address_object, *size_object;
	size_t len;
	int rc = -1;

	if (item == NULL)
		return -1;
	if (!PyArg_ParseTuple(item, "OO;memory is (address, nbytes)", &address_object,
			      &size_object))
		goto out_item;
	PyObject *number = PyNumber_Index(address_object);
	uintptr_t address = number == NULL ? 0 : (uintptr_t)PyLong_AsSize_t(number);
	Py_XDECREF(number);
	if (PyErr_Occurred() || parse_size(size_object, "nbytes", &len) < 0)
		goto out_item;
	if (address == 0 || len == 0 || len > UINTPTR_MAX - address) {
		PyErr_SetString(PyExc_ValueError, "there is no memory at this address");
	} else if (len % block_len != 0) {
		PyErr_Format(PyExc_ValueError, "%zu bytes are no whole blocks of %zu", len,
			     block_len);
	} else {
		*extent = (struct kvt_extent){ (void *)address, len / block_len, block_len };
		rc = 0;
	}
out_item:
	Py_DECREF(item);
	return rc;
}

PyObject *kvi_py_register_memory(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "memory", "block_nbytes", "read_only", NULL };
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	PyObject *memory, *block_len = Py_None;
	struct kvt_extent *extents = NULL;
	struct kvi_py_pool *pool = NULL;
	size_t len;
	int read_only = 0, rc = -1;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|Op:register_memory", names, &memory,
					 &block_len, &read_only) ||
	    parse_size(block_len, "block_nbytes", &len) < 0 || kvi_py_check_open(engine) < 0)
		return NULL;
	PyObject *items = PySequence_Tuple(memory);
	if (items == NULL)
		return NULL;
	size_t count = (size_t)PyTuple_GET_SIZE(items);
	if (count < 1 || count > KVT_EXTENTS_MAX) {
		PyErr_Format(PyExc_ValueError, "a pool has 1 to %d pieces of memory, not %zu",
			     KVT_EXTENTS_MAX, count);
		goto out_items;
	}
	pool = make_pool(engine);
	extents = PyMem_Calloc(count, sizeof(*extents));
	if (pool == NULL || extents == NULL) {
		PyErr_NoMemory();
		goto out_items;
	}
	pool->arrays = PyTuple_New(0);
	pool->extent_count = count;
	pool->block_len = len != 0 ? len : 1;
	pool->read_only = read_only;
	rc = pool->arrays == NULL ? -1 : 0;
	for (size_t i = 0; i < count && rc == 0; i++) {
		rc = take_address(PyTuple_GET_ITEM(items, (Py_ssize_t)i), pool->block_len,
				  &extents[i]);
		if (i == 0 || extents[i].count < pool->block_count)
			pool->block_count = extents[i].count;
	}
	if (rc == 0)
		rc = open_pool(engine, pool, extents, &NO_FILE);
out_items:
	Py_DECREF(items);
	PyMem_Free(extents);
	if (rc < 0)
		Py_CLEAR(pool);
	return (PyObject *)pool;
}

/* What allocate() and adopt() are given of blocks, as objects. */
struct wanted {
	PyObject *count, *block_len, *extent_count, *dtype, *shape;
	int read_only;
};

static int take_wanted(struct kvi_py_pool *pool, struct wanted *wanted)
{
	long long count, extent_count = 1;
	size_t block_len;

	if (kvi_py_parse_int(wanted->count, "block_count", 1, PY_SSIZE_T_MAX, &count) < 0 ||
	    parse_size(wanted->block_len, "block_nbytes", &block_len) < 0 ||
	    (wanted->extent_count != NULL &&
	     kvi_py_parse_int(wanted->extent_count, "extent_count", 1, KVT_EXTENTS_MAX,
			      &extent_count) < 0) ||
	    kvi_py_resolve_block(&wanted->dtype, &wanted->shape, &block_len) < 0)
		return -1;
	pool->dtype = wanted->dtype;
	pool->shape = wanted->shape;
	pool->block_count = (size_t)count;
	pool->block_len = block_len;
	pool->extent_count = (size_t)extent_count;
	pool->read_only = wanted->read_only;
	return 0;
}

/* A pool of memory that the library makes or maps. */
static PyObject *make_wanted(struct kvi_py_engine *engine, struct wanted *wanted,
			     const struct file *file)
{
	if (kvi_py_check_open(engine) < 0)
		return NULL;
	struct kvi_py_pool *pool = make_pool(engine);
	struct kvt_extent *extents = NULL;
	int rc = pool == NULL ? -1 : take_wanted(pool, wanted);

	if (rc == 0 && (extents = PyMem_Calloc(pool->extent_count, sizeof(*extents))) == NULL) {
		PyErr_SetString(PyExc_MemoryError, "no memory for the extents of a pool");
		rc = -1;
	}
	for (size_t i = 0; rc == 0 && i < pool->extent_count; i++)
		extents[i] = (struct kvt_extent){ NULL, pool->block_count, pool->block_len };
	if (rc == 0)
		rc = open_pool(engine, pool, extents, file);
	PyMem_Free(extents);
	if (rc < 0)
		Py_CLEAR(pool);
	return (PyObject *)pool;
}

static unsigned get_flags(int shared, int prefault, int hugepages)
{
	return (shared ? 0U : KVT_POOL_PRIVATE) | (prefault ? KVT_POOL_PREFAULT : 0U) |
	       (hugepages ? KVT_POOL_HUGE_PAGES : 0U);
}

PyObject *kvi_py_allocate(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "block_count", "block_nbytes", "extent_count", "dtype", "shape",
				 "shared",	"prefault",	"hugepages",	NULL };
	struct wanted wanted = { .block_len = Py_None, .dtype = Py_None, .shape = Py_None };
	int shared = 1, prefault = 0, hugepages = 0;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O$OOOppp:allocate", names, &wanted.count,
					 &wanted.block_len, &wanted.extent_count, &wanted.dtype,
					 &wanted.shape, &shared, &prefault, &hugepages))
		return NULL;
	const struct file file = { .flags = get_flags(shared, prefault, hugepages) };
	return make_wanted((struct kvi_py_engine *)self, &wanted, &file);
}

PyObject *kvi_py_adopt(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "fd",	   "block_count", "block_nbytes", "extent_count",
				 "offset", "read_only",	  "dtype",	  "shape",
				 "shared", "prefault",	  "hugepages",	  NULL };
	struct wanted wanted = { .block_len = Py_None, .dtype = Py_None, .shape = Py_None };
	struct file file = { .flags = 0 };
	int shared = 1, prefault = 0, hugepages = 0;
	PyObject *object, *offset_object = NULL;
	long long offset = 0;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O$OOpOOppp:adopt", names, &object,
					 &wanted.count, &wanted.block_len, &wanted.extent_count,
					 &offset_object, &wanted.read_only, &wanted.dtype,
					 &wanted.shape, &shared, &prefault, &hugepages) ||
	    (offset_object != NULL &&
	     kvi_py_parse_int(offset_object, "offset", 0, PY_SSIZE_T_MAX, &offset) < 0))
		return NULL;
	file.fd = PyObject_AsFileDescriptor(object);
	if (file.fd < 0)
		return NULL;
	file.flags = get_flags(shared, prefault, hugepages) | KVT_POOL_FILE;
	file.offset = (uint64_t)offset;
	return make_wanted((struct kvi_py_engine *)self, &wanted, &file);
}

/* ---- using and closing ---- */

/* Each array of the pool still has its memory. The tensors' own code may run, and close the pool. */
static int check_arrays(struct kvi_py_pool *pool)
{
	struct kvi_py_backing *backing = pool->backing;
	PyObject *arrays = pool->arrays;
	int rc = 0;

	if (arrays == NULL || backing == NULL)
		return 0;
	Py_INCREF(arrays);
	Py_INCREF(backing);
	for (size_t i = 0; rc == 0 && i < backing->view_count; i++)
		rc = kvi_py_check_tensor(PyTuple_GET_ITEM(arrays, (Py_ssize_t)i),
					 &backing->views[i]);
	Py_DECREF(backing);
	Py_DECREF(arrays);
	return rc;
}

struct kvi_py_pool *kvi_py_check_pool(struct kvi_py_engine *engine, PyObject *object)
{
	struct kvi_py_pool *pool = (struct kvi_py_pool *)object;

	if (!Py_IS_TYPE(object, kvi_py_get_state((PyObject *)engine)->pool_type)) {
		PyErr_Format(PyExc_TypeError, "pool must be a Pool, not %.200s",
			     Py_TYPE(object)->tp_name);
		return NULL;
	}
	if (check_arrays(pool) < 0)
		return NULL;
	if (pool->engine == NULL) {
		PyErr_SetString(PyExc_ValueError, "pool is closed");
		return NULL;
	}
	if (pool->engine != engine) {
		PyErr_SetString(PyExc_ValueError, "pool is one of another engine");
		return NULL;
	}
	return pool;
}

/* End what it is used for, and let go of what backs it: of allocated memory ndarrays may be left. */
static void drop_backing(struct kvi_py_engine *engine, struct kvi_py_pool *pool)
{
	struct kvi_py_backing *backing = pool->backing;

	pool->engine = NULL;
	kvi_py_await_users(&pool->users);
	pool->backing = NULL;
	if (backing != NULL && !kvi_py_is_forked(backing->owner)) {
		PyThreadState *thread = kvi_py_begin_close();
		kvt_pool_stop(backing->handle);
		kvi_py_end_close(thread);
	}
	Py_XDECREF(backing);
	PyObject *conns = PyDict_Values(engine->conns);
	for (Py_ssize_t i = 0; conns != NULL && i < PyList_GET_SIZE(conns); i++)
		kvi_py_drop_exports(((struct kvi_py_conn *)PyList_GET_ITEM(conns, i))->exports,
				    (PyObject *)pool);
	Py_XDECREF(conns);
	PyErr_Clear();
	if (engine->offers != NULL)
		kvi_py_drop_exports(engine->offers, (PyObject *)pool);
	Py_CLEAR(pool->arrays);
}

void kvi_py_drop_pools(struct kvi_py_engine *engine)
{
	PyObject *pool;

	while (engine->pools != NULL && PySet_GET_SIZE(engine->pools) > 0) {
		pool = PySet_Pop(engine->pools);
		drop_backing(engine, (struct kvi_py_pool *)pool);
		Py_DECREF(pool);
	}
}

static PyObject *pool_close(PyObject *self, PyObject *args)
{
	struct kvi_py_pool *pool = (struct kvi_py_pool *)self;
	struct kvi_py_engine *engine = kvi_py_ref_engine(pool->engine);

	(void)args;
	if (engine == NULL)
		Py_RETURN_NONE;
	Py_INCREF(self);
	if (PySet_Discard(engine->pools, self) >= 0)
		drop_backing(engine, pool);
	Py_DECREF(self);
	Py_DECREF(engine);
	if (PyErr_Occurred())
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *pool_enter(PyObject *self, PyObject *args)
{
	(void)args;
	if (((struct kvi_py_pool *)self)->engine != NULL)
		return Py_NewRef(self);
	PyErr_SetString(PyExc_ValueError, "pool is closed");
	return NULL;
}

/* ---- attributes ---- */

/* An ndarray over memory that the library has mapped, which is not to be written where it cannot be. */
static PyObject *wrap_extent(struct kvi_py_pool *pool, size_t extent)
{
	return kvi_py_wrap_blocks(kvt_pool_get_base(pool->backing->handle, extent),
				  pool->block_count, pool->dtype, pool->shape, pool->read_only,
				  (PyObject *)pool->backing);
}

static PyObject *get_arrays(PyObject *self, void *closure)
{
	struct kvi_py_pool *pool = (struct kvi_py_pool *)self;

	(void)closure;
	if (pool->engine == NULL) {
		PyErr_SetString(PyExc_ValueError, "pool is closed");
		return NULL;
	}
	if (pool->arrays != NULL)
		return Py_NewRef(pool->arrays);
	PyObject *arrays = PyTuple_New((Py_ssize_t)pool->extent_count);
	for (size_t i = 0; arrays != NULL && i < pool->extent_count; i++) {
		PyObject *array = wrap_extent(pool, i);
		if (array == NULL)
			Py_CLEAR(arrays);
		else
			PyTuple_SET_ITEM(arrays, (Py_ssize_t)i, array);
	}
	return arrays;
}

#define SIZE_GETTER(field)                                                                         \
	static PyObject *get_##field(PyObject *self, void *closure)                                \
	{                                                                                          \
		(void)closure;                                                                     \
		return PyLong_FromSize_t(((struct kvi_py_pool *)self)->field);                     \
	}

SIZE_GETTER(block_count)
SIZE_GETTER(block_len)
SIZE_GETTER(extent_count)

static PyObject *get_read_only(PyObject *self, void *closure)
{
	(void)closure;
	return PyBool_FromLong(((struct kvi_py_pool *)self)->read_only);
}

static PyObject *get_closed(PyObject *self, void *closure)
{
	(void)closure;
	return PyBool_FromLong(((struct kvi_py_pool *)self)->engine == NULL);
}

static PyObject *pool_repr(PyObject *self)
{
	struct kvi_py_pool *pool = (struct kvi_py_pool *)self;

	return PyUnicode_FromFormat("<kvtrans_engine.Pool: %zu x %zu blocks of %zu bytes%s%s>",
				    pool->extent_count, pool->block_count, pool->block_len,
				    pool->read_only ? ", read-only" : "",
				    pool->engine == NULL ? ", closed" : "");
}

KVI_PY_LOCKED_REPR(pool_repr)

/* ---- the type ---- */

static int pool_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct kvi_py_pool *pool = (struct kvi_py_pool *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(pool->backing);
	Py_VISIT(pool->arrays);
	Py_VISIT(pool->dtype);
	Py_VISIT(pool->shape);
	return 0;
}

static void pool_dealloc(PyObject *self)
{
	struct kvi_py_pool *pool = (struct kvi_py_pool *)self;
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	Py_CLEAR(pool->backing);
	Py_CLEAR(pool->arrays);
	Py_CLEAR(pool->dtype);
	Py_CLEAR(pool->shape);
	type->tp_free(self);
	Py_DECREF(type);
}

KVI_PY_LOCKED_GETTER(get_arrays)
KVI_PY_LOCKED_GETTER(get_closed)

static PyGetSetDef pool_getset[] = {
	{ "arrays", get_arrays_locked, NULL,
	  "What was registered, or ndarrays over memory that the engine allocated: a tuple, one "
	  "for\n"
	  "each extent.",
	  NULL },
	{ "block_count", get_block_count, NULL, "Blocks of an extent, the smallest one's.", NULL },
	{ "block_nbytes", get_block_len, NULL, "Bytes of a block.", NULL },
	{ "extent_count", get_extent_count, NULL, "Number of extents, each with these blocks.",
	  NULL },
	{ "read_only", get_read_only, NULL, "True when it can be no destination.", NULL },
	{ "closed", get_closed_locked, NULL, "True once it was closed, or its engine was.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

KVI_PY_LOCKED(pool_close)
KVI_PY_LOCKED(pool_enter)

static PyMethodDef pool_methods[] = {
	{ "close", pool_close_locked, METH_NOARGS,
	  "close($self)\n--\n\n"
	  "End its transfers, withdraw its exports, and let go of the memory, which nobody "
	  "touches\n"
	  "any more. ndarrays of allocated memory stay valid. May be called again." },
	{ "__enter__", pool_enter_locked, METH_NOARGS, "__enter__($self)\n--\n\nReturn the pool." },
	{ "__exit__", pool_close_locked, METH_VARARGS,
	  "__exit__($self, exc_type, exc_value, traceback)\n--\n\nClose the pool." },
	{ NULL, NULL, 0, NULL },
};

static const char pool_doc[] = "Blocks of memory that transfers go from and to, as register() and "
			       "allocate() return it.\n\n"
			       "It stays registered until it is closed, or its engine is; what was "
			       "registered is kept.";

static PyType_Slot pool_slots[] = {
	{ Py_tp_doc, (void *)pool_doc },
	{ Py_tp_dealloc, pool_dealloc },
	{ Py_tp_traverse, pool_traverse },
	{ Py_tp_repr, pool_repr_locked },
	{ Py_tp_getset, pool_getset },
	{ Py_tp_methods, pool_methods },
	{ 0, NULL },
};

PyType_Spec kvi_py_pool_spec = {
	.name = "kvtrans_engine.Pool",
	.basicsize = sizeof(struct kvi_py_pool),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
		 Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = pool_slots,
};
