/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn.c - connect, accept, disconnect, status, and the object behind a connection's id. It never
 * shows that object to Python; engine.c tells who owns it.
 */
#include "ext.h"

static void close_handle(struct kvt_conn *handle)
{
	PyThreadState *thread = kvi_py_begin_close();
	kvt_conn_close(handle);
	kvi_py_end_close(thread);
}

static int conn_traverse(PyObject *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	return 0;
}

static void conn_dealloc(PyObject *self)
{
	struct kvi_py_conn *conn = (struct kvi_py_conn *)self;
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	if (conn->handle != NULL && !kvi_py_is_forked(conn->owner))
		close_handle(conn->handle);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyType_Slot conn_slots[] = {
	{ Py_tp_dealloc, conn_dealloc },
	{ Py_tp_traverse, conn_traverse },
	{ 0, NULL },
};

PyType_Spec kvi_py_conn_spec = {
	.name = "kvtrans_engine._kvtrans.Conn",
	.basicsize = sizeof(struct kvi_py_conn),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
		 Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = conn_slots,
};

/* Give a new connection its object and its id. Uses up handle, also on failure. */
static PyObject *add_conn(struct kvi_py_engine *engine, struct kvt_conn *handle)
{
	PyTypeObject *type = kvi_py_get_state((PyObject *)engine)->conn_type;
	struct kvi_py_conn *conn = (struct kvi_py_conn *)type->tp_alloc(type, 0);
	if (conn == NULL) {
		close_handle(handle);
		return NULL;
	}
	conn->handle = handle;
	conn->owner = engine->owner;
	PyObject *id = kvi_py_add(engine, engine->conns, (PyObject *)conn);
	Py_DECREF(conn);
	return id;
}

/*
 * After kvt_conn_open or kvt_conn_accept: 1 and *id of a new connection, 0 with last_error set, -1
 * when something is to be raised. A connection that came together with Ctrl-C or close() is closed.
 */
static int settle_conn(struct kvi_py_engine *engine, struct kvt_conn *handle,
		       struct kvt_error *error, PyObject **id)
{
	if (PyErr_Occurred() || (handle != NULL && engine->closed)) {
		close_handle(handle);
		if (PyErr_Occurred())
			return -1;
		*error = (struct kvt_error){ KVT_E_CLOSED, 0, "the engine was closed meanwhile" };
		handle = NULL;
	}
	if (handle == NULL)
		return kvi_py_note_failure(engine, error, 0);
	*id = add_conn(engine, handle);
	return *id == NULL ? -1 : 1;
}

PyObject *kvi_py_connect(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "host", "port", "timeout", NULL };
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	struct kvt_conn *handle = NULL;
	struct kvt_error error = { 0 };
	PyObject *port_object, *timeout = NULL, *id = NULL;
	const char *host;
	long long port;
	int64_t timeout_ns;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "sO|O:connect", names, &host, &port_object,
					 &timeout) ||
	    kvi_py_parse_int(port_object, "port", 1, UINT16_MAX, &port) < 0 ||
	    kvi_py_parse_seconds(timeout, "timeout", 0, 1, &timeout_ns) < 0 ||
	    kvi_py_enter(engine) < 0)
		return NULL;
	PyThreadState *thread = PyEval_SaveThread();
	(void)kvt_conn_open(engine->handle, host, (uint16_t)port, timeout_ns, &handle, &error);
	PyEval_RestoreThread(thread);
	int settled = settle_conn(engine, handle, &error, &id);
	kvi_py_leave(engine);
	if (settled < 0)
		return NULL;
	return settled == 0 ? Py_BuildValue("OO", Py_False, Py_None)
			    : Py_BuildValue("ON", Py_True, id);
}

PyObject *kvi_py_accept(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "timeout", NULL };
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	struct kvt_conn *handle = NULL;
	struct kvt_error error = { 0 };
	PyObject *timeout = NULL, *id = NULL, *host = NULL;
	int port = 0;
	int64_t timeout_ns;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:accept", names, &timeout) ||
	    kvi_py_parse_seconds(timeout, "timeout", KVT_FOREVER, 0, &timeout_ns) < 0 ||
	    kvi_py_enter(engine) < 0)
		return NULL;
	PyThreadState *thread = PyEval_SaveThread();
	(void)kvt_conn_accept(engine->handle, timeout_ns, &handle, &error);
	PyEval_RestoreThread(thread);
	if (handle != NULL && !PyErr_Occurred()) {
		port = kvt_conn_get_port(handle);
		host = PyUnicode_FromString(kvt_conn_get_host(handle));
	}
	int settled = settle_conn(engine, handle, &error, &id);
	kvi_py_leave(engine);
	if (settled > 0)
		return Py_BuildValue("ONiN", Py_True, host, port, id);
	Py_XDECREF(host);
	return settled < 0 ? NULL : Py_BuildValue("OOOO", Py_False, Py_None, Py_None, Py_None);
}

PyObject *kvi_py_disconnect(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "conn_id", NULL };
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	PyObject *id;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:disconnect", names, &id) ||
	    kvi_py_check_open(engine) < 0)
		return NULL;
	PyObject *conn = kvi_py_take(engine->conns, id, "connection");
	if (conn == NULL)
		return NULL;
	Py_DECREF(conn);
	Py_RETURN_TRUE;
}

PyObject *kvi_py_status(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "conn_id", NULL };
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	struct kvt_error error = { 0 };
	PyObject *id;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:status", names, &id) ||
	    kvi_py_check_open(engine) < 0)
		return NULL;
	struct kvi_py_conn *conn =
		(struct kvi_py_conn *)kvi_py_find(engine->conns, id, "connection");
	if (conn == NULL)
		return NULL;
	if (kvt_conn_get_status(conn->handle, &error) == KVT_OK)
		Py_RETURN_NONE;
	return kvi_py_make_error(kvi_py_get_state(self), &error, 0);
}
