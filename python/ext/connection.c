/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connection.c - the type Connection: its attributes, and its methods with their documentation. It moves no
 * data: paged.c and remote.c do.
 */
#include "paged.h"

#include <stddef.h>
#include <structmember.h>

/* ---- attributes ---- */

static PyObject *get_id(PyObject *self, void *closure)
{
	(void)closure;
	return Py_NewRef(((struct kvi_py_conn *)self)->id);
}

static PyObject *get_closed(PyObject *self, void *closure)
{
	struct kvi_py_conn *conn = (struct kvi_py_conn *)self;

	(void)closure;
	return PyBool_FromLong(conn->engine == NULL || conn->engine->closed);
}

static PyObject *get_host(PyObject *self, void *closure)
{
	struct kvi_py_conn *conn = (struct kvi_py_conn *)self;

	(void)closure;
	return kvi_py_is_usable(conn) ? PyUnicode_FromString(kvt_conn_get_host(conn->handle))
				      : NULL;
}

static PyObject *get_port(PyObject *self, void *closure)
{
	struct kvi_py_conn *conn = (struct kvi_py_conn *)self;

	(void)closure;
	return kvi_py_is_usable(conn) ? PyLong_FromLong(kvt_conn_get_port(conn->handle)) : NULL;
}

static PyObject *get_key_id(PyObject *self, void *closure)
{
	struct kvi_py_conn *conn = (struct kvi_py_conn *)self;

	(void)closure;
	return kvi_py_is_usable(conn) ? PyUnicode_FromString(kvt_conn_get_key_id(conn->handle))
				      : NULL;
}

static PyObject *get_peer_identity(PyObject *self, void *closure)
{
	struct kvi_py_conn *conn = (struct kvi_py_conn *)self;
	size_t len;

	(void)closure;
	if (!kvi_py_is_usable(conn))
		return NULL;
	const char *identity = kvt_conn_get_peer_identity(conn->handle, &len);
	return PyBytes_FromStringAndSize(identity, (Py_ssize_t)len);
}

static PyObject *get_lost(PyObject *self, void *closure)
{
	(void)closure;
	return kvi_py_get_lost((struct kvi_py_conn *)self);
}

static PyObject *get_engine(PyObject *self, void *closure)
{
	struct kvi_py_conn *conn = (struct kvi_py_conn *)self;

	(void)closure;
	if (!kvi_py_is_usable(conn))
		return NULL;
	struct kvi_py_engine *engine = kvi_py_ref_engine(conn->engine);
	if (engine == NULL)
		PyErr_SetString(PyExc_ValueError, "connection is closed");
	return (PyObject *)engine;
}

KVI_PY_LOCKED_GETTER(get_engine)
KVI_PY_LOCKED_GETTER(get_host)
KVI_PY_LOCKED_GETTER(get_port)
KVI_PY_LOCKED_GETTER(get_key_id)
KVI_PY_LOCKED_GETTER(get_peer_identity)
KVI_PY_LOCKED_GETTER(get_closed)
KVI_PY_LOCKED_GETTER(get_lost)

static PyGetSetDef conn_getset[] = {
	{ "id", get_id, NULL, "The id, as connect() and accept() return it.", NULL },
	{ "engine", get_engine_locked, NULL, "The engine it is a connection of.", NULL },
	{ "host", get_host_locked, NULL, "The peer's address.", NULL },
	{ "port", get_port_locked, NULL, "The peer's port.", NULL },
	{ "key_id", get_key_id_locked, NULL,
	  "The id of the key that the peer has shown: its principal. Empty when insecure.", NULL },
	{ "peer_identity", get_peer_identity_locked, NULL,
	  "What the peer's engine was given as identity: bytes, empty when it was given none.",
	  NULL },
	{ "closed", get_closed_locked, NULL, "True once it was closed on this side.", NULL },
	{ "lost", get_lost_locked, NULL,
	  "None while the connection is open, else the exception object that says why not.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

/* ---- methods ---- */

static PyObject *on_lost(PyObject *self, PyObject *callback)
{
	struct kvi_py_conn *conn = (struct kvi_py_conn *)self;

	if (!PyCallable_Check(callback)) {
		PyErr_Format(PyExc_TypeError, "on_lost() takes a callable, not %.200s",
			     Py_TYPE(callback)->tp_name);
		return NULL;
	}
	if (!kvi_py_is_usable(conn))
		return NULL;
	if (conn->ended)
		kvi_py_call_back(callback, self);
	else if (PyList_Append(conn->on_lost, callback) < 0)
		return NULL;
	return Py_NewRef(callback);
}

static PyObject *conn_stats(PyObject *self, PyObject *args)
{
	(void)args;
	return kvi_py_is_usable((struct kvi_py_conn *)self)
		       ? kvi_py_get_conn_stats((struct kvi_py_conn *)self)
		       : NULL;
}

static PyObject *conn_close(PyObject *self, PyObject *args)
{
	(void)args;
	kvi_py_close_conn((struct kvi_py_conn *)self);
	Py_RETURN_NONE;
}

static PyObject *conn_enter(PyObject *self, PyObject *args)
{
	(void)args;
	return kvi_py_is_usable((struct kvi_py_conn *)self) ? Py_NewRef(self) : NULL;
}

static PyObject *conn_batch(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "notify", "timeout", NULL };
	PyObject *notify = Py_None, *timeout = Py_None;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:batch", names, &notify, &timeout))
		return NULL;
	struct kvi_py_section section;
	kvi_py_lock(&section, Py_TYPE(self));
	bool usable = kvi_py_is_usable((struct kvi_py_conn *)self);
	kvi_py_unlock(&section);
	if (!usable)
		return NULL;
	PyObject *module = PyImport_ImportModule("kvtrans_engine.batch");
	if (module == NULL)
		return NULL;
	PyObject *batch = PyObject_CallMethod(module, "Batch", "OOO", self, notify, timeout);
	Py_DECREF(module);
	return batch;
}

KVI_PY_LOCKED_KEYWORDS(kvi_py_export)
KVI_PY_LOCKED_KEYWORDS(kvi_py_import_remote)
KVI_PY_LOCKED_KEYWORDS(kvi_py_find_remote)
KVI_PY_LOCKED_KEYWORDS(kvi_py_import_async)
KVI_PY_LOCKED_KEYWORDS(kvi_py_remote_async)
KVI_PY_LOCKED_KEYWORDS(kvi_py_write_blocks)
KVI_PY_LOCKED_KEYWORDS(kvi_py_read_blocks)
KVI_PY_LOCKED_KEYWORDS(kvi_py_write_spans)
KVI_PY_LOCKED_KEYWORDS(kvi_py_write_parts)
KVI_PY_LOCKED_KEYWORDS(kvi_py_read_parts)
KVI_PY_LOCKED_KEYWORDS(kvi_py_read_spans)
KVI_PY_LOCKED_KEYWORDS(kvi_py_notify)
KVI_PY_LOCKED(kvi_py_withdraw)
KVI_PY_LOCKED(on_lost)
KVI_PY_LOCKED(conn_stats)
KVI_PY_LOCKED(conn_close)
KVI_PY_LOCKED(conn_enter)

#define METHOD(name, function, doc)                                                                \
	{                                                                                          \
		name, (PyCFunction)(void (*)(void))function##_locked,                              \
			METH_VARARGS | METH_KEYWORDS, doc                                          \
	}

static PyMethodDef conn_methods[] = {
	METHOD("export", kvi_py_export,
	       "export($self, pool, access='rw', name=None)\n--\n\n"
	       "Let the peer read ('r'), write ('w') or do both with a pool, and return the "
	       "descriptor:\n"
	       "bytes for the peer's import_remote(). With a name the peer may use remote(name)."),
	{ "withdraw", kvi_py_withdraw_locked, METH_O,
	  "withdraw($self, what, /)\n--\n\n"
	  "End an export, given by its descriptor, or all of a pool. When it returns, the peer "
	  "can\n"
	  "no longer touch the memory through it." },
	METHOD("import_remote", kvi_py_import_remote,
	       "import_remote($self, desc, timeout=5.0)\n--\n\n"
	       "The Remote of a descriptor that the peer exported on this connection. ValueError "
	       "when\n"
	       "it is damaged, or of another connection."),
	METHOD("remote", kvi_py_find_remote,
	       "remote($self, name, timeout=5.0)\n--\n\n"
	       "The Remote that the peer exported under a name; waits until there is one."),
	METHOD("import_async", kvi_py_import_async,
	       "import_async($self, desc, timeout=5.0)\n--\n\n"
	       "import_remote() without waiting: a Transfer at once, whose result is the Remote."),
	METHOD("remote_async", kvi_py_remote_async,
	       "remote_async($self, name, timeout=5.0)\n--\n\n"
	       "remote() without waiting: a Transfer at once, whose result is the Remote."),
	METHOD("write_blocks", kvi_py_write_blocks,
	       "write_blocks($self, pool, local_idx, remote, remote_idx, notify=None, "
	       "timeout=60.0, extents=None, block_nbytes=None)\n--\n\n"
	       "Write blocks of a pool into blocks of a remote: local_idx[i] into remote_idx[i], "
	       "in all\n"
	       "extents or in those named. Returns a Transfer at once. The indices are int32 or "
	       "int64\n"
	       "arrays, and copied. notify: bytes that the peer gets after the data."),
	METHOD("read_blocks", kvi_py_read_blocks,
	       "read_blocks($self, pool, local_idx, remote, remote_idx, notify=None, "
	       "timeout=60.0, extents=None, block_nbytes=None)\n--\n\n"
	       "Read blocks of a remote into blocks of a pool; as write_blocks()."),
	METHOD("write_spans", kvi_py_write_spans,
	       "write_spans($self, pool, local_off, remote, remote_off, nbytes, notify=None, "
	       "timeout=60.0)\n--\n\n"
	       "Write nbytes[i] bytes at local_off[i] of a pool to remote_off[i] of a remote; "
	       "uint64\n"
	       "arrays. The extents of a pool follow each other. Returns a Transfer at once."),
	METHOD("read_spans", kvi_py_read_spans,
	       "read_spans($self, pool, local_off, remote, remote_off, nbytes, notify=None, "
	       "timeout=60.0)\n--\n\n"
	       "Read spans of a remote into a pool; as write_spans()."),
	METHOD("write_parts", kvi_py_write_parts,
	       "write_parts($self, parts, notify=None, timeout=60.0)\n--\n\n"
	       "Write spans of several pools, as one transfer: each part is a tuple of what "
	       "write_spans()\n"
	       "takes, (pool, local_off, remote, remote_off, nbytes). Returns a Transfer at once."),
	METHOD("read_parts", kvi_py_read_parts,
	       "read_parts($self, parts, notify=None, timeout=60.0)\n--\n\n"
	       "Read spans of several remotes; as write_parts()."),
	METHOD("notify", kvi_py_notify,
	       "notify($self, data, timeout=60.0, error=None)\n--\n\n"
	       "Send the peer a notification alone. Returns a Transfer at once. error: an "
	       "exception\n"
	       "object; the peer learns its code."),
	{ "batch", (PyCFunction)(void (*)(void))conn_batch, METH_VARARGS | METH_KEYWORDS,
	  "batch($self, notify=None, timeout=None)\n--\n\n"
	  "A Batch: several transfers that end as one, and a notification when all have landed." },
	{ "on_lost", on_lost_locked, METH_O,
	  "on_lost($self, callback, /)\n--\n\n"
	  "Call callback(connection) once the connection has ended, and its notifications "
	  "were asked\n"
	  "for: from reap(), notifications(), wait() or the event loop, whichever looks first. "
	  "Returns\n"
	  "callback." },
	{ "stats", conn_stats_locked, METH_NOARGS,
	  "stats($self)\n--\n\nCounters of this connection, as Engine.stats() has them, and "
	  "\"path\":\n"
	  "what its lanes run on, \"local\" or the network's provider; \"path_reason\" tells why\n"
	  "it is not local." },
	{ "close", conn_close_locked, METH_NOARGS,
	  "close($self)\n--\n\n"
	  "Close the connection; what is in flight on it fails. May be called again." },
	{ "__enter__", conn_enter_locked, METH_NOARGS,
	  "__enter__($self)\n--\n\nReturn the connection." },
	{ "__exit__", conn_close_locked, METH_VARARGS,
	  "__exit__($self, exc_type, exc_value, traceback)\n--\n\nClose the connection." },
	{ NULL, NULL, 0, NULL },
};

/* ---- the type ---- */

static int conn_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct kvi_py_conn *conn = (struct kvi_py_conn *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(conn->exports);
	Py_VISIT(conn->on_lost);
	return 0;
}

/* The exports stay: the engine's finalizer closes the connection and drops them. */
static int conn_clear(PyObject *self)
{
	struct kvi_py_conn *conn = (struct kvi_py_conn *)self;

	if (conn->on_lost != NULL)
		PyList_SetSlice(conn->on_lost, 0, PY_SSIZE_T_MAX, NULL);
	return 0;
}

/* Whoever opened it has closed the handle: a connection is in a table until then. */
static void conn_dealloc(PyObject *self)
{
	struct kvi_py_conn *conn = (struct kvi_py_conn *)self;
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	if (conn->weakrefs != NULL)
		PyObject_ClearWeakRefs(self);
	Py_CLEAR(conn->exports);
	Py_CLEAR(conn->on_lost);
	Py_CLEAR(conn->id);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyObject *conn_repr(PyObject *self)
{
	struct kvi_py_conn *conn = (struct kvi_py_conn *)self;

	if (conn->engine == NULL || conn->engine->closed)
		return PyUnicode_FromFormat("<kvtrans_engine.Connection %S, closed>", conn->id);
	if (kvi_py_is_forked(conn->owner))
		return PyUnicode_FromString("<kvtrans_engine.Connection of the parent process>");
	bool open = kvt_conn_get_status(conn->handle, NULL) == KVT_OK;
	return PyUnicode_FromFormat("<kvtrans_engine.Connection %S with %s port %d%s>", conn->id,
				    kvt_conn_get_host(conn->handle),
				    (int)kvt_conn_get_port(conn->handle), open ? "" : ", lost");
}

KVI_PY_LOCKED_REPR(conn_repr)

static PyMemberDef conn_members[] = {
	{ "__weaklistoffset__", T_PYSSIZET, offsetof(struct kvi_py_conn, weakrefs), READONLY,
	  NULL },
	{ NULL, 0, 0, 0, NULL },
};

static const char conn_doc[] = "One peer, as open_connection() and accept_connection() return "
			       "it.\n\n"
			       "It is closed by close(), as a context manager, and with its "
			       "engine, which is to be kept.";

static PyType_Slot conn_slots[] = {
	{ Py_tp_doc, (void *)conn_doc },
	{ Py_tp_dealloc, conn_dealloc },
	{ Py_tp_traverse, conn_traverse },
	{ Py_tp_clear, conn_clear },
	{ Py_tp_repr, conn_repr_locked },
	{ Py_tp_members, conn_members },
	{ Py_tp_getset, conn_getset },
	{ Py_tp_methods, conn_methods },
	{ 0, NULL },
};

PyType_Spec kvi_py_conn_spec = {
	.name = "kvtrans_engine.Connection",
	.basicsize = sizeof(struct kvi_py_conn),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
		 Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = conn_slots,
};
