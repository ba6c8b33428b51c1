/* SPDX-License-Identifier: Apache-2.0 */
/*
 * remote.c - what one side lets the other see: exports, which are a connection's and stand for
 * nothing but their descriptor, and the type Remote. It moves no data.
 */
#include "paged.h"

#include <string.h>

/* ---- exports ---- */

static int export_traverse(PyObject *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(((struct kvi_py_export *)self)->pool);
	return 0;
}

static void export_dealloc(PyObject *self)
{
	struct kvi_py_export *exported = (struct kvi_py_export *)self;
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	if (!kvi_py_is_forked(exported->owner)) {
		PyThreadState *thread = kvi_py_begin_close();
		kvt_export_close(exported->handle);
		kvt_offer_close(exported->offer);
		kvi_py_end_close(thread);
	}
	Py_CLEAR(exported->pool);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyType_Slot export_slots[] = {
	{ Py_tp_dealloc, export_dealloc },
	{ Py_tp_traverse, export_traverse },
	{ 0, NULL },
};

PyType_Spec kvi_py_export_spec = {
	.name = "kvtrans_engine._kvtrans.Export",
	.basicsize = sizeof(struct kvi_py_export),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
		 Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = export_slots,
};

static int parse_access(const char *text, unsigned *access)
{
	*access = 0;
	for (const char *next = text; *next != '\0'; next++) {
		if (*next == 'r')
			*access |= KVT_ACCESS_READ;
		else if (*next == 'w')
			*access |= KVT_ACCESS_WRITE;
		else
			*access = ~0U;
	}
	if (*access != 0 && *access <= (KVT_ACCESS_READ | KVT_ACCESS_WRITE))
		return 0;
	PyErr_Format(PyExc_ValueError, "access must be 'r', 'w' or 'rw', not '%.20s'", text);
	return -1;
}

/* One that is not open yet. */
static struct kvi_py_export *new_export(struct kvi_py_engine *engine, struct kvi_py_pool *pool)
{
	PyTypeObject *type = kvi_py_get_state((PyObject *)engine)->export_type;
	struct kvi_py_export *exported = (struct kvi_py_export *)type->tp_alloc(type, 0);

	if (exported == NULL)
		return NULL;
	exported->owner = engine->owner;
	exported->pool = Py_NewRef((PyObject *)pool);
	return exported;
}

/* Close the export that a table has under key. unknown: what to say when it has none. */
static bool drop_export(PyObject *table, PyObject *key, const char *unknown)
{
	PyObject *exported = Py_XNewRef(PyDict_GetItemWithError(table, key));
	bool is_known = exported != NULL && PyDict_DelItem(table, key) == 0;

	Py_XDECREF(exported); /* closed here */
	if (!is_known && !PyErr_Occurred())
		PyErr_Format(PyExc_ValueError, unknown, key);
	return is_known;
}

static PyObject *make_descriptor(struct kvi_py_state *state, const struct kvt_export *exported)
{
	struct kvt_error error = { 0 };
	size_t len = 0;

	error.code = kvt_export_describe(exported, NULL, &len);
	PyObject *bytes = error.code != KVT_OK ? NULL
					       : PyBytes_FromStringAndSize(NULL, (Py_ssize_t)len);
	if (bytes != NULL)
		error.code = kvt_export_describe(exported, PyBytes_AS_STRING(bytes), &len);
	if (error.code != KVT_OK) {
		kvi_py_raise(state, &error, 0);
		Py_CLEAR(bytes);
	}
	return bytes;
}

/* Put an open export among its connection's: the descriptor. */
static PyObject *keep_export(struct kvi_py_conn *conn, struct kvi_py_export *exported,
			     const struct kvi_py_pool *pool)
{
	struct kvi_py_state *state = kvi_py_get_state((PyObject *)conn);

	if (conn->closed || pool->engine == NULL) {
		struct kvt_error error = { KVT_E_CLOSED, 0,
					   "the connection or the pool was closed meanwhile" };
		kvi_py_raise(state, &error, 0);
		return NULL;
	}
	PyObject *bytes = make_descriptor(state, exported->handle);
	if (bytes != NULL && PyDict_SetItem(conn->exports, bytes, (PyObject *)exported) < 0)
		Py_CLEAR(bytes);
	return bytes;
}

PyObject *kvi_py_export(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "pool", "access", "name", NULL };
	struct kvi_py_conn *conn = (struct kvi_py_conn *)self;
	struct kvi_py_state *state = kvi_py_get_state(self);
	struct kvi_py_engine *engine;
	struct kvt_error error = { 0 };
	PyObject *pool_object, *bytes = NULL;
	const char *access_text = "rw", *name = NULL;
	unsigned access;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|sz:export", names, &pool_object,
					 &access_text, &name) ||
	    parse_access(access_text, &access) < 0 || kvi_py_enter_conn(conn, &engine) < 0)
		return NULL;
	struct kvi_py_pool *pool = kvi_py_check_pool(engine, pool_object);
	if (pool == NULL)
		goto out_conn;
	struct kvi_py_export *exported = new_export(engine, pool);
	if (exported == NULL)
		goto out_conn;
	pool->users++;
	PyThreadState *thread = PyEval_SaveThread();
	enum kvt_err err = kvt_export_open(conn->handle, pool->backing->handle, access, name,
					   &exported->handle, &error);
	PyEval_RestoreThread(thread);
	pool->users--;
	if (err != KVT_OK)
		kvi_py_raise(state, &error, 0);
	else
		bytes = keep_export(conn, exported, pool);
	Py_DECREF(exported);
out_conn:
	kvi_py_leave_conn(conn, engine);
	return bytes;
}

/* ---- offers ---- */

PyObject *kvi_py_offer(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "pool", "name", "access", NULL };
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	struct kvi_py_state *state = kvi_py_get_state(self);
	struct kvt_error error = { 0 };
	PyObject *pool_object, *name_object;
	const char *access_text = "rw", *name;
	Py_ssize_t name_len;
	unsigned access;
	int rc = -1;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OU|s:export", names, &pool_object,
					 &name_object, &access_text) ||
	    parse_access(access_text, &access) < 0)
		return NULL;
	name = PyUnicode_AsUTF8AndSize(name_object, &name_len);
	if (name == NULL || kvi_py_enter(engine) < 0)
		return NULL;
	struct kvi_py_pool *pool = kvi_py_check_pool(engine, pool_object);
	struct kvi_py_export *exported = NULL;
	if (pool != NULL && strlen(name) != (size_t)name_len)
		PyErr_SetString(PyExc_ValueError, "a name has no null character");
	else if (pool != NULL)
		exported = new_export(engine, pool);
	if (exported == NULL)
		goto out_engine;
	pool->users++;
	PyThreadState *thread = PyEval_SaveThread();
	enum kvt_err err = kvt_offer_open(engine->handle, pool->backing->handle, access, name,
					  &exported->offer, &error);
	PyEval_RestoreThread(thread);
	pool->users--;
	if (err == KVT_OK && (engine->closed || pool->engine == NULL)) {
		err = KVT_E_CLOSED;
		error = (struct kvt_error){ err, 0, "the engine or the pool was closed meanwhile" };
	}
	if (err != KVT_OK)
		kvi_py_raise(state, &error, 0);
	else
		rc = PyDict_SetItem(engine->offers, name_object, (PyObject *)exported);
	Py_DECREF(exported);
out_engine:
	kvi_py_leave(engine);
	return rc < 0 ? NULL : Py_NewRef(Py_None);
}

PyObject *kvi_py_withdraw_offer(PyObject *self, PyObject *what)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	bool is_pool = Py_IS_TYPE(what, kvi_py_get_state(self)->pool_type);
	bool is_known = true;

	if (!is_pool && !PyUnicode_Check(what)) {
		PyErr_Format(PyExc_TypeError, "withdraw() takes a name (str) or a Pool, not %.200s",
			     Py_TYPE(what)->tp_name);
		return NULL;
	}
	if (kvi_py_enter(engine) < 0)
		return NULL;
	if (is_pool)
		kvi_py_drop_exports(engine->offers, what);
	else
		is_known = drop_export(engine->offers, what, "nothing is exported to all as %R");
	kvi_py_leave(engine);
	return is_known ? Py_NewRef(Py_None) : NULL;
}

PyObject *kvi_py_withdraw(PyObject *self, PyObject *what)
{
	struct kvi_py_conn *conn = (struct kvi_py_conn *)self;
	struct kvi_py_engine *engine;
	bool is_known = true;

	if (kvi_py_enter_conn(conn, &engine) < 0)
		return NULL;
	if (Py_IS_TYPE(what, kvi_py_get_state(self)->pool_type)) {
		kvi_py_drop_exports(conn->exports, what);
	} else if (!PyBytes_Check(what)) {
		PyErr_Format(PyExc_TypeError,
			     "withdraw() takes a descriptor (bytes) or a Pool, not %.200s",
			     Py_TYPE(what)->tp_name);
		is_known = false;
	} else {
		is_known = drop_export(conn->exports, what,
				       "no export of this connection has this descriptor");
	}
	kvi_py_leave_conn(conn, engine);
	return is_known ? Py_NewRef(Py_None) : NULL;
}

/* ---- the type Remote ---- */

static void close_remote(struct kvi_py_remote *remote)
{
	struct kvt_remote *handle = remote->handle;

	remote->closed = true;
	if (remote->users > 0 || handle == NULL)
		return;
	remote->handle = NULL;
	if (!kvi_py_is_forked(remote->owner))
		kvt_remote_close(handle);
}

void kvi_py_leave_remote(struct kvi_py_remote *remote)
{
	if (--remote->users == 0 && remote->closed)
		close_remote(remote);
}

struct kvi_py_remote *kvi_py_check_remote(struct kvi_py_conn *conn, PyObject *object)
{
	struct kvi_py_remote *remote = (struct kvi_py_remote *)object;

	if (!Py_IS_TYPE(object, kvi_py_get_state((PyObject *)conn)->remote_type)) {
		PyErr_Format(PyExc_TypeError, "remote must be a Remote, not %.200s",
			     Py_TYPE(object)->tp_name);
		return NULL;
	}
	if (remote->closed) {
		PyErr_SetString(PyExc_ValueError, "remote is closed");
		return NULL;
	}
	if (remote->conn != (PyObject *)conn) {
		PyErr_SetString(PyExc_ValueError, "remote is one of another connection");
		return NULL;
	}
	return remote;
}

static int remote_traverse(PyObject *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(((struct kvi_py_remote *)self)->conn);
	return 0;
}

static void remote_dealloc(PyObject *self)
{
	struct kvi_py_remote *remote = (struct kvi_py_remote *)self;
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	close_remote(remote);
	Py_CLEAR(remote->conn);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyObject *remote_close(PyObject *self, PyObject *args)
{
	(void)args;
	close_remote((struct kvi_py_remote *)self);
	Py_RETURN_NONE;
}

static PyObject *remote_enter(PyObject *self, PyObject *args)
{
	(void)args;
	if (!((struct kvi_py_remote *)self)->closed)
		return Py_NewRef(self);
	PyErr_SetString(PyExc_ValueError, "remote is closed");
	return NULL;
}

static int get_info(PyObject *self, struct kvt_remote_info *info)
{
	struct kvi_py_remote *remote = (struct kvi_py_remote *)self;
	struct kvt_error error = { 0 };

	*info = (struct kvt_remote_info)KVT_REMOTE_INFO_INIT;
	if (remote->closed) {
		PyErr_SetString(PyExc_ValueError, "remote is closed");
		return -1;
	}
	error.code = kvi_py_is_forked(remote->owner) ? KVT_E_FORKED
						     : kvt_remote_get_info(remote->handle, info);
	if (error.code == KVT_OK)
		return 0;
	kvi_py_raise(kvi_py_get_state(self), &error, 0);
	return -1;
}

#define INFO_GETTER(name, value)                                                                   \
	static PyObject *get_##name(PyObject *self, void *closure)                                 \
	{                                                                                          \
		struct kvt_remote_info info;                                                       \
		(void)closure;                                                                     \
		return get_info(self, &info) < 0 ? NULL : (value);                                 \
	}

INFO_GETTER(block_count, PyLong_FromSize_t(info.block_count))
INFO_GETTER(block_nbytes, PyLong_FromSize_t(info.block_len))
INFO_GETTER(extent_count, PyLong_FromSize_t(info.extent_count))
INFO_GETTER(nbytes, PyLong_FromUnsignedLongLong(info.len))
INFO_GETTER(withdrawn, PyBool_FromLong(info.withdrawn))
INFO_GETTER(access, PyUnicode_FromFormat("%s%s", (info.access & KVT_ACCESS_READ) != 0 ? "r" : "",
					 (info.access & KVT_ACCESS_WRITE) != 0 ? "w" : ""))

static PyObject *get_conn(PyObject *self, void *closure)
{
	(void)closure;
	return Py_NewRef(((struct kvi_py_remote *)self)->conn);
}

static PyObject *get_closed(PyObject *self, void *closure)
{
	(void)closure;
	return PyBool_FromLong(((struct kvi_py_remote *)self)->closed);
}

static PyObject *remote_repr(PyObject *self)
{
	struct kvi_py_remote *remote = (struct kvi_py_remote *)self;
	struct kvt_remote_info info;

	if (remote->closed || kvi_py_is_forked(remote->owner))
		return PyUnicode_FromString("<kvtrans_engine.Remote, closed>");
	if (get_info(self, &info) < 0)
		return NULL;
	return PyUnicode_FromFormat("<kvtrans_engine.Remote: %zu x %zu blocks of %zu bytes%s>",
				    info.extent_count, info.block_count, info.block_len,
				    info.withdrawn ? ", withdrawn" : "");
}

KVI_PY_LOCKED_REPR(remote_repr)
KVI_PY_LOCKED_GETTER(get_block_count)
KVI_PY_LOCKED_GETTER(get_block_nbytes)
KVI_PY_LOCKED_GETTER(get_extent_count)
KVI_PY_LOCKED_GETTER(get_nbytes)
KVI_PY_LOCKED_GETTER(get_access)
KVI_PY_LOCKED_GETTER(get_withdrawn)
KVI_PY_LOCKED_GETTER(get_closed)

static PyGetSetDef remote_getset[] = {
	{ "block_count", get_block_count_locked, NULL, "Blocks of an extent, the smallest one's.",
	  NULL },
	{ "block_nbytes", get_block_nbytes_locked, NULL, "Bytes of a block.", NULL },
	{ "extent_count", get_extent_count_locked, NULL,
	  "Number of extents, each with these blocks.", NULL },
	{ "nbytes", get_nbytes_locked, NULL, "Bytes of all extents: the space of spans.", NULL },
	{ "access", get_access_locked, NULL, "What the peer allows: 'r', 'w' or 'rw'.", NULL },
	{ "withdrawn", get_withdrawn_locked, NULL,
	  "True once the peer is known to have withdrawn it.", NULL },
	{ "conn", get_conn, NULL, "The Connection it is of.", NULL },
	{ "closed", get_closed_locked, NULL, "True once it was closed.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

KVI_PY_LOCKED(remote_close)
KVI_PY_LOCKED(remote_enter)

static PyMethodDef remote_methods[] = {
	{ "close", remote_close_locked, METH_NOARGS,
	  "close($self)\n--\n\nForget it. Transfers that use it go on. May be called again." },
	{ "__enter__", remote_enter_locked, METH_NOARGS,
	  "__enter__($self)\n--\n\nReturn the remote." },
	{ "__exit__", remote_close_locked, METH_VARARGS,
	  "__exit__($self, exc_type, exc_value, traceback)\n--\n\nClose the remote." },
	{ NULL, NULL, 0, NULL },
};

static const char remote_doc[] = "Blocks of the peer, as import_remote() and remote() return "
				 "it.\n\n"
				 "It is the peer's pool as far as the peer exported it, and until "
				 "it is withdrawn.";

static PyType_Slot remote_slots[] = {
	{ Py_tp_doc, (void *)remote_doc },
	{ Py_tp_dealloc, remote_dealloc },
	{ Py_tp_traverse, remote_traverse },
	{ Py_tp_repr, remote_repr_locked },
	{ Py_tp_getset, remote_getset },
	{ Py_tp_methods, remote_methods },
	{ 0, NULL },
};

PyType_Spec kvi_py_remote_spec = {
	.name = "kvtrans_engine.Remote",
	.basicsize = sizeof(struct kvi_py_remote),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
		 Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = remote_slots,
};

/* ---- importing ---- */

/* One without a handle. */
static struct kvi_py_remote *make_remote(struct kvi_py_conn *conn)
{
	PyTypeObject *type = kvi_py_get_state((PyObject *)conn)->remote_type;
	struct kvi_py_remote *remote = (struct kvi_py_remote *)type->tp_alloc(type, 0);

	if (remote == NULL)
		return NULL;
	remote->conn = Py_NewRef((PyObject *)conn);
	remote->owner = conn->owner;
	return remote;
}

/* What is asked for: one of desc and name. */
struct question {
	Py_buffer desc;
	const char *name;
	int64_t timeout_ns;
};

static PyObject *ask_peer(struct kvi_py_conn *conn, const struct question *question)
{
	struct kvi_py_state *state = kvi_py_get_state((PyObject *)conn);
	struct kvt_error error = { 0 };
	struct kvi_py_engine *engine;
	enum kvt_err err;

	struct kvi_py_remote *remote = make_remote(conn);
	if (remote == NULL)
		return NULL;
	if (kvi_py_enter_conn(conn, &engine) < 0)
		goto err_remote;
	PyThreadState *thread = kvi_py_begin_wait(&conn->closed);
	if (question->name != NULL)
		err = kvt_remote_find(conn->handle, question->name, question->timeout_ns,
				      &remote->handle, &error);
	else
		err = kvt_remote_import(conn->handle, question->desc.buf,
					(size_t)question->desc.len, question->timeout_ns,
					&remote->handle, &error);
	kvi_py_end_wait(thread);
	if (conn->closed && !PyErr_Occurred())
		error = (struct kvt_error){ KVT_E_CLOSED, 0,
					    "the connection was closed meanwhile" };
	if (!PyErr_Occurred() && (err != KVT_OK || conn->closed))
		kvi_py_raise(state, &error, 0);
	kvi_py_leave_conn(conn, engine);
	if (!PyErr_Occurred())
		return (PyObject *)remote;

err_remote:
	Py_DECREF(remote);
	return NULL;
}

/* The same as a Transfer, which ends with it. */
static PyObject *start_asking(struct kvi_py_conn *conn, const struct question *question)
{
	struct kvt_import_request request = KVT_IMPORT_REQUEST_INIT;
	struct kvi_py_call call = { .kind = KVI_PY_IMPORT, .is_tracked = true };

	call.remote = (PyObject *)make_remote(conn);
	if (call.remote == NULL || kvi_py_enter_conn(conn, &call.engine) < 0) {
		Py_XDECREF(call.remote);
		return NULL;
	}
	request.conn = conn->handle;
	request.name = question->name;
	request.bytes = question->name == NULL ? question->desc.buf : NULL;
	request.len = question->name == NULL ? (size_t)question->desc.len : 0;
	request.timeout_ns = question->timeout_ns;
	request.reap = true;
	kvt_import_start(&request, &call.handle, &call.error);
	PyObject *transfer = kvi_py_make_transfer(&call);
	kvi_py_leave_conn(conn, call.engine);
	return transfer;
}

typedef PyObject *(*asking)(struct kvi_py_conn *conn, const struct question *question);

static PyObject *import_by(asking ask, PyObject *self, PyObject *args, PyObject *kwargs,
			   const char *format)
{
	static char *names[] = { "desc", "timeout", NULL };
	struct question question = { .name = NULL };
	PyObject *timeout = NULL;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &question.desc, &timeout))
		return NULL;
	PyObject *result = kvi_py_parse_seconds(timeout, "timeout", &question.timeout_ns) < 0
				   ? NULL
				   : ask((struct kvi_py_conn *)self, &question);
	PyBuffer_Release(&question.desc);
	return result;
}

static PyObject *find_by(asking ask, PyObject *self, PyObject *args, PyObject *kwargs,
			 const char *format)
{
	static char *names[] = { "name", "timeout", NULL };
	struct question question = { .name = NULL };
	PyObject *timeout = NULL;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &question.name, &timeout) ||
	    kvi_py_parse_seconds(timeout, "timeout", &question.timeout_ns) < 0)
		return NULL;
	return ask((struct kvi_py_conn *)self, &question);
}

PyObject *kvi_py_import_remote(PyObject *self, PyObject *args, PyObject *kwargs)
{
	return import_by(ask_peer, self, args, kwargs, "y*|O:import_remote");
}

PyObject *kvi_py_import_async(PyObject *self, PyObject *args, PyObject *kwargs)
{
	return import_by(start_asking, self, args, kwargs, "y*|O:import_async");
}

PyObject *kvi_py_find_remote(PyObject *self, PyObject *args, PyObject *kwargs)
{
	return find_by(ask_peer, self, args, kwargs, "s|O:remote");
}

PyObject *kvi_py_remote_async(PyObject *self, PyObject *args, PyObject *kwargs)
{
	return find_by(start_asking, self, args, kwargs, "s|O:remote_async");
}
