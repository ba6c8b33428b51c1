/* SPDX-License-Identifier: Apache-2.0 */
/*
 * paged.c - starting paged transfers: blocks, spans, notifications. It never waits, and makes no
 * Python object for a block.
 *
 * As in kv.c, what may run Python code comes first, and pool and remote are looked at last. A call
 * with many blocks gives up the GIL while the library reads and plans them, and counts itself as a
 * user of both so long.
 */
#include "paged.h"

#include <string.h>

enum {
	MANY_BLOCKS = 4096,
	EXTENTS_FEW = 16,
};

/* What the calls have in common, as Python objects and then as the library wants it. */
struct start {
	struct kvi_py_conn *conn;
	PyObject *pool_object, *remote_object, *notify_object, *timeout, *extents_object;
	struct kvi_py_engine *engine; /* borrowed */
	struct kvi_py_pool *pool;
	struct kvi_py_remote *remote;
	enum kvi_py_kind kind;
	Py_buffer notify; /* buf is NULL: none */
	int64_t timeout_ns;
	struct kvi_py_indices indices;
	size_t *extents; /* owned unless it is few */
	size_t few[EXTENTS_FEW];
	size_t extent_count;
	PyObject *block_nbytes_object;
	size_t block_len; /* 0: that of the pool and the remote */
};

static void release(struct start *start)
{
	PyBuffer_Release(&start->notify);
	kvi_py_release_indices(&start->indices);
	if (start->extents != start->few)
		PyMem_Free(start->extents);
}

/* ---- arguments ---- */

static int parse_notify(PyObject *object, Py_buffer *notify)
{
	if (object == NULL || object == Py_None)
		return 0;
	if (PyUnicode_Check(object)) {
		PyErr_SetString(PyExc_TypeError, "a notification is bytes, not str: encode() it");
		return -1;
	}
	if (PyObject_GetBuffer(object, notify, PyBUF_SIMPLE) < 0)
		return -1;
	if (notify->len <= KVT_NOTIFY_LEN_MAX)
		return 0;
	PyErr_Format(PyExc_ValueError, "a notification has at most %d bytes, not %zd",
		     KVT_NOTIFY_LEN_MAX, notify->len);
	return -1;
}

/* The bytes of a notification, never NULL when there is one: in a request NULL means "none". */
static const void *get_notify(const Py_buffer *notify)
{
	static const char nothing;

	return notify->obj == NULL || notify->len > 0 ? notify->buf : &nothing;
}

static int parse_extents(struct start *start)
{
	PyObject *object = start->extents_object;

	start->extents = start->few;
	if (object == NULL || object == Py_None)
		return 0;
	PyObject *items = PyIndex_Check(object) ? PyTuple_Pack(1, object)
						: PySequence_Tuple(object);
	if (items == NULL)
		return -1;
	int rc = -1;
	start->extent_count = (size_t)PyTuple_GET_SIZE(items);
	if (start->extent_count == 0) {
		PyErr_SetString(PyExc_ValueError, "extents names none: leave it out for all");
		goto out_items;
	}
	if (start->extent_count > EXTENTS_FEW)
		start->extents = PyMem_Calloc(start->extent_count, sizeof(size_t));
	if (start->extents == NULL) {
		PyErr_SetString(PyExc_MemoryError, "no memory for the numbers of the extents");
		goto out_items;
	}
	rc = 0;
	for (size_t i = 0; i < start->extent_count && rc == 0; i++) {
		long long number;
		rc = kvi_py_parse_int(PyTuple_GET_ITEM(items, (Py_ssize_t)i), "an extent", 0,
				      KVT_EXTENTS_MAX - 1, &number);
		if (rc == 0)
			start->extents[i] = (size_t)number;
	}
out_items:
	Py_DECREF(items);
	return rc;
}

static int parse_block_nbytes(struct start *start)
{
	long long block_len;

	if (start->block_nbytes_object == NULL || start->block_nbytes_object == Py_None)
		return 0;
	if (kvi_py_parse_int(start->block_nbytes_object, "block_nbytes", 1, INT64_MAX, &block_len) <
	    0)
		return -1;
	start->block_len = (size_t)block_len;
	return 0;
}

static int parse_common(struct start *start)
{
	if (kvi_py_parse_seconds(start->timeout, "timeout", &start->timeout_ns) < 0 ||
	    parse_notify(start->notify_object, &start->notify) < 0 || parse_extents(start) < 0 ||
	    parse_block_nbytes(start) < 0)
		return -1;
	return 0;
}

/* Find engine, pool and remote, all open, and use them until leave(). */
static int enter(struct start *start)
{
	struct kvi_py_engine *engine;

	if (kvi_py_enter_conn(start->conn, &engine) < 0)
		return -1;
	start->pool = kvi_py_check_pool(engine, start->pool_object);
	start->remote =
		start->pool == NULL ? NULL : kvi_py_check_remote(start->conn, start->remote_object);
	if (start->remote == NULL) {
		kvi_py_leave_conn(start->conn, engine);
		return -1;
	}
	start->engine = engine;
	start->pool->users++;
	start->remote->users++;
	kvi_py_begin_start(engine);
	return 0;
}

static void leave(struct start *start)
{
	kvi_py_end_start(start->engine);
	kvi_py_leave_remote(start->remote);
	start->pool->users--;
	kvi_py_leave_conn(start->conn, start->engine);
}

/* ---- from a start call to a Transfer ---- */

static PyObject *make_paged(struct kvi_py_engine *engine, enum kvi_py_kind kind,
			    struct kvt_transfer *handle, const struct kvt_error *error)
{
	struct kvi_py_call call = {
		.engine = engine, .kind = kind, .handle = handle, .is_tracked = true
	};

	if (handle == NULL)
		call.error = *error;
	return kvi_py_make_transfer(&call);
}

/* The library names the first index that is wrong; one that is out of range is an IndexError. */
static PyObject *raise_index_error(const struct start *start, const struct kvt_error *error)
{
	struct kvt_remote_info info = KVT_REMOTE_INFO_INIT;

	if (error->code != KVT_E_INVALID ||
	    kvt_remote_get_info(start->remote->handle, &info) != KVT_OK)
		return NULL;
	size_t local_count = start->pool->block_count, remote_count = info.block_count;
	if (start->block_len != 0) {
		local_count = local_count * start->pool->block_len / start->block_len;
		remote_count = remote_count * info.block_len / start->block_len;
	}
	if (local_count == 0 || remote_count == 0 ||
	    !kvi_py_is_outside(&start->indices, local_count, remote_count))
		return NULL;
	PyErr_SetString(PyExc_IndexError, error->text);
	return NULL;
}

static PyObject *start_blocks(struct start *start)
{
	struct kvt_blocks_request request = KVT_BLOCKS_REQUEST_INIT;
	struct kvt_transfer *handle = NULL;
	struct kvt_error error = { 0 };
	PyThreadState *thread = NULL;

	request.direction = start->kind == KVI_PY_READ ? KVT_READ : KVT_WRITE;
	request.pool = start->pool->backing->handle;
	request.remote = start->remote->handle;
	request.local_idx = start->indices.data[0];
	request.remote_idx = start->indices.data[1];
	request.index_len = start->indices.item_len;
	request.count = start->indices.count;
	request.extents = start->extent_count > 0 ? start->extents : NULL;
	request.extent_count = start->extent_count;
	request.notify = get_notify(&start->notify);
	request.notify_len = (size_t)start->notify.len;
	request.timeout_ns = start->timeout_ns;
	request.reap = true;
	request.block_len = start->block_len;
	size_t extent_count = start->extent_count > 0 ? start->extent_count
						      : start->pool->extent_count;
	if (request.count * extent_count >= MANY_BLOCKS)
		thread = PyEval_SaveThread();
	enum kvt_err err = kvt_blocks_start(&request, &handle, &error);
	if (thread != NULL)
		PyEval_RestoreThread(thread);
	if (err != KVT_OK)
		raise_index_error(start, &error);
	return PyErr_Occurred() ? NULL : make_paged(start->engine, start->kind, handle, &error);
}

static PyObject *move_blocks(PyObject *self, PyObject *args, PyObject *kwargs, const char *format,
			     enum kvi_py_kind kind)
{
	static char *names[] = { "pool",    "local_idx", "remote",	 "remote_idx", "notify",
				 "timeout", "extents",	 "block_nbytes", NULL };
	struct start start = { .conn = (struct kvi_py_conn *)self, .kind = kind };
	PyObject *local, *remote, *transfer = NULL;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &start.pool_object, &local,
					 &start.remote_object, &remote, &start.notify_object,
					 &start.timeout, &start.extents_object,
					 &start.block_nbytes_object))
		return NULL;
	if (parse_common(&start) == 0 && kvi_py_get_blocks(local, remote, &start.indices) == 0 &&
	    enter(&start) == 0) {
		transfer = start_blocks(&start);
		leave(&start);
	}
	release(&start);
	return transfer;
}

PyObject *kvi_py_write_blocks(PyObject *self, PyObject *args, PyObject *kwargs)
{
	return move_blocks(self, args, kwargs, "OOOO|OOOO:write_blocks", KVI_PY_WRITE);
}

PyObject *kvi_py_read_blocks(PyObject *self, PyObject *args, PyObject *kwargs)
{
	return move_blocks(self, args, kwargs, "OOOO|OOOO:read_blocks", KVI_PY_READ);
}

/* Spans of each part's pool and remote; in all so many. */
static PyObject *start_parts(const struct start *start, const struct kvt_part *parts, size_t count,
			     size_t span_count)
{
	struct kvt_parts_request request = KVT_PARTS_REQUEST_INIT;
	struct kvt_transfer *handle = NULL;
	struct kvt_error error = { 0 };
	PyThreadState *thread = NULL;

	request.direction = start->kind == KVI_PY_READ ? KVT_READ : KVT_WRITE;
	request.parts = parts;
	request.part_count = count;
	request.notify = get_notify(&start->notify);
	request.notify_len = (size_t)start->notify.len;
	request.timeout_ns = start->timeout_ns;
	request.reap = true;
	if (span_count >= MANY_BLOCKS)
		thread = PyEval_SaveThread();
	(void)kvt_parts_start(&request, &handle, &error);
	if (thread != NULL)
		PyEval_RestoreThread(thread);
	return make_paged(start->engine, start->kind, handle, &error);
}

static struct kvt_part make_part(const struct kvi_py_pool *pool, const struct kvi_py_remote *remote,
				 const struct kvi_py_indices *indices)
{
	return (struct kvt_part){
		.pool = pool->backing->handle,
		.remote = remote->handle,
		.local_off = indices->data[0],
		.remote_off = indices->data[1],
		.lens = indices->data[2],
		.count = indices->count,
	};
}

static PyObject *move_spans(PyObject *self, PyObject *args, PyObject *kwargs, const char *format,
			    enum kvi_py_kind kind)
{
	static char *names[] = { "pool",   "local_off", "remote",  "remote_off",
				 "nbytes", "notify",	"timeout", NULL };
	struct start start = { .conn = (struct kvi_py_conn *)self, .kind = kind };
	PyObject *spans[3], *transfer = NULL;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &start.pool_object, &spans[0],
					 &start.remote_object, &spans[1], &spans[2],
					 &start.notify_object, &start.timeout))
		return NULL;
	if (parse_common(&start) == 0 && kvi_py_get_spans(spans, &start.indices) == 0 &&
	    enter(&start) == 0) {
		struct kvt_part part = make_part(start.pool, start.remote, &start.indices);
		transfer = start_parts(&start, &part, 1, part.count);
		leave(&start);
	}
	release(&start);
	return transfer;
}

PyObject *kvi_py_write_spans(PyObject *self, PyObject *args, PyObject *kwargs)
{
	return move_spans(self, args, kwargs, "OOOOO|OO:write_spans", KVI_PY_WRITE);
}

PyObject *kvi_py_read_spans(PyObject *self, PyObject *args, PyObject *kwargs)
{
	return move_spans(self, args, kwargs, "OOOOO|OO:read_spans", KVI_PY_READ);
}

/* ---- parts ---- */

/* A part as Python objects, which item keeps. */
struct part {
	PyObject *item; /* tuple */
	struct kvi_py_pool *pool;
	struct kvi_py_remote *remote;
	struct kvi_py_indices indices;
};

struct parts {
	struct start start; /* without pool and remote */
	struct part *list;
	struct kvt_part *request;
	size_t count;	/* of them that were read */
	size_t entered; /* of them whose pool and remote are in use */
	size_t span_count;
};

static int read_part(PyObject *object, struct part *part)
{
	PyObject *pool, *remote, *spans[3];

	part->item = PySequence_Tuple(object);
	if (part->item == NULL ||
	    !PyArg_ParseTuple(part->item,
			      "OOOOO;a part is (pool, local_off, remote, remote_off, nbytes)",
			      &pool, &spans[0], &remote, &spans[1], &spans[2]))
		return -1;
	return kvi_py_get_spans(spans, &part->indices);
}

static int read_parts(struct parts *parts, PyObject *object)
{
	PyObject *items = PySequence_Tuple(object);
	int rc = 0;

	if (items == NULL)
		return -1;
	size_t count = (size_t)PyTuple_GET_SIZE(items);
	parts->list = PyMem_Calloc(count + 1, sizeof(parts->list[0]));
	parts->request = PyMem_Calloc(count + 1, sizeof(parts->request[0]));
	if (parts->list == NULL || parts->request == NULL) {
		PyErr_SetString(PyExc_MemoryError, "no memory for the parts");
		rc = -1;
	}
	while (parts->count < count && rc == 0) {
		PyObject *item = PyTuple_GET_ITEM(items, (Py_ssize_t)parts->count);
		rc = read_part(item, &parts->list[parts->count++]);
	}
	Py_DECREF(items);
	return rc;
}

/* Use all pools and remotes until leave_parts(). */
static int enter_parts(struct parts *parts)
{
	struct start *start = &parts->start;
	struct kvi_py_engine *engine;

	if (kvi_py_enter_conn(start->conn, &engine) < 0)
		return -1;
	start->engine = engine;
	kvi_py_begin_start(engine);
	/* That may run Python code, which may close a pool and wait for its users: before we are one. */
	for (size_t i = 0; i < parts->count; i++)
		if (kvi_py_check_pool(engine, PyTuple_GET_ITEM(parts->list[i].item, 0)) == NULL)
			return -1;
	while (parts->entered < parts->count) {
		struct part *part = &parts->list[parts->entered];
		struct kvi_py_pool *pool = (struct kvi_py_pool *)PyTuple_GET_ITEM(part->item, 0);
		if (pool->engine != engine) {
			PyErr_SetString(PyExc_ValueError, "pool is closed");
			return -1;
		}
		struct kvi_py_remote *remote =
			kvi_py_check_remote(start->conn, PyTuple_GET_ITEM(part->item, 2));
		if (remote == NULL)
			return -1;
		part->pool = pool;
		part->remote = remote;
		pool->users++;
		remote->users++;
		parts->request[parts->entered++] = make_part(pool, remote, &part->indices);
		parts->span_count += part->indices.count;
	}
	return 0;
}

static void leave_parts(struct parts *parts)
{
	struct start *start = &parts->start;

	if (start->engine != NULL) {
		kvi_py_end_start(start->engine);
		for (size_t i = 0; i < parts->entered; i++) {
			kvi_py_leave_remote(parts->list[i].remote);
			parts->list[i].pool->users--;
		}
		kvi_py_leave_conn(start->conn, start->engine);
	}
	for (size_t i = 0; i < parts->count; i++) {
		kvi_py_release_indices(&parts->list[i].indices);
		Py_XDECREF(parts->list[i].item);
	}
	PyMem_Free(parts->list);
	PyMem_Free(parts->request);
	release(start);
}

static PyObject *move_parts(PyObject *self, PyObject *args, PyObject *kwargs, const char *format,
			    enum kvi_py_kind kind)
{
	static char *names[] = { "parts", "notify", "timeout", NULL };
	struct parts parts = { .start = { .conn = (struct kvi_py_conn *)self, .kind = kind } };
	PyObject *object, *transfer = NULL;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &object,
					 &parts.start.notify_object, &parts.start.timeout))
		return NULL;
	if (parse_common(&parts.start) == 0 && read_parts(&parts, object) == 0 &&
	    enter_parts(&parts) == 0)
		transfer = start_parts(&parts.start, parts.request, parts.count, parts.span_count);
	leave_parts(&parts);
	return transfer;
}

PyObject *kvi_py_write_parts(PyObject *self, PyObject *args, PyObject *kwargs)
{
	return move_parts(self, args, kwargs, "O|OO:write_parts", KVI_PY_WRITE);
}

PyObject *kvi_py_read_parts(PyObject *self, PyObject *args, PyObject *kwargs)
{
	return move_parts(self, args, kwargs, "O|OO:read_parts", KVI_PY_READ);
}

/* ---- notifications alone ---- */

/* The code of an exception object; what is none of ours is an internal error to the peer. */
static int get_code(PyObject *failure, enum kvt_err *err)
{
	*err = KVT_OK;
	if (failure == Py_None)
		return 0;
	if (!PyExceptionInstance_Check(failure)) {
		PyErr_Format(PyExc_TypeError,
			     "error must be an exception object or None, not %.200s",
			     Py_TYPE(failure)->tp_name);
		return -1;
	}
	PyObject *code = PyObject_GetAttrString(failure, "code");
	long number = code == NULL || !PyLong_Check(code) ? 0 : PyLong_AsLong(code);
	PyErr_Clear();
	Py_XDECREF(code);
	bool is_ours = number < 0 && number > INT32_MIN &&
		       kvt_err_get_scope((enum kvt_err)number) != KVT_SCOPE_NONE;
	*err = is_ours ? (enum kvt_err)number : KVT_E_INTERNAL;
	return 0;
}

PyObject *kvi_py_notify(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "data", "timeout", "error", NULL };
	struct kvi_py_conn *conn = (struct kvi_py_conn *)self;
	struct kvt_notify_request request = KVT_NOTIFY_REQUEST_INIT;
	struct kvt_transfer *handle = NULL;
	struct kvt_error error = { 0 };
	struct kvi_py_engine *engine;
	Py_buffer notify = { .obj = NULL };
	PyObject *data, *timeout = NULL, *failure = Py_None, *transfer = NULL;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OO:notify", names, &data, &timeout,
					 &failure) ||
	    kvi_py_parse_seconds(timeout, "timeout", &request.timeout_ns) < 0 ||
	    get_code(failure, &request.err) < 0)
		return NULL;
	if (data == Py_None) {
		PyErr_SetString(PyExc_TypeError, "a notification is bytes, not None");
		return NULL;
	}
	if (parse_notify(data, &notify) == 0 && kvi_py_enter_conn(conn, &engine) == 0) {
		request.conn = conn->handle;
		request.notify = get_notify(&notify);
		request.notify_len = (size_t)notify.len;
		request.reap = true;
		(void)kvt_notify_start(&request, &handle, &error);
		transfer = make_paged(engine, KVI_PY_NOTIFY, handle, &error);
		kvi_py_leave_conn(conn, engine);
	}
	PyBuffer_Release(&notify);
	return transfer;
}
